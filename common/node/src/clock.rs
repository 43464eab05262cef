//! The only place that reads a clock.
//!
//! A node has one, and asks it through `Node::now_ms`; everything below takes
//! `now_ms` as an argument, so that time can be moved by a test and a decision can be
//! replayed. `clippy.toml` holds the rest of the workspace to it.

#![allow(clippy::disallowed_methods)]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// What a node takes the time of day from. How long it waits for anything goes by the
/// system's time in any case.
#[derive(Debug, Clone, Default)]
pub enum Clock {
    /// The system's.
    #[default]
    System,
    /// One that stands still until a test moves it.
    Moved(MovedClock),
}

impl Clock {
    /// Milliseconds since the Unix epoch. A system's clock before 1970 reads as 0.
    pub(crate) fn now_ms(&self) -> u64 {
        match self {
            Self::System => SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .map_or(0, |since| since.as_millis() as u64),
            Self::Moved(clock) => clock.now_ms(),
        }
    }
}

/// A clock in a test's hand. Clones show the same time, so that one moves it for every
/// node at once.
#[derive(Debug, Clone)]
pub struct MovedClock(Arc<AtomicU64>);

impl MovedClock {
    /// Shows that time, in milliseconds since the Unix epoch, until it is moved.
    #[must_use]
    pub fn at(now_ms: u64) -> Self {
        Self(Arc::new(AtomicU64::new(now_ms)))
    }

    /// The time it shows.
    #[must_use]
    pub fn now_ms(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    /// Moves it on.
    pub fn advance(&self, by_ms: u64) {
        self.0.fetch_add(by_ms, Ordering::Relaxed);
    }
}

/// Measures how long something took; unaffected by steps of the wall clock.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Stopwatch(Instant);

impl Stopwatch {
    /// Starts now.
    pub(crate) fn start() -> Self {
        Self(Instant::now())
    }

    /// Microseconds since the start.
    pub(crate) fn elapsed_us(self) -> u64 {
        self.0.elapsed().as_micros() as u64
    }

    /// Milliseconds since the start.
    pub(crate) fn elapsed_ms(self) -> u64 {
        self.0.elapsed().as_millis() as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_in_hand_shows_the_same_time_to_everybody_who_holds_it() {
        let hand = MovedClock::at(1_000);
        let clock = Clock::Moved(hand.clone());
        assert_eq!(clock.now_ms(), 1_000);
        hand.advance(500);
        assert_eq!((clock.now_ms(), hand.now_ms()), (1_500, 1_500));
        assert!(Clock::System.now_ms() > 1_700_000_000_000);
    }
}
