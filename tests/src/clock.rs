//! The harness's clock: requests that it seals by hand, and the `Date` of its origin.
#![allow(clippy::disallowed_methods)]

use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// Now, in Unix milliseconds.
#[must_use]
pub fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    u64::try_from(since.map_or(0, |since| since.as_millis())).unwrap_or(u64::MAX)
}

/// A moment as an HTTP date (RFC 9110 §5.6.7), `ago_s` seconds before now.
#[must_use]
pub fn http_date(ago_s: u64) -> String {
    let then = SystemTime::now() - std::time::Duration::from_secs(ago_s);
    httpdate::fmt_http_date(then)
}

/// Measures how long something takes.
#[derive(Clone, Copy, Debug)]
pub struct Stopwatch(Instant);

impl Stopwatch {
    /// Starts now.
    #[must_use]
    pub fn start() -> Self {
        Self(Instant::now())
    }

    /// Microseconds since it was started.
    #[must_use]
    pub fn elapsed_us(self) -> u64 {
        u64::try_from(self.0.elapsed().as_micros()).unwrap_or(u64::MAX)
    }
}
