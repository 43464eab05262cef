//! Whom this node asks: their connections, their health, and one way to send.

mod behind;
pub(crate) mod probe;
pub(crate) mod resolve;
pub(crate) mod send;
pub(crate) mod tls;
mod watched;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use config::{HostPort, OriginPool};
use observe::{AttemptKind, Event};
use parking_lot::Mutex;
use pingora_core::connectors::ConnectorOptions;
use pingora_core::connectors::http::v1::Connector;
use pingora_core::upstreams::peer::HttpPeer;
use smallvec::SmallVec;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use topology::{Candidates, Failure, HealthRules, Latency, Pool, State, Tier, Transition};

use crate::certificates::Kept;
use crate::state::Node;
use behind::Behind;
use resolve::Resolver;
use send::SendError;
use tls::PeerTls;
use watched::Watched;

/// Idle upstream connections kept in all.
const POOL_CONNECTIONS_MAX: usize = 1024;

/// How much longer than for a visitor's body each tier waits for the one behind.
const UPLOAD_SLACK_MS: u64 = 1_000;

/// Everyone this node may ask.
pub(crate) struct Upstreams {
    pub(crate) connector: Connector,
    pub(crate) resolver: Resolver,
    /// Upper tiers in file order; positions match `candidates`.
    pub(crate) uppers: Vec<Upper>,
    pub(crate) candidates: Candidates,
    rules: HealthRules,
    origins: Mutex<HashMap<HostPort, Watched, ahash::RandomState>>,
}

impl std::fmt::Debug for Upstreams {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Upstreams")
            .field("uppers", &self.uppers)
            .finish_non_exhaustive()
    }
}

/// One upper tier.
#[derive(Debug)]
pub(crate) struct Upper {
    pub(crate) config: config::UpperTier,
    pub(crate) tls: Option<Arc<Kept<PeerTls>>>,
    health: Mutex<Watched>,
    /// How it gets to the origins behind it.
    behind: Behind,
    /// How long it takes to answer.
    pub(crate) latency: Mutex<Latency>,
    /// What a connection to it lately took to make, microseconds; 0: there was none.
    connect_us: AtomicU64,
    /// What may be under way there.
    seats: Arc<Semaphore>,
}

/// One upstream to ask.
#[derive(Debug, Clone)]
pub(crate) enum Target {
    /// The upper tier at that position.
    Upper(usize),
    /// A server of an origin pool.
    Origin {
        pool: Arc<OriginPool>,
        server: usize,
        /// TLS towards the pool, where it wants it.
        tls: Option<Arc<Kept<PeerTls>>>,
    },
}

impl Upstreams {
    /// Ready to ask, or what is wrong with the TLS files towards upper tiers.
    pub(crate) fn new(config: &config::Node) -> Result<Self, Vec<String>> {
        let rules = rules(&config.health);
        let mut problems = Vec::new();
        let mut uppers = Vec::with_capacity(config.upper_tiers.len());
        for upper in &config.upper_tiers {
            let tls = upper.tls.as_ref().map(PeerTls::kept).transpose();
            let tls = tls.unwrap_or_else(|problem| {
                problems.push(format!("upper tier {}: {problem}", upper.name));
                None
            });
            uppers.push(Upper {
                config: upper.clone(),
                tls: tls.map(Arc::new),
                health: Mutex::new(Watched::upper_tier(rules)),
                behind: Behind::new(rules),
                latency: Mutex::default(),
                connect_us: AtomicU64::new(0),
                seats: Arc::new(Semaphore::new(upper.in_flight_max)),
            });
        }
        if !problems.is_empty() {
            return Err(problems);
        }
        let members = uppers.iter().map(|upper| {
            let tier = match upper.config.tier {
                config::Tier::Upper => Tier::Upper,
                config::Tier::Regional => Tier::Regional,
            };
            (upper.config.name.as_str(), upper.config.weight, tier)
        });
        Ok(Self {
            connector: Connector::new(Some(ConnectorOptions::new(POOL_CONNECTIONS_MAX))),
            resolver: Resolver::new(config.name_servers.clone()),
            candidates: Candidates::of(members),
            uppers,
            rules,
            origins: Mutex::default(),
        })
    }

    /// Claims the trial of an upper tier whose time down is over; true for one
    /// caller at a time.
    pub(crate) fn begin_trial(&self, upper: usize, now_ms: u64) -> bool {
        self.uppers
            .get(upper)
            .is_some_and(|upper| upper.health.lock().health.begin_trial(now_ms))
    }

    /// All upper tiers, as one of them sees the others.
    fn pool_of_uppers(&self, upper: usize, now_ms: u64) -> Pool {
        let others = self
            .uppers
            .iter()
            .enumerate()
            .filter(|(at, _)| *at != upper);
        Pool {
            size: self.uppers.len(),
            others_out: others
                .filter(|(_, other)| other.health.lock().is_out(now_ms))
                .count(),
        }
    }

    /// The state of every upper tier, by position.
    pub(crate) fn upper_states(&self, now_ms: u64) -> SmallVec<[State; 8]> {
        self.uppers
            .iter()
            .map(|upper| upper.health.lock().health.state(now_ms))
            .collect()
    }

    /// The requests that are under way at every upper tier, by position.
    pub(crate) fn requests(&self) -> SmallVec<[u32; 8]> {
        let under_way = self.uppers.iter().map(|upper| {
            let free = upper.seats.available_permits();
            upper.config.in_flight_max.saturating_sub(free)
        });
        under_way
            .map(|requests| u32::try_from(requests).unwrap_or(u32::MAX))
            .collect()
    }

    /// What a connection to an upper tier takes to make, microseconds.
    pub(crate) fn connect_us(&self, upper: usize) -> u64 {
        let upper = self.uppers.get(upper);
        upper.map_or(0, |upper| upper.connect_us.load(Ordering::Relaxed))
    }

    /// Servers of a pool in the order to try: those that are up first, and those
    /// whose time down is over among them, a different one in front each time.
    /// Nobody's trial is claimed: only a few of them will be asked.
    pub(crate) fn origin_order(&self, pool: &OriginPool, now_ms: u64) -> SmallVec<[usize; 8]> {
        let count = pool.servers.len();
        let first = if count > 1 {
            fastrand::usize(..count)
        } else {
            0
        };
        let mut order: SmallVec<[usize; 8]> =
            (0..count).map(|step| (first + step) % count).collect();
        let origins = self.origins.lock();
        order.sort_by_cached_key(|server| {
            let health = pool.servers.get(*server).and_then(|at| origins.get(at));
            health.is_some_and(|seen| matches!(seen.health.state(now_ms), State::Down { .. }))
        });
        order
    }

    /// Whether any server of a pool is worth asking.
    pub(crate) fn origin_is_up(&self, pool: &OriginPool, now_ms: u64) -> bool {
        let origins = self.origins.lock();
        pool.servers.iter().any(|server| {
            origins
                .get(server)
                .is_none_or(|seen| !matches!(seen.health.state(now_ms), State::Down { .. }))
        })
    }
}

impl Target {
    /// Its name in metrics, logs and spans.
    pub(crate) fn name(&self, node: &Node) -> String {
        match self {
            Self::Upper(at) => node
                .upstreams
                .uppers
                .get(*at)
                .map(|upper| upper.config.name.clone())
                .unwrap_or_default(),
            Self::Origin { .. } => format!("origin {}", self.address(node)),
        }
    }

    pub(crate) fn is_origin(&self) -> bool {
        matches!(self, Self::Origin { .. })
    }

    pub(crate) fn kind(&self) -> AttemptKind {
        match self {
            Self::Upper(_) => AttemptKind::UpperTier,
            Self::Origin { .. } => AttemptKind::Origin,
        }
    }

    /// How long it may take from a request to the head of its answer. An upper
    /// tier asks others in its turn, so it has longer than an origin.
    pub(crate) fn head_wait_ms(&self, node: &Node) -> u64 {
        let timeouts = &node.config.timeouts;
        match self {
            Self::Upper(_) => timeouts.tier_answer_ms,
            Self::Origin { .. } => timeouts.first_byte_ms,
        }
    }

    /// How long a passed request may be without a sign of its answer. Its body may
    /// come slowly, which is nobody's fault but the visitor's, and an upper tier
    /// is to notice that first.
    pub(crate) fn pass_wait_ms(&self, node: &Node) -> u64 {
        let body_ms = node.config.timeouts.request_body_ms;
        let slack_ms = match self {
            // A regional tier waits for another one behind it.
            Self::Upper(_) if node.is_edge() => 3 * UPLOAD_SLACK_MS,
            Self::Upper(_) => 2 * UPLOAD_SLACK_MS,
            Self::Origin { .. } => UPLOAD_SLACK_MS,
        };
        self.head_wait_ms(node)
            .max(body_ms.saturating_add(slack_ms))
    }

    /// Where it is, as the configuration names it.
    pub(crate) fn address(&self, node: &Node) -> HostPort {
        let found = match self {
            Self::Upper(at) => node
                .upstreams
                .uppers
                .get(*at)
                .map(|upper| upper.config.address.clone()),
            Self::Origin { pool, server, .. } => pool.servers.get(*server).cloned(),
        };
        found.unwrap_or_else(|| HostPort {
            host: "nobody.invalid".to_owned(),
            port: 0,
        })
    }

    /// A seat at an upper tier: this node has no more under way there than it may.
    pub(crate) fn seat(&self, node: &Node) -> Result<Option<OwnedSemaphorePermit>, SendError> {
        let Self::Upper(at) = self else {
            return Ok(None);
        };
        let upper = node.upstreams.uppers.get(*at).ok_or(SendError::Ours)?;
        let seat = Arc::clone(&upper.seats).try_acquire_owned();
        seat.map(Some).map_err(|_| {
            let metrics = node.observer.metrics();
            metrics.upper_tier_full(&upper.config.name);
            SendError::UpperFull
        })
    }

    /// Says that its turn has come. Where its time down is over this is its trial,
    /// and until that is over the order puts it last for everybody else.
    fn take_turn(&self, node: &Node, now_ms: u64) {
        match self {
            Self::Upper(at) => {
                node.upstreams.begin_trial(*at, now_ms);
            }
            Self::Origin { pool, server, .. } => {
                let mut origins = node.upstreams.origins.lock();
                let seen = pool.servers.get(*server).and_then(|at| origins.get_mut(at));
                if let Some(seen) = seen {
                    seen.health.begin_trial(now_ms);
                }
            }
        }
    }

    /// Peers for pingora's connector, one for each address, in order; or why there
    /// is no address. `host` is
    /// the authority that will be sent, for SNI where the pool names none.
    pub(crate) async fn peers(
        &self,
        node: &Node,
        host: &str,
        now_ms: u64,
    ) -> Result<SmallVec<[HttpPeer; 2]>, String> {
        self.take_turn(node, now_ms);
        let tls = match self {
            Self::Upper(at) => node
                .upstreams
                .uppers
                .get(*at)
                .and_then(|upper| upper.tls.as_ref()),
            Self::Origin { tls, .. } => tls.as_ref(),
        };
        let tls = tls.map(|tls| tls.now());
        let addresses = node
            .upstreams
            .resolver
            .resolve(&self.address(node), node.config.timeouts.connect_ms, now_ms)
            .await?;
        Ok(addresses
            .into_iter()
            .map(|address| peer(node, address, tls.as_deref(), host))
            .collect())
    }

    /// Takes note of how long its answer took, or of how long it was waited for.
    pub(crate) fn took(&self, node: &Node, us: u64) {
        if let Self::Upper(at) = self
            && let Some(upper) = node.upstreams.uppers.get(*at)
        {
            upper.latency.lock().observe(us);
        }
    }

    /// Takes note of how long a connection to it took to make. Smoothed, since one that
    /// lost a packet says little about the next.
    pub(crate) fn connected(&self, node: &Node, us: u64) {
        if let Self::Upper(at) = self
            && let Some(upper) = node.upstreams.uppers.get(*at)
        {
            let smooth = |old: u64| match old {
                0 => us.max(1),
                old => (old * 7 / 8).saturating_add(us / 8).max(1),
            };
            let (order, seen) = (Ordering::Relaxed, &upper.connect_us);
            // It always says Ok: the function never declines.
            let _ = seen.fetch_update(order, order, |old| Some(smooth(old)));
        }
    }

    /// Takes note of how it went, and tells when that changed its state.
    pub(crate) fn report(&self, node: &Node, now_ms: u64, result: Result<(), Failure>) {
        self.report_after(node, now_ms, self.head_wait_ms(node), result);
    }

    /// The same of an attempt that waited for `wait_ms` at most.
    fn report_after(&self, node: &Node, now_ms: u64, wait_ms: u64, result: Result<(), Failure>) {
        let upstreams = &node.upstreams;
        if result == Err(Failure::Connect) {
            upstreams.resolver.doubt(&self.address(node));
        }
        match self {
            Self::Upper(at) => {
                let Some(upper) = upstreams.uppers.get(*at) else {
                    return;
                };
                let pool = match result {
                    Ok(()) => Pool::ALONE,
                    Err(_) => upstreams.pool_of_uppers(*at, now_ms),
                };
                let transition = upper.health.lock().note(pool, now_ms, wait_ms, result);
                let peer = upper.config.name.clone();
                match transition {
                    Transition::None => {}
                    Transition::WentDown => {
                        let why = result.err().map_or("", Failure::as_str).to_owned();
                        node.observer
                            .event(Event::UpperTierDown { peer, why }, now_ms);
                    }
                    Transition::CameUp => {
                        node.observer.event(Event::UpperTierUp { peer }, now_ms);
                    }
                }
            }
            Self::Origin { pool, server, .. } => {
                let Some(address) = pool.servers.get(*server) else {
                    return;
                };
                let mut origins = upstreams.origins.lock();
                let others = pool.servers.iter().filter(|other| *other != address);
                let seen_from_it = Pool {
                    size: pool.servers.len(),
                    others_out: others
                        .filter_map(|other| origins.get(other))
                        .filter(|other| other.is_out(now_ms))
                        .count(),
                };
                origins
                    .entry(address.clone())
                    .or_insert_with(|| Watched::origin(upstreams.rules))
                    .note(seen_from_it, now_ms, wait_ms, result);
            }
        }
    }
}

/// The rules as an operator wrote them.
fn rules(config: &config::Health) -> HealthRules {
    HealthRules {
        failures_to_down: config.failures_to_down,
        recent: config.recent,
        recent_failures_to_down: config.recent_failures_to_down,
        out_permille_max: (config.out_ratio_max * 1000.0) as u32,
        down_ms: config.down_ms,
        warm_ms: config.warm_ms,
        ..HealthRules::default()
    }
}

fn peer(node: &Node, address: SocketAddr, tls: Option<&PeerTls>, host: &str) -> HttpPeer {
    let sni = tls.map_or_else(String::new, |tls| {
        if tls.sni.is_empty() {
            host_only(host).to_owned()
        } else {
            tls.sni.clone()
        }
    });
    let mut peer = HttpPeer::new(address, tls.is_some(), sni);
    let timeouts = &node.config.timeouts;
    peer.options.connection_timeout = Some(Duration::from_millis(timeouts.connect_ms));
    peer.options.total_connection_timeout = Some(Duration::from_millis(timeouts.connect_ms));
    peer.options.read_timeout = Some(Duration::from_millis(timeouts.between_bytes_ms));
    peer.options.write_timeout = Some(Duration::from_millis(timeouts.write_ms));
    peer.options.idle_timeout = Some(Duration::from_millis(timeouts.pool_idle_ms));
    if let Some(tls) = tls {
        peer.options.verify_cert = tls.verify;
        peer.options.verify_hostname = tls.verify;
        peer.options.ca = tls.ca.clone();
        peer.client_cert_key = tls.client.clone();
    }
    peer
}

/// The host of an authority, without port and brackets.
pub(crate) fn host_only(authority: &str) -> &str {
    if let Some(rest) = authority.strip_prefix('[') {
        return rest.split(']').next().unwrap_or(rest);
    }
    authority.split(':').next().unwrap_or(authority)
}

/// A pause for a timeout that configuration gave in milliseconds.
pub(crate) fn millis(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW_MS: u64 = 1_700_000_000_000;
    const WAIT_MS: u64 = 20_000;

    fn server(last: u8) -> HostPort {
        HostPort {
            host: format!("192.0.2.{last}"),
            port: 80,
        }
    }

    #[test]
    fn ordering_claims_no_trial_and_puts_those_last_that_are_down() {
        let config = config::parse_node(
            "role = \"edge\"\nname = \"e\"\nsites = \"s\"\n\
             [[listen]]\naddress = \"127.0.0.1:0\"\n",
            std::path::Path::new("edge.toml"),
            config::Role::Edge,
        );
        let upstreams = Upstreams::new(&config.unwrap().node).unwrap();
        let pool = OriginPool {
            name: "shop".to_owned(),
            servers: (0..3).map(server).collect(),
            host_header: None,
            tls: None,
            places: config::Places::pool(),
        };
        let mut down = Watched::origin(HealthRules::default());
        down.note(Pool::ALONE, NOW_MS, WAIT_MS, Err(Failure::Connect));
        let until_ms = NOW_MS + HealthRules::default().down_ms;
        upstreams.origins.lock().insert(server(1), down);
        for _ in 0..20 {
            let order = upstreams.origin_order(&pool, until_ms - 1);
            assert_eq!((order.len(), order.last()), (3, Some(&1)));
        }
        let mut first = [false; 3];
        for _ in 0..200 {
            let order = upstreams.origin_order(&pool, until_ms);
            first[order[0]] = true;
        }
        assert_eq!(first, [true; 3], "each is asked first now and then");
        let state = upstreams.origins.lock()[&server(1)].health.state(until_ms);
        assert_eq!(state, State::Trial, "and nobody has claimed it");
    }
}
