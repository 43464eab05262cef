//! Real nodes in this process, started from real files.
//!
//! Invariants:
//!
//! * Upper tiers start first; their ports, or those of relays in front of them,
//!   stand in the edges' files.
//! * A scenario ends with [`Topology::finish`], which drains every node and fails
//!   where a control block was rejected or refused that the scenario did not
//!   expect, and where one that it expected was not: no scenario may pass because a
//!   fault was bridged silently.

mod builder;
mod expected;
mod test_node;

use std::path::Path;

use tempfile::TempDir;

pub use self::builder::{Builder, Hop, Tracing};
use self::expected::Expected;
pub use self::test_node::TestNode;
use crate::intermediary::Intermediary;
use crate::relay::Relay;
use crate::tls::Authority;
use crate::{Origin, files, within};

/// Seconds a node may take to drain.
const DRAIN_S: u64 = 15;

/// A running topology.
#[derive(Debug)]
pub struct Topology {
    edges: Vec<TestNode>,
    regionals: Vec<TestNode>,
    uppers: Vec<TestNode>,
    relays: Vec<Relay>,
    ways_on: Vec<Relay>,
    intermediaries: Vec<Intermediary>,
    collector: Origin,
    authority: Authority,
    folder: TempDir,
    expected: Expected,
    expects_panics: bool,
    finished: bool,
}

impl Topology {
    /// One edge and one upper tier before an origin, as long as nobody says otherwise.
    #[allow(clippy::new_ret_no_self)]
    #[must_use]
    pub fn new(origin: &Origin) -> Builder {
        Builder::before(origin)
    }

    /// One edge and one upper tier before whatever is at that address.
    #[must_use]
    pub fn behind(origin: std::net::SocketAddr) -> Builder {
        Builder::behind(origin)
    }

    /// An edge, counted from 1 as in its name.
    #[must_use]
    pub fn edge(&self, number: usize) -> &TestNode {
        &self.edges[number - 1]
    }

    /// An upper tier, counted from 1 as in its name.
    #[must_use]
    pub fn upper(&self, number: usize) -> &TestNode {
        &self.uppers[number - 1]
    }

    /// A regional tier, counted from 1 as in its name.
    #[must_use]
    pub fn regional(&self, number: usize) -> &TestNode {
        &self.regionals[number - 1]
    }

    /// All regional tiers.
    #[must_use]
    pub fn regionals(&self) -> &[TestNode] {
        &self.regionals
    }

    /// All edges.
    #[must_use]
    pub fn edges(&self) -> &[TestNode] {
        &self.edges
    }

    /// All upper tiers.
    #[must_use]
    pub fn uppers(&self) -> &[TestNode] {
        &self.uppers
    }

    /// The relay before an upper tier, counted from 1; those before regional tiers come
    /// after them.
    #[must_use]
    pub fn relay(&self, number: usize) -> &Relay {
        &self.relays[number - 1]
    }

    /// All relays.
    #[must_use]
    pub fn relays(&self) -> &[Relay] {
        &self.relays
    }

    /// The relay between an upper tier and the origin, counted from 1.
    #[must_use]
    pub fn way_on(&self, number: usize) -> &Relay {
        &self.ways_on[number - 1]
    }

    /// All relays between upper tiers and the origin.
    #[must_use]
    pub fn ways_on(&self) -> &[Relay] {
        &self.ways_on
    }

    /// All intermediaries.
    #[must_use]
    pub fn intermediaries(&self) -> &[Intermediary] {
        &self.intermediaries
    }

    /// Whom the nodes send their spans to, if to anybody.
    #[must_use]
    pub fn collector(&self) -> &Origin {
        &self.collector
    }

    /// The authority behind the certificates of listeners with TLS.
    #[must_use]
    pub fn authority(&self) -> &Authority {
        &self.authority
    }

    /// Where the topology's files are.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Writes one of the topology's files anew.
    pub fn write(&self, name: &str, text: &str) {
        files::write(self.folder.path(), name, text);
    }

    /// Says that this scenario makes some node reject a control block of that side,
    /// `request` or `response`, for that reason. It has to, then.
    pub fn expects_rejected(&mut self, side: &str, reason: &str) {
        self.expected.rejected(side, reason);
    }

    /// Says that this scenario makes an upper tier reject a request for that reason,
    /// and the edge that sent it count that it was refused.
    pub fn expects_refused(&mut self, reason: &str) {
        self.expected.rejected("request", reason);
        self.expected.refused(reason);
    }

    /// Says that this scenario makes nodes reject or refuse control blocks, for
    /// reasons that it cannot tell beforehand: whoever can uses the precise ones.
    pub fn expects_rejections(&mut self) {
        self.expected.anything();
    }

    /// Takes an edge out, to be drained by the scenario itself.
    #[must_use]
    pub fn take_edge(&mut self, number: usize) -> TestNode {
        self.edges.remove(number - 1)
    }

    /// Waits until that many fills have ended at all nodes together, however.
    pub async fn no_fill_is_running(&self) {
        for node in self.nodes() {
            crate::until("no fill is running", async || {
                let metrics = node.metrics().await;
                (metrics.sum("fills_in_flight", &[]) == 0).then_some(())
            })
            .await;
        }
    }

    fn nodes(&self) -> impl Iterator<Item = &TestNode> {
        let tiers = self.regionals.iter().chain(&self.uppers);
        self.edges.iter().chain(tiers)
    }

    /// Says that the observers of this scenario's nodes are made to panic.
    pub fn expects_panics(&mut self) {
        self.expects_panics = true;
    }

    /// Checks what every scenario must leave behind, and drains every node.
    ///
    /// # Panics
    /// When a node counted what the scenario did not expect, or does not end.
    pub async fn finish(mut self) {
        self.check().await;
        self.finished = true;
        // From the visitors' side inwards: who may still ask ends first.
        let tiers = self.regionals.drain(..).chain(self.uppers.drain(..));
        for node in self.edges.drain(..).chain(tiers) {
            within(DRAIN_S, node.into_running().drain()).await;
        }
    }

    /// As [`Topology::finish`], for nodes whose runtime ends with the scenario: what
    /// they cannot tell anybody they need not wait with.
    ///
    /// # Panics
    /// When a node counted what the scenario did not expect.
    pub async fn leave(mut self) {
        self.check().await;
        self.finished = true;
    }

    async fn check(&self) {
        let mut wrong = Vec::new();
        for node in self.nodes() {
            let metrics = node.metrics().await;
            let name = node.name();
            wrong.extend(self.expected.look_at(name, &metrics));
            let panics = metrics.sum("telemetry_panics_total", &[]);
            let expected = self.expects_panics == (panics > 0);
            assert!(expected, "{name}: the observer panicked {panics} times");
        }
        wrong.extend(self.expected.never_seen());
        assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
    }
}

impl Drop for Topology {
    fn drop(&mut self) {
        assert!(
            self.finished || std::thread::panicking(),
            "a scenario ends with `topology.finish().await`"
        );
    }
}
