//! Lines as OTLP log records: access lines, events, and what the lower levels add.
//!
//! Field numbers are those of `opentelemetry.proto.logs.v1.LogRecord`.

use super::{ITEM, proto};
use crate::attributes::{Attributes, Common};
use crate::event::{Event, EventLine};
use crate::process_log::Level;
use crate::record::{Attempt, Record};

const TIME: u32 = 1;
const SEVERITY_NUMBER: u32 = 2;
const SEVERITY_TEXT: u32 = 3;
const BODY: u32 = 5;
const ATTRIBUTES: u32 = 6;
const FLAGS: u32 = 8;
const TRACE_ID: u32 = 9;
const SPAN_ID: u32 = 10;
const OBSERVED_TIME: u32 = 11;
const EVENT_NAME: u32 = 12;

const STRING_VALUE: u32 = 1;
const SAMPLED: u32 = 1;

/// `SeverityNumber`, and the word for it.
const fn severity(level: Level) -> (u64, &'static str) {
    match level {
        Level::Trace => (1, "TRACE"),
        Level::Debug => (5, "DEBUG"),
        Level::Info => (9, "INFO"),
        Level::Warn => (13, "WARN"),
        Level::Error => (17, "ERROR"),
    }
}

/// Writes a record's access line.
pub(crate) fn access(out: &mut Vec<u8>, record: &Record, common: &mut Common) -> u64 {
    let time_us = record.started_ms.saturating_mul(1000);
    let end_us = time_us.saturating_add(record.duration_us);
    let body = format!("{} {}", record.method(), record.status);
    let line = begin(out, Level::Info, "headwater.access", &body, time_us, end_us);
    let span_id = record.trace.map(|trace| trace.span_id);
    place(out, record, span_id);
    let mut attributes = Attributes::new(out, ATTRIBUTES);
    attributes.request(record, common);
    attributes.number("http.response.body.size", record.body_bytes);
    attributes.number("headwater.duration_us", record.duration_us);
    proto::close(out, line);
    1
}

/// Writes one line for each request that was sent upstream.
pub(crate) fn attempts(out: &mut Vec<u8>, record: &Record) -> u64 {
    for attempt in &record.upstream_attempts {
        attempt_line(out, record, attempt);
    }
    record.upstream_attempts.len() as u64
}

fn attempt_line(out: &mut Vec<u8>, record: &Record, attempt: &Attempt) {
    let start_us = record.started_ms.saturating_mul(1000);
    let time_us = start_us.saturating_add(attempt.start_us);
    let end_us = time_us.saturating_add(attempt.duration_us);
    let body = "a request was sent upstream";
    let line = begin(
        out,
        Level::Debug,
        "headwater.attempt",
        body,
        time_us,
        end_us,
    );
    place(out, record, Some(attempt.span_id));
    let mut attributes = Attributes::new(out, ATTRIBUTES);
    attributes.text("headwater.upstream", &attempt.target);
    attributes.text("headwater.upstream_kind", attempt.kind.as_str());
    attributes.number("headwater.duration_us", attempt.duration_us);
    if let Some(status) = attempt.status {
        attributes.number("http.response.status_code", u64::from(status));
    }
    attributes.some_text("error.type", attempt.error.unwrap_or(""));
    proto::close(out, line);
}

/// Writes an event's line.
pub(crate) fn event(out: &mut Vec<u8>, event: &Event, now_ms: u64, suppressed: u64) -> u64 {
    let EventLine {
        level,
        message,
        side,
        reason,
        peer,
        detail,
        remedy,
    } = event.line();
    let now_us = now_ms.saturating_mul(1000);
    let name = format!("headwater.{}", event.name());
    let line = begin(out, level, &name, message, now_us, now_us);
    let mut attributes = Attributes::new(out, ATTRIBUTES);
    for (key, value) in [
        ("headwater.side", side),
        ("headwater.reason", reason),
        ("headwater.peer", peer),
        ("headwater.detail", detail),
        ("headwater.remedy", remedy),
    ] {
        attributes.some_text(key, value.unwrap_or(""));
    }
    if suppressed > 0 {
        attributes.number("headwater.suppressed", suppressed);
    }
    proto::close(out, line);
    1
}

fn begin(
    out: &mut Vec<u8>,
    level: Level,
    name: &str,
    body: &str,
    time_us: u64,
    observed_us: u64,
) -> proto::Open {
    let line = proto::open(out, ITEM);
    proto::fixed64(out, TIME, time_us.saturating_mul(1000));
    proto::fixed64(out, OBSERVED_TIME, observed_us.saturating_mul(1000));
    let (number, word) = severity(level);
    proto::number(out, SEVERITY_NUMBER, number);
    proto::text(out, SEVERITY_TEXT, word);
    let value = proto::open(out, BODY);
    proto::text(out, STRING_VALUE, body);
    proto::close(out, value);
    proto::text(out, EVENT_NAME, name);
    line
}

/// Where in a trace it belongs, if it does.
fn place(out: &mut Vec<u8>, record: &Record, span_id: Option<[u8; 8]>) {
    if let (Some(trace), Some(span_id)) = (&record.trace, span_id) {
        proto::array(out, TRACE_ID, &trace.trace_id);
        proto::array(out, SPAN_ID, &span_id);
        if trace.sampled {
            proto::fixed32(out, FLAGS, SAMPLED);
        }
    }
}

#[cfg(test)]
mod tests {
    use opentelemetry_proto::tonic::common::v1::any_value::Value;
    use opentelemetry_proto::tonic::logs::v1::{LogRecord, ScopeLogs};
    use prost::Message as _;

    use super::*;
    use crate::record::samples;

    fn decoded(write: impl FnOnce(&mut Vec<u8>) -> u64) -> LogRecord {
        let mut out = Vec::new();
        assert_eq!(write(&mut out), 1);
        let mut records = ScopeLogs::decode(out.as_slice()).unwrap().log_records;
        records.pop().unwrap()
    }

    fn text(record: &LogRecord, key: &str) -> String {
        let found = record.attributes.iter().find(|one| one.key == key);
        match found.and_then(|one| one.value.clone()?.value) {
            Some(Value::StringValue(text)) => text,
            Some(Value::IntValue(number)) => number.to_string(),
            _ => String::new(),
        }
    }

    #[test]
    fn an_access_line_has_severity_trace_and_attributes() {
        let record = decoded(|out| access(out, &samples::miss(), &mut Common::new()));
        assert_eq!(
            (record.severity_number, record.severity_text.as_str()),
            (9, "INFO")
        );
        assert_eq!(record.event_name, "headwater.access");
        assert_eq!(record.time_unix_nano, 1_700_000_000_000_000_000);
        assert_eq!(record.observed_time_unix_nano, 1_700_000_000_012_500_000);
        assert_eq!(
            (record.trace_id.as_slice(), record.flags),
            ([0x11; 16].as_slice(), 1)
        );
        assert_eq!(record.span_id, [0x22; 8]);
        assert_eq!(text(&record, "http.response.status_code"), "200");
        assert_eq!(text(&record, "http.response.body.size"), "1024");
        assert_eq!(text(&record, "headwater.outcome"), "miss");
    }

    #[test]
    fn an_event_says_how_severe_it_is_and_what_to_do() {
        let refused = Event::TierRefused {
            reason: "missing",
            peer: "upper-1".into(),
        };
        let record = decoded(|out| event(out, &refused, 7, 3));
        assert_eq!(
            (record.severity_number, record.severity_text.as_str()),
            (17, "ERROR")
        );
        assert_eq!(record.event_name, "headwater.tier_refused");
        assert_eq!(record.time_unix_nano, 7_000_000);
        assert_eq!(text(&record, "headwater.reason"), "missing");
        assert_eq!(text(&record, "headwater.suppressed"), "3");
        assert!(!text(&record, "headwater.remedy").is_empty());
        assert!(record.trace_id.is_empty());
    }

    #[test]
    fn an_attempt_is_told_under_its_own_span() {
        let record = decoded(|out| attempts(out, &samples::miss()));
        assert_eq!(record.severity_text, "DEBUG");
        assert_eq!(record.span_id, [0x44; 8]);
        assert_eq!(text(&record, "headwater.upstream"), "upper-1");
    }
}
