//! What the nodes themselves say about a fault: counters, readiness, log lines.

use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::task::AbortHandle;

use crate::ask::get;
use crate::client::Client;
use crate::metrics::Metrics;

/// How often readiness is asked for.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// Looks at the admin listeners of a topology.
#[derive(Debug)]
pub struct Watch {
    nodes: Vec<(String, SocketAddr)>,
    unready: Arc<AtomicU64>,
    looking: AbortHandle,
}

impl Watch {
    /// Watches nodes, by name and admin listener. Asks each from now on, over and
    /// over, whether it is ready.
    #[must_use]
    pub fn over(nodes: Vec<(String, SocketAddr)>) -> Self {
        let unready = Arc::<AtomicU64>::default();
        let looking = tokio::spawn(look(nodes.clone(), Arc::clone(&unready)));
        Self {
            nodes,
            unready,
            looking: looking.abort_handle(),
        }
    }

    /// Every node's metrics now, by its name.
    pub async fn metrics(&self) -> Vec<(String, Metrics)> {
        let mut all = Vec::new();
        for (name, admin) in &self.nodes {
            all.push((name.clone(), Metrics::fetch(*admin).await));
        }
        all
    }

    /// How often a node was not ready so far.
    #[must_use]
    pub fn unready(&self) -> u64 {
        self.unready.load(Ordering::Relaxed)
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.looking.abort();
    }
}

async fn look(nodes: Vec<(String, SocketAddr)>, unready: Arc<AtomicU64>) {
    let mut looks = tokio::time::interval(LOOK_EVERY);
    loop {
        looks.tick().await;
        for (_, admin) in &nodes {
            // A client that meets what it did not expect panics: no answer is none.
            let asked = tokio::spawn(ready(*admin)).await;
            if !matches!(asked, Ok(200)) {
                unready.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}

async fn ready(admin: SocketAddr) -> u16 {
    let asked = get("/readyz").with("Connection", "close");
    Client::connect(admin).await.ask(&asked).await.status
}

/// Control blocks that all nodes together found wrong, or were refused for.
#[must_use]
pub fn faults_named(metrics: &[(String, Metrics)]) -> u64 {
    let count = |(_, metrics): &(String, Metrics)| {
        metrics.sum("tier_control_rejected_total", &[]) + metrics.sum("tier_refused_total", &[])
    };
    metrics.iter().map(count).sum()
}

/// Requests from edges to upper tiers that failed for other reasons.
#[must_use]
pub fn upstream_failures(metrics: &[(String, Metrics)]) -> u64 {
    let count = |(_, metrics): &(String, Metrics)| {
        let of = |result| {
            let labels = [("kind", "upper_tier"), ("result", result)];
            metrics.sum("upstream_requests_total", &labels)
        };
        of("error") + of("timeout")
    };
    metrics.iter().map(count).sum()
}

/// The end of a node's log file.
#[derive(Debug)]
pub struct Lines {
    path: PathBuf,
    from: u64,
}

/// A line about control that failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// When the node wrote it, Unix milliseconds.
    pub at_ms: u64,
    /// The event: `control_rejected` or `tier_refused`.
    pub event: String,
    /// The name of the fault.
    pub reason: String,
    /// Who is on the other side.
    pub peer: String,
    /// What to do about it.
    pub remedy: String,
}

impl Lines {
    /// The lines of that file from its end on.
    #[must_use]
    pub fn after_now(path: PathBuf) -> Self {
        let from = std::fs::metadata(&path).map_or(0, |file| file.len());
        Self { path, from }
    }

    /// The lines about control that failed, in order.
    #[must_use]
    pub fn about_control(&self) -> Vec<Line> {
        let mut text = Vec::new();
        let read = File::open(&self.path).and_then(|mut file| {
            file.seek(SeekFrom::Start(self.from))?;
            file.read_to_end(&mut text)
        });
        if read.is_err() {
            return Vec::new();
        }
        let text = String::from_utf8_lossy(&text);
        text.lines().filter_map(line).collect()
    }
}

fn line(text: &str) -> Option<Line> {
    if !text.contains("control_rejected") && !text.contains("tier_refused") {
        return None;
    }
    let json: serde_json::Value = serde_json::from_str(text).ok()?;
    let word = |key: &str| json[key].as_str().map(str::to_owned);
    Some(Line {
        at_ms: json["ts"].as_u64()?,
        event: word("event")?,
        reason: word("reason")?,
        peer: word("peer")?,
        remedy: word("remedy").filter(|remedy| !remedy.is_empty())?,
    })
}
