//! Spans on their way to a collector.
//!
//! A thread of its own, apart from the one that makes log lines, because a
//! collector may hang. Spans wait for it in a bounded queue; what finds it full,
//! or what the collector does not take, is dropped and counted. A collector that
//! refuses, hangs or answers nonsense costs one log line a minute and nothing else.

use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded, select_biased};
use opentelemetry::KeyValue;
use opentelemetry_otlp::{
    ExporterBuildError, Protocol, RetryPolicy, SpanExporter, WithExportConfig, WithHttpConfig,
};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{SpanData, SpanExporter as _};

use crate::lines::Source;
use crate::metrics::{Dropped, Metrics};
use crate::sink;

/// Spans that wait for the exporter: some hundred requests' worth, a few megabytes.
const SPANS_QUEUED_MAX: usize = 4096;

/// Spans of one export. A batch of this size is well below every collector's limit.
const BATCH_SPANS_MAX: usize = 512;

/// A first span waits at most steps times the pause for others to come along.
const LINGER_STEPS: u32 = 9;
const LINGER_PAUSE: Duration = Duration::from_millis(100);

/// How long a collector may take for one batch.
const EXPORT_TIMEOUT: Duration = Duration::from_secs(3);

/// At most one line about failed exports in this time.
const LINE_EVERY_MS: u64 = 60_000;

/// The queue's near end.
#[derive(Debug)]
pub(crate) struct Exporter {
    spans: Sender<SpanData>,
    flush: Sender<Sender<()>>,
    metrics: Arc<Metrics>,
}

impl Exporter {
    /// Starts the thread. None where the system gives no thread: nothing is
    /// exported then, and nothing else is different.
    pub(crate) fn start(
        endpoint: &str,
        source: Arc<Source>,
        metrics: Arc<Metrics>,
    ) -> Option<Exporter> {
        let (spans, span_queue) = bounded(SPANS_QUEUED_MAX);
        let (flush, flushes) = bounded(1);
        let endpoint = traces_url(endpoint);
        let worker = Worker {
            spans: span_queue,
            flushes,
            endpoint,
            source,
            metrics: Arc::clone(&metrics),
            logged_ms: None,
        };
        thread::Builder::new()
            .name(format!("export-{}", worker.source.node))
            .spawn(move || worker.run())
            .ok()?;
        Some(Exporter {
            spans,
            flush,
            metrics,
        })
    }

    pub(crate) fn take(&self, spans: Vec<SpanData>) {
        let lost = spans
            .into_iter()
            .filter_map(|span| self.spans.try_send(span).err())
            .count();
        if lost > 0 {
            self.metrics.dropped(Dropped::Span, lost as u64);
        }
    }

    /// Exports what is queued, then passes the flush on to the log. Never waits: a
    /// second flush while one is under way goes straight on.
    pub(crate) fn flush(&self, done: Sender<()>) {
        if let Err(refused) = self.flush.try_send(done) {
            sink::flush(refused.into_inner());
        }
    }
}

struct Worker {
    spans: Receiver<SpanData>,
    flushes: Receiver<Sender<()>>,
    endpoint: String,
    source: Arc<Source>,
    metrics: Arc<Metrics>,
    // When a failure was last logged, Unix ms.
    logged_ms: Option<u64>,
}

impl Worker {
    fn run(mut self) {
        let exporter = build(&self.endpoint, &self.source).map_err(|error| error.to_string());
        loop {
            select_biased! {
                recv(self.spans) -> span => match span {
                    Ok(first) => {
                        let (batch, done) = self.gather(first);
                        self.export(&exporter, batch);
                        if let Some(done) = done {
                            self.flush(&exporter, done);
                        }
                    }
                    // The observer is gone and everything it left is exported.
                    Err(_) => return,
                },
                // Closed, it means what the other one will say next.
                recv(self.flushes) -> done => if let Ok(done) = done {
                    self.flush(&exporter, done);
                },
            }
        }
    }

    /// Exports what was queued before the flush, which may have overtaken it, then
    /// passes the flush on.
    fn flush(&mut self, exporter: &Result<SpanExporter, String>, done: Sender<()>) {
        let mut queued = self.spans.len();
        while queued > 0 {
            let count = queued.min(BATCH_SPANS_MAX);
            let batch = self.spans.try_iter().take(count).collect();
            self.export(exporter, batch);
            queued -= count;
        }
        sink::flush(done);
    }

    /// The first span and those that come along while it lingers. A flush, a full
    /// batch or the end of the observer cut that short.
    fn gather(&self, first: SpanData) -> (Vec<SpanData>, Option<Sender<()>>) {
        let mut batch = vec![first];
        for _ in 0..LINGER_STEPS {
            batch.extend(self.spans.try_iter().take(BATCH_SPANS_MAX - batch.len()));
            if batch.len() >= BATCH_SPANS_MAX {
                break;
            }
            match self.flushes.recv_timeout(LINGER_PAUSE) {
                Ok(done) => {
                    // The rest of what the flush is for came in meanwhile.
                    let room = BATCH_SPANS_MAX - batch.len();
                    batch.extend(self.spans.try_iter().take(room));
                    return (batch, Some(done));
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
        }
        (batch, None)
    }

    fn export(&mut self, exporter: &Result<SpanExporter, String>, batch: Vec<SpanData>) {
        let spans = batch.len() as u64;
        let failure = match exporter {
            Err(error) => error.clone(),
            Ok(exporter) => {
                match catch_unwind(AssertUnwindSafe(|| finish(exporter.export(batch)))) {
                    Ok(Ok(())) => return,
                    Ok(Err(error)) => error.to_string(),
                    Err(_) => {
                        self.metrics.panicked();
                        "the exporter panicked".to_owned()
                    }
                }
            }
        };
        self.metrics.export_failed();
        self.metrics.dropped(Dropped::Span, spans);
        let now_ms = self.metrics.latest_ms();
        if self
            .logged_ms
            .is_none_or(|logged_ms| now_ms.abs_diff(logged_ms) >= LINE_EVERY_MS)
        {
            self.logged_ms = Some(now_ms);
            self.source.export(&self.endpoint, &failure);
        }
    }
}

fn build(endpoint: &str, source: &Source) -> Result<SpanExporter, ExporterBuildError> {
    let mut exporter = SpanExporter::builder()
        .with_http()
        .with_endpoint(endpoint)
        .with_protocol(Protocol::HttpBinary)
        .with_timeout(EXPORT_TIMEOUT)
        // The next batch is the next try: retries would only hold it up.
        .with_retry_policy(RetryPolicy::disabled())
        .build()?;
    exporter.set_resource(
        &Resource::builder_empty()
            .with_attributes([
                KeyValue::new("service.name", "headwater"),
                KeyValue::new("service.version", env!("CARGO_PKG_VERSION")),
                KeyValue::new("service.instance.id", source.node.clone()),
                KeyValue::new("headwater.role", source.role),
            ])
            .build(),
    );
    Ok(exporter)
}

/// The collector's URL for traces (OTLP/HTTP): the path of a full one is kept.
fn traces_url(endpoint: &str) -> String {
    let base = endpoint.trim_end_matches('/');
    if base.ends_with("/v1/traces") {
        base.to_owned()
    } else {
        format!("{base}/v1/traces")
    }
}

/// Drives a future to its end on this thread. With the blocking client it is ready
/// at the first poll; the parking is for one that is not.
fn finish<F: Future>(future: F) -> F::Output {
    struct Unpark(Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut context = Context::from_waker(&waker);
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut context) {
            Poll::Ready(output) => return output,
            Poll::Pending => thread::park(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn traces_urls() {
        for (endpoint, url) in [
            ("http://127.0.0.1:4318", "http://127.0.0.1:4318/v1/traces"),
            ("http://127.0.0.1:4318/", "http://127.0.0.1:4318/v1/traces"),
            ("http://c/otlp", "http://c/otlp/v1/traces"),
            ("http://c/v1/traces", "http://c/v1/traces"),
        ] {
            assert_eq!(traces_url(endpoint), url);
        }
    }
}
