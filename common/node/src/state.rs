//! One node: everything a request can reach, in one place.

use std::sync::Arc;

use arc_swap::ArcSwap;
use config::Role;
use control::ReplayGuard;
use observe::Observer;
use parking_lot::Mutex;
use store::Store;
use tokio::sync::{Semaphore, watch};
use topology::RetryRules;

use crate::clock::Clock;
use crate::door::head::HeadLimits;
use crate::fill::budget::Budgets;
use crate::fill::flight::Flights;
use crate::fill::retries::Retries;
use crate::fill::tiers::Nearest;
use crate::live::Live;
use crate::purge::Recent;
use crate::upstream::Upstreams;
use crate::work::Work;

/// Nonces of unsafe requests remembered at an upper tier. At 30 s of validity
/// this is over 2,000 unsafe requests a second; beyond it they are refused
/// rather than let through unremembered.
const NONCES_MAX: usize = 65_536;

/// Fields that an edge may add to a visitor's: who asked, which way it came, the
/// control block and its signature.
const HOP_FIELDS_MAX: usize = 16;

/// Bytes of those fields. The names of all others stand once more in what the
/// signature covers, so a head may come out at twice its length besides.
const HOP_BYTES_MAX: usize = 4 * 1024;

/// A running node. One per process, except in a demo or a test.
#[derive(Debug)]
pub(crate) struct Node {
    /// Where its time comes from.
    clock: Clock,
    /// Its own file.
    pub(crate) config: config::Node,
    /// Sites and keys in force.
    pub(crate) live: ArcSwap<Live>,
    /// Stored objects.
    pub(crate) store: Store,
    /// Fills in the air.
    pub(crate) flights: Flights,
    /// Fetches under way past the upper tiers, at an edge.
    pub(crate) directs: Budgets,
    /// Fetches under way at the origin of each pool.
    pub(crate) origins: Budgets,
    /// Places for what needs upstream work.
    pub(crate) fetches: Arc<Semaphore>,
    /// Who is asked again.
    pub(crate) retries: Arc<Retries>,
    /// Which upper tier is nearest to each origin.
    pub(crate) nearest: Nearest,
    /// Connections to and health of whom we ask.
    pub(crate) upstreams: Upstreams,
    /// Where everything is told.
    pub(crate) observer: Observer,
    /// Nonces seen, at an upper tier.
    pub(crate) replay: Mutex<ReplayGuard>,
    /// When keys were last purged here.
    pub(crate) purged: Recent,
    /// Keys whose responses are too large to keep: a part of one is asked for alone.
    pub(crate) oversized: Recent,
    /// Turns true when the node begins to drain.
    pub(crate) draining: watch::Receiver<bool>,
    /// Connections and fills that a drain waits for.
    pub(crate) work: Work,
    /// Visitor connections, which have a bound of their own.
    pub(crate) connections: Work,
    /// Bounds of the door.
    pub(crate) head_limits: HeadLimits,
}

impl Node {
    /// Assembles a node; nothing listens yet.
    pub(crate) fn new(
        config: config::Node,
        live: Live,
        upstreams: Upstreams,
        observer: Observer,
        clock: Clock,
        draining: watch::Receiver<bool>,
    ) -> Arc<Self> {
        let head_limits = head_limits(config.role, &config.limits);
        let store = Store::new(store::Bounds {
            bytes_max: config.store.bytes_max,
            variants_max: config.store.variants_max,
        });
        Arc::new(Self {
            nearest: Nearest::among(upstreams.uppers.len()),
            upstreams,
            live: ArcSwap::from_pointee(live),
            store,
            flights: Flights::default(),
            directs: Budgets::default(),
            origins: Budgets::default(),
            fetches: Arc::new(Semaphore::new(config.limits.fetches_max)),
            retries: Retries::new(RetryRules {
                percent: config.limits.retry_percent,
                at_least: config.limits.retries_min,
            }),
            observer,
            replay: Mutex::new(ReplayGuard::new(NONCES_MAX, clock.now_ms())),
            clock,
            purged: Recent::default(),
            oversized: Recent::default(),
            draining,
            work: Work::default(),
            connections: Work::default(),
            head_limits,
            config,
        })
    }

    /// The node's name.
    pub(crate) fn name(&self) -> &str {
        &self.config.name
    }

    /// The time of day, in milliseconds since the Unix epoch.
    pub(crate) fn now_ms(&self) -> u64 {
        self.clock.now_ms()
    }

    /// Whether it serves visitors.
    pub(crate) fn is_edge(&self) -> bool {
        self.config.role == Role::Edge
    }

    /// Whether a drain has begun.
    pub(crate) fn is_draining(&self) -> bool {
        *self.draining.borrow()
    }
}

/// What the door lets in. An upper tier lets in what an edge with the same limits
/// sends it: a visitor whose request an edge takes must not be able to make an
/// upper tier refuse it, unsigned, before it has read the control block.
fn head_limits(role: Role, limits: &config::Limits) -> HeadLimits {
    let (fields_more, bytes_times, bytes_more) = match role {
        Role::Edge => (0, 1, 0),
        Role::UpperTier => (HOP_FIELDS_MAX, 2, HOP_BYTES_MAX),
    };
    HeadLimits {
        bytes_max: limits
            .head_bytes_max
            .saturating_mul(bytes_times)
            .saturating_add(bytes_more),
        fields_max: limits.fields_max.saturating_add(fields_more),
        body_bytes_max: limits.request_body_bytes_max,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_upper_tier_takes_more_than_an_edge_does() {
        let limits = config::Limits {
            head_bytes_max: 1_000,
            fields_max: 20,
            request_body_bytes_max: 7,
            ..config::Limits::default()
        };
        for (role, bytes_max, fields_max) in [(Role::Edge, 1_000, 20), (Role::UpperTier, 6_096, 36)]
        {
            let found = head_limits(role, &limits);
            let seen = (found.bytes_max, found.fields_max, found.body_bytes_max);
            assert_eq!(seen, (bytes_max, fields_max, 7), "{role:?}");
        }
    }
}
