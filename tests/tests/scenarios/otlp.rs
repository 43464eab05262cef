//! Spans, metrics and logs by OTLP, to collectors of every kind.

use std::net::SocketAddr;

use opentelemetry_proto::tonic::common::v1::any_value::Value as Any;
use opentelemetry_proto::tonic::metrics::v1::Metric;
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::metrics::v1::number_data_point::Value;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use tests::{
    Authority, GrpcCollector, Origin, Reply, TestNode, TlsFront, Topology, Tracing, get, until,
};

use crate::exports::{Collector, Seen, hex, lines_in, metrics_in, one, says};
use crate::exports::{servers_among, spans_in};

/// Times of different nodes are told to the millisecond.
const ROUNDING_NS: u64 = 1_000_000;

/// A topology that tells this address everything.
async fn telling(origin: &Origin, endpoint: &str, protocol: &str, more: &str) -> Topology {
    let topology = Topology::new(origin)
        .tracing(Tracing::Off)
        .telemetry(&format!(
            "otlp_endpoint = \"{endpoint}\"\notlp_protocol = \"{protocol}\"\n\
         otlp_signals = [\"traces\", \"metrics\", \"logs\"]\nmetrics_interval_ms = 100\n{more}"
        ));
    topology.start().await
}

#[tokio::test(flavor = "multi_thread")]
async fn all_signals_of_both_tiers_come_by_either_transport() {
    let (http, grpc) = (Collector::by_http().await, Collector::by_grpc().await);
    tokio::join!(all_signals_come_to(&http), all_signals_come_to(&grpc));
}

async fn all_signals_come_to(collector: &Collector) {
    let origin = Origin::start().await;
    origin.always("/a", Reply::fresh("content"));
    let endpoint = format!("http://{}", collector.address());
    let mut topology = telling(&origin, &endpoint, collector.protocol(), "").await;
    let asked = get("/a?b=c");
    assert_eq!(topology.edge(1).ask(&asked).await.text(), "content");
    let look = || spans_in(collector.traces());
    let seen = servers_among([("edge-1", 1), ("upper-1", 1)], look).await;
    let upper = topology.upper(1).address();
    spans_are_sound(&seen, upper, origin.address());
    lines_belong_to_their_spans(collector, &seen).await;

    // A hit, and somebody who goes past the edge.
    assert_eq!(topology.edge(1).ask(&asked).await.text(), "content");
    topology.expects_rejected("request", "missing");
    assert_eq!(topology.upper(1).get("/a").await.status, 403);
    for node in [topology.edge(1), topology.upper(1)] {
        snapshots_say_what_the_node_says(collector, node).await;
    }
    until("the rejection has come as a line", async || {
        let lines = lines_in(collector.logs());
        lines.into_iter().find(|(node, line)| {
            let told = says(&line.attributes, "headwater.reason");
            node == "upper-1" && told == "missing" && line.severity_number >= 13
        })
    })
    .await;
    topology.finish().await;
}

/// Parents, times, and what the conventions for HTTP require.
fn spans_are_sound(seen: &[Seen], upper: SocketAddr, origin: SocketAddr) {
    let at_edge = one(seen, "edge-1", SpanKind::Server);
    let to_upper = one(seen, "edge-1", SpanKind::Client);
    let at_upper = one(seen, "upper-1", SpanKind::Server);
    let to_origin = one(seen, "upper-1", SpanKind::Client);
    assert!(at_edge.span.parent_span_id.is_empty());
    for child in seen {
        let parent = seen
            .iter()
            .find(|one| one.span.span_id == child.span.parent_span_id);
        let Some(parent) = parent else {
            assert_eq!(child.span.span_id, at_edge.span.span_id, "{child:?}");
            continue;
        };
        assert_eq!(child.span.trace_id, parent.span.trace_id);
        if parent.node == child.node {
            assert!(parent.contains(child), "{child:?} in {parent:?}");
        } else {
            // The body that follows a head is in no client span.
            let (from, to) = (
                &parent.span.start_time_unix_nano,
                &parent.span.end_time_unix_nano,
            );
            let begun = child.span.start_time_unix_nano;
            let within = from.saturating_sub(ROUNDING_NS)..=to + ROUNDING_NS;
            assert!(within.contains(&begun), "{child:?} in {parent:?}");
        }
    }
    assert_eq!(to_upper.span.parent_span_id, at_edge.span.span_id);
    assert_eq!(at_upper.span.parent_span_id, to_upper.span.span_id);
    assert_eq!(to_origin.span.parent_span_id, at_upper.span.span_id);

    for server in [&at_edge, &at_upper] {
        for (key, value) in [
            ("http.request.method", "GET"),
            ("url.path", "/a"),
            ("url.query", "b=c"),
            ("url.scheme", "http"),
            ("http.response.status_code", "200"),
            ("server.address", tests::HOST),
            ("network.protocol.version", "1.1"),
            ("client.address", "127.0.0.1"),
        ] {
            assert_eq!(server.says(key), value, "{key} of {server:?}");
        }
    }
    for (client, name, at) in [
        (&to_upper, "upper-1", upper),
        (&to_origin, &format!("origin {origin}"), origin),
    ] {
        for (key, value) in [
            ("http.request.method", "GET"),
            ("url.full", &format!("http://{}/a?b=c", tests::HOST)),
            ("http.response.status_code", "200"),
            ("server.address", "127.0.0.1"),
            ("server.port", &at.port().to_string()),
            ("headwater.upstream", name),
        ] {
            assert_eq!(client.says(key), value, "{key} of {client:?}");
        }
    }
}

/// A log record of the miss at each tier, and where in the trace it belongs.
async fn lines_belong_to_their_spans(collector: &Collector, seen: &[Seen]) {
    for node in ["edge-1", "upper-1"] {
        let line = until("the access line has come", async || {
            let mut lines = lines_in(collector.logs()).into_iter();
            lines.find(|(of, line)| of == node && line.event_name == "headwater.access")
        });
        let (_, line) = line.await;
        let server = one(seen, node, SpanKind::Server).span;
        assert_eq!(hex(&line.trace_id), hex(&server.trace_id), "{node}");
        assert_eq!(hex(&line.span_id), hex(&server.span_id), "{node}");
        assert_eq!(line.flags, 1);
        assert_eq!(
            (line.severity_number, line.severity_text.as_str()),
            (9, "INFO")
        );
        let body = line.body.clone().and_then(|body| body.value);
        assert_eq!(body, Some(Any::StringValue("GET 200".to_owned())));
        assert_eq!(line.time_unix_nano, server.start_time_unix_nano);
        assert_eq!(says(&line.attributes, "headwater.outcome"), "miss");
    }
}

/// The last snapshot has the values of `/metrics`, once nothing happens any more.
async fn snapshots_say_what_the_node_says(collector: &Collector, node: &TestNode) {
    let shown = node.metrics().await;
    let requests = shown.sum("requests_total", &[]);
    assert!(requests >= 2, "{}: {requests}", node.name());
    until("a snapshot says what the node says", async || {
        let told = metrics_in(collector.metrics(), node.name());
        let same = |name: &str, labels: &[(&str, &str)]| {
            let shown = shown.sum(&format!("{name}_total"), labels);
            sum(&told, &format!("headwater_{name}"), labels) == shown
        };
        let counters = same("requests", &[])
            && same("requests", &[("outcome", "hit")])
            && same("requests", &[("outcome", "miss"), ("status_class", "2xx")])
            && same("tier_control_rejected", &[("reason", "missing")])
            && same("upstream_requests", &[]);
        (counters && durations(&told) == requests).then_some(())
    })
    .await;
}

/// The sum over a counter's points that have these attributes.
fn sum(told: &[Metric], name: &str, labels: &[(&str, &str)]) -> u64 {
    let Some(Data::Sum(sum)) = data(told, name) else {
        return 0;
    };
    let points = sum.data_points.iter().filter(|point| {
        let has = |(key, value): &(&str, &str)| says(&point.attributes, key) == *value;
        labels.iter().all(has)
    });
    let values = points.map(|point| match point.value {
        Some(Value::AsInt(value)) => u64::try_from(value).unwrap(),
        other => panic!("{name}: {other:?}"),
    });
    values.sum()
}

/// How many requests `http.server.request.duration` has measured.
fn durations(told: &[Metric]) -> u64 {
    let Some(Data::Histogram(durations)) = data(told, "http.server.request.duration") else {
        return 0;
    };
    for point in &durations.data_points {
        for key in [
            "http.request.method",
            "url.scheme",
            "http.response.status_code",
        ] {
            assert!(!says(&point.attributes, key).is_empty(), "{key}: {point:?}");
        }
        assert_eq!(point.bucket_counts.iter().sum::<u64>(), point.count);
    }
    durations.data_points.iter().map(|point| point.count).sum()
}

fn data<'a>(told: &'a [Metric], name: &str) -> Option<&'a Data> {
    let found = told.iter().find(|metric| metric.name == name);
    found.and_then(|metric| metric.data.as_ref())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_is_believed_only_with_a_certificate_of_the_right_authority() {
    let (http, grpc) = (Collector::by_http().await, Collector::by_grpc().await);
    tokio::join!(
        the_right_authority_counts(&http, "http/1.1"),
        the_right_authority_counts(&grpc, "h2")
    );
}

async fn the_right_authority_counts(collector: &Collector, alpn: &str) {
    let (right, wrong) = (Authority::new(), Authority::new());
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let headers = file("headers", "authorization: Bearer word\nx-tenant: shop\n");
    let front = TlsFront::start(&right, collector.address(), alpn).await;
    let endpoint = format!("https://{}", front.address());
    for (authority, is_right) in [(&wrong, false), (&right, true)] {
        let ca = file("ca.pem", &authority.pem);
        let more = format!("otlp_ca = \"{ca}\"\notlp_headers_file = \"{headers}\"");
        let origin = Origin::start().await;
        origin.always("/a", Reply::fresh("content"));
        let topology = telling(&origin, &endpoint, collector.protocol(), &more).await;
        let edge = topology.edge(1);
        assert_eq!(edge.get("/a").await.text(), "content");
        let name = if is_right { "exported" } else { "dropped" };
        let name = format!("telemetry_{name}_total");
        edge.wait_for_metric(&name, &[("what", "span")], 2).await;
        let metrics = edge.metrics().await;
        let failures = metrics.sum("telemetry_export_failures_total", &[]);
        assert_eq!(failures == 0, is_right, "{alpn}: {failures}");
        assert_eq!(!collector.traces().is_empty(), is_right, "{alpn}");
        topology.finish().await;
    }
    for (key, value) in [("authorization", "Bearer word"), ("x-tenant", "shop")] {
        let told = told_first(collector, key);
        assert_eq!(told.as_deref(), Some(value), "{alpn}");
    }
}

/// A field of the first export of spans.
fn told_first(collector: &Collector, key: &str) -> Option<String> {
    match collector {
        Collector::Http(collector) => collector.requests("/v1/traces").first()?.field(key),
        Collector::Grpc(collector) => {
            let path = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";
            let calls = collector.calls(path);
            let value = calls.first()?.fields.get(key)?;
            Some(value.to_str().unwrap().to_owned())
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_collector_by_grpc_changes_an_answer() {
    // Silent from the start, deaf once it was called, and one that speaks another
    // protocol.
    let silent = Origin::start().await;
    silent.on_others(|_| Reply::silence());
    let deaf = GrpcCollector::start_hanging().await;
    let garbling = Origin::start().await;
    garbling.on_others(|_| Reply::raw("\0\0what is this\r\n\r\n"));
    tokio::join!(
        answers_come_whatever_is_at(silent.address()),
        answers_come_whatever_is_at(deaf.address()),
        answers_come_whatever_is_at(garbling.address())
    );
}

async fn answers_come_whatever_is_at(address: SocketAddr) {
    let origin = Origin::start().await;
    origin.always("/a", Reply::fresh("content"));
    origin.always("/gone", Reply::hang_up());
    let topology = telling(&origin, &format!("http://{address}"), "grpc", "").await;
    let edge = topology.edge(1);
    // Long before the exporter gives up, which takes it seconds.
    let answers = tests::within(2, async {
        let mut answers = Vec::new();
        for path in ["/a", "/a", "/gone"] {
            let answer = edge.get(path).await;
            answers.push((answer.status, answer.text()));
        }
        answers
    });
    let answers = answers.await;
    assert_eq!(
        answers[..2],
        [(200, "content".into()), (200, "content".into())]
    );
    assert_eq!(answers[2].0, 502);
    edge.wait_for_metric("telemetry_export_failures_total", &[], 1)
        .await;
    edge.wait_for_metric("telemetry_dropped_total", &[("what", "span")], 1)
        .await;
    let taken = edge.metrics().await.sum("telemetry_exported_total", &[]);
    assert_eq!(taken, 0);
    topology.finish().await;
}
