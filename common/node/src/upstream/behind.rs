//! What upper tiers say of the origins behind them.
//!
//! An upper tier may be up and answer, and yet be cut off from one origin, while another
//! reaches it. It says so under its signature, and the request takes the next way; here
//! that is remembered, so that not every request finds it out again. What must stay
//! true:
//!
//! * It is the way of one upper tier to one pool. Nothing is said about others, and
//!   nothing about the upper tier itself.
//! * Only what an upper tier fetched shows that it reaches an origin. A hit shows nothing.
//! * One that is cut off is asked last, and now and then by one request that finds out
//!   whether it still is, so that it is in use again within three seconds.

use std::collections::HashMap;

use control::NoAnswer;
use observe::{Event, Outcome};
use parking_lot::Mutex;
use smallvec::SmallVec;
use topology::{Failure, HealthRules, Pool, State, Transition};

use super::{Target, Upstreams, Watched};
use crate::state::Node;

/// Pools known of one upper tier. Files have fewer; where reloads have renamed more, all
/// is forgotten, and found out again.
const POOLS_MAX: usize = 4_096;

/// The ways from one upper tier to the pools behind it.
#[derive(Debug)]
pub(super) struct Behind {
    rules: HealthRules,
    pools: Mutex<HashMap<String, Watched, ahash::RandomState>>,
}

impl Behind {
    /// Reaching everything, as far as anybody knows.
    pub(super) fn new(rules: HealthRules) -> Self {
        Self {
            rules: HealthRules {
                // Its store is warm: nothing comes back to it share by share.
                warm_ms: 0,
                ..rules
            },
            pools: Mutex::default(),
        }
    }

    fn state(&self, pool: &str, now_ms: u64) -> State {
        let pools = self.pools.lock();
        let seen = pools.get(pool);
        seen.map_or(State::Up, |seen| seen.health.state(now_ms))
    }

    fn begin_trial(&self, pool: &str, now_ms: u64) -> bool {
        let mut pools = self.pools.lock();
        let seen = pools.get_mut(pool);
        seen.is_some_and(|seen| seen.health.begin_trial(now_ms))
    }

    fn note(
        &self,
        pool: &str,
        now_ms: u64,
        wait_ms: u64,
        result: Result<(), Failure>,
    ) -> Transition {
        let mut pools = self.pools.lock();
        if let Some(seen) = pools.get_mut(pool) {
            return seen.note(Pool::ALONE, now_ms, wait_ms, result);
        }
        if pools.len() >= POOLS_MAX {
            pools.clear();
        }
        let seen = pools.entry(pool.to_owned());
        let seen = seen.or_insert_with(|| Watched::origin(self.rules));
        seen.note(Pool::ALONE, now_ms, wait_ms, result)
    }
}

/// What an answer of an upper tier shows of its way to the origin.
fn shows(outcome: &str) -> Option<Result<(), Failure>> {
    match NoAnswer::of(outcome) {
        Some(NoAnswer::Unreached) => return Some(Err(Failure::Connect)),
        // It may be about this request alone: see `Watched::note`.
        Some(NoAnswer::Unanswered) => return Some(Err(Failure::Timeout)),
        None => {}
    }
    let fetched = [
        Outcome::Miss,
        Outcome::Revalidated,
        Outcome::Collapsed,
        Outcome::Pass,
        Outcome::Bypass,
    ];
    let fetched = fetched.iter().any(|fetched| fetched.as_str() == outcome);
    fetched.then_some(Ok(()))
}

impl Upstreams {
    /// How every upper tier gets to a pool, by position.
    pub(crate) fn reaches(&self, pool: &str, now_ms: u64) -> SmallVec<[State; 8]> {
        self.uppers
            .iter()
            .map(|upper| upper.behind.state(pool, now_ms))
            .collect()
    }

    /// Claims the trial of the way from an upper tier to a pool; true for one caller at
    /// a time.
    pub(crate) fn begin_trial_of_reach(&self, upper: usize, pool: &str, now_ms: u64) -> bool {
        self.uppers
            .get(upper)
            .is_some_and(|upper| upper.behind.begin_trial(pool, now_ms))
    }
}

impl Target {
    /// Whether it said lately that it is cut off from a pool.
    pub(crate) fn is_cut_off(&self, node: &Node, pool: &str, now_ms: u64) -> bool {
        let Self::Upper(at) = self else {
            return false;
        };
        let upper = node.upstreams.uppers.get(*at);
        let state = upper.map(|upper| upper.behind.state(pool, now_ms));
        matches!(state, Some(State::Down { .. }))
    }

    /// Takes note of what a verified answer shows of the way from there to a pool.
    pub(crate) fn learn(&self, node: &Node, now_ms: u64, pool: &str, outcome: &str) {
        let Self::Upper(at) = self else {
            return;
        };
        let (Some(upper), Some(result)) = (node.upstreams.uppers.get(*at), shows(outcome)) else {
            return;
        };
        let peer = &upper.config.name;
        if result.is_err() {
            node.observer.metrics().upper_tier_unreached(peer);
        }
        let wait_ms = self.head_wait_ms(node);
        let transition = upper.behind.note(pool, now_ms, wait_ms, result);
        let (peer, pool) = (peer.clone(), pool.to_owned());
        match transition {
            Transition::None => {}
            Transition::WentDown => {
                let event = Event::UpperTierCutOff { peer, pool };
                node.observer.event(event, now_ms);
            }
            Transition::CameUp => {
                let event = Event::UpperTierReaches { peer, pool };
                node.observer.event(event, now_ms);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW_MS: u64 = 1_700_000_000_000;
    const WAIT_MS: u64 = 20_000;

    #[test]
    fn an_outcome_shows_whether_the_origin_was_reached() {
        for (outcome, shown) in [
            ("unreached", Some(Err(Failure::Connect))),
            ("unanswered", Some(Err(Failure::Timeout))),
            ("miss", Some(Ok(()))),
            ("revalidated", Some(Ok(()))),
            ("pass", Some(Ok(()))),
            ("hit", None),
            ("stale_hit", None),
            ("error", None),
            ("refused", None),
            ("what-a-newer-one-says", None),
        ] {
            assert_eq!(shows(outcome), shown, "{outcome}");
        }
    }

    #[test]
    fn one_pool_says_nothing_of_another_and_comes_back_by_one_trial() {
        let rules = HealthRules::default();
        let behind = Behind::new(rules);
        let note = |pool, now_ms, result| behind.note(pool, now_ms, WAIT_MS, result);
        assert_eq!(note("shop", NOW_MS, Ok(())), Transition::None);
        let cut_off = note("shop", NOW_MS, Err(Failure::Connect));
        assert_eq!(cut_off, Transition::WentDown);
        assert_eq!(behind.state("blog", NOW_MS), State::Up);
        let later_ms = NOW_MS + rules.down_ms;
        assert_eq!(behind.state("shop", later_ms), State::Trial);
        assert!(behind.begin_trial("shop", later_ms));
        assert!(!behind.begin_trial("shop", later_ms));
        assert_eq!(note("shop", later_ms, Ok(())), Transition::CameUp);
        assert_eq!(behind.state("shop", later_ms), State::Up);
    }

    #[test]
    fn a_page_that_hangs_cuts_nobody_off_while_others_are_fetched() {
        let behind = Behind::new(HealthRules::default());
        let note = |now_ms, result| behind.note("shop", now_ms, WAIT_MS, result);
        note(NOW_MS, Ok(()));
        for _ in 0..5 {
            note(NOW_MS + WAIT_MS, Err(Failure::Timeout));
        }
        assert_eq!(behind.state("shop", NOW_MS + WAIT_MS), State::Up);
        for _ in 0..3 {
            note(NOW_MS + WAIT_MS + 1, Err(Failure::Timeout));
        }
        let state = behind.state("shop", NOW_MS + WAIT_MS + 1);
        assert!(matches!(state, State::Down { .. }));
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let behind = Behind::new(HealthRules::default());
        for pool in 0..=POOLS_MAX {
            behind.note(&pool.to_string(), NOW_MS, WAIT_MS, Ok(()));
        }
        assert!(behind.pools.lock().len() <= POOLS_MAX);
    }
}
