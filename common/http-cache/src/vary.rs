//! `Vary`: which requests a stored response answers (RFC 9111 §4.1).
//!
//! Values are compared after the normalisations that §4.1 allows: lines of one field
//! are joined, and whitespace around commas outside quotes does not count. Two
//! fields are understood further where the site wants it.

use http::header::{ACCEPT_ENCODING, ACCEPT_LANGUAGE, COOKIE, VARY};
use http::{HeaderMap, HeaderName};
use smallvec::SmallVec;

use crate::list::{members, members_of, number, trim};
use crate::policy::Policy;

/// Bytes of one normalised value that stay on the stack.
type Normalised = SmallVec<[u8; 128]>;

/// The fields of a request that selected a response.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Vary {
    /// The response does not vary.
    None,
    /// The response varies by something that no request shows: it answers none.
    Any,
    /// The response varies by these fields, sorted by name, each once.
    Fields(Vec<HeaderName>),
}

/// The values that one request has for the fields of a [`Vary`], normalised;
/// comparable and hashable. Selectors of different `Vary` fields are never equal,
/// but for those of responses that do not vary.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Selector(Box<[Selected]>);

/// A field and its value, where the request had one.
type Selected = (HeaderName, Option<Box<[u8]>>);

impl Selector {
    /// Bytes held on the heap, for a store's accounts.
    pub fn heap_bytes(&self) -> usize {
        let values = self.0.iter().filter_map(|(_, value)| value.as_ref());
        size_of_val(&*self.0) + values.map(|value| value.len()).sum::<usize>()
    }
}

impl Vary {
    /// Reads a response's `Vary`. A member that is no field name makes it
    /// [`Vary::Any`]: what cannot be read cannot be compared.
    pub fn of(fields: &HeaderMap) -> Self {
        let mut names = Vec::new();
        for member in members_of(fields, VARY) {
            match HeaderName::from_bytes(member) {
                Ok(name) if name != "*" => names.push(name),
                _ => return Self::Any,
            }
        }
        if names.is_empty() {
            return Self::None;
        }
        names.sort_unstable_by(|one, other| one.as_str().cmp(other.as_str()));
        names.dedup();
        Self::Fields(names)
    }

    /// The selector of the request that a response answers, to be kept beside it.
    pub fn selector(&self, request_fields: &HeaderMap, policy: &Policy) -> Selector {
        let Self::Fields(names) = self else {
            return Selector::default();
        };
        let value = |name: &HeaderName| {
            let value = normalised(name, request_fields, policy)?;
            Some(value.into_vec().into_boxed_slice())
        };
        Selector(
            names
                .iter()
                .map(|name| (name.clone(), value(name)))
                .collect(),
        )
    }

    /// Whether a response that varies so and was selected by `selector` answers this
    /// request. [`Vary::Any`] never does. Allocates nothing for values of usual size.
    pub fn matches(
        &self,
        selector: &Selector,
        request_fields: &HeaderMap,
        policy: &Policy,
    ) -> bool {
        match self {
            Self::Any => false,
            Self::None => selector.0.is_empty(),
            Self::Fields(names) => {
                names.len() == selector.0.len()
                    && names
                        .iter()
                        .zip(&selector.0)
                        .all(|(name, (selected, value))| {
                            // RFC 9111 §4.1: absent matches absent alone.
                            name == selected
                                && normalised(name, request_fields, policy).as_deref()
                                    == value.as_deref()
                        })
            }
        }
    }
}

/// Whether `Vary` is [`Vary::Any`], without allocating.
pub(crate) fn is_any(fields: &HeaderMap) -> bool {
    members_of(fields, VARY).any(|member| member == b"*" || HeaderName::from_bytes(member).is_err())
}

/// One field's value over all its lines, normalised; `None` when it is absent.
fn normalised(name: &HeaderName, fields: &HeaderMap, policy: &Policy) -> Option<Normalised> {
    if !fields.contains_key(name) {
        return None;
    }
    if policy.normalise_accept_encoding && *name == ACCEPT_ENCODING {
        return Some(accept_encoding(fields));
    }
    if policy.normalise_accept_language && *name == ACCEPT_LANGUAGE {
        return Some(accept_language(fields));
    }
    // HTTP/2 may divide Cookie into lines, to be joined by semicolons (RFC 9113 §8.2.3).
    let separator: &[u8] = if *name == COOKIE { b"; " } else { b"," };
    let mut joined = Normalised::new();
    for line in fields.get_all(name) {
        if *name == COOKIE {
            join(&mut joined, separator, trim(line.as_bytes()));
        } else {
            members(line.as_bytes()).for_each(|member| join(&mut joined, separator, member));
        }
    }
    Some(joined)
}

fn join(joined: &mut Normalised, separator: &[u8], member: &[u8]) {
    if !joined.is_empty() {
        joined.extend_from_slice(separator);
    }
    joined.extend_from_slice(member);
}

/// A member of an `Accept-*` list: its value in lower case, its weight in thousandths.
type Weighted = (SmallVec<[u8; 16]>, u16);

/// Reads `value;q=0.5`; other parameters stay part of the value.
// RFC 9110 §12.4.2: without a weight, 1. One that cannot be read counts as 1 too.
fn weighted(member: &[u8]) -> Weighted {
    let mut value = SmallVec::new();
    let mut weight = 1000;
    for (index, part) in member.split(|b| *b == b';').enumerate() {
        match trim(part) {
            [b'q' | b'Q', b'=', digits @ ..] if index > 0 => weight = thousandths(digits),
            part => {
                if index > 0 {
                    value.push(b';');
                }
                value.extend(part.iter().map(u8::to_ascii_lowercase));
            }
        }
    }
    (value, weight)
}

fn thousandths(digits: &[u8]) -> u16 {
    let read = || {
        let (whole, fraction) = match digits.iter().position(|b| *b == b'.') {
            Some(at) => (digits.get(..at)?, digits.get(at + 1..)?),
            None => (digits, &b""[..]),
        };
        let whole = number(whole)?;
        if whole > 1 || fraction.len() > 3 {
            return None;
        }
        let padded: SmallVec<[u8; 3]> = fraction
            .iter()
            .copied()
            .chain(std::iter::repeat(b'0'))
            .take(3)
            .collect();
        Some((whole * 1000 + number(&padded)?).min(1000))
    };
    read()
        .and_then(|weight| u16::try_from(weight).ok())
        .unwrap_or(1000)
}

/// The acceptable codings, sorted. Weights between 0 and 1 are dropped: whichever of
/// them the origin picked, this client accepts it. What is refused (weight 0) and
/// `*` stay; `identity` is acceptable without saying so, unless `*` is refused
/// (RFC 9110 §12.5.3).
fn accept_encoding(fields: &HeaderMap) -> Normalised {
    let mut codings: SmallVec<[Weighted; 8]> = members_of(fields, ACCEPT_ENCODING)
        .map(weighted)
        .map(|(coding, weight)| match coding.as_slice() {
            // RFC 9110 §8.4.1: x-gzip and x-compress are other names of theirs.
            b"x-gzip" => (SmallVec::from_slice(b"gzip"), weight.min(1)),
            b"x-compress" => (SmallVec::from_slice(b"compress"), weight.min(1)),
            _ => (coding, weight.min(1)),
        })
        .collect();
    let any_refused = codings.contains(&(SmallVec::from_slice(b"*"), 0));
    codings
        .retain(|(coding, weight)| *weight == 0 || any_refused || coding.as_slice() != b"identity");
    codings.sort_unstable();
    codings.dedup();
    written(&codings, 1)
}

/// Language ranges in lower case, heaviest first, then by name.
fn accept_language(fields: &HeaderMap) -> Normalised {
    let mut ranges: SmallVec<[Weighted; 8]> =
        members_of(fields, ACCEPT_LANGUAGE).map(weighted).collect();
    ranges.sort_unstable_by(|one, other| other.1.cmp(&one.1).then_with(|| one.0.cmp(&other.0)));
    ranges.dedup();
    written(&ranges, 1000)
}

/// Writes a list; a weight is written unless it is `usual`.
fn written(list: &[Weighted], usual: u16) -> Normalised {
    let mut joined = Normalised::new();
    for (value, weight) in list {
        join(&mut joined, b",", value);
        if *weight != usual {
            joined.extend_from_slice(b";q=");
            joined.extend_from_slice(weight.to_string().as_bytes());
        }
    }
    joined
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;
    use crate::cases::{Lines, fields};

    #[test]
    fn reads_vary() {
        let named = |names: &[&'static str]| {
            Vary::Fields(
                names
                    .iter()
                    .map(|name| HeaderName::from_static(name))
                    .collect(),
            )
        };
        let table: &[(Lines<'_>, Vary)] = &[
            (&[], Vary::None),
            (&[("vary", "")], Vary::None),
            (&[("vary", " , ")], Vary::None),
            (&[("vary", "Foo")], named(&["foo"])),
            (&[("vary", "Foo, bar,foo")], named(&["bar", "foo"])),
            (&[("vary", "Foo"), ("vary", "Bar")], named(&["bar", "foo"])),
            (&[("vary", "*")], Vary::Any),
            (&[("vary", "*, *")], Vary::Any),
            (&[("vary", "*"), ("vary", "*")], Vary::Any),
            (&[("vary", ", *")], Vary::Any),
            (&[("vary", ""), ("vary", "*")], Vary::Any),
            (&[("vary", "*, Foo")], Vary::Any),
            (&[("vary", "Foo, *")], Vary::Any),
            (&[("vary", "Foo bar")], Vary::Any),
            (&[("vary", "Foo;")], Vary::Any),
        ];
        for (lines, expected) in table {
            let fields = fields(lines);
            assert_eq!(Vary::of(&fields), *expected, "{lines:?}");
            assert_eq!(is_any(&fields), *expected == Vary::Any, "{lines:?}");
        }
    }

    #[test]
    fn selects_by_every_named_field() {
        let vary = Vary::of(&fields(&[("vary", "Foo, Bar, Accept-Language")]));
        let table: &[(Lines<'_>, Lines<'_>, bool)] = &[
            (&[("foo", "1")], &[("foo", "1")], true),
            (&[("foo", "1")], &[("foo", "2")], false),
            (&[("foo", "1")], &[], false),
            (&[], &[("foo", "1")], false),
            (&[], &[], true),
            (&[("foo", "")], &[], false),
            (
                &[("foo", "1"), ("bar", "a")],
                &[("bar", "a"), ("foo", "1")],
                true,
            ),
            (
                &[("foo", "1"), ("bar", "a")],
                &[("foo", "1"), ("bar", "b")],
                false,
            ),
            (
                &[("foo", "1"), ("other", "2")],
                &[("foo", "1"), ("other", "3")],
                true,
            ),
            // Joined lines and whitespace.
            (&[("foo", "1, 2")], &[("foo", "1"), ("foo", "2")], true),
            (&[("foo", "1,2")], &[("foo", " 1, 2 ")], true),
            (&[("foo", "1,2")], &[("foo", "2,1")], false),
            (&[("foo", "\"1,2\"")], &[("foo", "\"1, 2\"")], false),
            (&[("foo", "A")], &[("foo", "a")], false),
            // Not understood without the site's wish.
            (
                &[("accept-language", "en, de")],
                &[("accept-language", "de, en")],
                false,
            ),
        ];
        let policy = Policy::default();
        for (stored, asked, expected) in table {
            let (stored, asked) = (fields(stored), fields(asked));
            let selector = vary.selector(&stored, &policy);
            assert_eq!(
                vary.matches(&selector, &asked, &policy),
                *expected,
                "{stored:?} {asked:?}"
            );
            assert_eq!(
                selector == vary.selector(&asked, &policy),
                *expected,
                "{stored:?} {asked:?}"
            );
        }
    }

    #[test]
    fn any_never_matches_and_none_always() {
        let (empty, policy) = (HeaderMap::new(), Policy::default());
        assert!(!Vary::Any.matches(&Vary::Any.selector(&empty, &policy), &empty, &policy));
        assert!(Vary::None.matches(
            &Vary::None.selector(&empty, &policy),
            &fields(&[("foo", "1")]),
            &policy
        ));
        // A selector made for another Vary matches nothing.
        let foo = Vary::of(&fields(&[("vary", "foo")]));
        let bar = Vary::of(&fields(&[("vary", "bar")]));
        assert!(!foo.matches(&bar.selector(&empty, &policy), &empty, &policy));
        assert!(!Vary::None.matches(&bar.selector(&empty, &policy), &empty, &policy));
        assert_eq!(Selector::default().heap_bytes(), 0);
        assert!(
            foo.selector(&fields(&[("foo", "12345")]), &policy)
                .heap_bytes()
                > 5
        );
    }

    #[test]
    fn cookie_lines_are_joined_by_semicolons() {
        let (vary, policy) = (Vary::of(&fields(&[("vary", "cookie")])), Policy::default());
        let selector = vary.selector(&fields(&[("cookie", "a=1; b=2")]), &policy);
        assert!(vary.matches(
            &selector,
            &fields(&[("cookie", "a=1"), ("cookie", "b=2")]),
            &policy
        ));
    }

    #[test]
    fn normalises_languages_and_codings() {
        let table: &[(&str, &str, &str, bool)] = &[
            ("accept-language", "en, de", "de, en", true),
            ("accept-language", "en, de", "eN, De", true),
            ("accept-language", "en, de", " en ,   de", true),
            ("accept-language", "en, de", "en, de;q=1.000", true),
            ("accept-language", "en, de;q=0.5", "de;q=0.500, EN", true),
            ("accept-language", "en, de;q=0.5", "en;q=0.5, de", false),
            ("accept-language", "en, de", "en", false),
            ("accept-language", "en;q=0", "en", false),
            ("accept-encoding", "gzip, br", "br,GZIP", true),
            ("accept-encoding", "gzip, br", "br;q=1.0, gzip;q=0.2", true),
            ("accept-encoding", "gzip", "x-gzip, identity", true),
            ("accept-encoding", "gzip, br", "gzip", false),
            ("accept-encoding", "gzip, br;q=0", "gzip, br", false),
            ("accept-encoding", "gzip, *", "gzip", false),
            ("accept-encoding", "gzip, identity;q=0", "gzip", false),
            (
                "accept-encoding",
                "gzip, *;q=0",
                "gzip, *;q=0, identity",
                false,
            ),
            ("accept-encoding", "", "identity", true),
        ];
        let policy = Policy {
            normalise_accept_encoding: true,
            normalise_accept_language: true,
            ..Policy::default()
        };
        for (name, stored, asked, expected) in table {
            let vary = Vary::of(&fields(&[("vary", name)]));
            let (name, mut one, mut other) = (
                HeaderName::from_bytes(name.as_bytes()).unwrap(),
                HeaderMap::new(),
                HeaderMap::new(),
            );
            one.insert(name.clone(), HeaderValue::from_str(stored).unwrap());
            other.insert(name, HeaderValue::from_str(asked).unwrap());
            let selector = vary.selector(&one, &policy);
            assert_eq!(
                vary.matches(&selector, &other, &policy),
                *expected,
                "{stored} | {asked}"
            );
        }
    }

    #[test]
    fn weights_are_thousandths() {
        for (text, expected) in [
            ("0", 0),
            ("1", 1000),
            ("0.5", 500),
            ("0.05", 50),
            ("0.123", 123),
            ("0.", 0),
            ("1.001", 1000),
            ("2", 1000),
            ("0.1234", 1000),
            ("x", 1000),
            ("", 1000),
            (".5", 1000),
        ] {
            assert_eq!(thousandths(text.as_bytes()), expected, "{text}");
        }
    }
}
