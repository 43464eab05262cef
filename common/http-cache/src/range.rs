//! Byte ranges out of whole objects, one or several (RFC 9110 §14).

use http::header::{IF_RANGE, RANGE};
use http::{HeaderMap, HeaderValue, StatusCode};
use smallvec::SmallVec;

use crate::date;
use crate::entity_tag::strong_eq;
use crate::list::{members, number, trim};
use crate::response::ResponseFacts;

/// Ranges that one answer carries at most. RFC 9110 §17.15: each costs a head of its
/// own, so that many small ones would make an answer much larger than what it is
/// about. Readers of documents ask for a handful at a time.
pub const RANGES_MAX: usize = 16;

/// First and last position of each of several ranges.
pub type Ranges = SmallVec<[(u64, u64); 4]>;

/// What part of a stored response a request is answered with.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum RangeOutcome {
    /// All of it, as if no range had been asked for.
    Whole,
    /// A part, with 206.
    Partial {
        /// Position of the first byte.
        first: u64,
        /// Position of the last byte: `first <= last < complete_length`.
        last: u64,
    },
    /// Several parts, in the order they were asked for, with 206 and
    /// `multipart/byteranges`: two to [`RANGES_MAX`], none touching another.
    Several(Ranges),
    /// Nothing of it, with 416.
    Unsatisfiable,
}

/// The range that a request asks of a response of `complete_length` bytes, after its
/// other preconditions have been found to hold (RFC 9110 §13.2.2, step 5).
///
/// The caller asks for GET alone; other methods define no ranges (§14.2). Other units
/// and what cannot be read give [`RangeOutcome::Whole`], as a server may always ignore
/// `Range`; so do more than [`RANGES_MAX`] ranges and those that overlap, which no
/// honest client sends (§14.2).
pub fn range(
    request_fields: &HeaderMap,
    response: &ResponseFacts,
    complete_length: u64,
) -> RangeOutcome {
    let mut lines = request_fields.get_all(RANGE).into_iter();
    let (Some(line), None) = (lines.next(), lines.next()) else {
        return RangeOutcome::Whole;
    };
    // §14.2: Range only changes an answer that would be 200.
    if response.status() != StatusCode::OK || !if_range(request_fields, response) {
        return RangeOutcome::Whole;
    }
    requested(line.as_bytes(), complete_length).unwrap_or(RangeOutcome::Whole)
}

/// Whether `If-Range` lets `Range` count (RFC 9110 §13.1.5): it is absent, or its one
/// validator is the response's, strongly compared.
pub(crate) fn if_range(request_fields: &HeaderMap, response: &ResponseFacts) -> bool {
    let mut lines = request_fields.get_all(IF_RANGE).into_iter();
    let Some(line) = lines.next() else {
        return true;
    };
    let validator = line.as_bytes();
    if lines.next().is_some() {
        return false;
    }
    match date::parse(validator) {
        // A date must be exactly Last-Modified, and strong (§8.8.2.2).
        Some(ms) => response.last_modified_ms() == Some(ms) && response.last_modified_is_strong(),
        None => response
            .etag()
            .is_some_and(|etag| strong_eq(validator, etag.as_bytes())),
    }
}

/// The bytes a request asks for, where it asks for one satisfiable range.
pub(crate) fn sole_range(request_fields: &HeaderMap, complete_length: u64) -> Option<(u64, u64)> {
    let mut lines = request_fields.get_all(RANGE).into_iter();
    let (Some(line), None) = (lines.next(), lines.next()) else {
        return None;
    };
    match requested(line.as_bytes(), complete_length)? {
        RangeOutcome::Partial { first, last } => Some((first, last)),
        _ => None,
    }
}

/// Reads a set of ranges; `None` where it is invalid, or not worth an answer of parts.
fn requested(value: &[u8], complete_length: u64) -> Option<RangeOutcome> {
    let equals = value.iter().position(|b| *b == b'=')?;
    let (unit, set) = value.split_at_checked(equals)?;
    // §14.1: range units are case-insensitive.
    if !unit.eq_ignore_ascii_case(b"bytes") {
        return None;
    }
    let mut ranges = members(set.get(1..)?);
    let only = one(ranges.next()?, complete_length)?;
    let Some(second) = ranges.next() else {
        return Some(only);
    };
    let mut satisfiable = Ranges::new();
    let rest = std::iter::once(second).chain(ranges);
    let outcomes = rest.map(|range| one(range, complete_length));
    for (at, outcome) in std::iter::once(Some(only)).chain(outcomes).enumerate() {
        if at >= RANGES_MAX {
            return None;
        }
        match outcome? {
            RangeOutcome::Partial { first, last } => satisfiable.push((first, last)),
            // §14.1.2: a set is satisfiable if any of its ranges is.
            RangeOutcome::Unsatisfiable => {}
            RangeOutcome::Whole | RangeOutcome::Several(_) => return None,
        }
    }
    match satisfiable.as_slice() {
        [] => Some(RangeOutcome::Unsatisfiable),
        // §15.3.7.2: where only one is left, it may be sent as if asked for alone.
        [(first, last)] => Some(RangeOutcome::Partial {
            first: *first,
            last: *last,
        }),
        several if any_touch(several) => None,
        _ => Some(RangeOutcome::Several(satisfiable)),
    }
}

/// Whether two ranges overlap, or follow each other without a gap.
fn any_touch(ranges: &[(u64, u64)]) -> bool {
    ranges.iter().enumerate().any(|(at, (first, last))| {
        ranges.iter().skip(at + 1).any(|(other_first, other_last)| {
            *first <= other_last.saturating_add(1) && *other_first <= last.saturating_add(1)
        })
    })
}

/// Reads one range of a set.
fn one(range: &[u8], complete_length: u64) -> Option<RangeOutcome> {
    let dash = range.iter().position(|b| *b == b'-')?;
    let (from, to) = range.split_at_checked(dash)?;
    let to = to.get(1..)?;
    if trim(from) != from || trim(to) != to {
        return None;
    }
    if from.is_empty() {
        return Some(suffix(number(to)?, complete_length));
    }
    let first = number(from)?;
    let last = if to.is_empty() { u64::MAX } else { number(to)? };
    // §14.1.1: a last position before the first is invalid, not unsatisfiable.
    if last < first {
        return None;
    }
    if first >= complete_length {
        return Some(RangeOutcome::Unsatisfiable);
    }
    Some(RangeOutcome::Partial {
        first,
        last: last.min(complete_length - 1),
    })
}

/// The last `length` bytes, or all where there are fewer (RFC 9110 §14.1.2).
fn suffix(length: u64, complete_length: u64) -> RangeOutcome {
    match (length, complete_length) {
        (0, _) => RangeOutcome::Unsatisfiable,
        // Satisfiable, says §14.1.2, but Content-Range cannot say "no bytes".
        (_, 0) => RangeOutcome::Whole,
        _ => RangeOutcome::Partial {
            first: complete_length.saturating_sub(length),
            last: complete_length - 1,
        },
    }
}

/// `Content-Range` of a 206: bytes `first` to `last` of `complete_length`
/// (RFC 9110 §14.4).
pub fn content_range(first: u64, last: u64, complete_length: u64) -> HeaderValue {
    ascii(format!("bytes {first}-{last}/{complete_length}"))
}

/// `Content-Range` of a 416 (RFC 9110 §14.4).
pub fn content_range_unsatisfied(complete_length: u64) -> HeaderValue {
    ascii(format!("bytes */{complete_length}"))
}

fn ascii(text: String) -> HeaderValue {
    HeaderValue::try_from(text).expect("digits and punctuation are a field value")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cases::{Lines, fields, stored};

    #[test]
    fn ranges_of_ten_bytes() {
        use RangeOutcome::*;
        let part = |first, last| Partial { first, last };
        let table = [
            ("bytes=0-0", part(0, 0)),
            ("bytes=0-1", part(0, 1)),
            ("bytes=9-9", part(9, 9)),
            ("bytes=1-", part(1, 9)),
            ("bytes=0-", part(0, 9)),
            ("bytes=5-99", part(5, 9)),
            ("bytes=5-99999999999999999999999999", part(5, 9)),
            ("bytes=-1", part(9, 9)),
            ("bytes=-10", part(0, 9)),
            ("bytes=-11", part(0, 9)),
            ("bytes=-99999999999999999999999999", part(0, 9)),
            ("BYTES=0-1", part(0, 1)),
            ("bytes= 0-1 ,", part(0, 1)),
            ("bytes=10-", Unsatisfiable),
            ("bytes=10-20", Unsatisfiable),
            ("bytes=99999999999999999999999999-", Unsatisfiable),
            ("bytes=-0", Unsatisfiable),
            ("bytes=2-1", Whole),
            (
                "bytes=0-1,3-4",
                Several(Ranges::from_slice(&[(0, 1), (3, 4)])),
            ),
            (
                "bytes=3-4, 0-1",
                Several(Ranges::from_slice(&[(3, 4), (0, 1)])),
            ),
            (
                "bytes=0-0,-1",
                Several(Ranges::from_slice(&[(0, 0), (9, 9)])),
            ),
            ("bytes=0-1,10-11", part(0, 1)),
            ("bytes=10-11,-0", Unsatisfiable),
            ("bytes=0-1,1-2", Whole),
            ("bytes=0-1,2-3", Whole),
            ("bytes=2-3,0-1", Whole),
            ("bytes=0-,5-6", Whole),
            ("bytes=0-1,3-2", Whole),
            ("bytes=0-1,x", Whole),
            ("bytes=", Whole),
            ("bytes=-", Whole),
            ("bytes=a-b", Whole),
            ("bytes=0 - 1", Whole),
            ("bytes=0--1", Whole),
            ("bytes=1", Whole),
            ("bytes 0-1", Whole),
            ("lines=0-1", Whole),
            ("", Whole),
        ];
        let response = stored(200, &[]);
        for (value, expected) in table {
            assert_eq!(
                range(&fields(&[("range", value)]), &response, 10),
                expected,
                "{value}"
            );
        }
        assert_eq!(range(&fields(&[]), &response, 10), Whole);
        assert_eq!(
            range(
                &fields(&[("range", "bytes=0-1"), ("range", "bytes=0-1")]),
                &response,
                10
            ),
            Whole
        );
        assert_eq!(
            range(&fields(&[("range", "bytes=0-1")]), &stored(404, &[]), 10),
            Whole
        );
    }

    #[test]
    fn several_ranges_are_counted() {
        let ask = |count: usize| {
            let ranges: Vec<String> = (0..count).map(|at| format!("{0}-{0}", at * 2)).collect();
            let value = format!("bytes={}", ranges.join(","));
            range(&fields(&[("range", &value)]), &stored(200, &[]), 1000)
        };
        assert!(
            matches!(ask(RANGES_MAX), RangeOutcome::Several(ranges) if ranges.len() == RANGES_MAX)
        );
        assert_eq!(ask(RANGES_MAX + 1), RangeOutcome::Whole);
    }

    #[test]
    fn ranges_of_nothing() {
        for (value, expected) in [
            ("bytes=0-", RangeOutcome::Unsatisfiable),
            ("bytes=-1", RangeOutcome::Whole),
            ("bytes=-0", RangeOutcome::Unsatisfiable),
        ] {
            assert_eq!(
                range(&fields(&[("range", value)]), &stored(200, &[]), 0),
                expected,
                "{value}"
            );
        }
        let huge = range(
            &fields(&[("range", "bytes=-1")]),
            &stored(200, &[]),
            u64::MAX,
        );
        assert_eq!(
            huge,
            RangeOutcome::Partial {
                first: u64::MAX - 1,
                last: u64::MAX - 1
            }
        );
    }

    #[test]
    fn if_range_compares_strongly() {
        const T10: &str = "Thu, 01 Jan 1970 00:00:10 GMT";
        const T11: &str = "Thu, 01 Jan 1970 00:00:11 GMT";
        let tagged: Lines<'_> = &[("etag", "\"a\"")];
        let weak: Lines<'_> = &[("etag", "W/\"a\"")];
        let dated: Lines<'_> = &[("last-modified", T10), ("date", T11)];
        let recent: Lines<'_> = &[("last-modified", T10), ("date", T10)];
        let table: &[(Lines<'_>, &str, bool)] = &[
            (tagged, "\"a\"", true),
            (tagged, "\"b\"", false),
            (tagged, "W/\"a\"", false),
            (weak, "W/\"a\"", false),
            (tagged, "\"b\", \"a\"", false),
            (tagged, "*", false),
            (dated, T10, true),
            (dated, T11, false),
            (recent, T10, false),
            (tagged, T10, false),
            (dated, "\"a\"", false),
        ];
        for (response, validator, partial) in table {
            let request = fields(&[("range", "bytes=0-1"), ("if-range", validator)]);
            let got = range(&request, &stored(200, response), 10);
            assert_eq!(
                got != RangeOutcome::Whole,
                *partial,
                "{validator} {response:?}"
            );
        }
        let twice = fields(&[
            ("range", "bytes=0-1"),
            ("if-range", "\"a\""),
            ("if-range", "\"a\""),
        ]);
        assert_eq!(range(&twice, &stored(200, tagged), 10), RangeOutcome::Whole);
    }

    #[test]
    fn content_range_is_written() {
        assert_eq!(content_range(0, 1, 10), "bytes 0-1/10");
        assert_eq!(content_range_unsatisfied(10), "bytes */10");
    }
}
