use proptest::prelude::*;

use super::*;

const NOW_MS: u64 = 1_700_000_000_000;

/// One step of a story, at a time after its beginning.
#[derive(Debug, Clone, Copy)]
enum Step {
    Success(Transition),
    Failure(Failure, Transition),
    Trial(bool),
    Is(State),
}
use Step::{Is, Success, Trial};
use Transition::{CameUp, None, WentDown};

fn fails(failure: Failure, transition: Transition) -> Step {
    Step::Failure(failure, transition)
}

fn down(until_ms: u64) -> Step {
    Is(State::Down {
        until_ms: NOW_MS + until_ms,
    })
}

fn tell(name: &str, rules: HealthRules, story: &[(u64, Step)]) {
    let mut health = Health::new(rules);
    for (line, (after_ms, step)) in story.iter().enumerate() {
        let now_ms = NOW_MS + after_ms;
        let place = format!("{name}, step {line}: {step:?}");
        match *step {
            Success(want) => assert_eq!(health.on_success(now_ms), want, "{place}"),
            Step::Failure(failure, want) => {
                assert_eq!(health.on_failure(now_ms, failure), want, "{place}");
            }
            Trial(want) => assert_eq!(health.begin_trial(now_ms), want, "{place}"),
            Is(want) => assert_eq!(health.state(now_ms), want, "{place}"),
        }
    }
}

#[test]
fn stories() {
    let rules = HealthRules {
        failures_to_down: 3,
        down_ms: 1_000,
        trial_ms: 500,
        warm_ms: 0,
        ..HealthRules::default()
    };
    use Failure::{Broken, Connect, Refused, Timeout, Unverified};
    let stories: &[(&str, &[(u64, Step)])] = &[
        (
            "unknown is up, and success changes nothing",
            &[(0, Is(State::Up)), (0, Trial(false)), (0, Success(None))],
        ),
        (
            "the third failure in a row is one too many, of whatever kind",
            &[
                (0, fails(Timeout, None)),
                (1, fails(Broken, None)),
                (2, Is(State::Up)),
                (2, fails(Unverified, WentDown)),
                (2, down(1_002)),
            ],
        ),
        (
            "a success between them starts the count again",
            &[
                (0, fails(Timeout, None)),
                (0, fails(Refused, None)),
                (0, Success(None)),
                (0, fails(Timeout, None)),
                (0, fails(Timeout, None)),
                (0, Is(State::Up)),
                (0, fails(Timeout, WentDown)),
            ],
        ),
        (
            "one failed connection is enough, and both sides of the time down",
            &[
                (0, fails(Connect, WentDown)),
                (0, down(1_000)),
                (999, down(1_000)),
                (999, Trial(false)),
                (1_000, Is(State::Trial)),
            ],
        ),
        (
            "one caller tries, and its success brings the upstream up",
            &[
                (0, fails(Connect, WentDown)),
                (1_000, Trial(true)),
                (1_000, Trial(false)),
                (1_000, down(1_500)),
                (1_400, Success(CameUp)),
                (1_400, Is(State::Up)),
                (1_400, fails(Timeout, None)),
            ],
        ),
        (
            "a failed trial means the same time down again",
            &[
                (0, fails(Connect, WentDown)),
                (1_000, Trial(true)),
                (1_200, fails(Timeout, None)),
                (2_199, down(2_200)),
                (2_200, Trial(true)),
                (2_300, fails(Connect, None)),
                (3_299, down(3_300)),
                (3_300, Is(State::Trial)),
            ],
        ),
        (
            "a trial whose caller vanished lapses",
            &[
                (0, fails(Connect, WentDown)),
                (1_000, Trial(true)),
                (1_499, Trial(false)),
                (1_500, Trial(true)),
            ],
        ),
        (
            "stragglers prolong nothing while it is down",
            &[
                (0, fails(Connect, WentDown)),
                (500, fails(Timeout, None)),
                (999, fails(Connect, None)),
                (1_000, Is(State::Trial)),
            ],
        ),
        (
            "a failure after the time down, with or without a claim, starts it anew",
            &[
                (0, fails(Connect, WentDown)),
                (1_000, fails(Connect, None)),
                (1_999, down(2_000)),
                (2_000, Is(State::Trial)),
            ],
        ),
        (
            "a success counts even while it is down",
            &[
                (0, fails(Connect, WentDown)),
                (10, Success(CameUp)),
                (10, Is(State::Up)),
            ],
        ),
    ];
    for (name, story) in stories {
        tell(name, rules, story);
    }
}

#[test]
fn one_that_answers_badly_every_other_time_goes_down_too() {
    let rules = HealthRules {
        recent: 8,
        recent_failures_to_down: 4,
        ..HealthRules::default()
    };
    let mut health = Health::new(rules);
    for _ in 0..3 {
        assert_eq!(health.on_failure(NOW_MS, Failure::Broken), None);
        assert_eq!(health.on_success(NOW_MS), None);
    }
    // Four of seven are too few to judge by.
    assert_eq!(health.on_failure(NOW_MS, Failure::Broken), None);
    assert_eq!(health.on_success(NOW_MS), None);
    assert_eq!(health.on_failure(NOW_MS, Failure::Broken), WentDown);
    // What was before it went down is forgotten.
    health.on_success(NOW_MS + 1_000);
    for _ in 0..2 {
        assert_eq!(health.on_failure(NOW_MS + 1_000, Failure::Broken), None);
    }

    let mut mostly_well = Health::new(rules);
    for number in 0..1_000 {
        let transition = if number % 3 == 0 {
            mostly_well.on_failure(NOW_MS, Failure::Unverified)
        } else {
            mostly_well.on_success(NOW_MS)
        };
        assert_eq!(transition, None);
    }
}

#[test]
fn one_that_is_late_goes_down_by_many_and_never_by_a_few_in_a_row() {
    let rules = HealthRules {
        recent: 8,
        recent_failures_to_down: 4,
        ..HealthRules::default()
    };
    let late_after = |rules, pool, successes: u32, late: u32| {
        let mut health = Health::new(rules);
        for _ in 0..successes {
            health.on_success(NOW_MS);
        }
        let last = (0..late).map(|_| health.on_failure_in(pool, NOW_MS, Failure::Late));
        last.last().unwrap()
    };
    let never = HealthRules {
        recent_failures_to_down: 0,
        ..rules
    };
    let pair = |others_out| Pool {
        size: 2,
        others_out,
    };
    for (name, rules, pool, successes, late, transition) in [
        ("too few of the latest", rules, Pool::ALONE, 8, 3, None),
        ("enough of them", rules, Pool::ALONE, 8, 4, WentDown),
        ("too few to judge by", rules, Pool::ALONE, 0, 7, None),
        ("with nothing else", rules, Pool::ALONE, 0, 8, WentDown),
        ("where many never do", never, Pool::ALONE, 8, 100, None),
        ("half of a pair", rules, pair(0), 8, 4, WentDown),
        ("the other half", rules, pair(1), 8, 4, None),
    ] {
        let last = late_after(rules, pool, successes, late);
        assert_eq!(last, transition, "{name}");
    }
    // What is late leaves the count of those in a row where it is.
    let mut health = Health::new(rules);
    for failure in [Failure::Timeout, Failure::Late, Failure::Timeout] {
        assert_eq!(health.on_failure(NOW_MS, failure), None);
    }
    assert_eq!(health.on_failure(NOW_MS, Failure::Timeout), WentDown);
}

#[test]
fn bad_answers_put_no_more_than_a_fraction_of_a_pool_out() {
    for (size, others_out, goes_down) in [
        (1, 0, true),
        (2, 0, true),
        (2, 1, false),
        (3, 0, true),
        (3, 1, false),
        (4, 1, true),
        (4, 2, false),
    ] {
        let pool = Pool { size, others_out };
        for (failure, spared) in [
            (Failure::Unverified, true),
            (Failure::Refused, true),
            (Failure::Broken, true),
            (Failure::Timeout, false),
            (Failure::Connect, false),
        ] {
            let mut health = Health::new(HealthRules::default());
            let last = (0..3).map(|_| health.on_failure_in(pool, NOW_MS, failure));
            let went_down = last.collect::<Vec<_>>().contains(&WentDown);
            assert_eq!(
                went_down,
                goes_down || !spared,
                "{others_out} of {size}, {failure:?}"
            );
        }
    }
}

#[test]
fn keys_come_back_share_by_share() {
    let mut health = Health::new(HealthRules::default());
    health.on_success(NOW_MS);
    assert_eq!(health.state(NOW_MS), State::Up, "never was down");
    health.on_failure(NOW_MS, Failure::Connect);
    health.on_success(NOW_MS);
    for (after_ms, permille) in [(0, 0), (1, 1), (500, 500), (999, 999)] {
        let warming = State::Warming { permille };
        assert_eq!(health.state(NOW_MS + after_ms), warming, "{after_ms}");
        // An answer meanwhile neither hurries nor delays it.
        health.on_success(NOW_MS + after_ms);
    }
    assert_eq!(health.state(NOW_MS + 1_000), State::Up);
    assert_eq!(health.state(NOW_MS - 1), State::Up, "a clock set back");
}

#[test]
fn a_clock_set_back_prolongs_nothing() {
    let mut health = Health::new(HealthRules::default());
    health.on_failure(NOW_MS, Failure::Connect);
    assert_eq!(health.state(NOW_MS - 1), State::Trial);
    assert!(health.begin_trial(NOW_MS - 3_600_000));
    assert!(!health.begin_trial(NOW_MS - 3_600_000 + 999));
    assert!(health.begin_trial(NOW_MS - 3_600_000 + 1_000));
}

#[test]
fn no_failures_allowed_means_that_one_is_enough() {
    let rules = HealthRules {
        failures_to_down: 0,
        ..HealthRules::default()
    };
    for failure in [Failure::Connect, Failure::Timeout] {
        let mut health = Health::new(rules);
        assert_eq!(health.on_failure(NOW_MS, failure), WentDown);
    }
}

#[test]
fn every_failure_has_its_own_word() {
    let words = [
        Failure::Connect,
        Failure::Timeout,
        Failure::Late,
        Failure::Broken,
        Failure::Unverified,
        Failure::Refused,
    ]
    .map(Failure::as_str);
    let distinct: std::collections::BTreeSet<_> = words.into_iter().collect();
    assert_eq!(distinct.len(), words.len());
}

fn failure() -> impl Strategy<Value = Failure> {
    prop::sample::select(vec![
        Failure::Connect,
        Failure::Timeout,
        Failure::Late,
        Failure::Broken,
        Failure::Unverified,
        Failure::Refused,
    ])
}

#[derive(Debug, Clone)]
enum Event {
    Success,
    Failure(Failure),
    Trial,
}

proptest! {
    #[test]
    fn whatever_happens_it_is_never_given_up(
        failures_to_down: u32,
        down_ms in 0_u64..5_000,
        trial_ms in 0_u64..5_000,
        events in prop::collection::vec(
            (any::<u64>(), prop_oneof![
                Just(Event::Success),
                failure().prop_map(Event::Failure),
                Just(Event::Trial),
            ]),
            0..40,
        ),
    ) {
        let mut health = Health::new(HealthRules {
            failures_to_down,
            down_ms,
            trial_ms,
            ..HealthRules::default()
        });
        let mut up = true;
        for (now_ms, event) in events {
            match event {
                Event::Success => {
                    let want = if up { None } else { CameUp };
                    prop_assert_eq!(health.on_success(now_ms), want);
                    up = true;
                }
                Event::Failure(failure) => {
                    let transition = health.on_failure(now_ms, failure);
                    prop_assert_ne!(transition, CameUp);
                    prop_assert!(up || transition == None);
                    up &= transition != WentDown;
                }
                Event::Trial => {
                    let may = health.state(now_ms) == State::Trial;
                    prop_assert_eq!(health.begin_trial(now_ms), may);
                }
            }
            // Transitions tell the whole story, and no time down is longer than
            // the rules say.
            let is_up = matches!(health.state(now_ms), State::Up | State::Warming { .. });
            prop_assert_eq!(is_up, up);
            if let State::Down { until_ms } = health.state(now_ms) {
                prop_assert!(until_ms > now_ms);
                prop_assert!(until_ms - now_ms <= down_ms.max(trial_ms));
            }
        }
    }
}
