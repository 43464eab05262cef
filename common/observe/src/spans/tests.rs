use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use opentelemetry_proto::tonic::trace::v1::{ScopeSpans, Span};
use prost::Message as _;

use super::*;
use crate::attributes::split_port;
use crate::record::Said;
use crate::record::samples::{self, said};

const SLOW_US: u64 = 1_000_000;

/// The spans as the official messages read them.
fn made(record: &Record) -> Vec<Span> {
    let mut out = Vec::new();
    let count = write(&mut out, record, &mut Common::new(), SLOW_US);
    let spans = ScopeSpans::decode(out.as_slice()).unwrap().spans;
    assert_eq!(spans.len() as u64, count);
    spans
}

fn text(span: &Span, key: &str) -> String {
    let mut found = span.attributes.iter().filter(|one| one.key == key);
    let first = found.next().and_then(|one| one.value.clone()?.value);
    assert!(found.next().is_none(), "{key} stands there twice");
    match first {
        Some(Value::StringValue(text)) => text,
        Some(Value::IntValue(number)) => number.to_string(),
        Some(Value::BoolValue(flag)) => flag.to_string(),
        _ => String::new(),
    }
}

fn is_error(span: &Span) -> bool {
    span.status.as_ref().is_some_and(|status| status.code == 2)
}

#[test]
fn a_record_becomes_a_server_span_with_children() {
    let spans = made(&samples::miss());
    let ids: Vec<_> = spans.iter().map(|s| s.span_id.clone()).collect();
    assert_eq!(ids, [[0x22; 8], [0x33; 8], [0x44; 8]]);
    let kinds: Vec<_> = spans.iter().map(Span::kind).collect();
    assert_eq!(
        kinds,
        [SpanKind::Server, SpanKind::Internal, SpanKind::Client]
    );
    let names: Vec<_> = spans.iter().map(|s| s.name.as_str()).collect();
    assert_eq!(names, ["GET", "fill", "GET"]);
    for span in &spans {
        assert_eq!(span.trace_id, [0x11; 16]);
        assert_eq!(span.flags & SAMPLED, SAMPLED);
    }
    assert!(spans[0].parent_span_id.is_empty());
    for child in &spans[1..] {
        assert_eq!(child.parent_span_id, spans[0].span_id);
        assert_eq!(child.flags, KNOWS_REMOTE | SAMPLED);
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
            spans[0].kind(),
            kind,
            "{parent_span_id:?} {parent_is_remote}"
        );
        let is_remote = spans[0].flags & IS_REMOTE != 0;
        assert_eq!(is_remote, parent_is_remote);
        assert_eq!(spans[1].parent_span_id, spans[0].span_id);
    }
}

#[test]
fn times_are_the_records_own() {
    let spans = made(&samples::miss());
    let start_us = 1_700_000_000_000_000;
    for (span, from_us, to_us) in [
        (&spans[0], 0, 12_500),
        (&spans[1], 100, 12_100),
        (&spans[2], 200, 11_200),
    ] {
        assert_eq!(span.start_time_unix_nano, (start_us + from_us) * 1000);
        assert_eq!(span.end_time_unix_nano, (start_us + to_us) * 1000);
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
        ("network.peer.address", "198.51.100.1"),
        ("network.protocol.version", "2"),
        ("user_agent.original", "curl/8"),
        ("headwater.outcome", "miss"),
        ("headwater.site", "shop"),
    ] {
        assert_eq!(text(&spans[0], key), value, "{key}");
    }
    for (key, value) in [
        ("url.full", "https://shop.example:8443/a?b=c"),
        ("server.address", "192.0.2.9"),
        ("server.port", "8091"),
        ("headwater.upstream", "upper-1"),
        ("headwater.upstream_kind", "upper_tier"),
        ("headwater.connection_reused", "true"),
        ("http.response.status_code", "200"),
    ] {
        assert_eq!(text(&spans[2], key), value, "{key}");
    }
}

#[test]
fn only_sampled_traces_become_spans_unless_something_was_wrong() {
    let mut record = samples::miss();
    record.trace.as_mut().unwrap().sampled = false;
    assert!(made(&record).is_empty());
    record.status = 500;
    assert!(!made(&record).is_empty());
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
    assert_eq!(server.parent_span_id, [0x55; 8]);
    assert_eq!(server.flags & IS_REMOTE, IS_REMOTE);
}

#[test]
fn whose_fault_it_was() {
    for (status, outcome, detail, error) in [
        (200, Outcome::Miss, "", None),
        (404, Outcome::Miss, "", None),
        (500, Outcome::Miss, "", Some("500")),
        (504, Outcome::Error, "fetch_timeout", Some("fetch_timeout")),
        (502, Outcome::Pass, "closed", Some("closed")),
        // Words that take few values only, and only those that name the failure.
        (
            502,
            Outcome::Error,
            "it was closed by 192.0.2.1",
            Some("502"),
        ),
        (503, Outcome::Bypass, "private", Some("503")),
    ] {
        let mut record = samples::miss();
        record.status = status;
        record.outcome = outcome;
        record.detail = detail.into();
        let server = made(&record).remove(0);
        assert_eq!(is_error(&server), error.is_some(), "{status}");
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
        record.upstream_attempts[0].error = failure;
        let client = made(&record).remove(2);
        assert_eq!(is_error(&client), error.is_some(), "{status:?}");
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
    record.method = Method::Other;
    let method = "BREW";
    record.words = Said { method, ..said() }.into();
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
        ("[::1]:80", ("::1", Some(80))),
        ("[::1]", ("::1", None)),
        ("::1", ("::1", None)),
        ("a.example:", ("a.example:", None)),
        ("a.example:99999", ("a.example:99999", None)),
        ("", ("", None)),
    ] {
        assert_eq!(split_port(authority), split, "{authority}");
    }
}

#[test]
fn what_is_kept_of_an_unsampled_trace_says_why_and_what_may_be_missing() {
    let sampled = samples::miss();
    let mut plain = samples::miss();
    plain.trace.as_mut().unwrap().sampled = false;
    let mut slow = plain.clone();
    slow.duration_us = SLOW_US;
    let mut failed = plain.clone();
    failed.upstream_attempts[0].error = Some("closed");
    // As an upper tier sees it: an edge's span above, an origin below.
    let mut at_upper = failed.clone();
    at_upper.words = Said {
        hop_from: "edge-1",
        ..said()
    }
    .into();
    at_upper.trace.as_mut().unwrap().parent_span_id = Some([0x55; 8]);
    at_upper.trace.as_mut().unwrap().parent_is_remote = true;
    at_upper.upstream_attempts[0].kind = AttemptKind::Origin;
    let mut of_visitor = at_upper.clone();
    of_visitor.words = said().into();
    for (record, kept, above, below) in [
        (sampled, "", "", ""),
        (slow, "slow", "", "upper_tier"),
        (failed, "error", "", "upper_tier"),
        (at_upper, "error", "edge", ""),
        (of_visitor, "error", "client", ""),
    ] {
        let spans = made(&record);
        let (server, client) = (&spans[0], &spans[2]);
        assert_eq!(text(server, "headwater.kept"), kept);
        assert_eq!(text(server, "headwater.incomplete"), above, "{kept}");
        assert_eq!(text(client, "headwater.incomplete"), below, "{kept}");
        // What was said on the wire is said here too.
        assert_eq!(server.flags & SAMPLED == 0, !kept.is_empty());
    }
    assert!(made(&plain).is_empty());
}

#[test]
fn later_attempts_are_numbered() {
    let mut record = samples::miss();
    record
        .upstream_attempts
        .push(record.upstream_attempts[0].clone());
    let spans = made(&record);
    assert_eq!(text(&spans[2], "http.request.resend_count"), "");
    assert_eq!(text(&spans[3], "http.request.resend_count"), "1");
}

#[test]
fn a_signed_url_is_told_without_its_signature() {
    let mut record = samples::miss();
    let path = "/a?b=c&sig=secret";
    record.words = Said { path, ..said() }.into();
    let spans = made(&record);
    assert_eq!(text(&spans[0], "url.query"), "b=c&sig=REDACTED");
    let full = text(&spans[2], "url.full");
    assert_eq!(full, "https://shop.example:8443/a?b=c&sig=REDACTED");
}

#[test]
fn trace_state_stands_in_every_span() {
    let mut record = samples::miss();
    let trace_state = "vendor=value";
    record.words = Said {
        trace_state,
        ..said()
    }
    .into();
    let spans = made(&record);
    assert!(spans.iter().all(|span| span.trace_state == trace_state));
}
