//! Probes: how a node learns of an upper tier what no request tells it.
//!
//! A probe is a signed `OPTIONS *` that may go no further (RFC 9110 §7.6.2, §9.3.7).
//! It takes the whole way of a request: name, connection, TLS, signature and signed
//! answer. What must stay true:
//!
//! * Nobody is probed whom requests ask all the time: they tell the same.
//! * Only one that is down is asked more eagerly, and never twice at once: a probe
//!   claims its trial as a request would.
//! * A probe says nothing about a site and reaches no origin.

use std::sync::Arc;
use std::time::Duration;

use control::SealedRequest;
use pingora_core::server::ShutdownWatch;
use topology::{Failure, State};

use super::send::{Response, SendError, send};
use super::{Target, millis};
use crate::fill::reach::unverified;
use crate::ids;
use crate::live::Live;
use crate::seal;
use crate::state::Node;

/// How often it is asked whether a probe is due: short, so that one that comes back
/// is met soon after its time down.
const LOOK: Duration = Duration::from_millis(250);

/// How long a probe may take. It waits for nobody else, so more than that is as bad
/// as no answer.
const PROBE_WAIT_MS: u64 = 1_000;

/// Whether to probe one in that state, which last answered and was last probed then.
fn is_due(state: State, answered_ms: u64, probed_ms: u64, probe_ms: u64, now_ms: u64) -> bool {
    if probe_ms == 0 {
        return false;
    }
    match state {
        State::Trial => true,
        State::Down { .. } => false,
        State::Up | State::Warming { .. } => {
            // A clock that was set back must not silence the probes.
            let idle_ms = now_ms.checked_sub(answered_ms.max(probed_ms));
            idle_ms.is_none_or(|idle_ms| idle_ms >= probe_ms)
        }
    }
}

/// Probes the upper tier at a position until the node drains.
pub(crate) async fn watch(node: Arc<Node>, upper: usize, mut draining: ShutdownWatch) {
    let mut probed_ms = 0;
    loop {
        tokio::select! {
            () = tokio::time::sleep(LOOK) => {}
            _ = draining.changed() => return,
        }
        let Some(watched) = node.upstreams.uppers.get(upper) else {
            return;
        };
        let now_ms = node.now_ms();
        let probe_ms = node.config.health.probe_ms;
        let is_due = {
            let watched = watched.health.lock();
            let state = watched.health.state(now_ms);
            is_due(state, watched.answered_ms, probed_ms, probe_ms, now_ms)
        };
        if is_due {
            probed_ms = now_ms;
            probe(&node, upper).await;
        }
    }
}

/// Sends one probe and takes note of what came of it.
async fn probe(node: &Node, upper: usize) {
    let target = Target::Upper(upper);
    let asking = ask(node, &target, upper);
    let outcome = pingora_timeout::timeout(millis(PROBE_WAIT_MS), asking).await;
    let result = match outcome {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => match error.failure() {
            Some(failure) => Err(failure),
            // It answered, in its way.
            None => return,
        },
        Err(_) => Err(Failure::Timeout),
    };
    target.report_after(node, node.now_ms(), PROBE_WAIT_MS, result);
}

async fn ask(node: &Node, target: &Target, upper: usize) -> Result<(), SendError> {
    let live = node.live.load_full();
    let sealed = seal::probe(node, &live, upper, ids::span_id(), node.now_ms())?;
    let response = send(node, target, &sealed, None).await?;
    verify(node, &live, target, &sealed, &response)?;
    response.discard(node).await;
    Ok(())
}

fn verify(
    node: &Node,
    live: &Live,
    target: &Target,
    sealed: &SealedRequest,
    response: &Response,
) -> Result<(), SendError> {
    let receipt = sealed.receipt().ok_or(SendError::Ours)?;
    let (status, fields) = (response.status, &response.fields);
    control::verify_response(status, fields, receipt, &live.keyring, node.now_ms())
        .map(drop)
        .map_err(|rejection| unverified(node, &target.name(node), status, fields, &rejection))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_idle_or_down_is_probed() {
        const NOW_MS: u64 = 1_700_000_000_000;
        let ago = |ms: u64| NOW_MS - ms;
        let down = State::Down { until_ms: NOW_MS };
        let warming = State::Warming { permille: 1 };
        for (state, answered_ms, probed_ms, probe_ms, due) in [
            (State::Up, ago(999), 0, 1_000, false),
            (State::Up, ago(1_000), 0, 1_000, true),
            (State::Up, 0, ago(999), 1_000, false),
            (State::Up, 0, 0, 1_000, true),
            (State::Up, NOW_MS + 1, 0, 1_000, true),
            (warming, ago(999), 0, 1_000, false),
            (warming, ago(1_000), 0, 1_000, true),
            (down, 0, 0, 1_000, false),
            (State::Trial, NOW_MS, NOW_MS, 1_000, true),
            (State::Trial, 0, 0, 0, false),
            (State::Up, 0, 0, 0, false),
        ] {
            let told = is_due(state, answered_ms, probed_ms, probe_ms, NOW_MS);
            assert_eq!(told, due, "{state:?} {answered_ms} {probed_ms} {probe_ms}");
        }
    }
}
