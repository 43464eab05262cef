//! The observer's thread: records and events in, lines and spans out.
//!
//! Nothing that goes wrong in here reaches a request: a panic is caught, counted,
//! and the thread takes the next item. It ends when the last handle is gone and
//! everything that was handed in is done.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, select_biased};
use opentelemetry::InstrumentationScope;

use crate::event::Event;
use crate::export::Exporter;
use crate::fault::{self, Fault};
use crate::lines::Source;
use crate::metrics::Metrics;
use crate::record::Record;
use crate::sink;
use crate::spans::spans;

/// With nothing to do, the thread wakes this often to let the known time pass.
const IDLE: Duration = Duration::from_secs(1);

/// In tests, a record with this detail makes the thread panic.
#[cfg(test)]
pub(crate) const PANIC: &str = "panic, please";

/// An event that passed its limit.
#[derive(Debug)]
pub(crate) struct Admitted {
    pub(crate) event: Event,
    pub(crate) now_ms: u64,
    pub(crate) suppressed: u64,
}

#[derive(Debug)]
pub(crate) struct Worker {
    pub(crate) records: Receiver<Record>,
    pub(crate) events: Receiver<Admitted>,
    pub(crate) flushes: Receiver<Sender<()>>,
    pub(crate) source: Arc<Source>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) exporter: Option<Exporter>,
    pub(crate) access_log: bool,
    pub(crate) fault: Option<Fault>,
    pub(crate) scope: InstrumentationScope,
}

impl Worker {
    pub(crate) fn run(self) {
        if self.fault == Some(Fault::Stall) {
            return fault::stand_still(&self.flushes);
        }
        loop {
            // Events come first: they are why someone looks at the log.
            select_biased! {
                recv(self.events) -> event => match event {
                    Ok(event) => self.event(&event),
                    Err(_) => return self.drain(),
                },
                recv(self.flushes) -> done => match done {
                    Ok(done) => self.flush(done),
                    Err(_) => return self.drain(),
                },
                recv(self.records) -> record => match record {
                    Ok(record) => self.record(&record),
                    Err(_) => return self.drain(),
                },
                default(IDLE) => self.metrics.passed(IDLE.as_millis() as u64),
            }
        }
    }

    /// The handles go away one queue after the other; what they left is done first.
    fn drain(&self) {
        self.events.try_iter().for_each(|event| self.event(&event));
        self.records
            .try_iter()
            .for_each(|record| self.record(&record));
    }

    fn flush(&self, done: Sender<()>) {
        // What is queued by now is what the flush is for, and it may have overtaken
        // it on its own queue; what comes later is not.
        self.events
            .try_iter()
            .take(self.events.len())
            .for_each(|event| self.event(&event));
        let queued = self.records.len();
        self.records
            .try_iter()
            .take(queued)
            .for_each(|record| self.record(&record));
        match &self.exporter {
            Some(exporter) => exporter.flush(done),
            None => sink::flush(done),
        }
    }

    fn event(&self, admitted: &Admitted) {
        self.contained(|| {
            self.source
                .event(&admitted.event, admitted.now_ms, admitted.suppressed);
        });
    }

    fn record(&self, record: &Record) {
        self.contained(|| {
            let end_ms = record.started_ms.saturating_add(record.duration_us / 1000);
            self.metrics.saw_at_least(end_ms);
            #[cfg(test)]
            assert_ne!(record.detail, PANIC);
            if self.access_log {
                self.source.access(record);
            }
            if let Some(exporter) = &self.exporter {
                exporter.take(spans(record, &self.source.node, &self.scope));
            }
        });
    }

    fn contained(&self, work: impl FnOnce()) {
        // Work only reads its item and adds to queues and counters, so whatever a
        // panic leaves behind is as good as before.
        let faulty = || {
            if self.fault == Some(Fault::PanicOnEveryRecord) {
                // As a panic does, but for the hook that would print each one.
                resume_unwind(Box::new("a fault that a test wished for"));
            }
            work();
        };
        if catch_unwind(AssertUnwindSafe(faulty)).is_err() {
            self.metrics.panicked();
        }
    }
}
