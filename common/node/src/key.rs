//! The primary key: what tells one resource from another.
//!
//! Site, visitor's scheme, host, normalised path and the query parameters the
//! site keeps, then the request fields and cookies the site adds. Parts are
//! separated by NUL, which none of them can hold. Both tiers compute it with
//! this function; its digest rides in the control block.
//!
//! The port is not part of it: one site has one content, whichever listener of
//! whichever edge a visitor came through.

use std::borrow::Cow;

use config::{KeyRules, QueryRule};
use control::Scheme;
use http::HeaderMap;
use http::header::COOKIE;

/// What a URL contributes to the key.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Resource<'a> {
    pub(crate) site: &'a str,
    pub(crate) scheme: Scheme,
    /// Lower case, without port.
    pub(crate) host: &'a str,
    pub(crate) path_and_query: &'a str,
}

/// Writes the part of the key that a URL alone decides, its final NUL included.
pub(crate) fn write_resource(key: &mut Vec<u8>, resource: Resource<'_>, rules: &KeyRules) {
    key.clear();
    key.extend_from_slice(resource.site.as_bytes());
    key.push(0);
    key.extend_from_slice(match resource.scheme {
        Scheme::Http => b"http\0",
        Scheme::Https => b"https\0",
    });
    key.extend_from_slice(resource.host.as_bytes());
    key.push(0);
    let (path, query) = match resource.path_and_query.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (resource.path_and_query, None),
    };
    let path_from = key.len();
    write_path(key, path);
    if let Some(query) = query {
        // Rules go by the path as it is in the key.
        let path = key.get(path_from..).unwrap_or_default();
        let (rule, sort) = rules.query_on(std::str::from_utf8(path).unwrap_or_default());
        write_query(key, query, rule, sort);
    }
    key.push(0);
}

/// Writes the whole key of a request.
pub(crate) fn write_key(
    key: &mut Vec<u8>,
    resource: Resource<'_>,
    fields: &HeaderMap,
    rules: &KeyRules,
) {
    write_resource(key, resource, rules);
    for name in &rules.headers {
        for value in fields.get_all(name) {
            key.extend_from_slice(value.as_bytes());
            key.push(b',');
        }
        key.push(0);
    }
    for name in &rules.cookies {
        // An empty cookie is not the same as none.
        if let Some(value) = cookie(fields, name) {
            key.push(b'=');
            key.extend_from_slice(value.as_bytes());
        }
        key.push(0);
    }
}

/// The part of a key that tells one URI origin from another: site, scheme and host,
/// each with its NUL.
pub(crate) fn origin(key: &[u8]) -> &[u8] {
    let nuls = key.iter().enumerate().filter(|(_, byte)| **byte == 0);
    let third = nuls.map(|(at, _)| at).nth(2);
    third.and_then(|at| key.get(..=at)).unwrap_or(key)
}

/// Path and query as a key holds them: what is sent for everybody must be what
/// everybody's key says.
pub(crate) fn path_and_query(key: &[u8]) -> Option<&str> {
    let part = key.split(|byte| *byte == 0).nth(3)?;
    std::str::from_utf8(part).ok()
}

/// Whether the request has cookies beside those that count in the key.
pub(crate) fn has_other_cookies(fields: &HeaderMap, rules: &KeyRules) -> bool {
    fields
        .get_all(COOKIE)
        .iter()
        .flat_map(|value| value.as_bytes().split(|byte| *byte == b';'))
        .filter_map(|pair| pair.split(|byte| *byte == b'=').next())
        .map(<[u8]>::trim_ascii)
        .any(|name| !name.is_empty() && !rules.cookies.iter().any(|kept| kept.as_bytes() == name))
}

/// Only the cookies a site keeps in its key, as a `Cookie` value.
pub(crate) fn kept_cookies(fields: &HeaderMap, rules: &KeyRules) -> Option<String> {
    let kept: Vec<String> = rules
        .cookies
        .iter()
        .filter_map(|name| cookie(fields, name).map(|value| format!("{name}={value}")))
        .collect();
    (!kept.is_empty()).then(|| kept.join("; "))
}

fn cookie<'a>(fields: &'a HeaderMap, wanted: &str) -> Option<&'a str> {
    fields
        .get_all(COOKIE)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(';'))
        .filter_map(|pair| pair.trim().split_once('='))
        .find(|(name, _)| *name == wanted)
        .map(|(_, value)| value)
}

/// RFC 3986 §6.2.2: percent-encoded octets in upper case, unreserved ones
/// decoded. An encoded slash stays encoded: `/a%2Fb` is not `/a/b`.
fn write_path(key: &mut Vec<u8>, path: &str) {
    key.extend_from_slice(&normalise_percent(path.as_bytes()));
}

fn normalise_percent(text: &[u8]) -> Cow<'_, [u8]> {
    if !text.contains(&b'%') {
        return Cow::Borrowed(text);
    }
    let mut out = Vec::with_capacity(text.len());
    let mut at = 0;
    while let Some(&byte) = text.get(at) {
        let decoded = (byte == b'%')
            .then(|| text.get(at + 1..at + 3))
            .flatten()
            .and_then(hex_byte);
        match decoded {
            Some(plain) if is_unreserved(plain) => {
                out.push(plain);
                at += 3;
            }
            Some(_) => {
                out.extend(text.iter().skip(at).take(3).map(u8::to_ascii_uppercase));
                at += 3;
            }
            None => {
                out.push(byte);
                at += 1;
            }
        }
    }
    Cow::Owned(out)
}

fn hex_byte(digits: &[u8]) -> Option<u8> {
    let text = std::str::from_utf8(digits).ok()?;
    if !text.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return None;
    }
    u8::from_str_radix(text, 16).ok()
}

fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~')
}

fn write_query(key: &mut Vec<u8>, query: &str, rule: &QueryRule, sort: bool) {
    if *rule == QueryRule::All && !sort {
        key.push(b'?');
        key.extend_from_slice(query.as_bytes());
        return;
    }
    let mut kept: Vec<&str> = query
        .split('&')
        .filter(|pair| {
            let name = pair.split_once('=').map_or(*pair, |(name, _)| name);
            keeps(rule, name)
        })
        .collect();
    if sort {
        // Stable: several values of one parameter keep their order, which may mean something.
        kept.sort_by_key(|pair| pair.split_once('=').map_or(*pair, |(name, _)| name));
    }
    for (at, pair) in kept.iter().enumerate() {
        key.push(if at == 0 { b'?' } else { b'&' });
        key.extend_from_slice(pair.as_bytes());
    }
}

fn keeps(rule: &QueryRule, name: &str) -> bool {
    let named = |patterns: &[String]| {
        patterns
            .iter()
            .any(|pattern| match pattern.strip_suffix('*') {
                Some(prefix) => name.starts_with(prefix),
                None => name == pattern,
            })
    };
    match rule {
        QueryRule::All => true,
        QueryRule::Ignore => false,
        QueryRule::Keep(patterns) => named(patterns),
        QueryRule::Drop(patterns) => !named(patterns),
    }
}

#[cfg(test)]
mod tests {
    use config::{PathQuery, Pattern};

    use super::*;

    fn key_of(path: &str, fields: &[(&'static str, &'static str)], rules: &KeyRules) -> String {
        let mut map = HeaderMap::new();
        for (name, value) in fields {
            map.append(*name, value.parse().unwrap());
        }
        let mut key = Vec::new();
        let resource = Resource {
            site: "s",
            scheme: Scheme::Https,
            host: "h",
            path_and_query: path,
        };
        write_key(&mut key, resource, &map, rules);
        String::from_utf8(key).unwrap().replace('\0', "|")
    }

    #[test]
    fn equal_urls_have_equal_keys() {
        let plain = KeyRules::default();
        for (left, right) in [("/%7Ea", "/~a"), ("/a%2fb", "/a%2Fb"), ("/%41", "/A")] {
            assert_eq!(key_of(left, &[], &plain), key_of(right, &[], &plain));
        }
        for (left, right) in [
            ("/a%2Fb", "/a/b"),
            ("/a", "/A"),
            ("/a?", "/a"),
            ("/a?b", "/a?c"),
        ] {
            assert_ne!(key_of(left, &[], &plain), key_of(right, &[], &plain));
        }
    }

    #[test]
    fn query_rules_keep_drop_and_sort() {
        let with = |query, query_sort| KeyRules {
            query,
            query_sort,
            ..KeyRules::default()
        };
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        for (rules, path, expected) in [
            (with(QueryRule::Ignore, false), "/a?b=1", "s|https|h|/a|"),
            (
                with(QueryRule::Keep(names(&["id"])), false),
                "/a?x=1&id=2",
                "s|https|h|/a?id=2|",
            ),
            (
                with(QueryRule::Drop(names(&["utm_*"])), false),
                "/a?utm_x=1&id=2",
                "s|https|h|/a?id=2|",
            ),
            (
                with(QueryRule::All, true),
                "/a?b=1&a=2&b=0",
                "s|https|h|/a?a=2&b=1&b=0|",
            ),
        ] {
            assert_eq!(key_of(path, &[], &rules), expected);
        }
    }

    #[test]
    fn paths_may_have_query_rules_of_their_own() {
        let on = |path, query, query_sort| PathQuery {
            path,
            query,
            query_sort,
        };
        let prefix = |start: &str| Pattern::Prefix(start.to_owned());
        let rules = KeyRules {
            query: QueryRule::Ignore,
            query_by_path: vec![
                on(prefix("/s/~all"), QueryRule::All, true),
                on(prefix("/s/"), QueryRule::Drop(vec!["v".to_owned()]), false),
            ],
            ..KeyRules::default()
        };
        for (path, expected) in [
            ("/a?b=2&a=1", "s|https|h|/a|"),
            ("/s/%7Eall?v=2&a=1", "s|https|h|/s/~all?a=1&v=2|"),
            ("/s/x?v=2&a=1", "s|https|h|/s/x?a=1|"),
            ("/s/x?v=2", "s|https|h|/s/x|"),
            ("/s/x", "s|https|h|/s/x|"),
        ] {
            assert_eq!(key_of(path, &[], &rules), expected);
        }
    }

    #[test]
    fn chosen_fields_and_cookies_count() {
        let rules = KeyRules {
            headers: vec!["x-device".parse().unwrap()],
            cookies: vec!["lang".to_owned()],
            ..KeyRules::default()
        };
        let fields = [("x-device", "phone"), ("cookie", "sid=1; lang=de")];
        assert_eq!(key_of("/", &fields, &rules), "s|https|h|/|phone,|=de|");
        assert_eq!(key_of("/", &[], &rules), "s|https|h|/|||");
        let mut map = HeaderMap::new();
        map.append(COOKIE, "sid=1; lang=de".parse().unwrap());
        assert_eq!(kept_cookies(&map, &rules).as_deref(), Some("lang=de"));
        assert_eq!(kept_cookies(&map, &KeyRules::default()), None);
    }
}
