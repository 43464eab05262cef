//! Real nodes in this process, started from real files.
//!
//! Invariants:
//!
//! * Upper tiers start first; their ports, or those of relays in front of them,
//!   stand in the edges' files.
//! * A scenario ends with [`Topology::finish`], which drains every node and fails
//!   where a control block was rejected or refused that the scenario did not
//!   expect: no scenario may pass because a fault was bridged silently.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use config::Role;
use node::{Options, Running};
use tempfile::TempDir;

use crate::ask::{Ask, get};
use crate::client::{Client, Response};
use crate::files::{self, Wishes};
use crate::metrics::Metrics;
use crate::relay::Relay;
use crate::reply::Reply;
use crate::tls::Authority;
use crate::{Origin, within};

/// Seconds a node may take to drain.
const DRAIN_S: u64 = 15;

/// What stands between edges and upper tiers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Hop {
    /// Nothing.
    #[default]
    Direct,
    /// A relay of bytes before each upper tier: it can be cut.
    Bytes,
    /// A relay of messages before each upper tier: it can alter them.
    Messages,
}

/// Whether the nodes trace, and whom they tell.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Tracing {
    /// To a collector of the topology that takes everything.
    #[default]
    On,
    /// Not at all.
    Off,
    /// To a collector that accepts connections and never answers.
    Hanging,
    /// To a port where nobody listens.
    Absent,
    /// This share of the requests, to a collector that takes everything.
    Sampled(f64),
}

impl Tracing {
    /// Every state of tracing that must make no difference to a visitor.
    pub const ALL: [Self; 4] = [Self::On, Self::Off, Self::Hanging, Self::Absent];
}

/// A topology to be started.
#[derive(Debug)]
pub struct Builder {
    edges: usize,
    uppers: usize,
    servers: Vec<SocketAddr>,
    hop: Hop,
    tracing: Tracing,
    wishes: Wishes,
}

/// A running topology.
#[derive(Debug)]
pub struct Topology {
    edges: Vec<TestNode>,
    uppers: Vec<TestNode>,
    relays: Vec<Relay>,
    collector: Origin,
    authority: Authority,
    folder: TempDir,
    expects_rejections: bool,
    finished: bool,
}

/// One running node.
#[derive(Debug)]
pub struct TestNode {
    running: Running,
    config_path: PathBuf,
}

impl Topology {
    /// One edge and one upper tier before an origin, as long as nobody says otherwise.
    #[allow(clippy::new_ret_no_self)]
    #[must_use]
    pub fn new(origin: &Origin) -> Builder {
        Builder {
            edges: 1,
            uppers: 1,
            servers: vec![origin.address()],
            hop: Hop::default(),
            tracing: Tracing::default(),
            wishes: Wishes::default(),
        }
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

    /// The relay before an upper tier, counted from 1.
    #[must_use]
    pub fn relay(&self, number: usize) -> &Relay {
        &self.relays[number - 1]
    }

    /// All relays.
    #[must_use]
    pub fn relays(&self) -> &[Relay] {
        &self.relays
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

    /// Says that this scenario makes nodes reject or refuse control blocks.
    pub fn expects_rejections(&mut self) {
        self.expects_rejections = true;
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
        self.edges.iter().chain(&self.uppers)
    }

    /// Checks what every scenario must leave behind, and drains every node.
    ///
    /// # Panics
    /// When a node counted what the scenario did not expect, or does not end.
    pub async fn finish(mut self) {
        for node in self.nodes() {
            let metrics = node.metrics().await;
            let name = node.name();
            for counter in ["tier_control_rejected_total", "tier_refused_total"] {
                let count = metrics.sum(counter, &[]);
                assert!(
                    count == 0 || self.expects_rejections,
                    "{name} counts {count} in {counter}, which this scenario did not expect"
                );
            }
            let panics = metrics.sum("telemetry_panics_total", &[]);
            assert_eq!(panics, 0, "{name}: the observer panicked");
        }
        self.finished = true;
        // From the visitors' side inwards: who may still ask ends first.
        for node in self.edges.drain(..).chain(self.uppers.drain(..)) {
            within(DRAIN_S, node.running.drain()).await;
        }
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

impl Builder {
    /// That many edges, named `edge-1` and so on.
    #[must_use]
    pub fn edges(mut self, edges: usize) -> Self {
        self.edges = edges;
        self
    }

    /// That many upper tiers, named `upper-1` and so on; none: edges go straight
    /// to the origin.
    #[must_use]
    pub fn uppers(mut self, uppers: usize) -> Self {
        self.uppers = uppers;
        self
    }

    /// One more server in the site's pool.
    #[must_use]
    pub fn server(mut self, address: SocketAddr) -> Self {
        self.servers.push(address);
        self
    }

    /// What stands between the tiers.
    #[must_use]
    pub fn hop(mut self, hop: Hop) -> Self {
        self.hop = hop;
        self
    }

    /// Whether the nodes trace.
    #[must_use]
    pub fn tracing(mut self, tracing: Tracing) -> Self {
        self.tracing = tracing;
        self
    }

    /// TOML for the site `shop`: lines of `[sites.shop]`, then tables.
    #[must_use]
    pub fn site(mut self, toml: &str) -> Self {
        self.wishes.site += &format!("{toml}\n");
        self
    }

    /// TOML lines of `[pools.shop]`.
    #[must_use]
    pub fn pool(mut self, toml: &str) -> Self {
        self.wishes.pool += &format!("{toml}\n");
        self
    }

    /// All of `sites.toml`; `{origin}` stands for the list of servers.
    #[must_use]
    pub fn sites(mut self, toml: &str) -> Self {
        self.wishes.sites = Some(toml.to_owned());
        self
    }

    /// TOML tables for every edge's file.
    #[must_use]
    pub fn edge_extra(mut self, toml: &str) -> Self {
        self.wishes.edge += &format!("{toml}\n");
        self
    }

    /// TOML lines for the top of every edge's file.
    #[must_use]
    pub fn edge_top(mut self, toml: &str) -> Self {
        self.wishes.edge_top += &format!("{toml}\n");
        self
    }

    /// TOML tables for every upper tier's file.
    #[must_use]
    pub fn upper_extra(mut self, toml: &str) -> Self {
        self.wishes.upper += &format!("{toml}\n");
        self
    }

    /// TOML tables for every node's file.
    #[must_use]
    pub fn every_node(self, toml: &str) -> Self {
        self.edge_extra(toml).upper_extra(toml)
    }

    /// One more listener at every edge, with these TOML lines.
    #[must_use]
    pub fn listener(mut self, toml: &str) -> Self {
        self.wishes.listeners.push(toml.to_owned());
        self
    }

    /// One more listener at every edge that speaks TLS as the site's host.
    #[must_use]
    pub fn tls_listener(self) -> Self {
        self.listener("tls = { certificate = \"site.pem\", key = \"site.key\" }")
    }

    /// Mutual TLS between the tiers.
    #[must_use]
    pub fn mutual_tls(mut self) -> Self {
        let own = "certificate = \"site.pem\", key = \"site.key\"";
        self.wishes.upper_listener = format!("tls = {{ {own}, client_ca = \"ca.pem\" }}");
        let sni = crate::ask::HOST;
        self.wishes.towards_upper = format!("tls = {{ sni = \"{sni}\", ca = \"ca.pem\", {own} }}");
        self
    }

    /// Writes the files and starts every node.
    ///
    /// # Panics
    /// When a file is not accepted or a node does not start.
    pub async fn start(mut self) -> Topology {
        let folder = tempfile::tempdir().expect("the system has a folder for temporary files");
        let collector = self.collector().await;
        let authority = Authority::new();
        files::write_certificates(folder.path(), &authority);
        let edges = names("edge", self.edges);
        let sites = files::sites(&self.wishes, &self.servers);
        files::write(folder.path(), "sites.toml", &sites);
        for edge in &edges {
            files::write(folder.path(), &format!("{edge}.key"), &files::key(edge));
        }
        let mut topology = Topology {
            edges: Vec::new(),
            uppers: Vec::new(),
            relays: Vec::new(),
            collector,
            authority,
            folder,
            expects_rejections: false,
            // Until it runs there is nothing to finish.
            finished: true,
        };
        let mut ways = Vec::new();
        for name in names("upper", self.uppers) {
            let text = files::upper(&self.wishes, &name, &edges);
            let upper =
                TestNode::start(topology.folder.path(), &name, &text, Role::UpperTier).await;
            let mut address = upper.address();
            if self.hop != Hop::Direct {
                let relay = match self.hop {
                    Hop::Messages => Relay::of_messages(address).await,
                    _ => Relay::of_bytes(address).await,
                };
                address = relay.address();
                topology.relays.push(relay);
            }
            ways.push((name, address));
            topology.uppers.push(upper);
        }
        for name in edges {
            let text = files::edge(&self.wishes, &name, &ways);
            let edge = TestNode::start(topology.folder.path(), &name, &text, Role::Edge).await;
            topology.edges.push(edge);
        }
        topology.finished = false;
        topology
    }

    /// Starts the collector and writes down how it is to be used.
    async fn collector(&mut self) -> Origin {
        let collector = Origin::start().await;
        let (address, ratio) = match self.tracing {
            Tracing::Off => return collector,
            Tracing::Absent => (free_address().await, 1.0),
            Tracing::On | Tracing::Hanging => (collector.address(), 1.0),
            Tracing::Sampled(ratio) => (collector.address(), ratio),
        };
        let reply = match self.tracing {
            Tracing::Hanging => Reply::silence(),
            _ => Reply::new(200).with("Content-Type", "application/x-protobuf"),
        };
        collector.always("/v1/traces", reply);
        self.wishes.telemetry +=
            &format!("otlp_endpoint = \"http://{address}\"\ntrace_ratio = {ratio:?}\n");
        collector
    }
}

/// An address where nobody listens: bound once, and let go.
async fn free_address() -> SocketAddr {
    let bound = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await;
    let bound = bound.expect("the system has a port");
    bound.local_addr().expect("a bound socket has an address")
}

fn names(kind: &str, count: usize) -> Vec<String> {
    (1..=count)
        .map(|number| format!("{kind}-{number}"))
        .collect()
}

impl TestNode {
    /// Writes a node's file and starts the node from it.
    ///
    /// # Panics
    /// When the file is not accepted or the node does not start.
    pub async fn start(folder: &Path, name: &str, text: &str, role: Role) -> Self {
        let started = Self::try_start(folder, name, text, role).await;
        started.unwrap_or_else(|why| panic!("{name} does not start: {why}\n{text}"))
    }

    /// As [`TestNode::start`], for nodes that may fail to.
    ///
    /// # Errors
    /// What the configuration or the node says.
    pub async fn try_start(
        folder: &Path,
        name: &str,
        text: &str,
        role: Role,
    ) -> Result<Self, String> {
        let file = format!("{name}.toml");
        files::write(folder, &file, text);
        let config_path = folder.join(file);
        let loaded = config::load(&config_path, role, &|variable| std::env::var(variable).ok());
        let options = Options {
            config_path: Some(config_path.clone()),
        };
        let starting = node::start(loaded.map_err(|problems| problems.to_string())?, options);
        let running = within(DRAIN_S, starting)
            .await
            .map_err(|why| why.to_string())?;
        Ok(Self {
            running,
            config_path,
        })
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        self.running.name()
    }

    /// Where its first listener is.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.listener(0)
    }

    /// Where a listener is, in the order of the file, counted from 0.
    #[must_use]
    pub fn listener(&self, at: usize) -> SocketAddr {
        self.running.addresses()[at]
    }

    /// Where its admin listener is.
    #[must_use]
    pub fn admin_address(&self) -> SocketAddr {
        self.running.admin_address()
    }

    /// Its own file.
    #[must_use]
    pub fn config_path(&self) -> &Path {
        &self.config_path
    }

    /// The node itself.
    #[must_use]
    pub fn running(&self) -> &Running {
        &self.running
    }

    /// The node itself, to be drained.
    #[must_use]
    pub fn into_running(self) -> Running {
        self.running
    }

    /// A visitor's connection to it.
    pub async fn client(&self) -> Client {
        Client::connect(self.address()).await
    }

    /// Asks it over a new connection.
    pub async fn ask(&self, ask: &Ask) -> Response {
        self.client().await.ask(ask).await
    }

    /// A GET over a new connection.
    pub async fn get(&self, target: &str) -> Response {
        self.ask(&get(target)).await
    }

    /// Asks its admin listener.
    pub async fn admin(&self, ask: &Ask) -> Response {
        let mut client = Client::connect(self.admin_address()).await;
        client.ask(ask).await
    }

    /// Its metrics now.
    pub async fn metrics(&self) -> Metrics {
        Metrics::fetch(self.admin_address()).await
    }

    /// Waits until a metric has at least that value.
    pub async fn wait_for_metric(&self, name: &str, labels: &[(&str, &str)], least: u64) {
        let what = format!("{} has {least} of {name} {labels:?}", self.name());
        crate::until(&what, async || {
            (self.metrics().await.sum(name, labels) >= least).then_some(())
        })
        .await;
    }

    /// Purges a URL from it.
    ///
    /// # Panics
    /// When it does not answer 200.
    pub async fn purge(&self, url: &str) -> String {
        let purge = crate::ask("POST", &format!("/purge?url={}", encoded(url)));
        let response = self.admin(&purge).await;
        assert_eq!(response.status, 200, "purge {url}: {}", response.text());
        response.text()
    }
}

/// A URL as a query value.
fn encoded(url: &str) -> String {
    url.bytes()
        .map(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' => {
                char::from(byte).to_string()
            }
            _ => format!("%{byte:02X}"),
        })
        .collect()
}
