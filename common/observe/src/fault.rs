//! Faults of the observer itself, for tests.
//!
//! A collector can be broken from outside, and a test does that. That the observer's
//! own thread panics or stands still cannot be brought about from there, since nothing
//! that a node tells it makes it do so. No configuration file can name a fault.

use crossbeam_channel::{Receiver, Sender};

/// How an observer fails, from its first moment on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Every record and every event makes the thread panic.
    PanicOnEveryRecord,
    /// The thread takes nothing, so that the queues fill up and stay full.
    Stall,
}

/// Takes nothing from any queue until the observer is gone. Whoever asks for a flush
/// waits until it loses patience.
pub(crate) fn stand_still(flushes: &Receiver<Sender<()>>) {
    let mut _asked = None;
    while let Ok(done) = flushes.recv() {
        _asked = Some(done);
    }
}
