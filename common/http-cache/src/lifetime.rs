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
    /// The response says so: `s-maxage`, `max-age` or `Expires`. How long is up to
    /// the site, where that decides it.
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
        let times = policy.times(status);
        let is_named = policy.named_times(status).is_some();
        let cap = |ms: u64| ms.min(times.ttl_max_ms.unwrap_or(u64::MAX));
        // RFC 9111 §4.2.1: the first match of s-maxage, max-age, Expires.
        let explicit_ms = directives
            .s_maxage_ms
            .or(directives.max_age_ms)
            .or_else(|| {
                if directives.silences_expires {
                    None
                } else {
                    expires_ms(fields, date_ms)
                }
            });
        let pinned_ms = times.ttl_ms.filter(|_| is_named || status.as_u16() < 400);
        if let Some(ms) = explicit_ms {
            return Self::Explicit(cap(pinned_ms.unwrap_or(ms)));
        }
        // RFC 9111 §4.2.2: only where the status says so, or the origin; §5.2.3 lets
        // an extension say so, which is here a site that names the status.
        let site_says = is_named && (pinned_ms.is_some() || times.default_ttl_ms.is_some());
        if !is_heuristically_cacheable(status) && !directives.public && !site_says {
            return Self::Unknown;
        }
        if let Some(ms) = pinned_ms.or(times.default_ttl_ms) {
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
    use crate::policy::{StatusTimes, Times};
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
        let pinned = |ttl_s: u64| Times {
            ttl_ms: Some(ttl_s * 1000),
            ..Times::default()
        };
        let default = |ttl_s: u64| Times {
            default_ttl_ms: Some(ttl_s * 1000),
            ..Times::default()
        };
        let capped = |times: Times| Times {
            ttl_max_ms: Some(3_000),
            ..times
        };
        let cc = |value| line("cache-control", value);
        let changed = || ("last-modified", at(-1000));
        let targeted = || line("cdn-cache-control", "max-age=4");
        let table = [
            // times, status, what the response says, lifetime in ms
            (Times::default(), 200, changed(), 100_000),
            (default(5), 200, changed(), 5_000),
            (default(5), 404, changed(), 5_000),
            (default(5), 500, changed(), 0),
            (default(5), 200, cc("max-age=0"), 0),
            (default(5), 200, cc("max-age=9"), 9_000),
            (capped(Times::default()), 200, changed(), 3_000),
            (capped(Times::default()), 200, cc("max-age=9"), 3_000),
            (capped(Times::default()), 200, cc("max-age=2"), 2_000),
            (capped(default(5)), 200, changed(), 3_000),
            (pinned(7), 200, changed(), 7_000),
            (pinned(7), 200, cc("max-age=0"), 7_000),
            (pinned(7), 200, cc("max-age=9"), 7_000),
            (pinned(7), 200, targeted(), 7_000),
            (pinned(7), 200, line("expires", "0"), 7_000),
            (capped(pinned(7)), 200, cc("max-age=9"), 3_000),
            // Redirects count as content; errors keep what they say.
            (pinned(7), 301, cc(""), 7_000),
            (pinned(7), 302, cc("max-age=9"), 7_000),
            (pinned(7), 302, cc(""), 0),
            (pinned(7), 399, cc("public"), 7_000),
            (pinned(7), 400, cc("public"), 0),
            (pinned(7), 404, cc("max-age=9"), 9_000),
            (pinned(7), 404, cc(""), 0),
            (pinned(7), 503, cc("max-age=9"), 9_000),
        ];
        for (times, status, said, expected) in table {
            let policy = Policy {
                times,
                ..Policy::default()
            };
            assert_eq!(
                facts(status, &policy, std::slice::from_ref(&said)).lifetime_ms(),
                expected,
                "{times:?} {status} {said:?}"
            );
        }
        let no_guess = Policy {
            heuristic: false,
            ..Policy::default()
        };
        assert_eq!(facts(200, &no_guess, &[changed()]).lifetime_ms(), 0);
    }

    #[test]
    fn a_named_status_has_its_own_times() {
        let entry = |statuses: &[std::ops::RangeInclusive<u16>], times| StatusTimes {
            statuses: statuses.to_vec(),
            times,
        };
        let ttl = |ttl_ms| Times {
            ttl_ms: Some(ttl_ms),
            ..Times::default()
        };
        let default = Times {
            default_ttl_ms: Some(2_000),
            ..Times::default()
        };
        let policy = Policy {
            times: ttl(7_000),
            by_status: vec![
                entry(&[404..=404, 302..=302], ttl(1_000)),
                entry(&[404..=404, 500..=599], default),
                entry(&[403..=403], Times::default()),
            ],
            ..Policy::default()
        };
        let table = [
            (200, "max-age=60", Lifetime::Explicit(7_000)),
            (200, "", Lifetime::Implied(7_000)),
            (404, "", Lifetime::Implied(1_000)),
            (404, "max-age=60", Lifetime::Explicit(1_000)),
            (302, "", Lifetime::Implied(1_000)),
            (303, "", Lifetime::Unknown),
            (499, "", Lifetime::Unknown),
            (500, "", Lifetime::Implied(2_000)),
            (599, "", Lifetime::Implied(2_000)),
            (503, "max-age=60", Lifetime::Explicit(60_000)),
            // Being named with no time to live lets nothing be stored.
            (403, "", Lifetime::Unknown),
        ];
        for (status, value, expected) in table {
            let mut fields = HeaderMap::new();
            fields.insert("cache-control", HeaderValue::from_static(value));
            let status = StatusCode::from_u16(status).unwrap();
            let directives = ResponseDirectives::of(&fields, status, &policy);
            let got = Lifetime::of(status, &fields, &directives, NOW_MS, None, &policy);
            assert_eq!(got, expected, "{status} {value:?}");
        }
    }
}
