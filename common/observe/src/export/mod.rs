//! What goes to a collector over OTLP: spans, log records and metrics.
//!
//! Each signal has a *lane*: a batch that is being filled on the observer's thread, a
//! bounded queue of full ones, and a thread of its own that sends them, because a
//! collector may hang, and a signal that hangs must not hold up another. What finds
//! its queue full, or what the collector does not take, is dropped and counted. A
//! collector that refuses, hangs or answers nonsense costs one log line a minute and
//! nothing else.

mod lane;
pub(crate) mod proto;
mod transport;

use std::fmt;
use std::sync::Arc;

use crossbeam_channel::Sender;
use parking_lot::Mutex;

use crate::lines::Source;
use crate::metrics::{Dropped, Metrics};
use crate::record::Record;
use crate::sink;
use crate::spans;
use lane::Lane;
pub(crate) use lane::Stalled;

/// The field of a span, log record or metric in the message of its scope; the same in
/// all three (`opentelemetry.proto.*.v1.Scope*`).
pub(crate) const ITEM: u32 = 2;

/// How we name ourselves to a collector.
const USER_AGENT: &str = concat!("headwater/", env!("CARGO_PKG_VERSION"));

/// At most one line about failed exports in this time.
const LINE_EVERY_MS: u64 = 60_000;

/// Where telemetry goes, and what of it.
#[derive(Clone, PartialEq)]
pub struct Otlp {
    /// The collector's URL, for example `http://127.0.0.1:4318`. Over HTTP each
    /// signal's path (`/v1/traces`, …) is appended.
    pub endpoint: String,
    /// How it is spoken to.
    pub protocol: OtlpProtocol,
    /// PEM certificates of who may vouch for an `https` collector. None: the system's.
    pub ca_pem: Option<String>,
    /// Sent with every export. The values may be secrets, and are told nowhere.
    pub headers: Vec<(String, String)>,
    /// Whether spans are exported.
    pub traces: bool,
}

impl fmt::Debug for Otlp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = self.headers.iter().map(|(name, _)| name.as_str()).collect();
        f.debug_struct("Otlp")
            .field("endpoint", &self.endpoint)
            .field("protocol", &self.protocol)
            .field("headers", &names)
            .field("traces", &self.traces)
            .finish_non_exhaustive()
    }
}

/// Transports of OTLP, by the names of the OpenTelemetry specification.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OtlpProtocol {
    /// `http/protobuf`, usually at port 4318.
    HttpProtobuf,
    /// `grpc`, usually at port 4317.
    Grpc,
}

/// One of OpenTelemetry's signals.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Signal {
    Traces,
}

impl Signal {
    const ALL: [Signal; 1] = [Signal::Traces];

    /// Appended to the endpoint, over HTTP.
    const fn path(self) -> &'static str {
        match self {
            Signal::Traces => "/v1/traces",
        }
    }

    /// The call, over gRPC.
    const fn method(self) -> &'static str {
        match self {
            Signal::Traces => "/opentelemetry.proto.collector.trace.v1.TraceService/Export",
        }
    }

    const fn as_str(self) -> &'static str {
        match self {
            Signal::Traces => "traces",
        }
    }

    /// What is counted where it is lost.
    const fn item(self) -> Dropped {
        match self {
            Signal::Traces => Dropped::Span,
        }
    }
}

/// All lanes of a node, filled by its observer's thread.
#[derive(Debug)]
pub(crate) struct Exporter {
    source: Arc<Source>,
    spans: Option<Lane>,
    slow_us: u64,
}

impl Exporter {
    /// Starts a thread for each signal. Where the system gives none, that signal is not
    /// exported, and nothing else is different.
    pub(crate) fn start(
        otlp: &Otlp,
        slow_us: u64,
        source: &Arc<Source>,
        metrics: &Arc<Metrics>,
    ) -> Exporter {
        let context = Context {
            endpoint: otlp.endpoint.clone(),
            source: Arc::clone(source),
            metrics: Arc::clone(metrics),
            logged_ms: Arc::default(),
        };
        let lane = |wanted: bool, signal| {
            wanted
                .then(|| Lane::start(otlp, signal, context.clone()))
                .flatten()
        };
        Exporter {
            source: Arc::clone(source),
            spans: lane(otlp.traces, Signal::Traces),
            slow_us,
        }
    }

    /// Whether spans find no room at this moment, for whoever would build them.
    pub(crate) fn spans_stalled(&self) -> Option<Stalled> {
        self.spans.as_ref().map(Lane::stalled)
    }

    /// Takes a record's spans, where it has any to tell.
    pub(crate) fn record(&mut self, record: &Record) {
        if let Some(lane) = &mut self.spans {
            let (node, slow_us) = (&self.source.node, self.slow_us);
            lane.add(|out| spans::write(out, record, node, slow_us));
        }
    }

    /// Sends what has been gathered, however little.
    pub(crate) fn send_off(&mut self) {
        for lane in self.lanes() {
            lane.send_off();
        }
    }

    /// Exports what is queued, then passes the flush on to the log. Never waits: a
    /// second flush while one is under way goes straight on.
    pub(crate) fn flush(&mut self, done: &Sender<()>) {
        sink::flush(done.clone());
        for lane in self.lanes() {
            lane.flush(done.clone());
        }
    }

    fn lanes(&mut self) -> impl Iterator<Item = &mut Lane> {
        self.spans.iter_mut()
    }
}

/// What every lane knows of the node.
#[derive(Debug, Clone)]
pub(crate) struct Context {
    endpoint: String,
    source: Arc<Source>,
    metrics: Arc<Metrics>,
    // When a failure was last logged, Unix ms; one for all signals.
    logged_ms: Arc<Mutex<Option<u64>>>,
}

impl Context {
    /// Counts a batch that the collector did not take, and tells of it now and then.
    fn failed(&self, signal: Signal, items: u64, failure: &str) {
        self.metrics.export_failed();
        self.metrics.dropped(signal.item(), items);
        let now_ms = self.metrics.latest_ms();
        let mut logged_ms = self.logged_ms.lock();
        if logged_ms.is_none_or(|logged_ms| now_ms.abs_diff(logged_ms) >= LINE_EVERY_MS) {
            *logged_ms = Some(now_ms);
            self.source.export(&self.endpoint, signal.as_str(), failure);
        }
    }
}

/// What comes before the items of every batch: the node as a resource, and us as its
/// scope, in the messages around them, which [`proto::close`] ends.
fn preamble(source: &Source) -> (Vec<u8>, [proto::Open; 2]) {
    const RESOURCE_ITEMS: u32 = 1;
    const RESOURCE: u32 = 1;
    const SCOPE_ITEMS: u32 = 2;
    const SCOPE: u32 = 1;
    const RESOURCE_ATTRIBUTES: u32 = 1;
    const SCOPE_NAME: u32 = 1;
    const SCOPE_VERSION: u32 = 2;

    let mut out = Vec::new();
    let outer = proto::open(&mut out, RESOURCE_ITEMS);
    let resource = proto::open(&mut out, RESOURCE);
    for (key, value) in [
        ("service.name", "headwater"),
        ("service.version", env!("CARGO_PKG_VERSION")),
        ("service.instance.id", &source.node),
        ("headwater.role", source.role),
    ] {
        proto::attribute(&mut out, RESOURCE_ATTRIBUTES, key, value);
    }
    proto::close(&mut out, resource);
    let inner = proto::open(&mut out, SCOPE_ITEMS);
    let scope = proto::open(&mut out, SCOPE);
    proto::text(&mut out, SCOPE_NAME, "headwater");
    proto::text(&mut out, SCOPE_VERSION, env!("CARGO_PKG_VERSION"));
    proto::close(&mut out, scope);
    (out, [outer, inner])
}
