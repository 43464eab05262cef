//! Metrics on their way out: a snapshot at every interval, on a thread of its own.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};

use super::snapshot::{self, Span};
use super::transport::Transport;
use super::{Context, Otlp, Signal, preamble, proto};
use crate::in_flight::Table;
use crate::sink;

/// The near end. When it is dropped, a last snapshot goes out.
#[derive(Debug)]
pub(super) struct Pulse {
    flush: Sender<Sender<()>>,
}

impl Pulse {
    /// Starts the thread. None where the system gives none. `started_ms` (Unix ms) is
    /// since when is counted.
    pub(super) fn start(
        otlp: &Otlp,
        started_ms: u64,
        context: Context,
        in_flight: &Arc<Table>,
    ) -> Option<Pulse> {
        context.metrics.count_http();
        let (flush, flushes) = bounded(1);
        let pulse = PulseThread {
            started_ms,
            context,
            in_flight: Arc::clone(in_flight),
            flushes,
        };
        let otlp = otlp.clone();
        thread::Builder::new()
            .name(format!("metrics-{}", pulse.context.source.node))
            .spawn(move || pulse.run(&otlp))
            .ok()?;
        Some(Pulse { flush })
    }

    pub(super) fn flush(&self, done: Sender<()>) {
        // Failing drops `done`: a flush is under way already.
        let _busy = self.flush.try_send(done);
    }
}

struct PulseThread {
    started_ms: u64,
    context: Context,
    in_flight: Arc<Table>,
    flushes: Receiver<Sender<()>>,
}

impl PulseThread {
    fn run(self, otlp: &Otlp) {
        let mut transport = Transport::new(otlp, Signal::Metrics);
        let interval = Duration::from_millis(otlp.metrics_interval_ms.max(1));
        loop {
            let asked = self.flushes.recv_timeout(interval);
            self.export(&mut transport);
            match asked {
                Ok(done) => sink::flush(done),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    fn export(&self, transport: &mut Transport) {
        let sent = catch_unwind(AssertUnwindSafe(|| transport.send(self.snapshot()).1));
        let sent = sent.unwrap_or_else(|_| {
            self.context.metrics.panicked();
            Err("the exporter panicked".to_owned())
        });
        self.context.ended(Signal::Metrics, 1, sent);
    }

    fn snapshot(&self) -> Vec<u8> {
        let metrics = &self.context.metrics;
        let now_ms = metrics.latest_ms();
        let span = Span {
            // Nobody told the time yet, or told an earlier one: nothing ends before
            // it begins.
            start_ms: self.started_ms.min(now_ms),
            now_ms,
        };
        let text = metrics.render(now_ms, self.in_flight.len(), sink::lines_lost());
        let (mut out, around) = preamble(&self.context.source);
        snapshot::write(&mut out, &text, span);
        snapshot::write_http(&mut out, &metrics.http_series(), span);
        // In any order: each ends at the end of the batch.
        for message in around {
            proto::close(&mut out, message);
        }
        out
    }
}
