//! Purging, and the epochs that keep purged content from coming back.
//!
//! A purge at this node is remembered by key for a while. Requests to the next
//! tier say in `epoch` how long ago the key's last purge was; an upper tier that
//! still holds something from before it fetches anew. So purging an edge first
//! cannot refill the old content from the tier behind it.

use std::collections::{HashMap, VecDeque};

use control::{KeyDigest, Scheme};
use http::Uri;
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
    /// Remembers that it happened to `key` at `now_ms`.
    pub(crate) fn remember(&self, key: KeyDigest, now_ms: u64) {
        let mut last = self.last.lock();
        if last.at_ms.insert(key, now_ms).is_none() {
            last.order.push_back(key);
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

/// Two requests may put one purge a little apart: each was on its way for a while.
const SAME_PURGE_MS: u64 = 50;

/// The epoch to send for a key at `now_ms`: 0 where it was not purged here, else one
/// more than the milliseconds since it was. A duration, so that clocks need not agree.
pub(crate) fn epoch(node: &Node, key: KeyDigest, now_ms: u64) -> u64 {
    match node.purged.last(key) {
        0 => 0,
        purged_ms => now_ms.saturating_sub(purged_ms) + 1,
    }
}

/// When, by our clock, the edge that asks says it purged the key; 0 where it says
/// nothing. It counts here from now on as if it had been made here.
pub(crate) fn heed(node: &Node, request: &Request) -> u64 {
    let Some(verified) = &request.tier else {
        return 0;
    };
    let Some(ago_ms) = verified.block().epoch.checked_sub(1) else {
        return 0;
    };
    let said_ms = request.received_ms.saturating_sub(ago_ms);
    let known_ms = node.purged.last(request.digest());
    if said_ms <= known_ms.saturating_add(SAME_PURGE_MS) {
        return known_ms;
    }
    node.purged.remember(request.digest(), said_ms);
    said_ms
}

/// What came of a purge.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PurgeOutcome {
    /// Something was stored and is gone.
    Purged,
    /// Nothing was stored; fills under way will not be kept either.
    NotStored,
}

/// Why a URL cannot be purged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct BadUrl(pub(crate) String);

/// Purges one URL, in every variant.
pub(crate) fn purge_url(node: &Node, url: &str, now_ms: u64) -> Result<PurgeOutcome, BadUrl> {
    let uri: Uri = url
        .parse()
        .map_err(|error| BadUrl(format!("{url:?} is not a URL: {error}")))?;
    let scheme = match uri.scheme_str() {
        Some("http") => Scheme::Http,
        Some("https") => Scheme::Https,
        _ => {
            return Err(BadUrl(format!(
                "{url:?} has no http or https scheme; name the URL as a visitor would"
            )));
        }
    };
    let host = uri
        .host()
        .map(|host| host.trim_end_matches('.').to_ascii_lowercase())
        .filter(|host| !host.is_empty())
        .ok_or_else(|| BadUrl(format!("{url:?} names no host")))?;
    let live = node.live.load();
    let site = live
        .serving(&host)
        .ok_or_else(|| BadUrl(format!("no site serves the host {host:?}")))?;
    let path_and_query = uri.path_and_query().map_or("/", |path| path.as_str());
    let resource = Resource {
        site: &site.config.name,
        scheme,
        host: &host,
        path_and_query,
    };
    Ok(purge_resource(node, resource, &site.config.key, now_ms))
}

/// Purges what is stored for a resource, whatever fields its key adds.
pub(crate) fn purge_resource(
    node: &Node,
    resource: Resource<'_>,
    rules: &config::KeyRules,
    now_ms: u64,
) -> PurgeOutcome {
    let mut key = Vec::with_capacity(128);
    key::write_resource(&mut key, resource, rules);
    let gone = if rules.headers.is_empty() && rules.cookies.is_empty() {
        node.purged.remember(KeyDigest::of(&key), now_ms);
        node.store.purge(&key)
    } else {
        // The rest of the key is unknown, so every key that begins like this goes.
        // Those that are only being filled must not be stored either.
        let mut keys = node.store.keys_beginning(&key);
        keys.extend(node.flights.keys_beginning(&key));
        for full in &keys {
            node.purged.remember(KeyDigest::of(full.as_bytes()), now_ms);
        }
        keys.iter()
            .map(Key::as_bytes)
            .filter(|full| node.store.purge(full))
            .count()
            > 0
    };
    if gone {
        PurgeOutcome::Purged
    } else {
        PurgeOutcome::NotStored
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
