//! Which part of a response a conditional or range request gets.

use http::header::{CONTENT_LENGTH, CONTENT_RANGE};
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use http_cache::{Precondition, RangeOutcome};

use crate::answer::Head;
use crate::request::Request;

pub(super) fn is_bodyless(status: StatusCode) -> bool {
    matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED)
}

/// Which part of a 200 a conditional or range request gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    Whole,
    NotModified,
    Failed,
    Range { first: u64, last: u64 },
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
        RangeOutcome::Unsatisfiable => Part::Unsatisfiable,
    }
}

/// The head of a part, and the bytes of the body that go with it.
pub(super) fn part_head(
    part: Part,
    mut fields: HeaderMap,
    length: Option<u64>,
) -> (Head, Option<(u64, u64)>) {
    let (status, bounds) = match part {
        Part::Whole => (StatusCode::OK, None),
        Part::NotModified => {
            fields = http_cache::fields_for_304(&fields);
            (StatusCode::NOT_MODIFIED, None)
        }
        Part::Failed => {
            fields.insert(CONTENT_LENGTH, HeaderValue::from(0));
            (StatusCode::PRECONDITION_FAILED, None)
        }
        Part::Range { first, last } => {
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
