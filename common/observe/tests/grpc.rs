//! OTLP over gRPC, against a receiver that is written by hand over HTTP/2.

#![allow(clippy::unwrap_used)]

use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

use observe::{Event, Level, Observer, Otlp, OtlpProtocol, Settings};
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use prost::Message;

const PATIENCE: Duration = Duration::from_secs(20);

/// Path, `authorization` and message of a call.
type Call = (String, Option<String>, Vec<u8>);

fn observer(endpoint: String) -> Observer {
    Observer::start(Settings {
        node: "edge-1".into(),
        started_ms: 1_700_000_000_000,
        otlp: Some(Otlp {
            endpoint,
            protocol: OtlpProtocol::Grpc,
            ca_pem: None,
            headers: vec![("authorization".into(), "Bearer word".into())],
            traces: false,
            logs: true,
            metrics: true,
            metrics_interval_ms: 60_000,
        }),
        ..Settings::default()
    })
}

/// A receiver that answers every call with this status and message.
fn collector(status: &'static str, answer: &'static [u8]) -> (String, Receiver<Call>) {
    let (sender, calls) = channel();
    let (bound, address) = channel();
    thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        runtime.unwrap().block_on(async move {
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            bound.send(listener.local_addr().unwrap()).unwrap();
            while let Ok((stream, _)) = listener.accept().await {
                let sender = sender.clone();
                tokio::spawn(async move {
                    let mut connection = h2::server::handshake(stream).await.unwrap();
                    while let Some(Ok((request, mut respond))) = connection.accept().await {
                        let sender = sender.clone();
                        tokio::spawn(async move {
                            let (head, mut body) = request.into_parts();
                            let mut message = Vec::new();
                            while let Some(Ok(chunk)) = body.data().await {
                                body.flow_control().release_capacity(chunk.len()).unwrap();
                                message.extend_from_slice(&chunk);
                            }
                            let word = head.headers.get("authorization");
                            let word = word.map(|word| word.to_str().unwrap().to_owned());
                            // One byte for compression and four for the length.
                            let message = message.split_off(5);
                            let path = head.uri.path().to_owned();
                            let _unheard = sender.send((path, word, message));

                            let mut stream =
                                respond.send_response(Default::default(), false).unwrap();
                            let length = u8::try_from(answer.len()).unwrap();
                            let framed = [&[0, 0, 0, 0, length], answer].concat();
                            stream.send_data(framed.into(), false).unwrap();
                            let trailer = ("grpc-status".parse(), status.parse());
                            let trailer = (trailer.0.unwrap(), trailer.1.unwrap());
                            let trailers = std::iter::once(trailer).collect();
                            stream.send_trailers(trailers).unwrap();
                        });
                    }
                });
            }
        });
    });
    (format!("http://{}", address.recv().unwrap()), calls)
}

fn note() -> Event {
    Event::Note {
        level: Level::Warn,
        message: "something".into(),
    }
}

#[test]
fn metrics_and_logs_come_by_grpc_with_the_header_fields() {
    let (endpoint, calls) = collector("0", b"");
    let observer = observer(endpoint);
    observer.event(note(), 1_700_000_000_500);
    assert!(observer.shutdown(PATIENCE));
    let (mut logs, mut metrics) = (None, None);
    while logs.is_none() || metrics.is_none() {
        let (path, word, message) = calls.recv_timeout(PATIENCE).unwrap();
        assert_eq!(word.as_deref(), Some("Bearer word"));
        match path.as_str() {
            "/opentelemetry.proto.collector.logs.v1.LogsService/Export" => {
                logs = Some(ExportLogsServiceRequest::decode(&*message).unwrap());
            }
            "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export" => {
                metrics = Some(ExportMetricsServiceRequest::decode(&*message).unwrap());
            }
            other => panic!("{other}"),
        }
    }
    let logs = logs.unwrap();
    let record = &logs.resource_logs[0].scope_logs[0].log_records[0];
    assert_eq!(record.severity_text, "WARN");
    let metrics = metrics.unwrap();
    let names: Vec<_> = metrics.resource_metrics[0].scope_metrics[0]
        .metrics
        .iter()
        .map(|metric| metric.name.as_str())
        .collect();
    for name in ["headwater_telemetry_panics", "http.server.request.duration"] {
        assert!(names.contains(&name), "{name} in {names:?}");
    }
    let text = observer.render();
    assert!(
        text.contains("headwater_telemetry_export_failures_total 0"),
        "{text}"
    );
}

#[test]
fn a_collector_that_refuses_by_grpc_is_counted() {
    let (refusing, _calls) = collector("14", b"");
    for endpoint in [refusing, "http://127.0.0.1:1".to_owned()] {
        let observer = observer(endpoint.clone());
        observer.event(note(), 1_700_000_000_500);
        assert!(observer.shutdown(PATIENCE), "{endpoint}");
        let text = observer.render();
        for line in [
            "headwater_telemetry_export_failures_total 2",
            "headwater_telemetry_dropped_total{what=\"log_record\"} 1",
        ] {
            assert!(text.contains(line), "{endpoint}: {line} in {text}");
        }
    }
}

#[test]
fn what_a_collector_rejects_by_grpc_is_counted() {
    // Of any signal, five items, because of nothing it says.
    let (endpoint, _calls) = collector("0", b"\x0a\x02\x08\x05");
    let observer = observer(endpoint);
    observer.event(note(), 1_700_000_000_500);
    assert!(observer.shutdown(PATIENCE));
    let text = observer.render();
    for line in [
        "headwater_telemetry_export_failures_total 0",
        // There was no more than one to be rejected.
        "headwater_telemetry_dropped_total{what=\"log_record\"} 1",
        "headwater_telemetry_exported_total{what=\"log_record\"} 0",
        "headwater_telemetry_exported_total{what=\"metrics\"} 1",
    ] {
        assert!(text.contains(line), "{line} in {text}");
    }
}
