//! Flies a fill from take-off to landing.
//!
//! ```text
//!   reach a verified answer ── none ──▶ Failed
//!     │
//!     ├─ 304 to our validators ──▶ freshen, store, Revalidated
//!     │
//!     └─ anything else ──▶ Response, then its body (`carry`)
//! ```

use std::sync::Arc;

use http::header::{AGE, CONTENT_LENGTH, SET_COOKIE};
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use http_cache::{NotStored, Policy, RequestFacts, ResponseFacts, Vary};
use observe::{FillEnd, Record};
use store::{Glance, Key, Object, Ticket};

use super::carry::Carrier;
use super::complete::{Around, ask_for_rest, combine};
use super::flight::{Failure, Fetched, Flight, Pilot, Published};
use super::freshen::{arrival, heed_head, restore_date, revalidated};
use super::reach::{Reached, Route, reach};
use crate::coding;
use crate::fields::{self, ProxyError};
use crate::groups;
use crate::key;
use crate::policies::Ruling;
use crate::report;
use crate::request::Request;
use crate::seal::{self, Outbound, Purpose};
use crate::state::Node;

/// How long an uncacheable answer lets requests for its key go alone.
const HIT_FOR_MISS_MS: u64 = 60_000;

/// Why a response that everybody may read is not kept.
const TOO_LARGE: &str = "too-large";

/// What a fill is to do.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) node: Arc<Node>,
    pub(crate) route: Route,
    pub(crate) outbound: Outbound,
    pub(crate) purpose: Purpose,
    pub(crate) ticket: Ticket,
    /// Which policy of the site decides about storing…
    pub(crate) ruling: Ruling,
    /// …and the facts that it decides by.
    pub(crate) facts: RequestFacts,
    /// The fields `Vary` selects by.
    pub(crate) request_fields: HeaderMap,
    /// What is stored and stale, for validation.
    pub(crate) stored: Option<Arc<Object>>,
    /// A fresh part of what is asked for.
    pub(crate) part: Option<Arc<Object>>,
    /// No more than a part is asked for.
    asks_part: bool,
    /// The record of a fill that no request will tell of.
    pub(crate) refresh: Option<Box<Record>>,
}

impl Plan {
    /// A fill for a request. `glance` is from before `stored` was looked up.
    pub(crate) fn new(
        node: &Arc<Node>,
        request: &Request,
        purpose: Purpose,
        stored: Option<Arc<Object>>,
        glance: Glance,
    ) -> Self {
        let now_ms = node.now_ms();
        let tells = stored.is_some() && is_anybodys_head(request);
        let sent_as = if tells { Purpose::Shared } else { purpose };
        let stale_may_serve = stored.as_ref().is_some_and(|object| {
            http_cache::may_serve_on_error(&request.facts, &object.facts, now_ms)
        });
        Self {
            node: Arc::clone(node),
            route: Route {
                live: Arc::clone(&request.live),
                site: Arc::clone(&request.site),
                digest: request.digest().0,
                hop: request.hop(),
                stale_may_serve,
                only_if_cached: request.facts.only_if_cached(),
                watch: request.watch,
                interim: None,
                is_retry: false,
            },
            outbound: Outbound::new(node, request, sent_as),
            purpose,
            ticket: node.store.ticket_since(&Key::new(&request.key), glance),
            ruling: request.ruling,
            facts: request.facts,
            request_fields: request.fields.clone(),
            stored,
            part: None,
            asks_part: false,
            refresh: None,
        }
    }

    /// Asks for no more than this range, for everybody who asks for the same.
    pub(crate) fn ask_part(&mut self, range: HeaderValue) {
        self.outbound.ask_part(range, None);
        self.asks_part = true;
    }

    pub(super) fn policy(&self) -> &Policy {
        self.route.site.policies.get(self.ruling)
    }

    /// Whether it is a HEAD whose answer says something about what is stored.
    pub(super) fn is_telling_head(&self) -> bool {
        self.outbound.method == Method::HEAD && self.outbound.is_everybodys()
    }
}

/// Whether a HEAD asks what everybody's GET would be answered with. It is sent like a
/// fill for everybody, so that its answer may change what everybody gets.
fn is_anybodys_head(request: &Request) -> bool {
    let facts = &request.facts;
    let others = !facts.has_authorization() && !facts.is_conditional() && !facts.no_store();
    request.method == Method::HEAD
        && others
        && !facts.only_if_cached()
        && !key::has_other_cookies(&request.fields, &request.site.config.key)
        && !seal::is_for_one(request)
}

/// What everybody who needs upstream work gets while a node has as much of it under way
/// as it may.
pub(crate) fn shed(node: &Node) -> Failure {
    node.observer.metrics().shed();
    Failure {
        status: StatusCode::SERVICE_UNAVAILABLE,
        error: ProxyError::new(
            "connection_limit_reached",
            "`fetches_max` fetches are under way here",
        ),
        no_answer: None,
    }
}

/// Takes off: from here on nobody can cancel it.
pub(crate) fn launch(mut plan: Plan, pilot: Pilot) {
    let Ok(place) = Arc::clone(&plan.node.fetches).try_acquire_owned() else {
        pilot.publish(Published::Failed(Arc::new(shed(&plan.node))));
        return;
    };
    let busy = plan.node.work.begin();
    let refresh = plan.refresh.take();
    let flight = Arc::clone(&pilot.flight);
    // Counted before anybody can have the answer that it goes on behind.
    let in_flight = plan.node.observer.metrics().fill_begins();
    tokio::spawn(async move {
        // Cut at the end of a drain, the pilot lands on its own: the body breaks.
        let flown = busy.run(Box::pin(fly(&plan, pilot))).await;
        let end = flown.unwrap_or(FillEnd::Broken);
        plan.node.observer.metrics().fill_ends(end);
        if let Some(record) = refresh {
            let attempts = std::mem::take(&mut *flight.attempts.lock());
            let duration_us = plan.route.watch.elapsed_us();
            report::refreshed(&plan.node, *record, attempts, duration_us);
        }
        drop((in_flight, busy, place));
    });
}

async fn fly(plan: &Plan, mut pilot: Pilot) -> FillEnd {
    let flight = Arc::clone(&pilot.flight);
    let mut outbound = plan.outbound.clone();
    let validating = plan.purpose == Purpose::Shared
        && plan.stored.as_ref().is_some_and(|stored| {
            let validators = http_cache::validation_fields(&stored.facts);
            let any = !validators.is_empty();
            outbound.validate(validators.into_iter().map(|(name, value)| {
                // The next hop does not know the coded form by its tag.
                let plain = coding::plain_tag(&value);
                (name, plain.unwrap_or(value))
            }));
            any
        });
    let completing = ask_for_rest(plan, &mut outbound);
    let mut reached = ask(plan, &outbound, &flight).await;
    if let Ok(answer) = &reached
        && is_behind(plan, answer)
    {
        let again = ask(plan, &outbound, &flight).await;
        if let Ok(behind) = std::mem::replace(&mut reached, again) {
            behind.response.discard(&plan.node).await;
        }
    }
    if validating
        && let Ok(answer) = &reached
        && answer.response.status == StatusCode::NOT_MODIFIED
    {
        if let Some((object, may_be_stored)) = revalidated(plan, answer) {
            let object = Arc::new(object);
            let kept = if may_be_stored {
                plan.node
                    .store
                    .put(&plan.ticket, Arc::clone(&object))
                    .is_ok()
            } else {
                // The 304 says so of what we hold.
                plan.node.store.purge(plan.ticket.key().as_bytes());
                false
            };
            pilot.publish(Published::Revalidated {
                object,
                shared: may_be_stored,
            });
            pilot.close_doors();
            if let Ok(answer) = reached {
                answer.response.discard(&plan.node).await;
            }
            return if kept {
                FillEnd::Stored
            } else {
                FillEnd::NotStored
            };
        }
        // A 304 that answers no validator of ours tells us nothing.
        if let Ok(answer) = &mut reached {
            answer.response.give_way();
        }
        reached = ask(plan, &plan.outbound, &flight).await;
    }
    let mut around = Around::default();
    if completing && let Ok(answer) = &mut reached {
        match combine(plan, answer) {
            Some(combined) => around = combined,
            // What came is of another representation, or nobody can tell.
            None => {
                answer.response.give_way();
                let again = ask(plan, &plan.outbound, &flight).await;
                if let Ok(rest) = std::mem::replace(&mut reached, again) {
                    rest.response.discard(&plan.node).await;
                }
            }
        }
    }
    match reached {
        Ok(answer) if is_unasked(plan, answer.response.status) => {
            let failure = Failure {
                status: StatusCode::BAD_GATEWAY,
                error: ProxyError::new(
                    "http_protocol_error",
                    "the upstream answered a condition that was not set",
                ),
                no_answer: None,
            };
            pilot.publish(Published::Failed(Arc::new(failure)));
            FillEnd::Failed
        }
        Ok(answer) => deliver(plan, pilot, answer, around).await,
        Err(failure) => {
            pilot.publish(Published::Failed(Arc::new(failure)));
            FillEnd::Failed
        }
    }
}

/// Reaches an answer, in the form in which it is to be delivered.
async fn ask(plan: &Plan, outbound: &Outbound, flight: &Flight) -> Result<Reached, Failure> {
    let reached = reach(&plan.node, &plan.route, outbound, &flight.attempts).await;
    let compresses = plan.node.is_edge() && plan.route.site.config.cache.compress;
    reached.map(|mut answer| {
        if compresses {
            code(plan, &mut answer);
        }
        answer
    })
}

/// Compresses what came plain, where the visitor takes it and gains by it.
fn code(plan: &Plan, answer: &mut Reached) {
    let response = &mut answer.response;
    if response.status == StatusCode::NOT_MODIFIED {
        if let Some(stored) = &plan.stored {
            coding::apply_to_304(&stored.fields, &mut response.fields);
        }
        return;
    }
    let length = response
        .fields
        .get(CONTENT_LENGTH)
        .and_then(|length| length.to_str().ok()?.trim().parse().ok());
    let choice = coding::choose(
        &plan.request_fields,
        response.status,
        &response.fields,
        length,
    );
    coding::apply(choice, &mut response.fields);
    if choice == coding::Choice::Gzip && plan.outbound.method == Method::GET {
        response.encode();
    }
}

/// Whether the next tier missed an invalidation that is known here.
fn is_behind(plan: &Plan, answer: &Reached) -> bool {
    let digest = control::KeyDigest(plan.route.digest);
    groups::is_behind(&plan.node, plan.ticket.key().as_bytes(), digest, answer)
}

/// A fill for everybody that sets no condition cannot be told "not modified".
fn is_unasked(plan: &Plan, status: StatusCode) -> bool {
    plan.purpose == Purpose::Shared && status == StatusCode::NOT_MODIFIED
}

/// Publishes the head, then brings the body home.
async fn deliver(plan: &Plan, mut pilot: Pilot, mut answer: Reached, around: Around) -> FillEnd {
    let node = &plan.node;
    let flight = Arc::clone(&pilot.flight);
    heed_head(plan, &answer);
    let mut fetched = fetched(plan, &mut answer);
    fetched.completed = !around.is_empty();
    let bodyless =
        plan.outbound.method == Method::HEAD || fetched.status == StatusCode::NOT_MODIFIED;
    if !fetched.kept {
        flight.body.pass_through();
    }
    let too_large = fetched.shared && fetched.detail == Some(TOO_LARGE);
    if too_large {
        let digest = control::KeyDigest(plan.route.digest);
        node.oversized.remember(digest, node.now_ms());
    }
    let of_whole = plan.purpose == Purpose::Shared && !plan.asks_part;
    if of_whole && !fetched.shared && !fetched.yields_to_stale {
        node.store
            .mark_pass(&plan.ticket, node.now_ms() + HIT_FOR_MISS_MS);
        node.observer.metrics().hit_for_miss();
    }
    if !fetched.kept {
        pilot.close_doors();
    }
    let fetched = Arc::new(fetched);
    // What has no body is whole with its head, so it is stored before its head is
    // given away; all else before its last bytes are.
    let empty = fetched.length == Some(0) || fetched.status == StatusCode::NO_CONTENT;
    let stored_first = fetched.kept && empty && !bodyless;
    let published = Published::Response(Arc::clone(&fetched));
    if !stored_first {
        pilot.publish(published.clone());
    }
    if bodyless {
        flight.body.finish(Ok(()));
        answer.response.discard(node).await;
        return FillEnd::NotStored;
    }
    let mut carrier = Carrier::new(plan, &mut pilot, &fetched, answer, around);
    let end = carrier.carry().await;
    let answer = carrier.into_answer();
    if stored_first {
        pilot.publish(published);
    }
    if matches!(
        end,
        FillEnd::Stored | FillEnd::Streamed | FillEnd::NotStored
    ) {
        answer.response.release(node).await;
    }
    end
}

/// What is delivered of a response, and whether it is kept.
fn fetched(plan: &Plan, answer: &mut Reached) -> Fetched {
    let node = &plan.node;
    let policy = plan.policy();
    let status = answer.response.status;
    let facts = ResponseFacts::of(status, &answer.response.fields, arrival(answer), policy);
    let mut delivered = std::mem::take(&mut answer.response.fields);
    let storable = if plan.asks_part && status == StatusCode::PARTIAL_CONTENT {
        http_cache::storable_part(&plan.facts, &delivered, &facts, policy)
    } else {
        http_cache::storable(&plan.facts, &facts, policy)
    };
    let mut storable = storable.map_err(NotStored::as_str);
    http_cache::remove_hop_by_hop(&mut delivered);
    restore_date(&mut delivered, answer);
    fields::append_via(&mut delivered, node.name());
    let age_s = delivered
        .remove(AGE)
        .and_then(|age| age.to_str().ok()?.trim().parse().ok());
    let upstream_cache_status = fields::joined(&delivered, &fields::CACHE_STATUS);
    delivered.remove(fields::CACHE_STATUS);
    if policy.set_cookie == http_cache::SetCookie::Strip && storable.is_ok() {
        delivered.remove(SET_COOKIE);
    }
    let length = delivered
        .get(CONTENT_LENGTH)
        .and_then(|length| length.to_str().ok()?.trim().parse().ok());
    match length {
        // RFC 9110 §8.6: a 204 has none; one that was told twice is told once.
        _ if status == StatusCode::NO_CONTENT => {
            delivered.remove(CONTENT_LENGTH);
        }
        Some(length) => {
            let length: u64 = length;
            delivered.insert(CONTENT_LENGTH, HeaderValue::from(length));
        }
        None => {}
    }
    let vary = Vary::of(&delivered);
    let selector = vary.selector(&plan.request_fields, policy);
    if plan.outbound.hides(&vary, &plan.request_fields) {
        storable = Err("vary_hidden");
    }
    if !plan.outbound.may_be_kept {
        storable = storable.and(Err("alone"));
    }
    let groups = groups::of_response(node, &plan.ticket, &delivered);
    if let Err(too_many) = groups {
        storable = storable.and(Err(too_many.as_str()));
    }
    let groups = groups.unwrap_or_default();
    let fits = length.is_none_or(|length| length <= node.config.store.object_bytes_max);
    let complete = plan.outbound.method == Method::GET;
    let yields_to_stale = http_cache::is_error_for_stale(status);
    Fetched {
        status,
        fields: delivered,
        age_s,
        vary,
        selector,
        groups,
        upstream_cache_status,
        outcome_behind: answer
            .tier
            .as_ref()
            .map(|tier| tier.outcome.as_str().into()),
        length,
        shared: storable.is_ok(),
        kept: storable.is_ok() && fits && complete,
        completed: false,
        yields_to_stale,
        detail: match storable {
            Ok(()) if !fits => Some(TOO_LARGE),
            Ok(()) => None,
            Err(reason) => Some(reason),
        },
        no_answer: answer.no_answer(),
        facts,
    }
}
