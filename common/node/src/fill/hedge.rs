//! A second upper tier is asked for what it has stored, when the first is late.
//!
//! ```text
//!   first choice   ├───────────────── late ───────────────────▶ its answer
//!   second choice            ├─ its store ─▶ stored: this is it
//!                                         └▶ not stored: back to waiting
//! ```
//!
//! What must stay true:
//!
//! * No origin hears of it. Only what is stored is asked for, and an upper tier that has
//!   nothing to give neither fetches nor refreshes.
//! * It is a retry, within the budget of all; where that is spent nobody is hedged.
//! * An answer is taken once. The other is dropped, and its verdict on the first choice's
//!   health with it; that it was late is remembered.

use std::time::Duration;

use http::StatusCode;
use observe::Attempt;
use parking_lot::Mutex;

use super::reach::{Reached, Route, attempt};
use crate::seal::Outbound;
use crate::state::Node;
use crate::upstream::Target;
use crate::upstream::send::SendError;

/// Of a hundred answers, so many come before one is called late.
const LATE_PERCENT: u32 = 95;

/// What is to be done when the first choice is late.
#[derive(Debug)]
pub(super) struct Hedge {
    /// Whose store is asked.
    second: Target,
    /// When the first choice is late.
    late: Duration,
}

/// The hedge for an attempt at `first`, if its site wants any, it asks for something that
/// may be stored, and enough is known of `first` to call it late.
pub(super) fn of(
    node: &Node,
    route: &Route,
    outbound: &Outbound,
    first: &Target,
    next: &Target,
) -> Option<Hedge> {
    let (Target::Upper(first), Target::Upper(_)) = (first, next) else {
        return None;
    };
    if !route.site.config.hedge || !outbound.may_ask_any_store() {
        return None;
    }
    let upper = node.upstreams.uppers.get(*first)?;
    let late_us = upper.latency.lock().quantile_us(LATE_PERCENT)?;
    Some(Hedge {
        second: next.clone(),
        late: Duration::from_micros(late_us),
    })
}

impl Hedge {
    /// Asks `first`, and the store of the second choice when that is late.
    pub(super) async fn attempt(
        self,
        node: &Node,
        route: &Route,
        outbound: &Outbound,
        first: &Target,
        left_ms: u64,
        attempts: &Mutex<Vec<Attempt>>,
    ) -> Result<Reached, SendError> {
        let start_us = route.watch.elapsed_us();
        let asked = attempt(node, route, outbound, first, left_ms, attempts);
        tokio::pin!(asked);
        if let Ok(outcome) = pingora_timeout::timeout(self.late, &mut asked).await {
            return outcome;
        }
        let (Some(retry), Ok(seat)) = (node.retries.try_enter(), self.second.seat(node)) else {
            return asked.await;
        };
        let mut stored = outbound.clone();
        stored.ask_stores_alone();
        let end = |end| node.observer.metrics().hedge(end);
        let hedged = attempt(node, route, &stored, &self.second, left_ms, attempts);
        tokio::select! {
            biased;
            outcome = &mut asked => {
                end("lost");
                return outcome;
            }
            hedged = hedged => match hedged {
                // Not stored there (RFC 9111 §5.2.1.7).
                Ok(reached) if reached.response.status == StatusCode::GATEWAY_TIMEOUT => {
                    end("not_stored");
                    drop((retry, seat));
                    let ((), outcome) = tokio::join!(reached.response.discard(node), asked);
                    return outcome;
                }
                Ok(mut reached) => {
                    end("won");
                    first.took(node, route.watch.elapsed_us().saturating_sub(start_us));
                    reached.response.hold(None, seat);
                    return Ok(reached);
                }
                Err(_) => end("failed"),
            },
        }
        drop(retry);
        asked.await
    }
}
