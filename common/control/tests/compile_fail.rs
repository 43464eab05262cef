//! What must not compile. Each file in `compile_fail` is one attempt, with what the
//! compiler says to it beside it: an attempt that fails for another reason than the
//! one it is there for is a failure too.
//!
//! The words are those of the pinned compiler. After an upgrade they are written anew
//! with `TRYBUILD=overwrite cargo test -p control --test compile_fail`, and read.

#[test]
fn what_is_sealed_verified_or_secret_offers_no_way_in() {
    trybuild::TestCases::new().compile_fail("tests/compile_fail/*.rs");
}
