//! A request that passed the door: parsed once, and right from here on.

use std::net::IpAddr;
use std::sync::Arc;

use control::{KeyDigest, Scheme, Verified};
use http::{HeaderMap, Method};
use http_cache::{Policy, RequestFacts};
use observe::Protocol;

use crate::clock::Stopwatch;
use crate::live::{Live, Site};
use crate::policies::Ruling;

/// What the rest of the node works with.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    /// The configuration it began under, and ends under.
    pub(crate) live: Arc<Live>,
    pub(crate) site: Arc<Site>,
    pub(crate) method: Method,
    /// As the visitor wrote it, for the next hop.
    pub(crate) authority: String,
    /// Lower case, without port.
    pub(crate) host: String,
    pub(crate) path_and_query: String,
    /// End-to-end and hop-by-hop fields as received, control fields removed.
    pub(crate) fields: HeaderMap,
    /// The visitor's scheme.
    pub(crate) scheme: Scheme,
    /// The visitor's address.
    pub(crate) visitor: IpAddr,
    /// The address at the other end of the connection.
    pub(crate) peer: IpAddr,
    pub(crate) protocol: Protocol,
    pub(crate) received_ms: u64,
    pub(crate) watch: Stopwatch,
    pub(crate) trace: Trace,
    /// The verified control block, at an upper tier.
    pub(crate) tier: Option<Box<Verified>>,
    pub(crate) facts: RequestFacts,
    /// The primary key.
    pub(crate) key: Vec<u8>,
    /// Which of its site's policies holds for it.
    pub(crate) ruling: Ruling,
}

/// This request's place in a trace; drawn whether or not anyone is tracing.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Trace {
    pub(crate) trace_id: [u8; 16],
    pub(crate) span_id: [u8; 8],
    pub(crate) parent: Option<[u8; 8]>,
    pub(crate) sampled: bool,
}

impl Request {
    /// What its site decides about its caching.
    pub(crate) fn policy(&self) -> &Policy {
        self.site.policies.get(self.ruling)
    }

    /// Digest of the primary key.
    pub(crate) fn digest(&self) -> KeyDigest {
        match &self.tier {
            Some(verified) => verified.block().key,
            None => KeyDigest::of(&self.key),
        }
    }

    /// Hops between tiers so far.
    pub(crate) fn hop(&self) -> u8 {
        self.tier
            .as_ref()
            .map_or(0, |verified| verified.block().hop)
    }

    /// Whether nobody is to be asked for it: the visitor says so, or the edge that asks
    /// does, which wants to know what is stored here whatever the site's rules are.
    pub(crate) fn only_if_cached(&self) -> bool {
        let by_edge = |verified: &Verified| verified.block().only_if_cached;
        self.facts.only_if_cached() || self.tier.as_deref().is_some_and(by_edge)
    }

    /// Whether an edge asks in the background, with nobody waiting.
    pub(crate) fn is_background(&self) -> bool {
        self.tier
            .as_ref()
            .is_some_and(|verified| verified.block().background)
    }
}
