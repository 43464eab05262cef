//! A place at an origin: what a request holds while an origin works for it.
//!
//! An origin is asked by every node that may ask it, and by each for everything that
//! its visitors want. However slow it becomes, a node has no more under way there than
//! the pool's `in_flight_max`. At an edge that goes past its upper tiers the site's own
//! budget (`direct`) counts as well, and first.
//!
//! At an upper tier, what finds no place is answered with a signed 503. That is final:
//! an edge that took another way would only queue at the same origin once more.

use config::Fallback;
use observe::Underway;
use tokio::sync::OwnedSemaphorePermit;

use super::{direct, tiers};
use crate::clock::Stopwatch;
use crate::state::Node;
use crate::upstream::send::SendError;

/// What a request holds; given back when dropped.
#[derive(Debug)]
pub(crate) struct Place {
    _direct: Option<direct::Slot>,
    at_origin: Option<AtOrigin>,
}

#[derive(Debug)]
struct AtOrigin {
    _permit: OwnedSemaphorePermit,
    _visible: Underway,
}

impl Place {
    /// The connection is no request any more: it speaks another protocol, and its
    /// number is bounded by that of visitors.
    pub(crate) fn was_upgraded(&mut self) {
        self.at_origin = None;
    }
}

/// Whether a fetch need not wait for a place: something stale is served instead of it,
/// or nobody waits for it.
pub(super) fn yields(
    node: &Node,
    site: &config::Site,
    stale_may_serve: bool,
    is_background: bool,
) -> bool {
    let stale_stands_in = !node.is_edge() || site.fallback.contains(&Fallback::Stale);
    is_background || (stale_may_serve && stale_stands_in)
}

/// Takes a place at the origin of a site, within `left_ms`. What yields does not wait
/// for one: it leaves the queue to others.
pub(crate) async fn enter(
    node: &Node,
    site: &config::Site,
    hop: u8,
    yields: bool,
    left_ms: u64,
) -> Result<Place, SendError> {
    let watch = Stopwatch::start();
    let slot = if tiers::asks_tiers(node, site, hop) {
        let slot = direct::enter(node, site, yields, left_ms).await;
        Some(slot.ok_or(SendError::DirectFull)?)
    } else {
        None
    };
    let pool = &site.pool;
    let budget = node.origins.of(&pool.name, pool.places);
    let left_ms = left_ms.saturating_sub(watch.elapsed_ms());
    let held = |then| node.observer.metrics().origin_held(&pool.name, then);
    let permit = budget.enter(yields, left_ms, held).await;
    let permit = permit.ok_or(SendError::OriginFull)?;
    Ok(Place {
        _direct: slot,
        at_origin: Some(AtOrigin {
            _permit: permit,
            _visible: node.observer.metrics().origin_begins(&pool.name),
        }),
    })
}
