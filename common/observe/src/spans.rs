//! A record as OpenTelemetry spans, after the fact.
//!
//! One server span for the request, a child for each phase, and a client span for
//! each request sent upstream, under the very id that was sent: the next tier's
//! server span is its child. Names and attributes follow the OpenTelemetry
//! semantic conventions for HTTP spans; what they have no word for begins with
//! `headwater.`.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use opentelemetry::trace::{
    SpanContext, SpanId, SpanKind, Status, TraceFlags, TraceId, TraceState,
};
use opentelemetry::{InstrumentationScope, KeyValue};
use opentelemetry_sdk::trace::{SpanData, SpanEvents, SpanLinks};

use crate::record::{Attempt, AttemptKind, Outcome, Phase, Record, TraceRecord};

/// Methods that may be names; any other would make a name for each client's whim.
const METHODS: [&str; 9] = [
    "GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE", "CONNECT",
];

/// All spans of a record, the server span first; none unless it is sampled.
pub(crate) fn spans(record: &Record, node: &str, scope: &InstrumentationScope) -> Vec<SpanData> {
    let Some(trace) = record.trace.as_ref().filter(|trace| trace.sampled) else {
        return Vec::new();
    };
    let maker = Maker {
        record,
        trace,
        scope,
    };
    let mut spans = Vec::with_capacity(1 + record.phases.len() + record.upstream_attempts.len());
    spans.push(maker.server(node));
    spans.extend(record.phases.iter().map(|phase| maker.phase(phase)));
    spans.extend(
        record
            .upstream_attempts
            .iter()
            .map(|attempt| maker.attempt(attempt)),
    );
    spans
}

struct Maker<'a> {
    record: &'a Record,
    trace: &'a TraceRecord,
    scope: &'a InstrumentationScope,
}

impl Maker<'_> {
    fn server(&self, node: &str) -> SpanData {
        let record = self.record;
        let (path, query) = split_query(&record.path);
        let (host, port) = split_port(&record.host);
        let mut attributes = vec![
            KeyValue::new("url.path", path.to_owned()),
            KeyValue::new("url.scheme", record.scheme),
            KeyValue::new("server.address", host.to_owned()),
            KeyValue::new("http.response.status_code", i64::from(record.status)),
            KeyValue::new("client.address", record.client.clone()),
            KeyValue::new("network.protocol.version", record.protocol.version()),
            KeyValue::new("headwater.outcome", record.outcome.as_str()),
            KeyValue::new("headwater.node", node.to_owned()),
            KeyValue::new("headwater.site", record.site.clone()),
        ];
        let name = self.method(&mut attributes);
        attributes.extend(query.map(|query| KeyValue::new("url.query", query.to_owned())));
        attributes.extend(port.map(|port| KeyValue::new("server.port", i64::from(port))));
        let options = [
            ("user_agent.original", record.user_agent.as_deref()),
            ("headwater.hop_from", record.hop_from.as_deref()),
            (
                "headwater.detail",
                (!record.detail.is_empty()).then_some(record.detail.as_str()),
            ),
        ];
        attributes.extend(
            options
                .into_iter()
                .filter_map(|(key, value)| value.map(|value| KeyValue::new(key, value.to_owned()))),
        );

        // A server span is an error when the server was at fault: a 4xx is not.
        let failed = record.status >= 500 || record.outcome == Outcome::Error;
        let error = failed.then(|| match record.detail.as_str() {
            "" => record.status.to_string(),
            detail => detail.to_owned(),
        });
        // Below a span of this node there is work that nobody asked this node for.
        let is_own = self.trace.parent_span_id.is_some() && !self.trace.parent_is_remote;
        let kind = if is_own {
            SpanKind::Internal
        } else {
            SpanKind::Server
        };
        self.span(Span {
            id: self.trace.span_id,
            parent: self.trace.parent_span_id,
            parent_is_remote: self.trace.parent_is_remote,
            kind,
            name,
            start_us: 0,
            duration_us: record.duration_us,
            attributes,
            error,
        })
    }

    fn phase(&self, phase: &Phase) -> SpanData {
        self.span(Span {
            id: phase.span_id,
            parent: Some(self.trace.span_id),
            parent_is_remote: false,
            kind: SpanKind::Internal,
            name: phase.name,
            start_us: phase.start_us,
            duration_us: phase.duration_us,
            attributes: Vec::new(),
            error: None,
        })
    }

    fn attempt(&self, attempt: &Attempt) -> SpanData {
        let record = self.record;
        let target = match attempt.kind {
            AttemptKind::Origin => attempt
                .target
                .strip_prefix("origin ")
                .unwrap_or(&attempt.target),
            AttemptKind::UpperTier => &attempt.target,
        };
        let (address, port) = split_port(target);
        let mut attributes = vec![
            KeyValue::new(
                "url.full",
                format!("{}://{}{}", record.scheme, record.host, record.path),
            ),
            KeyValue::new("server.address", address.to_owned()),
            KeyValue::new("headwater.upstream_kind", attempt.kind.as_str()),
            KeyValue::new("headwater.connection_reused", attempt.reused_connection),
        ];
        let name = self.method(&mut attributes);
        attributes.extend(port.map(|port| KeyValue::new("server.port", i64::from(port))));
        attributes.extend(
            attempt
                .status
                .map(|status| KeyValue::new("http.response.status_code", i64::from(status))),
        );

        // A client span is an error for any answer of 400 and above as well.
        let error = attempt.error.clone().or_else(|| {
            attempt
                .status
                .filter(|status| *status >= 400)
                .map(|status| status.to_string())
        });
        self.span(Span {
            id: attempt.span_id,
            parent: Some(self.trace.span_id),
            parent_is_remote: false,
            kind: SpanKind::Client,
            name,
            start_us: attempt.start_us,
            duration_us: attempt.duration_us,
            attributes,
            error,
        })
    }

    /// Notes the method and gives the span's name: with no route, the method alone.
    fn method(&self, attributes: &mut Vec<KeyValue>) -> &'static str {
        let method = self.record.method.as_str();
        match METHODS.into_iter().find(|known| *known == method) {
            Some(known) => {
                attributes.push(KeyValue::new("http.request.method", known));
                known
            }
            None => {
                attributes.push(KeyValue::new("http.request.method", "_OTHER"));
                attributes.push(KeyValue::new(
                    "http.request.method_original",
                    method.to_owned(),
                ));
                "HTTP"
            }
        }
    }

    fn span(&self, span: Span) -> SpanData {
        let start_time = self.at(span.start_us);
        let end_time = self.at(span.start_us.saturating_add(span.duration_us));
        let mut attributes = span.attributes;
        let status = match span.error {
            None => Status::Unset,
            Some(error) => {
                attributes.push(KeyValue::new("error.type", error.clone()));
                Status::error(error)
            }
        };
        SpanData {
            span_context: SpanContext::new(
                TraceId::from_bytes(self.trace.trace_id),
                SpanId::from_bytes(span.id),
                TraceFlags::SAMPLED,
                false,
                TraceState::NONE,
            ),
            parent_span_id: span.parent.map_or(SpanId::INVALID, SpanId::from_bytes),
            parent_span_is_remote: span.parent.is_some() && span.parent_is_remote,
            span_kind: span.kind,
            name: span.name.into(),
            start_time,
            end_time,
            attributes,
            dropped_attributes_count: 0,
            events: SpanEvents::default(),
            links: SpanLinks::default(),
            status,
            instrumentation_scope: self.scope.clone(),
        }
    }

    /// The moment so many microseconds after the record's start.
    fn at(&self, offset_us: u64) -> SystemTime {
        UNIX_EPOCH
            .checked_add(Duration::from_millis(self.record.started_ms))
            .and_then(|start| start.checked_add(Duration::from_micros(offset_us)))
            .unwrap_or(UNIX_EPOCH)
    }
}

/// What the three kinds of spans differ in.
struct Span {
    id: [u8; 8],
    parent: Option<[u8; 8]>,
    parent_is_remote: bool,
    kind: SpanKind,
    name: &'static str,
    start_us: u64,
    duration_us: u64,
    attributes: Vec<KeyValue>,
    error: Option<String>,
}

fn split_query(path: &str) -> (&str, Option<&str>) {
    match path.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (path, None),
    }
}

/// Host and port, where what follows the last colon is a port. The colons of a
/// bracketed IPv6 address are inside its brackets, so they are none.
fn split_port(authority: &str) -> (&str, Option<u16>) {
    authority
        .rsplit_once(':')
        .filter(|(host, _)| !host.contains(':') || host.ends_with(']'))
        .and_then(|(host, port)| Some((host, Some(port.parse().ok()?))))
        .unwrap_or((authority, None))
}

#[cfg(test)]
mod tests;
