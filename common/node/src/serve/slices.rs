//! Ranges of what is not stored, in aligned slices, where a site turns it on.
//!
//! A range is answered from as many slices as it touches. Each is fetched by a flight
//! of its own, shared like any other, and stored as the part it is under a key that
//! begins with the object's, so that a purge finds it. The first one says how long the
//! whole is and under which strong validator it stands; the others must agree, or the
//! answer breaks off: parts of two representations are never put together
//! (RFC 9110 §15.3.7.3). The answer begins with the first slice, while the others are
//! still to be fetched. An upper tier is asked for the slice, and does the same.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use http::header::{AGE, CONTENT_LENGTH, CONTENT_RANGE, ETAG, HeaderValue, RANGE};
use http::{HeaderMap, Method, StatusCode};
use http_cache::PartBounds;
use observe::Outcome;
use store::{Glance, Key, Object};

use super::fetch::BOARDINGS_MAX;
use super::{Fetch, partial};
use crate::answer::{Answer, Body, Head, Story};
use crate::clock::Stopwatch;
use crate::fields::{CACHE_STATUS, CacheStatus, Forward};
use crate::fill::body::{Appended, Broken, Growing, Reader};
use crate::fill::flight::{Fetched, FlightKey, Flights, Passenger, Published};
use crate::fill::run::{Plan, launch};
use crate::fill::tiers;
use crate::request::Request;
use crate::seal::{self, Purpose};
use crate::state::Node;
use crate::upstream::millis;

/// One slice, whole.
struct Slice {
    fields: HeaderMap,
    bounds: PartBounds,
    body: Bytes,
    age_ms: u64,
    /// It was stored already.
    hit: bool,
    upstream: Option<HeaderValue>,
}

impl Slice {
    /// One that is stored. None where it does not say which part it is.
    fn of(node: &Node, stored: &Object) -> Option<Self> {
        Some(Self {
            fields: stored.fields.clone(),
            bounds: PartBounds::of(&stored.fields)?,
            body: stored.body.clone(),
            age_ms: stored.facts.age_ms(node.now_ms()),
            hit: true,
            upstream: stored.upstream_cache_status.clone(),
        })
    }
}

/// The answer to a range, from slices. None: the usual way is to be taken, because
/// the site has no slices, the request wants something else, or the origin gives none.
pub(super) async fn answer(node: &Arc<Node>, request: &Request, fetch: &Fetch) -> Option<Answer> {
    let slice_bytes = request.site.config.cache.slice_bytes?;
    if !is_everybodys_range(node, request, fetch) {
        return None;
    }
    let (first, last) = asked(&request.fields)?;
    let index = first / slice_bytes;
    let head = slice(node, request, slice_bytes, index).await?;
    let complete = head.bounds.complete_length;
    let last = last.unwrap_or(u64::MAX).min(complete.checked_sub(1)?);
    if first > last {
        return None;
    }
    let mut fields = head.fields.clone();
    fields.insert(CONTENT_LENGTH, HeaderValue::from(last - first + 1));
    let content_range = http_cache::content_range(first, last, complete);
    fields.insert(CONTENT_RANGE, content_range);
    if head.hit {
        fields.insert(AGE, HeaderValue::from(head.age_ms / 1000));
    }
    let cache_status = CacheStatus {
        upstream: head.upstream.clone(),
        hit: head.hit,
        forward: (!head.hit).then_some(Forward::UriMiss),
        forward_status: (!head.hit).then_some(StatusCode::PARTIAL_CONTENT.as_u16()),
        stored: !head.hit,
        detail: Some("slices"),
        ..CacheStatus::default()
    };
    fields.insert(CACHE_STATUS, cache_status.value(node.name()));
    let age_ms = Some(head.age_ms);
    let outcome = if head.hit {
        Outcome::Hit
    } else {
        Outcome::Miss
    };
    let reader = string_together(node, request, head, slice_bytes, (first, last))?;
    Some(Answer {
        head: Head::Built {
            status: StatusCode::PARTIAL_CONTENT,
            fields,
        },
        body: Body::Growing {
            reader,
            skip: 0,
            length: Some(last - first + 1),
        },
        story: Story {
            age_ms,
            ..Story::new(outcome)
        },
    })
}

/// Whether a request asks for a range that may be made of what everybody gets.
fn is_everybodys_range(node: &Node, request: &Request, fetch: &Fetch) -> bool {
    let shared = fetch.purpose == Purpose::Shared || node.oversized.last(request.digest()) > 0;
    request.method == Method::GET
        && shared
        && fetch.stored.is_none()
        && fetch.part.is_none()
        && fetch.why == Forward::UriMiss
        && !request.facts.is_conditional()
        && !request.facts.has_authorization()
        && !request.facts.only_if_cached()
        && !request.facts.demands_validation()
        && !seal::is_for_one(request)
}

/// First and last position of a single range; no last where it goes to the end. The
/// end of something is not asked for in slices: where it lies is not known.
fn asked(fields: &HeaderMap) -> Option<(u64, Option<u64>)> {
    let mut lines = fields.get_all(RANGE).iter();
    let (Some(line), None) = (lines.next(), lines.next()) else {
        return None;
    };
    let (unit, range) = line.to_str().ok()?.split_once('=')?;
    let (first, last) = range.trim().split_once('-')?;
    if !unit.trim().eq_ignore_ascii_case("bytes") {
        return None;
    }
    let first = position(first)?;
    let last = match last.trim() {
        "" => None,
        last => Some(position(last).filter(|last| *last >= first)?),
    };
    Some((first, last))
}

fn position(digits: &str) -> Option<u64> {
    let digits = digits.trim();
    let plain = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    plain.then(|| digits.parse().ok()).flatten()
}

/// One slice, from the store or from upstream. None where it is not to be had as one.
async fn slice(node: &Arc<Node>, request: &Request, slice_bytes: u64, index: u64) -> Option<Slice> {
    let key = slice_key(&request.key, slice_bytes, index);
    let first = index.checked_mul(slice_bytes)?;
    let last = first.checked_add(slice_bytes - 1)?;
    for _ in 0..BOARDINGS_MAX {
        let glance = node.store.glance(&key);
        if let Some(stored) = stored(node, request, &key) {
            return Slice::of(node, &stored);
        }
        let mut passenger = board(node, request, &key, (first, last), glance)?;
        let patience = millis(node.config.timeouts.answer_ms);
        match pingora_timeout::timeout(patience, passenger.published()).await {
            Ok(Published::Response(fetched)) => {
                let body = passenger.reader.take()?;
                return arriving(node, request, &fetched, body, (first, last)).await;
            }
            // It had been stored a moment before.
            Ok(Published::Landed(_)) => {}
            _ => return None,
        }
    }
    None
}

/// Boards the flight that brings a slice, and lets it take off unless the slice has been
/// stored since `glance` (see `take_off`).
fn board(
    node: &Arc<Node>,
    request: &Request,
    key: &[u8],
    (first, last): (u64, u64),
    glance: Glance,
) -> Option<Passenger> {
    let range = HeaderValue::try_from(format!("bytes={first}-{last}")).ok()?;
    let flight_key = FlightKey {
        key: key.to_vec(),
        selector: None,
        range: Some(range.clone()),
        reload: false,
        onward: tiers::onward(node, request),
        rev: request.site.rev.clone(),
    };
    let purged_ms = node.purged.last(request.digest());
    let (passenger, pilot) = Flights::board(node, flight_key, purged_ms);
    let Some(mut pilot) = pilot else {
        return Some(passenger);
    };
    if let Some(landed) = stored(node, request, key) {
        pilot.publish(Published::Landed(landed));
        pilot.close_doors();
        return Some(passenger);
    }
    let mut plan = Plan::new(node, request, Purpose::Shared, None, glance);
    plan.ticket = node.store.ticket_since(&Key::new(key), glance);
    // The visitor may have read for a long time before its turn comes.
    plan.route.watch = Stopwatch::start();
    plan.ask_part(range);
    launch(plan, pilot);
    Some(passenger)
}

/// A slice that is being fetched, once it is whole.
async fn arriving(
    node: &Node,
    request: &Request,
    fetched: &Fetched,
    body: Reader,
    (first, last): (u64, u64),
) -> Option<Slice> {
    let usable = fetched.status == StatusCode::PARTIAL_CONTENT
        && fetched.kept
        && fetched.facts.has_strong_validator()
        && fetched.matches(&request.fields, request.policy());
    let bounds =
        PartBounds::of(&fetched.fields).filter(|bounds| usable && bounds.first == first)?;
    let body = whole(body).await?;
    let whole_slice = bounds.last == last || bounds.last + 1 == bounds.complete_length;
    (whole_slice && body.len() as u64 == bounds.last - bounds.first + 1).then(|| Slice {
        fields: http_cache::stored_fields(&fetched.fields, request.policy()),
        bounds,
        body,
        age_ms: fetched.facts.age_ms(node.now_ms()),
        hit: false,
        upstream: fetched.upstream_cache_status.clone(),
    })
}

/// A slice that is stored and may be used.
fn stored(node: &Node, request: &Request, key: &[u8]) -> Option<Arc<Object>> {
    let now_ms = node.now_ms();
    let entry = node.store.get(key)?;
    let object = entry.select(&request.fields, request.policy())?;
    // The edge that asks may have purged what was fetched before.
    let purged_ms = node.purged.last(request.digest());
    let usable = control::epoch::stands(object.stored_ms, purged_ms)
        && partial::is_part(object)
        && partial::is_fresh(request, object, now_ms)
        && node.store.stands(&object.groups);
    usable.then(|| Arc::clone(object))
}

/// Keys of slices begin with the object's, so that purging it purges them.
fn slice_key(key: &[u8], slice_bytes: u64, index: u64) -> Vec<u8> {
    let mut key = key.to_vec();
    key.extend_from_slice(format!("slice {slice_bytes} {index}").as_bytes());
    key.push(0);
    key
}

async fn whole(mut reader: Reader) -> Option<Bytes> {
    let mut body = BytesMut::new();
    while let Some(chunk) = reader.next().await.ok()? {
        body.extend_from_slice(&chunk);
    }
    Some(body.freeze())
}

/// Gives out one slice after the other, each fetched when its turn comes, no faster
/// than the visitor reads.
fn string_together(
    node: &Arc<Node>,
    request: &Request,
    head: Slice,
    slice_bytes: u64,
    (first, last): (u64, u64),
) -> Option<Reader> {
    let body = Growing::new();
    let reader = body.reader()?;
    body.pass_through();
    let (node, request) = (Arc::clone(node), request.clone());
    let busy = node.work.begin();
    tokio::spawn(async move {
        let (tag, complete) = (head.fields.get(ETAG).cloned(), head.bounds.complete_length);
        let mut next = Some(head);
        let end = loop {
            let Some(slice) = next.take() else {
                break Err(Broken::Upstream);
            };
            let same =
                slice.fields.get(ETAG) == tag.as_ref() && slice.bounds.complete_length == complete;
            let from = first.max(slice.bounds.first) - slice.bounds.first;
            let to = last.min(slice.bounds.last) - slice.bounds.first + 1;
            if !same || from >= to || to > slice.body.len() as u64 {
                break Err(Broken::Upstream);
            }
            let part = slice.body.slice(from as usize..to as usize);
            let window_bytes = node.config.limits.fill_window_bytes as u64;
            let patience = millis(node.config.timeouts.laggard_ms);
            if body.append(part, window_bytes, patience).await == Appended::Unwanted {
                break Err(Broken::Abandoned);
            }
            if slice.bounds.last >= last {
                break Ok(());
            }
            let index = (slice.bounds.last + 1) / slice_bytes;
            next = self::slice(&node, &request, slice_bytes, index).await;
        };
        body.finish(end);
        drop(busy);
    });
    Some(reader)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn single_ranges_with_a_beginning_are_asked_for_in_slices() {
        for (line, expected) in [
            ("bytes=0-9", Some((0, Some(9)))),
            ("Bytes = 5-", Some((5, None))),
            ("bytes=-5", None),
            ("bytes=9-0", None),
            ("bytes=0-1,3-4", None),
            ("lines=0-1", None),
            ("bytes=99999999999999999999-", None),
        ] {
            let mut fields = HeaderMap::new();
            fields.insert(RANGE, line.parse().unwrap());
            assert_eq!(asked(&fields), expected, "{line}");
        }
    }
}
