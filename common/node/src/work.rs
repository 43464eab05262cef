//! Counts what a drain has to wait for, and cuts what outlasts it.

use std::sync::Arc;

use tokio::sync::watch;

/// Connections and fills under way.
#[derive(Debug, Clone)]
pub(crate) struct Work {
    tally: Arc<watch::Sender<Tally>>,
}

#[derive(Debug, Default)]
struct Tally {
    count: usize,
    /// What is still under way is over.
    is_cut: bool,
}

impl Default for Work {
    fn default() -> Self {
        Self {
            tally: Arc::new(watch::Sender::new(Tally::default())),
        }
    }
}

/// One piece of work; over when dropped.
#[derive(Debug)]
pub(crate) struct Busy(Arc<watch::Sender<Tally>>);

impl Work {
    /// Begins a piece of work.
    pub(crate) fn begin(&self) -> Busy {
        // Nobody waits for more work: only its end wakes those who do.
        self.tally.send_if_modified(|tally| {
            tally.count += 1;
            false
        });
        Busy(Arc::clone(&self.tally))
    }

    /// How much is under way.
    pub(crate) fn count(&self) -> usize {
        self.tally.borrow().count
    }

    /// Waits until nothing is under way.
    pub(crate) async fn is_over(&self) {
        let mut tally = self.tally.subscribe();
        // The sender lives in `self`, so the channel cannot close while we wait.
        let _ = tally.wait_for(|tally| tally.count == 0).await;
    }

    /// Ends what runs under [`Busy::run`], now and later.
    pub(crate) fn cut(&self) {
        self.tally.send_modify(|tally| tally.is_cut = true);
    }
}

impl Busy {
    /// Runs a piece of work to its end, or until all work is cut.
    pub(crate) async fn run<T>(&self, piece: impl Future<Output = T>) -> Option<T> {
        let mut tally = self.0.subscribe();
        let cut = tally.wait_for(|tally| tally.is_cut);
        tokio::select! {
            done = piece => Some(done),
            _ = cut => None,
        }
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.send_if_modified(|tally| {
            tally.count -= 1;
            tally.count == 0
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn work_is_over_when_its_last_piece_is() {
        let work = Work::default();
        let (one, other) = (work.begin(), work.begin());
        assert_eq!(work.count(), 2);
        assert_eq!(one.run(async { 7 }).await, Some(7));
        drop((one, other));
        work.is_over().await;
        assert_eq!(work.count(), 0);
    }

    #[tokio::test]
    async fn what_never_ends_is_cut() {
        let work = Work::default();
        let endless = work.begin();
        let task = tokio::spawn(async move { endless.run(std::future::pending::<()>()).await });
        work.cut();
        work.is_over().await;
        assert_eq!(task.await.unwrap(), None);
        // What begins afterwards ends at once, too.
        let late = work.begin();
        assert_eq!(late.run(std::future::pending::<()>()).await, None);
    }
}
