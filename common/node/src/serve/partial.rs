//! Answers from a stored part, and requests for a part of what is not here
//! (RFC 9111 §3.3, §3.4).
//!
//! A range of what is not stored is cut out of a fill of the whole, which serves the
//! next visitors too. The end of something is asked for as it is: whoever wants the
//! last bytes would otherwise wait for all before them. What comes is stored as the
//! part it is, and a later fill of the whole asks for the rest alone.

use std::sync::Arc;

use http::header::{AGE, CONTENT_LENGTH, CONTENT_RANGE, RANGE};
use http::{HeaderValue, Method, StatusCode};
use http_cache::{Decision, PartBounds};
use observe::Outcome;
use store::Object;

use super::{Fetch, hit_status};
use crate::answer::{Answer, Body, Head, Story};
use crate::fields::CACHE_STATUS;
use crate::request::Request;
use crate::state::Node;

/// Whether a stored object is a part of one.
pub(super) fn is_part(object: &Object) -> bool {
    object.status == StatusCode::PARTIAL_CONTENT
}

/// Whether a stored part may be used as it is.
pub(super) fn is_fresh(request: &Request, part: &Object, now_ms: u64) -> bool {
    let decision = http_cache::decide(&request.facts, Some(&part.facts), now_ms);
    matches!(decision, Decision::Fresh { .. })
}

/// The answer to a range that lies within a fresh part.
pub(super) fn answer(
    node: &Node,
    request: &Request,
    part: &Arc<Object>,
    now_ms: u64,
) -> Option<Answer> {
    // Conditions may be about the whole, and go where that is.
    let conditional = request.facts.is_conditional() && !has_if_range_alone(request);
    if request.method != Method::GET || conditional {
        return None;
    }
    let bounds = PartBounds::of(&part.fields)?;
    let (first, last) = bounds.range_within(&request.fields, &part.facts)?;
    let from = usize::try_from(first.checked_sub(bounds.first)?).ok()?;
    let to = usize::try_from(last.checked_sub(bounds.first)?).ok()?;
    if from > to || to >= part.body.len() {
        return None;
    }
    let age_ms = part.facts.age_ms(now_ms);
    let ttl_ms = part.facts.lifetime_ms().saturating_sub(age_ms);
    let ttl_s = i64::try_from(ttl_ms / 1000).unwrap_or(i64::MAX);
    let mut fields = part.fields.clone();
    fields.insert(AGE, HeaderValue::from(age_ms / 1000));
    let cache_status = hit_status(part, ttl_s);
    fields.insert(CACHE_STATUS, cache_status.value(node.name()));
    fields.insert(CONTENT_LENGTH, HeaderValue::from(last - first + 1));
    let content_range = http_cache::content_range(first, last, bounds.complete_length);
    fields.insert(CONTENT_RANGE, content_range);
    Some(Answer {
        head: Head::Built {
            status: StatusCode::PARTIAL_CONTENT,
            fields,
        },
        body: Body::Whole(part.body.slice(from..=to)),
        story: Story {
            age_ms: Some(age_ms),
            ..Story::new(Outcome::Hit)
        },
    })
}

/// `If-Range` is weighed with the range; no other condition is.
fn has_if_range_alone(request: &Request) -> bool {
    use http::header::{IF_MATCH, IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_UNMODIFIED_SINCE};
    [
        IF_MATCH,
        IF_NONE_MATCH,
        IF_MODIFIED_SINCE,
        IF_UNMODIFIED_SINCE,
    ]
    .iter()
    .all(|name| !request.fields.contains_key(name))
}

/// The `Range` to send as it is: the end of something of which nothing is here.
pub(super) fn asked_as_it_is(request: &Request, fetch: &Fetch) -> Option<HeaderValue> {
    let nothing_here = fetch.stored.is_none() && fetch.part.is_none();
    let plain = request.method == Method::GET && !request.facts.is_conditional();
    if !nothing_here || !plain || !http_cache::asks_for_the_end(&request.fields) {
        return None;
    }
    request.fields.get(RANGE).cloned()
}

/// Whether the upstream was asked for no more than a part.
pub(super) fn asked_for_part(request: &Request, fetch: &Fetch) -> bool {
    fetch.part.is_some() || asked_as_it_is(request, fetch).is_some()
}
