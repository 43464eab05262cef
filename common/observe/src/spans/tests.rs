use opentelemetry::Value;

use super::*;
use crate::record::samples;

fn made(record: &Record) -> Vec<SpanData> {
    spans(
        record,
        "edge-1",
        &InstrumentationScope::builder("headwater").build(),
    )
}

fn attribute<'a>(span: &'a SpanData, key: &str) -> Option<&'a Value> {
    span.attributes
        .iter()
        .find(|kv| kv.key.as_str() == key)
        .map(|kv| &kv.value)
}

fn text(span: &SpanData, key: &str) -> String {
    attribute(span, key)
        .map(ToString::to_string)
        .unwrap_or_default()
}

#[test]
fn a_record_becomes_a_server_span_with_children() {
    let spans = made(&samples::miss());
    let ids: Vec<_> = spans
        .iter()
        .map(|s| s.span_context.span_id().to_bytes())
        .collect();
    assert_eq!(ids, [[0x22; 8], [0x33; 8], [0x44; 8]]);
    let kinds: Vec<_> = spans.iter().map(|s| s.span_kind.clone()).collect();
    assert_eq!(
        kinds,
        [SpanKind::Server, SpanKind::Internal, SpanKind::Client]
    );
    let names: Vec<_> = spans.iter().map(|s| s.name.as_ref()).collect();
    assert_eq!(names, ["GET", "fill", "GET"]);
    for span in &spans {
        assert_eq!(span.span_context.trace_id().to_bytes(), [0x11; 16]);
        assert!(span.span_context.is_sampled());
    }
    assert_eq!(spans[0].parent_span_id, SpanId::INVALID);
    for child in &spans[1..] {
        assert_eq!(child.parent_span_id, spans[0].span_context.span_id());
        assert!(!child.parent_span_is_remote);
    }
}

#[test]
fn work_below_our_own_span_is_no_server_span() {
    for (parent_span_id, parent_is_remote, kind) in [
        (None, false, SpanKind::Server),
        (Some([0x0f; 8]), true, SpanKind::Server),
        (Some([0x0f; 8]), false, SpanKind::Internal),
    ] {
        let mut record = samples::miss();
        let trace = record.trace.as_mut().unwrap();
        trace.parent_span_id = parent_span_id;
        trace.parent_is_remote = parent_is_remote;
        let spans = made(&record);
        assert_eq!(
            spans[0].span_kind, kind,
            "{parent_span_id:?} {parent_is_remote}"
        );
        assert_eq!(spans[0].parent_span_is_remote, parent_is_remote);
        assert_eq!(spans[1].parent_span_id, spans[0].span_context.span_id());
    }
}

#[test]
fn times_are_the_records_own() {
    let spans = made(&samples::miss());
    let start = UNIX_EPOCH + Duration::from_millis(1_700_000_000_000);
    for (span, from_us, to_us) in [
        (&spans[0], 0, 12_500),
        (&spans[1], 100, 12_100),
        (&spans[2], 200, 11_200),
    ] {
        assert_eq!(span.start_time, start + Duration::from_micros(from_us));
        assert_eq!(span.end_time, start + Duration::from_micros(to_us));
    }
}

#[test]
fn attributes_follow_the_http_conventions() {
    let spans = made(&samples::miss());
    for (key, value) in [
        ("http.request.method", "GET"),
        ("url.path", "/a"),
        ("url.query", "b=c"),
        ("url.scheme", "https"),
        ("server.address", "shop.example"),
        ("server.port", "8443"),
        ("http.response.status_code", "200"),
        ("client.address", "192.0.2.7"),
        ("network.protocol.version", "2"),
        ("user_agent.original", "curl/8"),
        ("headwater.outcome", "miss"),
        ("headwater.node", "edge-1"),
        ("headwater.site", "shop"),
    ] {
        assert_eq!(text(&spans[0], key), value, "{key}");
    }
    for (key, value) in [
        ("url.full", "https://shop.example:8443/a?b=c"),
        ("server.address", "upper-1"),
        ("headwater.upstream_kind", "upper_tier"),
        ("headwater.connection_reused", "true"),
        ("http.response.status_code", "200"),
    ] {
        assert_eq!(text(&spans[2], key), value, "{key}");
    }
}

#[test]
fn only_sampled_traces_become_spans() {
    let mut record = samples::miss();
    record.trace.as_mut().unwrap().sampled = false;
    assert!(made(&record).is_empty());
    record.trace = None;
    assert!(made(&record).is_empty());
}

#[test]
fn a_parent_elsewhere_is_remote() {
    let mut record = samples::miss();
    let trace = record.trace.as_mut().unwrap();
    trace.parent_span_id = Some([0x55; 8]);
    trace.parent_is_remote = true;
    let server = made(&record).remove(0);
    assert_eq!(server.parent_span_id.to_bytes(), [0x55; 8]);
    assert!(server.parent_span_is_remote);
}

#[test]
fn whose_fault_it_was() {
    for (status, outcome, detail, error) in [
        (200, Outcome::Miss, "", None),
        (404, Outcome::Miss, "", None),
        (500, Outcome::Miss, "", Some("500")),
        (504, Outcome::Error, "fetch_timeout", Some("fetch_timeout")),
    ] {
        let mut record = samples::miss();
        record.status = status;
        record.outcome = outcome;
        record.detail = detail.into();
        let server = made(&record).remove(0);
        assert_eq!(
            matches!(server.status, Status::Error { .. }),
            error.is_some(),
            "{status}"
        );
        assert_eq!(
            text(&server, "error.type"),
            error.unwrap_or_default(),
            "{status}"
        );
    }
    for (status, failure, error) in [
        (Some(200), None, None),
        (Some(404), None, Some("404")),
        (None, Some("connect_timeout"), Some("connect_timeout")),
        (Some(200), Some("unverified"), Some("unverified")),
    ] {
        let mut record = samples::miss();
        record.upstream_attempts[0].status = status;
        record.upstream_attempts[0].error = failure.map(str::to_owned);
        let client = made(&record).remove(2);
        assert_eq!(
            matches!(client.status, Status::Error { .. }),
            error.is_some(),
            "{status:?}"
        );
        assert_eq!(
            text(&client, "error.type"),
            error.unwrap_or_default(),
            "{status:?}"
        );
    }
}

#[test]
fn an_unknown_method_makes_no_name() {
    let mut record = samples::miss();
    record.method = "BREW".into();
    let server = made(&record).remove(0);
    assert_eq!(server.name, "HTTP");
    assert_eq!(text(&server, "http.request.method"), "_OTHER");
    assert_eq!(text(&server, "http.request.method_original"), "BREW");
}

#[test]
fn absurd_times_do_not_overflow() {
    let mut record = samples::miss();
    record.started_ms = u64::MAX;
    record.duration_us = u64::MAX;
    record.phases[0].start_us = u64::MAX;
    assert_eq!(made(&record).len(), 3);
}

#[test]
fn ports() {
    for (authority, split) in [
        ("a.example", ("a.example", None)),
        ("a.example:80", ("a.example", Some(80))),
        ("[::1]:80", ("[::1]", Some(80))),
        ("[::1]", ("[::1]", None)),
        ("::1", ("::1", None)),
        ("a.example:", ("a.example:", None)),
        ("a.example:99999", ("a.example:99999", None)),
        ("", ("", None)),
    ] {
        assert_eq!(split_port(authority), split, "{authority}");
    }
    let mut record = samples::miss();
    record.upstream_attempts[0].kind = AttemptKind::Origin;
    record.upstream_attempts[0].target = "origin 127.0.0.1:8000".into();
    let client = made(&record).remove(2);
    assert_eq!(text(&client, "server.address"), "127.0.0.1");
    assert_eq!(text(&client, "server.port"), "8000");
}
