//! Whose request it is: the peer, or what the proxies in front of us say of it.

use std::net::{IpAddr, Ipv6Addr};

use ipnet::IpNet;

/// The address of the client behind `peer`.
///
/// `forwarded_for` are the values of the `X-Forwarded-For` headers, in their order. Each proxy
/// appends the address that it was spoken to from, so only the rightmost entries, written by
/// proxies in `trusted`, can be believed: the list is walked from the right, over trusted
/// addresses, and the first that is not trusted is the client. A malformed entry ends the walk at
/// the last address that was believed. What a peer that is not trusted says is not looked at.
///
/// Entries may carry a port or brackets (`192.0.2.1:4711`, `[2001:db8::1]:4711`). An IPv4 address
/// mapped into IPv6 is the IPv4 address.
pub fn client_address<'a>(
    peer: IpAddr,
    forwarded_for: impl Iterator<Item = &'a str>,
    trusted: &[IpNet],
) -> IpAddr {
    let is_trusted = |address: &IpAddr| trusted.iter().any(|network| network.contains(address));
    let mut client = peer.to_canonical();
    if !is_trusted(&client) {
        return client;
    }
    let values: Vec<&str> = forwarded_for.collect();
    for entry in values.iter().rev().flat_map(|value| value.rsplit(',')) {
        let Some(address) = entry_address(entry) else {
            break;
        };
        client = address;
        if !is_trusted(&client) {
            break;
        }
    }
    client
}

/// One entry: an address, in brackets or not, with a port or not.
fn entry_address(entry: &str) -> Option<IpAddr> {
    let entry = entry.trim_matches([' ', '\t']);
    let address = if let Some(rest) = entry.strip_prefix('[') {
        let (address, port) = rest.split_once(']')?;
        if !port.is_empty() {
            is_port(port.strip_prefix(':')?).then_some(())?;
        }
        IpAddr::V6(address.parse::<Ipv6Addr>().ok()?)
    } else if let Ok(address) = entry.parse::<IpAddr>() {
        address
    } else {
        let (address, port) = entry.split_once(':')?;
        is_port(port).then_some(())?;
        IpAddr::V4(address.parse().ok()?)
    };
    Some(address.to_canonical())
}

fn is_port(text: &str) -> bool {
    text.bytes().all(|b| b.is_ascii_digit()) && text.parse::<u16>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(peer: &str, headers: &[&str], trusted: &[&str]) -> String {
        let trusted: Vec<IpNet> = trusted.iter().map(|n| n.parse().unwrap()).collect();
        client_address(peer.parse().unwrap(), headers.iter().copied(), &trusted).to_string()
    }

    #[test]
    fn the_first_address_from_the_right_that_is_not_a_trusted_proxy_is_the_client() {
        let proxies = &["10.0.0.0/8", "fd00::/8"][..];
        let table: &[(&str, &[&str], &[&str], &str)] = &[
            // Nobody is trusted: the peer, whatever it says.
            ("10.0.0.1", &["1.2.3.4"], &[], "10.0.0.1"),
            ("9.9.9.9", &["1.2.3.4"], proxies, "9.9.9.9"),
            ("9.9.9.9", &["10.0.0.1"], proxies, "9.9.9.9"),
            // A trusted peer that says nothing is the client itself.
            ("10.0.0.1", &[], proxies, "10.0.0.1"),
            ("10.0.0.1", &[""], proxies, "10.0.0.1"),
            // One proxy, and what the client wrote before it.
            ("10.0.0.1", &["1.2.3.4"], proxies, "1.2.3.4"),
            ("10.0.0.1", &["8.8.8.8, 1.2.3.4"], proxies, "1.2.3.4"),
            ("10.0.0.1", &["10.0.0.7, 1.2.3.4"], proxies, "1.2.3.4"),
            // A chain of proxies, in one header or several.
            (
                "10.0.0.1",
                &["1.2.3.4, 10.0.0.2,10.0.0.3"],
                proxies,
                "1.2.3.4",
            ),
            (
                "10.0.0.1",
                &["8.8.8.8", "1.2.3.4", "10.0.0.2"],
                proxies,
                "1.2.3.4",
            ),
            (
                "10.0.0.1",
                &["8.8.8.8, 1.2.3.4", "10.0.0.2"],
                proxies,
                "1.2.3.4",
            ),
            // Only proxies: the farthest.
            ("10.0.0.1", &["10.0.0.3, 10.0.0.2"], proxies, "10.0.0.3"),
            // A malformed entry ends the walk.
            ("10.0.0.1", &["1.2.3.4, unknown"], proxies, "10.0.0.1"),
            (
                "10.0.0.1",
                &["1.2.3.4, unknown, 10.0.0.2"],
                proxies,
                "10.0.0.2",
            ),
            ("10.0.0.1", &["1.2.3.4,,10.0.0.2"], proxies, "10.0.0.2"),
            ("10.0.0.1", &["1.2.3.4:99999"], proxies, "10.0.0.1"),
            ("10.0.0.1", &["1.2.3.4:"], proxies, "10.0.0.1"),
            ("10.0.0.1", &["1.2.3.4:+80"], proxies, "10.0.0.1"),
            ("10.0.0.1", &["[1.2.3.4]"], proxies, "10.0.0.1"),
            ("10.0.0.1", &["[2001:db8::1"], proxies, "10.0.0.1"),
            ("10.0.0.1", &["[2001:db8::1]x"], proxies, "10.0.0.1"),
            ("10.0.0.1", &["_hidden"], proxies, "10.0.0.1"),
            ("10.0.0.1", &["1.2.3.4/24"], proxies, "10.0.0.1"),
            ("10.0.0.1", &["01.2.3.4"], proxies, "10.0.0.1"),
            // Ports, brackets, blanks.
            ("10.0.0.1", &["1.2.3.4:4711"], proxies, "1.2.3.4"),
            ("10.0.0.1", &["[2001:db8::1]:4711"], proxies, "2001:db8::1"),
            ("10.0.0.1", &["[2001:db8::1]"], proxies, "2001:db8::1"),
            ("10.0.0.1", &["2001:db8::1"], proxies, "2001:db8::1"),
            ("10.0.0.1", &["\t1.2.3.4 , fd00::1 "], proxies, "1.2.3.4"),
            // Mapped addresses, of peers and entries.
            ("::ffff:10.0.0.1", &["1.2.3.4"], proxies, "1.2.3.4"),
            ("::ffff:9.9.9.9", &["1.2.3.4"], proxies, "9.9.9.9"),
            (
                "10.0.0.1",
                &["1.2.3.4, ::ffff:10.0.0.2"],
                proxies,
                "1.2.3.4",
            ),
            ("10.0.0.1", &["[::ffff:1.2.3.4]:80"], proxies, "1.2.3.4"),
        ];
        for (peer, headers, trusted, expected) in table {
            let got = client(peer, headers, trusted);
            assert_eq!(&got, expected, "{peer} {headers:?} {trusted:?}");
        }
    }
}
