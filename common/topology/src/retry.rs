//! How many requests may be on a further attempt at once.
//!
//! A request whose first attempt failed is asked again by the next way. That is what
//! keeps a fault from visitors, and also what doubles the load of whoever is left, just
//! when there is less of it. So retries are a fraction of what is live, not a count per
//! request: each request may take every way there is, but only so many at the same time
//! are not on their first.
//!
//! What must stay true:
//!
//! * A retry after an attempt that reached nobody is free. It adds no load to anybody,
//!   and an upper tier that is gone must not cost a visitor anything.
//! * However little is live, a few retries are allowed.

use crate::Ended;

/// The budget of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetryRules {
    /// Of a hundred requests that are live, how many may be on a further attempt.
    pub percent: u32,
    /// So many may be in any case; 0 counts as 1.
    pub at_least: usize,
}

impl RetryRules {
    /// How many requests may be on a further attempt while `live` are under way.
    #[must_use]
    pub fn allowed(&self, live: usize) -> usize {
        let share = (live as u128 * u128::from(self.percent)) / 100;
        let share = usize::try_from(share).unwrap_or(usize::MAX);
        share.max(self.at_least).max(1)
    }
}

/// Whether asking again after an attempt that ended so takes from the budget.
#[must_use]
pub fn takes_from_budget(ended: Ended) -> bool {
    match ended {
        Ended::NothingSent => false,
        Ended::Unreached
        | Ended::Unanswered
        | Ended::Unverified
        | Ended::Refused
        | Ended::Declined
        | Ended::Verified => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fraction_of_what_is_live_may_be_asked_again() {
        for (percent, at_least, live, expected) in [
            (20, 16, 0, 16),
            (20, 16, 80, 16),
            (20, 16, 84, 16),
            (20, 16, 85, 17),
            (20, 16, 1_000, 200),
            (0, 0, 1_000, 1),
            (0, 3, 1_000, 3),
            (100, 1, 7, 7),
            (100, 1, usize::MAX, usize::MAX),
            (u32::MAX, 1, usize::MAX, usize::MAX),
        ] {
            let rules = RetryRules { percent, at_least };
            assert_eq!(rules.allowed(live), expected, "{rules:?} {live}");
        }
    }

    #[test]
    fn what_reached_nobody_is_free() {
        for ended in Ended::ALL {
            let free = ended == Ended::NothingSent;
            assert_eq!(takes_from_budget(ended), !free, "{ended:?}");
        }
    }
}
