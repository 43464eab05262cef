//! The end of a node: it lets nobody new in, and ends with the last request.
//!
//! Who waits for nothing is let go after `drain_idle_ms`, and not at once: a request may
//! be on its way on a connection that looks idle from here, and who has just connected
//! has one. What is not over after `drain_ms`, or when somebody tells the node again to
//! end, is named in the log and cut.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use observe::{Event, InFlightRow, Level};
use tokio::sync::watch;

use crate::start::Running;
use crate::state::Node;
use crate::upstream::millis;

/// How long the observer may take to flush at the end.
const FLUSH: Duration = Duration::from_secs(3);

/// How long what was cut may take to notice.
const CUT: Duration = Duration::from_secs(1);

/// Requests that are named where a drain has to cut them; the rest is counted.
const CUT_NAMED_MAX: usize = 10;

/// Whether a node drains, and for whom.
#[derive(Debug, Default)]
pub(crate) struct Drain {
    begun: watch::Sender<bool>,
    handed_over: AtomicBool,
}

impl Drain {
    /// Turns true when the drain begins.
    pub(crate) fn watch(&self) -> watch::Receiver<bool> {
        self.begun.subscribe()
    }

    /// Begins it. True for the first who does.
    pub(crate) fn begin(&self) -> bool {
        !self.begun.send_replace(true)
    }

    /// Begins it because another process accepts on the same sockets from now on.
    pub(crate) fn hand_over(&self) {
        self.handed_over.store(true, Ordering::Release);
        self.begun.send_replace(true);
    }

    /// Whether another process accepts what is still to come.
    pub(crate) fn is_handed_over(&self) -> bool {
        self.handed_over.load(Ordering::Acquire)
    }
}

/// Returns when a connection that waits for nothing may go: some time after the drain
/// began. The receiver is left as it was, for whoever looks for the change itself.
pub(crate) async fn time_to_go(node: &Node, draining: &watch::Receiver<bool>) {
    let mut draining = draining.clone();
    // Whoever could begin the drain is gone: nothing is to be waited for any more.
    let _ = draining.wait_for(|draining| *draining).await;
    tokio::time::sleep(millis(node.config.timeouts.drain_idle_ms)).await;
}

impl Running {
    /// Stops accepting; what is under way goes on.
    pub fn begin_drain(&self) {
        if self.drain.begin() {
            let event = Event::Stopping {
                why: "asked to drain".to_owned(),
            };
            self.node.observer.event(event, self.node.now_ms());
        }
    }

    /// Returns when a drain has begun, by [`Running::begin_drain`] or because the
    /// listening sockets were handed to another process.
    pub async fn drain_begun(&self) {
        let mut draining = self.drain.watch();
        let _ = draining.wait_for(|draining| *draining).await;
    }

    /// Stops accepting and returns when the last request is over. What lasts longer
    /// than `drain_ms` is cut, and named in the log.
    pub async fn drain(self) {
        self.drain_unless(std::future::pending()).await;
    }

    /// As [`Running::drain`], but what is left when `hurry` is over is cut at once.
    /// `hurry` says who was in a hurry.
    pub async fn drain_unless(self, hurry: impl Future<Output = &'static str>) {
        self.begin_drain();
        let node = &self.node;
        let drain_ms = node.config.timeouts.drain_ms;
        let why = tokio::select! {
            () = node.work.is_over() => None,
            () = tokio::time::sleep(millis(drain_ms)) => {
                Some(format!("the drain was not over after `drain_ms` ({drain_ms} ms)"))
            }
            who = hurry => Some(format!("{who} came during the drain")),
        };
        if let Some(why) = why {
            let now_ms = node.now_ms();
            let requests = node.observer.in_flight(now_ms);
            let message = what_is_cut(&why, node.work.count(), &requests);
            let level = Level::Warn;
            node.observer.event(Event::Note { level, message }, now_ms);
            node.work.cut();
            let _ = tokio::time::timeout(CUT, node.work.is_over()).await;
        }
        let observer = node.observer.clone();
        let flushed = tokio::task::spawn_blocking(move || observer.shutdown(FLUSH));
        let _ = flushed.await;
        // The drain was watched through it, to its end.
        self.admin_task.abort();
        let _ = self.admin_task.await;
    }
}

/// What a drain that was cut short leaves behind.
fn what_is_cut(why: &str, pieces: usize, requests: &[InFlightRow]) -> String {
    let mut message = format!("{why}: cut {pieces} connections and fills");
    for (at, row) in requests.iter().take(CUT_NAMED_MAX).enumerate() {
        message += if at == 0 { ", among them " } else { "; " };
        message += &format!(
            "{} {}{} for {} after {} ms",
            row.method, row.host, row.path, row.client, row.age_ms
        );
    }
    let unnamed = requests.len().saturating_sub(CUT_NAMED_MAX);
    if unnamed > 0 {
        message += &format!("; and {unnamed} more requests");
    }
    message
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_drain_cuts_is_named_up_to_a_number() {
        let row = InFlightRow {
            started_ms: 0,
            age_ms: 400,
            method: "GET".to_owned(),
            host: "shop.example".to_owned(),
            path: "/live".to_owned(),
            phase: "serve",
            client: "192.0.2.1".to_owned(),
        };
        for (requests, end) in [
            (0, "cut 12 connections and fills"),
            (
                1,
                "among them GET shop.example/live for 192.0.2.1 after 400 ms",
            ),
            (10, "GET shop.example/live for 192.0.2.1 after 400 ms"),
            (12, "; and 2 more requests"),
        ] {
            let rows = vec![row.clone(); requests];
            let message = what_is_cut("it took too long", 12, &rows);
            assert!(message.starts_with("it took too long: "), "{message}");
            assert!(message.ends_with(end), "{message}");
        }
    }

    #[test]
    fn a_drain_begins_once_and_says_for_whom() {
        let drain = Drain::default();
        let mut watched = drain.watch();
        assert!(drain.begin());
        assert!(!drain.begin());
        assert!(*watched.borrow_and_update() && !drain.is_handed_over());
        let drain = Drain::default();
        drain.hand_over();
        assert!(drain.is_handed_over() && !drain.begin());
    }
}
