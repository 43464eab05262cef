//! Entity tags and the two ways of comparing them (RFC 9110 §8.8.3).
//!
//! What is not written as an entity tag is compared as a whole and weakly, since
//! its origin will recognise it and nobody else can say what it means.

use crate::list::trim;

/// The opaque part of a well-formed entity tag, and whether it is weak.
fn parts(tag: &[u8]) -> Option<(&[u8], bool)> {
    let (rest, weak) = match tag.strip_prefix(b"W/") {
        Some(rest) => (rest, true),
        None => (tag, false),
    };
    match rest {
        [b'"', inside @ .., b'"'] if !inside.contains(&b'"') => Some((inside, weak)),
        _ => None,
    }
}

/// Whether this is a well-formed entity tag that is not weak.
pub(crate) fn is_strong(tag: &[u8]) -> bool {
    matches!(parts(tag), Some((_, false)))
}

/// Weak comparison: the same, or the same but for weakness (RFC 9110 §8.8.3.2).
pub(crate) fn weak_eq(one: &[u8], other: &[u8]) -> bool {
    match (parts(one), parts(other)) {
        (Some((one, _)), Some((other, _))) => one == other,
        _ => one == other && !one.is_empty(),
    }
}

/// Strong comparison: the same, and neither weak (RFC 9110 §8.8.3.2).
pub(crate) fn strong_eq(one: &[u8], other: &[u8]) -> bool {
    is_strong(one) && one == other
}

/// The members of a list of entity tags. Its quotes know no escapes, so that the
/// list is not [`crate::list::members`]: a backslash is a character like others.
pub(crate) fn members(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = value;
    std::iter::from_fn(move || {
        loop {
            if rest.is_empty() {
                return None;
            }
            let mut quoted = false;
            let end = rest.iter().position(|byte| {
                quoted ^= *byte == b'"';
                *byte == b',' && !quoted
            });
            let (member, after) = rest.split_at(end.unwrap_or(rest.len()));
            rest = after.get(1..).unwrap_or_default();
            let member = trim(member);
            if !member.is_empty() {
                return Some(member);
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn compares_weakly_and_strongly() {
        // The first four rows are the table of RFC 9110 §8.8.3.2.
        let table = [
            ("W/\"1\"", "W/\"1\"", true, false),
            ("W/\"1\"", "W/\"2\"", false, false),
            ("W/\"1\"", "\"1\"", true, false),
            ("\"1\"", "\"1\"", true, true),
            ("\"\"", "\"\"", true, true),
            ("\"1\"", "\"2\"", false, false),
            ("\"a\\\"", "\"a\\\"", true, true),
            // Not entity tags: the same text is the same, nothing more.
            ("abc", "abc", true, false),
            ("abc", "\"abc\"", false, false),
            ("w/\"1\"", "w/\"1\"", true, false),
            ("w/\"1\"", "\"1\"", false, false),
            ("\"a\"b\"", "\"a\"b\"", true, false),
            ("", "", false, false),
            ("\"", "\"", true, false),
        ];
        for (one, other, weak, strong) in table {
            assert_eq!(
                weak_eq(one.as_bytes(), other.as_bytes()),
                weak,
                "{one} {other}"
            );
            assert_eq!(
                weak_eq(other.as_bytes(), one.as_bytes()),
                weak,
                "{other} {one}"
            );
            assert_eq!(
                strong_eq(one.as_bytes(), other.as_bytes()),
                strong,
                "{one} {other}"
            );
        }
    }

    #[test]
    fn lists_divide_outside_quotes() {
        let table: &[(&str, &[&str])] = &[
            ("", &[]),
            ("\"a\"", &["\"a\""]),
            (
                "\"a\", W/\"b,c\" ,,\"d\\\"",
                &["\"a\"", "W/\"b,c\"", "\"d\\\""],
            ),
            ("abc, \"d\"", &["abc", "\"d\""]),
            ("\"open, x", &["\"open, x"]),
        ];
        for (value, expected) in table {
            let got: Vec<_> = members(value.as_bytes())
                .map(|m| str::from_utf8(m).unwrap())
                .collect();
            assert_eq!(&got, expected, "{value}");
        }
    }
}
