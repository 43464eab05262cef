//! From a request to its answer: look up, decide, and fetch what is missing.
//!
//! `look_up` never waits; most requests end there. Everything that has to wait is
//! in `fetch`.

mod fetch;
mod partial;
mod parts;
mod slices;

use std::sync::Arc;

use http::header::AGE;
use http::{HeaderValue, Method, StatusCode};
use http_cache::{Decision, StaleUse};
use observe::Outcome;
use store::{Glance, Object};

use crate::answer::{Answer, Body, Head, Story};
use crate::fields::{self, CACHE_STATUS, CacheStatus, Forward};
use crate::fill::flight::{FlightKey, Flights};
use crate::fill::interim::Teller;
use crate::fill::run::{Plan, launch};
use crate::fill::tiers;
use crate::purge;
use crate::report;
use crate::request::Request;
use crate::seal::{self, Purpose};
use crate::state::Node;
use crate::tier;
use fetch::{fetched_answer, known_selector, take_off};
use parts::{Part, is_bodyless, part_head, select_part, several};

/// What can be said without waiting.
#[derive(Debug)]
pub(crate) enum Lookup {
    Answer(Answer),
    Fetch(Fetch),
}

/// What has to be fetched, and why.
#[derive(Debug)]
pub(crate) struct Fetch {
    pub(crate) why: Forward,
    /// Why the cache is not used, where it is not.
    pub(crate) detail: Option<&'static str>,
    pub(crate) stored: Option<Arc<Object>>,
    /// A fresh part of it, which does not have all that is asked for.
    pub(crate) part: Option<Arc<Object>>,
    pub(crate) purpose: Purpose,
    /// From before the store was asked, so that a purge since then is noticed.
    pub(crate) glance: Glance,
    /// Where to tell of interim answers, if the door can write them.
    pub(crate) interim: Option<Teller>,
}

/// Answers a GET or HEAD, waiting for nothing where it can.
pub(crate) async fn answer(node: &Arc<Node>, request: &Request) -> Answer {
    match look_up(node, request, request.received_ms) {
        Lookup::Answer(answer) => answer,
        // Boxed: what waits is large, and hits should not carry its size around.
        Lookup::Fetch(fetch) => Box::pin(fetch_answer(node, request, fetch)).await,
    }
}

/// Waits for what `look_up` did not find.
pub(crate) async fn fetch_answer(node: &Arc<Node>, request: &Request, fetch: Fetch) -> Answer {
    let mut answer = fetched_answer(node, request, fetch).await;
    finish(node, request, &mut answer);
    answer
}

/// What every answer gets at the end: the key where it is to be told, and between
/// tiers the signature.
fn finish(node: &Node, request: &Request, answer: &mut Answer) {
    if request.site.config.cache.tell_key {
        let (_, fields) = answer.build(node.name());
        fields::tell_key(fields, &request.key);
    }
    tier::sign(node, request, answer);
}

/// Looks into the store and decides.
pub(crate) fn look_up(node: &Arc<Node>, request: &Request, now_ms: u64) -> Lookup {
    let policy = request.policy();
    let purged_ms = purge::heed(node, request);
    let glance = node.store.glance(&request.key);
    let entry = node.store.get(&request.key);
    let stored = entry
        .as_ref()
        .and_then(|entry| entry.select(&request.fields, policy))
        // The edge that asks has purged what was fetched before.
        .filter(|object| control::epoch::stands(object.stored_ms, purged_ms))
        .filter(|object| node.store.stands(&object.groups));
    let (stored, part) = match stored {
        Some(object) if partial::is_part(object) => (None, Some(object)),
        whole => (whole, None),
    };
    let fresh_part = part.filter(|part| partial::is_fresh(request, part, now_ms));
    if let Some(part) = fresh_part
        && let Some(mut answer) = partial::answer(node, request, part, now_ms)
    {
        finish(node, request, &mut answer);
        return Lookup::Answer(answer);
    }
    let facts = stored.map(|object| &object.facts);
    let fetch = |why, detail, purpose| {
        Lookup::Fetch(Fetch {
            why,
            detail,
            stored: stored.cloned(),
            part: fresh_part.cloned(),
            purpose,
            glance,
            interim: None,
        })
    };
    let purpose = || purpose(node, request, entry.as_deref(), now_ms);
    match (http_cache::decide(&request.facts, facts, now_ms), stored) {
        (Decision::Fresh { ttl_ms, .. }, Some(object))
            if request.is_background() && is_ending(object, ttl_ms, now_ms) =>
        {
            // An edge refreshes ahead; what ends here soon would end there as soon.
            fetch(Forward::Stale, None, purpose())
        }
        (Decision::Fresh { age_ms, ttl_ms }, Some(object)) => {
            if refreshes_ahead(node, request, object, ttl_ms, now_ms) {
                refresh(node, request, object, glance);
            }
            let ttl_s = i64::try_from(ttl_ms / 1000).unwrap_or(i64::MAX);
            let cache_status = hit_status(object, ttl_s);
            stored_lookup(node, request, object, age_ms, cache_status, Outcome::Hit)
        }
        (
            Decision::Stale {
                use_,
                age_ms,
                stale_for_ms,
            },
            Some(object),
        ) => {
            let serves = use_ != StaleUse::Revalidate && !request.is_background();
            if !serves {
                // What is still fresh was refused by the request itself, and the next
                // tier must not give it out either.
                let why = if age_ms < object.facts.lifetime_ms() {
                    Forward::Request
                } else {
                    Forward::Stale
                };
                return fetch(why, None, purpose());
            }
            if use_ == StaleUse::ServeAndRevalidate && !request.only_if_cached() {
                refresh(node, request, object, glance);
            }
            node.observer.metrics().stale_served("revalidating");
            let ttl_s = -i64::try_from(stale_for_ms.div_ceil(1000)).unwrap_or(i64::MAX);
            let cache_status = hit_status(object, ttl_s);
            let outcome = Outcome::StaleHit;
            stored_lookup(node, request, object, age_ms, cache_status, outcome)
        }
        (Decision::Bypass(reason), _) => {
            fetch(Forward::Bypass, Some(reason.as_str()), Purpose::Alone)
        }
        _ => {
            let varies = entry
                .as_ref()
                .is_some_and(|entry| !entry.variants.is_empty());
            let why = match (stored.or(part), varies) {
                (Some(_), _) if fresh_part.is_some() => Forward::Partial,
                (Some(_), _) if part.is_some() => Forward::Stale,
                (Some(_), _) => Forward::Request,
                (None, true) => Forward::VaryMiss,
                (None, false) => Forward::UriMiss,
            };
            fetch(why, None, purpose())
        }
    }
}

/// Whether a fill for this request can be everybody's.
fn purpose(node: &Node, request: &Request, entry: Option<&store::Entry>, now_ms: u64) -> Purpose {
    let alone = request.method != Method::GET
        || request.facts.has_authorization()
        || request.facts.only_if_cached()
        || entry.is_some_and(|entry| entry.passes(now_ms))
        || seal::is_for_one(request)
        // A part of what will not be kept is fetched as that part.
        || (request.facts.has_range() && node.oversized.last(request.digest()) > 0);
    if alone {
        Purpose::Alone
    } else {
        Purpose::Shared
    }
}

fn hit_status(object: &Object, ttl_s: i64) -> CacheStatus {
    CacheStatus {
        upstream: object.upstream_cache_status.clone(),
        hit: true,
        ttl_s: Some(ttl_s),
        ..CacheStatus::default()
    }
}

fn stored_lookup(
    node: &Arc<Node>,
    request: &Request,
    object: &Arc<Object>,
    age_ms: u64,
    cache_status: CacheStatus,
    outcome: Outcome,
) -> Lookup {
    let mut answer = from_stored(node, request, object, age_ms, cache_status, outcome);
    finish(node, request, &mut answer);
    Lookup::Answer(answer)
}

/// An answer from a stored object: whole, a part of it, or 304.
fn from_stored(
    node: &Node,
    request: &Request,
    object: &Arc<Object>,
    age_ms: u64,
    cache_status: CacheStatus,
    outcome: Outcome,
) -> Answer {
    let story = Story {
        age_ms: Some(age_ms),
        ..Story::new(outcome)
    };
    let age_s = age_ms / 1000;
    let conditional = request.facts.is_conditional() || request.facts.has_range();
    if conditional && object.status == StatusCode::OK {
        let selected = select_part(request, &object.facts, object.body.len() as u64);
        if selected != Part::Whole {
            let mut fields = object.fields.clone();
            fields.insert(AGE, HeaderValue::from(age_s));
            fields.insert(CACHE_STATUS, cache_status.value(node.name()));
            if let Part::Several(ranges) = &selected {
                let (head, body) = several(ranges, fields, &object.body);
                return Answer { head, body, story };
            }
            let (head, bounds) = part_head(&selected, fields, Some(object.body.len() as u64));
            let body = match bounds {
                Some((first, last)) if request.method == Method::GET => {
                    let end = usize::try_from(last + 1).unwrap_or(object.body.len());
                    Body::Whole(object.body.slice(first as usize..end))
                }
                _ => Body::Absent,
            };
            return Answer { head, body, story };
        }
    }
    let body = if request.method == Method::HEAD || is_bodyless(object.status) {
        Body::Absent
    } else {
        Body::Whole(object.body.clone())
    };
    Answer {
        head: Head::Stored {
            object: Arc::clone(object),
            age_s,
            cache_status,
        },
        body,
        story,
    }
}

/// Whether a fresh object is in the last part of its lifetime, where a refresh ahead of
/// its end may come.
fn is_ending(object: &Object, ttl_ms: u64, now_ms: u64) -> bool {
    refresh_is_due(object, ttl_ms, now_ms, u64::MAX)
}

fn refresh_is_due(object: &Object, ttl_ms: u64, now_ms: u64, place: u64) -> bool {
    let held_ms = now_ms.saturating_sub(object.stored_ms);
    http_cache::refresh_is_due(object.facts.lifetime_ms(), ttl_ms, held_ms, place)
}

/// Whether this node's moment has come to refresh what is fresh ahead of its end.
fn refreshes_ahead(
    node: &Node,
    request: &Request,
    object: &Object,
    ttl_ms: u64,
    now_ms: u64,
) -> bool {
    node.is_edge()
        && request.site.config.cache.refresh_ahead
        && is_ending(object, ttl_ms, now_ms)
        && !request.only_if_cached()
        && {
            let place = topology::draw(node.name(), &request.digest().0);
            refresh_is_due(object, ttl_ms, now_ms, place)
        }
}

/// Refreshes a stored object in the background; one fill however many ask.
fn refresh(node: &Arc<Node>, request: &Request, object: &Arc<Object>, glance: Glance) {
    // A HEAD brings no body to refresh with; the next GET will.
    if request.method != Method::GET {
        return;
    }
    let key = FlightKey {
        key: request.key.clone(),
        // Whoever waits for the same boards the same flight.
        selector: known_selector(node, request),
        range: None,
        reload: false,
        onward: tiers::onward(node, request),
        rev: request.site.rev.clone(),
    };
    let (passenger, pilot) = Flights::board(node, key, node.purged.last(request.digest()));
    drop(passenger);
    if let Some(pilot) = pilot
        && let Some(pilot) = take_off(node, request, Some(object), pilot)
    {
        let stored = Some(Arc::clone(object));
        let mut plan = Plan::new(node, request, Purpose::Shared, stored, glance);
        plan.outbound.background = true;
        plan.refresh = Some(Box::new(report::refresh(request)));
        launch(plan, pilot);
    }
}
