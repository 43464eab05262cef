//! Which stripe of a striped structure a thread writes to.
//!
//! Threads that all add to one counter pass its cache line around; each adding to
//! a stripe of its own does not. Readers sum over the stripes.

use std::sync::atomic::{AtomicUsize, Ordering};

/// Stripes. More threads than these share them, which is slower and still right.
pub(crate) const STRIPES: usize = 8;

/// The calling thread's stripe, below [`STRIPES`].
pub(crate) fn stripe() -> usize {
    static THREADS: AtomicUsize = AtomicUsize::new(0);
    thread_local! {
        static STRIPE: usize = THREADS.fetch_add(1, Ordering::Relaxed) % STRIPES;
    }
    STRIPE.with(|stripe| *stripe)
}
