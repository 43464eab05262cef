//! The log lines that are made here: one for a record, one for an event.
//!
//! This is the only place in the project where a `tracing` macro stands. Whatever
//! a client sent is a value in JSON, escaped by the writer: a line stays a line.

use std::fmt::Write;

use crate::event::{Event, EventLine};
use crate::process_log::Level;
use crate::record::{Attempt, Record};

/// Whose lines these are.
#[derive(Debug)]
pub(crate) struct Source {
    pub(crate) node: String,
    pub(crate) role: &'static str,
}

impl Source {
    /// The access log's line. `ts` is when the request began, `duration_us` tells
    /// when it ended; the subscriber's `timestamp` is when the line was made.
    pub(crate) fn access(&self, record: &Record) {
        let trace_id = record.trace.as_ref().map(|trace| hex(&trace.trace_id));
        let upstream = upstream(&record.upstream_attempts);
        tracing::info!(
            target: "access",
            ts = record.started_ms,
            node = self.node.as_str(),
            role = self.role,
            client = %record.client,
            method = record.method(),
            scheme = record.scheme,
            host = record.words.host(),
            path = record.words.path(),
            site = record.words.site(),
            status = record.status,
            outcome = record.outcome.as_str(),
            detail = some(&record.detail),
            bytes = record.body_bytes,
            duration_us = record.duration_us,
            protocol = record.protocol.as_str(),
            user_agent = some(record.words.user_agent()),
            hop_from = some(record.words.hop_from()),
            trace_id = trace_id.as_deref(),
            upstream = some(&upstream),
        );
    }

    /// An event's line; `suppressed` is how many like it were not logged before.
    pub(crate) fn event(&self, event: &Event, now_ms: u64, suppressed: u64) {
        let EventLine {
            level,
            message,
            side,
            reason,
            peer,
            detail,
            remedy,
        } = event.line();
        let suppressed = (suppressed > 0).then_some(suppressed);
        // A macro's level is a constant, so each has its own.
        macro_rules! line {
            ($level:ident) => {
                tracing::$level!(
                    target: "event",
                    ts = now_ms,
                    node = self.node.as_str(),
                    role = self.role,
                    event = event.name(),
                    side,
                    reason,
                    peer,
                    detail,
                    remedy,
                    suppressed,
                    "{message}"
                )
            };
        }
        match level {
            Level::Error => line!(error),
            Level::Warn => line!(warn),
            Level::Info | Level::Debug | Level::Trace => line!(info),
        }
    }

    /// The exporter's own line, at most one a minute.
    pub(crate) fn export(&self, endpoint: &str, signal: &str, failure: &str) {
        tracing::warn!(
            target: "event",
            node = self.node.as_str(),
            role = self.role,
            event = "telemetry_export_failed",
            peer = endpoint,
            signal,
            detail = failure,
            remedy = "check that the collector runs at this endpoint and speaks `otlp_protocol`",
            "telemetry was not exported; requests are not affected"
        );
    }
}

/// `upper-1 200 1234us; origin 127.0.0.1:8000 connect_timeout 2000000us new`.
fn upstream(attempts: &[Attempt]) -> String {
    let mut text = String::new();
    for attempt in attempts {
        if !text.is_empty() {
            text.push_str("; ");
        }
        text.push_str(&attempt.target);
        if let Some(status) = attempt.status {
            let _infallible = write!(text, " {status}");
        }
        if let Some(error) = &attempt.error {
            let _infallible = write!(text, " {error}");
        }
        let _infallible = write!(text, " {}us", attempt.duration_us);
        if !attempt.reused_connection {
            text.push_str(" new");
        }
    }
    text
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes
        .iter()
        .fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
            let _infallible = write!(text, "{byte:02x}");
            text
        })
}

/// An empty text is a field that is left out.
fn some(text: &str) -> Option<&str> {
    (!text.is_empty()).then_some(text)
}

#[cfg(test)]
mod tests;
