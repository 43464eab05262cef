//! From checked configuration to a serving node, and back to nothing.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use config::{AccessLog, Loaded, LogLevel, OtlpSignal, Role};
use observe::{Event, Fault, InFlightRow, Observer, Otlp, OtlpProtocol, Settings};
use pingora_core::apps::http_app::HttpServer;
use pingora_core::apps::{HttpServerOptions, ServerApp};
use pingora_core::protocols::l4::stream::Stream as L4Stream;
use pingora_core::server::configuration::ServerConf;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

use crate::admin::Admin;
use crate::certificates::{self, Renewable};
use crate::clock::Clock;
use crate::door::accept::{Listening, accept};
use crate::door::tls;
use crate::live::Live;
use crate::pass::{Pass, Proxy};
use crate::state::Node;
use crate::upstream::millis;
use crate::upstream::{Upstreams, probe};

/// Ways one passed request may try, pingora's count included.
const PASS_TRIES_MAX: usize = 8;

/// How long the observer may take to flush at the end.
const FLUSH: Duration = Duration::from_secs(3);

/// How long what was cut may take to notice.
const CUT: Duration = Duration::from_secs(1);

/// Requests that are named where a drain has to cut them; the rest is counted.
const CUT_NAMED_MAX: usize = 10;

/// Connections of the administrative listener, each for one request and not for
/// longer than that: it must answer when everything else is in disorder.
const ADMIN_CONNECTIONS_MAX: usize = 64;
const ADMIN_REQUEST: Duration = Duration::from_secs(30);

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
    node: Arc<Node>,
    addresses: Vec<SocketAddr>,
    admin: SocketAddr,
    admin_task: JoinHandle<()>,
    draining: watch::Sender<bool>,
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
    let (draining, watch_draining) = watch::channel(false);
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
        watch_draining.clone(),
    );
    let mut listeners = Vec::new();
    let mut addresses = Vec::new();
    let mut certificates: Vec<Arc<dyn Renewable>> = Vec::new();
    for listener in &node.config.listeners {
        let socket = bind(&name, "visitors", listener.address).await?;
        addresses.push(socket.local_addr().unwrap_or(listener.address));
        let acceptor = listener
            .tls
            .as_ref()
            .map(|tls| tls::kept(tls, listener.http2).map(Arc::new))
            .transpose()
            .map_err(|problem| material(vec![problem]))?;
        if let Some(acceptor) = &acceptor {
            certificates.push(Arc::clone(acceptor) as Arc<dyn Renewable>);
        }
        let listening = Listening {
            tls: acceptor,
            proxy_protocol: listener.proxy_protocol,
            http2: listener.http2,
        };
        listeners.push((socket, Arc::new(listening)));
    }
    let admin_socket = bind(&name, "admin", node.config.admin.address).await?;
    let admin = admin_socket
        .local_addr()
        .unwrap_or(node.config.admin.address);
    let proxy = proxy(&node);
    for (socket, listening) in listeners {
        tokio::spawn(accept(
            Arc::clone(&node),
            Arc::clone(&proxy),
            socket,
            listening,
            watch_draining.clone(),
        ));
    }
    for upper in 0..node.upstreams.uppers.len() {
        tokio::spawn(probe::watch(
            Arc::clone(&node),
            upper,
            watch_draining.clone(),
        ));
    }
    tokio::spawn(certificates::watch(
        Arc::clone(&node),
        certificates.clone(),
        watch_draining,
    ));
    let admin_task = tokio::spawn(serve_admin(Arc::clone(&node), admin_socket, admin));
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
        draining,
        certificates,
        config_path: options.config_path,
    })
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

    /// Stops accepting; what is under way goes on.
    pub fn begin_drain(&self) {
        let first = self.draining.send_if_modified(|draining| {
            let first = !*draining;
            *draining = true;
            first
        });
        if first {
            let event = Event::Stopping {
                why: "asked to drain".to_owned(),
            };
            self.node.observer.event(event, self.node.now_ms());
        }
    }

    /// Stops accepting and returns when the last request is over. What lasts longer
    /// than `drain_ms` is cut, and named in the log.
    pub async fn drain(self) {
        self.begin_drain();
        let work = &self.node.work;
        let patience = millis(self.node.config.timeouts.drain_ms);
        if tokio::time::timeout(patience, work.is_over())
            .await
            .is_err()
        {
            self.tell_what_is_cut();
            work.cut();
            // A fill has no reader any more; it ends with the process.
            let _ = tokio::time::timeout(CUT, work.is_over()).await;
        }
        let observer = self.node.observer.clone();
        let flushed = tokio::task::spawn_blocking(move || observer.shutdown(FLUSH));
        let _ = flushed.await;
        // The drain was watched through it, to its end.
        self.admin_task.abort();
        let _ = self.admin_task.await;
    }

    fn tell_what_is_cut(&self) {
        let now_ms = self.node.now_ms();
        let requests = self.node.observer.in_flight(now_ms);
        let message = what_is_cut(
            self.node.config.timeouts.drain_ms,
            self.node.work.count(),
            &requests,
        );
        let level = observe::Level::Warn;
        self.node
            .observer
            .event(Event::Note { level, message }, now_ms);
    }
}

/// What a drain that lasted too long leaves behind.
fn what_is_cut(drain_ms: u64, pieces: usize, requests: &[InFlightRow]) -> String {
    let mut message = format!(
        "the drain was not over after `drain_ms` ({drain_ms} ms): cut {pieces} connections and fills"
    );
    for (at, row) in requests.iter().take(CUT_NAMED_MAX).enumerate() {
        message += if at == 0 { ", among them " } else { "; " };
        message += &format!(
            "{} {}{} for {} after {} ms",
            row.method, row.host, row.path, row.client, row.age_ms
        );
    }
    let unnamed = requests.len().saturating_sub(CUT_NAMED_MAX);
    if unnamed > 0 {
        message += &format!("; and {unnamed} more requests");
    }
    message
}

async fn bind(
    node: &str,
    listener: &'static str,
    address: SocketAddr,
) -> Result<TcpListener, StartError> {
    TcpListener::bind(address)
        .await
        .map_err(|error| StartError::Listen {
            node: node.to_owned(),
            listener,
            address,
            why: error.to_string(),
        })
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

/// The administrative listener serves until a drain is over, since that is watched
/// through it. Its connections end with this task.
async fn serve_admin(node: Arc<Node>, socket: TcpListener, address: SocketAddr) {
    // pingora keeps no connection for another request where a shutdown is near.
    let (_near, shutdown) = watch::channel(true);
    let app = Arc::new(HttpServer::new_app(Admin {
        on_loopback: address.ip().is_loopback(),
        node,
    }));
    let mut connections = JoinSet::new();
    loop {
        // The others wait in the system's queue.
        let has_room = connections.len() < ADMIN_CONNECTIONS_MAX;
        tokio::select! {
            Some(_) = connections.join_next() => {}
            accepted = socket.accept(), if has_room => match accepted {
                Ok((stream, _)) => {
                    let (app, shutdown) = (Arc::clone(&app), shutdown.clone());
                    connections.spawn(async move {
                        let stream = Box::new(L4Stream::from(stream));
                        let serving = app.process_new(stream, &shutdown);
                        let _ = tokio::time::timeout(ADMIN_REQUEST, serving).await;
                    });
                }
                Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            },
        }
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_drain_cuts_is_named_up_to_a_number() {
        let row = InFlightRow {
            started_ms: 0,
            age_ms: 400,
            method: "GET".to_owned(),
            host: "shop.example".to_owned(),
            path: "/live".to_owned(),
            phase: "serve",
            client: "192.0.2.1".to_owned(),
        };
        for (requests, end) in [
            (0, "cut 12 connections and fills"),
            (
                1,
                "among them GET shop.example/live for 192.0.2.1 after 400 ms",
            ),
            (10, "GET shop.example/live for 192.0.2.1 after 400 ms"),
            (12, "; and 2 more requests"),
        ] {
            let rows = vec![row.clone(); requests];
            let message = what_is_cut(300, 12, &rows);
            assert!(message.contains("`drain_ms` (300 ms)"), "{message}");
            assert!(message.ends_with(end), "{message}");
        }
    }
}
