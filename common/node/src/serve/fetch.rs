//! Answers that have to be waited for: boarding a flight, or flying alone.

use std::sync::Arc;

use http::header::AGE;
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use http_cache::{Decision, Selector};
use observe::Outcome;
use store::Object;

use super::partial;
use super::parts::{Part, is_bodyless, part_head, select_part};
use super::{Fetch, from_stored, hit_status, slices};
use crate::answer::{Answer, Body, Head, Story};
use crate::fields::{CACHE_STATUS, CacheStatus, Forward, ProxyError};
use crate::fill::flight::{
    Failure, Fetched, Flight, FlightKey, Flights, Passenger, Pilot, Published,
};
use crate::fill::run::{Plan, launch};
use crate::fill::tiers;
use crate::request::Request;
use crate::seal::Purpose;
use crate::state::Node;
use crate::upstream::millis;

/// Flights one request boards before it goes alone: the first, the one of its
/// variant, and one more should the variants have changed meanwhile.
pub(super) const BOARDINGS_MAX: usize = 3;

/// A fill bounds its own wait; this much longer is waited for it by whoever began it.
const LEADER_SLACK_MS: u64 = 2_000;

pub(super) async fn fetched_answer(node: &Arc<Node>, request: &Request, fetch: Fetch) -> Answer {
    if request.only_if_cached() && !may_ask_stores(node, request) {
        // RFC 9111 §5.2.1.7: nothing stored may be used, so 504.
        let error = ProxyError::new("destination_unavailable", "only-if-cached: not stored here");
        return Answer::error(node, StatusCode::GATEWAY_TIMEOUT, &error);
    }
    if request.facts.has_range()
        && let Some(answer) = Box::pin(slices::answer(node, request, &fetch)).await
    {
        return answer;
    }
    if fetch.purpose == Purpose::Alone {
        return alone(node, request, &fetch).await;
    }
    let mut selector = known_selector(node, request);
    for _ in 0..BOARDINGS_MAX {
        match board(node, request, &fetch, selector.take()).await {
            Boarding::Answered(answer) => return *answer,
            Boarding::OtherVariant(wanted) => selector = Some(wanted),
            // From now on the key counts as purged, and the flight is boarded no more.
            Boarding::Outdated(invalidated_ms) => {
                node.purged.remember(request.digest(), invalidated_ms);
            }
            Boarding::NotForUs => break,
        }
    }
    alone(node, request, &fetch).await
}

/// What came of boarding one flight.
enum Boarding {
    Answered(Box<Answer>),
    /// It brings another variant than this request wants.
    OtherVariant(Selector),
    /// It took off before a group of what it brings was invalidated, Unix milliseconds.
    Outdated(u64),
    /// What it brings is one visitor's, or the wait for it is over.
    NotForUs,
}

async fn board(
    node: &Arc<Node>,
    request: &Request,
    fetch: &Fetch,
    selector: Option<Selector>,
) -> Boarding {
    let policy = request.policy();
    // Who refuses what is stored here must not be given it by the next tier.
    let reload = request.facts.demands_validation() || fetch.why == Forward::Request;
    let range = partial::asked_as_it_is(request, fetch);
    let key = FlightKey {
        key: request.key.clone(),
        selector,
        range: range.clone(),
        reload,
        onward: tiers::onward(node, request),
        rev: request.site.rev.clone(),
    };
    let purged_ms = node.purged.last(request.digest());
    let (mut passenger, pilot) = Flights::board(node, key, purged_ms);
    let leads = pilot.is_some();
    let mut dropped_cookies = false;
    if let Some(pilot) = pilot
        && let Some(pilot) = take_off(node, request, fetch.stored.as_ref(), pilot)
    {
        let stored = fetch.stored.clone();
        let mut plan = Plan::new(node, request, Purpose::Shared, stored, fetch.glance);
        if reload {
            plan.outbound.reload();
        }
        if let Some(range) = range {
            plan.ask_part(range);
        }
        plan.part.clone_from(&fetch.part);
        plan.route.interim.clone_from(&fetch.interim);
        dropped_cookies = plan.outbound.dropped_cookies;
        launch(plan, pilot);
    }
    let wait_ms = if leads {
        node.config.timeouts.answer_ms + LEADER_SLACK_MS
    } else {
        node.config.timeouts.collapse_ms
    };
    let published = pingora_timeout::timeout(millis(wait_ms), passenger.published()).await;
    let flight = leads.then(|| Arc::clone(&passenger.flight));
    let answer = match published {
        Err(_) => return Boarding::NotForUs,
        Ok(Published::Failed(failure)) => failed(node, request, fetch, &failure, flight),
        Ok(Published::Landed(object)) => match from_landed(node, request, &object) {
            Some(answer) => answer,
            None => return Boarding::NotForUs,
        },
        Ok(Published::Revalidated { object, shared }) => {
            if let Some(invalidated_ms) = outdated(node, &object.groups, leads) {
                return Boarding::Outdated(invalidated_ms);
            }
            let wanted = object
                .vary
                .matches(&object.selector, &request.fields, policy);
            if !wanted {
                let wanted = object.vary.selector(&request.fields, policy);
                return Boarding::OtherVariant(wanted);
            }
            if !shared && !leads {
                return Boarding::NotForUs;
            }
            from_revalidated(node, request, fetch, &object, flight)
        }
        Ok(Published::Response(fetched)) => {
            if let Some(invalidated_ms) = outdated(node, &fetched.groups, leads) {
                return Boarding::Outdated(invalidated_ms);
            }
            if let Some(answer) = stale_instead(node, request, fetch, &fetched, flight.clone()) {
                return Boarding::Answered(Box::new(answer));
            }
            // What was asked without this visitor's cookies and is not everybody's
            // is not this visitor's either.
            // That nobody answers is for everybody: each would only find it out again.
            let is_everybodys = fetched.shared || fetched.no_answer.is_some();
            if !is_everybodys && (!leads || dropped_cookies) {
                return Boarding::NotForUs;
            }
            if !leads && !fetched.matches(&request.fields, policy) {
                return Boarding::OtherVariant(fetched.vary.selector(&request.fields, policy));
            }
            delivered(node, request, fetch, fetched, passenger, leads).await
        }
    };
    Boarding::Answered(Box::new(answer))
}

/// Lets a new flight take off, unless what it is to bring has landed since the store was
/// looked into: a flight leaves the registry only after its object is stored, so whoever
/// did not meet it there finds that. `stored` is what was found before.
pub(super) fn take_off(
    node: &Node,
    request: &Request,
    stored: Option<&Arc<Object>>,
    mut pilot: Pilot,
) -> Option<Pilot> {
    let entry = node.store.get(&request.key);
    let object = entry
        .as_ref()
        .and_then(|entry| entry.select(&request.fields, request.policy()))
        .filter(|object| stored.is_none_or(|stored| !Arc::ptr_eq(stored, object)))
        .filter(|object| is_fresh_hit(node, request, object).is_some());
    let Some(object) = object else {
        return Some(pilot);
    };
    pilot.publish(Published::Landed(Arc::clone(object)));
    pilot.close_doors();
    None
}

/// Its age and the time it has left, if a stored object answers a request as it is.
fn is_fresh_hit(node: &Node, request: &Request, object: &Object) -> Option<(u64, u64)> {
    let purged_ms = node.purged.last(request.digest());
    let stands = control::epoch::stands(object.stored_ms, purged_ms)
        && node.store.stands(&object.groups)
        && !partial::is_part(object);
    let decision = http_cache::decide(&request.facts, Some(&object.facts), node.now_ms());
    match decision {
        Decision::Fresh { age_ms, ttl_ms } if stands => Some((age_ms, ttl_ms)),
        _ => None,
    }
}

/// A hit of what has just been stored, for whoever it answers.
fn from_landed(node: &Node, request: &Request, object: &Arc<Object>) -> Option<Answer> {
    let policy = request.policy();
    if !object
        .vary
        .matches(&object.selector, &request.fields, policy)
    {
        return None;
    }
    let (age_ms, ttl_ms) = is_fresh_hit(node, request, object)?;
    let ttl_s = i64::try_from(ttl_ms / 1000).unwrap_or(i64::MAX);
    let status = hit_status(object, ttl_s);
    Some(from_stored(
        node,
        request,
        object,
        age_ms,
        status,
        Outcome::Hit,
    ))
}

/// When a group of what a flight brings was invalidated since it took off. Whoever
/// began it asked before, and may have it; the others may have come since.
fn outdated(node: &Node, groups: &store::Groups, leads: bool) -> Option<u64> {
    if leads {
        return None;
    }
    // A soft purge has no time: it lets stale content be used.
    node.store.invalidated_ms(groups).filter(|at_ms| *at_ms > 0)
}

/// Where misses go over upper tiers, `only-if-cached` asks their stores too.
fn may_ask_stores(node: &Node, request: &Request) -> bool {
    tiers::asks_tiers(node, &request.site.config, request.hop())
}

/// The variant this request wants, if what is stored tells how variants differ.
pub(super) fn known_selector(node: &Node, request: &Request) -> Option<Selector> {
    let entry = node.store.get(&request.key)?;
    let newest = entry.variants.first()?;
    match &newest.vary {
        http_cache::Vary::Fields(_) => {
            Some(newest.vary.selector(&request.fields, request.policy()))
        }
        _ => None,
    }
}

/// Fetches for this request alone.
async fn alone(node: &Arc<Node>, request: &Request, fetch: &Fetch) -> Answer {
    let (mut passenger, pilot) = Flights::alone(node.now_ms());
    let stored = fetch.stored.clone();
    let mut plan = Plan::new(node, request, Purpose::Alone, stored, fetch.glance);
    plan.route.interim.clone_from(&fetch.interim);
    // An HTTP/1.0 client knows no Cache-Control, and asks as it can.
    if request.facts.demands_validation() {
        plan.outbound.reload();
    }
    launch(plan, pilot);
    let wait = millis(node.config.timeouts.answer_ms + LEADER_SLACK_MS);
    let published = pingora_timeout::timeout(wait, passenger.published()).await;
    let flight = Some(Arc::clone(&passenger.flight));
    match published {
        Ok(Published::Response(fetched)) => {
            if let Some(answer) = stale_instead(node, request, fetch, &fetched, flight) {
                return answer;
            }
            let cache_status = forward_status(fetch, &fetched, false);
            let outcome = if fetch.why == Forward::Bypass {
                Outcome::Bypass
            } else {
                Outcome::Miss
            };
            whole(node, request, &fetched, passenger, &cache_status, outcome)
        }
        Ok(Published::Failed(failure)) => failed(node, request, fetch, &failure, flight),
        Ok(Published::Revalidated { .. } | Published::Landed(_)) | Err(_) => {
            let failure = Failure {
                status: StatusCode::GATEWAY_TIMEOUT,
                error: ProxyError::new("http_response_timeout", "no answer in time"),
                no_answer: None,
            };
            failed(node, request, fetch, &failure, flight)
        }
    }
}

fn forward_status(fetch: &Fetch, fetched: &Fetched, collapsed: bool) -> CacheStatus {
    CacheStatus {
        upstream: fetched.upstream_cache_status.clone(),
        forward: Some(fetch.why),
        forward_status: Some(if fetched.completed {
            StatusCode::PARTIAL_CONTENT.as_u16()
        } else {
            fetched.status.as_u16()
        }),
        stored: fetched.kept,
        collapsed,
        detail: fetch.detail.or(fetched.detail),
        ..CacheStatus::default()
    }
}

/// An answer from a stored object that its upstream just confirmed.
fn from_revalidated(
    node: &Node,
    request: &Request,
    fetch: &Fetch,
    object: &Arc<Object>,
    flight: Option<Arc<Flight>>,
) -> Answer {
    let cache_status = CacheStatus {
        upstream: object.upstream_cache_status.clone(),
        forward: Some(fetch.why),
        forward_status: Some(StatusCode::NOT_MODIFIED.as_u16()),
        stored: true,
        collapsed: flight.is_none(),
        ..CacheStatus::default()
    };
    let age_ms = object.facts.age_ms(node.now_ms());
    let outcome = Outcome::Revalidated;
    let mut answer = from_stored(node, request, object, age_ms, cache_status, outcome);
    answer.story.flight = flight;
    answer
}

/// An answer from a flight.
async fn delivered(
    node: &Arc<Node>,
    request: &Request,
    fetch: &Fetch,
    fetched: Arc<Fetched>,
    passenger: Passenger,
    leads: bool,
) -> Answer {
    let flight = leads.then(|| Arc::clone(&passenger.flight));
    let cache_status = forward_status(fetch, &fetched, !leads);
    let outcome = if leads {
        Outcome::Miss
    } else {
        node.observer.metrics().collapsed();
        Outcome::Collapsed
    };
    if fetched.status == StatusCode::OK
        && (request.facts.is_conditional() || request.facts.has_range())
    {
        let length = fetched.length.unwrap_or(u64::MAX);
        let part = select_part(request, &fetched.facts, length);
        let ranged = matches!(part, Part::Range { .. } | Part::Unsatisfiable);
        let cannot_be_cut = !fetched.kept || fetched.length.is_none();
        if ranged && cannot_be_cut && partial::asked_for_part(request, fetch) {
            // Its origin was asked for a part and sent the whole: so do we.
            return whole(node, request, &fetched, passenger, &cache_status, outcome);
        }
        if ranged && cannot_be_cut {
            // A part of what is not kept is fetched as that part.
            drop(passenger);
            return alone(node, request, fetch).await;
        }
        // Several parts are cut out of what is stored; while it grows it comes whole.
        if !matches!(part, Part::Whole | Part::Several(_)) {
            let mut fields = delivered_fields(node, request, &fetched, &cache_status);
            fields.remove(http::header::TRANSFER_ENCODING);
            let (head, bounds) = part_head(&part, fields, fetched.length);
            let body = match (bounds, passenger.reader) {
                (Some((first, last)), Some(reader)) => Body::Growing {
                    reader,
                    skip: first,
                    length: Some(last - first + 1),
                },
                _ => Body::Absent,
            };
            let story = Story {
                flight,
                age_ms: Some(fetched.facts.age_ms(node.now_ms())),
                outcome_behind: behind(request, &fetched),
                ..Story::new(outcome)
            };
            return Answer { head, body, story };
        }
    }
    whole(node, request, &fetched, passenger, &cache_status, outcome)
}

fn delivered_fields(
    node: &Node,
    request: &Request,
    fetched: &Fetched,
    cache_status: &CacheStatus,
) -> HeaderMap {
    let mut fields = if cache_status.collapsed {
        // Others get what a stored response would give them, and no field that is
        // withheld from storing.
        http_cache::stored_fields(&fetched.fields, request.policy())
    } else {
        fetched.fields.clone()
    };
    let age_s = if cache_status.collapsed {
        // A body that grows for long grows old.
        let age_s = fetched.facts.age_ms(node.now_ms()) / 1000;
        (age_s > 0 || fetched.age_s.is_some()).then_some(age_s)
    } else {
        fetched.age_s
    };
    if let Some(age_s) = age_s {
        fields.insert(AGE, HeaderValue::from(age_s));
    }
    fields.insert(CACHE_STATUS, cache_status.value(node.name()));
    fields
}

/// All of a fetched response.
fn whole(
    node: &Node,
    request: &Request,
    fetched: &Fetched,
    passenger: Passenger,
    cache_status: &CacheStatus,
    outcome: Outcome,
) -> Answer {
    let fields = delivered_fields(node, request, fetched, cache_status);
    let body = match passenger.reader {
        Some(reader) if request.method == Method::GET && !is_bodyless(fetched.status) => {
            Body::Growing {
                reader,
                skip: 0,
                length: fetched.length,
            }
        }
        _ => Body::Absent,
    };
    Answer {
        head: Head::Built {
            status: fetched.status,
            fields,
        },
        body,
        story: Story {
            detail: fetched.detail.unwrap_or("").into(),
            flight: (outcome != Outcome::Collapsed).then_some(passenger.flight),
            age_ms: Some(fetched.facts.age_ms(node.now_ms())),
            no_answer: fetched.no_answer,
            outcome_behind: behind(request, fetched),
            ..Story::new(outcome)
        },
    }
}

/// What the tier before is to be told of the one behind.
fn behind(request: &Request, fetched: &Fetched) -> Option<Box<str>> {
    let is_told = request.tier.is_some();
    fetched.outcome_behind.clone().filter(|_| is_told)
}

/// A stored response in place of an upstream's error, where that is allowed.
fn stale_instead(
    node: &Node,
    request: &Request,
    fetch: &Fetch,
    fetched: &Fetched,
    flight: Option<Arc<Flight>>,
) -> Option<Answer> {
    if !fetched.yields_to_stale {
        return None;
    }
    let mut answer = stale(node, request, fetch, Some(fetched.status))?;
    answer.story.flight = flight;
    Some(answer)
}

/// The last resort: stale where it may be, else the error itself.
fn failed(
    node: &Node,
    request: &Request,
    fetch: &Fetch,
    failure: &Failure,
    flight: Option<Arc<Flight>>,
) -> Answer {
    let mut answer =
        stale(node, request, fetch, None).unwrap_or_else(|| Answer::failure(node, failure));
    if let Head::Built { fields, .. } = &mut answer.head {
        let cache_status = CacheStatus {
            forward: Some(fetch.why),
            ..CacheStatus::default()
        };
        fields
            .entry(CACHE_STATUS)
            .or_insert_with(|| cache_status.value(node.name()));
    }
    answer.story.flight = flight;
    answer
}

/// RFC 5861 §4: a stale response instead of an error.
fn stale(
    node: &Node,
    request: &Request,
    fetch: &Fetch,
    status: Option<StatusCode>,
) -> Option<Answer> {
    let object = fetch.stored.as_ref()?;
    let now_ms = node.now_ms();
    let allowed = http_cache::may_serve_on_error(&request.facts, &object.facts, now_ms)
        && node.store.still_counts(&request.key, fetch.glance)
        && node.store.stands(&object.groups)
        && (!node.is_edge()
            || request
                .site
                .config
                .fallback
                .contains(&config::Fallback::Stale));
    if !allowed {
        return None;
    }
    node.observer.metrics().stale_served("error");
    let age_ms = object.facts.age_ms(now_ms);
    let stale_for_ms = age_ms.saturating_sub(object.facts.lifetime_ms());
    let cache_status = CacheStatus {
        upstream: object.upstream_cache_status.clone(),
        // RFC 9211 §2.1, §2.2: it was forwarded, so it is no hit.
        forward: Some(fetch.why),
        ttl_s: Some(-i64::try_from(stale_for_ms / 1000).unwrap_or(i64::MAX)),
        forward_status: status.map(|status| status.as_u16()),
        detail: Some("stale-if-error"),
        ..CacheStatus::default()
    };
    let outcome = Outcome::StaleHit;
    Some(from_stored(
        node,
        request,
        object,
        age_ms,
        cache_status,
        outcome,
    ))
}
