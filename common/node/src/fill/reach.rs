//! Reaches a verified answer by one way after another.
//!
//! The ways and their order are `topology`'s decision; here they are walked. An
//! answer from an upper tier counts only when its signature holds; whatever else
//! comes back is a failure of that hop, and the next way is taken. A verified
//! answer is final, an origin's error included. One that says that no origin server
//! answered the upper tier is kept, in case that no other way gives a better one.

use std::sync::Arc;

use control::{NoAnswer, Reason, TierResult};
use http::{HeaderMap, StatusCode};
use observe::{Attempt, Event, Side};
use parking_lot::Mutex;
use smallvec::SmallVec;
use topology::{
    Fallback, Progress, Question, State, Step, Topology, Way, next_step, ways_with_trial,
};

use super::flight::Failure;
use super::interim::Teller;
use super::patience::{Patience, ends_at_origin};
use super::retries::{self, Instead};
use super::{hedge, place, tiers};
use crate::clock::Stopwatch;
use crate::fields::{PROXY_STATUS, ProxyError};
use crate::ids;
use crate::live::{Live, Site};
use crate::seal::{Outbound, seal};
use crate::state::Node;
use crate::upstream::send::{Response, SendError, send};
use crate::upstream::{Target, millis};

/// Everything that finding a way needs to know.
#[derive(Debug)]
pub(crate) struct Route {
    pub(crate) live: Arc<Live>,
    pub(crate) site: Arc<Site>,
    pub(crate) digest: [u8; 16],
    /// Tiers it came over to this node.
    pub(crate) hop: u8,
    /// A stored response may stand in for an error.
    pub(crate) stale_may_serve: bool,
    /// Only the stores of the hierarchy may answer.
    pub(crate) only_if_cached: bool,
    pub(crate) watch: Stopwatch,
    /// Where to tell of interim answers, if anybody listens.
    pub(crate) interim: Option<Teller>,
    /// Somebody was asked already, and what came of it broke.
    pub(crate) is_retry: bool,
}

/// An answer that may be acted upon.
#[derive(Debug)]
pub(crate) struct Reached {
    pub(crate) response: Response,
    /// What the upper tier said about it, verified.
    pub(crate) tier: Option<TierResult>,
}

impl Reached {
    /// Whether it is no origin's answer, but an upper tier's word that none answered.
    pub(crate) fn no_answer(&self) -> Option<NoAnswer> {
        let tier = self.tier.as_ref();
        tier.and_then(|tier| NoAnswer::of(&tier.outcome))
    }
}

/// The targets to try, in order.
pub(crate) fn targets(node: &Node, route: &Route, now_ms: u64) -> SmallVec<[Target; 8]> {
    let site = &route.site.config;
    let plan = tiers::Plan::of(node, route);
    let topology = plan.topology();
    let seen = match topology {
        Topology::Off => SmallVec::new(),
        _ => node.upstreams.upper_states(now_ms),
    };
    let pool = &site.pool.name;
    let reaches = match topology {
        Topology::Off => SmallVec::new(),
        _ => node.upstreams.reaches(pool, now_ms),
    };
    let question = Question {
        topology,
        key: &route.digest,
        candidates: &node.upstreams.candidates,
        states: &seen,
        reaches: &reaches,
        direct_allowed: direct_comes_next(site, route.stale_may_serve),
        stale_may_serve: route.stale_may_serve
            && (!node.is_edge() || site.fallback.contains(&config::Fallback::Stale)),
    };
    let in_trial = |states: &[State], upper| states.get(upper) == Some(&State::Trial);
    let chosen = ways_with_trial(&question, |upper| {
        let upstreams = &node.upstreams;
        (!in_trial(&seen, upper) || upstreams.begin_trial(upper, now_ms))
            && (!in_trial(&reaches, upper) || upstreams.begin_trial_of_reach(upper, pool, now_ms))
    });
    let mut targets = SmallVec::new();
    for way in chosen {
        match way {
            Way::Upper(at) => targets.push(Target::Upper(at)),
            Way::Origin if route.only_if_cached => {}
            Way::Origin => {
                for server in node.upstreams.origin_order(&site.pool, now_ms) {
                    targets.push(Target::Origin {
                        pool: Arc::clone(&site.pool),
                        server,
                        tls: route.site.origin_tls.clone(),
                    });
                }
            }
        }
    }
    targets
}

fn direct_comes_next(site: &config::Site, stale_may_serve: bool) -> bool {
    let fallbacks = site.fallback.iter().map(|fallback| match fallback {
        config::Fallback::Stale => Fallback::Stale,
        config::Fallback::Direct => Fallback::Direct,
    });
    topology::direct_comes_next(fallbacks, stale_may_serve)
}

/// Walks the ways until one gives a verified answer, an origin's or from a store. If
/// none does, an upper tier's word that no origin answers it is better than ours.
pub(crate) async fn reach(
    node: &Node,
    route: &Route,
    outbound: &Outbound,
    attempts: &Mutex<Vec<Attempt>>,
) -> Result<Reached, Failure> {
    let mut kept = None;
    let walked = walk(node, route, outbound, attempts, &mut kept).await;
    match (walked, kept) {
        (Ok(reached), None) => Ok(reached),
        (Ok(reached), Some(kept)) => {
            kept.response.discard(node).await;
            Ok(reached)
        }
        (Err(_), Some(kept)) => Ok(kept),
        (Err(failure), None) => Err(failure),
    }
}

/// Walks the ways, and leaves the first word that no origin answers in `kept`.
async fn walk(
    node: &Node,
    route: &Route,
    outbound: &Outbound,
    attempts: &Mutex<Vec<Attempt>>,
    kept: &mut Option<Reached>,
) -> Result<Reached, Failure> {
    let now_ms = node.now_ms();
    let mut targets = targets(node, route, now_ms);
    tiers::measure_another(node, route, &mut targets, now_ms);
    let patience = Patience::of(node, route.hop);
    let mut last = no_way(route);
    let site = &route.site.config;
    let yields = place::yields(node, site, route.stale_may_serve, outbound.background);
    let goes_past_tiers = tiers::asks_tiers(node, site, route.hop);
    let _live = node.retries.begin();
    let (mut place, mut retry) = (None, None);
    let mut is_retry = route.is_retry;
    let mut targets = targets.into_iter();
    let mut ended = None;
    loop {
        let spent_ms = route.watch.elapsed_ms();
        let in_time = patience.left_ms(spent_ms).is_some();
        let another = targets.len() > 0;
        let step = next_step(Progress {
            safe: outbound.method.is_safe(),
            ended,
            another,
            in_time,
        });
        let (Step::Ask, Some(target)) = (step, targets.next()) else {
            if another && !in_time && attempts.lock().is_empty() {
                last = no_time();
            }
            return Err(last);
        };
        let after = targets.as_slice();
        let left_ms = || {
            let spent_ms = route.watch.elapsed_ms();
            patience.left_for_ms(&target, after, ended.is_none(), spent_ms)
        };
        let Some(time_ms) = left_ms() else { continue };
        if target.is_origin() && goes_past_tiers {
            // Direct fetches have a budget of their own.
            retry = None;
        } else if is_retry && retry.is_none() {
            let pool = &site.pool.name;
            let instead = Instead::of(yields, ends_at_origin(after));
            retry = match target.is_cut_off(node, pool, node.now_ms()) {
                // Nearly a certain error, and waiting for it helps nobody.
                true => retries::enter_at_once(node, instead),
                false => retries::enter(node, instead, time_ms).await,
            };
            match (&retry, instead) {
                (Some(_), _) => {}
                (None, Instead::Direct) => continue,
                (None, Instead::Stale | Instead::Error) => return Err(last),
            }
        }
        let seat = match target.seat(node) {
            Ok(seat) => seat,
            Err(full) => {
                last = failure(full, &target.name(node));
                ended = Some(full.ended());
                continue;
            }
        };
        if target.is_origin() && place.is_none() {
            // Boxed: most requests go to a store of the hierarchy.
            let entered = Box::pin(place::enter(node, site, route.hop, yields, time_ms)).await;
            let entered = entered.map_err(|full| failure(full, &target.name(node)))?;
            place = Some(entered);
        }
        // It may have waited for its turn, and for a place.
        let Some(left_ms) = left_ms() else { continue };
        let next = targets.as_slice().first().filter(|_| ended.is_none());
        let hedge = next.and_then(|next| hedge::of(node, route, outbound, &target, next));
        let outcome = match hedge {
            Some(hedge) => {
                Box::pin(hedge.attempt(node, route, outbound, &target, left_ms, attempts)).await
            }
            None => attempt(node, route, outbound, &target, left_ms, attempts).await,
        };
        match outcome {
            Ok(mut reached) => {
                let Some(said) = reached.no_answer() else {
                    reached.response.hold(place, seat);
                    return Ok(reached);
                };
                let error = SendError::NoAnswer(said, reached.response.status);
                is_retry |= topology::takes_from_budget(error.ended());
                ended = Some(error.ended());
                match kept {
                    None => *kept = Some(reached),
                    Some(_) => reached.response.discard(node).await,
                }
            }
            Err(error) => {
                last = failure(error, &target.name(node));
                is_retry |= topology::takes_from_budget(error.ended());
                ended = Some(error.ended());
            }
        }
    }
}

/// The time went by before anybody was asked, in waiting for somebody else's fill.
fn no_time() -> Failure {
    Failure {
        status: StatusCode::GATEWAY_TIMEOUT,
        error: ProxyError::new(
            "http_response_timeout",
            "no time is left to ask anybody; `answer_ms` is over",
        ),
        no_answer: None,
    }
}

fn no_way(route: &Route) -> Failure {
    if route.only_if_cached {
        return Failure {
            status: StatusCode::GATEWAY_TIMEOUT,
            error: ProxyError::new(
                "destination_unavailable",
                "only-if-cached: no store of the hierarchy holds it",
            ),
            no_answer: None,
        };
    }
    Failure {
        status: StatusCode::BAD_GATEWAY,
        error: ProxyError::new("destination_unavailable", "no way to the content is up"),
        no_answer: None,
    }
}

fn failure(error: SendError, target: &str) -> Failure {
    Failure {
        status: error.status(),
        error: error.proxy_error(target),
        no_answer: error.no_answer(),
    }
}

/// Whether an attempt that was cut off after `left_ms` says something about whom it
/// asked. One that came last, when little time was left, had no fair chance: an upper
/// tier waits for others itself, and says so in nine tenths of what it is given
/// (`Timeouts::budget_ms`).
pub(crate) fn had_its_chance(left_ms: u64, wait_ms: u64) -> bool {
    left_ms >= wait_ms - wait_ms / 10
}

/// One attempt of at most `left_ms`: seal, send, verify, and take note of how it
/// went, however it ended.
pub(super) async fn attempt(
    node: &Node,
    route: &Route,
    outbound: &Outbound,
    target: &Target,
    left_ms: u64,
    attempts: &Mutex<Vec<Attempt>>,
) -> Result<Reached, SendError> {
    let span_id = ids::span_id();
    let start_us = route.watch.elapsed_us();
    let exchange = exchange(node, route, outbound, target, span_id);
    let outcome = pingora_timeout::timeout(millis(left_ms), exchange).await;
    // A regional tier has less time for an upper tier than an edge has, and so has that.
    let wait_ms = target.head_wait_ms(node);
    let wait_ms = wait_ms.min(Patience::of(node, route.hop).budget_ms());
    let counts = outcome.is_ok() || had_its_chance(left_ms, wait_ms);
    let outcome = outcome.unwrap_or(Err(SendError::FirstByteTimeout));
    let now_ms = node.now_ms();
    match &outcome {
        Ok(reached) => {
            let us = route.watch.elapsed_us().saturating_sub(start_us);
            target.report(node, now_ms, Ok(()));
            target.took(node, us);
            tiers::measured(node, route, target, reached, us);
            if let Some(tier) = &reached.tier {
                let pool = &route.site.config.pool.name;
                target.learn(node, now_ms, pool, &tier.outcome);
            }
        }
        Err(error) => {
            if let Some(failure) = error.failure().filter(|_| counts) {
                target.report(node, now_ms, Err(failure));
            }
        }
    }
    let name = target.name(node);
    let error = outcome.as_ref().err().map(|error| error.as_str());
    node.observer
        .metrics()
        .upstream_request(&name, target.kind(), upstream_result(&outcome));
    if let Ok(reached) = &outcome {
        node.observer
            .metrics()
            .upstream_connection(&name, reached.response.reused);
    }
    attempts.lock().push(Attempt {
        span_id,
        target: name,
        address: target.address(node).to_string(),
        kind: target.kind(),
        start_us,
        duration_us: route.watch.elapsed_us().saturating_sub(start_us),
        status: outcome
            .as_ref()
            .ok()
            .map(|reached| reached.response.status.as_u16()),
        error,
        reused_connection: outcome
            .as_ref()
            .is_ok_and(|reached| reached.response.reused),
    });
    outcome
}

fn upstream_result(outcome: &Result<Reached, SendError>) -> observe::UpstreamResult {
    match outcome {
        Ok(_) => observe::UpstreamResult::Ok,
        Err(SendError::Unverified | SendError::Refused) => observe::UpstreamResult::Unverified,
        Err(error) if error.is_timeout() => observe::UpstreamResult::Timeout,
        Err(_) => observe::UpstreamResult::Error,
    }
}

async fn exchange(
    node: &Node,
    route: &Route,
    outbound: &Outbound,
    target: &Target,
    span_id: [u8; 8],
) -> Result<Reached, SendError> {
    let sealed = seal(node, &route.live, outbound, target, span_id, node.now_ms())?;
    let mut response = send(node, target, &sealed, route.interim.as_ref()).await?;
    let Some(receipt) = sealed.receipt() else {
        strip_from_origin(node, &mut response.fields);
        return Ok(Reached {
            response,
            tier: None,
        });
    };
    let verified = control::verify_response(
        response.status,
        &response.fields,
        receipt,
        &route.live.keyring,
        node.now_ms(),
    );
    match verified {
        Ok(result) => {
            control::strip(&mut response.fields);
            Ok(Reached {
                response,
                tier: Some(result),
            })
        }
        Err(rejection) => {
            let name = target.name(node);
            let (status, fields) = (response.status, &response.fields);
            Err(unverified(node, &name, status, fields, &rejection))
        }
    }
}

/// Removes control fields that an origin sent, and counts them: none of them can
/// have come from us.
pub(crate) fn strip_from_origin(node: &Node, fields: &mut HeaderMap) {
    let stripped = control::strip(fields);
    if stripped > 0 {
        node.observer
            .metrics()
            .stripped_tier_fields(observe::StrippedFrom::Origin, stripped as u64);
    }
}

/// Whether an upper tier turned this request away at its door, where it cannot
/// sign yet: a refusal of what the request is, in the upper tier's own name. It
/// says nothing about the hop, so it is neither held against it nor an alarm.
fn declined(peer: &str, status: StatusCode, fields: &HeaderMap) -> Option<SendError> {
    let at_the_door = matches!(
        status,
        StatusCode::BAD_REQUEST
            | StatusCode::REQUEST_TIMEOUT
            | StatusCode::PAYLOAD_TOO_LARGE
            | StatusCode::URI_TOO_LONG
            | StatusCode::MISDIRECTED_REQUEST
            | StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE
    );
    let said = fields.get(PROXY_STATUS)?.to_str().ok()?;
    let by_peer = said.split(';').next()?.trim().trim_matches('"') == peer;
    (at_the_door && by_peer).then_some(SendError::Declined(status))
}

/// Tells an unsigned refusal by the upper tier from an answer that lost its
/// signature on the way, counts it, and says so at once.
pub(crate) fn unverified(
    node: &Node,
    peer: &str,
    status: StatusCode,
    fields: &HeaderMap,
    rejection: &control::Rejection,
) -> SendError {
    let now_ms = node.now_ms();
    if rejection.reason == Reason::Missing
        && let Some(declined) = declined(peer, status, fields)
    {
        return declined;
    }
    if rejection.reason == Reason::Missing
        && let Some(reason) = refusal_reason(fields)
    {
        let event = Event::TierRefused {
            reason,
            peer: peer.to_owned(),
        };
        node.observer.event(event, now_ms);
        if reason == Reason::Replayed.as_str() {
            // Its memory of nonces is full, or knows this one. Either is an alarm,
            // and neither says that it would refuse the next request.
            return SendError::Declined(status);
        }
        return SendError::Refused;
    }
    let event = Event::ControlRejected {
        side: Side::Response,
        reason: rejection.reason.as_str(),
        peer: peer.to_owned(),
        detail: rejection.detail.clone(),
        remedy: remedy(rejection.reason).to_owned(),
    };
    node.observer.event(event, now_ms);
    SendError::Unverified
}

/// The reason an upper tier gave for refusing our control block, if it did.
fn refusal_reason(fields: &HeaderMap) -> Option<&'static str> {
    let status = fields.get(PROXY_STATUS)?.to_str().ok()?;
    let (_, after) = status.split_once("tier-control ")?;
    Reason::ALL
        .iter()
        .map(|reason| reason.as_str())
        .find(|reason| after.starts_with(reason))
}

/// What an operator should do about a rejected control block.
pub(crate) fn remedy(reason: Reason) -> &'static str {
    match reason {
        Reason::Missing => {
            "find what removed the field between the tiers: a proxy on the hop, or a request that did not come from an edge"
        }
        Reason::Malformed => {
            "find what rewrote the field on the hop, or compare the nodes' versions"
        }
        Reason::Expired => "compare the clocks of both nodes",
        Reason::BadSignature => {
            "find what altered the message on the hop; compare the keys of both nodes"
        }
        Reason::UnknownKey => "give both nodes the same key file and send SIGHUP",
        Reason::Mismatch => "compare the sites files and node names of both nodes",
        Reason::Replayed => {
            "find who sends recorded requests to this node; soon after its start, compare the clocks"
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_was_asked_last_is_not_judged_by_a_moment() {
        for (left_ms, wait_ms, counts) in [
            (15_000, 15_000, true),
            (13_500, 15_000, true),
            (13_499, 15_000, false),
            (1, 1, true),
        ] {
            assert_eq!(had_its_chance(left_ms, wait_ms), counts, "{left_ms}");
        }
    }

    #[test]
    fn a_refusal_at_the_door_is_told_from_a_lost_signature() {
        let too_much = StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE;
        let own = "upper-1; error=http_request_error; details=\"too large\"";
        for (status, proxy_status, is_declined) in [
            (too_much, Some(own), true),
            (StatusCode::BAD_REQUEST, Some("\"upper-1\"; error=x"), true),
            (StatusCode::MISDIRECTED_REQUEST, Some(own), true),
            (too_much, Some("upper-2; error=http_request_error"), false),
            (too_much, Some("upper-11; error=http_request_error"), false),
            (too_much, None, false),
            (StatusCode::OK, Some(own), false),
            (StatusCode::FORBIDDEN, Some(own), false),
        ] {
            let mut fields = HeaderMap::new();
            if let Some(value) = proxy_status {
                fields.insert(PROXY_STATUS, value.parse().unwrap());
            }
            let expected = is_declined.then_some(SendError::Declined(status));
            let found = declined("upper-1", status, &fields);
            assert_eq!(found, expected, "{status} {proxy_status:?}");
        }
    }
}
