//! Retries within a budget: who is asked again, and how many at once.
//!
//! The fraction is `topology`'s decision; here it is waited for. A retry that finds no
//! room waits in a bounded queue while there is time, since a visitor who waits is
//! better than one with an error, and what waits adds no load to anybody. One that may
//! yield to something stale does not wait.
//!
//! Invariant: who is live, retries or waits is counted by a guard and by nothing else.

use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::Notify;
use topology::RetryRules;

use crate::state::Node;
use crate::upstream::millis;

/// Retries that wait for their turn at one node. Each is a request of somebody who
/// waits anyway; beyond it they are given up.
const WAITING_MAX: usize = 4_096;

/// The budget of a node.
#[derive(Debug)]
pub(crate) struct Retries {
    rules: RetryRules,
    counts: Mutex<Counts>,
    /// Wakes who waits longest: a retry is over.
    over: Notify,
}

#[derive(Debug, Default)]
struct Counts {
    live: usize,
    retrying: usize,
    waiting: usize,
}

/// What becomes of a request that is not asked again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Instead {
    /// Something stale stands in, or nobody waits: so this does not wait either.
    Stale,
    /// The origin itself is asked.
    Direct,
    /// Whoever asked gets an error.
    Error,
}

impl Instead {
    /// Whether it `yields`, and whether the origin may be asked later on its way.
    pub(crate) fn of(yields: bool, origin_follows: bool) -> Self {
        match (yields, origin_follows) {
            (true, _) => Self::Stale,
            (false, true) => Self::Direct,
            (false, false) => Self::Error,
        }
    }

    /// The word of the metric.
    fn as_str(self) -> &'static str {
        match self {
            Self::Stale => "stale",
            Self::Direct => "direct",
            Self::Error => "refused",
        }
    }
}

/// A request that is live; over when dropped.
#[derive(Debug)]
pub(crate) struct Live(Arc<Retries>);

/// A request on a further attempt; over when dropped.
#[derive(Debug)]
pub(crate) struct Retry(Arc<Retries>);

/// A place in the queue; given back when dropped.
struct Waiting<'a>(&'a Retries);

/// Takes a place for a further attempt, within `left_ms`. None: it is not made.
pub(crate) async fn enter(node: &Node, instead: Instead, left_ms: u64) -> Option<Retry> {
    let metrics = node.observer.metrics();
    let held = |then| metrics.retry_held(then);
    let retry = Box::pin(node.retries.enter(instead, left_ms, held)).await?;
    metrics.retry();
    Some(retry)
}

/// Takes a place for a further attempt that is not worth waiting for.
pub(crate) fn enter_at_once(node: &Node, instead: Instead) -> Option<Retry> {
    let metrics = node.observer.metrics();
    let retry = node.retries.try_enter();
    match &retry {
        Some(_) => metrics.retry(),
        None => metrics.retry_held(instead.as_str()),
    }
    retry
}

impl Retries {
    pub(crate) fn new(rules: RetryRules) -> Arc<Self> {
        Arc::new(Self {
            rules,
            counts: Mutex::default(),
            over: Notify::new(),
        })
    }

    /// A request begins.
    pub(crate) fn begin(self: &Arc<Self>) -> Live {
        self.counts.lock().live += 1;
        Live(Arc::clone(self))
    }

    /// Takes a place for a further attempt, if one is free and nobody waits for it.
    pub(crate) fn try_enter(self: &Arc<Self>) -> Option<Retry> {
        self.take(0)
    }

    /// Takes a place for a further attempt within `left_ms`, and tells `held` what
    /// became of whom none was free for. None: it is not asked again.
    pub(crate) async fn enter(
        self: &Arc<Self>,
        instead: Instead,
        left_ms: u64,
        held: impl Fn(&'static str),
    ) -> Option<Retry> {
        if let Some(retry) = self.try_enter() {
            return Some(retry);
        }
        if instead == Instead::Stale {
            held(instead.as_str());
            return None;
        }
        let waiting = self.wait();
        if waiting.is_none() {
            held(instead.as_str());
        }
        let _waiting = waiting?;
        held("waited");
        let turn = async {
            loop {
                let over = self.over.notified();
                tokio::pin!(over);
                over.as_mut().enable();
                // Those who wait are woken in order, and each is one of them itself.
                if let Some(retry) = self.take(usize::MAX) {
                    return retry;
                }
                over.await;
            }
        };
        let retry = pingora_timeout::timeout(millis(left_ms), turn).await.ok();
        if retry.is_none() {
            held(instead.as_str());
        }
        retry
    }

    /// A place, if one is free and no more than `waiting_max` wait for one.
    fn take(self: &Arc<Self>, waiting_max: usize) -> Option<Retry> {
        let mut counts = self.counts.lock();
        let is_free = counts.retrying < self.rules.allowed(counts.live);
        if !is_free || counts.waiting > waiting_max {
            return None;
        }
        counts.retrying += 1;
        drop(counts);
        Some(Retry(Arc::clone(self)))
    }

    fn wait(&self) -> Option<Waiting<'_>> {
        let mut counts = self.counts.lock();
        if counts.waiting >= WAITING_MAX {
            return None;
        }
        counts.waiting += 1;
        drop(counts);
        Some(Waiting(self))
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        self.0.counts.lock().live -= 1;
    }
}

impl Drop for Retry {
    fn drop(&mut self) {
        self.0.counts.lock().retrying -= 1;
        self.0.over.notify_one();
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.counts.lock().waiting -= 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn retries(percent: u32, at_least: usize) -> Arc<Retries> {
        Retries::new(RetryRules { percent, at_least })
    }

    #[tokio::test]
    async fn a_retry_takes_its_turn_when_another_is_over() {
        let retries = retries(20, 1);
        let first = retries.try_enter().unwrap();
        assert!(retries.try_enter().is_none());
        let waiting = retries.enter(Instead::Error, 60_000, |_| {});
        let over = async {
            tokio::task::yield_now().await;
            assert_eq!(retries.counts.lock().waiting, 1);
            drop(first);
        };
        let (second, ()) = tokio::join!(waiting, over);
        assert!(second.is_some());
        assert_eq!(retries.counts.lock().waiting, 0);
        drop(second);
        assert!(retries.try_enter().is_some());
    }

    #[tokio::test]
    async fn what_is_live_makes_room() {
        let retries = retries(20, 1);
        let live: Vec<_> = (0..10).map(|_| retries.begin()).collect();
        let held: Vec<_> = std::iter::from_fn(|| retries.try_enter()).collect();
        assert_eq!(held.len(), 2);
        drop((live, held));
        let held: Vec<_> = std::iter::from_fn(|| retries.try_enter()).collect();
        assert_eq!(held.len(), 1);
    }

    #[tokio::test]
    async fn who_yields_does_not_wait_and_who_waits_does_not_wait_for_ever() {
        let retries = retries(20, 1);
        let _held = retries.try_enter().unwrap();
        let told = Mutex::new(Vec::new());
        let tell = |then| told.lock().push(then);
        assert!(retries.enter(Instead::Stale, 60_000, tell).await.is_none());
        assert!(retries.enter(Instead::Error, 1, tell).await.is_none());
        assert!(retries.enter(Instead::Direct, 1, tell).await.is_none());
        let words = ["stale", "waited", "refused", "waited", "direct"];
        assert_eq!(*told.lock(), words);
        assert_eq!(retries.counts.lock().waiting, 0);
    }
}
