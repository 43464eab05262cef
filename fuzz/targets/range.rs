//! `Range` and `If-Range`: what is cut out lies inside, and in no one's way.
#![no_main]

use headwater_fuzz::{fields, lines, response};
use http_cache::{Policy, RangeOutcome, range};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let [asked, condition, length] = lines(input);
    let length = length.iter().fold(0_u64, |length, byte| {
        length.wrapping_mul(251).wrapping_add(u64::from(*byte))
    });
    let mut asked = fields(&[("range", asked)]);
    if !condition.is_empty() {
        asked.extend(fields(&[("if-range", condition)]));
    }
    let answered = fields(&[("etag", b"\"a\"")]);
    let facts = response(&answered, &Policy::default());
    match range(&asked, &facts, length) {
        RangeOutcome::Whole | RangeOutcome::Unsatisfiable => {}
        RangeOutcome::Partial { first, last } => assert!(first <= last && last < length),
        RangeOutcome::Several(parts) => {
            assert!((2..=http_cache::RANGES_MAX).contains(&parts.len()));
            let mut parts = parts.to_vec();
            parts.sort_unstable();
            assert!(
                parts
                    .iter()
                    .all(|(first, last)| first <= last && *last < length)
            );
            assert!(parts.windows(2).all(|two| two[0].1 < two[1].0));
        }
    }
});
