//! The small grammar that caching fields share: comma lists, quoted strings,
//! directives with an argument, and delta-seconds (RFC 9110 §5.6, RFC 9111 §1.2.2).
//!
//! Every function is total and takes time linear in its input.

use http::HeaderMap;
use http::header::AsHeaderName;

/// The largest number of seconds that is told apart from "for ever".
// RFC 9111 §1.2.2: larger values are taken as 2^31.
const DELTA_SECONDS_MAX: u64 = 1 << 31;

/// Strips optional whitespace from both ends.
pub(crate) fn trim(value: &[u8]) -> &[u8] {
    let blank = |byte: &u8| matches!(byte, b' ' | b'\t');
    let start = value.iter().position(|b| !blank(b)).unwrap_or(value.len());
    let end = value
        .iter()
        .rposition(|b| !blank(b))
        .map_or(start, |i| i + 1);
    value.get(start..end).unwrap_or_default()
}

/// The members of one comma list, trimmed, empty ones left out.
///
/// A comma within a quoted string divides nothing. A quote that is never closed
/// does not quote: hiding the rest of the line behind it could hide a `no-store`.
pub(crate) fn members(value: &[u8]) -> Members<'_> {
    Members {
        rest: value,
        unbalanced: false,
    }
}

/// The members of all lines of one field, in order (RFC 9110 §5.3).
pub(crate) fn members_of<K: AsHeaderName>(
    fields: &HeaderMap,
    name: K,
) -> impl Iterator<Item = &[u8]> {
    fields
        .get_all(name)
        .into_iter()
        .flat_map(|line| members(line.as_bytes()))
}

/// Iterator of [`members`].
pub(crate) struct Members<'a> {
    rest: &'a [u8],
    /// A quote without its partner was met. Remembered, so that the rest of the
    /// line is not searched once per member.
    unbalanced: bool,
}

impl Members<'_> {
    /// Where the next dividing comma is, or the end.
    fn division(&mut self) -> usize {
        if !self.unbalanced {
            let (mut quoted, mut escaped) = (false, false);
            for (at, byte) in self.rest.iter().enumerate() {
                match byte {
                    _ if escaped => escaped = false,
                    b'\\' if quoted => escaped = true,
                    b'"' => quoted = !quoted,
                    b',' if !quoted => return at,
                    _ => {}
                }
            }
            self.unbalanced = quoted;
        }
        if self.unbalanced {
            return self
                .rest
                .iter()
                .position(|b| *b == b',')
                .unwrap_or(self.rest.len());
        }
        self.rest.len()
    }
}

impl<'a> Iterator for Members<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        while !self.rest.is_empty() {
            let (member, rest) = self.rest.split_at(self.division().min(self.rest.len()));
            self.rest = rest.get(1..).unwrap_or_default();
            let member = trim(member);
            if !member.is_empty() {
                return Some(member);
            }
        }
        None
    }
}

/// What follows the name of a cache directive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Argument<'a> {
    /// Nothing: `max-stale`.
    Absent,
    /// A token, or the inside of a quoted string: `max-age=60`, `max-age="60"`.
    // RFC 9111 §5.2: recipients accept both forms.
    Value(&'a [u8]),
    /// Something the grammar does not allow, such as space around the `=`.
    Malformed,
}

impl Argument<'_> {
    /// The argument as milliseconds. What cannot be read is no time at all.
    // RFC 9111 §4.2.1: caches are encouraged to consider responses with invalid
    // freshness information stale.
    pub(crate) fn delta_ms(self) -> u64 {
        match self {
            Argument::Value(value) => delta_ms(value).unwrap_or(0),
            Argument::Absent | Argument::Malformed => 0,
        }
    }
}

/// Divides one member into the directive's name and its argument.
pub(crate) fn directive(member: &[u8]) -> (&[u8], Argument<'_>) {
    let Some(at) = member.iter().position(|b| *b == b'=') else {
        return (member, Argument::Absent);
    };
    let (name, value) = member.split_at(at);
    let value = value.get(1..).unwrap_or_default();
    if trim(name) != name || trim(value) != value || value.is_empty() {
        return (trim(name), Argument::Malformed);
    }
    match value {
        [b'"', inside @ .., b'"'] => (name, Argument::Value(inside)),
        [b'"', ..] => (name, Argument::Malformed),
        _ => (name, Argument::Value(value)),
    }
}

/// Reads delta-seconds into milliseconds; `None` unless it is digits alone.
pub(crate) fn delta_ms(value: &[u8]) -> Option<u64> {
    Some(number(value)?.min(DELTA_SECONDS_MAX) * 1000)
}

/// Reads a number of digits alone; larger ones than fit become the largest.
pub(crate) fn number(value: &[u8]) -> Option<u64> {
    if value.is_empty() {
        return None;
    }
    value.iter().try_fold(0_u64, |sum, byte| {
        let digit = byte.is_ascii_digit().then(|| byte - b'0')?;
        Some(sum.saturating_mul(10).saturating_add(u64::from(digit)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_divide_at_commas_outside_quotes() {
        let table: &[(&str, &[&str])] = &[
            ("", &[]),
            (" , ,", &[]),
            ("a", &["a"]),
            ("a,b , c", &["a", "b", "c"]),
            ("a=\"x, y\", b", &["a=\"x, y\"", "b"]),
            ("a=\"x\\\", y\", b", &["a=\"x\\\", y\"", "b"]),
            ("a=\"x, no-store", &["a=\"x", "no-store"]),
            ("a, b=\"x, no-store, c", &["a", "b=\"x", "no-store", "c"]),
            ("\\, a", &["\\", "a"]),
        ];
        for (value, expected) in table {
            let got: Vec<_> = members(value.as_bytes())
                .map(|m| str::from_utf8(m).unwrap())
                .collect();
            assert_eq!(&got, expected, "{value}");
        }
    }

    #[test]
    fn unbalanced_quotes_cost_linear_time() {
        let hostile = b"a\\\",".repeat(100_000);
        assert_eq!(members(&hostile).count(), 100_000);
    }

    #[test]
    fn directives_have_a_name_and_an_argument() {
        let table: &[(&str, &str, Argument<'_>)] = &[
            ("no-store", "no-store", Argument::Absent),
            ("max-age=60", "max-age", Argument::Value(b"60")),
            ("max-age=\"60\"", "max-age", Argument::Value(b"60")),
            ("max-age=\"\"", "max-age", Argument::Value(b"")),
            ("max-age='60'", "max-age", Argument::Value(b"'60'")),
            ("max-age=", "max-age", Argument::Malformed),
            ("max-age =60", "max-age", Argument::Malformed),
            ("max-age= 60", "max-age", Argument::Malformed),
            ("max-age=\"60", "max-age", Argument::Malformed),
            ("max-age=\"", "max-age", Argument::Malformed),
            ("a=b=c", "a", Argument::Value(b"b=c")),
        ];
        for (member, name, argument) in table {
            assert_eq!(
                directive(member.as_bytes()),
                (name.as_bytes(), *argument),
                "{member}"
            );
        }
    }

    #[test]
    fn delta_seconds_are_digits_and_saturate() {
        let table: &[(&str, Option<u64>)] = &[
            ("0", Some(0)),
            ("003600", Some(3_600_000)),
            ("2147483647", Some(2_147_483_647_000)),
            ("2147483648", Some(2_147_483_648_000)),
            ("2147483649", Some(2_147_483_648_000)),
            ("99999999999999999999999999", Some(2_147_483_648_000)),
            ("", None),
            ("-1", None),
            ("+1", None),
            ("1.0", None),
            ("1 ", None),
            ("x", None),
        ];
        for (value, expected) in table {
            assert_eq!(delta_ms(value.as_bytes()), *expected, "{value}");
        }
    }
}
