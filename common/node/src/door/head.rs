//! One strict parser for request heads, and the checks both doors share.
//!
//! Invariants:
//! - A head that passes has exactly one meaning: one authority, one target, one
//!   body framing. Everything that two parsers could read differently is refused
//!   here, which is what keeps request smuggling and key confusion out.
//! - Lines end with CRLF. A bare CR or LF is refused (RFC 9112 §2.2 allows a
//!   recipient to accept a bare LF; we do not, since the next hop may not).
//! - Nothing here panics on what the network sends.

use std::mem::MaybeUninit;

use http::header::{
    CONNECTION, CONTENT_LENGTH, EXPECT, HeaderName, HeaderValue, TRANSFER_ENCODING, UPGRADE,
};
use http::{HeaderMap, Method, StatusCode};

use super::target::{authority, check_path, host_of, split_target};

/// More fields than any configuration allows; the parser's array is this long.
const FIELDS_PARSED_MAX: usize = 256;

/// A request head as it stood on the wire, checked.
#[derive(Debug)]
pub(crate) struct Head {
    pub(crate) method: Method,
    /// Minor version of HTTP/1: 0 or 1.
    pub(crate) minor: u8,
    pub(crate) fields: HeaderMap,
    pub(crate) checked: Checked,
    /// Whether the connection may carry another request after this one.
    pub(crate) keep_alive: bool,
    /// Length of the head on the wire, final CRLF included.
    pub(crate) wire_len: usize,
}

/// What `check` found out about a request, whichever door it came through.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Checked {
    /// Authority as the visitor wrote it, for the next hop.
    pub(crate) authority: String,
    /// Host in lower case, without port and trailing dot, for finding the site.
    pub(crate) host: String,
    /// Path and query in origin form, or `*`.
    pub(crate) path_and_query: String,
    pub(crate) framing: Framing,
    /// The request wants to leave HTTP (`Upgrade`) or waits for 100 (`Expect`).
    pub(crate) unusual: bool,
}

/// How the request's body is delimited (RFC 9112 §6).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Framing {
    None,
    Length(u64),
    Chunked,
}

/// Why a head is refused: the client is at fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) status: StatusCode,
    /// Short name for the metric.
    pub(crate) reason: &'static str,
    /// Sentence for the client.
    pub(crate) message: &'static str,
}

pub(super) const fn bad(reason: &'static str, message: &'static str) -> Refusal {
    Refusal {
        status: StatusCode::BAD_REQUEST,
        reason,
        message,
    }
}

/// Bounds on a head.
#[derive(Debug, Clone, Copy)]
pub(crate) struct HeadLimits {
    pub(crate) bytes_max: usize,
    pub(crate) fields_max: usize,
    pub(crate) body_bytes_max: u64,
}

/// Parses the head at the front of `buf`. `Ok(None)`: more bytes are needed.
pub(crate) fn parse(buf: &[u8], limits: HeadLimits) -> Result<Option<Head>, Refusal> {
    let mut lines = [const { MaybeUninit::uninit() }; FIELDS_PARSED_MAX];
    let mut request = httparse::Request::new(&mut []);
    let status = request
        .parse_with_uninit_headers(buf, &mut lines)
        .map_err(refusal_of)?;
    let wire_len = match status {
        httparse::Status::Complete(len) => len,
        httparse::Status::Partial if buf.len() > limits.bytes_max => return Err(TOO_LARGE),
        httparse::Status::Partial => return Ok(None),
    };
    if wire_len > limits.bytes_max || request.headers.len() > limits.fields_max {
        return Err(TOO_LARGE);
    }
    let wire = buf.get(..wire_len).unwrap_or(buf);
    if has_bare_line_feed(wire) {
        return Err(bad(
            "bare_lf",
            "a line ends with a bare LF; end lines with CRLF",
        ));
    }
    let minor = request.version.unwrap_or(1);
    let method = Method::from_bytes(request.method.unwrap_or_default().as_bytes())
        .map_err(|_| bad("method", "the method is not a token"))?;
    let mut fields = HeaderMap::with_capacity(request.headers.len());
    for line in request.headers.iter() {
        let name = HeaderName::from_bytes(line.name.as_bytes())
            .map_err(|_| bad("field_name", "a field name is not a token"))?;
        let value = HeaderValue::from_bytes(line.value)
            .map_err(|_| bad("field_value", "a field value holds a control character"))?;
        fields.append(name, value);
    }
    let version = Version::Http1 { minor };
    drop_void_offers(&mut fields, version);
    let target = request.path.unwrap_or_default();
    let checked = check(&method, target, &fields, version, limits)?;
    let keep_alive = keeps_alive(&fields, minor);
    Ok(Some(Head {
        method,
        minor,
        fields,
        checked,
        keep_alive,
        wire_len,
    }))
}

const TOO_LARGE: Refusal = Refusal {
    status: StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
    reason: "head_too_large",
    message: "the request head is larger than this node allows",
};

fn refusal_of(error: httparse::Error) -> Refusal {
    match error {
        httparse::Error::TooManyHeaders => TOO_LARGE,
        httparse::Error::Version => Refusal {
            status: StatusCode::HTTP_VERSION_NOT_SUPPORTED,
            reason: "version",
            message: "only HTTP/1.0, HTTP/1.1 and HTTP/2 are spoken here",
        },
        httparse::Error::HeaderName => bad("field_name", "a field name is not a token"),
        httparse::Error::HeaderValue => bad(
            "field_value",
            "a field value holds a control character or a bare CR",
        ),
        httparse::Error::NewLine => bad("new_line", "a line ends with a bare CR"),
        _ => bad("request_line", "the request line is malformed"),
    }
}

fn has_bare_line_feed(wire: &[u8]) -> bool {
    memchr::memchr_iter(b'\n', wire).any(|at| at == 0 || wire.get(at - 1) != Some(&b'\r'))
}

/// Which wire a head came from, where the rules differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Version {
    Http1 { minor: u8 },
    Http2,
}

/// Removes an `Upgrade` that is not ours to pass on (RFC 9110 §7.8 lets a server
/// ignore any). In HTTP/1.0, HTTP/2 or without its connection option it means
/// nothing; towards another version of HTTP, or TLS, it would be a tunnel past
/// every check of ours. An `Expect` in HTTP/1.0 means nothing either (§10.1.1).
pub(crate) fn drop_void_offers(fields: &mut HeaderMap, version: Version) {
    if version == (Version::Http1 { minor: 0 }) {
        fields.remove(EXPECT);
    }
    if !fields.contains_key(UPGRADE) {
        return;
    }
    let members = |name| {
        let values = fields.get_all(name).iter();
        values.flat_map(|value| value.as_bytes().split(|byte| *byte == b','))
    };
    let named = |protocol: &[u8], names: &[&[u8]]| {
        let name = protocol.split(|byte| *byte == b'/').next();
        let name = name.unwrap_or(protocol).trim_ascii();
        names.iter().any(|one| name.eq_ignore_ascii_case(one))
    };
    let offered = version == (Version::Http1 { minor: 1 })
        && members(CONNECTION).any(|option| named(option, &[b"upgrade"]))
        && !members(UPGRADE).any(|protocol| named(protocol, &[b"h2c", b"h2", b"http", b"tls"]));
    if !offered {
        fields.remove(UPGRADE);
    }
}

/// Checks framing, authority and target: the same function for both doors.
/// `target` is the request target, or for HTTP/2 an absolute form or path.
pub(crate) fn check(
    method: &Method,
    target: &str,
    fields: &HeaderMap,
    version: Version,
    limits: HeadLimits,
) -> Result<Checked, Refusal> {
    if *method == Method::CONNECT {
        return Err(Refusal {
            status: StatusCode::METHOD_NOT_ALLOWED,
            reason: "connect",
            message: "CONNECT is not served here",
        });
    }
    let (from_target, path_and_query) = split_target(method, target)?;
    check_path(path_and_query)?;
    let authority = authority(from_target, fields)?;
    let host = host_of(authority)?;
    let framing = framing(fields, version, limits.body_bytes_max)?;
    let unusual = fields.contains_key(UPGRADE) || fields.contains_key(EXPECT);
    Ok(Checked {
        authority: authority.to_owned(),
        host,
        path_and_query: path_and_query.to_owned(),
        framing,
        unusual,
    })
}

/// How the body is delimited. Anything ambiguous is refused (RFC 9112 §6.3).
fn framing(fields: &HeaderMap, version: Version, body_bytes_max: u64) -> Result<Framing, Refusal> {
    let coded = fields.contains_key(TRANSFER_ENCODING);
    let length = content_length(fields)?;
    if coded {
        if version != (Version::Http1 { minor: 1 }) {
            return Err(bad(
                "transfer_encoding",
                "Transfer-Encoding belongs to HTTP/1.1 alone",
            ));
        }
        if length.is_some() {
            return Err(bad(
                "length_and_coding",
                "both Content-Length and Transfer-Encoding are present",
            ));
        }
        let mut codings = fields.get_all(TRANSFER_ENCODING).iter();
        let only_chunked = codings
            .next()
            .is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"chunked"))
            && codings.next().is_none();
        return if only_chunked {
            Ok(Framing::Chunked)
        } else {
            Err(Refusal {
                status: StatusCode::NOT_IMPLEMENTED,
                reason: "transfer_encoding",
                message: "the only transfer coding understood here is chunked",
            })
        };
    }
    match length {
        None | Some(0) => Ok(Framing::None),
        Some(length) if length > body_bytes_max => Err(Refusal {
            status: StatusCode::PAYLOAD_TOO_LARGE,
            reason: "body_too_large",
            message: "the request body is larger than this node allows",
        }),
        Some(length) => Ok(Framing::Length(length)),
    }
}

fn content_length(fields: &HeaderMap) -> Result<Option<u64>, Refusal> {
    const MALFORMED: Refusal = bad("content_length", "Content-Length is not one number");
    let mut values = fields.get_all(CONTENT_LENGTH).iter();
    let Some(value) = values.next() else {
        return Ok(None);
    };
    if values.next().is_some() {
        return Err(MALFORMED);
    }
    let digits = value.as_bytes();
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return Err(MALFORMED);
    }
    let text = value.to_str().map_err(|_| MALFORMED)?;
    text.parse().map(Some).map_err(|_| MALFORMED)
}

/// Whether the client wants the connection kept (RFC 9112 §9.3).
fn keeps_alive(fields: &HeaderMap, minor: u8) -> bool {
    let mut keep = minor >= 1;
    for value in fields.get_all(CONNECTION) {
        for option in value.as_bytes().split(|byte| *byte == b',') {
            let option = option.trim_ascii();
            if option.eq_ignore_ascii_case(b"close") {
                return false;
            }
            if option.eq_ignore_ascii_case(b"keep-alive") {
                keep = true;
            }
        }
    }
    keep
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const LIMITS: HeadLimits = HeadLimits {
        bytes_max: 1024,
        fields_max: 20,
        body_bytes_max: 1000,
    };

    fn parse_text(text: &str) -> Result<Option<Head>, Refusal> {
        parse(text.as_bytes(), LIMITS)
    }

    fn refused(text: &str) -> &'static str {
        parse_text(text).expect_err(text).reason
    }

    #[test]
    fn a_plain_request_has_one_meaning() {
        let head = parse_text("GET /a?b=1 HTTP/1.1\r\nHost: Shop.Example:8081\r\n\r\nrest")
            .unwrap()
            .unwrap();
        assert_eq!(head.checked.authority, "Shop.Example:8081");
        assert_eq!(head.checked.host, "shop.example");
        assert_eq!(head.checked.path_and_query, "/a?b=1");
        assert_eq!(head.checked.framing, Framing::None);
        assert!(head.keep_alive);
        assert_eq!(head.wire_len, 48);
    }

    #[test]
    fn half_a_head_asks_for_more() {
        assert!(parse_text("GET / HTTP/1.1\r\nHost: a").unwrap().is_none());
        assert!(parse_text("").unwrap().is_none());
    }

    #[test]
    fn ambiguous_framing_is_refused() {
        let with = |fields: &str| format!("POST / HTTP/1.1\r\nHost: a\r\n{fields}\r\n");
        for (fields, reason) in [
            (
                "Content-Length: 1\r\nTransfer-Encoding: chunked\r\n",
                "length_and_coding",
            ),
            (
                "Content-Length: 1\r\nContent-Length: 1\r\n",
                "content_length",
            ),
            ("Content-Length: +1\r\n", "content_length"),
            ("Content-Length: 1, 1\r\n", "content_length"),
            ("Content-Length: 99999999999999999999\r\n", "content_length"),
            ("Content-Length: 1001\r\n", "body_too_large"),
            ("Transfer-Encoding: gzip, chunked\r\n", "transfer_encoding"),
            (
                "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
                "transfer_encoding",
            ),
            ("Transfer-Encoding: xchunked\r\n", "transfer_encoding"),
        ] {
            assert_eq!(refused(&with(fields)), reason, "{fields}");
        }
        assert_eq!(
            refused("POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"),
            "transfer_encoding"
        );
        let chunked = parse_text(&with("Transfer-Encoding: chunked\r\n"));
        assert_eq!(chunked.unwrap().unwrap().checked.framing, Framing::Chunked);
        let length = parse_text(&with("Content-Length: 1000\r\n"));
        assert_eq!(
            length.unwrap().unwrap().checked.framing,
            Framing::Length(1000)
        );
    }

    #[test]
    fn line_ends_are_crlf() {
        assert_eq!(refused("GET / HTTP/1.1\nHost: a\n\n"), "bare_lf");
        assert_eq!(refused("GET / HTTP/1.1\r\nHost: a\n\r\n"), "bare_lf");
        assert_eq!(
            refused("GET / HTTP/1.1\r\nHost: a\rb\r\n\r\n"),
            "field_value"
        );
        assert_eq!(
            refused("GET / HTTP/1.1\r\nA: b\r\n c\r\n\r\n"),
            "field_name"
        );
        assert_eq!(refused("GET / HTTP/1.1\r\nHost : a\r\n\r\n"), "field_name");
    }

    #[test]
    fn only_an_upgrade_out_of_http_is_unusual() {
        for (minor, options, offers, unusual) in [
            (1, "Upgrade", "websocket", true),
            (1, "x, UPGRADE", "a/1, b", true),
            (1, "x", "websocket", false),
            (0, "Upgrade", "websocket", false),
            (1, "Upgrade", "h2c", false),
            (1, "Upgrade", "websocket, H2C", false),
            (1, "Upgrade", "a\r\nUpgrade: TLS/1.2", false),
            (1, "Upgrade", "HTTP/2.0", false),
        ] {
            let fields = format!("Connection: {options}\r\nUpgrade: {offers}\r\n");
            let head = format!("GET / HTTP/1.{minor}\r\nHost: a\r\n{fields}\r\n");
            let head = parse_text(&head).unwrap().unwrap();
            assert_eq!(head.checked.unusual, unusual, "{fields}");
            assert_eq!(head.fields.contains_key(UPGRADE), unusual, "{fields}");
        }
    }

    #[test]
    fn hosts_are_one_and_well_formed() {
        let with = |fields: &str| format!("GET / HTTP/1.1\r\n{fields}\r\n");
        for fields in [
            "",
            "Host: a\r\nHost: a\r\n",
            "Host: \r\n",
            "Host: a b\r\n",
            "Host: a/b\r\n",
            "Host: ..\r\n",
            "Host: .a\r\n",
            "Host: a..b\r\n",
            "Host: user@a\r\n",
            "Host: a:b\r\n",
            "Host: a:99999\r\n",
            "Host: [::1\r\n",
            "Host: [zz]\r\n",
        ] {
            assert_eq!(refused(&with(fields)), "host", "{fields}");
        }
        for (host, name) in [("A.b.", "a.b"), ("[::1]:80", "[::1]"), ("a_b:1", "a_b")] {
            let head = parse_text(&with(&format!("Host: {host}\r\n")));
            assert_eq!(head.unwrap().unwrap().checked.host, name);
        }
    }

    #[test]
    fn targets_have_one_reading() {
        let with = |target: &str| format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n");
        for (target, reason) in [
            ("/a/../b", "dot_segment"),
            ("/a/%2e%2E/b", "dot_segment"),
            ("/./a", "dot_segment"),
            ("/a/..", "dot_segment"),
            ("/..%2Fa", "dot_segment"),
            ("/a%2f%2E.%5cb", "dot_segment"),
            ("/a/..;b/c", "dot_segment"),
            ("/a/..%3Bb/c", "dot_segment"),
            ("/a%zz", "percent"),
            ("/a%2", "percent"),
            ("/a%00", "nul"),
            ("/a#b", "fragment"),
            ("*", "target"),
            ("a", "target"),
            ("ftp://a/b", "target"),
            ("http://b/c", "host"),
        ] {
            assert_eq!(refused(&with(target)), reason, "{target}");
        }
        for (target, path) in [
            ("http://a/b?c", "/b?c"),
            ("http://A", "/"),
            ("/a%2Fb", "/a%2Fb"),
            ("/...", "/..."),
            ("/a;b/..c/.d", "/a;b/..c/.d"),
            ("/a%2F.b", "/a%2F.b"),
            ("/a?x=/../y", "/a?x=/../y"),
        ] {
            let head = parse_text(&with(target)).unwrap().unwrap();
            assert_eq!(head.checked.path_and_query, path, "{target}");
        }
    }

    #[test]
    fn long_heads_are_refused_on_both_sides_of_the_bound() {
        let long = "a".repeat(2000);
        assert_eq!(refused(&format!("GET /{long}")), "head_too_large");
        let many = "A: b\r\n".repeat(21);
        assert_eq!(
            refused(&format!("GET / HTTP/1.1\r\n{many}\r\n")),
            "head_too_large"
        );
        let fit = "A: b\r\n".repeat(19);
        assert!(parse_text(&format!("GET / HTTP/1.1\r\nHost: a\r\n{fit}\r\n")).is_ok());
    }

    #[test]
    fn connections_are_kept_as_asked() {
        for (line, fields, keep) in [
            ("HTTP/1.1", "", true),
            ("HTTP/1.0", "", false),
            ("HTTP/1.0", "Connection: keep-alive\r\n", true),
            ("HTTP/1.1", "Connection: x, Close\r\n", false),
        ] {
            let head = parse_text(&format!("GET / {line}\r\nHost: a\r\n{fields}\r\n"));
            assert_eq!(head.unwrap().unwrap().keep_alive, keep, "{line} {fields}");
        }
    }

    proptest! {
        #[test]
        fn nothing_on_the_wire_panics(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = parse(&bytes, LIMITS);
        }

        #[test]
        fn nothing_in_a_request_line_panics(target in ".{0,60}", host in ".{0,30}") {
            let _ = parse_text(&format!("GET {target} HTTP/1.1\r\nHost: {host}\r\n\r\n"));
        }
    }
}
