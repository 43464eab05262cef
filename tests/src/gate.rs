//! A gate: whoever comes to it waits until the scenario opens it.

use std::sync::Arc;

use tokio::sync::watch;

use crate::within;

/// Seconds that a scenario waits for somebody to arrive.
const ARRIVAL_S: u64 = 10;

/// Closed until [`Gate::open`]; clones are the same gate.
#[derive(Clone, Debug)]
pub struct Gate {
    open: Arc<watch::Sender<bool>>,
    arrived: Arc<watch::Sender<usize>>,
}

impl Default for Gate {
    fn default() -> Self {
        Self {
            open: Arc::new(watch::Sender::new(false)),
            arrived: Arc::new(watch::Sender::new(0)),
        }
    }
}

impl Gate {
    /// A closed gate.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Lets everybody through, now and later.
    pub fn open(&self) {
        self.open.send_replace(true);
    }

    /// Waits at the gate.
    pub async fn pass(&self) {
        self.arrived.send_modify(|count| *count += 1);
        let mut open = self.open.subscribe();
        // The sender lives in `self`, so this cannot end without the gate opening.
        let _ = open.wait_for(|open| *open).await;
    }

    /// Waits until so many have come to the gate, whether or not it is open.
    pub async fn arrivals(&self, count: usize) {
        let mut arrived = self.arrived.subscribe();
        within(ARRIVAL_S, async {
            let _ = arrived.wait_for(|arrived| *arrived >= count).await;
        })
        .await;
    }
}
