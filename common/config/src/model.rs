//! What we trust: configuration after every check has passed.
//!
//! Nothing here can be wrong in a way that a node would notice at request time.
//! `file.rs` is the only place that builds these values from what an operator
//! wrote; everything else reads them.
//!
//! Times are milliseconds, sizes bytes.

mod cache;
mod timeouts;

use std::collections::HashMap;
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use ipnet::IpNet;

pub use self::cache::{Cache, KeyRules, PathQuery, Pattern, QueryRule, Rule, SetCookie};
pub use self::timeouts::Timeouts;

/// Everything one node runs with: its own file, the shared sites and its keys.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// The node's own file.
    pub node: Node,
    /// The sites shared by all nodes.
    pub sites: Sites,
    /// Signing keys as text, not yet parsed; `control` knows their format.
    pub keys: Vec<KeyText>,
    /// Things that work but deserve a look, ready to print.
    pub warnings: Vec<crate::Problem>,
}

/// Which side of the hierarchy a node stands on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Serves visitors.
    Edge,
    /// Serves edges and regional tiers. It talks to origins, or, where it has upper
    /// tiers itself and the site is `regional`, to these.
    UpperTier,
}

/// One node's own configuration (`edge.toml` or `upper-tier.toml`).
#[derive(Debug, Clone)]
pub struct Node {
    /// The node's name: unique in the topology, used in `Via`, `Cache-Status`,
    /// `CDN-Loop`, the control block and every metric. Token characters only.
    pub name: String,
    /// Edge or upper tier.
    pub role: Role,
    /// Where requests come in.
    pub listeners: Vec<Listener>,
    /// Where `/metrics`, `/healthz`, `/readyz` and `/purge` live.
    pub admin: Admin,
    /// Peers whose `Forwarded` and `X-Forwarded-*` fields we believe.
    pub trusted_proxies: Vec<IpNet>,
    /// The upper tiers this node may ask, in file order. Empty at an upper tier that is
    /// no regional one, and at an edge that goes straight to the origin.
    pub upper_tiers: Vec<UpperTier>,
    /// The object store.
    pub store: Store,
    /// Bounds on what a peer can make us hold.
    pub limits: Limits,
    /// Bounds on how long we wait.
    pub timeouts: Timeouts,
    /// When an upstream is asked, and when not.
    pub health: Health,
    /// Who is asked what address a name has; none: whom the system names.
    pub name_servers: Vec<SocketAddr>,
    /// The Unix socket at which an edge hands its listening sockets to the process
    /// that comes after it. None: they end with the process.
    pub handover: Option<PathBuf>,
    /// Logs, spans and their sampling.
    pub telemetry: Telemetry,
    /// The sites file this node loaded and loads anew on SIGHUP.
    pub sites_file: PathBuf,
}

/// One listening socket.
#[derive(Debug, Clone)]
pub struct Listener {
    /// Address and port; port 0 lets the system choose.
    pub address: SocketAddr,
    /// TLS, where the listener speaks it.
    pub tls: Option<ListenerTls>,
    /// Expect a PROXY protocol header (v1 or v2) before anything else.
    pub proxy_protocol: bool,
    /// Speak HTTP/2: h2c by prior knowledge in the clear, by ALPN over TLS.
    pub http2: bool,
}

/// Certificates of a listener, as PEM files that exist and could be read.
#[derive(Debug, Clone)]
pub struct ListenerTls {
    /// Certificate chain, leaf first.
    pub certificate: PathBuf,
    /// Private key.
    pub key: PathBuf,
    /// When set, clients must present a certificate signed by one of these.
    pub client_ca: Option<PathBuf>,
}

/// The administrative listener.
#[derive(Debug, Clone)]
pub struct Admin {
    /// Address and port; loopback unless the operator says otherwise.
    pub address: SocketAddr,
    /// Bearer token demanded for `POST` when the listener is not on loopback.
    pub token: Option<Secret>,
}

/// An upper tier as a node that asks it knows it.
#[derive(Debug, Clone)]
pub struct UpperTier {
    /// The name the upper tier signs with.
    pub name: String,
    /// Where it listens.
    pub address: HostPort,
    /// TLS towards it, where wanted.
    pub tls: Option<UpstreamTls>,
    /// Requests under way there at once; beyond it the next way is taken.
    pub in_flight_max: usize,
    /// Its share of the keys, against the weights of the others. One of weight 0 is
    /// asked when no other is left.
    pub weight: u32,
    /// What it is, seen from an edge.
    pub tier: Tier,
}

/// What an upper tier is, seen from an edge.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tier {
    /// It talks to origins.
    Upper,
    /// It stands between the edges of a region and the upper tiers.
    Regional,
}

/// TLS towards an upstream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UpstreamTls {
    /// Name sent in SNI and checked against the certificate.
    pub sni: String,
    /// Certificate authorities to trust instead of the system's.
    pub ca: Option<PathBuf>,
    /// Client certificate chain and key, for mutual TLS.
    pub client: Option<(PathBuf, PathBuf)>,
    /// Whether the certificate is verified at all.
    pub verify: bool,
}

/// A host name or address literal with a port.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct HostPort {
    /// Name or literal, without brackets.
    pub host: String,
    /// Port.
    pub port: u16,
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// The object store's bounds.
#[derive(Debug, Clone)]
pub struct Store {
    /// Memory for stored objects, their heads included.
    pub bytes_max: u64,
    /// A larger body streams through without being kept.
    pub object_bytes_max: u64,
    /// Variants kept under one primary key.
    pub variants_max: usize,
}

/// Bounds on what a peer can make us hold.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Request line and fields together.
    pub head_bytes_max: usize,
    /// Fields in one head.
    pub fields_max: usize,
    /// Body of a request.
    pub request_body_bytes_max: u64,
    /// Open visitor connections.
    pub connections_max: usize,
    /// Fills and passed requests under way at once: what needs upstream work.
    pub fetches_max: usize,
    /// Of a hundred of those, how many may be on a further attempt.
    pub retry_percent: u32,
    /// So many may be in any case.
    pub retries_min: usize,
    /// What one upper tier may have of this node's requests, in percent of its share by
    /// weight; beyond it a key goes to the next in its order. None: any.
    pub upper_load_percent_max: Option<u32>,
    /// Bytes of bodies being filled, over all fills of the node.
    pub fill_bytes_in_flight_max: u64,
    /// How far a fill that is not kept may run ahead of its slowest reader.
    pub fill_window_bytes: usize,
    /// Hops after which a request is a loop, however it is named.
    pub hops_max: u8,
}

/// When an upstream is asked, and when not.
#[derive(Debug, Clone)]
pub struct Health {
    /// How often an upper tier that nobody else asks is probed, milliseconds; 0: never.
    /// One that is down is probed as soon as its time down is over.
    pub probe_ms: u64,
    /// Failures in a row that put an upstream down. One to connect is enough.
    pub failures_to_down: u32,
    /// How many of its latest answers are looked at.
    pub recent: u32,
    /// Failures among them that put it down as well; 0: they never do.
    pub recent_failures_to_down: u32,
    /// Most of a pool that bad answers may put down, 0 to 1; one always may be.
    pub out_ratio_max: f64,
    /// How long one that is down is not asked, milliseconds.
    pub down_ms: u64,
    /// How long after it came up its share of keys grows to the whole, milliseconds.
    pub warm_ms: u64,
}

/// Logs, spans and their sampling.
#[derive(Debug, Clone)]
pub struct Telemetry {
    /// Where access-log lines go.
    pub access_log: AccessLog,
    /// Share of hits that get a log line, 0 to 1. Misses and errors all do.
    pub hit_log_ratio: f64,
    /// Collector for OTLP, for example `http://127.0.0.1:4318`.
    /// None: nothing is exported.
    pub otlp_endpoint: Option<String>,
    /// How the collector is spoken to.
    pub otlp_protocol: OtlpProtocol,
    /// What is exported.
    pub otlp_signals: Vec<OtlpSignal>,
    /// PEM certificates of who may vouch for the collector. None: the system's.
    pub otlp_ca: Option<String>,
    /// Header fields sent with every export.
    pub otlp_headers: Vec<(String, Secret)>,
    /// Between two exports of metrics, milliseconds.
    pub metrics_interval_ms: u64,
    /// Share of visitor requests that are traced, 0 to 1.
    pub trace_ratio: f64,
    /// Spans of requests that take so long, milliseconds, are kept unsampled.
    pub slow_ms: u64,
    /// Records waiting for the observer thread; beyond it they are dropped and counted.
    pub queue_records_max: usize,
    /// Least severe level that is logged.
    pub log_level: LogLevel,
}

/// Transports of OTLP, by the names of the OpenTelemetry specification.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OtlpProtocol {
    /// `http/protobuf`
    HttpProtobuf,
    /// `grpc`
    Grpc,
}

/// What may be exported.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OtlpSignal {
    /// Spans.
    Traces,
    /// What `/metrics` shows.
    Metrics,
    /// Access lines and events.
    Logs,
}

/// Where access-log lines go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AccessLog {
    /// Nowhere.
    Off,
    /// Standard output, one JSON object a line.
    Stdout,
    /// Standard error, one JSON object a line.
    Stderr,
    /// Appended to a file.
    File(PathBuf),
}

/// Severity, most severe first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum LogLevel {
    /// Something failed that an operator should mend.
    Error,
    /// Something that may need a look.
    Warn,
    /// The ordinary course of things.
    Info,
    /// And each request sent upstream.
    Debug,
    /// And every request and what its time went into.
    Trace,
}

/// The sites, and the index that finds one by host.
#[derive(Debug, Clone)]
pub struct Sites {
    /// Digest of the file's text, 16 hex digits: the `rev` of the control block.
    pub revision: String,
    sites: Vec<Arc<Site>>,
    exact: HashMap<String, usize>,
    /// Suffixes of `*.suffix` patterns.
    wildcards: HashMap<String, usize>,
    catch_all: Option<usize>,
}

impl Sites {
    /// Builds the index. Hosts must already be known to be distinct.
    #[must_use]
    pub fn new(revision: String, sites: Vec<Site>) -> Self {
        let mut exact = HashMap::new();
        let mut wildcards = HashMap::new();
        let mut catch_all = None;
        for (at, site) in sites.iter().enumerate() {
            for host in &site.hosts {
                match host {
                    HostPattern::Exact(name) => {
                        exact.insert(name.clone(), at);
                    }
                    HostPattern::Suffix(suffix) => {
                        wildcards.insert(suffix.clone(), at);
                    }
                    HostPattern::Any => catch_all = Some(at),
                }
            }
        }
        Self {
            revision,
            sites: sites.into_iter().map(Arc::new).collect(),
            exact,
            wildcards,
            catch_all,
        }
    }

    /// The site that serves `host` (lower case, no port, no trailing dot; an
    /// IPv6 address with or without brackets): an exact name wins over a
    /// wildcard, a longer wildcard over a shorter one.
    ///
    /// Costs a look-up a label, however many sites there are.
    #[must_use]
    pub fn find(&self, host: &str) -> Option<&Arc<Site>> {
        let unbracketed = host
            .strip_prefix('[')
            .and_then(|rest| rest.strip_suffix(']'));
        let host = unbracketed.unwrap_or(host);
        let exact = self.exact.get(host).copied();
        exact
            .or_else(|| self.find_wildcard(host))
            .or(self.catch_all)
            .and_then(|at| self.sites.get(at))
    }

    fn find_wildcard(&self, host: &str) -> Option<usize> {
        if self.wildcards.is_empty() {
            return None;
        }
        // From the left, so that the longest suffix is met first. What stands
        // before the first dot must not be empty: `*.` stands for a label.
        let dots = host.match_indices('.').filter(|(at, _)| *at > 0);
        dots.filter_map(|(at, _)| host.get(at + 1..))
            .find_map(|suffix| self.wildcards.get(suffix).copied())
    }

    /// The site of that name.
    #[must_use]
    pub fn named(&self, name: &str) -> Option<&Arc<Site>> {
        self.sites.iter().find(|site| site.name == name)
    }

    /// All sites, in file order.
    #[must_use]
    pub fn all(&self) -> &[Arc<Site>] {
        &self.sites
    }
}

/// Which hosts a site serves. Names are lower case, IPv6 addresses without
/// brackets and in their canonical form.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum HostPattern {
    /// `shop.example`
    Exact(String),
    /// `*.shop.example`: any name below, not the name itself. Holds `shop.example`.
    Suffix(String),
    /// `*`: every host no other site serves.
    Any,
}

/// One site.
#[derive(Debug, Clone)]
pub struct Site {
    /// Its name in the control block, metrics and logs. Token characters only.
    pub name: String,
    /// The hosts it serves.
    pub hosts: Vec<HostPattern>,
    /// Where its content comes from.
    pub pool: Arc<OriginPool>,
    /// How its misses travel.
    pub topology: Topology,
    /// What an edge tries, in this order, when no upper tier gives a verified
    /// answer. After the last comes 502 or 504.
    pub fallback: Vec<Fallback>,
    /// Bounds on how an edge goes to the origin past its upper tiers. A fault between
    /// the tiers hits every miss of every edge at once, and the origin is used to a few
    /// upper tiers.
    pub direct: Places,
    /// Whether a request that an upper tier answers late asks another one's store.
    pub hedge: bool,
    /// What is cached, and for how long.
    pub cache: Cache,
    /// Where something else holds than `cache` says, in file order.
    pub rules: Vec<Rule>,
    /// What tells one object from another.
    pub key: KeyRules,
    /// Whether a visitor's `traceparent` continues into our trace.
    pub trust_traceparent: bool,
}

/// How a site's misses travel from an edge.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Topology {
    /// Straight to the origin.
    Off,
    /// Over one upper tier for everything of an origin; the others stand by.
    Single,
    /// Over all upper tiers, by rendezvous hashing of the primary key.
    Hash,
    /// Over the regional tiers of an edge, and from these over their upper tiers, by
    /// rendezvous hashing of the primary key both times.
    Regional,
    /// Over the upper tier that is nearest to the origin, as this node measures it.
    Auto,
}

/// What an edge tries when the upper tiers fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fallback {
    /// A stored response that RFC 5861 or the site's defaults still allow.
    Stale,
    /// The origin itself.
    Direct,
}

/// How much one node asks of somebody at once, and who waits for that.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Places {
    /// Fetches under way at once.
    pub in_flight_max: usize,
    /// Requests that wait for one of those to end; beyond it they are refused.
    pub queue_max: usize,
    /// How long one waits, at most, and never beyond `answer_ms`.
    pub wait_ms: u64,
}

/// The servers behind a site.
#[derive(Debug, Clone)]
pub struct OriginPool {
    /// Its name in the control block. Token characters only.
    pub name: String,
    /// The servers, tried in turn.
    pub servers: Vec<HostPort>,
    /// `Host` sent to them; the visitor's where None.
    pub host_header: Option<String>,
    /// TLS towards them. An empty `sni` stands for the host that is sent.
    pub tls: Option<UpstreamTls>,
    /// Bounds on what one node asks of them.
    pub places: Places,
}

/// The text of a key file or variable, and where it came from.
#[derive(Debug, Clone)]
pub struct KeyText {
    /// File name or `environment variable NAME`, for error messages.
    pub source: String,
    /// The text; never printed.
    pub text: Secret,
}

/// Text that no formatter prints.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Takes the text into custody.
    #[must_use]
    pub fn new(text: String) -> Self {
        Self(text)
    }

    /// The text itself. Callers must not print it.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}
