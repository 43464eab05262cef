//! Parts of representations: what a 206 brought, what it can answer, and what may be
//! put together with it (RFC 9111 §3.3, §3.4, RFC 9110 §15.3.7).
//!
//! Invariants:
//! - A part is stored only where its 206 says in one voice which bytes it has: one
//!   readable `Content-Range` with a complete length, and a `Content-Length`, if any,
//!   that agrees with it.
//! - Bytes of two responses are put together under one strong validator, and never
//!   without.

use http::header::{CONTENT_LENGTH, CONTENT_RANGE, ETAG, LAST_MODIFIED, RANGE};
use http::{HeaderMap, HeaderValue};

use crate::list::{number, trim};
use crate::range::{if_range, sole_range};
use crate::response::ResponseFacts;

/// Which bytes of a representation a part has: `first <= last < complete_length`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct PartBounds {
    /// Position of the first byte.
    pub first: u64,
    /// Position of the last byte.
    pub last: u64,
    /// Bytes of the whole representation.
    pub complete_length: u64,
}

impl PartBounds {
    /// Which bytes a 206 with these fields brings (RFC 9110 §14.4). `None` where it does
    /// not say, says that nobody knows the complete length, or contradicts itself.
    pub fn of(fields: &HeaderMap) -> Option<Self> {
        let mut lines = fields.get_all(CONTENT_RANGE).into_iter();
        let (Some(line), None) = (lines.next(), lines.next()) else {
            return None;
        };
        let text = line.as_bytes();
        let (unit, text) = text.split_at_checked(text.iter().position(|b| *b == b' ')?)?;
        if !unit.eq_ignore_ascii_case(b"bytes") {
            return None;
        }
        let (range, length) = text.split_at_checked(text.iter().position(|b| *b == b'/')?)?;
        let range = trim(range);
        let (first, last) = range.split_at_checked(range.iter().position(|b| *b == b'-')?)?;
        let bounds = Self {
            first: number(first)?,
            last: number(last.get(1..)?)?,
            complete_length: number(length.get(1..)?)?,
        };
        let sound = bounds.first <= bounds.last && bounds.last < bounds.complete_length;
        let agrees = fields
            .get(CONTENT_LENGTH)
            .is_none_or(|length| number(trim(length.as_bytes())) == Some(bounds.length()));
        (sound && agrees).then_some(bounds)
    }

    /// How many bytes the part has; at least 1.
    pub fn length(&self) -> u64 {
        (self.last - self.first).saturating_add(1)
    }

    /// The bytes that a request asks for, if this part has all of them: then it may be
    /// used to answer (RFC 9111 §3.3). `response` is the stored 206.
    pub fn range_within(
        &self,
        request_fields: &HeaderMap,
        response: &ResponseFacts,
    ) -> Option<(u64, u64)> {
        if !if_range(request_fields, response) {
            return None;
        }
        let (first, last) = sole_range(request_fields, self.complete_length)?;
        (self.first <= first && last <= self.last).then_some((first, last))
    }

    /// The one range that is missing for the whole; `None` where the part lies in the
    /// middle, so that two are.
    pub fn rest(&self) -> Option<Rest> {
        let end = self.complete_length - 1;
        match (self.first == 0, self.last == end) {
            (true, false) => Some(Rest::Behind {
                first: self.last + 1,
            }),
            (false, true) => Some(Rest::Before {
                last: self.first - 1,
            }),
            _ => None,
        }
    }

    /// Whether these are exactly the bytes that `part` misses.
    pub fn completes(&self, part: &Self) -> bool {
        let continues = |one: &Self, other: &Self| {
            one.first == 0 && one.last + 1 == other.first && other.last + 1 == other.complete_length
        };
        self.complete_length == part.complete_length
            && (continues(part, self) || continues(self, part))
    }
}

/// What a part misses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Rest {
    /// Everything from this position on.
    Behind {
        /// The first byte that is missing.
        first: u64,
    },
    /// Everything up to this position.
    Before {
        /// The last byte that is missing.
        last: u64,
    },
}

impl Rest {
    /// The `Range` that asks for it (RFC 9110 §14.1.2).
    pub fn range(&self) -> HeaderValue {
        let text = match self {
            Self::Behind { first } => format!("bytes={first}-"),
            Self::Before { last } => format!("bytes=0-{last}"),
        };
        HeaderValue::try_from(text).expect("digits and punctuation are a field value")
    }
}

/// Whether a response with these fields is of the very representation that is stored:
/// it names the same strong validator (RFC 9110 §15.3.7.3, RFC 9111 §3.4).
pub fn same_representation(stored: &ResponseFacts, fields: &HeaderMap) -> bool {
    match stored.strong_validator() {
        None => false,
        Some(ours) if stored.etag() == Some(ours) => fields.get(ETAG) == Some(ours),
        Some(ours) => !fields.contains_key(ETAG) && fields.get(LAST_MODIFIED) == Some(ours),
    }
}

/// Whether a request asks for the end of a representation, however long that is:
/// `bytes=-N`, and nothing else.
pub fn asks_for_the_end(request_fields: &HeaderMap) -> bool {
    let mut lines = request_fields.get_all(RANGE).into_iter();
    let (Some(line), None) = (lines.next(), lines.next()) else {
        return false;
    };
    let value = line.as_bytes();
    value
        .split_at_checked(7)
        .filter(|(unit, _)| unit.eq_ignore_ascii_case(b"bytes=-"))
        .and_then(|(_, digits)| number(digits))
        .is_some_and(|length| length > 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cases::{Lines, fields, stored};

    fn bounds(first: u64, last: u64, complete_length: u64) -> PartBounds {
        PartBounds {
            first,
            last,
            complete_length,
        }
    }

    #[test]
    fn a_part_says_in_one_voice_what_it_is() {
        let table: &[(Lines<'_>, Option<PartBounds>)] = &[
            (&[("content-range", "bytes 0-4/10")], Some(bounds(0, 4, 10))),
            (&[("content-range", "BYTES 9-9/10")], Some(bounds(9, 9, 10))),
            (
                &[("content-range", "bytes 5-9/10"), ("content-length", "5")],
                Some(bounds(5, 9, 10)),
            ),
            (
                &[("content-range", "bytes 4-9/10"), ("content-length", "5")],
                None,
            ),
            (&[("content-range", "bytes 0-4/*")], None),
            (&[("content-range", "bytes */10")], None),
            (&[("content-range", "bytes 4-3/10")], None),
            (&[("content-range", "bytes 0-10/10")], None),
            (&[("content-range", "bytes 0-/10")], None),
            (&[("content-range", "bytes -4/10")], None),
            (&[("content-range", "bytes=0-4/10")], None),
            (&[("content-range", "lines 0-4/10")], None),
            (
                &[
                    ("content-range", "bytes 0-4/10"),
                    ("content-range", "bytes 0-4/10"),
                ],
                None,
            ),
            (
                &[(
                    "content-range",
                    "bytes 0-99999999999999999999999/99999999999999999999999",
                )],
                None,
            ),
            (&[], None),
        ];
        for (lines, expected) in table {
            assert_eq!(PartBounds::of(&fields(lines)), *expected, "{lines:?}");
        }
    }

    #[test]
    fn a_part_answers_what_lies_within() {
        let tagged: Lines<'_> = &[("etag", "\"a\"")];
        let table: &[(Lines<'_>, Option<(u64, u64)>)] = &[
            (&[("range", "bytes=4-8")], Some((4, 8))),
            (&[("range", "bytes=5-6")], Some((5, 6))),
            (&[("range", "bytes=3-8")], None),
            (&[("range", "bytes=4-9")], None),
            (&[("range", "bytes=4-")], None),
            (&[("range", "bytes=-1")], None),
            (&[("range", "bytes=5-6,8-8")], None),
            (&[("range", "bytes=10-")], None),
            (
                &[("range", "bytes=5-6"), ("if-range", "\"a\"")],
                Some((5, 6)),
            ),
            (&[("range", "bytes=5-6"), ("if-range", "\"b\"")], None),
            (&[], None),
        ];
        for (lines, expected) in table {
            assert_eq!(
                bounds(4, 8, 10).range_within(&fields(lines), &stored(206, tagged)),
                *expected,
                "{lines:?}"
            );
        }
        let end = bounds(4, 9, 10);
        for (range, expected) in [("bytes=-3", Some((7, 9))), ("bytes=5-", Some((5, 9)))] {
            let asked = fields(&[("range", range)]);
            assert_eq!(
                end.range_within(&asked, &stored(206, tagged)),
                expected,
                "{range}"
            );
        }
    }

    #[test]
    fn a_part_knows_what_it_misses() {
        for (part, expected) in [
            (bounds(0, 4, 10), Some("bytes=5-")),
            (bounds(5, 9, 10), Some("bytes=0-4")),
            (bounds(1, 9, 10), Some("bytes=0-0")),
            (bounds(1, 8, 10), None),
            (bounds(0, 9, 10), None),
        ] {
            let rest = part.rest().map(|rest| rest.range());
            let rest = rest.as_ref().map(|range| range.to_str().unwrap());
            assert_eq!(rest, expected, "{part:?}");
        }
        for (one, other, expected) in [
            (bounds(0, 4, 10), bounds(5, 9, 10), true),
            (bounds(5, 9, 10), bounds(0, 4, 10), true),
            (bounds(0, 4, 10), bounds(4, 9, 10), false),
            (bounds(0, 4, 10), bounds(6, 9, 10), false),
            (bounds(0, 4, 10), bounds(5, 8, 10), false),
            (bounds(0, 4, 10), bounds(5, 10, 11), false),
            (bounds(1, 4, 10), bounds(5, 9, 10), false),
        ] {
            assert_eq!(other.completes(&one), expected, "{one:?} {other:?}");
        }
    }

    #[test]
    fn only_a_strong_validator_ties_two_responses() {
        const T10: &str = "Thu, 01 Jan 1970 00:00:10 GMT";
        const T30: &str = "Thu, 01 Jan 1970 00:00:30 GMT";
        let dated: Lines<'_> = &[("last-modified", T10), ("date", T30)];
        let table: &[(Lines<'_>, Lines<'_>, bool)] = &[
            (&[("etag", "\"a\"")], &[("etag", "\"a\"")], true),
            (&[("etag", "\"a\"")], &[("etag", "\"b\"")], false),
            (&[("etag", "\"a\"")], &[], false),
            (&[("etag", "W/\"a\"")], &[("etag", "W/\"a\"")], false),
            (dated, dated, true),
            (dated, &[("last-modified", T30)], false),
            (dated, &[("last-modified", T10), ("etag", "\"a\"")], false),
            (&[], &[], false),
        ];
        for (ours, theirs, expected) in table {
            let got = same_representation(&stored(206, ours), &fields(theirs));
            assert_eq!(got, *expected, "{ours:?} {theirs:?}");
        }
    }

    #[test]
    fn the_end_is_asked_for_without_knowing_the_length() {
        for (range, expected) in [
            ("bytes=-5", true),
            ("Bytes=-1", true),
            ("bytes=-0", false),
            ("bytes=-", false),
            ("bytes=-5,0-1", false),
            ("bytes=5-", false),
            ("bytes=0-5", false),
            ("bytes", false),
        ] {
            let asked = fields(&[("range", range)]);
            assert_eq!(asks_for_the_end(&asked), expected, "{range}");
        }
    }
}
