//! One node of the demo, in this process: the only place that knows the `node` crate.

use config::Loaded;

use crate::failure::Failure;

/// A node that serves.
#[derive(Debug)]
pub(super) struct Running {}

/// Starts the node; it serves when this returns.
pub(super) async fn start(loaded: Loaded) -> Result<Running, Failure> {
    Err(Failure::because(format!(
        "{}: this build has no nodes yet",
        loaded.node.name
    )))
}

impl Running {
    /// Stops accepting, and ends with the last request under way.
    pub(super) async fn drain(self) {}
}
