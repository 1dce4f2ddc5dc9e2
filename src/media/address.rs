//! Which network addresses an image may be fetched from: those of the public internet.
//!
//! Source of the ranges: IANA's IPv4 and IPv6 special-purpose address registries (RFC 6890 and
//! its successors), plus the ranges through which an IPv6 address carries an IPv4 one.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Whether an address belongs to the public internet.
pub fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => is_public_v4(v4),
        IpAddr::V6(v6) => is_public_v6(v6),
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    let [a, b, c, _] = address.octets();
    !matches!(
        (a, b, c),
        (0 | 10 | 127 | 224.., _, _)      // this network, private, loopback, multicast and reserved
            | (100, 64..=127, _)          // carrier-grade NAT
            | (169, 254, _)               // link-local, cloud metadata
            | (172, 16..=31, _)           // private
            | (192, 168, _)               // private
            | (192, 0, 0 | 2)             // protocol assignments, documentation
            | (192, 88, 99)               // 6to4 relays
            | (198, 18..=19, _)           // benchmarks
            | (198, 51, 100)              // documentation
            | (203, 0, 113) // documentation
    )
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    let [s0, s1, s2, ..] = address.segments();
    let last_v4 = || {
        let [.., a, b, c, d] = address.octets();
        Ipv4Addr::new(a, b, c, d)
    };
    match (s0, s1) {
        // ::, ::1, IPv4-compatible and IPv4-mapped addresses: never a public server's own.
        (0, 0) => false,
        // NAT64: as public as the IPv4 address inside.
        (0x64, 0xff9b) => s2 == 0 && is_public_v4(last_v4()),
        // Protocol assignments (Teredo and others), documentation, 6to4.
        (0x2001, 0..=0x1ff | 0xdb8) | (0x2002, _) => false,
        (0x3fff, 0..=0xfff) => false,
        // Global unicast is 2000::/3; all else is local, multicast or unassigned.
        _ => s0 & 0xe000 == 0x2000,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_public_internet_is_public() {
        let inner = "0.0.0.0 0.1.2.3 10.0.0.1 10.255.255.255 100.64.0.1 100.127.255.255 127.0.0.1 127.9.9.9 \
            169.254.169.254 172.16.0.1 172.31.255.255 192.0.0.1 192.0.2.1 192.88.99.1 192.168.1.1 198.18.0.1 \
            198.19.255.255 198.51.100.7 203.0.113.9 224.0.0.1 239.1.1.1 240.0.0.1 255.255.255.255 :: ::1 \
            ::127.0.0.1 ::ffff:127.0.0.1 ::ffff:8.8.8.8 64:ff9b::7f00:1 64:ff9b::a00:1 64:ff9b:1::808:808 100::1 \
            2001::1 2001:0:7f00:1:: 2001:db8::1 2002:7f00:1:: 2002:808:808:: 3fff::1 fc00::1 fd00:ec2::254 fe80::1 \
            fec0::1 ff02::1 5f00::1";
        for address in inner.split_whitespace() {
            assert!(
                !is_public(address.parse().unwrap()),
                "{address} was taken for public"
            );
        }
        let public = "1.1.1.1 8.8.8.8 100.63.0.1 100.128.0.1 172.15.0.1 172.32.0.1 192.0.1.1 198.17.0.1 223.255.255.1 \
            2606:4700::1111 2a00:1450::1 2001:4860:4860::8888 64:ff9b::808:808";
        for address in public.split_whitespace() {
            assert!(is_public(address.parse().unwrap()), "{address} was refused");
        }
    }
}
