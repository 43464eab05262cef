//! Cache groups (RFC 9875): which groups a response belongs to, and which ones an
//! unsafe request's answer invalidates.
//!
//! A group's name is opaque, compared byte by byte, and means something only within
//! one origin (§2.1): whoever keeps groups apart adds the origin to the name.

use std::fmt;

use http::header::HeaderName;
use http::{HeaderMap, Method};
use sfv::{BareItem, List, ListEntry, Parser};

use crate::request::is_safe;

/// `Cache-Groups` (RFC 9875 §2).
const CACHE_GROUPS: HeaderName = HeaderName::from_static("cache-groups");

/// `Cache-Group-Invalidation` (RFC 9875 §3).
const CACHE_GROUP_INVALIDATION: HeaderName = HeaderName::from_static("cache-group-invalidation");

/// Groups that one response may belong to. RFC 9875 §2 asks for at least 32. Each
/// may have to be compared whenever the response is looked up. How long a name may
/// be is left to the bounds of the head it came in.
pub const GROUPS_MAX: usize = 128;

/// A response belongs to more than [`GROUPS_MAX`] groups. It must not be stored: an
/// invalidation of a group that was left out would miss it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooManyGroups;

impl TooManyGroups {
    /// A short token for metrics and for `detail` in `Cache-Status`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        "too_many_groups"
    }
}

impl fmt::Display for TooManyGroups {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl std::error::Error for TooManyGroups {}

/// The groups a response belongs to (`Cache-Groups`, RFC 9875 §2), each once. A
/// field that is no List of Strings counts as absent (RFC 9651 §4.2). Allocates
/// nothing where there is none.
///
/// # Errors
/// [`TooManyGroups`] where there are more than [`GROUPS_MAX`].
pub fn cache_groups(fields: &HeaderMap) -> Result<Vec<String>, TooManyGroups> {
    let groups = strings(fields, &CACHE_GROUPS);
    if groups.len() > GROUPS_MAX {
        return Err(TooManyGroups);
    }
    Ok(groups)
}

/// The groups that the answer to a request of this method invalidates
/// (`Cache-Group-Invalidation`, RFC 9875 §3), each once. Empty for safe methods, on
/// whose answers the field MUST be ignored. The status does not matter: unlike
/// RFC 9111 §4.4, the origin has said it in so many words.
#[must_use]
pub fn invalidated_groups(method: &Method, fields: &HeaderMap) -> Vec<String> {
    if is_safe(method) {
        return Vec::new();
    }
    strings(fields, &CACHE_GROUP_INVALIDATION)
}

/// A List of Strings, over all lines of a field, sorted. Parameters are ignored, as
/// none is defined.
fn strings(fields: &HeaderMap, name: &HeaderName) -> Vec<String> {
    let mut lines = fields.get_all(name).into_iter();
    let Some(first) = lines.next() else {
        return Vec::new();
    };
    let mut whole = first.as_bytes().to_vec();
    for line in lines {
        whole.extend_from_slice(b", ");
        whole.extend_from_slice(line.as_bytes());
    }
    let Ok(list) = Parser::new(&whole).parse::<List>() else {
        return Vec::new();
    };
    let members = list.iter().map(|member| match member {
        ListEntry::Item(item) => match &item.bare_item {
            BareItem::String(text) => Some(text.as_str().to_owned()),
            _ => None,
        },
        ListEntry::InnerList(_) => None,
    });
    let mut strings: Vec<String> = members.collect::<Option<_>>().unwrap_or_default();
    strings.sort_unstable();
    strings.dedup();
    strings
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    fn lines(name: &'static str, values: &[&str]) -> HeaderMap {
        let mut fields = HeaderMap::new();
        for value in values {
            fields.append(name, HeaderValue::from_str(value).unwrap());
        }
        fields
    }

    #[test]
    fn groups_are_a_list_of_strings_and_nothing_else() {
        type Case = (&'static [&'static str], &'static [&'static str]);
        let table: &[Case] = &[
            (&[], &[]),
            (&[""], &[]),
            (&["\"a\""], &["a"]),
            (&["\"b\", \"a\""], &["a", "b"]),
            (&["\"a\"", "\"b\""], &["a", "b"]),
            (&["\"a\"", "", "\"a\""], &[]),
            (&["\"a\",\"a\""], &["a"]),
            // Case counts, and so does white space.
            (&["\"a\", \"A\", \" a\""], &[" a", "A", "a"]),
            (&["\"\""], &[""]),
            (&["\"say \\\"x\\\"\""], &["say \"x\""]),
            (&["\"a\";p=1;q, \"b\""], &["a", "b"]),
            // One member of another type makes the whole no List of Strings.
            (&["a"], &[]),
            (&["\"a\", b"], &[]),
            (&["\"a\", 1"], &[]),
            (&["\"a\", (\"b\")"], &[]),
            (&["\"a\","], &[]),
            (&["\"a"], &[]),
            (&["'a'"], &[]),
            (&["\"ä\""], &[]),
        ];
        for (values, expected) in table {
            let stored = cache_groups(&lines("cache-groups", values)).unwrap();
            assert_eq!(stored, *expected, "{values:?}");
            let fields = lines("cache-group-invalidation", values);
            let invalidated = invalidated_groups(&Method::POST, &fields);
            assert_eq!(invalidated, *expected, "{values:?}");
        }
    }

    #[test]
    fn answers_to_safe_methods_invalidate_nothing() {
        let fields = lines("cache-group-invalidation", &["\"a\""]);
        for (method, invalidates) in [
            ("GET", false),
            ("HEAD", false),
            ("OPTIONS", false),
            ("TRACE", false),
            ("POST", true),
            ("PUT", true),
            ("DELETE", true),
            ("PATCH", true),
            ("M-SEARCH", true),
        ] {
            let of = Method::from_bytes(method.as_bytes()).unwrap();
            let groups = invalidated_groups(&of, &fields);
            assert_eq!(!groups.is_empty(), invalidates, "{method}");
        }
    }

    #[test]
    fn a_response_belongs_to_so_many_groups_at_most() {
        for (count, good) in [(32, true), (GROUPS_MAX, true), (GROUPS_MAX + 1, false)] {
            let names: Vec<String> = (0..count).map(|n| format!("\"{n:0>32}\"")).collect();
            let value = names.join(", ");
            let groups = cache_groups(&lines("cache-groups", &[&value]));
            assert_eq!(
                groups.map(|groups| groups.len()),
                good.then_some(count).ok_or(TooManyGroups)
            );
            // An invalidation that is obeyed in part would leave old content.
            let fields = lines("cache-group-invalidation", &[&value]);
            assert_eq!(invalidated_groups(&Method::POST, &fields).len(), count);
        }
    }

    proptest! {
        #[test]
        fn any_bytes_can_be_read(values in prop::collection::vec(prop::collection::vec(32_u8..127, 0..40), 0..4)) {
            let mut fields = HeaderMap::new();
            for value in &values {
                fields.append(CACHE_GROUPS, HeaderValue::from_bytes(value).unwrap());
            }
            let groups = cache_groups(&fields).unwrap();
            prop_assert!(groups.is_sorted());
        }
    }
}
