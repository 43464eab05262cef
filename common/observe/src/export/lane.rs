//! One signal on its way out: a batch that fills, a queue of full ones, a thread.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;

use crossbeam_channel::{Receiver, Sender, bounded, select};

use super::transport::Transport;
use super::{Context, Otlp, Signal, preamble, proto};
use crate::sink;

/// A batch this large goes off: some thousand spans. Collectors take four times as much
/// in one message of gRPC, and more over HTTP. What a request to them costs however large
/// it is, a look-up of their name above all, is paid for each. A link that takes longer for
/// one than a batch may take carries no full ones, and could not carry what fills them.
const BATCH_BYTES: usize = 1024 * 1024;

/// Full batches that wait for the collector: with the one being filled and the one
/// being sent about 16 MiB a signal, half a second of a busy core's hits.
const BATCHES_QUEUED_MAX: usize = 14;

/// Sent batches whose memory is used again.
const SPARE_BATCHES_MAX: usize = 4;

/// Whether a lane has no room: its queue is full.
#[derive(Debug, Clone, Default)]
pub(crate) struct Stalled(Arc<AtomicBool>);

impl Stalled {
    pub(crate) fn is_so(&self) -> bool {
        self.0.load(Relaxed)
    }
}

/// The near end, on the observer's thread.
#[derive(Debug)]
pub(crate) struct Lane {
    signal: Signal,
    context: Context,
    open: Batch,
    // What every batch begins with, and the messages it leaves open.
    preamble: Vec<u8>,
    around: [proto::Open; 2],
    full: Sender<Batch>,
    spare: Receiver<Vec<u8>>,
    flush: Sender<Sender<()>>,
    stalled: Stalled,
}

#[derive(Debug, Default)]
struct Batch {
    bytes: Vec<u8>,
    /// Up to here every item is whole; a panic may have left half a one behind.
    sound: usize,
    items: u64,
}

impl Lane {
    /// Starts the thread. None where the system gives none.
    pub(super) fn start(otlp: &Otlp, signal: Signal, context: Context) -> Option<Lane> {
        let (full, batches) = bounded(BATCHES_QUEUED_MAX);
        let (give_back, spare) = bounded(SPARE_BATCHES_MAX);
        let (flush, flushes) = bounded(1);
        let stalled = Stalled::default();
        let sender = LaneThread {
            signal,
            context: context.clone(),
            batches,
            give_back,
            flushes,
            stalled: stalled.clone(),
        };
        let otlp = otlp.clone();
        thread::Builder::new()
            .name(format!("{}-{}", signal.as_str(), context.source.node))
            .spawn(move || sender.run(&otlp))
            .ok()?;
        let (preamble, around) = preamble(&context.source);
        Some(Lane {
            signal,
            context,
            open: Batch::default(),
            preamble,
            around,
            full,
            spare,
            flush,
            stalled,
        })
    }

    pub(super) fn stalled(&self) -> Stalled {
        self.stalled.clone()
    }

    /// Lets `write` append items to the batch; it says how many they were.
    pub(super) fn add(&mut self, write: impl FnOnce(&mut Vec<u8>) -> u64) {
        if self.open.bytes.is_empty() {
            self.begin();
        }
        let batch = &mut self.open;
        batch.bytes.truncate(batch.sound);
        let items = write(&mut batch.bytes);
        batch.items += items;
        batch.sound = batch.bytes.len();
        if batch.sound >= BATCH_BYTES {
            self.send_off();
        }
    }

    fn begin(&mut self) {
        let mut bytes = self.spare.try_recv().unwrap_or_default();
        bytes.clear();
        // An item more than its fill, so that it rarely has to grow.
        bytes.reserve(BATCH_BYTES + 4096);
        bytes.extend_from_slice(&self.preamble);
        self.open = Batch {
            sound: bytes.len(),
            bytes,
            items: 0,
        };
    }

    /// Sends the batch that is being filled, unless it is empty.
    pub(super) fn send_off(&mut self) {
        if self.open.items == 0 {
            return;
        }
        let mut batch = std::mem::take(&mut self.open);
        batch.bytes.truncate(batch.sound);
        // In any order: each ends at the end of the batch.
        for message in self.around {
            proto::close(&mut batch.bytes, message);
        }
        let items = batch.items;
        if self.full.try_send(batch).is_err() {
            self.context.lost(self.signal, items);
        }
        if self.full.is_full() {
            self.stalled.0.store(true, Relaxed);
        }
    }

    pub(super) fn flush(&mut self, done: Sender<()>) {
        self.send_off();
        // Failing drops `done`: a flush is under way already.
        let _busy = self.flush.try_send(done);
    }
}

impl Drop for Lane {
    fn drop(&mut self) {
        self.send_off();
    }
}

/// The far end, on a thread of its own.
struct LaneThread {
    signal: Signal,
    context: Context,
    batches: Receiver<Batch>,
    give_back: Sender<Vec<u8>>,
    flushes: Receiver<Sender<()>>,
    stalled: Stalled,
}

impl LaneThread {
    fn run(self, otlp: &Otlp) {
        let mut transport = Transport::new(otlp, self.signal);
        loop {
            select! {
                recv(self.batches) -> batch => match batch {
                    Ok(batch) => self.export(&mut transport, batch),
                    // The observer is gone and everything it left is exported.
                    Err(_) => return,
                },
                // Closed, it means what the other one will say next.
                recv(self.flushes) -> done => if let Ok(done) = done {
                    self.flush(&mut transport, done);
                },
            }
        }
    }

    /// Exports what was queued before the flush, which may have overtaken it, then
    /// passes the flush on: a failure may have made a line.
    fn flush(&self, transport: &mut Transport, done: Sender<()>) {
        let queued = self.batches.len();
        for batch in self.batches.try_iter().take(queued) {
            self.export(transport, batch);
        }
        sink::flush(done);
    }

    fn export(&self, transport: &mut Transport, batch: Batch) {
        self.stalled.0.store(false, Relaxed);
        let Batch { bytes, items, .. } = batch;
        let sent = catch_unwind(AssertUnwindSafe(|| transport.send(bytes)));
        let sent = match sent {
            Ok((bytes, sent)) => {
                // Enough are spare already, or nobody is there to use it.
                let _freed = self.give_back.try_send(bytes);
                sent
            }
            Err(_) => {
                self.context.metrics.panicked();
                Err("the exporter panicked".to_owned())
            }
        };
        self.context.ended(self.signal, items, sent);
    }
}
