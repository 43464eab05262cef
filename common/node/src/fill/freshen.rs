//! Bringing a stored response up to date without its body: by a 304 that confirms it
//! (RFC 9111 §4.3.4), or by the 200 to a HEAD (§4.3.5).

use std::sync::Arc;

use http::header::{DATE, VIA};
use http::{HeaderMap, Method, StatusCode};
use http_cache::{Arrival, HeadEffect, RequestFacts, Vary};
use observe::Outcome;
use store::Object;

use super::reach::Reached;
use super::run::Plan;
use crate::answer;
use crate::fields;
use crate::groups;
use crate::state::Node;

/// The stored object, freshened by a 304 that answers its validators, and whether
/// it may still be stored.
pub(super) fn revalidated(plan: &Plan, answer: &Reached) -> Option<(Object, bool)> {
    let stored = plan.stored.as_ref()?;
    let answers = http_cache::answers_validator(&stored.facts, &answer.response.fields);
    answers.then(|| freshened(plan, stored, answer, &plan.facts))
}

/// Lets the 200 to a HEAD freshen the stored response that a GET would have been
/// answered with, or show that it is no longer current (RFC 9111 §4.3.5).
pub(super) fn heed_head(plan: &Plan, answer: &Reached) {
    let Some(stored) = plan.stored.as_ref().filter(|_| plan.is_telling_head()) else {
        return;
    };
    if answer.response.status != StatusCode::OK || stored.status != StatusCode::OK {
        return;
    }
    let length = stored.body.len() as u64;
    let fields = &answer.response.fields;
    let store = &plan.node.store;
    // A HEAD is alone: a fill for everybody may have brought something newer since.
    let key = plan.ticket.key().as_bytes();
    let is_still_stored = store.get(key).is_some_and(|entry| {
        let mut variants = entry.variants.iter();
        variants.any(|variant| Arc::ptr_eq(variant, stored))
    });
    if !is_still_stored {
        return;
    }
    match http_cache::head_effect(&stored.facts, length, fields) {
        HeadEffect::Freshens => {
            // What may be stored is asked as of the GET that it stands for.
            let facts = RequestFacts::of(&Method::GET, &plan.request_fields, plan.policy());
            let (object, may_be_stored) = freshened(plan, stored, answer, &facts);
            if may_be_stored {
                // A purge since then leaves nothing to freshen.
                let _ = store.put(&plan.ticket, Arc::new(object));
            } else {
                store.purge(key);
            }
        }
        HeadEffect::Outdates => {
            let _ = store.put(&plan.ticket, Arc::new(outdated(stored, plan.node.now_ms())));
        }
    }
}

/// The same response, stale from `now_ms` on.
fn outdated(stored: &Object, now_ms: u64) -> Object {
    Object {
        status: stored.status,
        fields: stored.fields.clone(),
        head: stored.head.clone(),
        body: stored.body.clone(),
        facts: stored.facts.expired(now_ms),
        vary: stored.vary.clone(),
        selector: stored.selector.clone(),
        upstream_cache_status: stored.upstream_cache_status.clone(),
        stored_ms: stored.stored_ms,
        groups: stored.groups.clone(),
    }
}

/// The stored object with the fields of an answer that confirmed it, and whether a
/// request like `request` may still have it stored.
fn freshened(
    plan: &Plan,
    stored: &Object,
    answer: &Reached,
    request: &RequestFacts,
) -> (Object, bool) {
    let policy = plan.policy();
    let mut confirmed = answer.response.fields.clone();
    http_cache::remove_hop_by_hop(&mut confirmed);
    restore_date(&mut confirmed, answer);
    if confirmed.contains_key(VIA) {
        fields::append_via(&mut confirmed, plan.node.name());
    }
    let upstream = fields::joined(&confirmed, &fields::CACHE_STATUS);
    confirmed.remove(fields::CACHE_STATUS);
    let freshened = http_cache::freshen(&stored.fields, &confirmed);
    let facts = stored
        .facts
        .freshened(&freshened, &confirmed, arrival(answer), policy);
    let groups = groups::of_response(&plan.node, &plan.ticket, &freshened);
    let may_be_stored = groups.is_ok() && http_cache::storable(request, &facts, policy).is_ok();
    let groups = groups.unwrap_or_default();
    let kept_fields = http_cache::stored_fields(&freshened, policy);
    let vary = Vary::of(&kept_fields);
    let object = Object {
        status: stored.status,
        head: answer::prepared_head(stored.status, &kept_fields),
        body: stored.body.clone(),
        facts,
        selector: vary.selector(&plan.request_fields, policy),
        vary,
        fields: kept_fields,
        upstream_cache_status: upstream,
        stored_ms: asked_ms(&plan.node, answer),
        groups,
    };
    (object, may_be_stored)
}

/// When what an answer brought was asked for of its origin, so that a purge that an edge
/// tells of can be told from it. At an upper tier that is when we asked; at a regional one
/// the tier behind may have had it stored since before the purge.
pub(super) fn asked_ms(node: &Node, answer: &Reached) -> u64 {
    let (request_ms, response_ms) = (answer.response.request_ms, answer.response.response_ms);
    let was_stored = answer.tier.as_ref().filter(|tier| {
        // Nobody tells an edge of purges.
        !node.is_edge() && tier.outcome != Outcome::Miss.as_str()
    });
    match was_stored.and_then(|tier| tier.age_ms) {
        Some(age_ms) => request_ms.min(response_ms.saturating_sub(age_ms)),
        None => request_ms,
    }
}

/// When the answer came, and how old the next tier says it is.
pub(super) fn arrival(answer: &Reached) -> Arrival {
    Arrival {
        request_ms: answer.response.request_ms,
        response_ms: answer.response.response_ms,
        age_ms: answer.tier.as_ref().and_then(|tier| tier.age_ms),
    }
}

/// `Date` as the origin gave it: an upper tier that passed the answer on through
/// pingora's session had it rewritten, and says in `Tier-Result` what it was. An
/// answer without one gets the time it was received (RFC 9110 §6.6.1).
pub(crate) fn restore_date(fields: &mut HeaderMap, answer: &Reached) {
    let told = answer.tier.as_ref().and_then(|tier| tier.date_s);
    let date_ms = match told {
        Some(date_s) => Some(date_s.saturating_mul(1000)),
        None if fields.contains_key(DATE) => None,
        None => Some(answer.response.response_ms),
    };
    if let Some(date_ms) = date_ms {
        fields.insert(DATE, http_cache::date::format(date_ms));
    }
}
