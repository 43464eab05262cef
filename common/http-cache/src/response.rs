//! The facts of a response: how old it is, how long it is fresh, what validates it.

use http::header::{DATE, ETAG, LAST_MODIFIED, SET_COOKIE};
use http::{HeaderMap, HeaderValue, StatusCode};

use crate::date;
use crate::directives::{ResponseDirectives, age_field_ms};
use crate::entity_tag;
use crate::lifetime::Lifetime;
use crate::policy::Policy;
use crate::vary;

/// When a request was sent and its response received, in milliseconds since the
/// Unix epoch, and a finer age that an upstream of ours told us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Arrival {
    /// When the request was sent.
    pub request_ms: u64,
    /// When the response's head had been received.
    pub response_ms: u64,
    /// The response's age when a trusted upstream sent it. It takes the place of
    /// `Age` and `Date`, which count in whole seconds and need clocks that agree.
    pub age_ms: Option<u64>,
}

/// Facts of a response, gathered once when its head arrives, kept beside the object.
///
/// Times are milliseconds. After a 304 they are [gathered anew](Self::freshened).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResponseFacts {
    status: StatusCode,
    etag: Option<HeaderValue>,
    last_modified: Option<HeaderValue>,
    last_modified_ms: Option<u64>,
    date_ms: u64,
    response_ms: u64,
    initial_age_ms: u64,
    lifetime: Lifetime,
    stale_while_revalidate_ms: u64,
    stale_if_error_ms: u64,
    pub(crate) flags: Flags,
}

/// What decisions ask of a response's directives and fields, apart from times.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Flags {
    pub(crate) no_store: bool,
    pub(crate) no_cache: bool,
    pub(crate) private: bool,
    pub(crate) must_understand: bool,
    pub(crate) immutable: bool,
    /// `public`, `s-maxage` or `must-revalidate`: storable despite credentials.
    pub(crate) allows_authorization: bool,
    /// Never served stale.
    pub(crate) forbids_stale: bool,
    pub(crate) vary_any: bool,
    /// A `Set-Cookie` that `private` or `no-cache` does not already withhold.
    pub(crate) sets_cookie: bool,
    /// `Date` was there and readable.
    dated: bool,
}

impl ResponseFacts {
    /// Gathers the facts of one response. `fields` are the fields as received, with
    /// `Age`; `policy` is the policy of the site it belongs to.
    pub fn of(status: StatusCode, fields: &HeaderMap, arrival: Arrival, policy: &Policy) -> Self {
        Self::gather(status, fields, age_field_ms(fields), arrival, policy)
    }

    /// The facts after a 304 that confirmed this response (RFC 9111 §4.3.4).
    /// `freshened` are the fields that [`freshen`](crate::freshen) made of the stored
    /// ones; `not_modified` are those of the 304 as received, whose `Age` and arrival
    /// count from now on.
    pub fn freshened(
        &self,
        freshened: &HeaderMap,
        not_modified: &HeaderMap,
        arrival: Arrival,
        policy: &Policy,
    ) -> Self {
        Self::gather(
            self.status,
            freshened,
            age_field_ms(not_modified),
            arrival,
            policy,
        )
    }

    fn gather(
        status: StatusCode,
        fields: &HeaderMap,
        age_field_ms: u64,
        arrival: Arrival,
        policy: &Policy,
    ) -> Self {
        let directives = ResponseDirectives::of(fields, status, policy);
        let date = fields
            .get(DATE)
            .and_then(|value| date::parse(value.as_bytes()));
        // RFC 9110 §6.6.1: without Date, the time of receipt stands in.
        let date_ms = date.unwrap_or(arrival.response_ms);
        let last_modified = fields.get(LAST_MODIFIED);
        let last_modified_ms = last_modified.and_then(|value| date::parse(value.as_bytes()));
        let lifetime = Lifetime::of(
            status,
            fields,
            &directives,
            date_ms,
            last_modified_ms,
            policy,
        );
        // What the site allows by default extends a freshness that was there; a
        // response that came without any, or with `max-age=0`, gains none by it.
        let times = policy.times(status);
        let window = |own_ms: Option<u64>, default_ms| match own_ms {
            Some(own_ms) => own_ms,
            None if lifetime.ms() > 0 => default_ms,
            None => 0,
        };
        Self {
            status,
            etag: fields.get(ETAG).filter(|value| !value.is_empty()).cloned(),
            last_modified: last_modified
                .filter(|_| last_modified_ms.is_some())
                .cloned(),
            last_modified_ms,
            date_ms,
            response_ms: arrival.response_ms,
            initial_age_ms: initial_age_ms(age_field_ms, date_ms, arrival),
            lifetime,
            stale_while_revalidate_ms: window(
                directives.stale_while_revalidate_ms,
                times.stale_while_revalidate_ms,
            ),
            stale_if_error_ms: window(directives.stale_if_error_ms, times.stale_if_error_ms),
            flags: Flags::of(fields, &directives, date.is_some()),
        }
    }

    /// The same response, fresh until `now_ms` at the latest: what a soft purge leaves
    /// of it. Its age is raised rather than its lifetime cut, so that caches behind us,
    /// who see both, do not take it for fresh either; stale windows begin now.
    #[must_use]
    pub fn expired(&self, now_ms: u64) -> Self {
        let early_ms = self.lifetime_ms().saturating_sub(self.age_ms(now_ms));
        Self {
            initial_age_ms: self.initial_age_ms.saturating_add(early_ms),
            ..self.clone()
        }
    }

    /// The response's status.
    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// The age at `now_ms`, in milliseconds (RFC 9111 §4.2.3); `Age` is this over a
    /// thousand, rounded down.
    pub fn age_ms(&self, now_ms: u64) -> u64 {
        let resident_time_ms = now_ms.saturating_sub(self.response_ms);
        self.initial_age_ms.saturating_add(resident_time_ms)
    }

    /// The freshness lifetime in milliseconds: explicit, by default or heuristic,
    /// capped by the policy. The response is fresh while its age is less.
    pub fn lifetime_ms(&self) -> u64 {
        self.lifetime.ms()
    }

    /// Whether the response itself says how long it is fresh (RFC 9111 §4.2.1).
    pub fn is_explicit(&self) -> bool {
        matches!(self.lifetime, Lifetime::Explicit(_))
    }

    /// `ETag` as received, where it is not empty.
    pub fn etag(&self) -> Option<&HeaderValue> {
        self.etag.as_ref()
    }

    /// `Last-Modified` as received, where it is a date.
    pub fn last_modified(&self) -> Option<&HeaderValue> {
        self.last_modified.as_ref()
    }

    /// `Last-Modified` in milliseconds since the Unix epoch.
    pub fn last_modified_ms(&self) -> Option<u64> {
        self.last_modified_ms
    }

    /// `Date`, or the time of receipt where there is none, in milliseconds since
    /// the Unix epoch.
    pub fn date_ms(&self) -> u64 {
        self.date_ms
    }

    /// Whether bytes of two responses with this validator are the same bytes.
    pub fn has_strong_validator(&self) -> bool {
        self.strong_validator().is_some()
    }

    /// The validator for `If-Range` when a broken body is resumed (RFC 9110 §13.1.5):
    /// a strong entity tag, else a date that is strong in the sense of §8.8.2.2.
    pub fn strong_validator(&self) -> Option<&HeaderValue> {
        match &self.etag {
            Some(etag) if entity_tag::is_strong(etag.as_bytes()) => Some(etag),
            // A weak tag says that bytes may differ where the date would not.
            Some(_) => None,
            None if self.last_modified_is_strong() => self.last_modified.as_ref(),
            None => None,
        }
    }

    /// RFC 9110 §8.8.2.2: the origin's clock had moved on by a second since the last
    /// change, so that a second change would have had another date.
    pub(crate) fn last_modified_is_strong(&self) -> bool {
        self.flags.dated
            && self
                .last_modified_ms
                .is_some_and(|ms| ms.saturating_add(1000) <= self.date_ms)
    }

    pub(crate) fn has_validator(&self) -> bool {
        self.etag.is_some() || self.last_modified.is_some()
    }

    /// RFC 9111 §3: the response says how long it is fresh, or may be stored by its
    /// status or by `public` without saying so.
    pub(crate) fn may_be_stored_by_freshness(&self) -> bool {
        self.lifetime != Lifetime::Unknown
    }

    /// How long ago the response stopped being fresh; 0 while it is fresh.
    pub(crate) fn stale_for_ms(&self, now_ms: u64) -> u64 {
        self.age_ms(now_ms).saturating_sub(self.lifetime_ms())
    }

    pub(crate) fn is_fresh(&self, now_ms: u64) -> bool {
        self.age_ms(now_ms) < self.lifetime_ms()
    }

    pub(crate) fn response_ms(&self) -> u64 {
        self.response_ms
    }

    pub(crate) fn stale_while_revalidate_ms(&self) -> u64 {
        self.stale_while_revalidate_ms
    }

    pub(crate) fn stale_if_error_ms(&self) -> u64 {
        self.stale_if_error_ms
    }
}

/// The age on arrival: RFC 9111 §4.2.3, corrected_initial_age.
fn initial_age_ms(age_field_ms: u64, date_ms: u64, arrival: Arrival) -> u64 {
    let response_delay_ms = arrival.response_ms.saturating_sub(arrival.request_ms);
    // "…unless the cache is confident in the value of the Age": then Date says
    // nothing more, and a clock that differs from ours cannot age the response.
    if let Some(age_ms) = arrival.age_ms {
        return age_ms.saturating_add(response_delay_ms);
    }
    // Date stands for any moment of its second. Only the age that it proves counts:
    // otherwise every response generated late in a second would lose most of it,
    // and `max-age=1` could be stale on arrival.
    let apparent_age_ms = arrival
        .response_ms
        .saturating_sub(date_ms.saturating_add(999));
    let corrected_age_ms = age_field_ms.saturating_add(response_delay_ms);
    apparent_age_ms.max(corrected_age_ms)
}

impl Flags {
    fn of(fields: &HeaderMap, directives: &ResponseDirectives, dated: bool) -> Self {
        let s_maxage = directives.s_maxage_ms.is_some();
        let permits_stale = directives.stale_while_revalidate_ms.is_some()
            || directives.stale_if_error_ms.is_some();
        Self {
            no_store: directives.no_store,
            no_cache: directives.no_cache,
            private: directives.private,
            must_understand: directives.must_understand,
            immutable: directives.immutable,
            // RFC 9111 §3.5.
            allows_authorization: directives.public || s_maxage || directives.must_revalidate,
            // RFC 9111 §4.2.4; §5.2.2.10 has s-maxage imply proxy-revalidate. Who
            // writes a stale directive beside it means it: docs/departures.md.
            forbids_stale: directives.must_revalidate
                || directives.proxy_revalidate
                || directives.no_cache
                || (s_maxage && !permits_stale),
            vary_any: vary::is_any(fields),
            sets_cookie: fields.contains_key(SET_COOKIE)
                && !directives.withheld.contains(&SET_COOKIE),
            dated,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::Times;

    type Line = (&'static str, String);

    /// 2001-09-09T01:46:40Z, where most tests happen.
    const NOW_MS: u64 = 1_000_000_000_000;

    fn facts_at(arrival: Arrival, status: u16, policy: &Policy, lines: &[Line]) -> ResponseFacts {
        let mut fields = HeaderMap::new();
        for (name, value) in lines {
            fields.append(*name, HeaderValue::from_str(value).unwrap());
        }
        ResponseFacts::of(
            StatusCode::from_u16(status).unwrap(),
            &fields,
            arrival,
            policy,
        )
    }

    fn facts(status: u16, policy: &Policy, lines: &[Line]) -> ResponseFacts {
        let arrival = Arrival {
            request_ms: NOW_MS,
            response_ms: NOW_MS,
            age_ms: None,
        };
        facts_at(arrival, status, policy, lines)
    }

    fn at(offset_s: i64) -> String {
        let unix_ms = NOW_MS.checked_add_signed(offset_s * 1000).unwrap();
        date::format(unix_ms).to_str().unwrap().to_owned()
    }

    fn line(name: &'static str, value: &str) -> Line {
        (name, value.to_owned())
    }

    #[test]
    fn what_is_expired_is_stale_at_once_and_for_everybody() {
        // Lifetime in s, age when expired, age seen then and lifetime, both in ms.
        for (max_age_s, aged_ms, age_ms) in [
            (60, 0, 60_000),
            (60, 59_999, 60_000),
            (60, 60_000, 60_000),
            (60, 90_000, 90_000),
            (0, 0, 0),
        ] {
            let fields = [line("cache-control", &format!("max-age={max_age_s}"))];
            let response = facts(200, &Policy::default(), &fields);
            let now_ms = NOW_MS + aged_ms;
            let expired = response.expired(now_ms);
            assert_eq!(expired.age_ms(now_ms), age_ms, "{max_age_s} {aged_ms}");
            assert_eq!(expired.age_ms(now_ms + 5), age_ms + 5);
            assert_eq!(expired.lifetime_ms(), response.lifetime_ms());
            assert!(!expired.is_fresh(now_ms));
        }
    }

    #[test]
    fn age_follows_the_formula() {
        struct Row {
            what: &'static str,
            date_s: i64,
            age: &'static str,
            told_ms: Option<u64>,
            delay_ms: u64,
            initial_ms: u64,
        }
        let row = |what, date_s, age, told_ms, delay_ms, initial_ms| Row {
            what,
            date_s,
            age,
            told_ms,
            delay_ms,
            initial_ms,
        };
        let table = [
            row("new", 0, "", None, 0, 0),
            row("Age", 0, "30", None, 0, 30_000),
            row("Age and delay", 0, "30", None, 250, 30_250),
            row("delay alone", 0, "", None, 250, 250),
            row("Date a second ago proves a millisecond", -1, "", None, 0, 1),
            row("Date ten seconds ago", -10, "", None, 0, 9_001),
            row("Age wins over Date", -10, "25", None, 0, 25_000),
            row("Date wins over Age", -30, "25", None, 0, 29_001),
            row("Date in the future", 10, "15", None, 0, 15_000),
            row("told by our upstream", -30, "25", Some(1_234), 100, 1_334),
        ];
        for Row {
            what,
            date_s,
            age,
            told_ms,
            delay_ms,
            initial_ms,
        } in table
        {
            let arrival = Arrival {
                request_ms: NOW_MS - delay_ms,
                response_ms: NOW_MS,
                age_ms: told_ms,
            };
            let got = facts_at(
                arrival,
                200,
                &Policy::default(),
                &[("date", at(date_s)), line("age", age)],
            );
            assert_eq!(got.age_ms(NOW_MS), initial_ms, "{what}");
            assert_eq!(got.age_ms(NOW_MS + 1), initial_ms + 1, "{what}");
            assert_eq!(
                got.age_ms(NOW_MS - 5_000),
                initial_ms,
                "{what}: a clock that stepped back"
            );
        }
    }

    #[test]
    fn extreme_times_saturate() {
        let arrival = Arrival {
            request_ms: 0,
            response_ms: u64::MAX,
            age_ms: Some(u64::MAX),
        };
        let got = facts_at(
            arrival,
            200,
            &Policy::default(),
            &[line("cache-control", "max-age=1")],
        );
        assert_eq!(got.age_ms(u64::MAX), u64::MAX);
        assert_eq!(got.age_ms(0), u64::MAX);
    }

    #[test]
    fn default_windows_extend_only_what_was_fresh() {
        let policy = Policy {
            times: Times {
                stale_while_revalidate_ms: 7,
                stale_if_error_ms: 9,
                ..Times::default()
            },
            ..Policy::default()
        };
        let table = [
            ("max-age=1", (7, 9)),
            ("max-age=0", (0, 0)),
            ("public", (0, 0)),
            (
                "max-age=0, stale-while-revalidate=2, stale-if-error=3",
                (2_000, 3_000),
            ),
            (
                "max-age=1, stale-while-revalidate=0, stale-if-error=0",
                (0, 0),
            ),
        ];
        for (value, expected) in table {
            let got = facts(200, &policy, &[line("cache-control", value)]);
            assert_eq!(
                (got.stale_while_revalidate_ms(), got.stale_if_error_ms()),
                expected,
                "{value}"
            );
        }
    }

    #[test]
    fn strong_validators() {
        let (dated, old, new) = (
            ("date", at(0)),
            ("last-modified", at(-1)),
            ("last-modified", at(0)),
        );
        let etag = |value| line("etag", value);
        let table: &[(&[Line], bool)] = &[
            (&[], false),
            (&[etag("\"a\"")], true),
            (&[etag("W/\"a\"")], false),
            (&[etag("a")], false),
            (&[etag("W/\"a\""), dated.clone(), old.clone()], false),
            (&[dated.clone(), old.clone()], true),
            (&[dated.clone(), new], false),
            (&[old], false),
        ];
        for (lines, expected) in table {
            assert_eq!(
                facts(200, &Policy::default(), lines).has_strong_validator(),
                *expected,
                "{lines:?}"
            );
        }
    }

    #[test]
    fn unusable_validators_are_none() {
        let got = facts(
            200,
            &Policy::default(),
            &[line("etag", ""), line("last-modified", "x")],
        );
        assert!(!got.has_validator());
        assert_eq!(
            (got.etag(), got.last_modified(), got.last_modified_ms()),
            (None, None, None)
        );
    }

    #[test]
    fn a_304_begins_a_new_age() {
        let policy = Policy::default();
        let stored = facts(
            404,
            &policy,
            &[line("cache-control", "max-age=60"), line("age", "50")],
        );
        let fields = |lines: &[Line]| {
            let mut fields = HeaderMap::new();
            for (name, value) in lines {
                fields.append(*name, HeaderValue::from_str(value).unwrap());
            }
            fields
        };
        let later_ms = NOW_MS + 600_000;
        let arrival = Arrival {
            request_ms: later_ms,
            response_ms: later_ms,
            age_ms: None,
        };
        let kept = fields(&[line("cache-control", "max-age=60"), ("date", at(0))]);
        for (not_modified, age_ms) in [
            (fields(&[("date", at(600))]), 0),
            (fields(&[("date", at(600)), line("age", "7")]), 7_000),
            (fields(&[]), 0),
        ] {
            let freshened = crate::freshen(&kept, &not_modified);
            let got = stored.freshened(&freshened, &not_modified, arrival, &policy);
            assert_eq!(got.age_ms(later_ms), age_ms, "{not_modified:?}");
            assert_eq!((got.status(), got.lifetime_ms()), (stored.status(), 60_000));
        }
    }
}
