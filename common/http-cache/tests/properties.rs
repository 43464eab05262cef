//! What must hold for any input at all: nothing panics, every decision is one of
//! the named ones and keeps its own word, and time only makes a response older.

use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use http_cache::{
    Arrival, CookieName, Decision, Policy, RangeOutcome, RequestFacts, ResponseFacts, SetCookie,
    StaleUse, Times, Vary, answers_validator, date, decide, fields_for_304, freshen,
    invalidation_targets, may_serve_on_error, precondition, range, remove_hop_by_hop, storable,
    stored_fields, validation_fields,
};
use proptest::prelude::*;

const NAMES: [&str; 24] = [
    "cache-control",
    "cdn-cache-control",
    "pragma",
    "age",
    "date",
    "expires",
    "last-modified",
    "etag",
    "vary",
    "set-cookie",
    "connection",
    "authorization",
    "range",
    "if-range",
    "if-none-match",
    "if-modified-since",
    "if-match",
    "if-unmodified-since",
    "accept-encoding",
    "accept-language",
    "location",
    "content-location",
    "cookie",
    "x",
];

/// Pieces from which values that nearly mean something are put together.
const PIECES: [&str; 44] = [
    "max-age",
    "s-maxage",
    "no-cache",
    "no-store",
    "private",
    "public",
    "must-revalidate",
    "proxy-revalidate",
    "must-understand",
    "immutable",
    "stale-while-revalidate",
    "stale-if-error",
    "max-stale",
    "min-fresh",
    "only-if-cached",
    "=",
    "=60",
    "=0",
    "=99999999999999999999",
    ",",
    ", ",
    "\"",
    "\\",
    ";",
    ";q=0.5",
    ";q=",
    "*",
    "W/",
    "\"a\"",
    "-",
    "bytes=",
    "0-",
    "-1",
    "gzip",
    "en",
    "x",
    "cache-control",
    "/",
    "..",
    "?",
    "//h",
    "#",
    "Sun, 06 Nov 1994 08:49:37 GMT",
    "Sunday, 06-Nov-94 08:49:37 GMT",
];

fn value() -> impl Strategy<Value = HeaderValue> {
    let pieces = prop::collection::vec(prop::sample::select(PIECES.to_vec()), 0..8);
    let bytes = prop::collection::vec(any::<u8>(), 0..40);
    prop_oneof![
        4 => pieces.prop_map(|pieces| pieces.concat().into_bytes()),
        1 => bytes,
    ]
    .prop_filter_map("a field value", |bytes| {
        HeaderValue::from_bytes(&bytes).ok()
    })
}

fn fields() -> impl Strategy<Value = HeaderMap> {
    prop::collection::vec((prop::sample::select(NAMES.to_vec()), value()), 0..10).prop_map(
        |lines| {
            let mut fields = HeaderMap::new();
            for (name, value) in lines {
                fields.append(HeaderName::from_static(name), value);
            }
            fields
        },
    )
}

fn method() -> impl Strategy<Value = Method> {
    prop::sample::select(vec![
        Method::GET,
        Method::GET,
        Method::HEAD,
        Method::POST,
        Method::OPTIONS,
    ])
}

fn status() -> impl Strategy<Value = StatusCode> {
    prop_oneof![
        Just(200),
        Just(206),
        Just(304),
        Just(404),
        Just(500),
        100_u16..1000
    ]
    .prop_map(|code| StatusCode::from_u16(code).expect("100 to 999"))
}

/// Times that are near each other, and times that are not.
fn time() -> impl Strategy<Value = u64> {
    prop_oneof![
        784_111_000_000_u64..784_112_000_000,
        any::<u64>(),
        Just(0),
        Just(u64::MAX)
    ]
}

fn arrival() -> impl Strategy<Value = Arrival> {
    (time(), time(), prop::option::of(time())).prop_map(|(request_ms, response_ms, age_ms)| {
        Arrival {
            request_ms,
            response_ms,
            age_ms,
        }
    })
}

fn policy() -> impl Strategy<Value = Policy> {
    let cookies = prop::sample::select(vec![SetCookie::Bypass, SetCookie::Strip, SetCookie::Store]);
    let times = (
        prop::option::of(time()),
        prop::option::of(time()),
        time(),
        time(),
        prop::option::of(time()),
    );
    (times, cookies, any::<[bool; 6]>()).prop_map(|(times, set_cookie, flags)| {
        let [
            bypass,
            heuristic,
            honour,
            honour_request_directives,
            encoding,
            language,
        ] = flags;
        Policy {
            bypass,
            bypass_cookies: vec![CookieName::Prefix("a".to_owned())],
            times: Times {
                ttl_ms: times.4,
                default_ttl_ms: times.0,
                ttl_max_ms: times.1,
                stale_while_revalidate_ms: times.2,
                stale_if_error_ms: times.3,
            },
            by_status: Vec::new(),
            honour_response_directives: honour,
            targeted: vec![HeaderName::from_static("cdn-cache-control")],
            heuristic,
            set_cookie,
            honour_request_directives,
            normalise_accept_encoding: encoding,
            normalise_accept_language: language,
        }
    })
}

proptest! {
    #[test]
    fn decisions_are_total_and_keep_their_word(
        method in method(), asked in fields(), status in status(), got in fields(),
        arrival in arrival(), policy in policy(), now_ms in time(),
    ) {
        let request = RequestFacts::of(&method, &asked, &policy);
        let response = ResponseFacts::of(status, &got, arrival, &policy);
        let (age, lifetime) = (response.age_ms(now_ms), response.lifetime_ms());
        prop_assert!(policy.times.ttl_max_ms.is_none_or(|max_ms| lifetime <= max_ms));
        match decide(&request, Some(&response), now_ms) {
            Decision::Fresh { age_ms, ttl_ms } => {
                prop_assert!(ttl_ms > 0 && age_ms == age && age_ms + ttl_ms == lifetime);
                prop_assert!(may_serve_on_error(&request, &response, now_ms));
            }
            Decision::Stale { use_, age_ms, stale_for_ms } => {
                prop_assert_eq!(age_ms, age);
                prop_assert_eq!(stale_for_ms, age.saturating_sub(lifetime));
                // Nobody is served a response as stale that is fresh.
                prop_assert!(use_ == StaleUse::Revalidate || age >= lifetime);
            }
            Decision::Bypass(_) => prop_assert!(request.is_bypassed() || request.no_store() || !(request.is_get() || request.is_head())),
            Decision::Miss => prop_assert!(false, "something is stored"),
        }
        let without = decide(&request, None, now_ms);
        prop_assert!(matches!(without, Decision::Miss | Decision::Bypass(_)));
    }

    #[test]
    fn a_stored_response_is_storable_again(
        asked in fields(), status in status(), got in fields(), arrival in arrival(), policy in policy(),
    ) {
        // What is stored says the same about itself, but for the age that it leaves
        // to the facts and the fields that Connection withheld.
let mut got = got;
        got.remove("connection");
        got.remove("age");
        let request = RequestFacts::of(&Method::GET, &asked, &policy);
        let response = ResponseFacts::of(status, &got, arrival, &policy);
        if storable(&request, &response, &policy).is_ok() {
            let stored = stored_fields(&got, &policy);
            let names = ["cache-control", "cdn-cache-control", "expires", "etag", "vary", "date", "last-modified"];
            // Unless it withheld from itself what says so.
            prop_assume!(names.iter().all(|name| got.get(*name) == stored.get(*name)));
            let again = ResponseFacts::of(status, &stored, arrival, &policy);
            prop_assert_eq!(storable(&request, &again, &policy), Ok(()));
            prop_assert_eq!(again.lifetime_ms(), response.lifetime_ms());
        }
    }

    #[test]
    fn age_never_falls(got in fields(), arrival in arrival(), one in time(), other in time()) {
        let response = ResponseFacts::of(StatusCode::OK, &got, arrival, &Policy::default());
        let (earlier, later) = (one.min(other), one.max(other));
        prop_assert!(response.age_ms(earlier) <= response.age_ms(later));
    }

    #[test]
    fn a_response_never_becomes_fresh_again(
        asked in fields(), got in fields(), arrival in arrival(), one in time(), other in time(),
    ) {
        let policy = Policy::default();
        let request = RequestFacts::of(&Method::GET, &asked, &policy);
        let response = ResponseFacts::of(StatusCode::OK, &got, arrival, &policy);
        let fresh = |now_ms| matches!(decide(&request, Some(&response), now_ms), Decision::Fresh { .. });
        let (earlier, later) = (one.min(other), one.max(other));
        prop_assert!(!fresh(later) || fresh(earlier));
    }

    #[test]
    fn a_part_is_sound_whatever_its_fields_say(
        range in "(bytes |BYTES|x)?[0-9*-]{0,22}(-[0-9]{1,21})?/?([0-9]{1,21}|\\*)?",
        length in proptest::option::of("[0-9]{1,3}|x"),
        asked in fields(), got in fields(), arrival in arrival(),
    ) {
        let response = ResponseFacts::of(StatusCode::PARTIAL_CONTENT, &got, arrival, &Policy::default());
        let mut part = got;
        part.insert("content-range", range.parse().unwrap());
        if let Some(length) = length {
            part.insert("content-length", length.parse().unwrap());
        }
        let _ = http_cache::same_representation(&response, &part);
        let _ = http_cache::head_effect(&response, 5, &part);
        let _ = http_cache::asks_for_the_end(&asked);
        if let Some(bounds) = http_cache::PartBounds::of(&part) {
            prop_assert!(bounds.first <= bounds.last && bounds.last < bounds.complete_length);
            prop_assert!(!bounds.completes(&bounds));
            if let Some((first, last)) = bounds.range_within(&asked, &response) {
                prop_assert!(bounds.first <= first && first <= last && last <= bounds.last);
            }
            let _ = bounds.rest().map(|rest| rest.range());
        }
    }

    #[test]
    fn fields_are_handled_without_panic(
        method in method(), asked in fields(), status in status(), got in fields(), newer in fields(),
        arrival in arrival(), policy in policy(), length in any::<u64>(),
    ) {
        let response = ResponseFacts::of(status, &got, arrival, &policy);
        let _ = precondition(&method, &asked, &response);
        let _ = answers_validator(&response, &newer);
        prop_assert!(validation_fields(&response).len() <= 2);
        match range(&asked, &response, length) {
            RangeOutcome::Partial { first, last } => prop_assert!(first <= last && last < length),
            RangeOutcome::Several(ranges) => {
                prop_assert!((2..=http_cache::RANGES_MAX).contains(&ranges.len()));
                let bytes: u64 = ranges.iter().map(|(first, last)| last - first + 1).sum();
                prop_assert!(bytes < length, "they touch one another");
            }
            RangeOutcome::Whole | RangeOutcome::Unsatisfiable => {}
        }
        let stored = stored_fields(&got, &policy);
        let fresh = freshen(&stored, &newer);
        for name in ["connection", "age", "transfer-encoding"] {
            prop_assert!(!stored.contains_key(name) && !fresh.contains_key(name));
        }
        prop_assert!(policy.set_cookie == SetCookie::Store || !fresh.contains_key("set-cookie"));
        let _ = fields_for_304(&fresh);
        let mut forwarded = asked;
        remove_hop_by_hop(&mut forwarded);
        prop_assert!(!forwarded.contains_key("connection"));
    }

    #[test]
    fn a_request_matches_its_own_selector(got in fields(), asked in fields(), other in fields(), policy in policy()) {
        let vary = Vary::of(&got);
        let selector = vary.selector(&asked, &policy);
        prop_assert_eq!(vary.matches(&selector, &asked, &policy), vary != Vary::Any);
        if vary != Vary::Any {
            let equal = vary.selector(&other, &policy) == selector;
            prop_assert_eq!(vary.matches(&selector, &other, &policy), equal);
        }
    }

    #[test]
    fn targets_are_absolute_paths(got in fields(), base in "/[a-z/.?]{0,12}") {
        let targets = invalidation_targets("h", &base, &got);
        prop_assert!(targets.iter().all(|target| target.starts_with('/')));
        prop_assert_eq!(targets.first(), Some(&base));
    }

    #[test]
    fn dates_round_trip(unix_ms in 0..253_402_300_800_000_u64, bytes in prop::collection::vec(any::<u8>(), 0..40)) {
        let text = date::format(unix_ms);
        prop_assert_eq!(date::parse(text.as_bytes()), Some(unix_ms / 1000 * 1000));
        let _ = date::parse(&bytes);
    }
}
