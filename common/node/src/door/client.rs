//! Who is asking: the visitor's address behind proxies we trust.
//!
//! An address is believed only as far as the chain of trusted proxies reaches:
//! walking from the nearest hop outwards, the first address that is not a
//! trusted proxy is the visitor. What lies beyond it, the visitor wrote itself.
//! The same holds for the scheme: whoever names the visitor says how it came.

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

/// What one proxy says of whom it was asked by.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Hop {
    /// None where it is obfuscated or unreadable.
    address: Option<IpAddr>,
    https: Option<bool>,
}

/// The visitor of a request that `peer` sent.
pub(crate) fn visitor(peer: IpAddr, fields: &HeaderMap, trusted: &[IpNet]) -> Visitor {
    // A listener on `[::]` sees IPv4 as `::ffff:a.b.c.d`, and no operator does.
    let peer = peer.to_canonical();
    let is_trusted = |address: &IpAddr| trusted.iter().any(|net| net.contains(address));
    let mut visitor = Visitor {
        address: peer,
        https: None,
    };
    if !is_trusted(&peer) {
        return visitor;
    }
    // `Forwarded` (RFC 7239) says more than `X-Forwarded-*`; where both stand,
    // the standard one counts.
    let mut chain = if fields.contains_key(FORWARDED) {
        forwarded(fields)
    } else {
        x_forwarded(fields)
    };
    while is_trusted(&visitor.address)
        && let Some(hop) = chain.pop()
    {
        visitor.https = hop.https.or(visitor.https);
        match hop.address {
            Some(address) => visitor.address = address,
            // An obfuscated or unreadable hop ends what can be believed.
            None => break,
        }
    }
    visitor
}

/// Hops of `Forwarded`, outermost first.
fn forwarded(fields: &HeaderMap) -> Vec<Hop> {
    let hop = |element: &str| {
        let mut hop = Hop::default();
        for (name, value) in element.split(';').filter_map(|pair| pair.split_once('=')) {
            let value = value.trim().trim_matches('"');
            match name.trim().to_ascii_lowercase().as_str() {
                "for" => hop.address = parse_address(value),
                "proto" => hop.https = scheme(value),
                _ => {}
            }
        }
        hop
    };
    elements(fields, FORWARDED.as_str()).map(hop).collect()
}

/// Hops of `X-Forwarded-For`, outermost first, each with its scheme: some proxies
/// append one a hop, others keep a single one.
fn x_forwarded(fields: &HeaderMap) -> Vec<Hop> {
    let addresses = elements(fields, X_FORWARDED_FOR)
        .map(|element| parse_address(element.trim()))
        .collect::<Vec<_>>();
    let schemes = elements(fields, X_FORWARDED_PROTO)
        .map(|element| scheme(element.trim()))
        .collect::<Vec<_>>();
    let hops = addresses.len().max(1);
    (0..hops)
        .map(|at| {
            // Both are counted from the right, where the nearest proxy wrote.
            let from_right = hops - at;
            let address = addresses.get(at).copied().flatten();
            let scheme = schemes.len().checked_sub(from_right);
            let https = scheme.and_then(|at| schemes.get(at).copied().flatten());
            Hop { address, https }
        })
        .collect()
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
    let address = text
        .parse::<IpAddr>()
        .or_else(|_| text.parse::<SocketAddr>().map(|address| address.ip()))
        .ok()
        .or_else(|| text.strip_prefix('[')?.strip_suffix(']')?.parse().ok())?;
    Some(address.to_canonical())
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
        let (xff, xfp) = ("x-forwarded-for", "x-forwarded-proto");
        for (peer, fields, expected) in [
            ("10.0.0.1", vec![(xfp, "https")], Some(true)),
            ("192.0.2.9", vec![(xfp, "https")], None),
            ("10.0.0.1", vec![(xfp, "gopher")], None),
            // One scheme for the whole way, or one a hop.
            (
                "10.0.0.1",
                vec![(xff, "1.1.1.1, 10.0.0.2"), (xfp, "https")],
                Some(true),
            ),
            (
                "10.0.0.1",
                vec![(xff, "1.1.1.1, 10.0.0.2"), (xfp, "https, http")],
                Some(true),
            ),
            // What the visitor wrote stands to the left of what our proxy appended.
            (
                "10.0.0.1",
                vec![(xff, "1.1.1.1"), (xfp, "https, http")],
                Some(false),
            ),
            ("10.0.0.1", vec![(xfp, "https, http")], Some(false)),
            (
                "10.0.0.1",
                vec![(
                    "forwarded",
                    "for=9.9.9.9;proto=https, for=1.1.1.1;proto=http",
                )],
                Some(false),
            ),
            (
                "10.0.0.1",
                vec![(
                    "forwarded",
                    "for=1.1.1.1;proto=https, for=10.0.0.2;proto=http",
                )],
                Some(true),
            ),
            (
                "10.0.0.1",
                vec![("forwarded", "for=9.9.9.9;proto=http, for=_a;proto=https")],
                Some(true),
            ),
        ] {
            assert_eq!(see(peer, &fields).https, expected, "{peer} {fields:?}");
        }
    }

    #[test]
    fn ipv4_is_ipv4_on_any_listener() {
        for (peer, forwarded_for, expected) in [
            ("::ffff:10.0.0.1", "198.51.100.1", "198.51.100.1"),
            ("10.0.0.1", "1.2.3.4, ::ffff:10.0.0.2", "1.2.3.4"),
            ("::ffff:192.0.2.9", "198.51.100.1", "192.0.2.9"),
        ] {
            let seen = see(peer, &[("x-forwarded-for", forwarded_for)]);
            assert_eq!(seen.address, expected.parse::<IpAddr>().unwrap(), "{peer}");
        }
    }
}
