//! Single byte ranges (RFC 9110 §14), as a plain decision.

use std::ops::RangeInclusive;

/// What a `Range` field asks of a representation of known length.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Asked {
    /// Everything: no range, one we do not understand, or several at once, which
    /// a server may answer whole (RFC 9110 §14.2).
    Whole,
    /// These bytes, both ends included.
    Part(RangeInclusive<u64>),
    /// Bytes that do not exist: 416.
    Unsatisfiable,
}

/// Reads `field`, the value of `Range`, against a body of `length` bytes.
pub(super) fn asked(field: Option<&str>, length: u64) -> Asked {
    let Some((unit, spec)) = field.and_then(|field| field.split_once('=')) else {
        return Asked::Whole;
    };
    let Some((first, last)) = spec.trim().split_once('-') else {
        return Asked::Whole;
    };
    if !unit.trim().eq_ignore_ascii_case("bytes") || spec.contains(',') {
        return Asked::Whole;
    }
    match (number(first), number(last)) {
        (Some(first), Some(last)) if first > last => Asked::Whole,
        (Some(first), Some(_)) if first >= length => Asked::Unsatisfiable,
        (Some(first), Some(last)) => Asked::Part(first..=last.min(length - 1)),
        (Some(_), None) if !last.is_empty() => Asked::Whole,
        (Some(first), None) if first >= length => Asked::Unsatisfiable,
        (Some(first), None) => Asked::Part(first..=length - 1),
        // `-0` asks for no byte at all, and an empty body has none to give.
        (None, Some(count)) if first.is_empty() && (count == 0 || length == 0) => {
            Asked::Unsatisfiable
        }
        (None, Some(count)) if first.is_empty() => {
            Asked::Part(length.saturating_sub(count)..=length - 1)
        }
        _ => Asked::Whole,
    }
}

/// Digits only: `u64::from_str` would take a plus sign too.
fn number(text: &str) -> Option<u64> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    // More digits than fit are a position beyond every body, not a syntax error.
    digits.then(|| text.parse().unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_read_as_rfc_9110_says() {
        let cases = [
            (None, 10, Asked::Whole),
            (Some("bytes=0-0"), 10, Asked::Part(0..=0)),
            (Some("bytes=2-5"), 10, Asked::Part(2..=5)),
            (Some("BYTES=2-5"), 10, Asked::Part(2..=5)),
            (Some("bytes=2-"), 10, Asked::Part(2..=9)),
            (Some("bytes=9-"), 10, Asked::Part(9..=9)),
            (Some("bytes=10-"), 10, Asked::Unsatisfiable),
            (
                Some("bytes=8-99999999999999999999999"),
                10,
                Asked::Part(8..=9),
            ),
            (
                Some("bytes=99999999999999999999999-"),
                10,
                Asked::Unsatisfiable,
            ),
            (Some("bytes=-3"), 10, Asked::Part(7..=9)),
            (Some("bytes=-30"), 10, Asked::Part(0..=9)),
            (Some("bytes=-0"), 10, Asked::Unsatisfiable),
            (Some("bytes=0-0"), 0, Asked::Unsatisfiable),
            (Some("bytes=0-"), 0, Asked::Unsatisfiable),
            (Some("bytes=-1"), 0, Asked::Unsatisfiable),
            (Some("bytes=5-2"), 10, Asked::Whole),
            (Some("bytes=0-1,4-5"), 10, Asked::Whole),
            (Some("bytes=+1-2"), 10, Asked::Whole),
            (Some("bytes=1-x"), 10, Asked::Whole),
            (Some("bytes=x-1"), 10, Asked::Whole),
            (Some("bytes=-"), 10, Asked::Whole),
            (Some("bytes"), 10, Asked::Whole),
            (Some("lines=1-2"), 10, Asked::Whole),
        ];
        for (field, length, expected) in cases {
            assert_eq!(asked(field, length), expected, "{field:?} of {length}");
        }
    }
}
