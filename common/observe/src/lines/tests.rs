use std::io;
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use super::*;
use crate::process_log::subscriber;
use crate::record::Said;
use crate::record::samples::{self, said};

#[derive(Clone, Default)]
struct Captured(Arc<Mutex<Vec<u8>>>);

impl io::Write for Captured {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The one line that `work` logs at `level`, as JSON; none where it logs nothing.
fn logged(level: Level, work: impl FnOnce(&Source)) -> Option<Value> {
    let captured = Captured::default();
    let writer = captured.clone();
    let source = Source {
        node: "edge-1".into(),
        role: "edge",
    };
    tracing::subscriber::with_default(subscriber(move || writer.clone(), level), || work(&source));
    let bytes = captured.0.lock().unwrap();
    let text = std::str::from_utf8(&bytes).unwrap();
    assert!(text.lines().count() <= 1, "{text}");
    text.lines()
        .next()
        .map(|line| serde_json::from_str(line).unwrap())
}

/// The line without what the subscriber adds of itself.
fn fields(line: Option<Value>) -> Value {
    let Some(Value::Object(mut line)) = line else {
        panic!("no line")
    };
    assert!(line.remove("timestamp").is_some());
    Value::Object(line)
}

#[test]
fn an_access_line_tells_the_record() {
    let line = fields(logged(Level::Info, |source| {
        source.access(&samples::miss());
    }));
    let expected = json!({
        "level": "INFO",
        "target": "access",
        "ts": 1_700_000_000_000_u64,
        "node": "edge-1",
        "role": "edge",
        "client": "192.0.2.7",
        "method": "GET",
        "scheme": "https",
        "host": "shop.example:8443",
        "path": "/a?b=c",
        "site": "shop",
        "status": 200,
        "outcome": "miss",
        "bytes": 1024,
        "duration_us": 12_500,
        "protocol": "h2",
        "user_agent": "curl/8",
        "trace_id": "11111111111111111111111111111111",
        "upstream": "upper-1 200 11000us",
    });
    assert_eq!(line, expected);
}

#[test]
fn what_a_client_sends_cannot_end_its_line() {
    let mut record = samples::miss();
    let path = "/\r\n{\"level\":\"ERROR\"}\u{0}\u{1b}[31m\"";
    record.words = Said { path, ..said() }.into();
    let line = fields(logged(Level::Info, |source| source.access(&record)));
    assert_eq!(line["path"], path);
}

#[test]
fn attempts_in_a_few_words() {
    let mut failed = samples::miss().upstream_attempts.remove(0);
    failed.target = "upper-2".into();
    failed.status = None;
    failed.error = Some("connect_timeout");
    failed.reused_connection = false;
    let answered = samples::miss().upstream_attempts.remove(0);
    for (attempts, text) in [
        (vec![], ""),
        (
            vec![failed, answered],
            "upper-2 connect_timeout 11000us new; upper-1 200 11000us",
        ),
    ] {
        assert_eq!(upstream(&attempts), text);
    }
}

#[test]
fn an_event_line_names_event_reason_and_remedy() {
    let event = Event::ControlRejected {
        side: crate::Side::Request,
        reason: "expired",
        peer: "edge-2".into(),
        detail: "expires 12 s ago".into(),
        remedy: "compare clocks".into(),
    };
    let line = fields(logged(Level::Error, |source| source.event(&event, 5, 3)));
    let expected = json!({
        "level": "ERROR",
        "target": "event",
        "message": "a tier control block was rejected",
        "ts": 5,
        "node": "edge-1",
        "role": "edge",
        "event": "control_rejected",
        "side": "request",
        "reason": "expired",
        "peer": "edge-2",
        "detail": "expires 12 s ago",
        "remedy": "compare clocks",
        "suppressed": 3,
    });
    assert_eq!(line, expected);
}

#[test]
fn every_event_has_a_line_of_its_severity() {
    let text = String::new;
    let rejected = Event::ControlRejected {
        side: crate::Side::Response,
        reason: "missing",
        peer: text(),
        detail: text(),
        remedy: text(),
    };
    for (event, level) in [
        (rejected, "ERROR"),
        (
            Event::TierRefused {
                reason: "missing",
                peer: text(),
            },
            "ERROR",
        ),
        (
            Event::UpperTierDown {
                peer: text(),
                why: text(),
            },
            "WARN",
        ),
        (Event::UpperTierUp { peer: text() }, "INFO"),
        (Event::Reloaded { what: text() }, "INFO"),
        (Event::ReloadFailed { why: text() }, "ERROR"),
        (
            Event::KeyWarning {
                key: text(),
                why: text(),
                remedy: text(),
            },
            "WARN",
        ),
        (Event::Started { detail: text() }, "INFO"),
        (Event::Stopping { why: text() }, "INFO"),
        (Event::TookOver { detail: text() }, "INFO"),
        (Event::HandedOver { detail: text() }, "INFO"),
        (Event::HandoverFailed { why: text() }, "WARN"),
        (
            Event::Note {
                level: Level::Warn,
                message: text(),
            },
            "WARN",
        ),
    ] {
        let line = fields(logged(Level::Info, |source| source.event(&event, 0, 0)));
        assert_eq!(line["event"], event.name());
        assert_eq!(line["level"], level, "{}", event.name());
        assert_eq!(line.get("suppressed"), None);
        // What is less severe than the log's level is not there at all.
        let in_errors = logged(Level::Error, |source| source.event(&event, 0, 0)).is_some();
        assert_eq!(in_errors, level == "ERROR", "{}", event.name());
    }
}
