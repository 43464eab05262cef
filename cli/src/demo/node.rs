//! One node of the demo, in this process: the only place that knows the `node` crate.

use config::Loaded;

use crate::failure::Failure;

/// A node that serves.
#[derive(Debug)]
pub(super) struct Running(node::Running);

/// Starts the node; it serves when this returns.
pub(super) async fn start(loaded: Loaded) -> Result<Running, Failure> {
    node::start(loaded, node::Options::default())
        .await
        .map(Running)
        .map_err(|error| Failure::because(error.to_string()))
}

/// Opens the log of this process, which all nodes share.
pub(super) fn install_log(loaded: &Loaded) -> Result<(), Failure> {
    node::install_log(&loaded.node.telemetry)
        .map_err(|error| Failure::because(format!("the log cannot be opened: {error}")))
}

impl Running {
    /// Stops accepting, and ends with the last request under way.
    pub(super) async fn drain(self) {
        self.0.drain().await;
    }
}
