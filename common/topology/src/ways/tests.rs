use proptest::prelude::*;

use super::*;
use crate::AutoRules;

const KEY: [u8; 16] = [42; 16];

fn three() -> Candidates {
    Candidates::new(["upper-1", "upper-2", "upper-3"])
}

fn asked(topology: Topology<'_>, candidates: &Candidates, states: &[State], direct: bool) -> Ways {
    ways(&Question {
        topology,
        key: &KEY,
        candidates,
        states,
        reaches: &[],
        direct_allowed: direct,
        stale_may_serve: false,
    })
}

#[test]
fn one_that_is_warming_takes_its_share_of_the_keys() {
    let candidates = three();
    let first_choice = |key: &[u8; 16], states: &[State]| {
        let question = Question {
            topology: Topology::Hash,
            key,
            candidates: &candidates,
            states,
            reaches: &[],
            direct_allowed: false,
            stale_may_serve: false,
        };
        ways(&question)[0]
    };
    let keys = (0..6_000_u32).map(|number| {
        let mut key = [7; 16];
        key[..4].copy_from_slice(&number.to_le_bytes());
        key[14..].copy_from_slice(&(number.wrapping_mul(40_503) as u16).to_be_bytes());
        key
    });
    let own: Vec<_> = keys
        .filter(|key| first_choice(key, &[State::Up; 3]) == Way::Upper(0))
        .collect();
    let mut taken_before = 0;
    for permille in [0, 100, 500, 900, 1000] {
        let states = [State::Warming { permille }, State::Up, State::Up];
        let taken = own
            .iter()
            .filter(|key| first_choice(key, &states) == Way::Upper(0))
            .count();
        let share = taken * 1000 / own.len();
        assert!(
            share.abs_diff(permille.into()) < 60,
            "{share} of {permille}"
        );
        assert!(taken >= taken_before, "what came back stays");
        taken_before = taken;
    }
    // Who is warming is the second choice of the rest, before anybody in trial.
    let states = [State::Warming { permille: 0 }, State::Trial, State::Trial];
    assert!(
        own.iter()
            .all(|key| first_choice(key, &states) == Way::Upper(0))
    );
}

#[test]
fn without_upper_tiers_the_origin_is_the_way() {
    let none = Candidates::default();
    for direct in [false, true] {
        for (topology, candidates) in [
            (Topology::Off, &three()),
            (Topology::Off, &none),
            (Topology::Hash, &none),
        ] {
            let ways = asked(topology, candidates, &[], direct);
            assert_eq!(ways.as_slice(), [Way::Origin], "{topology:?}");
        }
    }
}

#[test]
fn states_decide_who_is_asked_and_the_key_in_which_order() {
    const U: State = State::Up;
    const T: State = State::Trial;
    const D: State = State::Down { until_ms: 1 };
    const O: Option<usize> = None;
    // States by rank in the key's order (first choice first); ways by rank too,
    // with O for the origin: where the origin is allowed, where it is not, and
    // where something stale stands in instead.
    type Ranks = &'static [Option<usize>];
    type Case = (&'static [State], Ranks, Ranks, Ranks);
    let cases: &[Case] = &[
        (
            &[U, U, U],
            &[Some(0), Some(1), Some(2), O],
            &[Some(0), Some(1), Some(2)],
            &[Some(0), Some(1), Some(2)],
        ),
        (
            &[D, U, U],
            &[Some(1), Some(2), O],
            &[Some(1), Some(2), Some(0)],
            &[Some(1), Some(2)],
        ),
        (
            &[U, D, D],
            &[Some(0), O],
            &[Some(0), Some(1), Some(2)],
            &[Some(0)],
        ),
        (
            &[T, U, U],
            &[Some(1), Some(2), Some(0), O],
            &[Some(1), Some(2), Some(0)],
            &[Some(1), Some(2), Some(0)],
        ),
        (
            &[T, D, U],
            &[Some(2), Some(0), O],
            &[Some(2), Some(0), Some(1)],
            &[Some(2), Some(0)],
        ),
        (
            &[D, T, D],
            &[Some(1), O],
            &[Some(1), Some(0), Some(2)],
            &[Some(1), Some(0), Some(2)],
        ),
        (
            &[D, D, D],
            &[O],
            &[Some(0), Some(1), Some(2)],
            &[Some(0), Some(1), Some(2)],
        ),
        // A candidate nothing is known about is up.
        (
            &[],
            &[Some(0), Some(1), Some(2), O],
            &[Some(0), Some(1), Some(2)],
            &[Some(0), Some(1), Some(2)],
        ),
    ];
    let candidates = three();
    let order = candidates.order(&KEY);
    for (by_rank, direct, indirect, stale) in cases {
        let mut states = vec![U; by_rank.len()];
        for (rank, state) in by_rank.iter().enumerate() {
            states[order[rank]] = *state;
        }
        let sites = [
            (true, false, direct),
            (true, true, direct),
            (false, false, indirect),
            (false, true, stale),
        ];
        for (direct_allowed, stale_may_serve, want) in sites {
            let want: Ways = want
                .iter()
                .map(|rank| rank.map_or(Way::Origin, |rank| Way::Upper(order[rank])))
                .collect();
            let got = ways(&Question {
                topology: Topology::Hash,
                key: &KEY,
                candidates: &candidates,
                states: &states,
                reaches: &[],
                direct_allowed,
                stale_may_serve,
            });
            assert_eq!(got, want, "{by_rank:?}, direct {direct_allowed}");
        }
    }
}

#[test]
fn who_is_cut_off_from_the_origin_is_asked_after_the_others() {
    const U: State = State::Up;
    const D: State = State::Down { until_ms: 1 };
    const O: Option<usize> = None;
    // States of the upper tiers and of their ways to the origin, by rank; then the ways
    // by rank: where the origin is allowed, where it is not, and where something stale
    // stands in instead.
    type Ranks = &'static [Option<usize>];
    type Case = ([State; 3], [State; 3], Ranks, Ranks, Ranks);
    let cases: &[Case] = &[
        (
            [U, U, U],
            [D, U, U],
            &[Some(1), Some(2), Some(0), O],
            &[Some(1), Some(2), Some(0)],
            &[Some(1), Some(2), Some(0)],
        ),
        (
            [U, U, D],
            [D, U, U],
            &[Some(1), Some(0), O],
            &[Some(1), Some(0), Some(2)],
            &[Some(1), Some(0)],
        ),
        // Where all are, the first may have it in store, and for the others an error
        // would be certain.
        (
            [U, U, U],
            [D, D, D],
            &[Some(0), O],
            &[Some(0), Some(1), Some(2)],
            &[Some(0), Some(1), Some(2)],
        ),
        (
            [D, U, D],
            [U, D, U],
            &[Some(1), O],
            &[Some(1), Some(0), Some(2)],
            &[Some(1)],
        ),
        // It is down whatever it reached before.
        (
            [D, U, U],
            [D, D, U],
            &[Some(2), Some(1), O],
            &[Some(2), Some(1), Some(0)],
            &[Some(2), Some(1)],
        ),
    ];
    let candidates = three();
    let order = candidates.order(&KEY);
    for (tiers, ways_on, direct, indirect, stale) in cases {
        let (mut states, mut reaches) = (vec![U; 3], vec![U; 3]);
        for rank in 0..3 {
            states[order[rank]] = tiers[rank];
            reaches[order[rank]] = ways_on[rank];
        }
        for (direct_allowed, stale_may_serve, want) in [
            (true, false, direct),
            (true, true, direct),
            (false, false, indirect),
            (false, true, stale),
        ] {
            let want: Ways = want
                .iter()
                .map(|rank| rank.map_or(Way::Origin, |rank| Way::Upper(order[rank])))
                .collect();
            let got = ways(&Question {
                topology: Topology::Hash,
                key: &KEY,
                candidates: &candidates,
                states: &states,
                reaches: &reaches,
                direct_allowed,
                stale_may_serve,
            });
            assert_eq!(got, want, "{tiers:?} {ways_on:?}, direct {direct_allowed}");
        }
    }
}

#[test]
fn the_way_on_from_an_upper_tier_is_tried_by_one_request() {
    const U: State = State::Up;
    const T: State = State::Trial;
    // States of the upper tiers and of their ways to the origin, by rank; whether the
    // claim succeeds, None where nothing is to be claimed; the ways by rank.
    type Case = ([State; 3], [State; 3], Option<bool>, &'static [usize]);
    let cases: &[Case] = &[
        ([U, U, U], [T, U, U], Some(true), &[0, 1, 2]),
        ([U, U, U], [T, U, U], Some(false), &[1, 2, 0]),
        ([U, U, U], [U, T, U], None, &[0, 1, 2]),
        ([U, U, U], [T, T, T], Some(false), &[1, 2, 0]),
        ([T, U, U], [T, U, U], Some(true), &[0, 1, 2]),
        ([T, U, U], [T, U, U], Some(false), &[1, 2]),
    ];
    let candidates = three();
    let order = candidates.order(&KEY);
    for (tiers, ways_on, claim, want) in cases {
        let (mut states, mut reaches) = (vec![U; 3], vec![U; 3]);
        for rank in 0..3 {
            states[order[rank]] = tiers[rank];
            reaches[order[rank]] = ways_on[rank];
        }
        let question = Question {
            topology: Topology::Hash,
            key: &KEY,
            candidates: &candidates,
            states: &states,
            reaches: &reaches,
            direct_allowed: false,
            stale_may_serve: true,
        };
        let mut claimed = None;
        let got = ways_with_trial(&question, |position| {
            claimed = Some(position);
            claim.unwrap()
        });
        let want: Ways = want.iter().map(|rank| Way::Upper(order[*rank])).collect();
        assert_eq!(got, want, "{tiers:?} {ways_on:?}, claim {claim:?}");
        let first = claim.map(|_| order[0]);
        assert_eq!(claimed, first, "{tiers:?} {ways_on:?}");
    }
}

#[test]
fn one_upper_tier_holds_everything_of_an_origin() {
    let candidates = three();
    let origin = [3; 16];
    let order = candidates.order(&origin);
    let mut others = 0;
    for key in 0..=255 {
        let key = [key; 16];
        let ways = ways(&Question {
            topology: Topology::Single { origin: &origin },
            key: &key,
            candidates: &candidates,
            states: &[],
            reaches: &[],
            direct_allowed: true,
            stale_may_serve: false,
        });
        let mut want: Ways = order.iter().map(|at| Way::Upper(*at)).collect();
        want.push(Way::Origin);
        assert_eq!(ways, want);
        others += usize::from(candidates.order(&key) != order);
    }
    assert!(others > 100, "keys alone would have spread");
}

#[test]
fn a_regional_tier_stands_between_edges_and_upper_tiers() {
    use Tier::{Regional, Upper};
    let members = [
        ("r-1", Regional),
        ("u-1", Upper),
        ("r-2", Regional),
        ("u-2", Upper),
    ];
    let candidates = Candidates::of(members.map(|(name, tier)| (name, 1, tier)));
    let tier = |ways: &[Way]| -> Vec<Option<Tier>> {
        let tier = |way: &Way| match way {
            Way::Upper(at) => candidates.tier(*at),
            Way::Origin => None,
        };
        ways.iter().map(tier).collect()
    };
    // Who asks; states of r-1, u-1, r-2, u-2; the tiers asked, None: the origin.
    const U: State = State::Up;
    const D: State = State::Down { until_ms: 1 };
    type Case = (Option<Tier>, [State; 4], &'static [Option<Tier>]);
    let cases: [Case; 5] = [
        (
            None,
            [U; 4],
            &[
                Some(Regional),
                Some(Regional),
                Some(Upper),
                Some(Upper),
                None,
            ],
        ),
        (
            None,
            [D, U, U, U],
            &[Some(Regional), Some(Upper), Some(Upper), None],
        ),
        (None, [D, U, D, U], &[Some(Upper), Some(Upper), None]),
        (Some(Regional), [U; 4], &[Some(Upper), Some(Upper), None]),
        (Some(Upper), [U; 4], &[None]),
    ];
    for (asker, states, want) in cases {
        let topology = Topology::Regional { asker, load: None };
        let ways = asked(topology, &candidates, &states, true);
        assert_eq!(tier(&ways), want, "{asker:?} {states:?}");
    }
    // Two edges of a region agree, and so do two regional tiers.
    let order = |asker| {
        let topology = Topology::Regional { asker, load: None };
        asked(topology, &candidates, &[], false)
    };
    let below: Ways = order(None).into_iter().skip(2).collect();
    assert_eq!(below, order(Some(Regional)));
}

#[test]
fn who_is_of_another_tier_stands_by() {
    use Tier::{Regional, Upper};
    let members = [("r-1", Regional), ("u-1", Upper), ("r-2", Regional)];
    let candidates = Candidates::of(members.map(|(name, tier)| (name, 1, tier)));
    let origin = &[3; 16];
    let auto = &{
        let mut auto = Auto::new(AutoRules::default(), 3);
        for _ in 0..10 {
            auto.measure(0, 0, 1, 0);
        }
        auto
    };
    let load = Load {
        requests: &[0, 900, 0],
        percent: 125,
        free: 0,
    };
    for topology in [
        Topology::Hash,
        Topology::Single { origin },
        Topology::Bounded(load),
        Topology::Auto { auto, origin },
    ] {
        let ways = asked(topology, &candidates, &[], false);
        assert_eq!((ways[0], ways.len()), (Way::Upper(1), 3), "{topology:?}");
    }
    let stand_by = [0, 1, 2].map(|at| candidates.stands_by(at));
    assert_eq!(stand_by, [true, false, true]);
    // Where there is nobody to stand by for, they are asked as any other.
    let regional = Candidates::of([("r-1", 1, Regional), ("r-2", 1, Regional)]);
    let hash = asked(Topology::Hash, &regional, &[], false);
    let same = asked(Topology::Hash, &Candidates::new(["r-1", "r-2"]), &[], false);
    assert_eq!((hash, regional.stands_by(0)), (same, false));
}

#[test]
fn load_is_bounded_within_a_tier() {
    use Tier::{Regional, Upper};
    let members = [("r-1", Regional), ("u-1", Upper), ("r-2", Regional)];
    let candidates = Candidates::of(members.map(|(name, tier)| (name, 1, tier)));
    let free = asked(
        Topology::Regional {
            asker: None,
            load: None,
        },
        &candidates,
        &[],
        false,
    );
    let Way::Upper(first) = free[0] else {
        panic!("an edge asks a regional tier")
    };
    let mut requests = [0, 900, 0];
    requests[first] = 3;
    let load = Some(Load {
        requests: &requests,
        percent: 125,
        free: 0,
    });
    let asker = None;
    let bounded = asked(Topology::Regional { asker, load }, &candidates, &[], false);
    // The upper tier's own load says nothing about the regional ones.
    assert_eq!(bounded.as_slice(), [free[1], free[0], free[2]]);
}

#[test]
fn the_nearest_is_asked_first_and_the_runner_up_next() {
    let candidates = three();
    let mut auto = Auto::new(AutoRules::default(), 3);
    let origin = &[9; 16];
    let single = asked(Topology::Single { origin }, &candidates, &[], true);
    fn topology<'a>(auto: &'a Auto, origin: &'a [u8; 16]) -> Topology<'a> {
        Topology::Auto { auto, origin }
    }
    assert_eq!(
        asked(topology(&auto, origin), &candidates, &[], true),
        single
    );
    for _ in 0..10 {
        auto.measure(2, 1_000, 9_000, 0);
        auto.measure(0, 1_000, 19_000, 0);
    }
    let ways = asked(topology(&auto, origin), &candidates, &[], true);
    let want = [Way::Upper(2), Way::Upper(0), Way::Upper(1), Way::Origin];
    assert_eq!(ways.as_slice(), want);
    let states = [State::Up, State::Up, State::Down { until_ms: 1 }];
    let ways = asked(topology(&auto, origin), &candidates, &states, true);
    assert_eq!(ways[0], Way::Upper(0), "what is down is nobody's choice");
}

#[test]
fn a_trial_is_claimed_by_one_whose_first_choice_it_is() {
    const U: State = State::Up;
    const T: State = State::Trial;
    const D: State = State::Down { until_ms: 1 };
    // States by rank; whether the claim succeeds, None where nothing is to be
    // claimed; the ways by rank.
    type Case = (&'static [State], Option<bool>, &'static [usize]);
    let cases: &[Case] = &[
        (&[U, U, U], None, &[0, 1, 2]),
        (&[T, U, U], Some(true), &[0, 1, 2]),
        (&[T, U, U], Some(false), &[1, 2]),
        (&[U, T, U], None, &[0, 1, 2]),
        (&[D, T, U], Some(true), &[1, 2]),
        (&[D, T, U], Some(false), &[2]),
        (&[D, D, D], None, &[0, 1, 2]),
        (&[T, D, D], Some(true), &[0]),
        // It lost the claim and has no other hope: it asks all the same.
        (&[T, D, D], Some(false), &[0, 1, 2]),
    ];
    let candidates = three();
    let order = candidates.order(&KEY);
    for (by_rank, claim, want) in cases {
        let mut states = vec![U; by_rank.len()];
        for (rank, state) in by_rank.iter().enumerate() {
            states[order[rank]] = *state;
        }
        let question = Question {
            topology: Topology::Hash,
            key: &KEY,
            candidates: &candidates,
            states: &states,
            reaches: &[],
            direct_allowed: false,
            stale_may_serve: true,
        };
        let mut claimed = None;
        let got = ways_with_trial(&question, |position| {
            claimed = Some(position);
            claim.unwrap()
        });
        let want: Ways = want.iter().map(|rank| Way::Upper(order[*rank])).collect();
        assert_eq!(got, want, "{by_rank:?}, claim {claim:?}");
        assert_eq!(claimed.is_some(), claim.is_some(), "{by_rank:?}");
    }
}

fn some_states() -> impl Strategy<Value = Vec<State>> {
    let state = prop_oneof![
        Just(State::Up),
        Just(State::Trial),
        any::<u64>().prop_map(|until_ms| State::Down { until_ms }),
    ];
    prop::collection::vec(state, 0..16)
}

proptest! {
    #[test]
    fn there_is_always_a_way_and_none_twice(
        key: [u8; 16],
        hash: bool,
        count in 0_usize..12,
        states in some_states(),
        reaches in some_states(),
        direct_allowed: bool,
        stale_may_serve: bool,
    ) {
        let names: Vec<String> = (0..count).map(|n| n.to_string()).collect();
        let candidates = Candidates::new(names.iter().map(String::as_str));
        let topology = if hash { Topology::Hash } else { Topology::Off };
        let ways = ways(&Question {
            topology,
            key: &key,
            candidates: &candidates,
            states: &states,
            reaches: &reaches,
            direct_allowed,
            stale_may_serve,
        });
        prop_assert!(!ways.is_empty());
        for (at, way) in ways.iter().enumerate() {
            prop_assert!(!ways[..at].contains(way));
            if let Way::Upper(position) = way {
                prop_assert!(hash && *position < count);
            }
        }
        // The origin is the last resort, and only where it may be asked.
        let origin = ways.iter().position(|way| *way == Way::Origin);
        prop_assert!(origin.is_none_or(|at| at == ways.len() - 1));
        prop_assert_eq!(origin.is_some(), direct_allowed || !hash || count == 0);
    }
}
