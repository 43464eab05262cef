//! Purging, and the epochs that keep purged content from coming back.
//!
//! A purge at this node is remembered by key for a while. Requests to the next
//! tier say in `epoch` how long ago the key's last purge was; an upper tier that
//! still holds something from before it fetches anew. So purging an edge first
//! cannot refill the old content from the tier behind it.
//!
//! A soft purge makes stale and sends no epoch, except for what is just being filled:
//! what is stale here may be so behind us too, and there it can still be validated, or
//! stand in for an error.

pub(crate) mod order;

use std::collections::{HashMap, VecDeque};

use control::{KeyDigest, epoch};
use parking_lot::Mutex;
use store::Key;

use crate::key::{self, Resource};
use crate::request::Request;
use crate::state::Node;

/// Keys remembered in one memory. The oldest is forgotten first; a purge that is
/// forgotten has long been made in the tiers behind us too.
const KEYS_MAX: usize = 65_536;

/// A bounded memory of when something last happened to a key.
#[derive(Debug, Default)]
pub(crate) struct Recent {
    last: Mutex<Last>,
}

#[derive(Debug, Default)]
struct Last {
    at_ms: HashMap<KeyDigest, u64, ahash::RandomState>,
    order: VecDeque<KeyDigest>,
}

impl Recent {
    /// Remembers that it happened to `key` at `at_ms`, which may be a while ago.
    pub(crate) fn remember(&self, key: KeyDigest, at_ms: u64) {
        let mut last = self.last.lock();
        match last.at_ms.get_mut(&key) {
            Some(known_ms) => *known_ms = at_ms.max(*known_ms),
            None => {
                last.at_ms.insert(key, at_ms);
                last.order.push_back(key);
            }
        }
        while last.order.len() > KEYS_MAX {
            if let Some(oldest) = last.order.pop_front() {
                last.at_ms.remove(&oldest);
            }
        }
    }

    /// When it last happened to `key`, 0 where it never did.
    pub(crate) fn last(&self, key: KeyDigest) -> u64 {
        let last = self.last.lock();
        if last.at_ms.is_empty() {
            return 0;
        }
        last.at_ms.get(&key).copied().unwrap_or(0)
    }
}

/// The epoch to send for a key at `now_ms`.
pub(crate) fn epoch(node: &Node, key: KeyDigest, now_ms: u64) -> u64 {
    epoch::told(node.purged.last(key), now_ms)
}

/// When, by our clock, the edge that asks says it purged the key; 0 where it says
/// nothing. It counts here from now on as if it had been made here.
pub(crate) fn heed(node: &Node, request: &Request) -> u64 {
    let Some(verified) = &request.tier else {
        return 0;
    };
    let known_ms = node.purged.last(request.digest());
    let purged_ms = epoch::heard(verified.block().epoch, request.received_ms, known_ms);
    if purged_ms > known_ms {
        node.purged.remember(request.digest(), purged_ms);
    }
    purged_ms
}

/// Whether what is purged is gone, or stale.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Force {
    /// Nobody is given it any more.
    Hard,
    /// It may be validated, and served as far as stale content may be.
    Soft,
}

/// Purges what is stored for a resource, whatever fields its key adds. Returns how
/// many keys had objects.
pub(crate) fn purge_resource(
    node: &Node,
    resource: Resource<'_>,
    rules: &config::KeyRules,
    force: Force,
    now_ms: u64,
) -> usize {
    let mut key = Vec::with_capacity(128);
    key::write_resource(&mut key, resource, rules);
    if !rules.headers.is_empty() || !rules.cookies.is_empty() || rules.sliced {
        // The rest of the key is unknown, so every key that begins like this goes. A
        // slice is asked for under its object's key, which may hold nothing itself.
        if rules.sliced && force == Force::Hard {
            node.purged.remember(KeyDigest::of(&key), now_ms);
        }
        return purge_beginning(node, &key, force, now_ms);
    }
    let gone = match force {
        Force::Hard => {
            node.purged.remember(KeyDigest::of(&key), now_ms);
            node.store.purge(&key)
        }
        Force::Soft => {
            let gone = node.store.soften(&Key::new(&key), now_ms);
            leave_flights(node, &key, now_ms);
            gone
        }
    };
    usize::from(gone)
}

/// Keys of one purge whose epoch is remembered. Beyond them it would push out the
/// memory of every other purge.
const KEYS_OF_ONE_PURGE_MAX: usize = KEYS_MAX / 2;

/// Purges every key that begins like this. Returns how many had objects. Looks at
/// every stored key.
pub(crate) fn purge_beginning(node: &Node, prefix: &[u8], force: Force, now_ms: u64) -> usize {
    let keys = match force {
        Force::Hard => node.store.purge_beginning(prefix),
        Force::Soft => node.store.soften_beginning(prefix, now_ms),
    };
    if force == Force::Hard {
        for key in keys.iter().take(KEYS_OF_ONE_PURGE_MAX) {
            node.purged.remember(KeyDigest::of(key.as_bytes()), now_ms);
        }
    }
    leave_flights(node, prefix, now_ms);
    keys.len()
}

/// Lets nobody board the flights of keys that begin like this: they took off before.
fn leave_flights(node: &Node, prefix: &[u8], now_ms: u64) {
    for key in node.flights.keys_beginning(prefix) {
        node.purged.remember(KeyDigest::of(key.as_bytes()), now_ms);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn epochs_are_remembered_within_a_bound() {
        let purged = Recent::default();
        assert_eq!(purged.last(KeyDigest::of(b"a")), 0);
        purged.remember(KeyDigest::of(b"a"), 5);
        purged.remember(KeyDigest::of(b"a"), 9);
        assert_eq!(purged.last(KeyDigest::of(b"a")), 9);
        for other in 0..KEYS_MAX {
            purged.remember(KeyDigest::of(&other.to_be_bytes()), 10);
        }
        assert_eq!(purged.last(KeyDigest::of(b"a")), 0);
        assert_eq!(purged.last.lock().at_ms.len(), KEYS_MAX);
    }
}
