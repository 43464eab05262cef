//! Telling `observe` what happened: counters inline, a record by value where one
//! is wanted. Nothing here can touch a request; it reads what is over.

use std::borrow::Cow;
use std::net::IpAddr;

use control::Scheme;
use http::header::USER_AGENT;
use observe::{
    Attempt, Done, InFlight, InFlightGuard, Method, Outcome, Phase, Protocol, Record, Said,
    TraceRecord,
};

use crate::answer::Answer;
use crate::clock::Stopwatch;
use crate::door::Conn;
use crate::door::admit::TurnedAway;
use crate::fields::TRACESTATE;
use crate::ids;
use crate::request::Request;
use crate::state::Node;
use crate::tier;

/// Makes a request that has to wait visible on the admin listener.
pub(crate) fn in_flight(node: &Node, request: &Request, phase: &'static str) -> InFlightGuard {
    node.observer.enter(InFlight {
        started_ms: request.received_ms,
        method: request.method.to_string(),
        host: request.authority.clone(),
        path: request.path_and_query.clone(),
        phase,
        client: request.visitor.to_string(),
    })
}

/// A request was answered.
pub(crate) fn done(
    node: &Node,
    request: &Request,
    answer: &Answer,
    body_bytes: u64,
    written_from_us: u64,
) {
    let done = Done {
        outcome: answer.story.outcome,
        status: answer.status().as_u16(),
        body_bytes,
        duration_us: request.watch.elapsed_us(),
        protocol: request.protocol,
        method: Method::of(request.method.as_str()),
        https: request.scheme == Scheme::Https,
    };
    node.observer.count(&done);
    let flight = answer.story.flight.as_ref();
    let has_failed_attempt =
        flight.is_some_and(|flight| flight.attempts.lock().iter().any(Attempt::has_failed));
    if !node
        .observer
        .wants(&done, request.trace.sampled, has_failed_attempt)
    {
        return;
    }
    let mut record = record_of(request, &done);
    record.detail = answer.story.detail.clone();
    record.phases = phases(done.outcome, written_from_us, done.duration_us);
    if let Some(flight) = flight {
        record.upstream_attempts = std::mem::take(&mut *flight.attempts.lock());
    }
    node.observer.record(record);
}

/// What a record says of a request whichever way it was answered.
pub(crate) fn record_of(request: &Request, done: &Done) -> Record {
    let text = |name| {
        let field = request.fields.get(name);
        field.and_then(|value| value.to_str().ok()).unwrap_or("")
    };
    let hop_from = request
        .tier
        .as_ref()
        .map_or("", |verified| verified.block().node.as_str());
    Record {
        trace: Some(TraceRecord {
            trace_id: request.trace.trace_id,
            span_id: request.trace.span_id,
            parent_span_id: request.trace.parent,
            parent_is_remote: request.trace.parent.is_some(),
            sampled: request.trace.sampled,
        }),
        started_ms: request.received_ms,
        duration_us: done.duration_us,
        client: request.visitor,
        peer: request.peer,
        method: done.method,
        scheme: request.scheme.as_str(),
        words: Said {
            host: &request.authority,
            path: &request.path_and_query,
            site: &request.site.config.name,
            user_agent: text(USER_AGENT),
            hop_from,
            method: match done.method {
                Method::Other => request.method.as_str(),
                _ => "",
            },
            // W3C Trace Context §3.3.1: without a parent there is none.
            trace_state: match request.trace.parent {
                Some(_) => text(TRACESTATE),
                None => "",
            },
        }
        .into(),
        status: done.status,
        outcome: done.outcome,
        detail: Cow::Borrowed(""),
        body_bytes: done.body_bytes,
        protocol: done.protocol,
        phases: Vec::new(),
        upstream_attempts: Vec::new(),
    }
}

/// The beginning of the record of a refresh, for which no visitor waits: work of its
/// own below the request that set it off.
pub(crate) fn refresh(request: &Request) -> Record {
    let begun = Done {
        outcome: Outcome::Miss,
        status: 0,
        body_bytes: 0,
        duration_us: 0,
        protocol: request.protocol,
        method: Method::of(request.method.as_str()),
        https: request.scheme == Scheme::Https,
    };
    let mut record = record_of(request, &begun);
    if let Some(trace) = &mut record.trace {
        trace.parent_span_id = Some(trace.span_id);
        trace.parent_is_remote = false;
        trace.span_id = ids::span_id();
    }
    record.detail = Cow::Borrowed("refresh");
    record
}

/// A refresh has landed after `duration_us`.
pub(crate) fn refreshed(node: &Node, mut record: Record, attempts: Vec<Attempt>, duration_us: u64) {
    let last = attempts.last();
    let status = last.and_then(|attempt| attempt.status);
    if let Some(error) = last.and_then(|attempt| attempt.error) {
        record.detail = Cow::Borrowed(error);
    }
    record.outcome = match status {
        Some(304) => Outcome::Revalidated,
        Some(_) => Outcome::Miss,
        None => Outcome::Error,
    };
    record.status = status.unwrap_or(502);
    record.duration_us = duration_us;
    let done = Done {
        outcome: record.outcome,
        status: record.status,
        body_bytes: 0,
        duration_us,
        protocol: record.protocol,
        method: record.method,
        https: record.scheme == Scheme::Https.as_str(),
    };
    let sampled = record.trace.is_some_and(|trace| trace.sampled);
    let has_failed_attempt = attempts.iter().any(Attempt::has_failed);
    if node.observer.wants(&done, sampled, has_failed_attempt) {
        record.upstream_attempts = attempts;
        node.observer.record(record);
    }
}

/// What the time went into. A hit has nothing to tell apart: its time is its writing.
fn phases(outcome: Outcome, written_from_us: u64, duration_us: u64) -> Vec<Phase> {
    let waited = match outcome {
        Outcome::Hit | Outcome::StaleHit => return Vec::new(),
        Outcome::Collapsed => "wait",
        _ => "fetch",
    };
    let phase = |name, start_us: u64, end_us: u64| Phase {
        name,
        span_id: ids::span_id(),
        start_us,
        duration_us: end_us.saturating_sub(start_us),
    };
    vec![
        phase(waited, 0, written_from_us),
        phase("write", written_from_us, duration_us),
    ]
}

/// A checked head was not let in.
pub(crate) fn turned_away(
    node: &Node,
    turned_away: &TurnedAway,
    protocol: Protocol,
    body_bytes: u64,
) {
    // Nobody's request: counters of those would tell of probes more than of visitors.
    if turned_away.answer.story.detail == tier::PROBE {
        return;
    }
    let checked = &turned_away.checked;
    let done = Done {
        outcome: turned_away.answer.story.outcome,
        status: turned_away.answer.status().as_u16(),
        body_bytes,
        duration_us: turned_away.watch.elapsed_us(),
        protocol,
        method: Method::of(turned_away.method.as_str()),
        https: turned_away.https,
    };
    node.observer.count(&done);
    if node.observer.wants(&done, false, false) {
        let said = Said {
            host: &checked.authority,
            path: &checked.path_and_query,
            method: turned_away.method.as_str(),
            ..Said::default()
        };
        let from = (turned_away.visitor, turned_away.received_ms);
        node.observer
            .record(untraced(&done, from, said, &turned_away.answer));
    }
}

/// Something that is no request at all was refused.
pub(crate) fn malformed(
    node: &Node,
    conn: &Conn,
    answer: &Answer,
    watch: Stopwatch,
    protocol: Protocol,
    body_bytes: u64,
) {
    let done = Done {
        outcome: Outcome::Refused,
        status: answer.status().as_u16(),
        body_bytes,
        duration_us: watch.elapsed_us(),
        protocol,
        method: Method::Other,
        https: conn.tls,
    };
    node.observer.count(&done);
    if node.observer.wants(&done, false, false) {
        let from = (conn.peer.ip(), node.now_ms());
        node.observer
            .record(untraced(&done, from, Said::default(), answer));
    }
}

/// The record of what got no place in a trace, from whom and since when (Unix ms).
fn untraced(
    done: &Done,
    (peer, started_ms): (IpAddr, u64),
    said: Said<'_>,
    answer: &Answer,
) -> Record {
    Record {
        trace: None,
        started_ms,
        duration_us: done.duration_us,
        client: peer,
        peer,
        method: done.method,
        scheme: if done.https { "https" } else { "http" },
        words: said.into(),
        status: done.status,
        outcome: done.outcome,
        detail: answer.story.detail.clone(),
        body_bytes: done.body_bytes,
        protocol: done.protocol,
        phases: Vec::new(),
        upstream_attempts: Vec::new(),
    }
}
