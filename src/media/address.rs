//! Which network addresses an image may be fetched from: those of the public internet.
//!
//! Source of the ranges: IANA's IPv4 and IPv6 special-purpose address registries (RFC 6890 and
//! its successors), plus the ranges through which an IPv6 address carries an IPv4 one. Metadata
//! services of clouds are inside these ranges (169.254.169.254, fd00:ec2::254, 100.100.100.200,
//! 192.0.0.192), but for Azure's, which is named here.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Whether an address belongs to the public internet.
pub fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => is_public_v4(v4),
        IpAddr::V6(v6) => is_public_v6(v6),
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    /// Azure's metadata and platform service, an address of the public internet by its range.
    const AZURE_WIRE_SERVER: Ipv4Addr = Ipv4Addr::new(168, 63, 129, 16);
    let [a, b, c, _] = address.octets();
    if address == AZURE_WIRE_SERVER {
        return false;
    }
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
    let [s0, s1, s2, s3, s4, s5, ..] = address.segments();
    let last_v4 = || {
        let [.., a, b, c, d] = address.octets();
        Ipv4Addr::new(a, b, c, d)
    };
    match (s0, s1) {
        // ::, ::1, IPv4-compatible and IPv4-mapped addresses: never a public server's own.
        (0, 0) => false,
        // NAT64 (64:ff9b::/96, RFC 6052): as public as the IPv4 address inside. The local-use prefix
        // 64:ff9b:1::/48 (RFC 8215) is never public.
        (0x64, 0xff9b) => [s2, s3, s4, s5] == [0; 4] && is_public_v4(last_v4()),
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
    use ipnet::IpNet;
    use proptest::prelude::*;

    /// The ranges that are refused, written down a second time and in another notation.
    const INNER: &str = "0.0.0.0/8 10.0.0.0/8 100.64.0.0/10 127.0.0.0/8 169.254.0.0/16 172.16.0.0/12 192.0.0.0/24 \
        192.0.2.0/24 192.88.99.0/24 192.168.0.0/16 198.18.0.0/15 198.51.100.0/24 203.0.113.0/24 224.0.0.0/4 \
        240.0.0.0/4 168.63.129.16/32 \
        ::/8 64:ff9b:1::/48 100::/8 200::/7 400::/6 800::/5 1000::/4 2001::/23 2001:db8::/32 2002::/16 3fff::/20 \
        4000::/2 8000::/1";
    const NAT64: &str = "64:ff9b::/96";

    fn inner() -> Vec<IpNet> {
        INNER
            .split_whitespace()
            .map(|n| n.parse().unwrap())
            .collect()
    }

    fn expected(address: IpAddr) -> bool {
        let nat64: IpNet = NAT64.parse().unwrap();
        if let (IpAddr::V6(v6), true) = (address, nat64.contains(&address)) {
            let [.., a, b, c, d] = v6.octets();
            return expected(IpAddr::from([a, b, c, d]));
        }
        !inner().iter().any(|net| net.contains(&address))
    }

    /// Addresses of a range: its first, its last, the ones just outside, and some between.
    fn around() -> impl Strategy<Value = IpAddr> {
        let nets: Vec<IpNet> = inner()
            .into_iter()
            .chain([NAT64.parse().unwrap()])
            .collect();
        (0..nets.len(), any::<u128>(), 0..5_usize).prop_map(move |(i, n, edge)| {
            let (first, last) = (nets[i].network(), nets[i].broadcast());
            match (first, last) {
                (IpAddr::V4(first), IpAddr::V4(last)) => {
                    let (first, last) = (first.to_bits(), last.to_bits());
                    let inside = first + (n % (u128::from(last - first) + 1)) as u32;
                    let edges = [
                        first,
                        last,
                        first.wrapping_sub(1),
                        last.wrapping_add(1),
                        inside,
                    ];
                    IpAddr::V4(edges[edge].into())
                }
                (first, last) => {
                    let bits = |address| match address {
                        IpAddr::V6(v6) => v6.to_bits(),
                        IpAddr::V4(v4) => v4.to_ipv6_mapped().to_bits(),
                    };
                    let (first, last) = (bits(first), bits(last));
                    let inside = first + n % ((last - first).saturating_add(1));
                    let edges = [
                        first,
                        last,
                        first.wrapping_sub(1),
                        last.wrapping_add(1),
                        inside,
                    ];
                    IpAddr::V6(edges[edge].into())
                }
            }
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(20_000))]

        #[test]
        fn ranges_are_judged_as_an_independent_list_says(address in around()) {
            prop_assert_eq!(is_public(address), expected(address), "{}", address);
        }

        #[test]
        fn any_ipv4_address_is_judged_as_an_independent_list_says(bits in any::<u32>()) {
            let v4 = IpAddr::V4(bits.into());
            prop_assert_eq!(is_public(v4), expected(v4), "{}", v4);
            // Carried in IPv6: mapped and compatible never, by NAT64 as the address itself.
            let nat64 = IpAddr::V6((0x64_ff9b_u128 << 96 | u128::from(bits)).into());
            prop_assert_eq!(is_public(nat64), expected(v4), "{}", nat64);
            let mapped = IpAddr::V6(Ipv4Addr::from(bits).to_ipv6_mapped());
            prop_assert!(!is_public(mapped));
            prop_assert!(!is_public(IpAddr::V6(u128::from(bits).into())));
            let six_to_four = 0x2002_u128 << 112 | u128::from(bits) << 80;
            prop_assert!(!is_public(IpAddr::V6(six_to_four.into())));
            let teredo = 0x2001_0000_u128 << 96 | u128::from(!bits);
            prop_assert!(!is_public(IpAddr::V6(teredo.into())));
        }

        #[test]
        fn any_ipv6_address_is_judged_as_an_independent_list_says(bits in any::<u128>(), public in any::<bool>()) {
            // Half of them in 2000::/3, where the public ones are.
            let bits = if public { bits >> 3 | 1 << 125 } else { bits };
            let v6 = IpAddr::V6(bits.into());
            prop_assert_eq!(is_public(v6), expected(v6), "{}", v6);
        }
    }

    #[test]
    fn only_the_public_internet_is_public() {
        let inner = "0.0.0.0 0.1.2.3 10.0.0.1 10.255.255.255 100.64.0.1 100.127.255.255 127.0.0.1 127.9.9.9 \
            169.254.169.254 172.16.0.1 172.31.255.255 192.0.0.1 192.0.2.1 192.88.99.1 192.168.1.1 198.18.0.1 \
            198.19.255.255 168.63.129.16 100.100.100.200 192.0.0.192 198.51.100.7 203.0.113.9 224.0.0.1 239.1.1.1 240.0.0.1 255.255.255.255 :: ::1 \
            ::127.0.0.1 ::ffff:127.0.0.1 ::ffff:8.8.8.8 64:ff9b::7f00:1 64:ff9b::a00:1 64:ff9b:1::808:808 64:ff9b::1:808:808 64:ff9b:0:1::808:808 100::1 \
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
