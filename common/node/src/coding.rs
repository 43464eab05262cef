//! Compressing at an edge what came plain, where the site says so.
//!
//! A response that may be compressed varies by `Accept-Encoding` from then on, so
//! its coded and its plain form are two variants, each filled and stored on its own
//! (the plain one is a hit at the upper tier). Its validators tell them apart: a
//! strong entity tag ends in `~gzip` (RFC 9110 §8.8.1: strong validators differ
//! between codings), and towards the next hop the ending is taken off again.

use std::io::Write;

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use http::header::{
    ACCEPT_ENCODING, ACCEPT_RANGES, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE,
    ETAG, VARY,
};
use http::{HeaderMap, HeaderValue, StatusCode};

/// Below this a coded body is hardly smaller, and its head is larger.
const BYTES_MIN: u64 = 512;

/// The ending of an entity tag of ours, its closing quote included. Origins that
/// compress have endings of their own, and not this one.
const TAG_ENDING: &[u8] = b"~gzip\"";

/// What becomes of a response at an edge that compresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Choice {
    /// It stays as it is, and does not vary for our sake.
    Untouched,
    /// It could have been compressed, but this visitor takes it plain.
    Plain,
    /// It is compressed.
    Gzip,
}

/// What becomes of a response to a GET with those request fields.
pub(crate) fn choose(
    request_fields: &HeaderMap,
    status: StatusCode,
    fields: &HeaderMap,
    length: Option<u64>,
) -> Choice {
    let may = status == StatusCode::OK
        && !fields.contains_key(CONTENT_ENCODING)
        && length.is_none_or(|length| length >= BYTES_MIN)
        && is_compressible(fields)
        && !says(fields, b"no-transform");
    if !may {
        Choice::Untouched
    } else if accepts_gzip(request_fields) {
        Choice::Gzip
    } else {
        Choice::Plain
    }
}

/// Rewrites the fields of a response as chosen.
pub(crate) fn apply(choice: Choice, fields: &mut HeaderMap) {
    if choice == Choice::Untouched {
        return;
    }
    if !varies_by_coding(fields) {
        fields.append(VARY, HeaderValue::from_static("accept-encoding"));
    }
    if choice == Choice::Gzip {
        fields.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        fields.remove(CONTENT_LENGTH);
        fields.remove(ACCEPT_RANGES);
        if let Some(tag) = fields.get(ETAG).and_then(coded_tag) {
            fields.insert(ETAG, tag);
        }
    }
}

/// Rewrites a 304 that was asked for `stored`, so that it confirms the form that is
/// stored and takes nothing from its `Vary`.
pub(crate) fn apply_to_304(stored: &HeaderMap, fields: &mut HeaderMap) {
    let coded = fields.get(ETAG).and_then(coded_tag);
    if let Some(coded) = coded
        && stored.get(ETAG) == Some(&coded)
    {
        fields.insert(ETAG, coded);
    }
    if varies_by_coding(stored) && fields.contains_key(VARY) && !varies_by_coding(fields) {
        fields.append(VARY, HeaderValue::from_static("accept-encoding"));
    }
}

/// The entity tag of the coded form of what has this tag. A weak one may stay: it
/// says "equivalent", and that they are (RFC 9110 §8.8.1).
fn coded_tag(tag: &HeaderValue) -> Option<HeaderValue> {
    let inside = tag.as_bytes().strip_suffix(b"\"")?;
    if inside.starts_with(b"W/") || !inside.starts_with(b"\"") {
        return None;
    }
    HeaderValue::try_from([inside, TAG_ENDING].concat()).ok()
}

/// The entity tag that the next hop knows a response of ours by.
pub(crate) fn plain_tag(tag: &HeaderValue) -> Option<HeaderValue> {
    let inside = tag.as_bytes().strip_suffix(TAG_ENDING)?;
    HeaderValue::try_from([inside, b"\""].concat()).ok()
}

/// Compresses a body as it comes: what went in comes out without waiting for more.
#[derive(Debug)]
pub(crate) struct Encoder(GzEncoder<Vec<u8>>);

impl Encoder {
    pub(crate) fn new() -> Self {
        Self(GzEncoder::new(Vec::new(), Compression::default()))
    }

    /// The coded form of a part. None where the library fails, which for a buffer
    /// in memory it does not.
    pub(crate) fn part(&mut self, plain: &[u8]) -> Option<Bytes> {
        self.0.write_all(plain).ok()?;
        self.0.flush().ok()?;
        Some(Bytes::from(std::mem::take(self.0.get_mut())))
    }

    /// The end of the coded form.
    pub(crate) fn end(self) -> Option<Bytes> {
        self.0.finish().ok().map(Bytes::from)
    }
}

fn is_compressible(fields: &HeaderMap) -> bool {
    const KINDS: [&str; 8] = [
        "application/javascript",
        "application/json",
        "application/manifest+json",
        "application/wasm",
        "application/xml",
        "application/rss+xml",
        "image/svg+xml",
        "application/ld+json",
    ];
    let Some(kind) = fields.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()) else {
        return false;
    };
    let kind = kind.split(';').next().unwrap_or(kind).trim();
    // Events are read as they come, and a client may time each; leave them alone.
    let text = kind.len() > 5
        && kind.is_char_boundary(5)
        && kind[..5].eq_ignore_ascii_case("text/")
        && !kind.eq_ignore_ascii_case("text/event-stream");
    text || KINDS.iter().any(|known| kind.eq_ignore_ascii_case(known))
}

fn says(fields: &HeaderMap, directive: &[u8]) -> bool {
    fields
        .get_all(CACHE_CONTROL)
        .iter()
        .flat_map(|value| value.as_bytes().split(|byte| *byte == b','))
        .any(|member| member.trim_ascii().eq_ignore_ascii_case(directive))
}

fn varies_by_coding(fields: &HeaderMap) -> bool {
    fields
        .get_all(VARY)
        .iter()
        .flat_map(|value| value.as_bytes().split(|byte| *byte == b','))
        .map(<[u8]>::trim_ascii)
        .any(|name| name == b"*" || name.eq_ignore_ascii_case(b"accept-encoding"))
}

/// RFC 9110 §12.5.3: named with a weight above 0, or covered by `*`.
fn accepts_gzip(fields: &HeaderMap) -> bool {
    let mut by_star = false;
    for value in fields.get_all(ACCEPT_ENCODING) {
        for member in value.as_bytes().split(|byte| *byte == b',') {
            let mut parts = member.split(|byte| *byte == b';').map(<[u8]>::trim_ascii);
            let coding = parts.next().unwrap_or_default();
            let refused = parts.any(is_zero_weight);
            if coding.eq_ignore_ascii_case(b"gzip") || coding.eq_ignore_ascii_case(b"x-gzip") {
                return !refused;
            }
            if coding == b"*" {
                by_star = !refused;
            }
        }
    }
    by_star
}

fn is_zero_weight(parameter: &[u8]) -> bool {
    let Some(weight) = parameter
        .strip_prefix(b"q=")
        .or_else(|| parameter.strip_prefix(b"Q="))
    else {
        return false;
    };
    !weight.is_empty() && weight.iter().all(|byte| matches!(byte, b'0' | b'.'))
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use flate2::read::GzDecoder;

    use super::*;

    fn fields(lines: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for (name, value) in lines {
            map.append(*name, value.parse().unwrap());
        }
        map
    }

    #[test]
    fn only_what_gains_and_is_wanted_is_compressed() {
        let gzip = ("accept-encoding", "br, gzip;q=0.5");
        let html = ("content-type", "text/html; charset=utf-8");
        for (request, response, status, length, choice) in [
            (vec![gzip], vec![html], 200, Some(512), Choice::Gzip),
            (vec![gzip], vec![html], 200, Some(511), Choice::Untouched),
            (vec![gzip], vec![html], 200, None, Choice::Gzip),
            (vec![gzip], vec![html], 404, None, Choice::Untouched),
            (vec![], vec![html], 200, None, Choice::Plain),
            (
                vec![("accept-encoding", "gzip;q=0, *")],
                vec![html],
                200,
                None,
                Choice::Plain,
            ),
            (
                vec![("accept-encoding", "*")],
                vec![html],
                200,
                None,
                Choice::Gzip,
            ),
            (
                vec![("accept-encoding", "*;q=0.0")],
                vec![html],
                200,
                None,
                Choice::Plain,
            ),
            (
                vec![gzip],
                vec![html, ("content-encoding", "br")],
                200,
                None,
                Choice::Untouched,
            ),
            (
                vec![gzip],
                vec![html, ("cache-control", "No-Transform")],
                200,
                None,
                Choice::Untouched,
            ),
            (
                vec![gzip],
                vec![("content-type", "image/png")],
                200,
                None,
                Choice::Untouched,
            ),
            (
                vec![gzip],
                vec![("content-type", "text/event-stream")],
                200,
                None,
                Choice::Untouched,
            ),
            (vec![gzip], vec![], 200, None, Choice::Untouched),
        ] {
            let status = StatusCode::from_u16(status).unwrap();
            let got = choose(&fields(&request), status, &fields(&response), length);
            assert_eq!(got, choice, "{request:?} {response:?}");
        }
    }

    #[test]
    fn both_forms_vary_and_have_their_own_validators() {
        let plain = fields(&[
            ("etag", "\"a\""),
            ("content-length", "900"),
            ("vary", "Cookie"),
        ]);
        let mut coded = plain.clone();
        apply(Choice::Gzip, &mut coded);
        assert_eq!(coded.get(ETAG).unwrap(), "\"a~gzip\"");
        assert!(!coded.contains_key(CONTENT_LENGTH));
        let back = plain_tag(coded.get(ETAG).unwrap());
        assert_eq!(back.unwrap(), "\"a\"");
        let mut left = plain.clone();
        apply(Choice::Plain, &mut left);
        assert_eq!(left.get(ETAG).unwrap(), "\"a\"");
        for form in [&coded, &left] {
            assert!(varies_by_coding(form));
        }
        let mut confirms = fields(&[("etag", "\"a\""), ("vary", "Cookie")]);
        apply_to_304(&coded, &mut confirms);
        assert_eq!(confirms.get(ETAG), coded.get(ETAG));
        assert!(varies_by_coding(&confirms));
        let mut other = fields(&[("etag", "\"b\"")]);
        apply_to_304(&coded, &mut other);
        assert_eq!(other.get(ETAG).unwrap(), "\"b\"");
        assert_eq!(coded_tag(&"W/\"a\"".parse().unwrap()), None);
        assert_eq!(plain_tag(&"\"a\"".parse().unwrap()), None);
    }

    #[test]
    fn parts_come_out_as_they_go_in() {
        let mut encoder = Encoder::new();
        let mut coded = encoder.part(b"hello ").unwrap().to_vec();
        let mut half = String::new();
        let mut decoder = GzDecoder::new(&coded[..]);
        let mut buf = [0; 6];
        decoder.read_exact(&mut buf).unwrap();
        assert_eq!(&buf, b"hello ");
        coded.extend(encoder.part(b"world").unwrap());
        coded.extend(encoder.end().unwrap());
        GzDecoder::new(&coded[..])
            .read_to_string(&mut half)
            .unwrap();
        assert_eq!(half, "hello world");
    }
}
