//! The process's log, installed for real: a process of its own, one story.

#![allow(clippy::unwrap_used)]

use std::time::Duration;

use observe::{Event, Level, LogTarget, Observer, Settings, install_log};
use serde_json::Value;

fn observer(node: &str) -> Observer {
    Observer::start(Settings {
        node: node.into(),
        access_log: true,
        ..Settings::default()
    })
}

#[test]
fn two_nodes_and_a_library_share_one_log() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("headwater.log");
    let target = LogTarget::File(path.clone());
    assert!(install_log(&target, Level::Info, &["noisy::part"]).unwrap());
    assert!(
        !install_log(&target, Level::Info, &[]).unwrap(),
        "the second call installs nothing"
    );

    let first = observer("edge-1");
    let second = observer("edge-2");
    let note = |message: &str| Event::Note {
        level: Level::Info,
        message: message.into(),
    };
    first.event(note("from the first"), 1_000);
    second.event(note("from the second"), 1_000);
    for _ in 0..100 {
        first.event(
            Event::UpperTierUp {
                peer: "upper-1".into(),
            },
            2_000,
        );
    }
    first.event(
        Event::UpperTierUp {
            peer: "upper-1".into(),
        },
        3_000,
    );
    log::info!("a library's line");
    log::error!(target: "noisy::part", "a quiet module's line");
    log::info!(target: "noisy", "another module's line");
    log::debug!("a whole request");
    log::trace!("a whole request");
    assert!(first.shutdown(Duration::from_secs(10)));
    assert!(second.shutdown(Duration::from_secs(10)));

    let text = std::fs::read_to_string(&path).unwrap();
    let lines: Vec<Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let having = |key: &str, value: &str| lines.iter().filter(|l| l[key] == value).count();
    assert_eq!(having("node", "edge-2"), 1);
    assert_eq!(having("detail", "from the first"), 1);
    // Five of the hundred, and the one that tells of the other 95.
    assert_eq!(having("event", "upper_tier_up"), 6);
    assert_eq!(lines.iter().filter(|l| l["suppressed"] == 95).count(), 1);
    assert_eq!(having("message", "a library's line"), 1);
    assert_eq!(having("message", "another module's line"), 1);
    assert_eq!(having("message", "a quiet module's line"), 0);
    assert!(
        !text.contains("whole request"),
        "a line below info came through"
    );
    assert!(lines.iter().all(|l| l["level"] == "INFO"));
}
