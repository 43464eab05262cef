//! `Cache-Control` of a request and of a response: any bytes are read as something,
//! and none of them outvotes `private` or a request's `no-store`.
#![no_main]

use headwater_fuzz::{NOW_MS, append, fields, get, lines, response};
use http_cache::{Decision, Policy, decide, may_serve_on_error, storable};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let [asked, first, second] = lines(input);
    let policy = Policy::default();
    let mut asked = fields(&[("cache-control", asked)]);
    let mut answered = fields(&[
        ("cache-control", first),
        ("cache-control", second),
        ("etag", b"\"a\""),
    ]);
    let (request, facts) = (get(&asked, &policy), response(&answered, &policy));
    let _ = storable(&request, &facts, &policy);
    for later_ms in [0, 1, 60_000, u64::MAX - NOW_MS] {
        let now_ms = NOW_MS + later_ms;
        if let Decision::Fresh { age_ms, ttl_ms } = decide(&request, Some(&facts), now_ms) {
            assert!(ttl_ms > 0 && age_ms.checked_add(ttl_ms) == Some(facts.lifetime_ms()));
        }
        let _ = may_serve_on_error(&request, &facts, now_ms);
    }
    append(&mut answered, "cache-control", b"private");
    let facts = response(&answered, &policy);
    assert!(storable(&request, &facts, &policy).is_err());
    append(&mut asked, "cache-control", b"no-store");
    let request = get(&asked, &policy);
    let decision = decide(&request, Some(&facts), NOW_MS);
    assert!(matches!(decision, Decision::Bypass(_)));
});
