//! Dates: whatever is read is written in one way, and read again as the same.
#![no_main]

use headwater_fuzz::{fields, lines, response};
use http_cache::{Policy, date};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    if let Some(ms) = date::parse(input) {
        assert_eq!(ms % 1000, 0);
        assert_eq!(date::parse(date::format(ms).as_bytes()), Some(ms));
    }
    let [when, expires, changed, age] = lines(input);
    let answered = fields(&[
        ("date", when),
        ("expires", expires),
        ("last-modified", changed),
        ("age", age),
    ]);
    let facts = response(&answered, &Policy::default());
    let ages = [0, facts.date_ms(), u64::MAX].map(|now_ms| facts.age_ms(now_ms));
    assert!(ages.is_sorted(), "time makes nothing younger");
});
