//! Cache groups (RFC 9875), between the fields that name them and the store.
//!
//! A group belongs to one URI origin, which here is a site's scheme and host; as in
//! the key, the port tells nothing apart.
//!
//! An invalidation passes one upper tier, and is known there and at the edge that
//! passed it on. The others still hold what it was about, and a key of the group that
//! is asked of another upper tier would bring it back. So an edge looks at what comes
//! from an upper tier: what is older than the last invalidation of a group it belongs
//! to is asked for once more, with an epoch that says so.

use control::KeyDigest;
use http::HeaderMap;
use http_cache::TooManyGroups;
use observe::Outcome;
use store::{Groups, Ticket};

use crate::fill::reach::Reached;
use crate::key;
use crate::request::Request;
use crate::state::Node;

/// Groups that one answer invalidates by name. One that names more invalidates all of
/// its origin's, so that it cannot crowd what is remembered of others.
const NAMES_MAX: usize = 1024;

/// The groups of a response that a fill brought.
pub(crate) fn of_response(
    node: &Node,
    ticket: &Ticket,
    fields: &HeaderMap,
) -> Result<Groups, TooManyGroups> {
    let names = http_cache::cache_groups(fields)?;
    let origin = key::origin(ticket.key().as_bytes());
    Ok(node.store.groups(ticket, origin, &names))
}

/// Invalidates the groups that the answer to an unsafe request names (RFC 9875 §3).
pub(crate) fn invalidate(node: &Node, request: &Request, fields: &HeaderMap) {
    let names = http_cache::invalidated_groups(&request.method, fields);
    let (origin, now_ms) = (key::origin(&request.key), node.now_ms());
    if names.len() > NAMES_MAX {
        return node.store.invalidate_groups_of(origin, now_ms);
    }
    for name in names {
        node.store.invalidate_group(origin, &name, now_ms);
    }
}

/// Whether an upper tier answered with what was invalidated here since. If so the key
/// counts as purged then, and asking again says so.
pub(crate) fn is_behind(node: &Node, key: &[u8], digest: KeyDigest, answer: &Reached) -> bool {
    let Some(tier) = &answer.tier else {
        return false;
    };
    let Some(age_ms) = tier.age_ms else {
        return false;
    };
    let Ok(names) = http_cache::cache_groups(&answer.response.fields) else {
        return false;
    };
    if names.is_empty() {
        return false;
    }
    let invalidated_ms = node.store.last_invalidated_ms(key::origin(key), &names);
    let (request_ms, response_ms) = (answer.response.request_ms, answer.response.response_ms);
    // A miss was fetched when we asked, whatever age its origin gives it. So was what is
    // no older than our own request, for an age counts from when it was asked for.
    let made_for_us =
        tier.outcome == Outcome::Miss.as_str() || age_ms <= response_ms.saturating_sub(request_ms);
    let made_after = made_for_us && request_ms >= invalidated_ms;
    let older = response_ms.saturating_sub(age_ms) <= invalidated_ms;
    let behind = older && !made_after && node.purged.last(digest) < invalidated_ms;
    if behind {
        node.purged.remember(digest, invalidated_ms);
    }
    behind
}
