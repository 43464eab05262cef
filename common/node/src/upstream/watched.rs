//! One upstream, watched: its health, and whether it answers anybody.

use topology::{Failure, Health, HealthRules, Pool, State, Transition};

/// The health of one upstream, and when it last answered anybody.
#[derive(Debug)]
pub(super) struct Watched {
    pub(super) health: Health,
    pub(super) answered_ms: u64,
}

impl Watched {
    pub(super) fn new(rules: HealthRules) -> Self {
        Self {
            health: Health::new(rules),
            answered_ms: 0,
        }
    }

    pub(super) fn is_out(&self, now_ms: u64) -> bool {
        matches!(self.health.state(now_ms), State::Down { .. } | State::Trial)
    }

    /// Takes note of how an attempt went that waited for `wait_ms` at most.
    ///
    /// One that waited in vain while others were answered says more about what it asked
    /// for than about whom it asked: a single page that hangs must not take a whole
    /// upstream away from everybody else. Many of them do.
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
            Err(failure) => {
                let failure = match failure {
                    Failure::Timeout if self.answered_within(now_ms, wait_ms) => Failure::Late,
                    other => other,
                };
                self.health.on_failure_in(pool, now_ms, failure)
            }
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
            let mut seen = Watched::new(HealthRules::default());
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
    fn who_answers_too_many_too_late_is_down() {
        let rules = HealthRules::default();
        let mut seen = Watched::new(rules);
        let mut went_down = Transition::None;
        for _ in 0..rules.recent_failures_to_down {
            seen.note(Pool::ALONE, NOW_MS, WAIT_MS, Ok(()));
            assert_eq!(went_down, Transition::None);
            went_down = seen.note(Pool::ALONE, NOW_MS, WAIT_MS, Err(Failure::Timeout));
        }
        assert_eq!(went_down, Transition::WentDown);
    }
}
