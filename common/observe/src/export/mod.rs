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
mod pulse;
mod records;
mod reply;
mod snapshot;
mod transport;

use std::fmt;
use std::sync::Arc;

use crossbeam_channel::Sender;
use parking_lot::Mutex;

use crate::attributes::Common;
use crate::event::Event;
use crate::in_flight::Table;
use crate::lines::Source;
use crate::metrics::{Dropped, Metrics};
use crate::process_log::Level;
use crate::record::Record;
use crate::sink;
use crate::spans;
use lane::Lane;
pub(crate) use lane::Stalled;
use pulse::Pulse;
use reply::Reply;

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
    /// Whether access lines and events are.
    pub logs: bool,
    /// Whether metrics are, every [`metrics_interval_ms`](Self::metrics_interval_ms).
    pub metrics: bool,
    /// Between two exports of metrics, milliseconds.
    pub metrics_interval_ms: u64,
}

impl fmt::Debug for Otlp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = self.headers.iter().map(|(name, _)| name.as_str()).collect();
        f.debug_struct("Otlp")
            .field("endpoint", &self.endpoint)
            .field("protocol", &self.protocol)
            .field("headers", &names)
            .field("traces", &self.traces)
            .field("logs", &self.logs)
            .field("metrics", &self.metrics)
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
    Logs,
    Metrics,
}

impl Signal {
    const ALL: [Signal; 3] = [Signal::Traces, Signal::Logs, Signal::Metrics];

    /// Appended to the endpoint, over HTTP.
    const fn path(self) -> &'static str {
        match self {
            Signal::Traces => "/v1/traces",
            Signal::Logs => "/v1/logs",
            Signal::Metrics => "/v1/metrics",
        }
    }

    /// The call, over gRPC.
    const fn method(self) -> &'static str {
        match self {
            Signal::Traces => "/opentelemetry.proto.collector.trace.v1.TraceService/Export",
            Signal::Logs => "/opentelemetry.proto.collector.logs.v1.LogsService/Export",
            Signal::Metrics => "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export",
        }
    }

    const fn as_str(self) -> &'static str {
        match self {
            Signal::Traces => "traces",
            Signal::Logs => "logs",
            Signal::Metrics => "metrics",
        }
    }

    /// What is counted when a collector took it.
    const fn exported(self) -> &'static str {
        match self {
            Signal::Traces => Dropped::Span.as_str(),
            Signal::Logs => Dropped::LogRecord.as_str(),
            Signal::Metrics => "metrics",
        }
    }

    /// What is counted where it is lost. A snapshot of metrics is in the next one.
    const fn item(self) -> Option<Dropped> {
        match self {
            Signal::Traces => Some(Dropped::Span),
            Signal::Logs => Some(Dropped::LogRecord),
            Signal::Metrics => None,
        }
    }
}

/// What each signal counts as exported.
pub(crate) const EXPORTED: [&str; 3] = [
    Signal::Traces.exported(),
    Signal::Logs.exported(),
    Signal::Metrics.exported(),
];

/// All lanes of a node, filled by its observer's thread.
#[derive(Debug)]
pub(crate) struct Exporter {
    spans: Option<Lane>,
    logs: Option<Lane>,
    pulse: Option<Pulse>,
    common: Common,
    slow_us: u64,
    log_level: Level,
}

impl Exporter {
    /// Starts a thread for each signal. Where the system gives none, that signal is not
    /// exported, and nothing else is different.
    pub(crate) fn start(
        otlp: &Otlp,
        wishes: Wishes,
        source: &Arc<Source>,
        metrics: &Arc<Metrics>,
        in_flight: &Arc<Table>,
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
            spans: lane(otlp.traces, Signal::Traces),
            logs: lane(otlp.logs, Signal::Logs),
            pulse: otlp
                .metrics
                .then(|| Pulse::start(otlp, wishes.started_ms, context.clone(), in_flight))
                .flatten(),
            common: Common::new(),
            slow_us: wishes.slow_us,
            log_level: wishes.log_level,
        }
    }

    /// Whether spans find no room at this moment, for whoever would build them.
    pub(crate) fn spans_stalled(&self) -> Option<Stalled> {
        self.spans.as_ref().map(Lane::stalled)
    }

    /// Whether lines are exported.
    pub(crate) fn takes_lines(&self) -> bool {
        self.logs.is_some()
    }

    /// Takes a record's spans and lines, where it has any to tell.
    pub(crate) fn record(&mut self, record: &Record) {
        let common = &mut self.common;
        if let Some(lane) = &mut self.logs {
            if self.log_level >= Level::Info {
                lane.add(|out| records::access(out, record, common));
            }
            if self.log_level >= Level::Debug {
                lane.add(|out| records::attempts(out, record));
            }
        }
        if let Some(lane) = &mut self.spans {
            let slow_us = self.slow_us;
            lane.add(|out| spans::write(out, record, common, slow_us));
        }
    }

    /// Takes an event's line.
    pub(crate) fn event(&mut self, event: &Event, now_ms: u64, suppressed: u64) {
        if let Some(lane) = &mut self.logs
            && self.log_level >= event.line().level
        {
            lane.add(|out| records::event(out, event, now_ms, suppressed));
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
        if let Some(pulse) = &self.pulse {
            pulse.flush(done.clone());
        }
    }

    fn lanes(&mut self) -> impl Iterator<Item = &mut Lane> {
        self.spans.iter_mut().chain(&mut self.logs)
    }
}

/// What an exporter needs to know beside where to.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wishes {
    pub(crate) slow_us: u64,
    pub(crate) log_level: Level,
    /// Since when metrics are counted, Unix ms.
    pub(crate) started_ms: u64,
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
    fn lost(&self, signal: Signal, items: u64) {
        if let Some(item) = signal.item() {
            self.metrics.dropped(item, items);
        }
    }

    /// Counts what became of a batch.
    fn ended(&self, signal: Signal, items: u64, sent: Result<Reply, String>) {
        match sent {
            Ok(reply) => self.answered(signal, items, &reply),
            Err(failure) => {
                self.metrics.export_failed();
                self.lost(signal, items);
                self.tell(signal, &failure);
            }
        }
    }

    /// Counts a batch that the collector took, or what of it.
    fn answered(&self, signal: Signal, items: u64, reply: &Reply) {
        // A snapshot of metrics is one item, however many points it has, of which the
        // collector may take some. The next snapshot says the same anew.
        let rejected = match signal {
            Signal::Metrics => 0,
            Signal::Traces | Signal::Logs => reply.rejected.min(items),
        };
        self.metrics.exported(signal.exported(), items - rejected);
        self.lost(signal, rejected);
        if let Some(warning) = reply.warning() {
            self.tell(signal, &warning);
        }
    }

    /// One line now and then about what a collector does not take.
    fn tell(&self, signal: Signal, failure: &str) {
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
