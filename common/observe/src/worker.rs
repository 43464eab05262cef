//! The observer's thread: records and events in, lines and spans out.
//!
//! Nothing that goes wrong in here reaches a request: a panic is caught, counted,
//! and the thread takes the next item. It ends when the last handle is gone and
//! everything that was handed in is done.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, select_biased};

use crate::detail;
use crate::event::Event;
use crate::export::Exporter;
use crate::fault::{self, Fault};
use crate::lines::Source;
use crate::metrics::Metrics;
use crate::process_log::Level;
use crate::record::Record;
use crate::sink;
use crate::spare::Spares;

/// With nothing to do, the thread wakes this often to let the known time pass.
const IDLE: Duration = Duration::from_secs(1);

/// Between two looks at queues that had something, and at queues that had nothing.
/// At a hundred thousand requests a second a look finds five hundred records, which
/// are still in the processor's cache.
const BUSY: Duration = Duration::from_millis(5);
const QUIET: Duration = Duration::from_millis(50);

/// How long spans wait for others to fill a batch with.
const LINGER: Duration = Duration::from_millis(400);

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
    pub(crate) records: Receiver<Box<Record>>,
    pub(crate) spares: Spares,
    pub(crate) events: Receiver<Admitted>,
    pub(crate) flushes: Receiver<Sender<()>>,
    pub(crate) source: Arc<Source>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) exporter: Option<Exporter>,
    pub(crate) access_log: bool,
    pub(crate) log_level: Level,
    pub(crate) fault: Option<Fault>,
}

impl Worker {
    pub(crate) fn run(mut self) {
        if self.fault == Some(Fault::Stall) {
            return fault::stand_still(&self.flushes);
        }
        loop {
            // Events come first: they are why someone looks at the log.
            select_biased! {
                recv(self.events) -> event => match event {
                    Ok(event) => {
                        self.event(&event);
                        self.look_in();
                    }
                    Err(_) => return self.drain(),
                },
                recv(self.flushes) -> done => match done {
                    Ok(done) => self.flush(&done),
                    Err(_) => return self.drain(),
                },
                recv(self.records) -> record => match record {
                    Ok(record) => {
                        self.record(record);
                        self.look_in();
                    }
                    Err(_) => return self.drain(),
                },
                default(IDLE) => self.metrics.passed(IDLE.as_millis() as u64),
            }
        }
    }

    /// After a first record, the thread looks into its queues from time to time
    /// instead of being woken for each: a wake-up costs a busy server more than the
    /// record does. What was gathered for export meanwhile then goes off.
    fn look_in(&mut self) {
        let mut lingered = Duration::ZERO;
        while lingered < LINGER {
            let pause = if self.take_queued() > 0 {
                // A wait at a queue yields many times before it sleeps, and whoever is
                // busy has use for that time.
                thread::sleep(BUSY);
                lingered += BUSY;
                Duration::ZERO
            } else {
                QUIET
            };
            // The only thing that cannot wait for the next look.
            match self.flushes.recv_timeout(pause) {
                Ok(done) => self.flush(&done),
                Err(RecvTimeoutError::Timeout) => lingered += pause,
                // The handles are gone; `run` finds out and drains.
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
        self.take_queued();
        if let Some(exporter) = &mut self.exporter {
            exporter.send_off();
        }
    }

    /// Does what is queued by now, and says how many records that were. What comes
    /// later is left, so that this ends.
    fn take_queued(&mut self) -> usize {
        for _ in 0..self.events.len() {
            let Ok(event) = self.events.try_recv() else {
                break;
            };
            self.event(&event);
        }
        let queued = self.records.len();
        for taken in 0..queued {
            let Ok(record) = self.records.try_recv() else {
                return taken;
            };
            self.record(record);
        }
        queued
    }

    /// The handles go away one queue after the other; what they left is done first,
    /// and the exporter sends off its last when it is dropped.
    fn drain(&mut self) {
        while let Ok(event) = self.events.try_recv() {
            self.event(&event);
        }
        while let Ok(record) = self.records.try_recv() {
            self.record(record);
        }
    }

    fn flush(&mut self, done: &Sender<()>) {
        // What is queued by now is what the flush is for, and it may have overtaken
        // it on its own queue; what comes later is not.
        self.take_queued();
        match &mut self.exporter {
            Some(exporter) => exporter.flush(done),
            None => sink::flush(done.clone()),
        }
    }

    fn event(&mut self, admitted: &Admitted) {
        let exporter = self.exporter.as_mut();
        contained(&self.metrics, self.fault, || {
            let Admitted {
                event,
                now_ms,
                suppressed,
            } = admitted;
            self.source.event(event, *now_ms, *suppressed);
            if let Some(exporter) = exporter {
                exporter.event(event, *now_ms, *suppressed);
            }
        });
    }

    fn record(&mut self, done: Box<Record>) {
        let exporter = self.exporter.as_mut();
        let record = &*done;
        contained(&self.metrics, self.fault, || {
            let end_ms = record.started_ms.saturating_add(record.duration_us / 1000);
            self.metrics.saw_at_least(end_ms);
            #[cfg(test)]
            assert_ne!(record.detail, PANIC);
            if self.access_log {
                self.source.access(record);
            }
            if self.log_level > Level::Info {
                detail::log(&self.source, record, self.log_level);
            }
            if let Some(exporter) = exporter {
                exporter.record(record);
            }
        });
        self.spares.take_back(done);
    }
}

fn contained(metrics: &Metrics, fault: Option<Fault>, work: impl FnOnce()) {
    // Work only reads its item and adds to queues, counters and batches, which know
    // what in them is whole, so whatever a panic leaves behind is as good as before.
    let faulty = || {
        if fault == Some(Fault::PanicOnEveryRecord) {
            // As a panic does, but for the hook that would print each one.
            resume_unwind(Box::new("a fault that a test wished for"));
        }
        work();
    };
    if catch_unwind(AssertUnwindSafe(faulty)).is_err() {
        metrics.panicked();
    }
}
