//! Whether a stored response answers a request (RFC 9111 §4), and when a stale one
//! does (§4.2.4, RFC 5861).
//!
//! Every window is half open: a lifetime of `n` ms covers ages 0 to n − 1, a
//! stale window of 0 covers nothing.

use std::fmt;

use http::StatusCode;

use crate::request::RequestFacts;
use crate::response::ResponseFacts;

/// What to do with a request, given what is stored for it.
///
/// A request that says [`only-if-cached`](RequestFacts::only_if_cached) is answered
/// 504 (RFC 9111 §5.2.1.7) wherever the outcome would send a request for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// The stored response answers.
    Fresh {
        /// Its age now.
        age_ms: u64,
        /// How much longer it is fresh; at least 1.
        ttl_ms: u64,
    },
    /// The stored response may not answer as a fresh one would.
    Stale {
        /// What may be done with it.
        use_: StaleUse,
        /// Its age now.
        age_ms: u64,
        /// How long ago it stopped being fresh. 0 when it is fresh and the client or
        /// `no-cache` wants it validated all the same.
        stale_for_ms: u64,
    },
    /// Nothing is stored.
    Miss,
    /// The request is none of the cache's business.
    Bypass(Bypass),
}

/// What may be done with a stale response.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum StaleUse {
    /// Serve it: the client's `max-stale` allows it.
    Serve,
    /// Serve it now, refresh it in the background (`stale-while-revalidate`).
    ServeAndRevalidate,
    /// Validate it first; where it has no validator, fetch it anew.
    Revalidate,
}

/// Why the cache is not asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Bypass {
    /// Neither GET nor HEAD.
    Method,
    /// A rule of the site says so ([`Policy::bypass`](crate::Policy::bypass)).
    Rule,
    /// The request said `no-store`.
    RequestNoStore,
}

impl Bypass {
    /// A short token for metrics and for `detail` in `Cache-Status`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Method => "method",
            Self::Rule => "rule",
            Self::RequestNoStore => "request_no_store",
        }
    }
}

impl fmt::Display for Bypass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Decides what to do with a request at `now_ms`, given the stored response that its
/// key and `Vary` have selected. Total, and allocates nothing.
pub fn decide(request: &RequestFacts, stored: Option<&ResponseFacts>, now_ms: u64) -> Decision {
    if !request.is_get() && !request.is_head() {
        return Decision::Bypass(Bypass::Method);
    }
    if request.is_bypassed() {
        return Decision::Bypass(Bypass::Rule);
    }
    // RFC 9111 §5.2.1.5 speaks of storing alone; a client that wants no trace left
    // of its request is better served by not looking for one either.
    if request.no_store() {
        return Decision::Bypass(Bypass::RequestNoStore);
    }
    let Some(stored) = stored else {
        return Decision::Miss;
    };
    let (age_ms, lifetime_ms) = (stored.age_ms(now_ms), stored.lifetime_ms());
    if age_ms < lifetime_ms && satisfies(request, stored, age_ms) {
        return Decision::Fresh {
            age_ms,
            ttl_ms: lifetime_ms - age_ms,
        };
    }
    let stale_for_ms = age_ms.saturating_sub(lifetime_ms);
    let use_ = if age_ms < lifetime_ms || !stale_allowed(request, stored, age_ms) {
        StaleUse::Revalidate
    } else if stale_for_ms < stored.stale_while_revalidate_ms() {
        // RFC 5861 §3. It goes before max-stale, since it also mends the staleness.
        StaleUse::ServeAndRevalidate
    } else if request
        .directives()
        .max_stale_ms
        .is_some_and(|max_ms| stale_for_ms <= max_ms)
    {
        // RFC 9111 §5.2.1.2: "by no more than" the given time.
        StaleUse::Serve
    } else {
        StaleUse::Revalidate
    };
    Decision::Stale {
        use_,
        age_ms,
        stale_for_ms,
    }
}

/// Whether a fresh response is fresh enough for this client.
fn satisfies(request: &RequestFacts, stored: &ResponseFacts, age_ms: u64) -> bool {
    let wanted = request.directives();
    // RFC 9111 §5.2.2.4, §5.2.1.4.
    if stored.flags.no_cache || wanted.no_cache {
        return false;
    }
    let young_enough = match wanted.max_age_ms {
        None => true,
        // RFC 8246 §2: a reload (max-age=0) is no reason to validate what its origin
        // says will never change; a forced reload (no-cache) is.
        Some(0) => stored.flags.immutable,
        // RFC 9111 §5.2.1.1.
        Some(max_ms) => age_ms <= max_ms,
    };
    // RFC 9111 §5.2.1.3.
    let ttl_ms = stored.lifetime_ms().saturating_sub(age_ms);
    young_enough && wanted.min_fresh_ms.is_none_or(|min_ms| ttl_ms >= min_ms)
}

/// Whether neither the origin nor the client forbids the stale response.
fn stale_allowed(request: &RequestFacts, stored: &ResponseFacts, age_ms: u64) -> bool {
    let wanted = request.directives();
    // RFC 9111 §4.2.4.
    if stored.flags.forbids_stale || wanted.no_cache || wanted.min_fresh_ms.is_some() {
        return false;
    }
    // RFC 9111 §5.2.1.1: max-age also says "not stale", unless max-stale is there.
    match wanted.max_age_ms {
        None => true,
        Some(max_ms) => wanted.max_stale_ms.is_some() && max_ms > 0 && age_ms <= max_ms,
    }
}

/// Whether the stored response may answer because the upstream failed, at `now_ms`:
/// `stale-if-error` (RFC 5861 §4), and any response that is still fresh when only
/// the client had wanted a newer one.
///
/// Never where the origin forbids stale responses (`must-revalidate`,
/// `proxy-revalidate`, `no-cache`, `s-maxage` alone) or the client says `no-cache`.
pub fn may_serve_on_error(request: &RequestFacts, stored: &ResponseFacts, now_ms: u64) -> bool {
    let wanted = request.directives();
    if !(request.is_get() || request.is_head())
        || request.is_bypassed()
        || request.no_store()
        || wanted.no_cache
        || stored.flags.no_cache
    {
        return false;
    }
    if stored.is_fresh(now_ms) {
        return true;
    }
    let window_ms = stored
        .stale_if_error_ms()
        .max(wanted.stale_if_error_ms.unwrap_or(0));
    !stored.flags.forbids_stale && stored.stale_for_ms(now_ms) < window_ms
}

/// Whether a status is an error in the sense of `stale-if-error` (RFC 5861 §4).
pub fn is_error_for_stale(status: StatusCode) -> bool {
    matches!(status.as_u16(), 500 | 502 | 503 | 504)
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, HeaderValue, Method};

    use super::*;
    use crate::policy::Policy;
    use crate::response::Arrival;

    const STORED_MS: u64 = 1_000_000;

    fn request(method: &Method, cache_control: &str) -> RequestFacts {
        let mut fields = HeaderMap::new();
        if !cache_control.is_empty() {
            fields.insert(
                "cache-control",
                HeaderValue::from_str(cache_control).unwrap(),
            );
        }
        RequestFacts::of(method, &fields, &Policy::default())
    }

    fn stored(cache_control: &str) -> ResponseFacts {
        let mut fields = HeaderMap::new();
        fields.insert(
            "cache-control",
            HeaderValue::from_str(cache_control).unwrap(),
        );
        let arrival = Arrival {
            request_ms: STORED_MS,
            response_ms: STORED_MS,
            age_ms: None,
        };
        ResponseFacts::of(StatusCode::OK, &fields, arrival, &Policy::default())
    }

    /// The outcome in a word, for tables.
    fn word(decision: Decision) -> &'static str {
        match decision {
            Decision::Fresh { .. } => "fresh",
            Decision::Stale {
                use_: StaleUse::Serve,
                ..
            } => "serve",
            Decision::Stale {
                use_: StaleUse::ServeAndRevalidate,
                ..
            } => "refresh",
            Decision::Stale {
                use_: StaleUse::Revalidate,
                ..
            } => "revalidate",
            Decision::Miss => "miss",
            Decision::Bypass(reason) => reason.as_str(),
        }
    }

    #[test]
    fn decisions() {
        let table: &[(&str, &str, u64, &str)] = &[
            // response, request, age in ms, outcome
            ("max-age=60", "", 0, "fresh"),
            ("max-age=60", "", 59_999, "fresh"),
            ("max-age=60", "", 60_000, "revalidate"),
            ("max-age=0", "", 0, "revalidate"),
            ("max-age=60, must-revalidate", "", 59_999, "fresh"),
            ("max-age=60, must-revalidate", "", 60_000, "revalidate"),
            ("max-age=60, no-cache", "", 0, "revalidate"),
            ("max-age=60, no-cache=\"a\"", "", 0, "fresh"),
            // The client wants it fresher.
            ("max-age=60", "no-cache", 0, "revalidate"),
            ("max-age=60", "max-age=0", 0, "revalidate"),
            ("max-age=60", "max-age=10", 10_000, "fresh"),
            ("max-age=60", "max-age=10", 10_001, "revalidate"),
            ("max-age=60", "min-fresh=10", 50_000, "fresh"),
            ("max-age=60", "min-fresh=10", 50_001, "revalidate"),
            ("max-age=60", "max-age=10, max-stale", 10_001, "revalidate"),
            ("max-age=60, immutable", "max-age=0", 1, "fresh"),
            ("max-age=60, immutable", "max-age=0", 60_000, "revalidate"),
            ("max-age=60, immutable", "no-cache", 1, "revalidate"),
            ("max-age=60, immutable", "max-age=10", 10_001, "revalidate"),
            // The client takes it stale.
            ("max-age=60", "max-stale", 600_000, "serve"),
            ("max-age=60", "max-stale=10", 70_000, "serve"),
            ("max-age=60", "max-stale=10", 70_001, "revalidate"),
            (
                "max-age=60",
                "max-stale=10, min-fresh=1",
                60_000,
                "revalidate",
            ),
            ("max-age=60", "max-stale=10, no-cache", 60_000, "revalidate"),
            ("max-age=60", "max-stale=10, max-age=65", 65_000, "serve"),
            (
                "max-age=60",
                "max-stale=10, max-age=65",
                65_001,
                "revalidate",
            ),
            (
                "max-age=60, must-revalidate",
                "max-stale",
                60_000,
                "revalidate",
            ),
            (
                "max-age=60, proxy-revalidate",
                "max-stale",
                60_000,
                "revalidate",
            ),
            ("max-age=60, no-cache", "max-stale", 60_000, "revalidate"),
            ("s-maxage=60", "max-stale", 60_000, "revalidate"),
            // The origin takes it stale.
            (
                "max-age=60, stale-while-revalidate=10",
                "",
                60_000,
                "refresh",
            ),
            (
                "max-age=60, stale-while-revalidate=10",
                "",
                69_999,
                "refresh",
            ),
            (
                "max-age=60, stale-while-revalidate=10",
                "",
                70_000,
                "revalidate",
            ),
            (
                "max-age=60, stale-while-revalidate=0",
                "",
                60_000,
                "revalidate",
            ),
            (
                "max-age=60, stale-while-revalidate=10",
                "max-stale=20",
                65_000,
                "refresh",
            ),
            (
                "max-age=60, stale-while-revalidate=10",
                "max-stale=20",
                75_000,
                "serve",
            ),
            (
                "max-age=60, stale-while-revalidate=10",
                "max-age=600",
                65_000,
                "revalidate",
            ),
            (
                "max-age=60, stale-while-revalidate=10",
                "no-cache",
                65_000,
                "revalidate",
            ),
            (
                "max-age=60, stale-while-revalidate=10, must-revalidate",
                "",
                60_000,
                "revalidate",
            ),
            (
                "s-maxage=60, stale-while-revalidate=10",
                "",
                60_000,
                "refresh",
            ),
            // Not ours.
            ("max-age=60", "no-store", 0, "request_no_store"),
        ];
        for (response, wanted, age_ms, expected) in table {
            let stored = stored(response);
            for method in [Method::GET, Method::HEAD] {
                let got = decide(&request(&method, wanted), Some(&stored), STORED_MS + age_ms);
                assert_eq!(
                    word(got),
                    *expected,
                    "{method} {response} | {wanted} | {age_ms}"
                );
            }
        }
    }

    #[test]
    fn outcomes_carry_times() {
        let (plain, stored) = (request(&Method::GET, ""), stored("max-age=60"));
        let at = |age_ms| decide(&plain, Some(&stored), STORED_MS + age_ms);
        assert_eq!(
            at(20_000),
            Decision::Fresh {
                age_ms: 20_000,
                ttl_ms: 40_000
            }
        );
        let stale = Decision::Stale {
            use_: StaleUse::Revalidate,
            age_ms: 61_000,
            stale_for_ms: 1_000,
        };
        assert_eq!(at(61_000), stale);
        let fresh_but = decide(&request(&Method::GET, "no-cache"), Some(&stored), STORED_MS);
        assert_eq!(
            fresh_but,
            Decision::Stale {
                use_: StaleUse::Revalidate,
                age_ms: 0,
                stale_for_ms: 0
            }
        );
    }

    #[test]
    fn without_a_stored_response() {
        assert_eq!(decide(&request(&Method::GET, ""), None, 0), Decision::Miss);
        assert_eq!(decide(&request(&Method::HEAD, ""), None, 0), Decision::Miss);
        for method in [
            Method::POST,
            Method::OPTIONS,
            Method::DELETE,
            Method::CONNECT,
        ] {
            let got = decide(
                &request(&method, ""),
                Some(&stored("max-age=60")),
                STORED_MS,
            );
            assert_eq!(got, Decision::Bypass(Bypass::Method), "{method}");
        }
    }

    #[test]
    fn a_rule_takes_requests_from_the_cache() {
        let policy = Policy {
            bypass: true,
            ..Policy::default()
        };
        let stored = stored("max-age=60, stale-if-error=60");
        for method in [Method::GET, Method::HEAD] {
            let request = RequestFacts::of(&method, &HeaderMap::new(), &policy);
            let got = decide(&request, Some(&stored), STORED_MS);
            assert_eq!(got, Decision::Bypass(Bypass::Rule), "{method}");
            assert!(!may_serve_on_error(&request, &stored, STORED_MS));
        }
    }

    #[test]
    fn errors_may_be_hidden() {
        let table = [
            // response, request, age in ms, may serve
            ("max-age=60, stale-if-error=10", "", 60_000, true),
            ("max-age=60, stale-if-error=10", "", 69_999, true),
            ("max-age=60, stale-if-error=10", "", 70_000, false),
            ("max-age=60", "", 60_000, false),
            ("max-age=60", "stale-if-error=10", 69_999, true),
            ("max-age=60", "stale-if-error=10", 70_000, false),
            ("max-age=60, stale-if-error=10", "max-age=0", 65_000, true),
            ("max-age=60, stale-if-error=10", "no-cache", 65_000, false),
            (
                "max-age=60, stale-if-error=10, must-revalidate",
                "",
                60_000,
                false,
            ),
            (
                "max-age=60, stale-if-error=10, proxy-revalidate",
                "",
                60_000,
                false,
            ),
            ("max-age=60, stale-if-error=10, no-cache", "", 0, false),
            ("s-maxage=60", "", 60_000, false),
            ("s-maxage=60, stale-if-error=10", "", 60_000, true),
            // Still fresh: only the client had wanted more.
            ("max-age=60, must-revalidate", "max-age=0", 59_999, true),
            ("max-age=60, must-revalidate", "no-cache", 59_999, false),
            ("max-age=60", "no-store", 0, false),
        ];
        for (response, wanted, age_ms, expected) in table {
            let got = may_serve_on_error(
                &request(&Method::GET, wanted),
                &stored(response),
                STORED_MS + age_ms,
            );
            assert_eq!(got, expected, "{response} | {wanted} | {age_ms}");
        }
        assert!(!may_serve_on_error(
            &request(&Method::POST, ""),
            &stored("max-age=60"),
            STORED_MS
        ));
    }

    #[test]
    fn errors_are_four() {
        for status in 200..600 {
            let expected = [500, 502, 503, 504].contains(&status);
            assert_eq!(
                is_error_for_stale(StatusCode::from_u16(status).unwrap()),
                expected,
                "{status}"
            );
        }
    }
}
