//! Requests that end at this node: `OPTIONS *`, and `OPTIONS` or `TRACE` that may go
//! no further (RFC 9110 §7.6.2, §9.3.7, §9.3.8).
//!
//! Edge and upper tier are one stop. Only the edge counts `Max-Forwards` down, so
//! that a count reaches as far whether or not there are tiers between.

use bytes::Bytes;
use http::header::{
    ALLOW, CONTENT_LENGTH, CONTENT_TYPE, DATE, HeaderName, HeaderValue, MAX_FORWARDS,
};
use http::{HeaderMap, Method, StatusCode};
use observe::Outcome;

use crate::answer::{self, Answer, Body, Head, Story};

use crate::request::Request;
use crate::state::Node;

/// Methods this node answers or passes on; an origin may allow fewer.
const ALLOWED: &str = "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS, TRACE";

/// Fields that a trace gives back. RFC 9110 §9.3.8 leaves out what is likely to be
/// sensitive; nobody can list that, but these tell of the way and of nothing else.
const TRACED: [HeaderName; 6] = [
    http::header::HOST,
    http::header::VIA,
    MAX_FORWARDS,
    http::header::USER_AGENT,
    crate::fields::CDN_LOOP,
    crate::fields::TRACEPARENT,
];

/// What is to be done about `Max-Forwards`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reach {
    /// It says nothing, or nothing that can be read.
    Unlimited,
    /// It may be forwarded so many times from here.
    Forwards(u64),
    /// This is its last stop.
    Ends,
}

/// RFC 9110 §7.6.2. Other methods have no use for it, and a value that is no number
/// limits nothing.
fn reach(method: &Method, fields: &HeaderMap) -> Reach {
    if *method != Method::OPTIONS && *method != Method::TRACE {
        return Reach::Unlimited;
    }
    let value = fields.get(MAX_FORWARDS).map(HeaderValue::as_bytes);
    let digits = value.filter(|digits| !digits.is_empty() && digits.iter().all(u8::is_ascii_digit));
    let Some(digits) = digits else {
        return Reach::Unlimited;
    };
    // More than fits is more than anybody will count.
    let count = str::from_utf8(digits)
        .ok()
        .and_then(|digits| digits.parse().ok())
        .unwrap_or(u64::MAX);
    match count {
        0_u64 => Reach::Ends,
        more => Reach::Forwards(more - 1),
    }
}

/// Counts a request on that goes further, in the fields it goes on with.
pub(super) fn count_down(request: &Request, outbound: &mut HeaderMap) {
    if request.tier.is_none()
        && let Reach::Forwards(left) = reach(&request.method, &request.fields)
    {
        outbound.insert(MAX_FORWARDS, HeaderValue::from(left));
    }
}

/// The answer to a request that ends here; none where it goes further.
pub(super) fn answer(node: &Node, request: &Request) -> Option<Answer> {
    if request.tier.is_some() {
        return None;
    }
    let ends = reach(&request.method, &request.fields) == Reach::Ends;
    // RFC 9110 §9.3.7: `*` asks about the server, which for a visitor is this node.
    let of_server = request.method == Method::OPTIONS && request.path_and_query == "*";
    if !ends && !of_server {
        return None;
    }
    let mut fields = HeaderMap::with_capacity(5);
    fields.insert(DATE, http_cache::date::format(node.now_ms()));
    let body = if request.method == Method::TRACE {
        fields.insert(CONTENT_TYPE, HeaderValue::from_static("message/http"));
        Body::Whole(trace(request))
    } else {
        fields.insert(ALLOW, HeaderValue::from_static(ALLOWED));
        Body::Absent
    };
    let length = match &body {
        Body::Whole(text) => text.len(),
        _ => 0,
    };
    fields.insert(CONTENT_LENGTH, HeaderValue::from(length));
    Some(Answer {
        head: Head::Built {
            status: StatusCode::OK,
            fields,
        },
        body,
        story: Story::new(Outcome::Pass),
    })
}

/// The request as it was received, without what might be anybody's secret.
fn trace(request: &Request) -> Bytes {
    let mut kept = HeaderMap::new();
    for name in TRACED {
        for value in request.fields.get_all(&name) {
            kept.append(name.clone(), value.clone());
        }
    }
    let mut text = bytes::BytesMut::new();
    let version = match request.protocol {
        observe::Protocol::H2 => "HTTP/2",
        observe::Protocol::H1 => "HTTP/1.1",
    };
    text.extend_from_slice(format!("TRACE {} {version}\r\n", request.path_and_query).as_bytes());
    answer::write_fields(&mut text, &kept);
    text.extend_from_slice(b"\r\n");
    text.freeze()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_count_is_read_for_two_methods() {
        use Reach::{Ends, Forwards, Unlimited};
        for (method, value, expected) in [
            (Method::TRACE, "0", Ends),
            (Method::OPTIONS, "0", Ends),
            (Method::OPTIONS, "00", Ends),
            (Method::OPTIONS, "1", Forwards(0)),
            (Method::TRACE, "10", Forwards(9)),
            (
                Method::TRACE,
                "99999999999999999999999",
                Forwards(u64::MAX - 1),
            ),
            (Method::TRACE, "", Unlimited),
            (Method::TRACE, "-1", Unlimited),
            (Method::TRACE, "+1", Unlimited),
            (Method::TRACE, "x", Unlimited),
            (Method::GET, "0", Unlimited),
            (Method::POST, "0", Unlimited),
        ] {
            let mut fields = HeaderMap::new();
            fields.insert(MAX_FORWARDS, value.parse().unwrap());
            assert_eq!(reach(&method, &fields), expected, "{method} {value}");
        }
        assert_eq!(reach(&Method::TRACE, &HeaderMap::new()), Unlimited);
    }
}
