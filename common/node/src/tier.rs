//! The upper tier's side of the hop: taking control blocks in, signing answers.

use control::{Reason, Received, Rejection, TierResult, Verified};
use http::header::{CACHE_CONTROL, DATE, HeaderValue, MAX_FORWARDS};
use http::{HeaderMap, Method, StatusCode};
use observe::{Event, Outcome, Side};

use crate::answer::{Answer, Body, Head, Story};
use crate::fields::ProxyError;
use crate::fill::reach::remedy;
use crate::live::Live;
use crate::purge;
use crate::request::Request;
use crate::state::Node;

/// Verifies the control block of a request, or refuses the request by name.
pub(crate) fn admit(
    node: &Node,
    live: &Live,
    method: &Method,
    authority: &str,
    path_and_query: &str,
    fields: &HeaderMap,
    now_ms: u64,
) -> Result<Box<Verified>, Box<Answer>> {
    let received = Received {
        method,
        authority,
        path_and_query,
        fields,
    };
    control::verify_request(received, &live.keyring, node.name(), now_ms)
        .and_then(|verified| {
            if !method.is_safe() {
                node.replay.lock().admit(&verified, now_ms)?;
            }
            Ok(Box::new(verified))
        })
        .map_err(|rejection| refuse(node, &claimed_peer(fields), &rejection))
}

/// Refuses a request whose control block verified but contradicts our configuration.
pub(crate) fn refuse_mismatch(node: &Node, peer: &str, detail: String) -> Box<Answer> {
    let rejection = Rejection {
        reason: Reason::Mismatch,
        detail,
    };
    refuse(node, peer, &rejection)
}

fn refuse(node: &Node, peer: &str, rejection: &Rejection) -> Box<Answer> {
    let reason = rejection.reason.as_str();
    let event = Event::ControlRejected {
        side: Side::Request,
        reason,
        peer: peer.to_owned(),
        detail: rejection.detail.clone(),
        remedy: remedy(rejection.reason).to_owned(),
    };
    node.observer.event(event, node.now_ms());
    // RFC 9209 §2.3.25: denied by our policy.
    let error = ProxyError::new(
        "http_request_denied",
        format!("tier-control {reason}: {}", rejection.detail),
    );
    Box::new(Answer::error(node, StatusCode::FORBIDDEN, &error))
}

/// Whether a request asks about this server and may go no further. Edges answer what a
/// visitor asks of their own (`OPTIONS *`), so between tiers it is a probe.
pub(crate) fn is_probe(method: &Method, path_and_query: &str, fields: &HeaderMap) -> bool {
    *method == Method::OPTIONS
        && path_and_query == "*"
        && fields
            .get(MAX_FORWARDS)
            .is_some_and(|left| left.as_bytes() == b"0")
}

/// What a record says of the answer to a probe.
pub(crate) const PROBE: &str = "probe";

/// The signed answer to a probe whose control block verified.
pub(crate) fn answer_probe(node: &Node, live: &Live, verified: &Verified) -> Answer {
    let mut fields = HeaderMap::with_capacity(6);
    fields.insert(DATE, http_cache::date::format(node.now_ms()));
    fields.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    let mut answer = Answer {
        head: Head::Built {
            status: StatusCode::NO_CONTENT,
            fields,
        },
        body: Body::Absent,
        story: Story {
            detail: PROBE.into(),
            ..Story::new(Outcome::Pass)
        },
    };
    sign_answer(node, live, verified, &mut answer);
    answer
}

/// Who the request says it comes from; only ever a label.
fn claimed_peer(fields: &HeaderMap) -> String {
    fields
        .get(control::TIER_CONTROL)
        .and_then(|value| control::ControlBlock::decode(value).ok())
        .map_or_else(|| "unknown".to_owned(), |block| block.node)
}

/// Signs the answer to a request that came with a control block.
pub(crate) fn sign(node: &Node, request: &Request, answer: &mut Answer) {
    if let Some(verified) = &request.tier {
        sign_answer(node, &request.live, verified, answer);
    }
}

/// Signs an answer for whoever sent that control block: also one that turns the
/// request away, since only a signed answer is final.
pub(crate) fn sign_answer(node: &Node, live: &Live, verified: &Verified, answer: &mut Answer) {
    let age_ms = answer.story.age_ms;
    let outcome = told_outcome(&answer.story);
    let name = node.name();
    let (status, fields) = answer.build(name);
    if let Err(error) = sign_fields(node, live, verified, status, fields, outcome, age_ms) {
        let error = ProxyError::new("proxy_internal_error", error);
        *answer = Answer::error(node, StatusCode::INTERNAL_SERVER_ERROR, &error);
    }
}

/// How the tiers from here on came by an answer. Whoever is told of a miss takes it that
/// an origin was asked for it, so of two tiers the one that was nearest to it is heard.
fn told_outcome(story: &Story) -> String {
    if let Some(no_answer) = story.no_answer {
        return no_answer.as_str().to_owned();
    }
    match &story.outcome_behind {
        Some(behind) if story.outcome == Outcome::Miss => behind.to_string(),
        _ => story.outcome.as_str().to_owned(),
    }
}

/// Writes `Tier-Result` and the signature into response fields.
pub(crate) fn sign_fields(
    node: &Node,
    live: &Live,
    verified: &Verified,
    status: StatusCode,
    fields: &mut HeaderMap,
    outcome: String,
    age_ms: Option<u64>,
) -> Result<(), String> {
    let date_s = fields
        .get(DATE)
        .and_then(|date| http_cache::date::parse(date.as_bytes()))
        .map(|date_ms| date_ms / 1000);
    let result = TierResult {
        // An edge that is still of the version before could not read ours.
        version: verified.block().version,
        node: node.name().to_owned(),
        outcome,
        age_ms,
        date_s,
        epoch: purge::epoch(node, verified.block().key, node.now_ms()),
    };
    let own = live.keyring.signing(node.name());
    control::sign_response(status, fields, &result, verified, own, node.now_ms())
        .map_err(|error| error.to_string())
}
