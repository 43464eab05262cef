//! How long a response is fresh (RFC 9111 §4.2.1, §4.2.2).

use http::header::EXPIRES;
use http::{HeaderMap, StatusCode};

use crate::date;
use crate::directives::ResponseDirectives;
use crate::policy::Policy;

/// A tenth of the time since the last change, as RFC 9111 §4.2.2 suggests…
const HEURISTIC_DIVISOR: u64 = 10;
/// …but never more than a day: a page untouched for years may still change today.
const HEURISTIC_MAX_MS: u64 = 86_400_000;

/// The freshness lifetime (RFC 9111 §4.2.1) and where it comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lifetime {
    /// The response says so: `s-maxage`, `max-age` or `Expires`.
    Explicit(u64),
    /// The response may be stored without saying so; by the site's default or by
    /// heuristics, possibly for no time at all.
    Implied(u64),
    /// The response says nothing, and its status forbids to guess.
    Unknown,
}

impl Lifetime {
    /// The lifetime of a response generated at `date_ms`.
    pub(crate) fn of(
        status: StatusCode,
        fields: &HeaderMap,
        directives: &ResponseDirectives,
        date_ms: u64,
        last_modified_ms: Option<u64>,
        policy: &Policy,
    ) -> Self {
        let cap = |ms: u64| ms.min(policy.ttl_max_ms.unwrap_or(u64::MAX));
        // RFC 9111 §4.2.1: the first match of s-maxage, max-age, Expires.
        let explicit_ms = directives
            .s_maxage_ms
            .or(directives.max_age_ms)
            .or_else(|| {
                if directives.targeted {
                    None
                } else {
                    expires_ms(fields, date_ms)
                }
            });
        if let Some(ms) = explicit_ms {
            return Self::Explicit(cap(ms));
        }
        // RFC 9111 §4.2.2: only where the status says so, or the origin.
        if !is_heuristically_cacheable(status) && !directives.public {
            return Self::Unknown;
        }
        if let Some(ms) = policy.default_ttl_ms {
            return Self::Implied(cap(ms));
        }
        let unchanged_for_ms = last_modified_ms
            .filter(|_| policy.heuristic)
            .map(|ms| date_ms.saturating_sub(ms));
        Self::Implied(cap(
            (unchanged_for_ms.unwrap_or(0) / HEURISTIC_DIVISOR).min(HEURISTIC_MAX_MS)
        ))
    }

    /// The lifetime in milliseconds; none at all where nothing is known.
    pub(crate) fn ms(self) -> u64 {
        match self {
            Self::Explicit(ms) | Self::Implied(ms) => ms,
            Self::Unknown => 0,
        }
    }
}

/// The lifetime that `Expires` gives, the shortest of several.
// RFC 9111 §5.3: an invalid date, "0" above all, is in the past.
fn expires_ms(fields: &HeaderMap, date_ms: u64) -> Option<u64> {
    fields
        .get_all(EXPIRES)
        .into_iter()
        .map(|line| {
            date::parse(line.as_bytes())
                .unwrap_or(0)
                .saturating_sub(date_ms)
        })
        .min()
}

/// Status codes defined as heuristically cacheable (RFC 9110 §15.1). 206 is one of
/// them, but partial responses are not stored.
fn is_heuristically_cacheable(status: StatusCode) -> bool {
    matches!(
        status.as_u16(),
        200 | 203 | 204 | 206 | 300 | 301 | 308 | 404 | 405 | 410 | 414 | 501
    )
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;
    use crate::response::{Arrival, ResponseFacts};

    type Line = (&'static str, String);

    /// 2001-09-09T01:46:40Z, where most tests happen.
    const NOW_MS: u64 = 1_000_000_000_000;

    fn facts(status: u16, policy: &Policy, lines: &[Line]) -> ResponseFacts {
        let mut fields = HeaderMap::new();
        for (name, value) in lines {
            fields.append(*name, HeaderValue::from_str(value).unwrap());
        }
        let arrival = Arrival {
            request_ms: NOW_MS,
            response_ms: NOW_MS,
            age_ms: None,
        };
        ResponseFacts::of(
            StatusCode::from_u16(status).unwrap(),
            &fields,
            arrival,
            policy,
        )
    }

    fn at(offset_s: i64) -> String {
        let unix_ms = NOW_MS.checked_add_signed(offset_s * 1000).unwrap();
        date::format(unix_ms).to_str().unwrap().to_owned()
    }

    fn line(name: &'static str, value: &str) -> Line {
        (name, value.to_owned())
    }

    #[test]
    fn lifetime_is_the_first_that_is_said() {
        let table: &[(&[Line], u64)] = &[
            (
                &[
                    line("cache-control", "max-age=60, s-maxage=5"),
                    ("expires", at(90)),
                ],
                5_000,
            ),
            (
                &[line("cache-control", "max-age=60"), ("expires", at(90))],
                60_000,
            ),
            (
                &[line("cache-control", "max-age=60"), ("expires", at(-90))],
                60_000,
            ),
            (
                &[line("cache-control", "max-age=60"), line("expires", "0")],
                60_000,
            ),
            (
                &[line("cache-control", "max-age=0"), ("expires", at(90))],
                0,
            ),
            (
                &[
                    line("cache-control", "max-age=0, s-maxage=60"),
                    ("expires", at(-10)),
                ],
                60_000,
            ),
            (
                &[line("cache-control", "max-age=x"), ("expires", at(90))],
                0,
            ),
            (&[("date", at(0)), ("expires", at(90))], 90_000),
            (&[("date", at(-10)), ("expires", at(90))], 100_000),
            (&[("date", at(0)), ("expires", at(0))], 0),
            (&[("date", at(400)), ("expires", at(300))], 0),
            (&[("expires", at(90))], 90_000),
            (&[line("date", "foo"), ("expires", at(90))], 90_000),
            (&[line("expires", "0")], 0),
            (&[line("expires", "Thu, 18 Aug 2050 02:01:18 UTC")], 0),
            (&[("expires", at(90)), ("expires", at(60))], 60_000),
            (&[("expires", at(90)), line("expires", "x")], 0),
            // Explicitly stale is not a case for heuristics.
            (&[line("expires", "0"), ("last-modified", at(-86_400))], 0),
            // A targeted field silences Expires, not heuristics.
            (
                &[line("cdn-cache-control", "max-age=7"), ("expires", at(-90))],
                7_000,
            ),
            (
                &[line("cdn-cache-control", "public"), ("expires", at(90))],
                0,
            ),
        ];
        for (lines, expected) in table {
            assert_eq!(
                facts(200, &Policy::default(), lines).lifetime_ms(),
                *expected,
                "{lines:?}"
            );
        }
    }

    #[test]
    fn heuristics_need_a_status_and_a_date() {
        let day = 86_400;
        let changed = |ago_s: i64| ("last-modified", at(-ago_s));
        let public = || line("cache-control", "public");
        let table: &[(u16, &[Line], u64)] = &[
            (200, &[changed(day)], 8_640_000),
            (200, &[changed(10)], 1_000),
            (200, &[changed(365 * day)], HEURISTIC_MAX_MS),
            (200, &[changed(0)], 0),
            (200, &[changed(-10)], 0),
            (200, &[], 0),
            (200, &[line("last-modified", "x")], 0),
            (203, &[changed(day)], 8_640_000),
            (204, &[changed(day)], 8_640_000),
            (301, &[changed(day)], 8_640_000),
            (404, &[changed(day)], 8_640_000),
            (410, &[changed(day)], 8_640_000),
            (501, &[changed(day)], 8_640_000),
            (201, &[changed(day)], 0),
            (302, &[changed(day)], 0),
            (403, &[changed(day)], 0),
            (500, &[changed(day)], 0),
            (503, &[changed(day)], 0),
            (599, &[changed(day)], 0),
            (599, &[changed(day), public()], 8_640_000),
        ];
        for (status, lines, expected) in table {
            assert_eq!(
                facts(*status, &Policy::default(), lines).lifetime_ms(),
                *expected,
                "{status} {lines:?}"
            );
        }
    }

    #[test]
    fn policy_fills_in_and_caps() {
        let base = Policy::default;
        let cc = |value| [line("cache-control", value)];
        let changed = [("last-modified", at(-1000))];
        let table = [
            (
                Policy {
                    heuristic: false,
                    ..base()
                },
                200,
                &changed,
                0,
            ),
            (
                Policy {
                    default_ttl_ms: Some(5_000),
                    ..base()
                },
                200,
                &changed,
                5_000,
            ),
            (
                Policy {
                    default_ttl_ms: Some(5_000),
                    ..base()
                },
                500,
                &changed,
                0,
            ),
            (
                Policy {
                    default_ttl_ms: Some(5_000),
                    ..base()
                },
                200,
                &cc("max-age=0"),
                0,
            ),
            (
                Policy {
                    ttl_max_ms: Some(3_000),
                    ..base()
                },
                200,
                &changed,
                3_000,
            ),
            (
                Policy {
                    ttl_max_ms: Some(3_000),
                    ..base()
                },
                200,
                &cc("max-age=9"),
                3_000,
            ),
            (
                Policy {
                    ttl_max_ms: Some(3_000),
                    ..base()
                },
                200,
                &cc("max-age=2"),
                2_000,
            ),
            (
                Policy {
                    ttl_max_ms: Some(3_000),
                    default_ttl_ms: Some(5_000),
                    ..base()
                },
                200,
                &changed,
                3_000,
            ),
        ];
        for (policy, status, lines, expected) in table {
            assert_eq!(
                facts(status, &policy, lines).lifetime_ms(),
                expected,
                "{policy:?} {lines:?}"
            );
        }
    }
}
