//! The standard fields we write: `Cache-Status` (RFC 9211), `Proxy-Status`
//! (RFC 9209), `Via` (RFC 9110 §7.6.3), `CDN-Loop` (RFC 8586), `traceparent` (W3C).

use std::borrow::Cow;
use std::fmt::{self, Display, Write as _};

use http::header::VIA;
use http::{HeaderMap, HeaderName, HeaderValue};

/// `Cache-Status` (RFC 9211).
pub(crate) const CACHE_STATUS: HeaderName = HeaderName::from_static("cache-status");
/// `Proxy-Status` (RFC 9209).
pub(crate) const PROXY_STATUS: HeaderName = HeaderName::from_static("proxy-status");
/// `CDN-Loop` (RFC 8586).
pub(crate) const CDN_LOOP: HeaderName = HeaderName::from_static("cdn-loop");
/// `traceparent` (W3C Trace Context).
pub(crate) const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
/// `tracestate` (W3C Trace Context).
pub(crate) const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

/// Why a request went forward (RFC 9211 §2.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Forward {
    /// The cache was not asked.
    Bypass,
    /// The method is not answered from a cache.
    Method,
    /// Nothing is stored for the URI.
    UriMiss,
    /// Something is stored, but under other selecting fields.
    VaryMiss,
    /// The request's own directives demanded it.
    Request,
    /// What is stored is stale.
    Stale,
    /// What is stored is a part, and not all that was asked for.
    Partial,
}

impl Forward {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Bypass => "bypass",
            Self::Method => "method",
            Self::UriMiss => "uri-miss",
            Self::VaryMiss => "vary-miss",
            Self::Request => "request",
            Self::Stale => "stale",
            Self::Partial => "partial",
        }
    }
}

/// This node's member of `Cache-Status`, and those of the tiers behind it.
#[derive(Debug, Clone, Default)]
pub(crate) struct CacheStatus {
    /// Members of the nodes behind us, nearest the origin first.
    pub(crate) upstream: Option<HeaderValue>,
    pub(crate) hit: bool,
    pub(crate) forward: Option<Forward>,
    /// The status the next hop gave.
    pub(crate) forward_status: Option<u16>,
    /// Freshness left in seconds; negative once stale.
    pub(crate) ttl_s: Option<i64>,
    pub(crate) stored: bool,
    pub(crate) collapsed: bool,
    pub(crate) detail: Option<&'static str>,
}

impl CacheStatus {
    /// Writes the whole field value for the node of that name.
    pub(crate) fn write(&self, out: &mut Vec<u8>, node: &str) {
        if let Some(upstream) = &self.upstream {
            out.extend_from_slice(upstream.as_bytes());
            out.extend_from_slice(b", ");
        }
        write_identifier(out, node);
        if self.hit {
            out.extend_from_slice(b"; hit");
        }
        if let Some(forward) = self.forward {
            out.extend_from_slice(b"; fwd=");
            out.extend_from_slice(forward.as_str().as_bytes());
        }
        if let Some(status) = self.forward_status {
            out.extend_from_slice(b"; fwd-status=");
            write_number(out, i64::from(status));
        }
        if self.stored {
            out.extend_from_slice(b"; stored");
        }
        if self.collapsed {
            out.extend_from_slice(b"; collapsed");
        }
        if let Some(ttl_s) = self.ttl_s {
            out.extend_from_slice(b"; ttl=");
            write_number(out, ttl_s);
        }
        if let Some(detail) = self.detail {
            out.extend_from_slice(b"; detail=");
            out.extend_from_slice(detail.as_bytes());
        }
    }

    /// The field value as a header value.
    pub(crate) fn value(&self, node: &str) -> HeaderValue {
        let mut out = Vec::with_capacity(128);
        self.write(&mut out, node);
        HeaderValue::try_from(out).unwrap_or_else(|_| HeaderValue::from_static("headwater"))
    }
}

/// Adds the key to our member, which is the last one (RFC 9211 §2.7).
pub(crate) fn tell_key(fields: &mut HeaderMap, key: &[u8]) {
    let Some(status) = fields.get(CACHE_STATUS) else {
        return;
    };
    let mut told = status.as_bytes().to_vec();
    told.extend_from_slice(b"; key=\"");
    for byte in key.strip_suffix(b"\0").unwrap_or(key) {
        match byte {
            0 => told.push(b'|'),
            b'"' | b'\\' => told.extend([b'\\', *byte]),
            0x20..0x7f => told.push(*byte),
            _ => told.push(b'?'),
        }
    }
    told.push(b'"');
    if let Ok(told) = HeaderValue::try_from(told) {
        fields.insert(CACHE_STATUS, told);
    }
}

/// A token where the grammar allows it, else a quoted string (RFC 8941 §3.3).
fn write_identifier(out: &mut Vec<u8>, name: &str) {
    if name.starts_with(|first: char| first.is_ascii_alphabetic()) {
        out.extend_from_slice(name.as_bytes());
    } else {
        out.push(b'"');
        out.extend_from_slice(name.as_bytes());
        out.push(b'"');
    }
}

/// Writes a decimal number without going through a formatter.
pub(crate) fn write_number(out: &mut Vec<u8>, number: i64) {
    let mut digits = [0_u8; 20];
    let mut at = digits.len();
    let mut rest = number.unsigned_abs();
    loop {
        at -= 1;
        digits[at] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    if number < 0 {
        out.push(b'-');
    }
    out.extend_from_slice(&digits[at..]);
}

/// An error of ours in the words of RFC 9209 §2.3.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ProxyError {
    /// A registered proxy error type.
    pub(crate) kind: &'static str,
    /// What an operator should know; quoted and stripped of what a string cannot hold.
    pub(crate) details: Cow<'static, str>,
}

impl ProxyError {
    pub(crate) fn new(kind: &'static str, details: impl Into<Cow<'static, str>>) -> Self {
        Self {
            kind,
            details: details.into(),
        }
    }

    /// The `Proxy-Status` value of the node of that name.
    pub(crate) fn value(&self, node: &str) -> HeaderValue {
        let mut out = Vec::with_capacity(96);
        write_identifier(&mut out, node);
        out.extend_from_slice(b"; error=");
        out.extend_from_slice(self.kind.as_bytes());
        out.extend_from_slice(b"; details=\"");
        out.extend(
            self.details
                .bytes()
                .filter(|byte| (0x20..0x7f).contains(byte) && !matches!(byte, b'"' | b'\\')),
        );
        out.push(b'"');
        HeaderValue::try_from(out).unwrap_or_else(|_| HeaderValue::from_static("headwater"))
    }
}

impl Display for ProxyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.kind, self.details)
    }
}

/// Appends this node to `Via`.
pub(crate) fn append_via(fields: &mut HeaderMap, node: &str) {
    if let Ok(value) = HeaderValue::try_from(format!("1.1 {node}")) {
        fields.append(VIA, value);
    }
}

/// Appends this node to `CDN-Loop`.
pub(crate) fn append_cdn_loop(fields: &mut HeaderMap, node: &str) {
    if let Ok(value) = HeaderValue::try_from(node) {
        fields.append(CDN_LOOP, value);
    }
}

/// Whether the request has been through this node before (RFC 8586 §2).
pub(crate) fn has_looped(fields: &HeaderMap, node: &str) -> bool {
    fields.get_all(CDN_LOOP).iter().any(|value| {
        value.as_bytes().split(|byte| *byte == b',').any(|member| {
            let id = member.split(|byte| *byte == b';').next().unwrap_or(member);
            id.trim_ascii().eq_ignore_ascii_case(node.as_bytes())
        })
    })
}

/// A `traceparent` value, version 00.
pub(crate) fn traceparent(trace_id: [u8; 16], span_id: [u8; 8], sampled: bool) -> HeaderValue {
    let mut text = String::with_capacity(55);
    text.push_str("00-");
    for byte in trace_id {
        let _ = write!(text, "{byte:02x}");
    }
    text.push('-');
    for byte in span_id {
        let _ = write!(text, "{byte:02x}");
    }
    text.push_str(if sampled { "-01" } else { "-00" });
    HeaderValue::try_from(text).unwrap_or_else(|_| HeaderValue::from_static(""))
}

/// Every value of a list field on one line.
pub(crate) fn joined(fields: &HeaderMap, name: &HeaderName) -> Option<HeaderValue> {
    let mut values = fields.get_all(name).iter();
    let first = values.next()?;
    let Some(second) = values.next() else {
        return Some(first.clone());
    };
    let mut all = first.as_bytes().to_vec();
    for value in std::iter::once(second).chain(values) {
        all.extend_from_slice(b", ");
        all.extend_from_slice(value.as_bytes());
    }
    HeaderValue::try_from(all).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cache_status_reads_as_rfc_9211_says() {
        let status = CacheStatus {
            upstream: Some(HeaderValue::from_static("upper-1; fwd=uri-miss; stored")),
            forward: Some(Forward::UriMiss),
            forward_status: Some(200),
            stored: true,
            collapsed: true,
            ..CacheStatus::default()
        };
        assert_eq!(
            status.value("edge-1"),
            "upper-1; fwd=uri-miss; stored, edge-1; fwd=uri-miss; fwd-status=200; stored; collapsed"
        );
        let hit = CacheStatus {
            hit: true,
            ttl_s: Some(-12),
            ..CacheStatus::default()
        };
        assert_eq!(hit.value("1st"), "\"1st\"; hit; ttl=-12");
    }

    #[test]
    fn numbers_at_the_ends_of_their_range() {
        for number in [0, 9, 10, -1, i64::MAX, i64::MIN] {
            let mut out = Vec::new();
            write_number(&mut out, number);
            assert_eq!(String::from_utf8(out).unwrap(), number.to_string());
        }
    }

    #[test]
    fn loops_are_seen_by_identifier_alone() {
        for (value, looped) in [
            ("edge-1", true),
            ("other, EDGE-1; v=1", true),
            ("edge-10", false),
            ("other; a=edge-1", false),
        ] {
            let mut fields = HeaderMap::new();
            fields.insert(CDN_LOOP, value.parse().unwrap());
            assert_eq!(has_looped(&fields, "edge-1"), looped, "{value}");
        }
    }

    #[test]
    fn proxy_status_cannot_be_broken_by_its_details() {
        let error = ProxyError::new("http_request_denied", "a \"b\" \\ \r\n c");
        assert_eq!(
            error.value("n"),
            "n; error=http_request_denied; details=\"a b   c\""
        );
    }
}
