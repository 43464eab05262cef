//! What a scenario wishes a topology to be, and how it is started from that.

use std::net::SocketAddr;
use std::time::Duration;

use config::Role;
use node::{Clock, Fault, MovedClock};

use super::expected::Expected;
use super::test_node::Given;
use super::{TestNode, Topology};
use crate::Origin;
use crate::ask::HOST;
use crate::files::{self, Way, Wishes};
use crate::intermediary::Intermediary;
use crate::relay::Relay;
use crate::reply::Reply;
use crate::tap::Tap;
use crate::tls::Authority;

/// How late an intermediary is that delays messages: scenarios with that fault make
/// their edges less patient.
const DELAY: Duration = Duration::from_millis(1_200);

/// What stands before each upper tier.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Hop {
    /// Nothing.
    #[default]
    Direct,
    /// A relay of bytes before each upper tier: it can be cut.
    Bytes,
    /// A relay of messages before each upper tier: it can alter them.
    Messages,
    /// An intermediary before each upper tier, shared by all edges: it can have a
    /// [`Fault`](crate::Fault).
    Faulty,
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
    regionals: usize,
    uppers: usize,
    servers: Vec<SocketAddr>,
    hop: Hop,
    ways_on: bool,
    tracing: Tracing,
    taps: Vec<Tap>,
    given: Given,
    wishes: Wishes,
}

impl Builder {
    /// One edge and one upper tier before that origin.
    pub(super) fn before(origin: &Origin) -> Self {
        Self::behind(origin.address())
    }

    /// The same before whatever is at that address.
    pub(super) fn behind(origin: SocketAddr) -> Self {
        Self {
            edges: 1,
            regionals: 0,
            uppers: 1,
            servers: vec![origin],
            hop: Hop::default(),
            ways_on: false,
            tracing: Tracing::default(),
            taps: Vec::new(),
            given: Given::default(),
            wishes: Wishes::default(),
        }
    }

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

    /// That many regional tiers, named `regional-1` and so on, between edges and upper
    /// tiers. Edges know both.
    #[must_use]
    pub fn regionals(mut self, regionals: usize) -> Self {
        self.regionals = regionals;
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

    /// A relay of messages between each upper tier and the origin, so that one of them
    /// can be cut off from it.
    #[must_use]
    pub fn ways_on(mut self) -> Self {
        self.ways_on = true;
        self
    }

    /// Whether the nodes trace.
    #[must_use]
    pub fn tracing(mut self, tracing: Tracing) -> Self {
        self.tracing = tracing;
        self
    }

    /// Taps before each upper tier, in the place of what the hop would have there.
    #[must_use]
    pub fn taps(mut self, taps: &[Tap]) -> Self {
        self.taps = taps.to_vec();
        self
    }

    /// The nodes' time.
    #[must_use]
    pub fn clock(mut self, clock: &MovedClock) -> Self {
        self.given.clock = Clock::Moved(clock.clone());
        self
    }

    /// How every node's observer fails.
    #[must_use]
    pub fn observer_fault(mut self, fault: Option<Fault>) -> Self {
        self.given.observer_fault = fault;
        self
    }

    /// TOML lines for `[telemetry]` of every node.
    #[must_use]
    pub fn telemetry(mut self, toml: &str) -> Self {
        self.wishes.telemetry += &format!("{toml}\n");
        self
    }

    /// `access_log` of every node.
    #[must_use]
    pub fn access_log(mut self, target: &str) -> Self {
        self.wishes.access_log = Some(target.to_owned());
        self
    }

    /// Edges probe their upper tiers. Elsewhere they do not: what crosses a hop is
    /// then what the scenario asked for, and nothing else.
    #[must_use]
    pub fn probing(mut self) -> Self {
        self.wishes.probing = true;
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

    /// TOML lines for the top of every node's file.
    #[must_use]
    pub fn every_top(mut self, toml: &str) -> Self {
        self.wishes.upper_top += &format!("{toml}\n");
        self.edge_top(toml)
    }

    /// TOML tables for every upper tier's file.
    #[must_use]
    pub fn upper_extra(mut self, toml: &str) -> Self {
        self.wishes.upper += &format!("{toml}\n");
        self
    }

    /// TOML lines of every `[[upper_tier]]` table of every edge.
    #[must_use]
    pub fn towards_upper(mut self, toml: &str) -> Self {
        self.wishes.towards_upper += &format!("{toml}\n");
        self
    }

    /// TOML lines of the `[[upper_tier]]` tables for the node of that name.
    #[must_use]
    pub fn towards(mut self, name: &str, toml: &str) -> Self {
        self.wishes.towards.push((name.to_owned(), toml.to_owned()));
        self
    }

    /// TOML tables for every regional tier's file, beside those of `upper_extra`.
    #[must_use]
    pub fn regional_extra(mut self, toml: &str) -> Self {
        self.wishes.regional += &format!("{toml}\n");
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
        let sni = HOST;
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
        let regionals = names("regional", self.regionals);
        let askers = [&edges[..], &regionals[..]].concat();
        let sites = files::sites(&self.wishes, &self.servers);
        files::write(folder.path(), "sites.toml", &sites);
        for asker in &askers {
            files::write(folder.path(), &format!("{asker}.key"), &files::key(asker));
        }
        let mut topology = Topology {
            edges: Vec::new(),
            regionals: Vec::new(),
            uppers: Vec::new(),
            relays: Vec::new(),
            ways_on: Vec::new(),
            intermediaries: Vec::new(),
            collector,
            authority,
            folder,
            expected: Expected::default(),
            expects_panics: false,
            // Until it runs there is nothing to finish.
            finished: true,
        };
        let mut ways = Vec::new();
        for name in names("upper", self.uppers) {
            let folder = topology.folder.path();
            let mut sites = "sites.toml".to_owned();
            if self.ways_on {
                let way_on = Relay::of_messages(self.servers[0]).await;
                sites = format!("sites-of-{name}.toml");
                files::write(
                    folder,
                    &sites,
                    &files::sites(&self.wishes, &[way_on.address()]),
                );
                topology.ways_on.push(way_on);
            }
            let text = files::upper(&self.wishes, &name, &sites, &askers);
            let way = self.upper_tier(&mut topology, name, &text, false).await;
            ways.push(way);
        }
        let uppers = ways.clone();
        for name in regionals {
            let text = files::regional(&self.wishes, &name, &askers, &uppers);
            let way = self.upper_tier(&mut topology, name, &text, true).await;
            ways.push(way);
        }
        for name in edges {
            let text = files::edge(&self.wishes, &name, &ways);
            let folder = topology.folder.path();
            let edge = TestNode::start_with(folder, &name, &text, Role::Edge, &self.given).await;
            topology.edges.push(edge);
        }
        topology.finished = false;
        topology
    }

    /// Starts an upper tier or a regional one, and what stands before it.
    async fn upper_tier(
        &self,
        topology: &mut Topology,
        name: String,
        text: &str,
        is_regional: bool,
    ) -> Way {
        let folder = topology.folder.path();
        let node = TestNode::start_with(folder, &name, text, Role::UpperTier, &self.given).await;
        let mut address = node.address();
        let started = topology.uppers.len() + topology.regionals.len();
        if let Some(tap) = self.taps.get(started) {
            tap.lead_to(address);
            address = tap.address();
        }
        match self.hop {
            Hop::Direct => {}
            Hop::Bytes | Hop::Messages => {
                let relay = match self.hop {
                    Hop::Messages => Relay::of_messages(address).await,
                    _ => Relay::of_bytes(address).await,
                };
                address = relay.address();
                topology.relays.push(relay);
            }
            Hop::Faulty => {
                let intermediary = Intermediary::start(address, DELAY).await;
                address = intermediary.address();
                topology.intermediaries.push(intermediary);
            }
        }
        if is_regional {
            topology.regionals.push(node);
        } else {
            topology.uppers.push(node);
        }
        Way {
            name,
            address,
            is_regional,
        }
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
