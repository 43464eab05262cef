//! Passive health of one upstream: what its last answers say about the next.
//!
//! An upstream is up until enough failures in a row put it down for a short
//! time. When that time is over, one caller may try it (a request that has no
//! better way, or a probe); its success brings the upstream up, its failure
//! starts another short time down.
//!
//! What must stay true:
//!
//! * One success brings it up, in whatever state it was. An upper tier that comes
//!   back must be in use within three seconds, so the time down is short and does
//!   not grow: `down_ms`, plus `trial_ms`, plus the caller's own interval between
//!   trials, must stay below that.
//! * Failures that arrive while it is down prolong nothing. They belong to
//!   requests sent earlier, and their stragglers, each as late as its timeout
//!   allows, would otherwise keep a healthy upstream out of use.
//! * A trial whose caller vanished lapses by itself after `trial_ms`.
//! * A clock that is set back prolongs nothing: a time down counts only from the
//!   moment at which it began.

/// What a node does about failures of an upstream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct HealthRules {
    /// Failures in a row that put an upstream down; 0 counts as 1. A failure to
    /// connect counts for all of them at once.
    pub failures_to_down: u32,
    /// How long it then stays down, milliseconds.
    pub down_ms: u64,
    /// How long one trial keeps other callers away, milliseconds.
    pub trial_ms: u64,
}

impl Default for HealthRules {
    fn default() -> Self {
        Self {
            failures_to_down: 3,
            down_ms: 1_000,
            trial_ms: 1_000,
        }
    }
}

/// How an upstream failed us. What the origin said through it is no failure of
/// the upper tier: a verified 5xx is a success here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Failure {
    /// No connection came about: refused, unreachable, timed out, or TLS failed.
    Connect,
    /// Connected, but no response head within the time allowed.
    Timeout,
    /// The connection broke, or what came over it was not HTTP.
    Broken,
    /// An answer came whose signature is missing or wrong.
    Unverified,
    /// The upper tier would not accept our control block.
    Refused,
}

impl Failure {
    /// One word for metrics and logs.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::Timeout => "timeout",
            Self::Broken => "broken",
            Self::Unverified => "unverified",
            Self::Refused => "refused",
        }
    }
}

/// Whether an upstream is worth asking.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// It answered, or has not been asked yet.
    Up,
    /// It failed, or is being tried by somebody else; Unix milliseconds of the
    /// moment from which the next caller may try it.
    Down {
        /// The first moment at which it is no longer down.
        until_ms: u64,
    },
    /// Its time down is over and nobody has tried it since: see
    /// [`Health::begin_trial`].
    Trial,
}

/// What an observation changed, for events and gauges.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transition {
    /// Nothing that an operator would notice.
    None,
    /// It was up and is no longer.
    WentDown,
    /// It was not up and is again.
    CameUp,
}

/// Passive health of one upstream.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Health {
    rules: HealthRules,
    phase: Phase,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Phase {
    Up {
        failures: u32,
    },
    Down {
        since_ms: u64,
    },
    /// A trial began and is the only one until `trial_ms` later.
    Trying {
        since_ms: u64,
    },
}

impl Health {
    /// An upstream nothing is known about: up.
    #[must_use]
    pub fn new(rules: HealthRules) -> Self {
        Self {
            rules,
            phase: Phase::Up { failures: 0 },
        }
    }

    /// Takes note of a verified answer.
    ///
    /// `_now_ms` is not needed today: a success counts whenever it comes. It is
    /// asked for so that callers read alike and the rules may grow.
    pub fn on_success(&mut self, _now_ms: u64) -> Transition {
        let before = self.phase;
        self.phase = Phase::Up { failures: 0 };
        match before {
            Phase::Up { .. } => Transition::None,
            Phase::Down { .. } | Phase::Trying { .. } => Transition::CameUp,
        }
    }

    /// Takes note of a failure.
    pub fn on_failure(&mut self, now_ms: u64, failure: Failure) -> Transition {
        match self.phase {
            Phase::Up { failures } => {
                let failures = match failure {
                    // Whoever cannot be connected to will not answer the next
                    // request either, so no more visitors should find out.
                    Failure::Connect => self.rules.failures_to_down,
                    _ => failures.saturating_add(1),
                };
                if failures < self.rules.failures_to_down {
                    self.phase = Phase::Up { failures };
                    return Transition::None;
                }
                self.phase = Phase::Down { since_ms: now_ms };
                Transition::WentDown
            }
            // A straggler of before; see the module's invariants.
            Phase::Down { .. } if self.state(now_ms) != State::Trial => Transition::None,
            Phase::Down { .. } | Phase::Trying { .. } => {
                self.phase = Phase::Down { since_ms: now_ms };
                Transition::None
            }
        }
    }

    /// Whether it is worth asking now.
    #[must_use]
    pub fn state(&self, now_ms: u64) -> State {
        let (since_ms, for_ms) = match self.phase {
            Phase::Up { .. } => return State::Up,
            Phase::Down { since_ms } => (since_ms, self.rules.down_ms),
            Phase::Trying { since_ms } => (since_ms, self.rules.trial_ms),
        };
        let until_ms = since_ms.saturating_add(for_ms);
        if (since_ms..until_ms).contains(&now_ms) {
            State::Down { until_ms }
        } else {
            State::Trial
        }
    }

    /// Claims the trial. True for one caller, who then asks the upstream and
    /// reports what came of it; false for the others, until that report or until
    /// `trial_ms` have passed, and false while the upstream is up or down.
    pub fn begin_trial(&mut self, now_ms: u64) -> bool {
        let claimed = self.state(now_ms) == State::Trial;
        if claimed {
            self.phase = Phase::Trying { since_ms: now_ms };
        }
        claimed
    }
}

#[cfg(test)]
mod tests {
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
            let mut health = Health::new(HealthRules { failures_to_down, down_ms, trial_ms });
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
                prop_assert_eq!(health.state(now_ms) == State::Up, up);
                if let State::Down { until_ms } = health.state(now_ms) {
                    prop_assert!(until_ms > now_ms);
                    prop_assert!(until_ms - now_ms <= down_ms.max(trial_ms));
                }
            }
        }
    }
}
