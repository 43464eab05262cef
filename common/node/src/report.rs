//! Telling `observe` what happened: counters inline, a record by value where one
//! is wanted. Nothing here can touch a request; it reads what is over.

use observe::{
    Attempt, Done, InFlight, InFlightGuard, Outcome, Phase, Protocol, Record, TraceRecord,
};

use crate::answer::Answer;
use crate::clock::Stopwatch;
use crate::door::Conn;
use crate::door::admit::TurnedAway;
use crate::ids;
use crate::request::Request;
use crate::state::Node;

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
    let status = answer.status().as_u16();
    let outcome = answer.story.outcome;
    let duration_us = request.watch.elapsed_us();
    node.observer.count(&Done {
        outcome,
        status,
        body_bytes,
        duration_us,
        protocol: request.protocol,
    });
    if !node.observer.wants(outcome, status, request.trace.sampled) {
        return;
    }
    let mut record = record_of(request, outcome, status);
    record.duration_us = duration_us;
    record.body_bytes = body_bytes;
    record.detail = answer.story.detail.to_string();
    record.phases = phases(outcome, written_from_us, duration_us);
    if let Some(flight) = &answer.story.flight {
        record.upstream_attempts = std::mem::take(&mut *flight.attempts.lock());
    }
    node.observer.record(record);
}

/// What a record says of a request whichever way it was answered.
pub(crate) fn record_of(request: &Request, outcome: Outcome, status: u16) -> Record {
    Record {
        trace: Some(TraceRecord {
            trace_id: request.trace.trace_id,
            span_id: request.trace.span_id,
            parent_span_id: request.trace.parent,
            parent_is_remote: request.trace.parent.is_some(),
            sampled: request.trace.sampled,
        }),
        started_ms: request.received_ms,
        duration_us: 0,
        client: request.visitor.to_string(),
        method: request.method.to_string(),
        scheme: request.scheme.as_str(),
        host: request.authority.clone(),
        path: request.path_and_query.clone(),
        site: request.site.config.name.clone(),
        status,
        outcome,
        detail: String::new(),
        body_bytes: 0,
        protocol: request.protocol,
        user_agent: request
            .fields
            .get(http::header::USER_AGENT)
            .and_then(|agent| agent.to_str().ok())
            .map(str::to_owned),
        hop_from: request
            .tier
            .as_ref()
            .map(|verified| verified.block().node.clone()),
        phases: Vec::new(),
        upstream_attempts: Vec::new(),
    }
}

/// The beginning of the record of a refresh, for which no visitor waits: work of its
/// own below the request that set it off.
pub(crate) fn refresh(request: &Request) -> Record {
    let mut record = record_of(request, Outcome::Miss, 0);
    if let Some(trace) = &mut record.trace {
        trace.parent_span_id = Some(trace.span_id);
        trace.parent_is_remote = false;
        trace.span_id = ids::span_id();
    }
    record.detail = "refresh".to_owned();
    record
}

/// A refresh has landed after `duration_us`.
pub(crate) fn refreshed(node: &Node, mut record: Record, attempts: Vec<Attempt>, duration_us: u64) {
    let last = attempts.last();
    let status = last.and_then(|attempt| attempt.status);
    if let Some(error) = last.and_then(|attempt| attempt.error.clone()) {
        record.detail = error;
    }
    record.outcome = match status {
        Some(304) => Outcome::Revalidated,
        Some(_) => Outcome::Miss,
        None => Outcome::Error,
    };
    record.status = status.unwrap_or(502);
    record.duration_us = duration_us;
    record.upstream_attempts = attempts;
    let sampled = record.trace.is_some_and(|trace| trace.sampled);
    if node.observer.wants(record.outcome, record.status, sampled) {
        node.observer.record(record);
    }
}

fn phases(outcome: Outcome, written_from_us: u64, duration_us: u64) -> Vec<Phase> {
    let waited = match outcome {
        Outcome::Hit | Outcome::StaleHit => "lookup",
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
    let status = turned_away.answer.status().as_u16();
    let outcome = turned_away.answer.story.outcome;
    let duration_us = turned_away.watch.elapsed_us();
    node.observer.count(&Done {
        outcome,
        status,
        body_bytes,
        duration_us,
        protocol,
    });
    if !node.observer.wants(outcome, status, false) {
        return;
    }
    node.observer.record(Record {
        trace: None,
        started_ms: turned_away.received_ms,
        duration_us,
        client: turned_away.visitor.to_string(),
        method: turned_away.method.to_string(),
        scheme: "http",
        host: turned_away.checked.authority.clone(),
        path: turned_away.checked.path_and_query.clone(),
        site: String::new(),
        status,
        outcome,
        detail: turned_away.answer.story.detail.to_string(),
        body_bytes,
        protocol,
        user_agent: None,
        hop_from: None,
        phases: Vec::new(),
        upstream_attempts: Vec::new(),
    });
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
    let status = answer.status().as_u16();
    let outcome = Outcome::Refused;
    let duration_us = watch.elapsed_us();
    node.observer.count(&Done {
        outcome,
        status,
        body_bytes,
        duration_us,
        protocol,
    });
    if !node.observer.wants(outcome, status, false) {
        return;
    }
    node.observer.record(Record {
        trace: None,
        started_ms: node.now_ms(),
        duration_us,
        client: conn.peer.ip().to_string(),
        method: String::new(),
        scheme: if conn.tls { "https" } else { "http" },
        host: String::new(),
        path: String::new(),
        site: String::new(),
        status,
        outcome,
        detail: answer.story.detail.to_string(),
        body_bytes,
        protocol,
        user_agent: None,
        hop_from: None,
        phases: Vec::new(),
        upstream_attempts: Vec::new(),
    });
}
