//! A node's handle to its observer.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use crossbeam_channel::{RecvTimeoutError, Sender, bounded};
use parking_lot::Mutex;

use crate::event::Event;
use crate::export::{Exporter, Otlp, Stalled, Wishes};
use crate::fault::Fault;
use crate::in_flight::{InFlight, InFlightGuard, InFlightRow, Table};
use crate::limit::Limiter;
use crate::lines::Source;
use crate::metrics::{Dropped, Metrics};
use crate::process_log::Level;
use crate::record::{Done, Record};
use crate::sample::Ratio;
use crate::sink;
use crate::spans::Kept;
use crate::spare::Spares;
use crate::worker::{Admitted, Worker};

/// Events that wait for the thread. The limit per reason keeps them few.
const EVENTS_QUEUED_MAX: usize = 256;

/// The longest record queue a setting can ask for: its slots are allocated at once.
const RECORDS_QUEUED_MAX: usize = 1 << 20;

/// What a node wants observed.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// The node's name, on every line and span.
    pub node: String,
    /// `edge` or `upper-tier`.
    pub role: &'static str,
    /// Whether records become access-log lines.
    pub access_log: bool,
    /// Share of hits that get a line, 0 to 1. Misses and errors all do.
    pub hit_log_ratio: f64,
    /// Where telemetry is exported to. None: nowhere.
    pub otlp: Option<Otlp>,
    /// Share of requests without a trace that get one, 0 to 1.
    pub trace_ratio: f64,
    /// Spans of requests that take so long, milliseconds, are kept although their
    /// trace is not sampled, as those of errors are.
    pub slow_ms: u64,
    /// Least severe level of what is told.
    pub log_level: Level,
    /// When the node began to count, Unix milliseconds.
    pub started_ms: u64,
    /// Records waiting for the thread; beyond it they are dropped and counted.
    pub queue_records_max: usize,
    /// How the observer is to fail, in a test that shows that nobody notices.
    pub fault: Option<Fault>,
}

impl Default for Settings {
    /// Nothing is written and nothing exported.
    fn default() -> Self {
        Settings {
            node: String::new(),
            role: "edge",
            access_log: false,
            hit_log_ratio: 0.0,
            otlp: None,
            trace_ratio: 0.0,
            slow_ms: 1_000,
            log_level: Level::Info,
            started_ms: 0,
            queue_records_max: 8_192,
            fault: None,
        }
    }
}

/// A node's observer: a handle that is cheap to clone and to call from any thread.
///
/// There is one per node, and no state is shared between nodes of one process but
/// the log. Its threads end when the last clone is dropped.
#[derive(Debug, Clone)]
pub struct Observer {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    metrics: Arc<Metrics>,
    in_flight: Arc<Table>,
    limiter: Mutex<Limiter>,
    records: Sender<Box<Record>>,
    spares: Spares,
    events: Sender<Admitted>,
    flush: Sender<Sender<()>>,
    // Whether records become lines, of the log or for a collector.
    has_lines: bool,
    log_level: Level,
    // Whether spans are exported, and whether they find room.
    spans: Option<Stalled>,
    slow_us: u64,
    hits: Ratio,
    traces: Ratio,
}

impl Observer {
    /// Starts the thread `observe-<node>` and, where spans are exported, a second
    /// one for that. Where the system gives no thread, counters still count, and
    /// records and events are dropped and counted.
    #[must_use]
    pub fn start(settings: Settings) -> Observer {
        let (observer, worker) = Observer::prepare(settings);
        // The closure owns the queues' far ends, so a failure to spawn closes them
        // and every send finds that out.
        let _unless_no_thread = thread::Builder::new()
            .name(format!("observe-{}", worker.source.node))
            .spawn(move || worker.run());
        observer
    }

    /// Both ends, with nobody at the far one yet.
    fn prepare(settings: Settings) -> (Observer, Worker) {
        let Settings {
            node,
            role,
            access_log,
            hit_log_ratio,
            otlp,
            trace_ratio,
            slow_ms,
            log_level,
            started_ms,
            queue_records_max,
            fault,
        } = settings;
        let metrics = Arc::new(Metrics::new());
        metrics.saw_at_least(started_ms);
        let in_flight: Arc<Table> = Arc::default();
        let source = Arc::new(Source { node, role });
        let slow_us = slow_ms.saturating_mul(1000);
        let wishes = Wishes {
            slow_us,
            log_level,
            started_ms,
        };
        let exporter =
            otlp.map(|otlp| Exporter::start(&otlp, wishes, &source, &metrics, &in_flight));
        let (records, record_queue) = bounded(queue_records_max.clamp(1, RECORDS_QUEUED_MAX));
        let spares = Spares::new();
        let (events, event_queue) = bounded(EVENTS_QUEUED_MAX);
        let (flush, flushes) = bounded(1);
        let inner = Inner {
            metrics: Arc::clone(&metrics),
            in_flight,
            limiter: Mutex::default(),
            records,
            spares: spares.clone(),
            events,
            flush,
            has_lines: access_log || exporter.as_ref().is_some_and(Exporter::takes_lines),
            log_level,
            spans: exporter.as_ref().and_then(Exporter::spans_stalled),
            slow_us,
            hits: Ratio::new(hit_log_ratio),
            traces: Ratio::new(trace_ratio),
        };
        let worker = Worker {
            records: record_queue,
            spares,
            events: event_queue,
            flushes,
            source,
            metrics,
            exporter,
            access_log,
            log_level,
            fault,
        };
        (
            Observer {
                inner: Arc::new(inner),
            },
            worker,
        )
    }

    /// The node's counters and gauges.
    #[must_use]
    pub fn metrics(&self) -> &Metrics {
        &self.inner.metrics
    }

    /// All metrics as Prometheus text, format 0.0.4
    /// (`text/plain; version=0.0.4; charset=utf-8`), as of the latest time the
    /// observer was told, which records, events and its own waiting move on.
    #[must_use]
    pub fn render(&self) -> String {
        self.render_at(self.inner.metrics.latest_ms())
    }

    /// The same as of `now_ms` (Unix ms), for whoever knows the time.
    #[must_use]
    pub fn render_at(&self, now_ms: u64) -> String {
        self.inner
            .metrics
            .render(now_ms, self.inner.in_flight.len(), sink::lines_lost())
    }

    /// Counts a finished response. For every one; a handful of relaxed additions.
    pub fn count(&self, done: &Done) {
        self.inner.metrics.count(done);
    }

    /// Whether a record should be built: it would become a line or spans, and there
    /// is room for it.
    ///
    /// With an access log, everything but a hit gets a line, and so does a failed
    /// one; of hits the configured share does. Where spans are exported, a `sampled`
    /// trace is told in full, its line included, and so is a request that failed, for
    /// which a request sent upstream did (`has_failed_attempt`), or that was slow. The
    /// log's levels below info tell of every miss, or of every request.
    ///
    /// What there is no room for is counted here as dropped, before anyone takes the
    /// trouble to build it.
    #[must_use]
    pub fn wants(&self, done: &Done, sampled: bool, has_failed_attempt: bool) -> bool {
        let inner = &*self.inner;
        let has_detail = match inner.log_level {
            Level::Error | Level::Warn | Level::Info => false,
            Level::Debug => !done.outcome.is_hit(),
            Level::Trace => true,
        };
        let has_line = has_detail
            || inner.has_lines
                && (!done.outcome.is_hit() || done.status >= 500 || inner.hits.draw());
        let has_spans = inner.spans.as_ref().is_some_and(|stalled| {
            let Done {
                status,
                duration_us,
                ..
            } = *done;
            let wanted = sampled
                || Kept::because(status, duration_us, has_failed_attempt, inner.slow_us).is_some();
            let has_room = wanted && !stalled.is_so();
            if wanted && !has_room {
                inner.metrics.dropped(Dropped::Span, 1);
            }
            has_room
        });
        if !has_line && !has_spans {
            return false;
        }
        let is_full = inner.records.is_full();
        if is_full {
            inner.metrics.dropped(Dropped::Record, 1);
        }
        !is_full
    }

    /// Hands a record over. Never waits: one that finds the queue full is dropped
    /// and counted. What was handed over is gone:
    ///
    /// ```
    /// fn tell(observer: &observe::Observer, record: observe::Record) {
    ///     observer.record(record);
    /// }
    /// ```
    ///
    /// ```compile_fail,E0382
    /// fn tell(observer: &observe::Observer, mut record: observe::Record) {
    ///     observer.record(record);
    ///     record.status = 200;
    /// }
    /// ```
    pub fn record(&self, record: Record) {
        let inner = &*self.inner;
        let record = inner.spares.boxed(record);
        if inner.records.try_send(record).is_err() {
            inner.metrics.dropped(Dropped::Record, 1);
        }
    }

    /// Reports an event at `now_ms` (Unix ms). Never waits.
    ///
    /// What the event stands for is counted before anything can lose its line:
    /// `ControlRejected`, `TierRefused`, `Reloaded` and `ReloadFailed` bump their
    /// counters, `UpperTierUp` and `UpperTierDown` set their gauge. Lines are
    /// limited per event and reason; the next line of that reason says how many
    /// were suppressed.
    pub fn event(&self, event: Event, now_ms: u64) {
        let inner = &*self.inner;
        inner.metrics.saw(now_ms);
        count_event(&inner.metrics, &event);
        let suppressed = if inner.log_level == Level::Trace {
            // Whoever asks for everything gets everything.
            0
        } else {
            match inner.limiter.lock().admit(event.limit_key(), now_ms) {
                Some(suppressed) => suppressed,
                None => return,
            }
        };
        if inner
            .events
            .try_send(Admitted {
                event,
                now_ms,
                suppressed,
            })
            .is_err()
        {
            inner.metrics.dropped(Dropped::Event, 1);
        }
    }

    /// Whether a request that came without a trace gets a sampled one. `random` are
    /// uniform bits, best those of its trace id.
    #[must_use]
    pub fn head_sample(&self, random: u64) -> bool {
        self.inner.traces.takes(random)
    }

    /// Lists a request that leaves the fast path until the guard is dropped.
    pub fn enter(&self, request: InFlight) -> InFlightGuard {
        self.inner.in_flight.enter(request)
    }

    /// The requests in flight at `now_ms` (Unix ms), the oldest first.
    #[must_use]
    pub fn in_flight(&self, now_ms: u64) -> Vec<InFlightRow> {
        self.inner.metrics.saw(now_ms);
        self.inner.in_flight.rows(now_ms)
    }

    /// Writes out what was handed over before: lines and spans. Waits for at most
    /// `timeout` and says whether that was enough. The observer goes on working;
    /// blocking, so not to be called on a thread that serves requests.
    pub fn shutdown(&self, timeout: Duration) -> bool {
        let (done, waiting) = bounded::<()>(1);
        if self.inner.flush.send_timeout(done, timeout).is_err() {
            return false;
        }
        // The far end never sends: it drops its half when everything is out.
        waiting.recv_timeout(timeout) == Err(RecvTimeoutError::Disconnected)
    }
}

fn count_event(metrics: &Metrics, event: &Event) {
    match event {
        Event::ControlRejected {
            side, reason, peer, ..
        } => {
            metrics.tier_control_rejected(*side, reason, peer);
        }
        Event::TierRefused { reason, peer } => metrics.tier_refused(reason, peer),
        Event::UpperTierDown { peer, .. } => metrics.upper_tier_up(peer, false),
        Event::UpperTierUp { peer } => metrics.upper_tier_up(peer, true),
        Event::NearestChanged { .. } => metrics.nearest_changed(),
        Event::Reloaded { .. } => metrics.config_reloaded("ok"),
        Event::ReloadFailed { .. } => metrics.config_reloaded("failed"),
        Event::TookOver { .. } => metrics.handover("taken"),
        Event::HandedOver { .. } => metrics.handover("given"),
        Event::HandoverFailed { .. } => metrics.handover("failed"),
        Event::UpperTierCutOff { .. }
        | Event::UpperTierReaches { .. }
        | Event::KeyWarning { .. }
        | Event::Started { .. }
        | Event::Stopping { .. }
        | Event::Note { .. } => {}
    }
}

#[cfg(test)]
mod tests;
