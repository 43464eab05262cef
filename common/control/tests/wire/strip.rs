//! Taking our fields off a message, and nobody else's.

use control::{is_tier_field, strip};
use http::HeaderMap;
use http::header::HeaderName;

use crate::bed::fields;

#[test]
fn the_reserved_names_are_those_that_begin_tier() {
    for (name, ours) in [
        ("tier-control", true),
        ("tier-result", true),
        ("tier-", true),
        ("tier", false),
        ("tiers-control", false),
        ("x-tier-control", false),
    ] {
        assert_eq!(
            is_tier_field(&HeaderName::from_static(name)),
            ours,
            "{name}"
        );
    }
}

#[test]
fn only_what_is_ours_goes_and_is_counted() {
    type Lines = &'static [(&'static str, &'static [u8])];
    let table: [(Lines, Lines, usize); 9] = [
        (&[], &[], 0),
        (
            &[("accept", b"a"), ("accept", b"b")],
            &[("accept", b"a"), ("accept", b"b")],
            0,
        ),
        (
            &[
                ("tier-control", b"x"),
                ("tier-control", b"y"),
                ("tier-any", b"z"),
                ("x", b"1"),
            ],
            &[("x", b"1")],
            3,
        ),
        (
            &[
                ("signature", b"tier=:AA==:"),
                ("signature-input", b"tier=()"),
            ],
            &[],
            2,
        ),
        (
            &[("signature", b"sig1=:AA==:, tier=:AA==:")],
            &[("signature", b"sig1=:AA==:")],
            1,
        ),
        // Without our member nothing is touched, not even the spelling.
        (
            &[("signature", b"sig1=:AA==:  ,  frontier=:AA==:")],
            &[("signature", b"sig1=:AA==:  ,  frontier=:AA==:")],
            0,
        ),
        // What is no dictionary stays, unless our label can be read into it.
        (&[("signature", b"=?!")], &[("signature", b"=?!")], 0),
        (
            &[("signature", b"=?!, tier=:AA==:"), ("x", b"1")],
            &[("x", b"1")],
            1,
        ),
        (&[("signature-input", b"tier=\xff")], &[], 1),
    ];
    for (before, after, removed) in table {
        let mut map: HeaderMap = fields(before);
        assert_eq!(strip(&mut map), removed, "{before:?}");
        assert_eq!(map, fields(after), "{before:?}");
    }
}
