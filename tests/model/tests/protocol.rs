//! Runs the model, each time within other bounds, and looks at everything in them.

// How much was looked at is what a run says about itself.
#![allow(clippy::print_stdout)]

use model::{Bounds, Hostility, Left, Rotation, Site, Tiers};
use stateright::{Checker, Model};

/// More than any run here has; one that reaches it is no longer exhaustive.
const STATES_MAX: usize = 20_000_000;

fn check(name: &str, bounds: Bounds) {
    let checker = Tiers::new(bounds)
        .checker()
        .threads(2)
        .target_state_count(STATES_MAX)
        .spawn_bfs()
        .join();
    println!(
        "{name}: {} states, {} steps, depth {}",
        checker.unique_state_count(),
        checker.state_count(),
        checker.max_depth(),
    );
    checker.assert_properties();
    assert!(
        checker.state_count() < STATES_MAX,
        "{name} is not exhaustive"
    );
}

const ALL_SITES: &[Site] = &[Site::Strict, Site::Stale, Site::Direct, Site::StaleDirect];

const LOSE_AND_HARM: Hostility = Hostility {
    lose: true,
    harm: true,
    replay: false,
};

const LOSE_AND_REPLAY: Hostility = Hostility {
    lose: true,
    harm: false,
    replay: true,
};

#[test]
fn a_hop_that_loses_and_alters() {
    check(
        "a hop that loses and alters",
        Bounds {
            left: Left {
                reads: 2,
                orders: 1,
                faults: 2,
                ..Left::default()
            },
            hostility: LOSE_AND_HARM,
            private: true,
            stored: true,
            sites: ALL_SITES,
            ..Bounds::NOTHING
        },
    );
}

#[test]
fn a_hop_that_records_and_replays() {
    check(
        "a hop that records and replays",
        Bounds {
            left: Left {
                reads: 1,
                orders: 1,
                faults: 2,
                crashes: 1,
                steps: 1,
                ..Left::default()
            },
            hostility: LOSE_AND_REPLAY,
            ..Bounds::NOTHING
        },
    );
}

#[test]
fn orders_that_are_replayed() {
    check(
        "orders that are replayed",
        Bounds {
            left: Left {
                orders: 2,
                faults: 3,
                crashes: 1,
                steps: 2,
                ..Left::default()
            },
            hostility: LOSE_AND_REPLAY,
            ..Bounds::NOTHING
        },
    );
}

#[test]
fn clocks_that_differ() {
    check(
        "clocks that differ",
        Bounds {
            left: Left {
                orders: 1,
                faults: 3,
                crashes: 1,
                steps: 2,
                ..Left::default()
            },
            hostility: LOSE_AND_REPLAY,
            skew_ms: [-8_000, 0],
            ..Bounds::NOTHING
        },
    );
}

/// The gap that docs/model.md names. Whoever closes it moves this to the run above.
#[test]
fn a_clock_that_is_ahead_and_a_crash_execute_an_order_twice() {
    let bounds = Bounds {
        left: Left {
            orders: 1,
            faults: 2,
            crashes: 1,
            ..Left::default()
        },
        hostility: LOSE_AND_REPLAY,
        skew_ms: [8_000, 0],
        ..Bounds::NOTHING
    };
    let checker = Tiers::new(bounds).checker().spawn_bfs().join();
    checker.assert_any_discovery("no order executed twice");
}

#[test]
fn answers_that_are_swapped() {
    check(
        "answers that are swapped",
        Bounds {
            left: Left {
                reads: 3,
                faults: 2,
                ..Left::default()
            },
            hostility: LOSE_AND_REPLAY,
            private: true,
            sites: &[Site::Strict, Site::Direct],
            ..Bounds::NOTHING
        },
    );
}

#[test]
fn upper_tiers_that_go_and_come() {
    check(
        "upper tiers that go and come",
        Bounds {
            left: Left {
                reads: 2,
                crashes: 1,
                cuts: 1,
                steps: 1,
                ..Left::default()
            },
            stored: true,
            sites: ALL_SITES,
            ..Bounds::NOTHING
        },
    );
}

#[test]
fn upper_tiers_that_are_cut_off_from_the_origin() {
    let reads = Left {
        reads: 2,
        cut_offs: 2,
        outages: 1,
        ..Left::default()
    };
    let orders = Left {
        reads: 1,
        orders: 1,
        steps: 1,
        ..reads
    };
    for (who, left) in [("readers", reads), ("an order", orders)] {
        check(
            &format!("upper tiers that are cut off, with {who}"),
            Bounds {
                left,
                stored: true,
                sites: ALL_SITES,
                ..Bounds::NOTHING
            },
        );
    }
}

#[test]
fn a_careful_rotation() {
    check(
        "a careful rotation",
        Bounds {
            left: Left {
                reads: 2,
                orders: 1,
                steps: 3,
                ..Left::default()
            },
            rotation: Rotation::Careful,
            ..Bounds::NOTHING
        },
    );
}

#[test]
fn a_careless_rotation() {
    check(
        "a careless rotation",
        Bounds {
            left: Left {
                reads: 2,
                orders: 1,
                ..Left::default()
            },
            rotation: Rotation::Careless,
            sites: &[Site::Direct],
            ..Bounds::NOTHING
        },
    );
}

#[test]
fn purges_at_the_edges() {
    check(
        "purges at the edges",
        Bounds {
            left: Left {
                reads: 3,
                faults: 1,
                purges: 2,
                ..Left::default()
            },
            hostility: LOSE_AND_REPLAY,
            sites: &[Site::StaleDirect],
            ..Bounds::NOTHING
        },
    );
}
