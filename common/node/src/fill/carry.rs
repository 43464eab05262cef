//! Carries the body of a fill from an upstream into its flight, and keeps it.
//!
//! ```text
//!   kept      every byte, stored when whole
//!   passing   a window, following the readers
//!   broken    resumed under a strong validator, else broken for all
//! ```

use std::sync::Arc;

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, CONTENT_RANGE, ETAG};
use http::{HeaderMap, HeaderValue, StatusCode};
use http_cache::PartBounds;
use observe::FillEnd;
use store::Object;

use super::body::{Appended, Broken};
use super::complete::Around;
use super::flight::{Fetched, Pilot};
use super::freshen::asked_ms;
use super::reach::{Reached, Route, reach};
use super::run::Plan;
use crate::answer;
use crate::clock::Stopwatch;
use crate::state::Node;
use crate::upstream::millis;
use crate::upstream::send::SendError;

/// How often one body is resumed before it counts as broken.
const RESUMES_MAX: u32 = 3;

/// Carries one body from an upstream into its flight.
pub(super) struct Carrier<'a> {
    plan: &'a Plan,
    pilot: &'a mut Pilot,
    fetched: &'a Fetched,
    answer: Reached,
    /// What of a stored part goes before and after what the upstream sends.
    around: Around,
    reserved: Reserved<'a>,
    resumes: u32,
}

impl<'a> Carrier<'a> {
    pub(super) fn new(
        plan: &'a Plan,
        pilot: &'a mut Pilot,
        fetched: &'a Fetched,
        answer: Reached,
        around: Around,
    ) -> Self {
        Self {
            reserved: Reserved {
                node: &plan.node,
                bytes: 0,
            },
            plan,
            pilot,
            fetched,
            answer,
            around,
            resumes: 0,
        }
    }

    /// The answer whose body was carried last.
    pub(super) fn into_answer(self) -> Reached {
        self.answer
    }

    /// Brings the body home.
    pub(super) async fn carry(&mut self) -> FillEnd {
        let before = std::mem::take(&mut self.around.before);
        if !before.is_empty() {
            self.make_room(before.len() as u64);
            if !self.append(before).await {
                return FillEnd::NotStored;
            }
        }
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
                Ok(None) if self.has_only_the_end_to_come() => {
                    let end = std::mem::take(&mut self.around.after);
                    return self.complete(end).await;
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
        let ours = self.around.after.len() as u64;
        self.fetched
            .length
            .is_some_and(|length| received > length.saturating_sub(ours))
    }

    /// The upstream has sent what was missing before a stored end.
    fn has_only_the_end_to_come(&self) -> bool {
        let ours = self.around.after.len() as u64;
        let received = self.pilot.flight.body.len();
        ours > 0 && self.fetched.length == Some(received + ours)
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
        if self.pilot.was_replaced() {
            return Err(store::NotKept::WouldDisplace);
        }
        if self.fetched.status == StatusCode::PARTIAL_CONTENT {
            let key = plan.ticket.key().as_bytes();
            // A part never takes the place of a whole.
            let whole_is_there = plan.node.store.get(key).is_some_and(|entry| {
                let mut variants = entry.variants.iter();
                variants.any(|other| other.status != StatusCode::PARTIAL_CONTENT)
            });
            let bounds = PartBounds::of(&self.fetched.fields);
            if whole_is_there || bounds.map(|part| part.length()) != Some(body.len() as u64) {
                return Err(store::NotKept::WouldDisplace);
            }
        }
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
            stored_ms: asked_ms(&plan.node, &self.answer),
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
        // It broke, so its origin is done with it; what follows may have to go there.
        self.answer.response.give_way();
        let mut outbound = self.plan.outbound.clone();
        outbound.resume(received, &etag);
        let route = Route {
            live: Arc::clone(&self.plan.route.live),
            site: Arc::clone(&self.plan.route.site),
            digest: self.plan.route.digest,
            hop: self.plan.route.hop,
            stale_may_serve: false,
            only_if_cached: false,
            watch: Stopwatch::start(),
            interim: None,
            is_retry: true,
        };
        let attempts = &self.pilot.flight.attempts;
        // Boxed: it is rare, and large.
        let reached = Box::pin(reach(&self.plan.node, &route, &outbound, attempts));
        let Ok(answer) = reached.await else {
            return false;
        };
        let continues = answer.response.status == StatusCode::PARTIAL_CONTENT
            && answer.response.fields.get(ETAG) == Some(&etag)
            && continues_at(&answer.response.fields, received, length);
        if continues {
            // What is asked for now goes to the end.
            self.around.after = Bytes::new();
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
