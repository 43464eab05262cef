//! Whether a response may be stored (RFC 9111 §3), and if not, why.

use std::fmt;

use http::{HeaderMap, StatusCode};

use crate::part::PartBounds;
use crate::policy::{Policy, SetCookie};
use crate::request::RequestFacts;
use crate::response::ResponseFacts;

/// Why a response is not stored. The first reason in the order of
/// [`storable`]'s checks is the one given.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum NotStored {
    /// A rule of the site says so ([`Policy::bypass`]).
    Rule,
    /// The method is not GET.
    Method,
    /// The request said `no-store`.
    RequestNoStore,
    /// The status is interim, answers a condition or a range rather than the
    /// request, or may not be cached without explicit freshness.
    Status,
    /// The response is partial (206), and was not asked for or contradicts itself.
    Partial,
    /// The response said `must-understand`, and we do not know its status.
    MustUnderstand,
    /// The response said `no-store`.
    NoStore,
    /// The response said `private`.
    Private,
    /// The response varies by something that is in no request (`Vary: *`).
    VaryStar,
    /// The request carried credentials, and the response does not allow sharing.
    Authorization,
    /// The response sets a cookie, and the site bypasses such responses.
    SetCookie,
    /// The response was stale when it came and cannot be validated.
    AlreadyStale,
    /// The response says nothing that would let it be used twice.
    NoFreshnessNorValidator,
}

impl NotStored {
    /// A short token for metrics and for `detail` in `Cache-Status`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Rule => "rule",
            Self::Method => "method",
            Self::RequestNoStore => "request_no_store",
            Self::Status => "status",
            Self::Partial => "partial",
            Self::MustUnderstand => "must_understand",
            Self::NoStore => "no_store",
            Self::Private => "private",
            Self::VaryStar => "vary_star",
            Self::Authorization => "authorization",
            Self::SetCookie => "set_cookie",
            Self::AlreadyStale => "already_stale",
            Self::NoFreshnessNorValidator => "no_freshness_nor_validator",
        }
    }
}

impl fmt::Display for NotStored {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Whether this response to this request may be stored (RFC 9111 §3).
///
/// `response` must have been gathered under the same `policy`.
///
/// # Errors
/// The reason why it may not, or why storing it would be of no use.
pub fn storable(
    request: &RequestFacts,
    response: &ResponseFacts,
    policy: &Policy,
) -> Result<(), NotStored> {
    // RFC 9110 §9.3: HEAD responses have no content to store, and those of POST
    // have conditions of their own.
    if !request.is_get() {
        return Err(NotStored::Method);
    }
    if response.status() == StatusCode::PARTIAL_CONTENT {
        return Err(NotStored::Partial);
    }
    storable_answer(request, response, policy)
}

/// Whether a 206 to a GET for a range may be stored as the part that it is
/// (RFC 9111 §3.3). `fields` are the response's, which must say in
/// [one voice](PartBounds::of) what part that is.
///
/// # Errors
/// The reason why it may not, or why storing it would be of no use.
pub fn storable_part(
    request: &RequestFacts,
    fields: &HeaderMap,
    response: &ResponseFacts,
    policy: &Policy,
) -> Result<(), NotStored> {
    if !request.is_get() {
        return Err(NotStored::Method);
    }
    if response.status() != StatusCode::PARTIAL_CONTENT || PartBounds::of(fields).is_none() {
        return Err(NotStored::Partial);
    }
    storable_answer(request, response, policy)
}

/// Whether the response to a POST may be stored for later GETs (RFC 9110 §9.3.3): it
/// says itself how long it is fresh, and it
/// [is of its target](crate::describes_target), which the caller has found out.
///
/// A POST belongs to one visitor more often than not, so a response that sets a
/// cookie is stored where the site strips cookies, and nowhere else.
///
/// # Errors
/// The reason why it may not, or why storing it would be of no use.
pub fn storable_from_post(
    request: &RequestFacts,
    response: &ResponseFacts,
    policy: &Policy,
) -> Result<(), NotStored> {
    // Only a 200 is what a GET would have been answered with (RFC 9110 §8.7).
    if response.status() != StatusCode::OK || !response.is_explicit() {
        return Err(NotStored::Method);
    }
    if response.flags.sets_cookie && policy.set_cookie != SetCookie::Strip {
        return Err(NotStored::SetCookie);
    }
    storable_answer(request, response, policy)
}

/// Whether a response may be stored, whatever the method was.
fn storable_answer(
    request: &RequestFacts,
    response: &ResponseFacts,
    policy: &Policy,
) -> Result<(), NotStored> {
    if request.is_bypassed() {
        return Err(NotStored::Rule);
    }
    if request.no_store() {
        return Err(NotStored::RequestNoStore);
    }
    storable_status(request, response)?;
    let flags = &response.flags;
    if flags.private {
        return Err(NotStored::Private);
    }
    // RFC 9111 §4.1: it would match no request.
    if flags.vary_any {
        return Err(NotStored::VaryStar);
    }
    // RFC 9111 §3.5.
    if request.has_authorization() && !flags.allows_authorization {
        return Err(NotStored::Authorization);
    }
    if flags.sets_cookie && policy.set_cookie == SetCookie::Bypass {
        return Err(NotStored::SetCookie);
    }
    if !response.may_be_stored_by_freshness() {
        return Err(NotStored::Status);
    }
    useful(response)
}

/// What the status has to say, and `no-store`, which `must-understand` ties to it.
fn storable_status(request: &RequestFacts, response: &ResponseFacts) -> Result<(), NotStored> {
    let (status, flags) = (response.status(), &response.flags);
    // RFC 9111 §3: the status is final. 304 updates what is stored (§4.3.4) and is
    // nothing to store; 412 and 416 answer fields that are no part of any key.
    let answers_condition = status == StatusCode::PRECONDITION_FAILED && request.is_conditional();
    let answers_range = status == StatusCode::RANGE_NOT_SATISFIABLE && request.has_range();
    if status.is_informational()
        || status == StatusCode::NOT_MODIFIED
        || answers_condition
        || answers_range
    {
        return Err(NotStored::Status);
    }
    // RFC 6585 §3 to §6: these MUST NOT be stored, explicitly fresh or not.
    if matches!(status.as_u16(), 428 | 429 | 431 | 511) {
        return Err(NotStored::Status);
    }
    // RFC 9111 §5.2.2.3: a cache that understands the status ignores `no-store`
    // beside `must-understand`; one that does not stores nothing.
    if flags.must_understand {
        return if is_understood(status) {
            Ok(())
        } else {
            Err(NotStored::MustUnderstand)
        };
    }
    if flags.no_store {
        return Err(NotStored::NoStore);
    }
    Ok(())
}

/// Whether the stored response could ever answer a request.
fn useful(response: &ResponseFacts) -> Result<(), NotStored> {
    if response.has_validator() {
        return Ok(());
    }
    let now_ms = response.response_ms();
    let (flags, stale_for_ms) = (&response.flags, response.stale_for_ms(now_ms));
    let usable_stale = !flags.forbids_stale
        && (stale_for_ms < response.stale_while_revalidate_ms()
            || stale_for_ms < response.stale_if_error_ms());
    if !flags.no_cache && (response.is_fresh(now_ms) || usable_stale) {
        return Ok(());
    }
    if response.lifetime_ms() > 0 && !flags.no_cache {
        return Err(NotStored::AlreadyStale);
    }
    Err(NotStored::NoFreshnessNorValidator)
}

/// Final status codes whose caching requirements we know and keep: those of
/// RFC 9110 §15, RFC 7725 and RFC 8470.
fn is_understood(status: StatusCode) -> bool {
    matches!(
        status.as_u16(),
        200..=206 | 300..=305 | 307 | 308 | 400..=417 | 421 | 422 | 425 | 426 | 451 | 500..=505
    )
}

#[cfg(test)]
mod tests {
    use http::Method;

    use super::*;
    use crate::cases::{Lines, fields};
    use crate::response::Arrival;

    fn ask(
        method: &Method,
        request: Lines<'_>,
        status: u16,
        response: Lines<'_>,
        policy: &Policy,
    ) -> Result<(), NotStored> {
        let arrival = Arrival {
            request_ms: 1_000,
            response_ms: 1_000,
            age_ms: None,
        };
        let request = RequestFacts::of(method, &fields(request), policy);
        let status = StatusCode::from_u16(status).unwrap();
        let response = ResponseFacts::of(status, &fields(response), arrival, policy);
        storable(&request, &response, policy)
    }

    fn get(status: u16, response: Lines<'_>) -> Result<(), NotStored> {
        ask(&Method::GET, &[], status, response, &Policy::default())
    }

    const FRESH: (&str, &str) = ("cache-control", "max-age=60");

    #[test]
    fn methods() {
        for (method, expected) in [
            (Method::GET, Ok(())),
            (Method::HEAD, Err(NotStored::Method)),
            (Method::POST, Err(NotStored::Method)),
            (Method::OPTIONS, Err(NotStored::Method)),
        ] {
            assert_eq!(
                ask(&method, &[], 200, &[FRESH], &Policy::default()),
                expected,
                "{method}"
            );
        }
    }

    #[test]
    fn posts_say_how_long_they_are_fresh() {
        let cookie = ("set-cookie", "a=b");
        let table: &[(u16, Lines<'_>, SetCookie, Result<(), NotStored>)] = &[
            (200, &[FRESH], SetCookie::Bypass, Ok(())),
            (
                200,
                &[("etag", "\"a\"")],
                SetCookie::Bypass,
                Err(NotStored::Method),
            ),
            (201, &[FRESH], SetCookie::Bypass, Err(NotStored::Method)),
            (
                200,
                &[FRESH, cookie],
                SetCookie::Bypass,
                Err(NotStored::SetCookie),
            ),
            (
                200,
                &[FRESH, cookie],
                SetCookie::Store,
                Err(NotStored::SetCookie),
            ),
            (200, &[FRESH, cookie], SetCookie::Strip, Ok(())),
            (
                200,
                &[("cache-control", "max-age=60, private")],
                SetCookie::Bypass,
                Err(NotStored::Private),
            ),
        ];
        for (status, lines, set_cookie, expected) in table {
            let policy = Policy {
                set_cookie: *set_cookie,
                ..Policy::default()
            };
            let arrival = Arrival {
                request_ms: 1_000,
                response_ms: 1_000,
                age_ms: None,
            };
            let request = RequestFacts::of(&Method::POST, &HeaderMap::new(), &policy);
            let status = StatusCode::from_u16(*status).unwrap();
            let response = ResponseFacts::of(status, &fields(lines), arrival, &policy);
            assert_eq!(
                storable_from_post(&request, &response, &policy),
                *expected,
                "{status} {lines:?}"
            );
        }
    }

    #[test]
    fn statuses() {
        let explicit = [
            200, 201, 203, 204, 299, 301, 302, 303, 307, 308, 400, 403, 404, 410, 412, 416, 499,
            500, 502, 503, 504, 599,
        ];
        for status in explicit {
            assert_eq!(get(status, &[FRESH]), Ok(()), "{status}");
        }
        for status in [100, 103, 304, 428, 429, 431, 511] {
            assert_eq!(get(status, &[FRESH]), Err(NotStored::Status), "{status}");
        }
        assert_eq!(get(206, &[FRESH]), Err(NotStored::Partial));
        // Without explicit freshness, but with a validator.
        for status in [200, 203, 204, 300, 301, 308, 404, 405, 410, 414, 501] {
            assert_eq!(get(status, &[("etag", "\"a\"")]), Ok(()), "{status}");
        }
        for status in [201, 202, 302, 303, 307, 400, 403, 500, 502, 503, 504, 599] {
            assert_eq!(
                get(status, &[("etag", "\"a\"")]),
                Err(NotStored::Status),
                "{status}"
            );
            assert_eq!(
                get(status, &[("etag", "\"a\""), ("cache-control", "public")]),
                Ok(()),
                "{status}"
            );
        }
        let ranged = |status, name| {
            ask(
                &Method::GET,
                &[(name, "x")],
                status,
                &[FRESH],
                &Policy::default(),
            )
        };
        assert_eq!(ranged(416, "range"), Err(NotStored::Status));
        assert_eq!(ranged(412, "if-match"), Err(NotStored::Status));
        assert_eq!(ranged(200, "range"), Ok(()));
    }

    #[test]
    fn directives() {
        use NotStored::*;
        let table: &[(u16, &str, Result<(), NotStored>)] = &[
            (200, "max-age=60, no-store", Err(NoStore)),
            (200, "no-store", Err(NoStore)),
            (200, "max-age=60, no-store, must-understand", Ok(())),
            (
                599,
                "max-age=60, no-store, must-understand",
                Err(MustUnderstand),
            ),
            (599, "max-age=60, must-understand", Err(MustUnderstand)),
            (599, "max-age=60, no-store", Err(NoStore)),
            (200, "max-age=60, private", Err(Private)),
            (200, "max-age=60, private=\"x-a\"", Ok(())),
            (200, "private, public, max-age=60", Err(Private)),
            (200, "s-maxage=60", Ok(())),
            (200, "max-age=0", Err(NoFreshnessNorValidator)),
            (200, "no-cache, max-age=60", Err(NoFreshnessNorValidator)),
            (200, "public", Err(NoFreshnessNorValidator)),
            (200, "", Err(NoFreshnessNorValidator)),
            (200, "max-age=0, stale-while-revalidate=5", Ok(())),
            (200, "max-age=0, stale-if-error=5", Ok(())),
            (
                200,
                "max-age=0, stale-if-error=5, must-revalidate",
                Err(NoFreshnessNorValidator),
            ),
            (500, "", Err(Status)),
        ];
        for (status, value, expected) in table {
            assert_eq!(
                get(*status, &[("cache-control", value)]),
                *expected,
                "{status} {value}"
            );
        }
    }

    #[test]
    fn what_needs_validation_needs_a_validator() {
        for value in ["max-age=0", "no-cache", ""] {
            for validator in [
                ("etag", "\"a\""),
                ("etag", "W/\"a\""),
                ("last-modified", "Thu, 01 Jan 1970 00:00:00 GMT"),
            ] {
                assert_eq!(
                    get(200, &[("cache-control", value), validator]),
                    Ok(()),
                    "{value} {validator:?}"
                );
            }
        }
        let old = ("age", "60");
        assert_eq!(get(200, &[FRESH, old]), Err(NotStored::AlreadyStale));
        assert_eq!(get(200, &[FRESH, ("age", "59")]), Ok(()));
        assert_eq!(get(200, &[FRESH, old, ("etag", "\"a\"")]), Ok(()));
        assert_eq!(
            get(
                200,
                &[("cache-control", "max-age=60, stale-if-error=1"), old]
            ),
            Ok(())
        );
    }

    #[test]
    fn credentials_need_permission() {
        let table = [
            ("max-age=60", Err(NotStored::Authorization)),
            (
                "max-age=60, proxy-revalidate",
                Err(NotStored::Authorization),
            ),
            ("max-age=60, public", Ok(())),
            ("max-age=60, must-revalidate", Ok(())),
            ("s-maxage=60", Ok(())),
            ("s-maxage=60, private", Err(NotStored::Private)),
        ];
        for (value, expected) in table {
            let got = ask(
                &Method::GET,
                &[("authorization", "x")],
                200,
                &[("cache-control", value)],
                &Policy::default(),
            );
            assert_eq!(got, expected, "{value}");
        }
    }

    #[test]
    fn request_no_store_and_vary_star() {
        let no_store = [("cache-control", "no-store")];
        assert_eq!(
            ask(&Method::GET, &no_store, 200, &[FRESH], &Policy::default()),
            Err(NotStored::RequestNoStore)
        );
        let deaf = Policy {
            honour_request_directives: false,
            ..Policy::default()
        };
        assert_eq!(ask(&Method::GET, &no_store, 200, &[FRESH], &deaf), Ok(()));
        assert_eq!(get(200, &[FRESH, ("vary", "*")]), Err(NotStored::VaryStar));
        assert_eq!(get(200, &[FRESH, ("vary", "accept")]), Ok(()));
    }

    #[test]
    fn what_a_rule_takes_from_the_cache_is_not_stored() {
        let policy = Policy {
            bypass: true,
            ..Policy::default()
        };
        let got = ask(&Method::GET, &[], 200, &[FRESH], &policy);
        assert_eq!(got, Err(NotStored::Rule));
    }

    #[test]
    fn cookies_follow_the_site() {
        let table = [
            (SetCookie::Bypass, "max-age=60", Err(NotStored::SetCookie)),
            (
                SetCookie::Bypass,
                "max-age=60, no-cache=\"set-cookie\"",
                Ok(()),
            ),
            (
                SetCookie::Bypass,
                "max-age=60, private=\"Set-Cookie\"",
                Ok(()),
            ),
            (SetCookie::Strip, "max-age=60", Ok(())),
            (SetCookie::Store, "max-age=60", Ok(())),
        ];
        for (set_cookie, value, expected) in table {
            let policy = Policy {
                set_cookie,
                ..Policy::default()
            };
            let got = ask(
                &Method::GET,
                &[],
                200,
                &[("cache-control", value), ("set-cookie", "a=b")],
                &policy,
            );
            assert_eq!(got, expected, "{set_cookie:?} {value}");
        }
    }
}
