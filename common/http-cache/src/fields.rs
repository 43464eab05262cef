//! Which fields travel, which are stored, and what a 304 changes of them
//! (RFC 9110 §7.6.1, RFC 9111 §3.1 and §3.2).

use http::header::{
    ACCEPT_RANGES, AGE, AUTHORIZATION, CACHE_CONTROL, CONNECTION, CONTENT_ENCODING,
    CONTENT_LANGUAGE, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, COOKIE, DATE, ETAG, EXPIRES,
    FORWARDED, HOST, LAST_MODIFIED, LOCATION, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, RANGE,
    SET_COOKIE, TE, TRAILER, TRANSFER_ENCODING, UPGRADE, VARY, VIA,
};
use http::{HeaderMap, HeaderName};
use smallvec::SmallVec;

use crate::directives::ResponseDirectives;
use crate::list::members;
use crate::policy::{Policy, SetCookie};

/// Fields for the next recipient alone, whether `Connection` names them or not.
///
/// Those about proxy authentication are among them because they are meant for the
/// next proxy (RFC 9110 §11.7), which is us, and must not be stored (RFC 9111 §3.1).
/// `Trailer` is, because trailers do not pass through us.
const HOP_BY_HOP: [HeaderName; 10] = [
    CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    TE,
    TRAILER,
    TRANSFER_ENCODING,
    UPGRADE,
    PROXY_AUTHENTICATE,
    PROXY_AUTHORIZATION,
    HeaderName::from_static("proxy-authentication-info"),
];

/// Whether `Connection` may name this field.
// RFC 9110 §7.6.1: a connection option never corresponds to a field intended for all
// recipients. A client that names one tries to have us drop what somebody behind us
// relies on: the caller's identity, the message's framing, the cache's rules, the
// path it took, or what selects its variant.
fn may_be_named(name: &HeaderName) -> bool {
    const END_TO_END: [HeaderName; 24] = [
        HOST,
        CONTENT_LENGTH,
        CONTENT_TYPE,
        CONTENT_ENCODING,
        CONTENT_RANGE,
        CACHE_CONTROL,
        AGE,
        DATE,
        EXPIRES,
        ETAG,
        LAST_MODIFIED,
        VARY,
        LOCATION,
        SET_COOKIE,
        COOKIE,
        AUTHORIZATION,
        RANGE,
        VIA,
        FORWARDED,
        HeaderName::from_static("cdn-loop"),
        HeaderName::from_static("cache-status"),
        HeaderName::from_static("proxy-status"),
        HeaderName::from_static("signature"),
        HeaderName::from_static("signature-input"),
    ];
    const PREFIXES: [&str; 3] = ["x-forwarded-", "tier-", "if-"];
    // Targeted fields (RFC 9213 §2).
    const SUFFIX: &str = "-cache-control";
    !END_TO_END.contains(name)
        && !name.as_str().ends_with(SUFFIX)
        && !PREFIXES
            .iter()
            .any(|prefix| name.as_str().starts_with(prefix))
}

/// Removes what is meant for the next recipient alone (RFC 9110 §7.6.1): the fields
/// that `Connection` names, except those it can never name, and the known ones.
///
/// For a message that is forwarded as an upgrade the caller restores `Connection`
/// and `Upgrade`.
pub fn remove_hop_by_hop(fields: &mut HeaderMap) {
    if fields.contains_key(CONNECTION) {
        let named: SmallVec<[HeaderName; 4]> = fields
            .get_all(CONNECTION)
            .into_iter()
            .flat_map(|line| members(line.as_bytes()))
            .filter_map(|member| HeaderName::from_bytes(member).ok())
            .filter(may_be_named)
            .collect();
        for name in named {
            fields.remove(name);
        }
    }
    for name in HOP_BY_HOP {
        fields.remove(name);
    }
}

/// What is stored of a response's fields (RFC 9111 §3.1).
///
/// Left out are: hop-by-hop fields; fields that `private="…"` or `no-cache="…"`
/// withhold; `Age`, which [`ResponseFacts`](crate::ResponseFacts) keeps; `Set-Cookie`
/// unless the site stores it. A response without `Date` gains none here; whoever
/// knows the time of receipt adds it (RFC 9110 §6.6.1).
pub fn stored_fields(fields: &HeaderMap, policy: &Policy) -> HeaderMap {
    let mut stored = fields.clone();
    remove_hop_by_hop(&mut stored);
    for name in ResponseDirectives::said(fields, policy).withheld {
        stored.remove(name);
    }
    stored.remove(AGE);
    if policy.set_cookie != SetCookie::Store {
        stored.remove(SET_COOKIE);
    }
    stored
}

/// Fields that describe the content that is stored, which a 304 does not bring.
// RFC 9111 §3.2 excepts Content-Length by name, and what the cache's handling of the
// content depends on.
const OF_CONTENT: [HeaderName; 8] = [
    CONTENT_LENGTH,
    CONTENT_ENCODING,
    CONTENT_TYPE,
    CONTENT_RANGE,
    HeaderName::from_static("content-md5"),
    HeaderName::from_static("content-digest"),
    HeaderName::from_static("repr-digest"),
    HeaderName::from_static("digest"),
];

/// The stored fields after a 304 that [answers](crate::answers_validator) their
/// validator (RFC 9111 §3.2, §4.3.4): each field of the 304 replaces the stored one,
/// except hop-by-hop and withheld fields, `Age`, and those that describe the content.
///
/// A 304's `Set-Cookie` replaces a stored one alone: it was meant for whoever asked,
/// and only a stored one shows that the site replays cookies. `Date` goes when the
/// 304 has none, so that the time of receipt counts.
///
/// The facts are [gathered anew](crate::ResponseFacts::freshened) from the result,
/// and asked again whether they are storable: a 304 may say `no-store`, or change
/// `Vary`.
pub fn freshen(stored: &HeaderMap, not_modified: &HeaderMap) -> HeaderMap {
    let keeps_cookies = Policy {
        set_cookie: SetCookie::Store,
        ..Policy::default()
    };
    let mut update = stored_fields(not_modified, &keeps_cookies);
    for name in OF_CONTENT {
        update.remove(name);
    }
    if !stored.contains_key(SET_COOKIE) {
        update.remove(SET_COOKIE);
    }
    let mut fresh = stored.clone();
    fresh.remove(AGE);
    fresh.remove(DATE);
    for name in update.keys() {
        fresh.remove(name);
    }
    for (name, value) in &update {
        // Both heads were within bounds, their sum may not be; a field over the
        // map's own limit is dropped rather than a panic.
        let _ = fresh.try_append(name, value.clone());
    }
    fresh
}

/// The fields that a 304 carries when it answers for a stored response
/// (RFC 9110 §15.4.5).
///
/// All but those about the representation, which the client has already. Not the
/// bare six that a 304 must have: between tiers it also brings the other cache up to
/// date with what our own validation changed, and browsers need fields such as those
/// of CORS on it.
pub fn fields_for_304(stored: &HeaderMap) -> HeaderMap {
    let mut fields = stored.clone();
    remove_hop_by_hop(&mut fields);
    for name in OF_CONTENT {
        fields.remove(name);
    }
    fields.remove(CONTENT_LANGUAGE);
    fields.remove(ACCEPT_RANGES);
    // §15.4.5: Last-Modified guides the update where there is no ETag.
    if fields.contains_key(ETAG) {
        fields.remove(LAST_MODIFIED);
    }
    fields
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;
    use crate::cases::{Lines, fields};

    /// Names and values, sorted.
    fn listed(fields: &HeaderMap) -> Vec<(&str, &str)> {
        let mut list: Vec<_> = fields
            .iter()
            .map(|(name, value)| (name.as_str(), value.to_str().unwrap()))
            .collect();
        list.sort_unstable();
        list
    }

    fn without_hop_by_hop(lines: Lines<'_>) -> HeaderMap {
        let mut fields = fields(lines);
        remove_hop_by_hop(&mut fields);
        fields
    }

    #[test]
    fn connection_names_what_goes() {
        let got = without_hop_by_hop(&[
            ("connection", "a, B"),
            ("connection", "close, @"),
            ("a", "1"),
            ("b", "2"),
            ("c", "3"),
        ]);
        assert_eq!(listed(&got), [("c", "3")]);
    }

    #[test]
    fn known_hop_by_hop_fields_go_unnamed() {
        for name in HOP_BY_HOP {
            let got = without_hop_by_hop(&[(name.as_str(), "x"), ("c", "3")]);
            assert_eq!(listed(&got), [("c", "3")], "{name}");
        }
    }

    #[test]
    fn connection_cannot_name_what_all_recipients_need() {
        for name in [
            "Host",
            "Content-Length",
            "Cache-Control",
            "CDN-Cache-Control",
            "Authorization",
            "Cookie",
            "Vary",
            "X-Forwarded-For",
            "X-Forwarded-Proto",
            "Forwarded",
            "Via",
            "CDN-Loop",
            "Tier-Control",
            "Tier-Result",
            "Signature",
            "Signature-Input",
            "If-None-Match",
            "Range",
            "Age",
            "Date",
            "ETag",
            "Set-Cookie",
        ] {
            let got = without_hop_by_hop(&[("connection", name), (name, "x")]);
            assert_eq!(
                listed(&got),
                [(name.to_ascii_lowercase().as_str(), "x")],
                "{name}"
            );
        }
    }

    #[test]
    fn what_is_stored() {
        let bypass = SetCookie::Bypass;
        let table: &[(SetCookie, Lines<'_>, Lines<'_>)] = &[
            (bypass, &[("age", "5"), ("x", "1")], &[("x", "1")]),
            (
                bypass,
                &[("connection", "x"), ("x", "1"), ("keep-alive", "y")],
                &[],
            ),
            (
                bypass,
                &[("cache-control", "private=\"X\""), ("x", "1"), ("y", "2")],
                &[("cache-control", "private=\"X\""), ("y", "2")],
            ),
            (
                bypass,
                &[
                    ("cache-control", "no-cache=\"x, y\""),
                    ("x", "1"),
                    ("y", "2"),
                ],
                &[("cache-control", "no-cache=\"x, y\"")],
            ),
            (
                bypass,
                &[("proxy-authenticate", "x"), ("tier-result", "y")],
                &[("tier-result", "y")],
            ),
            (bypass, &[("set-cookie", "a=b")], &[]),
            (
                SetCookie::Strip,
                &[("set-cookie", "a=b"), ("set-cookie", "c=d")],
                &[],
            ),
            (
                SetCookie::Store,
                &[("set-cookie", "a=b"), ("set-cookie", "c=d")],
                &[("set-cookie", "a=b"), ("set-cookie", "c=d")],
            ),
        ];
        for (set_cookie, given, expected) in table {
            let policy = Policy {
                set_cookie: *set_cookie,
                ..Policy::default()
            };
            assert_eq!(
                listed(&stored_fields(&fields(given), &policy)),
                *expected,
                "{given:?}"
            );
        }
    }

    #[test]
    fn a_304_replaces_but_for_content() {
        let table: &[(Lines<'_>, Lines<'_>, Lines<'_>)] = &[
            // stored, 304, result
            (&[("x", "1")], &[], &[("x", "1")]),
            (&[("x", "1"), ("x", "2")], &[("x", "3")], &[("x", "3")]),
            (
                &[("x", "1")],
                &[("x", "2"), ("x", "3")],
                &[("x", "2"), ("x", "3")],
            ),
            (&[("x", "1")], &[("y", "2")], &[("x", "1"), ("y", "2")]),
            (
                &[("content-length", "36")],
                &[("content-length", "10")],
                &[("content-length", "36")],
            ),
            (
                &[("content-type", "a/b")],
                &[("content-type", "c/d")],
                &[("content-type", "a/b")],
            ),
            (&[], &[("content-encoding", "gzip")], &[]),
            (
                &[("content-foo", "1")],
                &[("content-foo", "2")],
                &[("content-foo", "2")],
            ),
            (
                &[("cache-control", "max-age=1")],
                &[("cache-control", "max-age=2")],
                &[("cache-control", "max-age=2")],
            ),
            (&[], &[("connection", "x"), ("x", "1")], &[]),
            (&[("date", "a")], &[("date", "b")], &[("date", "b")]),
            (&[("date", "a")], &[], &[]),
            (&[], &[("age", "5")], &[]),
            (
                &[("x", "1")],
                &[("cache-control", "private=\"x\""), ("x", "2")],
                &[("cache-control", "private=\"x\""), ("x", "1")],
            ),
            (&[], &[("set-cookie", "a=b")], &[]),
            (
                &[("set-cookie", "a=b")],
                &[("set-cookie", "a=c")],
                &[("set-cookie", "a=c")],
            ),
        ];
        for (stored, not_modified, expected) in table {
            let got = freshen(&fields(stored), &fields(not_modified));
            assert_eq!(listed(&got), *expected, "{stored:?} {not_modified:?}");
        }
    }

    #[test]
    fn two_great_heads_do_not_overflow_the_map() {
        let great = |prefix: char| {
            let mut fields = HeaderMap::new();
            for index in 0..20_000 {
                let name = HeaderName::from_bytes(format!("{prefix}{index}").as_bytes()).unwrap();
                fields.append(name, HeaderValue::from_static("x"));
            }
            fields
        };
        assert!(freshen(&great('a'), &great('b')).len() >= 20_000);
    }

    #[test]
    fn a_304_carries_no_representation_metadata() {
        let stored: Lines<'_> = &[
            ("content-type", "a/b"),
            ("content-length", "1"),
            ("content-encoding", "gzip"),
            ("content-language", "en"),
            ("last-modified", "x"),
            ("accept-ranges", "bytes"),
        ];
        assert_eq!(
            listed(&fields_for_304(&fields(stored))),
            [("last-modified", "x")]
        );
        let kept: Lines<'_> = &[
            ("cache-control", "max-age=1"),
            ("cdn-cache-control", "max-age=2"),
            ("content-location", "/x"),
            ("date", "d"),
            ("etag", "\"a\""),
            ("expires", "e"),
            ("vary", "v"),
            ("x", "1"),
        ];
        let mut all = kept.to_vec();
        all.extend_from_slice(stored);
        assert_eq!(listed(&fields_for_304(&fields(&all))), kept);
    }
}
