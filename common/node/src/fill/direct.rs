//! How many fetches go to an origin past the upper tiers at once.
//!
//! When no upper tier gives a verified answer, an edge may ask the origin itself, and so
//! may a regional tier. A fault between the tiers hits every miss of every edge at the same moment, and
//! would hand all of them to an origin that is used to a few upper tiers. So each
//! site has a budget of them at each edge.

use observe::Underway;
use tokio::sync::OwnedSemaphorePermit;

use crate::state::Node;

/// A place among the direct fetches of a site; given back when dropped.
#[derive(Debug)]
pub(super) struct Slot {
    _permit: OwnedSemaphorePermit,
    _visible: Underway,
}

/// Takes a place among the direct fetches of a site, within `left_ms`. None: there is
/// none for this request, which is to be refused or served from what is stale.
pub(super) async fn enter(
    node: &Node,
    site: &config::Site,
    stale_may_serve: bool,
    left_ms: u64,
) -> Option<Slot> {
    let budget = node.directs.of(&site.name, site.direct);
    let held = |then| node.observer.metrics().direct_held(&site.name, then);
    let permit = budget.enter(stale_may_serve, left_ms, held).await?;
    node.observer.metrics().direct();
    Some(Slot {
        _permit: permit,
        _visible: node.observer.metrics().direct_begins(&site.name),
    })
}
