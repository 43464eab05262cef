//! The time that a request has for all its ways together, and for the next of them.
//!
//! Invariant: where the origin itself is the last way, no upper tier is waited for, and
//! no turn to ask one, so long that no time is left for it
//! (`Timeouts::kept_for_origin_ms`).

use crate::state::Node;
use crate::upstream::Target;

/// The time for one request's ways.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Patience {
    budget_ms: u64,
    kept_for_origin_ms: u64,
}

impl Patience {
    /// That of a request which `hop` tiers were asked before.
    pub(crate) fn of(node: &Node, hop: u8) -> Self {
        let timeouts = &node.config.timeouts;
        Self {
            budget_ms: timeouts.budget_ms(hop),
            kept_for_origin_ms: timeouts.kept_for_origin_ms(hop),
        }
    }

    /// All of it.
    pub(crate) fn budget_ms(self) -> u64 {
        self.budget_ms
    }

    /// What is left once `spent_ms` went by. None: nothing.
    pub(crate) fn left_ms(self, spent_ms: u64) -> Option<u64> {
        Self::positive(self.budget_ms, spent_ms)
    }

    /// What of that `target` may have, when `after` may still be asked. None: nothing,
    /// and the next one's turn has come. Whoever `is_first` is asked in any case: who has
    /// little time left does not go past the upper tiers for that.
    pub(crate) fn left_for_ms(
        self,
        target: &Target,
        after: &[Target],
        is_first: bool,
        spent_ms: u64,
    ) -> Option<u64> {
        let origin_follows = !target.is_origin() && ends_at_origin(after);
        let kept_ms = match origin_follows {
            true => self.kept_for_origin_ms,
            false => 0,
        };
        let left_ms = Self::positive(self.budget_ms.saturating_sub(kept_ms), spent_ms);
        left_ms.or_else(|| self.left_ms(spent_ms).filter(|_| is_first))
    }

    fn positive(budget_ms: u64, spent_ms: u64) -> Option<u64> {
        budget_ms.checked_sub(spent_ms).filter(|left| *left > 0)
    }
}

/// Whether the origin itself is the last of these ways.
pub(crate) fn ends_at_origin(ways: &[Target]) -> bool {
    ways.last().is_some_and(Target::is_origin)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use config::{HostPort, OriginPool, Places};

    use super::*;

    fn origin() -> Target {
        Target::Origin {
            pool: Arc::new(OriginPool {
                name: "shop".to_owned(),
                servers: vec![HostPort {
                    host: "192.0.2.1".to_owned(),
                    port: 80,
                }],
                host_header: None,
                tls: None,
                places: Places::pool(),
            }),
            server: 0,
            tls: None,
        }
    }

    #[test]
    fn time_runs_out_at_its_end() {
        for (budget_ms, spent_ms, left) in [
            (30, 0, Some(30)),
            (30, 29, Some(1)),
            (30, 30, None),
            (30, 31, None),
            (0, 0, None),
        ] {
            let patience = Patience {
                budget_ms,
                kept_for_origin_ms: 0,
            };
            assert_eq!(patience.left_ms(spent_ms), left);
        }
    }

    #[test]
    fn upper_tiers_leave_time_for_the_origin_that_may_be_asked_after_them() {
        let patience = Patience {
            budget_ms: 30,
            kept_for_origin_ms: 4,
        };
        let (upper, other) = (Target::Upper(0), Target::Upper(1));
        let then_origin = [other.clone(), origin()];
        // Whom, who is left after it; the last moment at which there is time, and the
        // time then.
        for (target, after, last_ms) in [
            (&upper, &[][..], 29),
            (&upper, std::slice::from_ref(&other), 29),
            (&upper, &then_origin, 25),
            (&upper, &[origin(), origin()], 25),
            (&origin(), &[origin()], 29),
            (&origin(), &[], 29),
        ] {
            let left_ms =
                |is_first, spent_ms| patience.left_for_ms(target, after, is_first, spent_ms);
            for is_first in [false, true] {
                let told = format!("{target:?} {after:?} first {is_first}");
                assert_eq!(left_ms(is_first, 0), Some(last_ms + 1), "{told}");
                assert_eq!(left_ms(is_first, last_ms), Some(1), "{told}");
                assert_eq!(left_ms(is_first, 30), None, "{told}");
            }
            assert_eq!(left_ms(false, last_ms + 1), None, "{target:?} {after:?}");
            let all = patience.left_ms(last_ms + 1);
            assert_eq!(left_ms(true, last_ms + 1), all, "{target:?} {after:?}");
        }
    }
}
