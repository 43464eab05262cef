//! What nodes export, decoded with the official messages: no room of stories.

use bytes::Bytes;
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::logs::v1::LogRecord;
use opentelemetry_proto::tonic::metrics::v1::Metric;
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use prost::Message as _;
use tests::{GrpcCollector, Origin, Topology};

/// A span as the collector received it.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) node: String,
    pub(crate) span: Span,
}

impl Seen {
    /// An attribute as text; empty where there is none.
    pub(crate) fn says(&self, key: &str) -> String {
        says(&self.span.attributes, key)
    }

    pub(crate) fn is(&self, kind: SpanKind) -> bool {
        self.span.kind == kind as i32
    }

    pub(crate) fn contains(&self, child: &Self) -> bool {
        self.span.start_time_unix_nano <= child.span.start_time_unix_nano
            && child.span.end_time_unix_nano <= self.span.end_time_unix_nano
    }
}

/// An attribute as text; empty where there is none.
pub(crate) fn says(attributes: &[KeyValue], key: &str) -> String {
    let attribute = attributes.iter().find(|one| one.key == key);
    let value = attribute.and_then(|one| one.value.clone()?.value);
    match value {
        Some(Value::StringValue(text)) => text,
        Some(Value::IntValue(number)) => number.to_string(),
        Some(Value::BoolValue(yes)) => yes.to_string(),
        _ => String::new(),
    }
}

/// The node a resource stands for.
fn node(resource: Option<Resource>) -> String {
    let attributes = resource.unwrap_or_default().attributes;
    assert_eq!(says(&attributes, "service.name"), "headwater");
    let node = says(&attributes, "service.instance.id");
    assert!(!node.is_empty(), "of no node: {attributes:?}");
    node
}

pub(crate) fn spans_in(exports: impl IntoIterator<Item = Bytes>) -> Vec<Seen> {
    let mut seen = Vec::new();
    for export in exports {
        let request = ExportTraceServiceRequest::decode(export).unwrap();
        for one in request.resource_spans {
            let node = node(one.resource);
            let spans = one.scope_spans.into_iter().flat_map(|scope| scope.spans);
            seen.extend(spans.map(|span| Seen {
                node: node.clone(),
                span,
            }));
        }
    }
    seen
}

/// Log records, each with its node.
pub(crate) fn lines_in(exports: impl IntoIterator<Item = Bytes>) -> Vec<(String, LogRecord)> {
    let mut seen = Vec::new();
    for export in exports {
        let request = ExportLogsServiceRequest::decode(export).unwrap();
        for one in request.resource_logs {
            let node = node(one.resource);
            let lines = one.scope_logs.into_iter().flat_map(|one| one.log_records);
            seen.extend(lines.map(|line| (node.clone(), line)));
        }
    }
    seen
}

/// What a node's last snapshot says.
pub(crate) fn metrics_in(exports: impl IntoIterator<Item = Bytes>, of: &str) -> Vec<Metric> {
    let mut last = Vec::new();
    for export in exports {
        let request = ExportMetricsServiceRequest::decode(export).unwrap();
        for one in request.resource_metrics {
            if node(one.resource) == of {
                let scopes = one.scope_metrics.into_iter();
                last = scopes.flat_map(|scope| scope.metrics).collect();
            }
        }
    }
    last
}

/// A collector by either transport.
pub(crate) enum Collector {
    Http(Origin),
    Grpc(GrpcCollector),
}

impl Collector {
    pub(crate) async fn by_http() -> Self {
        let collector = Origin::start().await;
        collector.on_others(|_| tests::Reply::new(200));
        Self::Http(collector)
    }

    pub(crate) async fn by_grpc() -> Self {
        Self::Grpc(GrpcCollector::start().await)
    }

    pub(crate) fn address(&self) -> std::net::SocketAddr {
        match self {
            Self::Http(collector) => collector.address(),
            Self::Grpc(collector) => collector.address(),
        }
    }

    pub(crate) fn protocol(&self) -> &'static str {
        match self {
            Self::Http(_) => "http/protobuf",
            Self::Grpc(_) => "grpc",
        }
    }

    pub(crate) fn traces(&self) -> Vec<Bytes> {
        self.exports("/v1/traces", "trace.v1.TraceService")
    }

    pub(crate) fn logs(&self) -> Vec<Bytes> {
        self.exports("/v1/logs", "logs.v1.LogsService")
    }

    pub(crate) fn metrics(&self) -> Vec<Bytes> {
        self.exports("/v1/metrics", "metrics.v1.MetricsService")
    }

    fn exports(&self, path: &str, service: &str) -> Vec<Bytes> {
        match self {
            Self::Http(collector) => {
                let requests = collector.requests(path).into_iter();
                requests.map(|one| one.body).collect()
            }
            Self::Grpc(collector) => {
                let path = format!("/opentelemetry.proto.collector.{service}/Export");
                let calls = collector.calls(&path).into_iter();
                calls.map(|one| one.message).collect()
            }
        }
    }
}

/// Every span that the topology's nodes have exported so far.
pub(crate) fn spans(topology: &Topology) -> Vec<Seen> {
    let exports = topology.collector().requests("/v1/traces").into_iter();
    spans_in(exports.map(|one| one.body))
}

/// Waits until each of these nodes has exported so many server spans, and with them
/// everything below, and gives all spans.
pub(crate) async fn spans_of<const N: usize>(
    topology: &Topology,
    servers: [(&str, usize); N],
) -> Vec<Seen> {
    servers_among(servers, || spans(topology)).await
}

/// As [`spans_of`], of whatever `look` shows.
pub(crate) async fn servers_among<const N: usize>(
    servers: [(&str, usize); N],
    look: impl Fn() -> Vec<Seen>,
) -> Vec<Seen> {
    tests::until("every request's spans have come", async || {
        let seen = look();
        let count = |node: &str| {
            let own = seen.iter().filter(|one| one.node == node);
            own.filter(|one| one.is(SpanKind::Server)).count()
        };
        let all = servers.iter().all(|(node, least)| count(node) >= *least);
        all.then_some(seen.clone())
    })
    .await
}

/// The only span of that kind that a node has exported.
pub(crate) fn one(seen: &[Seen], node: &str, kind: SpanKind) -> Seen {
    let mut found = seen.iter().filter(|one| one.node == node && one.is(kind));
    let first = found.next().unwrap_or_else(|| panic!("{node} {kind:?}"));
    assert!(found.next().is_none(), "{node} has two of {kind:?}");
    first.clone()
}

pub(crate) fn hex(id: &[u8]) -> String {
    id.iter().map(|byte| format!("{byte:02x}")).collect()
}
