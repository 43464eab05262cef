//! Responses and what happens to them on their way out: validators and ranges.
//!
//! A page describes its whole representation with status 200. What a client's
//! preconditions and `Range` make of it is decided here, once for all pages, in
//! the order of RFC 9110 §13.2.2.

use http::header::{
    ACCEPT_RANGES, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG,
    IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_RANGE, LAST_MODIFIED, RANGE,
};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode};
use hyper::body::Body as _;

use super::body::OriginBody;
use super::deflate;
use super::range::{self, Asked};

/// What the demo origin answers.
pub(super) type Reply = Response<OriginBody>;

/// A 200 of the given type. No caching field yet: [`With::cached`] sets one.
pub(super) fn page(content_type: &'static str, body: OriginBody) -> Reply {
    Response::new(body).with(CONTENT_TYPE, HeaderValue::from_static(content_type))
}

/// A 200 of plain text.
pub(super) fn text(text: impl Into<String>) -> Reply {
    let mut text = text.into();
    if !text.ends_with('\n') {
        text.push('\n');
    }
    page("text/plain; charset=utf-8", OriginBody::whole(text))
}

/// An error that the client made, in words, never to be kept.
pub(super) fn refusal(status: StatusCode, words: &str) -> Reply {
    let mut reply = text(words).cached("no-store");
    *reply.status_mut() = status;
    reply
}

/// Setting fields in a row.
pub(super) trait With: Sized {
    /// Sets one field.
    fn with(self, name: HeaderName, value: HeaderValue) -> Self;

    /// Sets `Cache-Control`.
    fn cached(self, cache_control: &'static str) -> Self {
        self.with(CACHE_CONTROL, HeaderValue::from_static(cache_control))
    }
}

impl With for Reply {
    fn with(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers_mut().insert(name, value);
        self
    }
}

/// A value that we wrote ourselves out of letters, digits and punctuation.
pub(super) fn value(text: String) -> HeaderValue {
    HeaderValue::try_from(text).expect("the origin's own values are visible ASCII")
}

/// A strong entity tag for bytes that are held whole.
pub(super) fn tag(bytes: &[u8]) -> HeaderValue {
    value(format!(
        "\"{:08x}-{}\"",
        deflate::crc32(&[bytes]),
        bytes.len()
    ))
}

/// Applies preconditions and range to a page's 200. Any other status stays as it is.
pub(super) fn conditional(method: &Method, asked: &HeaderMap, reply: Reply) -> Reply {
    let safe = method == Method::GET || method == Method::HEAD;
    if !safe || reply.status() != StatusCode::OK {
        return reply;
    }
    if unchanged(asked, reply.headers()) {
        return not_modified(reply);
    }
    // RFC 9110 §14.2: `Range` means something for GET alone.
    if method == Method::GET {
        ranged(asked, reply)
    } else {
        reply
    }
}

/// Whether the client's copy is still the current one (RFC 9110 §13.1.2, §13.1.3).
fn unchanged(asked: &HeaderMap, ours: &HeaderMap) -> bool {
    if asked.contains_key(IF_NONE_MATCH) {
        let Some(ours) = ours.get(ETAG).and_then(|tag| tag.to_str().ok()) else {
            return false;
        };
        // Our tags hold no comma, so that cutting the list at commas loses nothing.
        return asked
            .get_all(IF_NONE_MATCH)
            .iter()
            .filter_map(|list| list.to_str().ok())
            .flat_map(|list| list.split(','))
            .map(str::trim)
            .any(|theirs| theirs == "*" || theirs.trim_start_matches("W/") == ours);
    }
    let date = |headers: &HeaderMap, name| {
        let text: &HeaderValue = headers.get(name)?;
        httpdate::parse_http_date(text.to_str().ok()?).ok()
    };
    match (date(asked, IF_MODIFIED_SINCE), date(ours, LAST_MODIFIED)) {
        (Some(theirs), Some(ours)) => ours <= theirs,
        _ => false,
    }
}

/// Turns a 200 into the 304 that stands for it (RFC 9110 §15.4.5).
fn not_modified(reply: Reply) -> Reply {
    let (mut head, _) = reply.into_parts();
    head.status = StatusCode::NOT_MODIFIED;
    for described_by_the_copy in [CONTENT_TYPE, CONTENT_LENGTH, ACCEPT_RANGES] {
        head.headers.remove(described_by_the_copy);
    }
    Response::from_parts(head, OriginBody::whole(""))
}

/// Cuts the part asked for out of a page that has a length and a strong tag.
fn ranged(asked: &HeaderMap, reply: Reply) -> Reply {
    let (Some(length), true) = (
        reply.body().size_hint().exact(),
        reply.headers().contains_key(ETAG),
    ) else {
        return reply;
    };
    let reply = reply.with(ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    // RFC 9110 §13.1.5: another validator means that the client's part is of
    // another representation, and gets this one whole.
    if asked
        .get(IF_RANGE)
        .is_some_and(|theirs| Some(theirs) != reply.headers().get(ETAG))
    {
        return reply;
    }
    match range::asked(
        asked.get(RANGE).and_then(|range| range.to_str().ok()),
        length,
    ) {
        Asked::Whole => reply,
        Asked::Unsatisfiable => refusal(
            StatusCode::RANGE_NOT_SATISFIABLE,
            &format!("there are only {length} bytes here"),
        )
        .with(CONTENT_RANGE, value(format!("bytes */{length}"))),
        Asked::Part(part) => {
            let (first, last) = (*part.start(), *part.end());
            let (mut head, body) = reply.into_parts();
            head.status = StatusCode::PARTIAL_CONTENT;
            Response::from_parts(head, body.part(part)).with(
                CONTENT_RANGE,
                value(format!("bytes {first}-{last}/{length}")),
            )
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn document() -> Reply {
        text("0123456789")
            .cached("max-age=60")
            .with(ETAG, HeaderValue::from_static("\"one\""))
            .with(
                LAST_MODIFIED,
                HeaderValue::from_static("Mon, 01 Jan 2024 00:00:00 GMT"),
            )
    }

    fn fields(list: &[(HeaderName, &'static str)]) -> HeaderMap {
        list.iter()
            .map(|(name, value)| (name.clone(), HeaderValue::from_static(value)))
            .collect()
    }

    #[test]
    fn preconditions_and_ranges_decide_the_status() {
        let older = "Sun, 31 Dec 2023 23:59:59 GMT";
        let same = "Mon, 01 Jan 2024 00:00:00 GMT";
        let cases = [
            (vec![], 200),
            (vec![(IF_NONE_MATCH, "\"one\"")], 304),
            (vec![(IF_NONE_MATCH, "\"two\", W/\"one\"")], 304),
            (vec![(IF_NONE_MATCH, "*")], 304),
            (vec![(IF_NONE_MATCH, "\"two\"")], 200),
            (vec![(IF_MODIFIED_SINCE, same)], 304),
            (vec![(IF_MODIFIED_SINCE, older)], 200),
            (vec![(IF_MODIFIED_SINCE, "yesterday")], 200),
            // The tag has the last word.
            (
                vec![(IF_NONE_MATCH, "\"two\""), (IF_MODIFIED_SINCE, same)],
                200,
            ),
            (vec![(RANGE, "bytes=0-3")], 206),
            (vec![(RANGE, "bytes=11-")], 416),
            (vec![(RANGE, "bytes=0-3"), (IF_RANGE, "\"one\"")], 206),
            (vec![(RANGE, "bytes=0-3"), (IF_RANGE, "W/\"one\"")], 200),
            (vec![(RANGE, "bytes=0-3"), (IF_RANGE, "\"two\"")], 200),
            (vec![(RANGE, "bytes=99-"), (IF_NONE_MATCH, "\"one\"")], 304),
        ];
        for (asked, status) in cases {
            let reply = conditional(&Method::GET, &fields(&asked), document());
            assert_eq!(reply.status(), status, "{asked:?}");
        }
    }

    #[test]
    fn head_ignores_ranges_and_unsafe_methods_ignore_everything() {
        let asked = fields(&[(RANGE, "bytes=0-3")]);
        assert_eq!(conditional(&Method::HEAD, &asked, document()).status(), 200);
        let asked = fields(&[(IF_NONE_MATCH, "*")]);
        assert_eq!(conditional(&Method::POST, &asked, document()).status(), 200);
    }

    #[test]
    fn a_part_says_where_it_belongs() {
        let asked = fields(&[(RANGE, "bytes=-4")]);
        let reply = conditional(&Method::GET, &asked, document());
        assert_eq!(reply.headers()[CONTENT_RANGE], "bytes 7-10/11");
        assert_eq!(reply.body().size_hint().exact(), Some(4));
    }
}
