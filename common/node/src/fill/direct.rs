//! How many fetches go to an origin past the upper tiers at once.
//!
//! When no upper tier gives a verified answer, an edge may ask the origin itself. A
//! fault between the tiers hits every miss of every edge at the same moment, and
//! would hand all of them to an origin that is used to a few upper tiers. So each
//! site has a budget of them at each edge. What finds it spent takes something stale
//! where that may be served, else waits in a bounded queue, else is refused.
//!
//! Invariant: a place in the budget is held by a [`Slot`] and by nothing else, from
//! before the origin is asked until its answer is read, or given up.

use std::collections::HashMap;
use std::sync::Arc;

use config::{Direct, Fallback};
use observe::DirectInFlight;
use parking_lot::Mutex;
use pingora_timeout::timeout;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::state::Node;
use crate::upstream::millis;

/// The budgets of a node's sites, by name. There are as many as the operator's files
/// have named.
#[derive(Debug, Default)]
pub(crate) struct Directs {
    sites: Mutex<HashMap<String, Arc<Budget>, ahash::RandomState>>,
}

/// A place among the direct fetches of a site; given back when dropped.
#[derive(Debug)]
pub(crate) struct Slot {
    _permit: OwnedSemaphorePermit,
    _visible: DirectInFlight,
}

/// What one site's direct fetches have in common.
#[derive(Debug)]
struct Budget {
    bounds: Direct,
    slots: Arc<Semaphore>,
    waiting: Mutex<usize>,
}

/// What becomes of a request that would go past the upper tiers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Turn {
    /// It goes now.
    Go,
    /// What is stored, and stale, is served instead.
    Stale,
    /// It waits for its turn.
    Wait,
    /// There is no room for it.
    Refuse,
}

/// Decides that, from whether a place is free, whether something stale may be served
/// instead, and how many wait already.
fn turn(is_free: bool, stale_may_serve: bool, waiting: usize, queue_max: usize) -> Turn {
    if is_free {
        Turn::Go
    } else if stale_may_serve {
        Turn::Stale
    } else if waiting < queue_max {
        Turn::Wait
    } else {
        Turn::Refuse
    }
}

/// Whether going to its origin takes this node past upper tiers that the site has.
pub(crate) fn is_direct(node: &Node, site: &config::Site) -> bool {
    node.is_edge()
        && site.topology == config::Topology::Hash
        && !node.upstreams.candidates.is_empty()
}

/// Takes a place among the direct fetches of a site, within `left_ms`. None: there is
/// none for this request, which is to be refused or served from what is stale.
pub(crate) async fn enter(
    node: &Node,
    site: &config::Site,
    stale_may_serve: bool,
    left_ms: u64,
) -> Option<Slot> {
    let budget = node.directs.of(site);
    let stale_may_serve = stale_may_serve && site.fallback.contains(&Fallback::Stale);
    let held = |then| node.observer.metrics().direct_held(&site.name, then);
    let permit = match budget.claim(stale_may_serve) {
        Claim::Taken(permit) => permit,
        Claim::Waiting(waiting) => {
            held("waited");
            let wait_ms = budget.bounds.wait_ms.min(left_ms);
            let Some(permit) = waiting.take_turn(wait_ms).await else {
                held("refused");
                return None;
            };
            permit
        }
        Claim::Stale => {
            held("stale");
            return None;
        }
        Claim::Refused => {
            held("refused");
            return None;
        }
    };
    node.observer.metrics().direct();
    Some(Slot {
        _permit: permit,
        _visible: node.observer.metrics().direct_begins(&site.name),
    })
}

impl Directs {
    /// The budget of a site. After a reload that changed its bounds a new one holds,
    /// beside what is still under way by the old.
    fn of(&self, site: &config::Site) -> Arc<Budget> {
        let mut sites = self.sites.lock();
        if let Some(budget) = sites.get(&site.name)
            && budget.bounds == site.direct
        {
            return Arc::clone(budget);
        }
        let budget = Arc::new(Budget::new(site.direct));
        sites.insert(site.name.clone(), Arc::clone(&budget));
        budget
    }
}

/// What a request got of a budget.
#[derive(Debug)]
enum Claim<'a> {
    Taken(OwnedSemaphorePermit),
    Waiting(Waiting<'a>),
    Stale,
    Refused,
}

/// A place in the queue; given back when dropped.
#[derive(Debug)]
struct Waiting<'a>(&'a Budget);

impl Budget {
    fn new(bounds: Direct) -> Self {
        Self {
            bounds,
            slots: Arc::new(Semaphore::new(bounds.in_flight_max)),
            waiting: Mutex::new(0),
        }
    }

    fn claim(&self, stale_may_serve: bool) -> Claim<'_> {
        // Whoever waits is served first, so a place that is free is nobody else's.
        let free = Arc::clone(&self.slots).try_acquire_owned().ok();
        let mut waiting = self.waiting.lock();
        let queue_max = self.bounds.queue_max;
        match (
            turn(free.is_some(), stale_may_serve, *waiting, queue_max),
            free,
        ) {
            (Turn::Go, Some(permit)) => Claim::Taken(permit),
            (Turn::Wait, _) => {
                *waiting += 1;
                Claim::Waiting(Waiting(self))
            }
            (Turn::Stale, _) => Claim::Stale,
            (Turn::Go | Turn::Refuse, _) => Claim::Refused,
        }
    }
}

impl Waiting<'_> {
    /// Waits for a place, first come first served, for so long at most.
    async fn take_turn(self, wait_ms: u64) -> Option<OwnedSemaphorePermit> {
        let place = Arc::clone(&self.0.slots).acquire_owned();
        // The semaphore is never closed, so an error is no case of its own.
        timeout(millis(wait_ms), place).await.ok()?.ok()
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        *self.0.waiting.lock() -= 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_goes_past_the_upper_tiers_is_decided_by_what_is_left() {
        for (is_free, stale_may_serve, waiting, queue_max, expected) in [
            (true, false, 0, 0, Turn::Go),
            (true, true, 0, 2, Turn::Go),
            (false, true, 0, 2, Turn::Stale),
            (false, true, 2, 2, Turn::Stale),
            (false, false, 0, 2, Turn::Wait),
            (false, false, 1, 2, Turn::Wait),
            (false, false, 2, 2, Turn::Refuse),
            (false, false, 0, 0, Turn::Refuse),
        ] {
            assert_eq!(
                turn(is_free, stale_may_serve, waiting, queue_max),
                expected,
                "{is_free} {stale_may_serve} {waiting} of {queue_max}"
            );
        }
    }

    fn budget(in_flight_max: usize, queue_max: usize) -> Budget {
        Budget::new(Direct {
            in_flight_max,
            queue_max,
            wait_ms: 60_000,
        })
    }

    #[tokio::test]
    async fn a_place_that_is_given_back_goes_to_who_waited_first() {
        let budget = budget(1, 2);
        let Claim::Taken(first) = budget.claim(false) else {
            panic!("a place is free");
        };
        let (Claim::Waiting(second), Claim::Waiting(third)) =
            (budget.claim(false), budget.claim(false))
        else {
            panic!("there is room to wait");
        };
        assert!(matches!(budget.claim(false), Claim::Refused));
        assert!(matches!(budget.claim(true), Claim::Stale));
        let (second, third) = (second.take_turn(60_000), third.take_turn(60_000));
        tokio::pin!(second, third);
        // Each is polled once, in this order, and so stands in the queue.
        assert!(once(second.as_mut()).await.is_none());
        assert!(once(third.as_mut()).await.is_none());
        drop(first);
        let held = second.await;
        assert!(held.is_some());
        assert!(once(third.as_mut()).await.is_none());
        drop(held);
        assert!(third.await.is_some());
        assert_eq!(*budget.waiting.lock(), 0);
    }

    /// What a future says when it is polled once.
    async fn once<F: Future>(mut future: std::pin::Pin<&mut F>) -> Option<F::Output> {
        std::future::poll_fn(|context| {
            std::task::Poll::Ready(match future.as_mut().poll(context) {
                std::task::Poll::Ready(output) => Some(output),
                std::task::Poll::Pending => None,
            })
        })
        .await
    }

    #[tokio::test]
    async fn a_wait_ends_and_leaves_its_place_in_the_queue() {
        let budget = budget(1, 1);
        let held = budget.claim(false);
        let Claim::Waiting(waiting) = budget.claim(false) else {
            panic!("there is room to wait");
        };
        assert!(waiting.take_turn(1).await.is_none());
        assert!(matches!(budget.claim(false), Claim::Waiting(_)));
        drop(held);
        assert!(matches!(budget.claim(false), Claim::Taken(_)));
    }
}
