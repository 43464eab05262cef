//! Keeping the answer to a POST for later GETs (RFC 9110 §9.3.3, RFC 9111 §4).
//!
//! The idea: an origin may answer a POST with what a GET of the same URI would now
//! bring, and say so. Such an answer passes to its visitor like any other, and its
//! bytes are gathered on the way; once they are whole they are stored under the key
//! that a GET has.
//!
//! Invariants:
//! - Kept is only what the origin itself calls fresh and a representation of the
//!   target, from a request that carried nothing of one visitor's beyond its body.
//! - The ticket is taken after the POST has invalidated its target, so that a later
//!   purge, or another unsafe request, keeps the answer out.
//! - What is gathered counts in the node's bodies in flight, and stops being
//!   gathered where it is larger than an object may be.

use std::fmt;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use http::header::{AGE, CONTENT_LENGTH, HeaderValue};
use http::{HeaderMap, Method, StatusCode};
use http_cache::{Arrival, ResponseFacts, Vary};
use store::{Key, Object, Ticket};

use crate::answer;
use crate::fields::{self, CACHE_STATUS};
use crate::groups;
use crate::key;
use crate::request::Request;
use crate::seal::{self, Outbound};
use crate::state::Node;

/// An answer that is being gathered.
pub(super) struct Keeping {
    node: Arc<Node>,
    ticket: Ticket,
    /// The object without its body; taken when it is over.
    object: Option<Box<Object>>,
    length: Option<u64>,
    body: BytesMut,
    /// Bytes held of the node's budget for bodies in flight.
    reserved_bytes: u64,
}

impl Keeping {
    /// Begins to gather, if this answer may be kept. `fields` are the answer's,
    /// verified and without control fields; what they invalidate is invalidated.
    pub(super) fn begin(
        node: &Arc<Node>,
        request: &Request,
        outbound: &Outbound,
        status: StatusCode,
        received: &HeaderMap,
        arrival: Arrival,
    ) -> Option<Self> {
        if request.method != Method::POST || !is_everybodys(request, outbound) {
            return None;
        }
        let (scheme, policy) = (request.scheme.as_str(), request.policy());
        let target = &request.path_and_query;
        if !http_cache::describes_target(scheme, &request.authority, target, received) {
            return None;
        }
        let facts = ResponseFacts::of(status, received, arrival, policy);
        http_cache::storable_from_post(&request.facts, &facts, policy).ok()?;
        let mut delivered = received.clone();
        http_cache::remove_hop_by_hop(&mut delivered);
        fields::append_via(&mut delivered, node.name());
        let upstream_cache_status = fields::joined(&delivered, &CACHE_STATUS);
        delivered.remove(CACHE_STATUS);
        delivered.remove(AGE);
        let kept_fields = http_cache::stored_fields(&delivered, policy);
        let vary = Vary::of(&kept_fields);
        if outbound.hides(&vary, &request.fields) {
            return None;
        }
        let length = kept_fields
            .get(CONTENT_LENGTH)
            .and_then(|length| length.to_str().ok()?.trim().parse::<u64>().ok());
        // An answer without a body never gets to where bodies are gathered.
        if length.is_some_and(|length| length == 0 || length > node.config.store.object_bytes_max) {
            return None;
        }
        let ticket = node.store.ticket(&Key::new(&request.key));
        let groups = groups::of_response(node, &ticket, received).ok()?;
        Some(Self {
            ticket,
            object: Some(Box::new(Object {
                status,
                fields: kept_fields,
                head: Bytes::new(),
                body: Bytes::new(),
                facts,
                selector: vary.selector(&request.fields, policy),
                vary,
                upstream_cache_status,
                // Later than the purge that its own request was, which it survives.
                stored_ms: node.now_ms().max(node.purged.last(request.digest()) + 1),
                groups,
            })),
            length,
            body: BytesMut::new(),
            reserved_bytes: 0,
            node: Arc::clone(node),
        })
    }

    /// Takes a part of the body. False: it will not be kept.
    pub(super) fn take(&mut self, chunk: &Bytes) -> bool {
        let chunk_bytes = chunk.len() as u64;
        let limits = &self.node.config.limits;
        let fits = self.body.len() as u64 + chunk_bytes <= self.node.config.store.object_bytes_max
            && self
                .node
                .flights
                .reserve(chunk_bytes, limits.fill_bytes_in_flight_max);
        if fits {
            self.reserved_bytes += chunk_bytes;
            self.body.extend_from_slice(chunk);
        }
        fits
    }

    /// The body is over. It is stored if it is all that was announced.
    pub(super) fn complete(mut self) {
        let whole = self
            .length
            .is_none_or(|length| length == self.body.len() as u64);
        let Some(mut object) = self.object.take().filter(|_| whole) else {
            return;
        };
        // A copy of its own: what was gathered may have room to spare.
        object.body = Bytes::copy_from_slice(&self.body);
        let length = HeaderValue::from(self.body.len());
        object.fields.insert(CONTENT_LENGTH, length);
        object.head = answer::prepared_head(object.status, &object.fields);
        // A purge since then, or a full store, is no fault of the answer's.
        let _ = self.node.store.put(&self.ticket, Arc::new(*object));
    }
}

impl Drop for Keeping {
    fn drop(&mut self) {
        self.node.flights.release(self.reserved_bytes);
    }
}

impl fmt::Debug for Keeping {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keeping")
            .field("body_bytes", &self.body.len())
            .finish_non_exhaustive()
    }
}

/// Whether the request was what anybody might have sent: its answer then hangs on
/// nothing that its key does not say.
fn is_everybodys(request: &Request, outbound: &Outbound) -> bool {
    let rules = &request.site.config.key;
    !key::has_other_cookies(&request.fields, rules)
        && !seal::names_another_target(&request.fields)
        && key::path_and_query(&request.key) == Some(outbound.path_and_query.as_str())
}
