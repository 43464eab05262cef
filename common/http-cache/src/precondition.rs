//! Validation in both directions: conditions that clients put to us, and conditions
//! that we put to an upstream (RFC 9110 §13, RFC 9111 §4.3).

use http::header::{
    CONTENT_LENGTH, ETAG, IF_MATCH, IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_UNMODIFIED_SINCE,
    LAST_MODIFIED,
};
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use smallvec::SmallVec;

use crate::date;
use crate::entity_tag::{is_strong, members, strong_eq, weak_eq};
use crate::list::{number, trim};
use crate::response::ResponseFacts;

/// What a request's preconditions say about a response that would answer it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Precondition {
    /// Answer as if there were no preconditions.
    Proceed,
    /// Answer 304.
    NotModified,
    /// The response is not the one that the client wants to continue with: answer
    /// 412, or leave the answer to the origin.
    Failed,
}

/// Evaluates a request's preconditions against a response that may answer it, in the
/// order of RFC 9110 §13.2.2.
///
/// `If-Match` and `If-Unmodified-Since` are for origins to evaluate, and a cache may
/// ignore them (§13.1.1, §13.1.4). They are evaluated here nevertheless, because
/// clients send them with ranges to assemble one representation from several
/// responses, and ignoring them would splice two.
pub fn precondition(
    method: &Method,
    request_fields: &HeaderMap,
    response: &ResponseFacts,
) -> Precondition {
    // §13.2.1: only where the answer without them would be a success.
    if !matches!(*method, Method::GET | Method::HEAD) || !response.status().is_success() {
        return Precondition::Proceed;
    }
    if !may_continue(request_fields, response) {
        return Precondition::Failed;
    }
    if request_fields.contains_key(IF_NONE_MATCH) {
        // §13.1.3: If-Modified-Since is ignored beside If-None-Match.
        return if none_match(request_fields, response) {
            Precondition::Proceed
        } else {
            Precondition::NotModified
        };
    }
    match single_date(request_fields, &IF_MODIFIED_SINCE) {
        // RFC 9111 §4.3.2: Date stands in for a Last-Modified that is not there.
        Some(since_ms) if response.last_modified_ms().unwrap_or(response.date_ms()) <= since_ms => {
            Precondition::NotModified
        }
        _ => Precondition::Proceed,
    }
}

/// `If-Match`, else `If-Unmodified-Since` (RFC 9110 §13.2.2, steps 1 and 2).
fn may_continue(request_fields: &HeaderMap, response: &ResponseFacts) -> bool {
    if request_fields.contains_key(IF_MATCH) {
        let etag = response.etag().map(HeaderValue::as_bytes);
        return tags(request_fields, &IF_MATCH)
            .any(|tag| tag == b"*" || etag.is_some_and(|etag| strong_eq(tag, etag)));
    }
    match (
        single_date(request_fields, &IF_UNMODIFIED_SINCE),
        response.last_modified_ms(),
    ) {
        (Some(since_ms), Some(modified_ms)) => modified_ms <= since_ms,
        _ => true,
    }
}

/// `If-None-Match` (RFC 9110 §13.1.2): no listed tag is the response's, weakly
/// compared, and no `*` is there.
fn none_match(request_fields: &HeaderMap, response: &ResponseFacts) -> bool {
    let etag = response.etag().map(HeaderValue::as_bytes);
    !tags(request_fields, &IF_NONE_MATCH)
        .any(|tag| tag == b"*" || etag.is_some_and(|etag| weak_eq(tag, etag)))
}

fn tags<'a>(fields: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a [u8]> {
    fields
        .get_all(name)
        .into_iter()
        .flat_map(|line| members(line.as_bytes()))
}

/// RFC 9110 §13.1.3: a condition that is not one date is ignored.
fn single_date(fields: &HeaderMap, name: &HeaderName) -> Option<u64> {
    let mut lines = fields.get_all(name).into_iter();
    let only = lines.next()?;
    if lines.next().is_some() {
        return None;
    }
    date::parse(only.as_bytes())
}

/// The fields that make a request conditional; at most two.
pub type ValidationFields = SmallVec<[(HeaderName, HeaderValue); 2]>;

/// The conditions under which to validate a stored response (RFC 9111 §4.3.1):
/// `If-None-Match` and `If-Modified-Since`, as far as it has validators.
pub fn validation_fields(response: &ResponseFacts) -> ValidationFields {
    let etag = response.etag().map(|value| (IF_NONE_MATCH, value.clone()));
    let date = response
        .last_modified()
        .map(|value| (IF_MODIFIED_SINCE, value.clone()));
    etag.into_iter().chain(date).collect()
}

/// Whether a 304 to [our conditions](validation_fields) is about this stored response
/// (RFC 9111 §4.3.4).
///
/// When it is not, the 304 says nothing about what is stored, and the response must
/// be fetched without conditions. A 304 without any validator is taken as the answer
/// to those it was asked for: RFC 9110 §15.4.5 obliges servers to send `ETag`, many
/// do not, and a fill asks for no validators but ours.
pub fn answers_validator(stored: &ResponseFacts, not_modified_fields: &HeaderMap) -> bool {
    let ours = stored.etag().map(HeaderValue::as_bytes);
    if let Some(theirs) = not_modified_fields.get(ETAG).map(HeaderValue::as_bytes)
        && !theirs.is_empty()
    {
        // A strong tag confirms the same strong tag, and not a weak one, which
        // responses of different bytes may share. A weak tag confirms either.
        let same = if is_strong(theirs) {
            strong_eq
        } else {
            weak_eq
        };
        return ours.is_some_and(|ours| same(theirs, ours));
    }
    match not_modified_fields
        .get(LAST_MODIFIED)
        .map(HeaderValue::as_bytes)
    {
        Some(theirs) => match date::parse(theirs) {
            Some(ms) => stored.last_modified_ms() == Some(ms),
            None => stored.has_validator(),
        },
        None => stored.has_validator(),
    }
}

/// What the 200 to a HEAD says about a stored response that its GET would have been
/// answered with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum HeadEffect {
    /// They are one response: its fields [freshen](crate::freshen) the stored ones.
    Freshens,
    /// The stored response is no longer the current one.
    Outdates,
}

/// What the 200 to a HEAD does to a stored response of `stored_length` bytes
/// (RFC 9111 §4.3.5): every validator that it names, and its length where it names
/// one, must be the stored response's.
pub fn head_effect(
    stored: &ResponseFacts,
    stored_length: u64,
    head_fields: &HeaderMap,
) -> HeadEffect {
    let same_etag = head_fields
        .get(ETAG)
        .is_none_or(|theirs| stored.etag() == Some(theirs));
    let same_date = head_fields.get(LAST_MODIFIED).is_none_or(|theirs| {
        stored.last_modified_ms().is_some()
            && date::parse(theirs.as_bytes()) == stored.last_modified_ms()
    });
    let same_length = head_fields.get(CONTENT_LENGTH).is_none_or(|theirs| {
        let digits = trim(theirs.as_bytes());
        number(digits) == Some(stored_length)
    });
    if same_etag && same_date && same_length {
        HeadEffect::Freshens
    } else {
        HeadEffect::Outdates
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cases::{Lines, fields, stored};

    const T10: &str = "Thu, 01 Jan 1970 00:00:10 GMT";
    const T20: &str = "Thu, 01 Jan 1970 00:00:20 GMT";
    const T30: &str = "Thu, 01 Jan 1970 00:00:30 GMT";

    #[test]
    fn conditions_hold_or_not() {
        use Precondition::*;
        let tagged: Lines<'_> = &[("etag", "\"a\""), ("last-modified", T20)];
        let weak: Lines<'_> = &[("etag", "W/\"a\"")];
        let dated: Lines<'_> = &[("last-modified", T20)];
        let bare: Lines<'_> = &[("date", T20)];
        let table: &[(Lines<'_>, Lines<'_>, Precondition)] = &[
            (tagged, &[], Proceed),
            (tagged, &[("if-none-match", "\"a\"")], NotModified),
            (tagged, &[("if-none-match", "W/\"a\"")], NotModified),
            (tagged, &[("if-none-match", "\"b\"")], Proceed),
            (
                tagged,
                &[("if-none-match", "\"b\", \"a\", \"c\"")],
                NotModified,
            ),
            (
                tagged,
                &[("if-none-match", "\"b\""), ("if-none-match", "\"a\"")],
                NotModified,
            ),
            (tagged, &[("if-none-match", "*")], NotModified),
            (tagged, &[("if-none-match", "")], Proceed),
            (tagged, &[("if-none-match", "a")], Proceed),
            (weak, &[("if-none-match", "W/\"a\"")], NotModified),
            (weak, &[("if-none-match", "\"a\"")], NotModified),
            (bare, &[("if-none-match", "\"a\"")], Proceed),
            (bare, &[("if-none-match", "*")], NotModified),
            // If-None-Match goes before If-Modified-Since, either way.
            (
                tagged,
                &[("if-none-match", "\"a\""), ("if-modified-since", T10)],
                NotModified,
            ),
            (
                tagged,
                &[("if-none-match", "\"b\""), ("if-modified-since", T30)],
                Proceed,
            ),
            (dated, &[("if-modified-since", T20)], NotModified),
            (dated, &[("if-modified-since", T30)], NotModified),
            (dated, &[("if-modified-since", T10)], Proceed),
            (
                dated,
                &[("if-modified-since", "Thursday, 01-Jan-70 00:00:20 GMT")],
                NotModified,
            ),
            (dated, &[("if-modified-since", "x")], Proceed),
            (
                dated,
                &[("if-modified-since", T20), ("if-modified-since", T30)],
                Proceed,
            ),
            // Without Last-Modified, Date.
            (bare, &[("if-modified-since", T20)], NotModified),
            (bare, &[("if-modified-since", T10)], Proceed),
            // Continuing with something else.
            (tagged, &[("if-match", "\"a\"")], Proceed),
            (tagged, &[("if-match", "\"b\", \"a\"")], Proceed),
            (tagged, &[("if-match", "*")], Proceed),
            (tagged, &[("if-match", "\"b\"")], Failed),
            (tagged, &[("if-match", "W/\"a\"")], Failed),
            (weak, &[("if-match", "W/\"a\"")], Failed),
            (
                tagged,
                &[("if-match", "\"b\""), ("if-none-match", "\"a\"")],
                Failed,
            ),
            (
                tagged,
                &[("if-match", "\"a\""), ("if-none-match", "\"a\"")],
                NotModified,
            ),
            (dated, &[("if-unmodified-since", T20)], Proceed),
            (dated, &[("if-unmodified-since", T10)], Failed),
            (bare, &[("if-unmodified-since", T10)], Proceed),
            (
                tagged,
                &[("if-match", "\"a\""), ("if-unmodified-since", T10)],
                Proceed,
            ),
        ];
        for (response, request, expected) in table {
            let (response, request) = (stored(200, response), fields(request));
            for method in [Method::GET, Method::HEAD] {
                assert_eq!(
                    precondition(&method, &request, &response),
                    *expected,
                    "{request:?} {response:?}"
                );
            }
            assert_eq!(precondition(&Method::PUT, &request, &response), Proceed);
        }
    }

    #[test]
    fn conditions_are_for_successes() {
        let request = fields(&[("if-none-match", "\"a\"")]);
        for (status, expected) in [
            (200, Precondition::NotModified),
            (203, Precondition::NotModified),
            (301, Precondition::Proceed),
            (404, Precondition::Proceed),
            (500, Precondition::Proceed),
        ] {
            assert_eq!(
                precondition(
                    &Method::GET,
                    &request,
                    &stored(status, &[("etag", "\"a\"")])
                ),
                expected
            );
        }
    }

    #[test]
    fn validation_asks_by_what_is_stored() {
        let table: &[(Lines<'_>, &[(&str, &str)])] = &[
            (&[], &[]),
            (&[("etag", "W/\"a\"")], &[("if-none-match", "W/\"a\"")]),
            (&[("last-modified", T20)], &[("if-modified-since", T20)]),
            (&[("last-modified", "x")], &[]),
            (
                &[("last-modified", T20), ("etag", "\"a\"")],
                &[("if-none-match", "\"a\""), ("if-modified-since", T20)],
            ),
        ];
        for (lines, expected) in table {
            let got = validation_fields(&stored(200, lines));
            let got: Vec<_> = got
                .iter()
                .map(|(n, v)| (n.as_str(), v.to_str().unwrap()))
                .collect();
            assert_eq!(&got, expected, "{lines:?}");
        }
    }

    #[test]
    fn a_304_answers_one_validator() {
        let (strong, weak) = (("etag", "\"a\""), ("etag", "W/\"a\""));
        let dated = ("last-modified", T20);
        let table: &[(Lines<'_>, Lines<'_>, bool)] = &[
            // stored, 304
            (&[strong], &[strong], true),
            (&[strong], &[("etag", "\"b\"")], false),
            (&[strong], &[weak], true),
            (&[weak], &[weak], true),
            (&[weak], &[strong], false),
            (&[strong, dated], &[strong, ("last-modified", T10)], true),
            (&[strong, dated], &[("etag", "\"b\""), dated], false),
            (&[dated], &[strong, dated], false),
            (&[dated], &[dated], true),
            (&[dated], &[("last-modified", T10)], false),
            (
                &[dated],
                &[("last-modified", "Thursday, 01-Jan-70 00:00:20 GMT")],
                true,
            ),
            (&[strong], &[dated], false),
            (&[strong, dated], &[dated], true),
            (&[strong], &[], true),
            (&[dated], &[], true),
            (&[dated], &[("last-modified", "x")], true),
            (&[], &[], false),
            (&[], &[strong], false),
        ];
        for (ours, theirs, expected) in table {
            assert_eq!(
                answers_validator(&stored(200, ours), &fields(theirs)),
                *expected,
                "{ours:?} {theirs:?}"
            );
        }
    }

    #[test]
    fn a_head_confirms_what_it_matches() {
        use HeadEffect::*;
        let both: Lines<'_> = &[("etag", "\"a\""), ("last-modified", T20)];
        let table: &[(Lines<'_>, Lines<'_>, HeadEffect)] = &[
            // stored, of 10 bytes; the HEAD's fields
            (both, &[], Freshens),
            (both, &[("etag", "\"a\"")], Freshens),
            (both, &[("etag", "W/\"a\"")], Outdates),
            (both, &[("etag", "\"b\"")], Outdates),
            (both, &[("last-modified", T20)], Freshens),
            (both, &[("last-modified", T30)], Outdates),
            (both, &[("last-modified", "x")], Outdates),
            (both, &[("etag", "\"a\""), ("last-modified", T30)], Outdates),
            (both, &[("content-length", "10")], Freshens),
            (both, &[("content-length", "11")], Outdates),
            (both, &[("content-length", "x")], Outdates),
            (&[], &[], Freshens),
            (&[], &[("etag", "\"a\"")], Outdates),
            (&[], &[("last-modified", T20)], Outdates),
            (
                &[("last-modified", "x")],
                &[("last-modified", "x")],
                Outdates,
            ),
        ];
        for (ours, theirs, expected) in table {
            assert_eq!(
                head_effect(&stored(200, ours), 10, &fields(theirs)),
                *expected,
                "{ours:?} {theirs:?}"
            );
        }
    }
}
