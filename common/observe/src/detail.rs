//! What the levels below info add to the log: our own lines alone.
//!
//! Other crates' lines below info print whole requests, so `tracing` and `log` are
//! built without those levels, and no setting can bring them back. Ours below info say
//! no more than a span does. They are made here, as JSON, and go straight to the log's
//! writer, past both.

use serde::Serialize;

use crate::lines::{Source, hex};
use crate::process_log::Level;
use crate::record::Record;
use crate::sink;

#[derive(Serialize)]
struct Line<'a> {
    level: &'static str,
    target: &'static str,
    /// When it began, Unix microseconds.
    ts_us: u64,
    node: &'a str,
    role: &'static str,
    trace_id: Option<String>,
    span_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    method: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    path: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    outcome: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    phase: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    upstream: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'static str>,
    duration_us: u64,
}

/// Hands the lines to the log that `level` asks for: at debug one for each request
/// sent upstream, at trace the request itself and its phases too.
pub(crate) fn log(source: &Source, record: &Record, level: Level) {
    for line in lines(source, record, level) {
        sink::line(line);
    }
}

fn lines(source: &Source, record: &Record, level: Level) -> Vec<Vec<u8>> {
    let mut lines = Vec::new();
    let start_us = record.started_ms.saturating_mul(1000);
    let at = |target, level: Level, span_id: Option<[u8; 8]>, start: u64, duration_us| Line {
        level: level.shown(),
        target,
        ts_us: start_us.saturating_add(start),
        node: &source.node,
        role: source.role,
        trace_id: record.trace.map(|trace| hex(&trace.trace_id)),
        span_id: span_id.map(|id| hex(&id)),
        method: None,
        path: None,
        outcome: None,
        phase: None,
        upstream: None,
        status: None,
        error: None,
        duration_us,
    };
    let mut add = |line: Line<'_>| {
        // A value of ours always becomes JSON.
        if let Ok(mut text) = serde_json::to_vec(&line) {
            text.push(b'\n');
            lines.push(text);
        }
    };
    if level >= Level::Debug {
        for attempt in &record.upstream_attempts {
            let (start, duration) = (attempt.start_us, attempt.duration_us);
            add(Line {
                upstream: Some(&attempt.target),
                status: attempt.status,
                error: attempt.error,
                ..at(
                    "attempt",
                    Level::Debug,
                    Some(attempt.span_id),
                    start,
                    duration,
                )
            });
        }
    }
    if level >= Level::Trace {
        let span_id = record.trace.map(|trace| trace.span_id);
        add(Line {
            method: Some(record.method()),
            path: Some(record.words.path()),
            outcome: Some(record.outcome.as_str()),
            status: Some(record.status),
            ..at("request", Level::Trace, span_id, 0, record.duration_us)
        });
        for phase in &record.phases {
            let (start, duration) = (phase.start_us, phase.duration_us);
            add(Line {
                phase: Some(phase.name),
                ..at("phase", Level::Trace, Some(phase.span_id), start, duration)
            });
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::record::samples;

    #[test]
    fn each_level_adds_its_own_lines() {
        let source = Source {
            node: "edge-1".into(),
            role: "edge",
        };
        for (level, targets) in [
            (Level::Error, vec![]),
            (Level::Info, vec![]),
            (Level::Debug, vec!["attempt"]),
            (Level::Trace, vec!["attempt", "request", "phase"]),
        ] {
            let lines = lines(&source, &samples::miss(), level);
            let lines: Vec<Value> = lines
                .iter()
                .map(|line| serde_json::from_slice(line).unwrap())
                .collect();
            let told: Vec<&str> = lines
                .iter()
                .map(|line| line["target"].as_str().unwrap())
                .collect();
            assert_eq!(told, targets);
            for line in &lines {
                assert_eq!(line["trace_id"], "11111111111111111111111111111111");
                assert_eq!(line["node"], "edge-1");
            }
        }
    }
}
