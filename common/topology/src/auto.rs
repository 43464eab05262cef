//! The upper tier that is nearest to an origin, as measured.
//!
//! For one origin an edge measures how long each upper tier takes: to connect, and to
//! the first byte of a fetch from that origin. The best is asked first; a change costs
//! a cold store, so a challenger has to be better by a margin, and for a while. The one
//! that was first stays as runner-up, since its store is warm.
//!
//! What must stay true:
//!
//! * Times are smoothed; one slow answer moves nobody.
//! * Nobody is first who was not measured, while somebody was.
//! * Who fails is not judged by it: health takes it out of the ways. Its times count
//!   again when it answers.
//! * A clock that is set back delays a change by [`AutoRules::hold_ms`] at most.

use crate::Order;

/// When a better upper tier takes over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct AutoRules {
    /// How much better a challenger has to be, in percent of the first's time…
    pub margin_percent: u32,
    /// …and at least in microseconds, or two near ones would change places for nothing.
    pub margin_us: u64,
    /// For how long it has to stay so, milliseconds.
    pub hold_ms: u64,
    /// Measurements before a candidate's time counts; 0 counts as 1.
    pub samples_min: u32,
    /// A time that was not measured for so long is worth measuring again,
    /// milliseconds.
    pub remeasure_ms: u64,
    /// Between two requests that are sent to another than the first for its time's
    /// sake, milliseconds.
    pub measure_every_ms: u64,
}

impl Default for AutoRules {
    fn default() -> Self {
        Self {
            margin_percent: 20,
            margin_us: 2_000,
            hold_ms: 30_000,
            samples_min: 5,
            remeasure_ms: 60_000,
            measure_every_ms: 1_000,
        }
    }
}

/// What one candidate's answers took.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
struct Measured {
    /// Smoothed, microseconds.
    time_us: u64,
    samples: u32,
    last_ms: u64,
    /// When a request was last sent there for its time's sake.
    sent_ms: u64,
}

/// The choice for one origin.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Auto {
    rules: AutoRules,
    measured: Vec<Measured>,
    first: Option<usize>,
    runner_up: Option<usize>,
    /// Since when the first is beaten, Unix milliseconds.
    beaten_ms: Option<u64>,
    /// When anybody was last asked for its time's sake, Unix milliseconds.
    sent_ms: u64,
}

/// A measurement moves the smoothed time by one part in so many.
const SMOOTHING: u64 = 8;

impl Auto {
    /// A choice among `candidates`, of which nothing is known.
    #[must_use]
    pub fn new(rules: AutoRules, candidates: usize) -> Self {
        Self {
            rules,
            measured: vec![Measured::default(); candidates],
            first: None,
            runner_up: None,
            beaten_ms: None,
            sent_ms: 0,
        }
    }

    /// Who is asked first; None until somebody was measured often enough.
    #[must_use]
    pub fn first(&self) -> Option<usize> {
        self.first
    }

    /// Who is asked next.
    #[must_use]
    pub fn runner_up(&self) -> Option<usize> {
        self.runner_up
    }

    /// The smoothed time of a candidate in microseconds, if it counts.
    #[must_use]
    pub fn time_us(&self, position: usize) -> Option<u64> {
        let measured = self.measured.get(position)?;
        (measured.samples >= self.rules.samples_min.max(1)).then_some(measured.time_us)
    }

    /// How many measurements a candidate has.
    #[must_use]
    pub fn samples(&self, position: usize) -> u32 {
        self.measured.get(position).map_or(0, |one| one.samples)
    }

    /// Takes note of an answer: how long a connection takes to make there, whether or
    /// not this answer needed one, and how long the first byte then took. Returns whether another is first
    /// from now on.
    pub fn measure(
        &mut self,
        position: usize,
        connect_us: u64,
        first_byte_us: u64,
        now_ms: u64,
    ) -> bool {
        let Some(measured) = self.measured.get_mut(position) else {
            return false;
        };
        let time_us = connect_us.saturating_add(first_byte_us);
        measured.time_us = if measured.samples == 0 {
            time_us
        } else {
            // Rounded towards the new time, so that it is reached.
            let old = measured.time_us;
            let step = old.abs_diff(time_us).div_ceil(SMOOTHING);
            if time_us > old {
                old + step
            } else {
                old - step
            }
        };
        measured.samples = measured.samples.saturating_add(1);
        measured.last_ms = now_ms;
        self.decide(now_ms)
    }

    /// Whom to send a visitor's request to for the sake of its time, in place of the
    /// first: who was not measured often enough, or not for a while, and of these the
    /// one that waits longest. None while the last such request is not long ago, and
    /// until there is a first. `may` says who can be asked.
    pub fn begin_measuring(&mut self, now_ms: u64, may: impl Fn(usize) -> bool) -> Option<usize> {
        let within = |since_ms: u64, ms: u64| {
            // A clock that was set back must not stop the measuring.
            (since_ms..since_ms.saturating_add(ms)).contains(&now_ms)
        };
        let first = self.first?;
        if within(self.sent_ms, self.rules.measure_every_ms) {
            return None;
        }
        let waiting = self.measured.iter().enumerate().filter(|(position, one)| {
            let is_known = self.time_us(*position).is_some();
            *position != first
                && !(is_known && within(one.last_ms, self.rules.remeasure_ms))
                && may(*position)
        });
        let next = waiting
            .min_by_key(|(position, one)| (one.sent_ms, *position))
            .map(|(position, _)| position)?;
        self.sent_ms = now_ms;
        if let Some(measured) = self.measured.get_mut(next) {
            measured.sent_ms = now_ms;
        }
        Some(next)
    }

    /// The candidates: the first, the runner-up, then all others as `order` has them.
    #[must_use]
    pub fn rank(&self, order: Order) -> Order {
        let ahead = [self.first, self.runner_up];
        let mut ranked: Order = ahead.into_iter().flatten().collect();
        ranked.extend(order.into_iter().filter(|at| !ahead.contains(&Some(*at))));
        ranked
    }

    fn decide(&mut self, now_ms: u64) -> bool {
        let by_time = |except: Option<usize>| {
            let counting = (0..self.measured.len()).filter(|at| Some(*at) != except);
            let timed = counting.filter_map(|at| Some((self.time_us(at)?, at)));
            timed.min()
        };
        let Some(first) = self.first else {
            self.first = by_time(None).map(|(_, at)| at);
            return self.first.is_some();
        };
        let Some((best_us, best)) = by_time(Some(first)) else {
            return false;
        };
        if self.runner_up.is_none() {
            self.runner_up = Some(best);
        }
        if !self.is_better(best_us, first) {
            self.beaten_ms = None;
            return false;
        }
        // Another challenger goes on where the last one was.
        let since_ms = self.beaten_ms.filter(|since_ms| now_ms >= *since_ms);
        let since_ms = since_ms.unwrap_or(now_ms);
        if now_ms - since_ms < self.rules.hold_ms {
            self.beaten_ms = Some(since_ms);
            return false;
        }
        self.beaten_ms = None;
        self.runner_up = Some(first);
        self.first = Some(best);
        true
    }

    fn is_better(&self, time_us: u64, first: usize) -> bool {
        let Some(first_us) = self.time_us(first) else {
            return false;
        };
        let percent = u64::from(self.rules.margin_percent);
        let margin_us = (first_us / 100).saturating_mul(percent);
        time_us.saturating_add(margin_us.max(self.rules.margin_us)) < first_us
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const RULES: AutoRules = AutoRules {
        margin_percent: 20,
        margin_us: 1_000,
        hold_ms: 10_000,
        samples_min: 1,
        remeasure_ms: 60_000,
        measure_every_ms: 1_000,
    };

    #[test]
    fn a_better_one_takes_over_after_a_while_and_the_first_stays_runner_up() {
        let mut auto = Auto::new(RULES, 3);
        assert_eq!((auto.first(), auto.runner_up()), (None, None));
        // At, whom, how long; who is then first, and who next.
        let story = [
            (0, 0, 50_000, Some(0), None),
            // Better by less than a fifth.
            (1_000, 1, 41_000, Some(0), Some(1)),
            // Better by more, but not for long enough.
            (2_000, 2, 30_000, Some(0), Some(1)),
            (11_999, 2, 30_000, Some(0), Some(1)),
            (12_000, 2, 30_000, Some(2), Some(0)),
            // It takes more than one slow answer to lose that.
            (12_001, 2, 90_000, Some(2), Some(0)),
            (40_000, 2, 30_000, Some(2), Some(0)),
        ];
        for (now_ms, at, time_us, first, runner_up) in story {
            auto.measure(at, 0, time_us, now_ms);
            assert_eq!(
                (auto.first(), auto.runner_up()),
                (first, runner_up),
                "{now_ms}"
            );
        }
        assert_eq!(
            auto.rank([1, 0, 2].into_iter().collect()).as_slice(),
            [2, 0, 1]
        );
    }

    #[test]
    fn near_ones_do_not_change_places() {
        let mut auto = Auto::new(RULES, 2);
        auto.measure(0, 0, 2_000, 0);
        let mut changes = 0;
        for step in 1..1_000 {
            let now_ms = step * 1_000;
            changes += u32::from(auto.measure(1, 0, 1_200, now_ms));
            changes += u32::from(auto.measure(0, 0, 2_000, now_ms));
        }
        // Two fifths better, and less than a millisecond.
        assert_eq!((changes, auto.first()), (0, Some(0)));
    }

    #[test]
    fn who_was_not_measured_for_a_while_is_sent_a_request() {
        let mut auto = Auto::new(RULES, 4);
        let anybody = |_: usize| true;
        assert_eq!(
            auto.begin_measuring(5_000, anybody),
            None,
            "nobody is first"
        );
        auto.measure(1, 0, 1, 5_000);
        // When; who may be asked; who then is.
        let may: [fn(usize) -> bool; 2] = [|_| true, |at| at != 3];
        for (now_ms, may, sent) in [
            (5_000, may[0], Some(0)),
            (5_999, may[0], None),
            (6_000, may[0], Some(2)),
            (7_000, may[1], Some(0)),
            (8_000, may[0], Some(3)),
            // A clock that was set back.
            (10, may[0], Some(2)),
        ] {
            let told = auto.begin_measuring(now_ms, may);
            assert_eq!(told, sent, "at {now_ms}");
        }
        for at in [0, 2, 3] {
            auto.measure(at, 0, 1, 9_000);
        }
        assert_eq!(auto.begin_measuring(68_999, anybody), None, "all are known");
        assert_eq!(auto.begin_measuring(69_000, anybody), Some(2));
        assert!(!auto.measure(9, 0, 1, 8), "there is no such candidate");
    }

    proptest! {
        /// Whatever is measured: the first is one that counts, a change is never sooner
        /// than the rules allow, and goes only to one that is better by the margin.
        #[test]
        fn a_change_is_earned(
            samples in prop::collection::vec((0_usize..4, 1_u64..100_000, 0_u64..5_000), 1..300),
        ) {
            let mut auto = Auto::new(RULES, 4);
            let (mut now_ms, mut changed_ms) = (0, None::<u64>);
            for (position, time_us, after_ms) in samples {
                now_ms += after_ms;
                let before = auto.clone();
                let changed = auto.measure(position, time_us / 2, time_us - time_us / 2, now_ms);
                prop_assert_eq!(changed, before.first() != auto.first());
                let first = auto.first().unwrap();
                let first_us = auto.time_us(first).unwrap();
                prop_assert_ne!(auto.runner_up(), Some(first));
                if changed && let Some(last) = before.first() {
                    prop_assert_eq!(auto.runner_up(), Some(last));
                    let last_us = auto.time_us(last).unwrap();
                    prop_assert!(first_us + (last_us / 5).max(1_000) <= last_us + 100);
                    prop_assert!(changed_ms.is_none_or(|at| now_ms - at >= RULES.hold_ms));
                    let naive = (0..4).filter_map(|at| auto.time_us(at)).min();
                    prop_assert_eq!(naive, Some(first_us));
                }
                if changed {
                    changed_ms = Some(now_ms);
                }
                let order: Order = (0..4).collect();
                let mut ranked = auto.rank(order).to_vec();
                ranked.sort_unstable();
                prop_assert_eq!(ranked, vec![0, 1, 2, 3]);
            }
        }
    }
}
