//! Conditions and validation: any fields are judged, and what a validation asks holds
//! for what is stored.
#![no_main]

use headwater_fuzz::{NOW_MS, free_fields, lines, response};
use http::{HeaderMap, Method};
use http_cache::{
    Arrival, Policy, Precondition, answers_validator, fields_for_304, freshen,
    invalidation_targets, precondition, remove_hop_by_hop, stored_fields, validation_fields,
};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let mut parts = input.splitn(3, |byte| *byte == 0);
    let mut next = || free_fields(parts.next().unwrap_or_default());
    let (mut asked, answered, not_modified) = (next(), next(), next());
    let policy = Policy::default();
    let facts = response(&answered, &policy);
    let _ = precondition(&Method::GET, &asked, &facts);
    let _ = answers_validator(&facts, &not_modified);
    let kept = stored_fields(&answered, &policy);
    let _ = fields_for_304(&kept);
    let freshened = freshen(&kept, &not_modified);
    let arrival = Arrival {
        request_ms: NOW_MS,
        response_ms: NOW_MS,
        age_ms: None,
    };
    let _ = facts.freshened(&freshened, &not_modified, arrival, &policy);
    let [path] = lines(input);
    let path = String::from_utf8_lossy(path);
    let _ = invalidation_targets("shop.example", &path, &answered);

    remove_hop_by_hop(&mut asked);
    let once = asked.clone();
    remove_hop_by_hop(&mut asked);
    assert_eq!(asked, once, "removed twice is removed once");

    // A client that knows what is stored needs nothing sent.
    let ours: HeaderMap = validation_fields(&facts).into_iter().collect();
    if !ours.is_empty() {
        let judged = precondition(&Method::GET, &ours, &facts);
        assert_ne!(judged, Precondition::Failed);
    }
});
