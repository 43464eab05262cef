//! The running demo: start everything, wait for a signal, end with the last request.

use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::path::Path;

use config::{AccessLog, Loaded, LogLevel, Role};
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::eject::{self, TemporaryFolder};
use super::node::{self, Running};
use super::plan::{EjectedFile, Plan};
use super::{ports, show};
use crate::failure::Failure;
use crate::{origin, signals};

/// Runs the plan until SIGINT or SIGTERM. `files` are the plan's, `origin_address`
/// is where the demo origin listens, if it is wanted.
pub(super) async fn run(
    plan: Plan,
    files: Vec<EjectedFile>,
    origin_address: Option<SocketAddr>,
) -> Result<(), Failure> {
    // First of all, so that a signal during the start tidies up as well.
    let stop = signals::stop()?;
    let folder = TemporaryFolder::new()
        .map_err(|error| Failure::because(format!("no folder for the demo's files: {error}")))?;
    eject::eject(&files, folder.path())?;
    let loaded = load(&plan, folder.path())?;
    ports::check_free(&plan, origin_address)?;

    let origin = match origin_address {
        Some(address) => Some(DemoOrigin::start(address).await?),
        None => None,
    };
    let mut topology = Topology {
        edges: Vec::new(),
        uppers: Vec::new(),
        origin,
    };
    if let Some(first) = loaded.first() {
        node::install_log(first)?;
    }
    for loaded in loaded {
        topology.start(loaded).await?;
    }
    io::stdout().write_all(show::running(&plan, origin_address).as_bytes())?;

    stop.await;
    let again = signals::stop()?;
    writeln!(
        io::stdout(),
        "\nEnding with the last request; Ctrl-C again ends at once."
    )?;
    tokio::select! {
        () = topology.drain() => {}
        () = again => {}
    }
    Ok(())
}

/// The nodes' configurations, upper tiers first: edges find theirs at once then.
/// Warnings are printed, each once.
fn load(plan: &Plan, folder: &Path) -> Result<Vec<Loaded>, Failure> {
    let env = |name: &str| std::env::var(name).ok();
    let mut all = Vec::new();
    let mut warnings = Vec::new();
    for node in plan.uppers().chain(plan.edges()) {
        let path = folder.join(format!("{}.toml", node.name()));
        let mut loaded = config::load(&path, node.role, &env).map_err(Failure::because)?;
        // Ejected nodes log to their own terminals. Here all share the one where the
        // table of listeners is to be read, so only what is wrong is said.
        loaded.node.telemetry.access_log = AccessLog::Off;
        loaded.node.telemetry.log_level = LogLevel::Warn;
        warnings.extend(loaded.warnings.iter().map(ToString::to_string));
        all.push(loaded);
    }
    warnings.sort();
    warnings.dedup();
    for warning in warnings {
        writeln!(io::stderr(), "warning: {warning}")?;
    }
    Ok(all)
}

/// Everything that runs.
struct Topology {
    edges: Vec<Running>,
    uppers: Vec<Running>,
    origin: Option<DemoOrigin>,
}

impl Topology {
    async fn start(&mut self, loaded: Loaded) -> Result<(), Failure> {
        let tier = match loaded.node.role {
            Role::Edge => &mut self.edges,
            Role::UpperTier => &mut self.uppers,
        };
        tier.push(node::start(loaded).await?);
        Ok(())
    }

    /// From the visitors' side inwards: who may still ask ends before who answers.
    async fn drain(self) {
        for tier in [self.edges, self.uppers] {
            let draining: Vec<_> = tier
                .into_iter()
                .map(|node| tokio::spawn(node.drain()))
                .collect();
            for drained in draining {
                // A node that failed while draining has ended all the same.
                let _ = drained.await;
            }
        }
        if let Some(origin) = self.origin {
            origin.drain().await;
        }
    }
}

/// The demo origin as a task of this process.
struct DemoOrigin {
    stop: oneshot::Sender<()>,
    serving: JoinHandle<io::Result<()>>,
}

impl DemoOrigin {
    async fn start(address: SocketAddr) -> Result<Self, Failure> {
        let listener = TcpListener::bind(address).await.map_err(|error| {
            Failure::because(format!(
                "the demo origin cannot listen on {address} ({error}); --base-port PORT moves all ports"
            ))
        })?;
        let (stop, stopped) = oneshot::channel();
        let serving = tokio::spawn(origin::serve(listener, async move {
            // A sender that is gone means the same as one that has spoken.
            let _ = stopped.await;
        }));
        Ok(Self { stop, serving })
    }

    async fn drain(self) {
        // Where the receiver is gone the origin has ended already.
        let _ = self.stop.send(());
        let _ = self.serving.await;
    }
}
