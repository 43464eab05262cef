//! The main of a node's binary: load, serve, reload, drain.

use std::io::Write;
use std::path::Path;
use std::process::ExitCode;

use config::Role;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::start::{self, Options, Running};

/// Runs a node from its file until SIGTERM or SIGINT, or until another process takes
/// over, draining before it ends; told again while it drains, it ends at once. SIGHUP loads sites and keys anew. What is wrong goes to standard error, every
/// problem on a line of its own.
#[must_use]
pub fn run(role: Role, config_path: &Path) -> ExitCode {
    match serve(role, config_path) {
        Ok(()) => ExitCode::SUCCESS,
        Err(problems) => {
            let _ = writeln!(std::io::stderr(), "{problems}");
            ExitCode::FAILURE
        }
    }
}

fn serve(role: Role, config_path: &Path) -> Result<(), String> {
    let environment = |name: &str| std::env::var(name).ok();
    let loaded =
        config::load(config_path, role, &environment).map_err(|problems| problems.to_string())?;
    start::install_log(&loaded.node.telemetry)
        .map_err(|error| format!("the log cannot be opened: {error}; check `access_log`"))?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| format!("the runtime cannot start: {error}"))?;
    let options = Options {
        config_path: Some(config_path.to_owned()),
        ..Options::default()
    };
    runtime.block_on(async {
        // First of all: whoever sees the node serve may send it a signal, which
        // must neither be lost nor end it at once.
        let mut signals =
            Signals::new().map_err(|error| format!("signals cannot be received: {error}"))?;
        let running = start::start(loaded, options)
            .await
            .map_err(|error| error.to_string())?;
        signals.until_told(&running).await;
        running.drain_unless(signals.told_again()).await;
        Ok(())
    })
}

/// The signals of an operator.
struct Signals {
    hangup: Signal,
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Self {
            hangup: signal(SignalKind::hangup())?,
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    /// Reloads on SIGHUP; returns on SIGTERM or SIGINT, and when another process has
    /// taken over.
    async fn until_told(&mut self, running: &Running) {
        loop {
            tokio::select! {
                () = running.drain_begun() => return,
                _ = self.hangup.recv() => {
                    // The outcome is an event in the log either way.
                    let _ = running.reload();
                }
                _ = self.terminate.recv() => return,
                _ = self.interrupt.recv() => return,
            }
        }
    }

    /// Returns on the next SIGTERM or SIGINT, with its name.
    async fn told_again(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "another SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}
