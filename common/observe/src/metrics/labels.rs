//! Labels that a request can influence, kept within bounds.

use std::collections::HashSet;
use std::sync::Arc;

use parking_lot::RwLock;
use prometheus_client::encoding::EncodeLabelSet;

/// Distinct peers a metric tells apart; whoever comes later is `other`. A site has
/// a handful of upper tiers and origins, and every series costs the operator.
pub(crate) const PEERS_MAX: usize = 64;

/// Bytes of a peer's name that become a label.
const PEER_BYTES_MAX: usize = 128;

/// The peers seen so far, each with one shared name.
#[derive(Debug)]
pub(super) struct Peers {
    seen: RwLock<HashSet<Arc<str>>>,
    other: Arc<str>,
}

impl Default for Peers {
    fn default() -> Self {
        Peers {
            seen: RwLock::default(),
            other: "other".into(),
        }
    }
}

impl Peers {
    /// The label of a peer.
    pub(super) fn label(&self, peer: &str) -> Arc<str> {
        let peer = peer
            .get(..peer.floor_char_boundary(PEER_BYTES_MAX))
            .unwrap_or_default();
        {
            let seen = self.seen.read();
            if let Some(known) = seen.get(peer) {
                return Arc::clone(known);
            }
            // A flood of invented names must not take the write lock each time.
            if seen.len() >= PEERS_MAX {
                return Arc::clone(&self.other);
            }
        }
        let mut seen = self.seen.write();
        if let Some(known) = seen.get(peer) {
            return Arc::clone(known);
        }
        if seen.len() >= PEERS_MAX {
            return Arc::clone(&self.other);
        }
        let label: Arc<str> = peer.into();
        seen.insert(Arc::clone(&label));
        label
    }
}

/// One label whose values the code names.
pub(super) type Word = [(&'static str, &'static str); 1];

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct Rejected {
    pub(super) side: &'static str,
    pub(super) reason: &'static str,
    pub(super) peer: Arc<str>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct Refused {
    pub(super) reason: &'static str,
    pub(super) peer: Arc<str>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct Upstream {
    pub(super) peer: Arc<str>,
    pub(super) kind: &'static str,
    pub(super) result: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct Connection {
    pub(super) peer: Arc<str>,
    pub(super) reused: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct Peer {
    pub(super) peer: Arc<str>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct Site {
    pub(super) site: Arc<str>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct Held {
    pub(super) site: Arc<str>,
    pub(super) then: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct Pool {
    pub(super) pool: Arc<str>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct WayTo {
    pub(super) pool: Arc<str>,
    pub(super) peer: Arc<str>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct HeldAt {
    pub(super) pool: Arc<str>,
    pub(super) then: &'static str,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_peer_with_a_name_of_its_own_and_the_first_without() {
        let peers = Peers::default();
        for n in 0..PEERS_MAX {
            assert_eq!(&*peers.label(&format!("peer-{n}")), format!("peer-{n}"));
        }
        assert_eq!(&*peers.label("peer-64"), "other");
        assert_eq!(&*peers.label("peer-63"), "peer-63");
    }

    #[test]
    fn a_long_name_is_cut_at_a_character() {
        let peers = Peers::default();
        assert_eq!(peers.label(&format!("a{}", "ä".repeat(100))).len(), 127);
    }
}
