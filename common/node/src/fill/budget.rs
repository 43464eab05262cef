//! Bounds on what is under way at once, and on who waits for it.
//!
//! Whoever finds no place takes something stale where that may be served, else waits
//! in a bounded queue for a bounded time, else is refused. `direct` bounds so what an
//! edge takes past its upper tiers, `origin` what a node asks of an origin.
//!
//! Invariant: a place is held by its permit and by nothing else, from before somebody
//! is asked until the answer is read, or given up.

use std::collections::HashMap;
use std::sync::Arc;

use config::Places;
use parking_lot::Mutex;
use pingora_timeout::timeout;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::upstream::millis;

/// Budgets by the name of what they are for. There are as many as the operator's
/// files have named.
#[derive(Debug, Default)]
pub(crate) struct Budgets {
    named: Mutex<HashMap<String, Arc<Budget>, ahash::RandomState>>,
}

/// What all that need the same have in common.
#[derive(Debug)]
pub(crate) struct Budget {
    bounds: Places,
    slots: Arc<Semaphore>,
    waiting: Mutex<usize>,
}

/// What becomes of a request that needs a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Turn {
    /// It goes now.
    Go,
    /// It is not that urgent: what is stored, and stale, is served instead.
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

impl Budgets {
    /// The budget of that name. After a reload that changed its bounds a new one
    /// holds, beside what is still under way by the old.
    pub(super) fn of(&self, name: &str, bounds: Places) -> Arc<Budget> {
        let mut named = self.named.lock();
        if let Some(budget) = named.get(name)
            && budget.bounds == bounds
        {
            return Arc::clone(budget);
        }
        let budget = Arc::new(Budget::new(bounds));
        named.insert(name.to_owned(), Arc::clone(&budget));
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
    fn new(bounds: Places) -> Self {
        Self {
            bounds,
            slots: Arc::new(Semaphore::new(bounds.in_flight_max)),
            waiting: Mutex::new(0),
        }
    }

    /// Takes a place within `left_ms`, and tells `held` what became of whom none was
    /// free for. None: there is none for this request.
    pub(super) async fn enter(
        &self,
        stale_may_serve: bool,
        left_ms: u64,
        held: impl Fn(&'static str),
    ) -> Option<OwnedSemaphorePermit> {
        match self.claim(stale_may_serve) {
            Claim::Taken(permit) => Some(permit),
            Claim::Waiting(waiting) => {
                held("waited");
                let permit = waiting.take_turn(self.bounds.wait_ms.min(left_ms)).await;
                if permit.is_none() {
                    held("refused");
                }
                permit
            }
            Claim::Stale => {
                held("stale");
                None
            }
            Claim::Refused => {
                held("refused");
                None
            }
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
    fn who_goes_is_decided_by_what_is_left() {
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
        Budget::new(Places {
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
