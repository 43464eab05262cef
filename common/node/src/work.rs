//! Counts what a drain has to wait for.

use std::sync::Arc;

use tokio::sync::watch;

/// Connections and fills under way.
#[derive(Debug, Clone)]
pub(crate) struct Work {
    count: Arc<watch::Sender<usize>>,
}

impl Default for Work {
    fn default() -> Self {
        Self {
            count: Arc::new(watch::Sender::new(0)),
        }
    }
}

/// One piece of work; over when dropped.
#[derive(Debug)]
pub(crate) struct Busy(Arc<watch::Sender<usize>>);

impl Work {
    /// Begins a piece of work.
    pub(crate) fn begin(&self) -> Busy {
        self.count.send_modify(|count| *count += 1);
        Busy(Arc::clone(&self.count))
    }

    /// How much is under way.
    pub(crate) fn count(&self) -> usize {
        *self.count.borrow()
    }

    /// Waits until nothing is under way.
    pub(crate) async fn is_over(&self) {
        let mut count = self.count.subscribe();
        // The sender lives in `self`, so the channel cannot close while we wait.
        let _ = count.wait_for(|count| *count == 0).await;
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.send_modify(|count| *count -= 1);
    }
}
