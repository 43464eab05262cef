//! Which part of a response a conditional or range request gets.

use std::fmt::Write as _;

use bytes::{BufMut, Bytes, BytesMut};
use http::header::{CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use http_cache::{Precondition, RangeOutcome, Ranges};

use crate::answer::{Body, Head};
use crate::ids;
use crate::request::Request;

/// Bytes of several ranges that one answer carries at most; where more is asked for,
/// the whole is sent. One range is a slice of what is stored, but several are copied
/// together, for each visitor anew.
const MULTIPART_BYTES_MAX: u64 = 4 * 1024 * 1024;

pub(super) fn is_bodyless(status: StatusCode) -> bool {
    matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED)
}

/// Which part of a 200 a conditional or range request gets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Part {
    Whole,
    NotModified,
    Failed,
    Range { first: u64, last: u64 },
    Several(Ranges),
    Unsatisfiable,
}

pub(super) fn select_part(
    request: &Request,
    facts: &http_cache::ResponseFacts,
    length: u64,
) -> Part {
    match http_cache::precondition(&request.method, &request.fields, facts) {
        Precondition::NotModified => return Part::NotModified,
        Precondition::Failed => return Part::Failed,
        Precondition::Proceed => {}
    }
    // RFC 9110 §14.2: Range is defined for GET alone.
    if request.method != Method::GET {
        return Part::Whole;
    }
    match http_cache::range(&request.fields, facts, length) {
        RangeOutcome::Whole => Part::Whole,
        RangeOutcome::Partial { first, last } => Part::Range { first, last },
        RangeOutcome::Several(ranges) if is_small(&ranges) => Part::Several(ranges),
        RangeOutcome::Several(_) => Part::Whole,
        RangeOutcome::Unsatisfiable => Part::Unsatisfiable,
    }
}

fn is_small(ranges: &Ranges) -> bool {
    let bytes = ranges
        .iter()
        .map(|(first, last)| last.saturating_sub(*first).saturating_add(1))
        .fold(0, u64::saturating_add);
    bytes <= MULTIPART_BYTES_MAX
}

/// Several parts of a whole body, as `multipart/byteranges` (RFC 9110 §14.6).
pub(super) fn several(ranges: &Ranges, mut fields: HeaderMap, whole: &Bytes) -> (Head, Body) {
    // Drawn at random, so that nobody can write it into a body beforehand.
    let boundary = format!("{:032x}", u128::from_be_bytes(ids::trace_id()));
    // §15.3.7.2: what each part is stands with the part, and not on top.
    let content_type = fields.remove(CONTENT_TYPE);
    let complete = whole.len() as u64;
    let mut body = BytesMut::new();
    for (first, last) in ranges {
        let bounds = usize::try_from(*first)
            .ok()
            .zip(usize::try_from(*last).ok());
        let Some(bytes) = bounds.and_then(|(first, last)| whole.get(first..=last)) else {
            continue;
        };
        let _ = write!(body, "\r\n--{boundary}\r\n");
        if let Some(content_type) = &content_type {
            body.put_slice(b"Content-Type: ");
            body.put_slice(content_type.as_bytes());
            body.put_slice(b"\r\n");
        }
        body.put_slice(b"Content-Range: ");
        body.put_slice(http_cache::content_range(*first, *last, complete).as_bytes());
        body.put_slice(b"\r\n\r\n");
        body.put_slice(bytes);
    }
    let _ = write!(body, "\r\n--{boundary}--\r\n");
    fields.insert(CONTENT_LENGTH, HeaderValue::from(body.len()));
    if let Ok(kind) = HeaderValue::try_from(format!("multipart/byteranges; boundary={boundary}")) {
        fields.insert(CONTENT_TYPE, kind);
    }
    let status = StatusCode::PARTIAL_CONTENT;
    (Head::Built { status, fields }, Body::Whole(body.freeze()))
}

/// The head of a part, and the bytes of the body that go with it.
pub(super) fn part_head(
    part: &Part,
    mut fields: HeaderMap,
    length: Option<u64>,
) -> (Head, Option<(u64, u64)>) {
    let (status, bounds) = match part {
        // Several are put together where the whole body is at hand.
        Part::Whole | Part::Several(_) => (StatusCode::OK, None),
        Part::NotModified => {
            fields = http_cache::fields_for_304(&fields);
            (StatusCode::NOT_MODIFIED, None)
        }
        Part::Failed => {
            fields.insert(CONTENT_LENGTH, HeaderValue::from(0));
            (StatusCode::PRECONDITION_FAILED, None)
        }
        &Part::Range { first, last } => {
            let complete = length.unwrap_or(last + 1);
            fields.insert(CONTENT_LENGTH, HeaderValue::from(last - first + 1));
            fields.insert(
                CONTENT_RANGE,
                http_cache::content_range(first, last, complete),
            );
            (StatusCode::PARTIAL_CONTENT, Some((first, last)))
        }
        Part::Unsatisfiable => {
            fields.insert(CONTENT_LENGTH, HeaderValue::from(0));
            let complete = length.unwrap_or(0);
            fields.insert(
                CONTENT_RANGE,
                http_cache::content_range_unsatisfied(complete),
            );
            (StatusCode::RANGE_NOT_SATISFIABLE, None)
        }
    };
    (Head::Built { status, fields }, bounds)
}
