//! How many lines a second one reason may write.
//!
//! A fault that hits every request must not become a flood of equal lines that
//! hides the others. The first few of each second are logged; the rest are
//! counted, and the next line of that reason says how many there were.

use std::collections::HashMap;

/// Lines a second for one event and reason. Enough to see several peers at once.
pub(crate) const EVENTS_PER_SECOND_MAX: u32 = 5;

/// The limit's state. Its keys are words of the code, so the map is bounded.
#[derive(Debug, Default)]
pub(crate) struct Limiter {
    windows: HashMap<(&'static str, &'static str), Window>,
}

#[derive(Debug, Default)]
struct Window {
    second: u64,
    logged: u32,
    suppressed: u64,
}

impl Limiter {
    /// Whether an event of this key may be logged at `now_ms` (Unix ms), and how
    /// many were suppressed since the last one that was; `None` suppresses it.
    pub(crate) fn admit(&mut self, key: (&'static str, &'static str), now_ms: u64) -> Option<u64> {
        let window = self.windows.entry(key).or_default();
        // Any other second opens a new window, an earlier one included: a clock
        // that is set back must not silence a reason until it has caught up.
        let second = now_ms / 1000;
        if window.second != second {
            window.second = second;
            window.logged = 0;
        }
        if window.logged >= EVENTS_PER_SECOND_MAX {
            window.suppressed += 1;
            return None;
        }
        window.logged += 1;
        Some(std::mem::take(&mut window.suppressed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: (&str, &str) = ("control_rejected", "expired");

    #[test]
    fn the_first_few_of_a_second_pass_and_the_next_second_tells_of_the_rest() {
        let mut limiter = Limiter::default();
        for _ in 0..EVENTS_PER_SECOND_MAX {
            assert_eq!(limiter.admit(KEY, 10_000), Some(0));
        }
        assert_eq!(limiter.admit(KEY, 10_000), None);
        assert_eq!(limiter.admit(KEY, 10_999), None);
        assert_eq!(limiter.admit(KEY, 11_000), Some(2));
        assert_eq!(limiter.admit(KEY, 11_001), Some(0));
    }

    #[test]
    fn reasons_do_not_silence_each_other() {
        let mut limiter = Limiter::default();
        while limiter.admit(KEY, 0).is_some() {}
        assert_eq!(limiter.admit(("control_rejected", "missing"), 0), Some(0));
    }

    #[test]
    fn a_clock_set_back_silences_nothing() {
        let mut limiter = Limiter::default();
        while limiter.admit(KEY, 60_000).is_some() {}
        assert_eq!(limiter.admit(KEY, 5_000), Some(1));
    }
}
