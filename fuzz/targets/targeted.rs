//! `CDN-Cache-Control`: a valid one governs, an invalid one is as good as absent, and
//! neither may lose a `private` that stands in both fields.
#![no_main]

use headwater_fuzz::{append, fields, get, lines, response};
use http_cache::{Policy, storable};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let [first, second] = lines(input);
    let policy = Policy::default();
    let request = get(&fields(&[]), &policy);
    let mut answered = fields(&[
        ("cdn-cache-control", first),
        ("cdn-cache-control", second),
        ("etag", b"\"a\""),
    ]);
    let _ = storable(&request, &response(&answered, &policy), &policy);
    // The last value of a key counts (RFC 9651 §3.2).
    append(&mut answered, "cdn-cache-control", b"private");
    append(&mut answered, "cache-control", b"private");
    let facts = response(&answered, &policy);
    assert!(storable(&request, &facts, &policy).is_err());
});
