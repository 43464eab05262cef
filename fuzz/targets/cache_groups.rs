//! `Cache-Groups` and what invalidates them: bounded, whatever comes.
#![no_main]

use headwater_fuzz::{fields, lines};
use http_cache::{GROUPS_MAX, cache_groups};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let [first, second] = lines(input);
    let answered = fields(&[("cache-groups", first), ("cache-groups", second)]);
    if let Ok(groups) = cache_groups(&answered) {
        assert!(groups.len() <= GROUPS_MAX);
        let mut apart = groups.clone();
        apart.sort();
        apart.dedup();
        assert_eq!(apart.len(), groups.len(), "each once");
    }
});
