//! A small world, so that a change of the order of things is seen without running the
//! large one.

use scale::run::FAIL;
use scale::{Outcome, Plan, Size, moved, run};

const SIZE: Size = Size {
    edges: 60,
    uppers: 20,
    failing: 2,
    joining: 2,
    regions: 4,
    regionals: 2,
    objects: 4_000,
    origins: 40,
    requests: 150_000,
    edge_store: 60,
    tier_store: 400,
    fresh: 60_000,
    exponent: 0.9,
};

#[test]
fn upper_tiers_spare_the_origin_and_hashing_keeps_it_so() {
    let outcomes = Plan::ALL.map(|plan| run(SIZE, plan));
    let [one_tier, modulo, single, hash, bounded, regional] = &outcomes;
    for two_tiers in [modulo, single, hash, bounded, regional] {
        assert!(two_tiers.fetches_per_1000() * 2.0 < one_tier.fetches_per_1000());
    }
    // When a tenth fails, hashing fetches what the tenth held, modulo almost all.
    let after = |outcome: &Outcome| outcome.worst_after(FAIL, 5);
    assert!(
        after(hash) < 0.7 * after(modulo),
        "{} {}",
        after(hash),
        after(modulo)
    );
    let peak = |outcome: &Outcome| outcome.peak_to_mean().unwrap();
    assert!(
        peak(bounded) < peak(hash),
        "{} {}",
        peak(bounded),
        peak(hash)
    );
    assert!(peak(hash) < peak(single), "{} {}", peak(hash), peak(single));
}

#[test]
fn the_same_run_gives_the_same_figures() {
    let (one, other) = (run(SIZE, Plan::Hash), run(SIZE, Plan::Hash));
    assert_eq!((one.fetches, one.loads), (other.fetches, other.loads));
}

#[test]
fn hashing_moves_the_least() {
    let [modulo, hash] = moved(20, 20_000);
    assert!((4.0..6.0).contains(&hash.0), "{}", hash.0);
    assert!((4.0..6.0).contains(&hash.1), "{}", hash.1);
    assert!(modulo.0 > 80.0 && modulo.1 > 80.0);
}
