//! Spans on the wire, against collectors made of a socket: one that works and
//! some that do not.

#![allow(clippy::unwrap_used)]

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

use observe::{
    Attempt, AttemptKind, Level, LogTarget, Method, Observer, Otlp, OtlpProtocol, Outcome, Phase,
    Protocol, Record, Said, Settings, TraceRecord, install_log,
};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use prost::Message;

const PATIENCE: Duration = Duration::from_secs(20);

fn observer(endpoint: String) -> Observer {
    Observer::start(Settings {
        node: "edge-1".into(),
        otlp: Some(Otlp {
            endpoint,
            protocol: OtlpProtocol::HttpProtobuf,
            ca_pem: None,
            headers: Vec::new(),
            traces: true,
            logs: false,
            metrics: false,
            metrics_interval_ms: 60_000,
        }),
        trace_ratio: 1.0,
        ..Settings::default()
    })
}

fn record() -> Record {
    Record {
        trace: Some(TraceRecord {
            trace_id: [0x11; 16],
            span_id: [0x22; 8],
            parent_span_id: Some([0x0f; 8]),
            parent_is_remote: true,
            sampled: true,
        }),
        started_ms: 1_700_000_000_000,
        duration_us: 12_500,
        client: [192, 0, 2, 7].into(),
        peer: [192, 0, 2, 7].into(),
        method: Method::Get,
        scheme: "http",
        words: Said {
            host: "shop.example",
            path: "/a",
            site: "shop",
            ..Said::default()
        }
        .into(),
        status: 502,
        outcome: Outcome::Error,
        detail: "connection_refused".into(),
        body_bytes: 0,
        protocol: Protocol::H1,
        phases: vec![Phase {
            name: "fill",
            span_id: [0x33; 8],
            start_us: 100,
            duration_us: 12_000,
        }],
        upstream_attempts: vec![Attempt {
            span_id: [0x44; 8],
            target: "upper-1".into(),
            address: "192.0.2.9:8091".into(),
            kind: AttemptKind::UpperTier,
            start_us: 200,
            duration_us: 11_000,
            status: None,
            error: Some("connection_refused"),
            reused_connection: false,
        }],
    }
}

/// A collector that answers each request with `answer` and tells its head and body.
fn collector(answer: &'static [u8]) -> (String, Receiver<(String, Vec<u8>)>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let (sender, requests) = channel();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let sender = sender.clone();
            thread::spawn(move || {
                let mut stream = stream.unwrap();
                while let Some(request) = read_request(&mut stream) {
                    // The test may be over; then nobody asks.
                    let _unheard = sender.send(request);
                    stream.write_all(answer).unwrap();
                }
            });
        }
    });
    (endpoint, requests)
}

fn read_request(stream: &mut TcpStream) -> Option<(String, Vec<u8>)> {
    let mut bytes = Vec::new();
    let head_len = loop {
        let mut chunk = [0; 4096];
        match stream.read(&mut chunk) {
            Ok(0) | Err(_) => return None,
            Ok(read) => bytes.extend_from_slice(&chunk[..read]),
        }
        if let Some(at) = bytes.windows(4).position(|w| w == b"\r\n\r\n") {
            break at + 4;
        }
    };
    let head = String::from_utf8(bytes[..head_len].to_vec())
        .unwrap()
        .to_ascii_lowercase();
    let length = head
        .lines()
        .find_map(|l| l.strip_prefix("content-length: "));
    let length: usize = length.unwrap().parse().unwrap();
    let mut body = bytes.split_off(head_len);
    let have = body.len();
    body.resize(length, 0);
    stream.read_exact(&mut body[have..]).ok()?;
    Some((head, body))
}

/// Waits until the metric's line shows at least `least`.
fn await_metric(observer: &Observer, series: &str, least: u64) -> u64 {
    let step = Duration::from_millis(20);
    for _ in 0..PATIENCE.as_millis() / step.as_millis() {
        let text = observer.render();
        let shown = text
            .lines()
            .find_map(|line| line.strip_prefix(series)?.trim().parse().ok());
        if let Some(value) = shown.filter(|value| *value >= least) {
            return value;
        }
        thread::sleep(step);
    }
    panic!("{series} never came to {least}: {}", observer.render());
}

const FAILURES: &str = "headwater_telemetry_export_failures_total";
const SPANS_TAKEN: &str = "headwater_telemetry_exported_total{what=\"span\"}";
const SPANS_LOST: &str = "headwater_telemetry_dropped_total{what=\"span\"}";

#[test]
fn a_collector_receives_a_request_as_a_tree_of_spans() {
    let (endpoint, requests) = collector(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
    let observer = observer(endpoint);
    let mut unsampled = record();
    unsampled.trace.as_mut().unwrap().sampled = false;
    unsampled.status = 200;
    unsampled.upstream_attempts.clear();
    observer.record(unsampled);
    observer.record(record());
    assert!(observer.shutdown(PATIENCE));

    let (head, body) = requests.recv_timeout(PATIENCE).unwrap();
    assert!(head.starts_with("post /v1/traces http/1.1\r\n"), "{head}");
    assert!(
        head.contains("content-type: application/x-protobuf"),
        "{head}"
    );
    let request = ExportTraceServiceRequest::decode(body.as_slice()).unwrap();
    let [resource_spans] = request.resource_spans.as_slice() else {
        panic!("{request:?}")
    };
    let resource = format!("{:?}", resource_spans.resource);
    for word in [
        "service.name",
        "headwater",
        "service.instance.id",
        "edge-1",
        "headwater.role",
    ] {
        assert!(resource.contains(word), "{word} in {resource}");
    }
    let spans: Vec<&Span> = resource_spans
        .scope_spans
        .iter()
        .flat_map(|s| &s.spans)
        .collect();
    let [server, phase, client] = spans.as_slice() else {
        panic!("{spans:?}")
    };
    assert!(spans.iter().all(|span| span.trace_id == [0x11; 16]));

    assert_eq!(
        (server.kind, server.name.as_str()),
        (SpanKind::Server as i32, "GET")
    );
    assert_eq!(server.span_id, [0x22; 8]);
    assert_eq!(server.parent_span_id, [0x0f; 8]);
    assert_eq!(server.start_time_unix_nano, 1_700_000_000_000_000_000);
    assert_eq!(server.end_time_unix_nano, 1_700_000_000_012_500_000);
    // An error, with a remote parent (bits 8 and 9), sampled (bit 0).
    assert_eq!(server.status.as_ref().unwrap().code, 2);
    assert_eq!(server.flags, 0x301);

    assert_eq!(
        (phase.kind, phase.name.as_str()),
        (SpanKind::Internal as i32, "fill")
    );
    assert_eq!(phase.parent_span_id, server.span_id);
    assert_eq!(client.kind, SpanKind::Client as i32);
    assert_eq!(client.span_id, [0x44; 8]);
    assert_eq!(client.parent_span_id, server.span_id);
    assert_eq!(await_metric(&observer, FAILURES, 0), 0);
    assert_eq!(await_metric(&observer, SPANS_TAKEN, 3), 3);
}

#[test]
fn spans_go_out_without_anyone_asking() {
    let (endpoint, requests) = collector(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
    let observer = observer(endpoint);
    observer.record(record());
    requests.recv_timeout(PATIENCE).unwrap();
    // What is left goes out when the observer goes.
    observer.record(record());
    drop(observer);
    requests.recv_timeout(PATIENCE).unwrap();
}

#[test]
fn a_collector_that_fails_is_counted() {
    let closed = {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        format!("http://{}", listener.local_addr().unwrap())
    };
    let (refusing, _requests) =
        collector(b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n");
    let (garbling, _garbled) = collector(b"\x00\xff what is this\r\n\r\n");
    for endpoint in [closed, refusing, garbling, "no url at all".to_owned()] {
        let observer = observer(endpoint.clone());
        observer.record(record());
        assert!(observer.shutdown(PATIENCE), "{endpoint}");
        assert_eq!(await_metric(&observer, FAILURES, 1), 1, "{endpoint}");
        assert_eq!(await_metric(&observer, SPANS_LOST, 3), 3, "{endpoint}");
        assert_eq!(await_metric(&observer, SPANS_TAKEN, 0), 0, "{endpoint}");
    }
}

#[test]
fn what_a_collector_takes_only_in_part_is_counted_and_told_once_a_minute() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("headwater.log");
    assert!(install_log(&LogTarget::File(path.clone()), Level::Info, &[]).unwrap());
    // Two spans rejected, because it is full.
    let (endpoint, requests) =
        collector(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n\x0a\x08\x08\x02\x12\x04full");
    let observer = observer(endpoint.clone());
    for (minute, batches) in [(0, 2), (1, 1)] {
        for _ in 0..batches {
            let mut record = record();
            record.started_ms += minute * 60_000;
            observer.record(record);
            requests.recv_timeout(PATIENCE).unwrap();
        }
    }
    assert!(observer.shutdown(PATIENCE));
    assert_eq!(await_metric(&observer, SPANS_LOST, 6), 6);
    assert_eq!(await_metric(&observer, SPANS_TAKEN, 3), 3);
    assert_eq!(await_metric(&observer, FAILURES, 0), 0);
    let text = std::fs::read_to_string(&path).unwrap();
    // Other stories of this file may have told theirs.
    let told: Vec<_> = text.lines().filter(|l| l.contains(&endpoint)).collect();
    assert_eq!(told.len(), 2, "{told:?}");
    let words = "the collector rejected 2: full";
    assert!(told.iter().all(|line| line.contains(words)), "{told:?}");
}

#[test]
fn a_collector_that_hangs_holds_up_only_spans() {
    // Accepts by its backlog, and says nothing.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let observer = observer(format!("http://{}", listener.local_addr().unwrap()));
    // More than one batch and the whole queue take: the rest must be dropped.
    for _ in 0..2_000 {
        observer.record(record());
    }
    await_metric(&observer, SPANS_LOST, 1);
    // The records themselves were all taken meanwhile.
    assert_eq!(
        await_metric(
            &observer,
            "headwater_telemetry_dropped_total{what=\"record\"}",
            0
        ),
        0
    );
    await_metric(&observer, FAILURES, 1);
}
