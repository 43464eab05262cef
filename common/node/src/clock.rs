//! The only place that reads a clock.
//!
//! Everything below takes `now_ms` as an argument, so that time can be moved by
//! a test and a decision can be replayed. `clippy.toml` holds the rest of the
//! workspace to it.

#![allow(clippy::disallowed_methods)]

use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// Milliseconds since the Unix epoch. A clock before 1970 reads as 0.
pub(crate) fn now_ms() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_millis() as u64)
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
