//! The two signals that end a long-running command.

use std::future::Future;
use std::io;

use tokio::signal::unix::{SignalKind, signal};

/// Completes at the next SIGINT (Ctrl-C) or SIGTERM. From the call on, neither
/// ends the process by itself. Fails where handlers cannot be installed.
pub(crate) fn stop() -> io::Result<impl Future<Output = ()> + Send> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    })
}
