//! From checked configuration to a serving node, and back to nothing.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use config::{AccessLog, Loaded, LogLevel, OtlpSignal, Role};
use observe::{Event, Fault, Observer, Otlp, OtlpProtocol, Settings};
use pingora_core::apps::HttpServerOptions;
use pingora_core::server::configuration::ServerConf;
use tokio::task::JoinHandle;

use crate::admin;
use crate::certificates::{self, Renewable};
use crate::clock::Clock;
use crate::door::accept::{Listening, accept};
use crate::door::tls;
use crate::drain::Drain;
use crate::handover;
use crate::listen::listen;
use crate::live::Live;
use crate::pass::{Pass, Proxy};
use crate::state::Node;
use crate::upstream::{Upstreams, probe};

/// Ways one passed request may try, pingora's count included.
const PASS_TRIES_MAX: usize = 8;

/// pingora's pool of connections says "error" where a connection was lost to a race
/// and another one is opened. What fails for good is in our own records.
const QUIET: [&str; 1] = ["pingora_core::connectors"];

/// How a node is started, beyond its configuration.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// The node's own file, read anew on reload. None: reloading is refused.
    pub config_path: Option<PathBuf>,
    /// How the node's observer is to fail. Only tests wish for that.
    pub observer_fault: Option<Fault>,
    /// What the node takes the time of day from. Only tests move it themselves.
    pub clock: Clock,
}

/// Why a node did not start: our configuration or our system is at fault.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StartError {
    /// A port cannot be listened on.
    Listen {
        /// The node that wanted it.
        node: String,
        /// Which listener.
        listener: &'static str,
        /// The address.
        address: SocketAddr,
        /// What the system says.
        why: String,
    },
    /// The process before this one did not hand its sockets over.
    HandOver {
        /// The node.
        node: String,
        /// Where it was asked.
        path: PathBuf,
        /// What went wrong.
        why: String,
    },
    /// Keys or certificates do not hold what they should.
    Material {
        /// The node.
        node: String,
        /// One sentence a problem, with its file.
        problems: Vec<String>,
    },
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Listen {
                node,
                listener,
                address,
                why,
            } => write!(
                f,
                "{node}: cannot listen on {address} ({listener}): {why}; stop what uses it or change `address`"
            ),
            Self::HandOver { node, path, why } => write!(
                f,
                "{node}: nothing is handed over at {}: {why}; the process that serves goes on",
                path.display()
            ),
            Self::Material { node, problems } => {
                for (at, problem) in problems.iter().enumerate() {
                    if at > 0 {
                        writeln!(f)?;
                    }
                    write!(f, "{node}: {problem}")?;
                }
                Ok(())
            }
        }
    }
}

impl std::error::Error for StartError {}

/// A serving node.
#[derive(Debug)]
pub struct Running {
    pub(crate) node: Arc<Node>,
    addresses: Vec<SocketAddr>,
    admin: SocketAddr,
    pub(crate) admin_task: JoinHandle<()>,
    pub(crate) drain: Arc<Drain>,
    /// What the listeners show.
    certificates: Vec<Arc<dyn Renewable>>,
    config_path: Option<PathBuf>,
}

/// Starts a node inside the current tokio runtime. When this returns, its
/// listeners accept.
///
/// # Errors
/// When a port cannot be listened on, or keys or certificates are not usable.
pub async fn start(loaded: Loaded, options: Options) -> Result<Running, StartError> {
    let Loaded {
        node: config,
        sites,
        keys,
        warnings,
    } = loaded;
    let name = config.name.clone();
    let material = |problems| StartError::Material {
        node: name.clone(),
        problems,
    };
    let live = Live::new(sites, &keys).map_err(material)?;
    if config.role == Role::UpperTier && live.keyring.is_empty() {
        return Err(material(vec![
            "an upper tier needs the keys of its edges; name them in [keys]".to_owned(),
        ]));
    }
    if !config.upper_tiers.is_empty() && live.keyring.signing(&config.name).is_none() {
        return Err(material(vec![format!(
            "no key to sign with: make one with `headwater keygen {name}` and name its file in [keys]"
        )]));
    }
    let upstreams = Upstreams::new(&config).map_err(material)?;
    // Whatever may fail has been tried before a process that serves lets go.
    let (doors, certificates) = doors(&config).map_err(|problem| material(vec![problem]))?;
    let drain = Arc::new(Drain::default());
    let observer = Observer::start(Settings {
        fault: options.observer_fault,
        ..settings(&config, options.clock.now_ms())
    });
    observer
        .metrics()
        .declare_peers(config.upper_tiers.iter().map(|upper| upper.name.as_str()));
    let node = Node::new(
        config,
        live,
        upstreams,
        observer,
        options.clock,
        drain.watch(),
    );
    let proxy = proxy(&node);
    let bound = listen(&node.config).await?;
    let mut addresses = Vec::new();
    for ((socket, door), listener) in bound
        .visitors
        .into_iter()
        .zip(doors)
        .zip(&node.config.listeners)
    {
        addresses.push(socket.local_addr().unwrap_or(listener.address));
        let (node, proxy, drain) = (Arc::clone(&node), Arc::clone(&proxy), Arc::clone(&drain));
        tokio::spawn(accept(node, proxy, socket, door, drain));
    }
    let admin = bound.admin.local_addr();
    let admin = admin.unwrap_or(node.config.admin.address);
    let (its_node, its_drain) = (Arc::clone(&node), Arc::clone(&drain));
    let admin_task = tokio::spawn(admin::serve(its_node, bound.admin, admin, its_drain));
    for upper in 0..node.upstreams.uppers.len() {
        tokio::spawn(probe::watch(Arc::clone(&node), upper, drain.watch()));
    }
    tokio::spawn(certificates::watch(
        Arc::clone(&node),
        certificates.clone(),
        drain.watch(),
    ));
    if let Some(detail) = bound.taken_over {
        let event = Event::TookOver { detail };
        node.observer.event(event, node.now_ms());
    }
    if let Some((place, sockets)) = bound.next {
        handover::begin(&node, place, sockets, &drain);
    }
    for warning in warnings {
        let event = Event::Note {
            level: observe::Level::Warn,
            message: warning.to_string(),
        };
        node.observer.event(event, node.now_ms());
    }
    let detail = format!("visitors on {addresses:?}, admin on {admin}");
    node.observer
        .event(Event::Started { detail }, node.now_ms());
    Ok(Running {
        node,
        addresses,
        admin,
        admin_task,
        drain,
        certificates,
        config_path: options.config_path,
    })
}

/// How each listener is spoken to, and what they show.
type Doors = (Vec<Arc<Listening>>, Vec<Arc<dyn Renewable>>);

fn doors(config: &config::Node) -> Result<Doors, String> {
    let mut doors = Vec::new();
    let mut certificates: Vec<Arc<dyn Renewable>> = Vec::new();
    for listener in &config.listeners {
        let acceptor = listener
            .tls
            .as_ref()
            .map(|tls| tls::kept(tls, listener.http2).map(Arc::new))
            .transpose()?;
        if let Some(acceptor) = &acceptor {
            certificates.push(Arc::clone(acceptor) as Arc<dyn Renewable>);
        }
        doors.push(Arc::new(Listening {
            tls: acceptor,
            proxy_protocol: listener.proxy_protocol,
            http2: listener.http2,
        }));
    }
    Ok((doors, certificates))
}

impl Running {
    pub(crate) fn node(&self) -> &Node {
        &self.node
    }

    /// Fills under way, those included that nobody waits for.
    #[must_use]
    pub fn fills_in_flight(&self) -> u64 {
        self.node.observer.metrics().fills_in_flight()
    }

    /// The node's name.
    #[must_use]
    pub fn name(&self) -> &str {
        self.node.name()
    }

    /// Where requests come in, in the order of the configuration.
    #[must_use]
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Where the administrative listener is.
    #[must_use]
    pub fn admin_address(&self) -> SocketAddr {
        self.admin
    }

    /// Loads sites, keys and certificates anew, whole, and swaps them in one step.
    ///
    /// # Errors
    /// Every problem found, one a line. Nothing has changed then.
    pub fn reload(&self) -> Result<(), String> {
        let outcome = self.load_anew();
        let event = match &outcome {
            Ok(()) => Event::Reloaded {
                what: "sites, keys and certificates".to_owned(),
            },
            Err(why) => Event::ReloadFailed { why: why.clone() },
        };
        self.node.observer.event(event, self.node.now_ms());
        outcome
    }

    fn load_anew(&self) -> Result<(), String> {
        let path = self
            .config_path
            .as_ref()
            .ok_or("this node was not started from a file")?;
        let environment = |name: &str| std::env::var(name).ok();
        let loaded = config::load(path, self.node.config.role, &environment)
            .map_err(|problems| problems.to_string())?;
        let live = Live::new(loaded.sites, &loaded.keys).map_err(|problems| problems.join("\n"))?;
        let signs = !self.node.config.upper_tiers.is_empty();
        if signs && live.keyring.signing(self.node.name()).is_none() {
            return Err(format!(
                "no key to sign with is left for {}; the old keys stay in force",
                self.node.name()
            ));
        }
        // Everything is read before anything is in force. What belongs to the pools
        // came with `live`.
        let kept = certificates::own(&self.node, &self.certificates);
        let (read, problems): (Vec<_>, Vec<_>) = kept
            .iter()
            .map(|certificates| certificates.renewed())
            .partition(Result::is_ok);
        if !problems.is_empty() {
            let problems: Vec<_> = problems.into_iter().filter_map(Result::err).collect();
            return Err(problems.join("\n"));
        }
        read.into_iter().flatten().for_each(|accept| accept());
        self.node.live.store(Arc::new(live));
        Ok(())
    }
}

fn proxy(node: &Arc<Node>) -> Arc<Proxy> {
    let conf = ServerConf {
        max_retries: PASS_TRIES_MAX,
        ..ServerConf::default()
    };
    let pass = Pass {
        node: Arc::clone(node),
    };
    let mut proxy = Proxy::new(pass, Arc::new(conf));
    proxy.server_options = Some(HttpServerOptions::default());
    proxy.handle_init_modules();
    Arc::new(proxy)
}

fn settings(config: &config::Node, started_ms: u64) -> Settings {
    let telemetry = &config.telemetry;
    Settings {
        node: config.name.clone(),
        role: match config.role {
            Role::Edge => "edge",
            Role::UpperTier => "upper-tier",
        },
        access_log: telemetry.access_log != AccessLog::Off,
        hit_log_ratio: telemetry.hit_log_ratio,
        otlp: telemetry
            .otlp_endpoint
            .clone()
            .map(|endpoint| otlp(endpoint, telemetry)),
        trace_ratio: telemetry.trace_ratio,
        slow_ms: telemetry.slow_ms,
        log_level: level(telemetry.log_level),
        started_ms,
        queue_records_max: telemetry.queue_records_max,
        fault: None,
    }
}

/// Where telemetry goes, and what of it.
fn otlp(endpoint: String, telemetry: &config::Telemetry) -> Otlp {
    let headers = telemetry.otlp_headers.iter();
    let exports = |signal| telemetry.otlp_signals.contains(&signal);
    Otlp {
        endpoint,
        protocol: match telemetry.otlp_protocol {
            config::OtlpProtocol::HttpProtobuf => OtlpProtocol::HttpProtobuf,
            config::OtlpProtocol::Grpc => OtlpProtocol::Grpc,
        },
        ca_pem: telemetry.otlp_ca.clone(),
        headers: headers
            .map(|(name, value)| (name.clone(), value.expose().to_owned()))
            .collect(),
        traces: exports(OtlpSignal::Traces),
        logs: exports(OtlpSignal::Logs),
        metrics: exports(OtlpSignal::Metrics),
        metrics_interval_ms: telemetry.metrics_interval_ms,
    }
}

/// Opens the process's log as a node's configuration says. A process has one; the
/// first call decides, and later ones change nothing.
///
/// # Errors
/// When the log's file cannot be opened.
pub fn install_log(telemetry: &config::Telemetry) -> std::io::Result<()> {
    let (target, level) = log_target(telemetry);
    observe::install_log(&target, level, &QUIET).map(drop)
}

/// Where and from what level the process logs.
fn log_target(telemetry: &config::Telemetry) -> (observe::LogTarget, observe::Level) {
    let target = match &telemetry.access_log {
        AccessLog::Off => observe::LogTarget::Stderr,
        AccessLog::Stdout => observe::LogTarget::Stdout,
        AccessLog::Stderr => observe::LogTarget::Stderr,
        AccessLog::File(path) => observe::LogTarget::File(path.clone()),
    };
    (target, level(telemetry.log_level))
}

fn level(level: LogLevel) -> observe::Level {
    match level {
        LogLevel::Error => observe::Level::Error,
        LogLevel::Warn => observe::Level::Warn,
        LogLevel::Info => observe::Level::Info,
        LogLevel::Debug => observe::Level::Debug,
        LogLevel::Trace => observe::Level::Trace,
    }
}
