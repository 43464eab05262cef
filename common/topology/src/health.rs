//! Health of one upstream: what its last answers say about the next.
//!
//! An upstream is up until enough failures, in a row or among its latest answers,
//! put it down for a short time. When that time is over, one caller may try it (a
//! request or a probe); its success brings the upstream up, its failure starts
//! another short time down. One that came up is warm only after a moment, in which
//! its keys come back to it share by share: a cold store that got all of them at
//! once would send all of them to the origin.
//!
//! What must stay true:
//!
//! * One success brings it up, in whatever state it was. An upper tier that comes
//!   back must be in use within three seconds, so the time down is short and does
//!   not grow: `down_ms`, the interval between probes and `warm_ms` together must
//!   stay below that.
//! * Failures that answers show never put more than a fraction of a pool down. When
//!   all of a pool answers badly the fault is elsewhere, and whoever is left in use
//!   shows at once that it is over. Those that cannot be reached, or do not answer,
//!   are down however many they are: asking them costs a visitor's time.
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
    /// How many of its latest answers are looked at, 64 at most.
    pub recent: u32,
    /// Failures among them that put an upstream down as well; 0: they never do.
    pub recent_failures_to_down: u32,
    /// Most of a pool that failed answers may put down, in thousandths; one of them
    /// always may be.
    pub out_permille_max: u32,
    /// How long it then stays down, milliseconds.
    pub down_ms: u64,
    /// How long one trial keeps other callers away, milliseconds.
    pub trial_ms: u64,
    /// How long after it came up its share of keys grows to the whole, milliseconds.
    pub warm_ms: u64,
}

impl Default for HealthRules {
    fn default() -> Self {
        Self {
            failures_to_down: 3,
            recent: 20,
            recent_failures_to_down: 10,
            out_permille_max: 500,
            down_ms: 1_000,
            trial_ms: 1_000,
            warm_ms: 1_000,
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
    /// The same, while others were answered: what it was asked for may be slow, or it
    /// answers some of all requests too late.
    Late,
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
            Self::Late => "late",
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
    /// It came up a moment ago and takes this share of its keys.
    Warming {
        /// Of a thousand.
        permille: u16,
    },
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

/// The others, seen from one upstream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pool {
    /// How many there are, this one included.
    pub size: usize,
    /// How many of the others are down or being tried.
    pub others_out: usize,
}

impl Pool {
    /// One that is alone.
    pub const ALONE: Self = Self {
        size: 1,
        others_out: 0,
    };

    /// Whether one more may go out.
    fn can_spare_one(self, out_permille_max: u32) -> bool {
        let allowed = self.size.saturating_mul(out_permille_max as usize) / 1000;
        self.others_out < allowed.max(1)
    }
}

/// How the latest answers went, the last one in the lowest bit: set where it failed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
struct Recent {
    failed: u64,
    seen: u32,
}

impl Recent {
    fn note(&mut self, failed: bool) {
        self.failed = (self.failed << 1) | u64::from(failed);
        self.seen = (self.seen + 1).min(u64::BITS);
    }

    /// How many of the last `count` failed; None before there were so many.
    fn failures(self, count: u32) -> Option<u32> {
        let count = count.clamp(1, u64::BITS);
        let latest = u64::MAX >> (u64::BITS - count);
        (self.seen >= count).then(|| (self.failed & latest).count_ones())
    }
}

/// Health of one upstream.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Health {
    rules: HealthRules,
    phase: Phase,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Phase {
    Up {
        /// In a row.
        failures: u32,
        recent: Recent,
        /// When it came up, where it was down before.
        since_ms: Option<u64>,
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
            phase: Phase::Up {
                failures: 0,
                recent: Recent::default(),
                since_ms: None,
            },
        }
    }

    /// Takes note of a verified answer.
    pub fn on_success(&mut self, now_ms: u64) -> Transition {
        match &mut self.phase {
            Phase::Up {
                failures, recent, ..
            } => {
                *failures = 0;
                if self.rules.recent_failures_to_down > 0 {
                    recent.note(false);
                }
                Transition::None
            }
            Phase::Down { .. } | Phase::Trying { .. } => {
                self.phase = Phase::Up {
                    failures: 0,
                    recent: Recent::default(),
                    since_ms: (self.rules.warm_ms > 0).then_some(now_ms),
                };
                Transition::CameUp
            }
        }
    }

    /// Takes note of a failure of one that is alone.
    pub fn on_failure(&mut self, now_ms: u64, failure: Failure) -> Transition {
        self.on_failure_in(Pool::ALONE, now_ms, failure)
    }

    /// Takes note of a failure of one in a pool.
    pub fn on_failure_in(&mut self, pool: Pool, now_ms: u64, failure: Failure) -> Transition {
        let is_trial = self.state(now_ms) == State::Trial;
        match &mut self.phase {
            Phase::Up {
                failures, recent, ..
            } => {
                let too_many = self.rules.recent_failures_to_down;
                if too_many > 0 {
                    recent.note(true);
                }
                *failures = match failure {
                    // Whoever cannot be connected to will not answer the next
                    // request either, so no more visitors should find out.
                    Failure::Connect => self.rules.failures_to_down,
                    // One page that hangs, asked for three times, is no reason; half
                    // of the latest answers are.
                    Failure::Late => *failures,
                    _ => failures.saturating_add(1),
                };
                let too_often = too_many > 0
                    && recent
                        .failures(self.rules.recent)
                        .is_some_and(|failed| failed >= too_many);
                if *failures < self.rules.failures_to_down && !too_often {
                    return Transition::None;
                }
                let unreachable = matches!(failure, Failure::Connect | Failure::Timeout);
                if !unreachable && !pool.can_spare_one(self.rules.out_permille_max) {
                    return Transition::None;
                }
                self.phase = Phase::Down { since_ms: now_ms };
                Transition::WentDown
            }
            // A straggler of before; see the module's invariants.
            Phase::Down { .. } if !is_trial => Transition::None,
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
            Phase::Up { since_ms, .. } => return self.warmth(since_ms, now_ms),
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

    /// Whether it is up, and was at that moment. Where nothing warms up (`warm_ms` 0)
    /// nobody remembers since when.
    #[must_use]
    pub fn was_up_at(&self, then_ms: u64) -> bool {
        match self.phase {
            Phase::Up { since_ms, .. } => since_ms.is_none_or(|since_ms| since_ms <= then_ms),
            Phase::Down { .. } | Phase::Trying { .. } => false,
        }
    }

    /// How warm one is that is up. A clock that is set back makes it warm at once.
    fn warmth(&self, since_ms: Option<u64>, now_ms: u64) -> State {
        let up_ms = since_ms.and_then(|since_ms| now_ms.checked_sub(since_ms));
        match up_ms.filter(|up_ms| *up_ms < self.rules.warm_ms) {
            None => State::Up,
            Some(up_ms) => {
                let permille = u128::from(up_ms) * 1000 / u128::from(self.rules.warm_ms);
                State::Warming {
                    permille: u16::try_from(permille).unwrap_or(1000),
                }
            }
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
mod tests;
