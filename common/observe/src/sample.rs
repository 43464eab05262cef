//! Which hits get a line, which requests a trace.
//!
//! A ratio is compared with 64 random bits, so the decision is one comparison and
//! needs no lock and no clock.

use std::cell::Cell;
use std::sync::atomic::{AtomicU64, Ordering};

/// The golden ratio in 64 bits: the step of splitmix64, and odd, so that a thread
/// walks through all 2^64 states.
const STEP: u64 = 0x9E37_79B9_7F4A_7C15;

/// A share of all draws, 0 to 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ratio {
    threshold: u64,
}

impl Ratio {
    /// `share` outside 0 to 1 is brought inside; not a number is 0.
    pub(crate) fn new(share: f64) -> Self {
        // 2^64 as a float; the conversion saturates, so that 1 becomes "all".
        let threshold = (share.clamp(0.0, 1.0) * 18_446_744_073_709_551_616.0) as u64;
        Ratio { threshold }
    }

    /// Whether uniformly random bits fall into the share.
    pub(crate) const fn takes(self, random: u64) -> bool {
        self.threshold == u64::MAX || random < self.threshold
    }

    /// The same, with bits of the calling thread's own.
    pub(crate) fn draw(self) -> bool {
        match self.threshold {
            0 => false,
            u64::MAX => true,
            _ => self.takes(random()),
        }
    }
}

/// Random enough to sample with, a nanosecond or two; not for secrets or ids.
fn random() -> u64 {
    static THREADS: AtomicU64 = AtomicU64::new(1);
    thread_local! {
        // Each thread starts somewhere else, or all would skip the same hits.
        static STATE: Cell<u64> =
            Cell::new(mix(THREADS.fetch_add(1, Ordering::Relaxed)));
    }
    STATE.with(|state| {
        let next = state.get().wrapping_add(STEP);
        state.set(next);
        mix(next)
    })
}

/// The output function of splitmix64 (Steele, Lea, Flood 2014).
const fn mix(state: u64) -> u64 {
    let z = (state ^ (state >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ends_of_a_ratio_are_exact() {
        for (share, random, takes) in [
            (0.0, 0, false),
            (0.0, u64::MAX, false),
            (1.0, 0, true),
            (1.0, u64::MAX, true),
            (7.0, u64::MAX, true),
            (-1.0, 0, false),
            (f64::NAN, 0, false),
            (0.5, u64::MAX / 2, true),
            (0.5, u64::MAX / 2 + 1, false),
        ] {
            assert_eq!(
                Ratio::new(share).takes(random),
                takes,
                "{share} of {random}"
            );
        }
    }

    #[test]
    fn drawing_comes_near_the_share() {
        let ratio = Ratio::new(0.25);
        let taken = (0..100_000).filter(|_| ratio.draw()).count();
        assert!((23_500..26_500).contains(&taken), "{taken}");
    }
}
