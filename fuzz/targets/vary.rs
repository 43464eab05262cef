//! `Vary`: a response answers the request that selected it, unless it answers none.
#![no_main]

use headwater_fuzz::{fields, lines};
use http_cache::{Policy, Vary};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let [vary, encoding, language, cookie, other] = lines(input);
    let vary = Vary::of(&fields(&[("vary", vary)]));
    let asked = fields(&[
        ("accept-encoding", encoding),
        ("accept-language", language),
        ("cookie", cookie),
    ]);
    let others = fields(&[
        ("accept-encoding", other),
        ("accept-language", language),
        ("cookie", cookie),
    ]);
    for normalises in [false, true] {
        let policy = Policy {
            normalise_accept_encoding: normalises,
            normalise_accept_language: normalises,
            ..Policy::default()
        };
        let selector = vary.selector(&asked, &policy);
        assert_eq!(
            vary.matches(&selector, &asked, &policy),
            vary != Vary::Any,
            "{vary:?}"
        );
        // Whoever has the same selector is answered, and nobody else.
        assert_eq!(
            vary.matches(&selector, &others, &policy),
            vary != Vary::Any && vary.selector(&others, &policy) == selector
        );
    }
});
