//! Flies a fill from take-off to landing.
//!
//! ```text
//!   reach a verified answer ── none ──▶ Failed
//!     │
//!     ├─ 304 to our validators ──▶ freshen, store, Revalidated
//!     │
//!     └─ anything else ──▶ Response, then its body:
//!           kept      every byte, stored when whole
//!           passing   a window, following the readers
//!           broken    resumed under a strong validator, else broken for all
//! ```

use std::sync::Arc;

use bytes::Bytes;
use http::header::{AGE, CONTENT_LENGTH, CONTENT_RANGE, DATE, ETAG, SET_COOKIE, VIA};
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use http_cache::{Arrival, NotStored, Policy, RequestFacts, ResponseFacts, Vary};
use observe::{FillEnd, Record};
use store::{Glance, Key, Object, Ticket};

use super::body::{Appended, Broken};
use super::flight::{Failure, Fetched, Pilot, Published};
use super::reach::{Reached, Route, reach};
use crate::answer;
use crate::clock;
use crate::fields::{self, ProxyError};
use crate::groups;
use crate::policies::Ruling;
use crate::report;
use crate::request::Request;
use crate::seal::{Outbound, Purpose};
use crate::state::Node;
use crate::upstream::millis;
use crate::upstream::send::SendError;

/// How long an uncacheable answer lets requests for its key go alone.
const HIT_FOR_MISS_MS: u64 = 60_000;

/// Why a response that everybody may read is not kept.
const TOO_LARGE: &str = "too-large";

/// How often one body is resumed before it counts as broken.
const RESUMES_MAX: u32 = 3;

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
        let now_ms = clock::now_ms();
        let stale_may_serve = stored.as_ref().is_some_and(|object| {
            http_cache::may_serve_on_error(&request.facts, &object.facts, now_ms)
        });
        Self {
            node: Arc::clone(node),
            route: Route {
                live: Arc::clone(&request.live),
                site: Arc::clone(&request.site),
                digest: request.digest().0,
                stale_may_serve,
                only_if_cached: request.facts.only_if_cached(),
                watch: request.watch,
                interim: None,
            },
            outbound: Outbound::new(node, request, purpose),
            purpose,
            ticket: node.store.ticket_since(&Key::new(&request.key), glance),
            ruling: request.ruling,
            facts: request.facts,
            request_fields: request.fields.clone(),
            stored,
            refresh: None,
        }
    }

    fn policy(&self) -> &Policy {
        self.route.site.policies.get(self.ruling)
    }
}

/// Takes off: from here on nobody can cancel it.
pub(crate) fn launch(mut plan: Plan, pilot: Pilot) {
    let busy = plan.node.work.begin();
    let refresh = plan.refresh.take();
    let flight = Arc::clone(&pilot.flight);
    tokio::spawn(async move {
        let in_flight = plan.node.observer.metrics().fill_begins();
        let end = Box::pin(fly(&plan, pilot)).await;
        plan.node.observer.metrics().fill_ends(end);
        if let Some(record) = refresh {
            let attempts = std::mem::take(&mut *flight.attempts.lock());
            let duration_us = plan.route.watch.elapsed_us();
            report::refreshed(&plan.node, *record, attempts, duration_us);
        }
        drop((in_flight, busy));
    });
}

async fn fly(plan: &Plan, mut pilot: Pilot) -> FillEnd {
    let flight = Arc::clone(&pilot.flight);
    let mut outbound = plan.outbound.clone();
    let validating = plan.purpose == Purpose::Shared
        && plan.stored.as_ref().is_some_and(|stored| {
            let validators = http_cache::validation_fields(&stored.facts);
            let any = !validators.is_empty();
            outbound.validate(validators);
            any
        });
    let mut reached = reach(&plan.node, &plan.route, &outbound, &flight.attempts).await;
    if let Ok(answer) = &reached
        && is_behind(plan, answer)
    {
        let again = reach(&plan.node, &plan.route, &outbound, &flight.attempts).await;
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
        reached = reach(&plan.node, &plan.route, &plan.outbound, &flight.attempts).await;
    }
    match reached {
        Ok(answer) if is_unasked(plan, answer.response.status) => {
            let failure = Failure {
                status: StatusCode::BAD_GATEWAY,
                error: ProxyError::new(
                    "http_protocol_error",
                    "the upstream answered a condition that was not set",
                ),
            };
            pilot.publish(Published::Failed(Arc::new(failure)));
            FillEnd::Failed
        }
        Ok(answer) => deliver(plan, pilot, answer).await,
        Err(failure) => {
            pilot.publish(Published::Failed(Arc::new(failure)));
            FillEnd::Failed
        }
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

/// The stored object, freshened by a 304 that answers its validators, and whether
/// it may still be stored.
fn revalidated(plan: &Plan, answer: &Reached) -> Option<(Object, bool)> {
    let stored = plan.stored.as_ref()?;
    let policy = plan.policy();
    let mut confirmed = answer.response.fields.clone();
    if !http_cache::answers_validator(&stored.facts, &confirmed) {
        return None;
    }
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
    let may_be_stored = groups.is_ok() && http_cache::storable(&plan.facts, &facts, policy).is_ok();
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
        stored_ms: answer.response.request_ms,
        groups,
    };
    Some((object, may_be_stored))
}

fn arrival(answer: &Reached) -> Arrival {
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

/// Publishes the head, then brings the body home.
async fn deliver(plan: &Plan, mut pilot: Pilot, mut answer: Reached) -> FillEnd {
    let node = &plan.node;
    let flight = Arc::clone(&pilot.flight);
    let fetched = fetched(plan, &mut answer);
    let bodyless =
        plan.outbound.method == Method::HEAD || fetched.status == StatusCode::NOT_MODIFIED;
    if !fetched.kept {
        flight.body.pass_through();
    }
    let too_large = fetched.shared && fetched.detail == Some(TOO_LARGE);
    if too_large {
        let digest = control::KeyDigest(plan.route.digest);
        node.oversized.remember(digest, clock::now_ms());
    }
    if plan.purpose == Purpose::Shared && !fetched.shared && !fetched.yields_to_stale {
        node.store
            .mark_pass(&plan.ticket, clock::now_ms() + HIT_FOR_MISS_MS);
        node.observer.metrics().hit_for_miss();
    }
    if !fetched.kept {
        pilot.close_doors();
    }
    let fetched = Arc::new(fetched);
    pilot.publish(Published::Response(Arc::clone(&fetched)));
    if bodyless {
        flight.body.finish(Ok(()));
        answer.response.discard(node).await;
        return FillEnd::NotStored;
    }
    let mut carrier = Carrier {
        plan,
        pilot: &mut pilot,
        fetched: &fetched,
        answer,
        reserved: Reserved { node, bytes: 0 },
        resumes: 0,
    };
    let end = carrier.carry().await;
    let answer = carrier.answer;
    if matches!(
        end,
        FillEnd::Stored | FillEnd::Streamed | FillEnd::NotStored
    ) {
        answer.response.release(node).await;
    }
    end
}

/// Room held of the node's budget for bodies in flight; given back when dropped.
struct Reserved<'a> {
    node: &'a Node,
    bytes: u64,
}

impl Reserved<'_> {
    /// Takes more room; false where there is none.
    fn grow(&mut self, bytes: u64) -> bool {
        let bytes_max = self.node.config.limits.fill_bytes_in_flight_max;
        let reserved = self.node.flights.reserve(bytes, bytes_max);
        if reserved {
            self.bytes += bytes;
            self.node.observer.metrics().fill_bytes(signed(bytes));
        }
        reserved
    }
}

impl Drop for Reserved<'_> {
    fn drop(&mut self) {
        self.node.flights.release(self.bytes);
        self.node.observer.metrics().fill_bytes(-signed(self.bytes));
    }
}

fn signed(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

/// What is delivered of a response, and whether it is kept.
fn fetched(plan: &Plan, answer: &mut Reached) -> Fetched {
    let node = &plan.node;
    let policy = plan.policy();
    let status = answer.response.status;
    let facts = ResponseFacts::of(status, &answer.response.fields, arrival(answer), policy);
    let mut storable = http_cache::storable(&plan.facts, &facts, policy).map_err(NotStored::as_str);
    let mut delivered = std::mem::take(&mut answer.response.fields);
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
        length,
        shared: storable.is_ok(),
        kept: storable.is_ok() && fits && complete,
        yields_to_stale,
        detail: match storable {
            Ok(()) if !fits => Some(TOO_LARGE),
            Ok(()) => None,
            Err(reason) => Some(reason),
        },
        facts,
    }
}

/// Carries one body from an upstream into its flight.
struct Carrier<'a> {
    plan: &'a Plan,
    pilot: &'a mut Pilot,
    fetched: &'a Fetched,
    answer: Reached,
    reserved: Reserved<'a>,
    resumes: u32,
}

impl Carrier<'_> {
    async fn carry(&mut self) -> FillEnd {
        loop {
            match self.answer.response.chunk().await {
                Ok(Some(chunk)) if chunk.is_empty() => {}
                Ok(Some(chunk)) if self.overshoots(&chunk) => return self.break_off(),
                Ok(Some(chunk)) => {
                    if self.ends_with(&chunk) {
                        return self.complete(chunk).await;
                    }
                    self.make_room(chunk.len() as u64);
                    if !self.append(chunk).await {
                        return FillEnd::NotStored;
                    }
                }
                Ok(None) if self.is_short() => {
                    if !self.resume(SendError::Closed).await {
                        return self.break_off();
                    }
                }
                Ok(None) => return self.complete(Bytes::new()).await,
                Err(error) => {
                    if !self.resume(error).await {
                        return self.break_off();
                    }
                }
            }
        }
    }

    /// Whether this chunk is the last of a body whose length is known.
    fn ends_with(&self, chunk: &Bytes) -> bool {
        let received = self.pilot.flight.body.len() + chunk.len() as u64;
        self.fetched.length == Some(received)
    }

    /// More than the length that was announced: a resumption that does not fit.
    fn overshoots(&self, chunk: &Bytes) -> bool {
        let received = self.pilot.flight.body.len() + chunk.len() as u64;
        self.fetched.length.is_some_and(|length| received > length)
    }

    fn is_short(&self) -> bool {
        let received = self.pilot.flight.body.len();
        self.fetched.length.is_some_and(|length| received < length)
    }

    /// A body takes room as it grows, and stops being kept where it turns out too
    /// large or the node has no room.
    fn make_room(&mut self, bytes: u64) {
        let body = &self.pilot.flight.body;
        if !body.is_kept() {
            return;
        }
        let too_large = body.len() + bytes > self.plan.node.config.store.object_bytes_max;
        if too_large || !self.reserved.grow(bytes) {
            self.pilot.close_doors();
            self.pilot.flight.body.pass_through();
        }
    }

    /// False when nobody wants the body any more.
    async fn append(&mut self, chunk: Bytes) -> bool {
        let node = &self.plan.node;
        let appended = self
            .pilot
            .flight
            .body
            .append(
                chunk,
                node.config.limits.fill_window_bytes as u64,
                millis(node.config.timeouts.laggard_ms),
            )
            .await;
        match appended {
            Appended::Taken { laggards_cut } => {
                if laggards_cut > 0 {
                    node.observer.metrics().laggards_cut(laggards_cut as u64);
                }
                true
            }
            Appended::Unwanted => false,
        }
    }

    /// The whole body is here. It is stored before its last bytes are given away,
    /// so that whoever has seen the end finds it stored.
    async fn complete(&mut self, last: Bytes) -> FillEnd {
        self.make_room(last.len() as u64);
        let whole = if self.fetched.kept {
            self.pilot.flight.body.assembled(&last)
        } else {
            None
        };
        let end = match whole {
            Some(body) => match self.keep(body) {
                Ok(()) => FillEnd::Stored,
                Err(_) => FillEnd::NotStored,
            },
            None => FillEnd::Streamed,
        };
        if !last.is_empty() {
            self.append(last).await;
        }
        self.pilot.flight.body.finish(Ok(()));
        self.pilot.close_doors();
        // The upstream's final chunk may still be unread; its connection is used
        // again only behind it.
        let _ = self.answer.response.chunk().await;
        end
    }

    fn keep(&self, body: Bytes) -> Result<(), store::NotKept> {
        let plan = self.plan;
        let mut kept_fields = http_cache::stored_fields(&self.fetched.fields, plan.policy());
        // RFC 9110 §8.6: a 204 has no Content-Length.
        if self.fetched.status != StatusCode::NO_CONTENT {
            kept_fields.insert(CONTENT_LENGTH, HeaderValue::from(body.len()));
        }
        let object = Object {
            status: self.fetched.status,
            head: answer::prepared_head(self.fetched.status, &kept_fields),
            fields: kept_fields,
            body,
            facts: self.fetched.facts.clone(),
            vary: self.fetched.vary.clone(),
            selector: self.fetched.selector.clone(),
            upstream_cache_status: self.fetched.upstream_cache_status.clone(),
            stored_ms: self.answer.response.request_ms,
            groups: self.fetched.groups.clone(),
        };
        plan.node.store.put(&plan.ticket, Arc::new(object))
    }

    /// Takes up the body where it broke: by range, under the strong validator it
    /// began with, by any way that still has exactly that representation.
    async fn resume(&mut self, error: SendError) -> bool {
        let received = self.pilot.flight.body.len();
        let etag = self.fetched.fields.get(ETAG).cloned();
        let (Some(etag), Some(length)) = (etag, self.fetched.length) else {
            return false;
        };
        let resumable = self.fetched.facts.has_strong_validator()
            && self.fetched.status == StatusCode::OK
            && error != SendError::Garbage
            && self.resumes < RESUMES_MAX;
        if !resumable {
            return false;
        }
        self.resumes += 1;
        let mut outbound = self.plan.outbound.clone();
        outbound.resume(received, &etag);
        let route = Route {
            live: Arc::clone(&self.plan.route.live),
            site: Arc::clone(&self.plan.route.site),
            digest: self.plan.route.digest,
            stale_may_serve: false,
            only_if_cached: false,
            watch: clock::Stopwatch::start(),
            interim: None,
        };
        let attempts = &self.pilot.flight.attempts;
        let Ok(answer) = reach(&self.plan.node, &route, &outbound, attempts).await else {
            return false;
        };
        let continues = answer.response.status == StatusCode::PARTIAL_CONTENT
            && answer.response.fields.get(ETAG) == Some(&etag)
            && continues_at(&answer.response.fields, received, length);
        if continues {
            self.plan.node.observer.metrics().resumed();
            self.answer = answer;
        }
        continues
    }

    /// Nothing is kept of what broke, and nobody takes it for whole.
    fn break_off(&mut self) -> FillEnd {
        self.pilot.close_doors();
        self.pilot.flight.body.finish(Err(Broken::Upstream));
        FillEnd::Broken
    }
}

/// `Content-Range: bytes FROM-LAST/LENGTH`, to the end of the same representation.
fn continues_at(fields: &HeaderMap, from: u64, length: u64) -> bool {
    let expected = http_cache::content_range(from, length.saturating_sub(1), length);
    fields.get(CONTENT_RANGE) == Some(&expected)
}
