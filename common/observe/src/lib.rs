//! Records in; spans, metrics and log lines out.
//!
//! A node tells this crate what happened by giving away plain, owned values: a
//! [`Done`] for every response, a [`Record`] for those worth telling in full, an
//! [`Event`] for what cannot wait, an [`InFlight`] for what may hang. From there
//! on everything happens on threads of the observer's own.
//!
//! Invariants:
//!
//! - Nothing here can touch a request. The crate knows no type that holds one:
//!   none of ours, none of `http`, none of pingora; and what it is given shares
//!   nothing with one. `tests/tidy.rs` holds the first, compile-time assertions
//!   (`plain.rs`) the second.
//! - Nothing here can hold a request up. Queues are bounded and never waited for;
//!   what does not fit is dropped and counted. Counters are atomics and are never
//!   dropped.
//! - Nothing that breaks here breaks a request: a collector that hangs, a log pipe
//!   that nobody reads, a full disk, a panic in these threads.
//! - No clock is read: times come with what is told. Threads only wait.
//!
//! Only this crate names `tracing`, `opentelemetry` and the metrics crate, and it
//! hands none of their types out.

#![cfg_attr(test, allow(clippy::unwrap_used))]

mod attributes;
mod detail;
mod event;
mod export;
mod fault;
mod in_flight;
mod limit;
mod lines;
mod metrics;
mod observer;
mod plain;
mod process_log;
mod record;
mod redact;
mod sample;
mod sink;
mod spans;
mod spare;
mod stripe;
mod worker;

pub use event::{Event, Side};
pub use export::{Otlp, OtlpProtocol};
pub use fault::Fault;
pub use in_flight::{InFlight, InFlightGuard, InFlightRow};
pub use metrics::{FillEnd, FillInFlight, Metrics, StrippedFrom, Underway, UpstreamResult};
pub use observer::{Observer, Settings};
pub use process_log::{Level, LogTarget, install_log};
pub use record::{
    Attempt, AttemptKind, Done, Method, Outcome, Phase, Protocol, Record, Said, TraceRecord, Words,
};
