//! Who is asking: the visitor's address behind proxies we trust.
//!
//! An address is believed only as far as the chain of trusted proxies reaches:
//! walking from the nearest hop outwards, the first address that is not a
//! trusted proxy is the visitor. What lies beyond it, the visitor wrote itself.

use std::net::{IpAddr, SocketAddr};

use http::HeaderMap;
use http::header::FORWARDED;
use ipnet::IpNet;

const X_FORWARDED_FOR: &str = "x-forwarded-for";
const X_FORWARDED_PROTO: &str = "x-forwarded-proto";

/// What the fields and the socket say about the visitor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Visitor {
    pub(crate) address: IpAddr,
    /// The scheme a trusted proxy says the visitor used.
    pub(crate) https: Option<bool>,
}

/// The visitor of a request that `peer` sent.
pub(crate) fn visitor(peer: IpAddr, fields: &HeaderMap, trusted: &[IpNet]) -> Visitor {
    let is_trusted = |address: &IpAddr| trusted.iter().any(|net| net.contains(address));
    if !is_trusted(&peer) {
        return Visitor {
            address: peer,
            https: None,
        };
    }
    // `Forwarded` (RFC 7239) says more than `X-Forwarded-*`; where both stand,
    // the standard one counts.
    let (mut chain, https) = if fields.contains_key(FORWARDED) {
        forwarded(fields)
    } else {
        (x_forwarded_for(fields), x_forwarded_proto(fields))
    };
    let mut address = peer;
    while is_trusted(&address) {
        match chain.pop() {
            Some(Some(next)) => address = next,
            // An obfuscated or unreadable hop ends what can be believed.
            Some(None) | None => break,
        }
    }
    Visitor { address, https }
}

/// Hops of `Forwarded`, outermost first, and the outermost `proto`.
fn forwarded(fields: &HeaderMap) -> (Vec<Option<IpAddr>>, Option<bool>) {
    let mut chain = Vec::new();
    let mut https = None;
    for element in elements(fields, FORWARDED.as_str()) {
        let mut address = None;
        for pair in element.split(';') {
            let Some((name, value)) = pair.split_once('=') else {
                continue;
            };
            let value = value.trim().trim_matches('"');
            match name.trim().to_ascii_lowercase().as_str() {
                "for" => address = parse_address(value),
                "proto" if https.is_none() => https = scheme(value),
                _ => {}
            }
        }
        chain.push(address);
    }
    (chain, https)
}

fn x_forwarded_for(fields: &HeaderMap) -> Vec<Option<IpAddr>> {
    elements(fields, X_FORWARDED_FOR)
        .map(|element| parse_address(element.trim()))
        .collect()
}

fn x_forwarded_proto(fields: &HeaderMap) -> Option<bool> {
    elements(fields, X_FORWARDED_PROTO)
        .next()
        .and_then(|value| scheme(value.trim()))
}

fn scheme(value: &str) -> Option<bool> {
    match value.to_ascii_lowercase().as_str() {
        "https" => Some(true),
        "http" => Some(false),
        _ => None,
    }
}

fn elements<'a>(fields: &'a HeaderMap, name: &'a str) -> impl Iterator<Item = &'a str> {
    fields
        .get_all(name)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
}

/// An address with or without port and brackets.
fn parse_address(text: &str) -> Option<IpAddr> {
    if let Ok(address) = text.parse::<IpAddr>() {
        return Some(address);
    }
    if let Ok(address) = text.parse::<SocketAddr>() {
        return Some(address.ip());
    }
    text.strip_prefix('[')?.strip_suffix(']')?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn see(peer: &str, fields: &[(&'static str, &'static str)]) -> Visitor {
        let mut map = HeaderMap::new();
        for (name, value) in fields {
            map.append(*name, value.parse().unwrap());
        }
        let trusted = ["10.0.0.0/8".parse().unwrap(), "fd00::/8".parse().unwrap()];
        visitor(peer.parse().unwrap(), &map, &trusted)
    }

    #[test]
    fn only_trusted_hops_are_believed() {
        let xff = "x-forwarded-for";
        for (peer, fields, expected) in [
            ("192.0.2.9", vec![(xff, "198.51.100.1")], "192.0.2.9"),
            ("10.0.0.1", vec![(xff, "198.51.100.1")], "198.51.100.1"),
            (
                "10.0.0.1",
                vec![(xff, "1.2.3.4, 198.51.100.1, 10.0.0.2")],
                "198.51.100.1",
            ),
            (
                "10.0.0.1",
                vec![(xff, "1.2.3.4"), (xff, "198.51.100.1")],
                "198.51.100.1",
            ),
            ("10.0.0.1", vec![(xff, "junk")], "10.0.0.1"),
            ("10.0.0.1", vec![], "10.0.0.1"),
            (
                "10.0.0.1",
                vec![("forwarded", "for=\"[2001:db8::1]:4711\";proto=https")],
                "2001:db8::1",
            ),
            (
                "10.0.0.1",
                vec![("forwarded", "for=1.2.3.4, for=10.0.0.2")],
                "1.2.3.4",
            ),
            ("10.0.0.1", vec![("forwarded", "for=_hidden")], "10.0.0.1"),
            (
                "10.0.0.1",
                vec![("forwarded", "for=1.1.1.1"), (xff, "2.2.2.2")],
                "1.1.1.1",
            ),
        ] {
            let seen = see(peer, &fields);
            assert_eq!(
                seen.address,
                expected.parse::<IpAddr>().unwrap(),
                "{fields:?}"
            );
        }
    }

    #[test]
    fn the_scheme_comes_from_trusted_proxies_alone() {
        let proto = [("x-forwarded-proto", "https")];
        assert_eq!(see("10.0.0.1", &proto).https, Some(true));
        assert_eq!(see("192.0.2.9", &proto).https, None);
        assert_eq!(
            see("10.0.0.1", &[("x-forwarded-proto", "gopher")]).https,
            None
        );
    }
}
