//! One node: everything a request can reach, in one place.

use std::sync::Arc;

use arc_swap::ArcSwap;
use config::Role;
use control::ReplayGuard;
use observe::Observer;
use parking_lot::Mutex;
use store::Store;
use tokio::sync::watch;

use crate::door::head::HeadLimits;
use crate::fill::flight::Flights;
use crate::live::Live;
use crate::purge::Recent;
use crate::upstream::Upstreams;
use crate::work::Work;

/// Nonces of unsafe requests remembered at an upper tier. At 30 s of validity
/// this is over 2,000 unsafe requests a second; beyond it they are refused
/// rather than let through unremembered.
const NONCES_MAX: usize = 65_536;

/// A running node. One per process, except in a demo or a test.
#[derive(Debug)]
pub(crate) struct Node {
    /// Its own file.
    pub(crate) config: config::Node,
    /// Sites and keys in force.
    pub(crate) live: ArcSwap<Live>,
    /// Stored objects.
    pub(crate) store: Store,
    /// Fills in the air.
    pub(crate) flights: Flights,
    /// Connections to and health of whom we ask.
    pub(crate) upstreams: Upstreams,
    /// Where everything is told.
    pub(crate) observer: Observer,
    /// Nonces seen, at an upper tier.
    pub(crate) replay: Mutex<ReplayGuard>,
    /// When keys were last purged here.
    pub(crate) purged: Recent,
    /// What edges last said of their purges, by edge and key.
    pub(crate) heeded: Recent,
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
        observer: Observer,
        draining: watch::Receiver<bool>,
    ) -> Arc<Self> {
        let head_limits = HeadLimits {
            bytes_max: config.limits.head_bytes_max,
            fields_max: config.limits.fields_max,
            body_bytes_max: config.limits.request_body_bytes_max,
        };
        let store = Store::new(store::Bounds {
            bytes_max: config.store.bytes_max,
            variants_max: config.store.variants_max,
        });
        Arc::new(Self {
            upstreams: Upstreams::new(&config),
            live: ArcSwap::from_pointee(live),
            store,
            flights: Flights::default(),
            observer,
            replay: Mutex::new(ReplayGuard::new(NONCES_MAX)),
            purged: Recent::default(),
            heeded: Recent::default(),
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

    /// Whether it serves visitors.
    pub(crate) fn is_edge(&self) -> bool {
        self.config.role == Role::Edge
    }

    /// Whether a drain has begun.
    pub(crate) fn is_draining(&self) -> bool {
        *self.draining.borrow()
    }
}
