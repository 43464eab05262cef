//! One upstream, watched: its health, and whether it answers anybody.

use topology::{Failure, Health, HealthRules, Pool, State, Transition};

/// The health of one upstream, and when it last answered anybody.
#[derive(Debug)]
pub(super) struct Watched {
    pub(super) health: Health,
    pub(super) answered_ms: u64,
    /// Whether answers that come too late while others come say something about it.
    lateness_counts: bool,
}

impl Watched {
    /// An origin, or what leads to one: what is late there is a page.
    pub(super) fn origin(rules: HealthRules) -> Self {
        Self {
            health: Health::new(rules),
            answered_ms: 0,
            lateness_counts: false,
        }
    }

    /// An upper tier. About a page that hangs it has said so, signed, before it is late
    /// itself.
    pub(super) fn upper_tier(rules: HealthRules) -> Self {
        Self {
            lateness_counts: true,
            ..Self::origin(rules)
        }
    }

    pub(super) fn is_out(&self, now_ms: u64) -> bool {
        matches!(self.health.state(now_ms), State::Down { .. } | State::Trial)
    }

    /// Takes note of how an attempt went that waited for `wait_ms` at most.
    ///
    /// One that waited in vain while others were answered says more about what it asked
    /// for than about whom it asked: a single page that hangs must not take a whole
    /// upstream away from everybody else. Of an upper tier it is remembered, unless it was
    /// asked before that came up.
    pub(super) fn note(
        &mut self,
        pool: Pool,
        now_ms: u64,
        wait_ms: u64,
        result: Result<(), Failure>,
    ) -> Transition {
        match result {
            Ok(()) => {
                self.answered_ms = now_ms;
                self.health.on_success(now_ms)
            }
            Err(Failure::Timeout) if self.answered_within(now_ms, wait_ms) => {
                let asked_ms = now_ms.saturating_sub(wait_ms);
                if !self.lateness_counts || !self.health.was_up_at(asked_ms) {
                    return Transition::None;
                }
                self.health.on_failure_in(pool, now_ms, Failure::Late)
            }
            Err(failure) => self.health.on_failure_in(pool, now_ms, failure),
        }
    }

    fn answered_within(&self, now_ms: u64, wait_ms: u64) -> bool {
        (now_ms.saturating_sub(wait_ms)..=now_ms).contains(&self.answered_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW_MS: u64 = 1_700_000_000_000;
    const WAIT_MS: u64 = 20_000;

    #[test]
    fn who_answers_others_is_not_down_for_what_one_page_takes() {
        let late = Err(Failure::Timeout);
        for (name, answered_ms, failure, is_down) in [
            ("never answered", 0, late, true),
            ("answered long before", NOW_MS - WAIT_MS - 1, late, true),
            ("answered since", NOW_MS - WAIT_MS, late, false),
            ("answered now", NOW_MS, late, false),
            ("a clock set back", NOW_MS + 1, late, true),
            ("refuses connections", NOW_MS, Err(Failure::Connect), true),
            ("breaks off", NOW_MS, Err(Failure::Broken), true),
        ] {
            let mut seen = Watched::upper_tier(HealthRules::default());
            if answered_ms > 0 {
                seen.note(Pool::ALONE, answered_ms, WAIT_MS, Ok(()));
            }
            for _ in 0..3 {
                seen.note(Pool::ALONE, NOW_MS, WAIT_MS, failure);
            }
            let state = seen.health.state(NOW_MS);
            assert_eq!(matches!(state, State::Down { .. }), is_down, "{name}");
        }
    }

    #[test]
    fn an_upper_tier_that_answers_too_many_too_late_is_down_and_no_origin_is() {
        let rules = HealthRules::default();
        for (mut seen, goes_down) in [
            (Watched::upper_tier(rules), true),
            (Watched::origin(rules), false),
        ] {
            let mut went_down = Transition::None;
            for _ in 0..rules.recent_failures_to_down {
                seen.note(Pool::ALONE, NOW_MS, WAIT_MS, Ok(()));
                assert_eq!(went_down, Transition::None);
                went_down = seen.note(Pool::ALONE, NOW_MS, WAIT_MS, Err(Failure::Timeout));
            }
            assert_eq!(went_down == Transition::WentDown, goes_down, "{seen:?}");
        }
    }

    #[test]
    fn who_was_asked_before_it_came_up_is_no_reason_to_put_it_down_again() {
        let rules = HealthRules::default();
        let late = Err(Failure::Timeout);
        // How long after it came up they are late.
        for (after_ms, goes_down) in [(0, false), (WAIT_MS - 1, false), (WAIT_MS, true)] {
            let mut seen = Watched::upper_tier(rules);
            seen.note(Pool::ALONE, NOW_MS, WAIT_MS, Err(Failure::Connect));
            let mut trying = seen.health.clone();
            trying.begin_trial(NOW_MS + rules.down_ms);
            seen.answered_ms = NOW_MS;
            seen.note(Pool::ALONE, NOW_MS, WAIT_MS, late);
            assert!(seen.is_out(NOW_MS));
            seen.health = trying.clone();
            seen.note(Pool::ALONE, NOW_MS + rules.down_ms, WAIT_MS, late);
            assert_eq!(seen.health, trying, "nor does it end a trial");

            seen.note(Pool::ALONE, NOW_MS, WAIT_MS, Ok(()));
            let late_ms = NOW_MS + after_ms;
            for _ in 0..rules.recent {
                seen.note(Pool::ALONE, late_ms, WAIT_MS, late);
            }
            let is_down = matches!(seen.health.state(late_ms), State::Down { .. });
            assert_eq!(is_down, goes_down, "{after_ms} ms");
        }
    }
}
