//! What a request asks for: one authority and one path, in one reading each.
//!
//! The tests stand with the parser in `head`, where targets arrive.

use http::header::HOST;
use http::{HeaderMap, Method};

use super::head::{Refusal, bad};

/// Origin form, absolute form or `*` (RFC 9112 §3.2) into authority and path.
pub(super) fn split_target<'a>(
    method: &Method,
    target: &'a str,
) -> Result<(Option<&'a str>, &'a str), Refusal> {
    if target.starts_with('/') {
        return Ok((None, target));
    }
    if target == "*" {
        return if *method == Method::OPTIONS {
            Ok((None, target))
        } else {
            Err(bad("target", "`*` is a target for OPTIONS alone"))
        };
    }
    let rest = strip_scheme(target).ok_or(bad(
        "target",
        "the request target is neither a path nor an http URL",
    ))?;
    let path_at = rest.find(['/', '?']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(path_at);
    match path {
        "" => Ok((Some(authority), "/")),
        _ if path.starts_with('/') => Ok((Some(authority), path)),
        _ => Err(bad("target", "the request target has a query but no path")),
    }
}

fn strip_scheme(target: &str) -> Option<&str> {
    let (scheme, rest) = target.split_once("://")?;
    (scheme.eq_ignore_ascii_case("http") || scheme.eq_ignore_ascii_case("https")).then_some(rest)
}

/// Refuses paths that two programs could read as different resources.
pub(super) fn check_path(path_and_query: &str) -> Result<(), Refusal> {
    let bytes = path_and_query.as_bytes();
    // Most paths are made of these alone; the loop is the whole cost for them.
    if bytes.iter().all(|byte| {
        byte.is_ascii_alphanumeric() || matches!(byte, b'/' | b'-' | b'_' | b'?' | b'=')
    }) {
        return Ok(());
    }
    if bytes.iter().any(|byte| !(0x21..=0x7e).contains(byte)) {
        return Err(bad(
            "target_byte",
            "the path holds a space, a control character or a byte outside ASCII; percent-encode it",
        ));
    }
    if bytes.contains(&b'#') {
        return Err(bad("fragment", "the request target holds a fragment"));
    }
    let path = path_and_query
        .split_once('?')
        .map_or(path_and_query, |(path, _)| path);
    check_percent(path.as_bytes())?;
    if has_dot_segment(path) {
        return Err(bad(
            "dot_segment",
            "the path holds a `.` or `..` segment; resolve it before asking (RFC 3986 §5.2.4)",
        ));
    }
    Ok(())
}

fn check_percent(path: &[u8]) -> Result<(), Refusal> {
    let mut rest = path;
    while let Some(at) = memchr::memchr(b'%', rest) {
        match rest.get(at + 1..at + 3) {
            Some(b"00") => return Err(bad("nul", "the path holds an encoded NUL")),
            Some(hex) if hex.iter().all(u8::is_ascii_hexdigit) => {}
            _ => {
                return Err(bad(
                    "percent",
                    "the path holds a `%` that two hexadecimal digits do not follow",
                ));
            }
        }
        rest = rest.get(at + 3..).unwrap_or_default();
    }
    Ok(())
}

/// Whether any program might climb here. An encoded slash separates nothing in the
/// key, but there are origins that decode it before they resolve the path, and
/// some that drop what stands behind a `;` in a segment.
fn has_dot_segment(path: &str) -> bool {
    let climbs = |path: &str| {
        path.split(['/', '\\'])
            .map(|segment| segment.split(';').next().unwrap_or(segment))
            .any(|segment| segment == "." || segment == "..")
    };
    if !path.contains('%') {
        return climbs(path);
    }
    let plain = path.to_ascii_lowercase();
    let plain = plain.replace("%2e", ".").replace("%3b", ";");
    climbs(&plain.replace("%2f", "/").replace("%5c", "/"))
}

/// The one authority of the request (RFC 9112 §3.2: exactly one Host; the
/// absolute form wins, and a Host that disagrees with it is refused).
pub(super) fn authority<'a>(
    from_target: Option<&'a str>,
    fields: &'a HeaderMap,
) -> Result<&'a str, Refusal> {
    let mut hosts = fields.get_all(HOST).iter();
    let host = match hosts.next() {
        None => None,
        Some(value) => Some(
            value
                .to_str()
                .map_err(|_| bad("host", "the Host field is malformed"))?,
        ),
    };
    if hosts.next().is_some() {
        return Err(bad("host", "more than one Host field"));
    }
    match (from_target, host) {
        (Some(target), Some(host)) if !target.eq_ignore_ascii_case(host) => Err(bad(
            "host",
            "the Host field and the request target name different authorities",
        )),
        (Some(target), _) => Ok(target),
        (None, Some(host)) => Ok(host),
        (None, None) => Err(bad("host", "no Host field")),
    }
}

/// Host in lower case without port and trailing dot (RFC 3986 §3.2.2).
pub(super) fn host_of(authority: &str) -> Result<String, Refusal> {
    const MALFORMED: Refusal = bad("host", "the Host field is malformed");
    let (host, port) = if authority.starts_with('[') {
        let end = authority.find(']').ok_or(MALFORMED)?;
        let (literal, rest) = authority.split_at(end + 1);
        let inside = literal.get(1..end).unwrap_or_default();
        if inside.parse::<std::net::Ipv6Addr>().is_err() {
            return Err(MALFORMED);
        }
        (
            literal,
            rest.strip_prefix(':').or((rest.is_empty()).then_some("")),
        )
    } else {
        match authority.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (authority, Some("")),
        }
    };
    let port = port.ok_or(MALFORMED)?;
    if !port.is_empty() && port.parse::<u16>().is_err() {
        return Err(MALFORMED);
    }
    let name = host.strip_suffix('.').unwrap_or(host);
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    let is_label = |label: &str| !label.is_empty() && label.bytes().all(plain);
    let well_formed = name.len() <= 255 && (name.starts_with('[') || name.split('.').all(is_label));
    if !well_formed {
        return Err(MALFORMED);
    }
    Ok(name.to_ascii_lowercase())
}
