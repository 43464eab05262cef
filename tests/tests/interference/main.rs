//! Whatever tracing does, nothing else changes: neither what leaves a node towards the
//! next, nor what a visitor gets, nor what is stored.
//!
//! One workload is played to two edges and two upper tiers, under one state of tracing
//! after the other. What was said on every way between them, and what is stored in the
//! end, is compared to the byte, but for a short list of exemptions that is itself held
//! to be as short as it can be (`exempt.rs`).

// All of this is a test, its helpers too.
#![allow(clippy::unwrap_used)]

mod conditions;
mod exempt;
mod site;
mod stage;
mod workload;

use std::collections::BTreeSet;
use std::path::PathBuf;

use proptest::strategy::{Strategy as _, ValueTree as _};
use proptest::test_runner::{
    Config, FileFailurePersistence, RngAlgorithm, TestCaseError, TestRng, TestRunner,
};

use conditions::{EVERYTHING, OFF, OTHERS};
use exempt::{Drawn, Exempt, Masked, mask};
use stage::{Place, Run, Stage, played};
use tempfile::TempDir;
use tests::Towards;
use workload::Step;

/// How many steps are recorded.
const STEPS: usize = 300;

/// Random workloads in one run of the test.
const CASES: u32 = 6;

/// How often a random workload may differ before that counts.
const TRIES: usize = 3;

/// Tries to make a failing workload shorter, and how long that may go on.
const SHRINKS_MAX: u32 = 100;
const SHRINKING_MAX_MS: u32 = 30_000;

const LOG: &str = "nodes.log";

/// Differences that are told; one is mostly followed by many.
const TOLD_MAX: usize = 4;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_state_of_tracing_changes_a_byte() {
    let steps = recorded();
    let stage = Stage::new().await;
    let (off, aftermath) = played(&stage, &steps, OFF).await;
    let mut aftermaths = vec![aftermath];
    let (expected, drawn) = mask(&off.told);
    let missing = not_shown(&off);
    assert!(missing.is_empty(), "the workload shows no {missing:?}");
    let mut runs = vec![drawn];
    let mut failures = Vec::new();
    let mut log = None;
    for condition in OTHERS {
        if condition.logs && log.is_none() {
            log = Some(open_log());
        }
        let (run, aftermath) = played(&stage, &steps, condition).await;
        let (masked, drawn) = mask(&run.told);
        let mut differences = differences(&expected, &masked);
        differences.extend(stored_differences(&off, &run));
        if !differences.is_empty() {
            let told = differences.join("\n");
            failures.push(format!(
                "under {:?} something differs:\n{told}",
                condition.name
            ));
        }
        runs.push(drawn);
        aftermaths.push(aftermath);
    }
    for aftermath in aftermaths {
        aftermath.check().await;
    }
    assert!(failures.is_empty(), "\n{}\n", failures.join("\n"));
    let log = std::fs::read_to_string(log.unwrap().path().join(LOG)).unwrap();
    assert!(log.lines().count() > steps.len(), "the log is not open");
    let never = never_differing(&runs);
    assert!(
        never.is_empty(),
        "an exemption that nothing needs: {never:?}"
    );
}

/// Workloads that nobody wrote down, and a few steps each: what fails is kept beside
/// this file and tried first from then on.
#[test]
fn no_workload_shows_whether_anyone_traces() {
    let config = Config {
        cases: CASES,
        failure_persistence: Some(Box::new(FileFailurePersistence::WithSource("regressions"))),
        max_shrink_iters: SHRINKS_MAX,
        max_shrink_time: SHRINKING_MAX_MS,
        source_file: Some(file!()),
        ..Config::default()
    };
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let stage = runtime.block_on(Stage::new());
    let play = |steps: &[Step], condition| {
        runtime.block_on(async {
            let (run, aftermath) = played(&stage, steps, condition).await;
            aftermath.leave().await;
            run
        })
    };
    let outcome = TestRunner::new(config).run(&workload::steps(1..40), |steps| {
        // What tracing does it does again. What no two runs agree about is a race, which
        // the recorded workload holds none of, and a random one may.
        let mut differences = Vec::new();
        for _ in 0..TRIES {
            let (off, all) = (play(&steps, OFF), play(&steps, EVERYTHING));
            differences = self::differences(&mask(&off.told).0, &mask(&all.told).0);
            differences.extend(stored_differences(&off, &all));
            if differences.is_empty() {
                return Ok(());
            }
        }
        Err(TestCaseError::fail(differences.join("\n")))
    });
    if let Err(failure) = outcome {
        panic!("{failure}");
    }
}

/// What the recorded workload has to bring about, lest it be drawn anew and show less:
/// words that stand in the head of some answer to a visitor.
const SHOWN: [&str; 30] = [
    "HTTP/1.1 101",
    "HTTP/1.1 103",
    "HTTP/1.1 206",
    "HTTP/1.1 301",
    "HTTP/1.1 304",
    "HTTP/1.1 404",
    "HTTP/1.1 412",
    "HTTP/1.1 416",
    "HTTP/1.1 421",
    "HTTP/1.1 500",
    "HTTP/1.1 502",
    "HTTP/1.1 504",
    "HTTP/2 200",
    "HTTP/2 206",
    "edge-1; hit",
    "upper-1; hit",
    "; hit; ttl=-",
    "fwd=uri-miss",
    "fwd=vary-miss",
    "fwd=stale; fwd-status=304",
    "fwd=stale; fwd-status=503; ttl=",
    "fwd=request",
    "fwd=method",
    "fwd=bypass; fwd-status=200",
    "; collapsed",
    "detail=slices",
    "detail=stale-if-error",
    "error=http_protocol_error",
    "content-encoding: gzip",
    "allow: GET",
];

/// Words that no answer to a visitor holds.
fn not_shown(run: &Run) -> Vec<&'static str> {
    let answers = run.told.iter().filter(|told| {
        matches!(told.place, Place::Visitors(_)) && told.message.towards == Towards::Client
    });
    let heads: Vec<_> = answers
        .map(|told| String::from_utf8_lossy(&told.message.head).into_owned())
        .collect();
    SHOWN
        .into_iter()
        .filter(|words| !heads.iter().any(|head| head.contains(words)))
        .collect()
}

/// Exemptions that are the same in every run.
fn never_differing(runs: &[Drawn]) -> Vec<Exempt> {
    let same = |exempt: &Exempt| {
        let values: BTreeSet<_> = runs.iter().map(|drawn| drawn.get(exempt)).collect();
        values.len() < 2
    };
    Exempt::ALL.into_iter().filter(same).collect()
}

/// Where two runs say something else, in words.
fn differences(expected: &[Masked], found: &[Masked]) -> Vec<String> {
    let mut told = Vec::new();
    let steps = expected.iter().chain(found).map(|one| one.step).max();
    for step in 0..=steps.unwrap_or(0) {
        let at = |all: &[Masked]| -> Vec<Masked> {
            all.iter().filter(|one| one.step == step).cloned().collect()
        };
        let (expected, found) = (at(expected), at(found));
        if expected == found {
            continue;
        }
        if told.len() == TOLD_MAX {
            told.push("  and more after that".to_owned());
            break;
        }
        let (one, other) = expected
            .iter()
            .map(Some)
            .chain(std::iter::repeat(None))
            .zip(found.iter().map(Some).chain(std::iter::repeat(None)))
            .find(|(one, other)| one != other)
            .expect("they differ somewhere");
        told.push(difference(step, one, other));
    }
    told
}

fn difference(step: usize, expected: Option<&Masked>, found: Option<&Masked>) -> String {
    let words = |message: &Masked| format!("{:?} {:?}", message.place, message.lines);
    match (expected, found) {
        (Some(one), Some(other)) if (one.place, one.towards) == (other.place, other.towards) => {
            let mut told = format!(
                "  step {}, {:?}, towards {:?}: {:?}",
                step + 1,
                one.place,
                one.towards,
                one.lines.first()
            );
            let (ours, theirs): (BTreeSet<_>, BTreeSet<_>) =
                (one.lines.iter().collect(), other.lines.iter().collect());
            for line in ours.difference(&theirs) {
                told += &format!("\n    off: {line}");
            }
            for line in theirs.difference(&ours) {
                told += &format!("\n    now: {line}");
            }
            if one.body != other.body || one.complete != other.complete {
                told += &format!(
                    "\n    off: a body of {} bytes, whole: {}\n    now: a body of {} bytes, whole: {}",
                    one.body.len(),
                    one.complete,
                    other.body.len(),
                    other.complete
                );
            }
            told
        }
        (one, other) => format!(
            "  step {}: what passes is not the same\n    off: {:?}\n    now: {:?}",
            step + 1,
            one.map(words),
            other.map(words)
        ),
    }
}

fn stored_differences(expected: &Run, found: &Run) -> Vec<String> {
    let (one, other): (BTreeSet<_>, BTreeSet<_>) = (
        expected.stored.iter().collect(),
        found.stored.iter().collect(),
    );
    let tell = |when: &'static str| {
        move |(node, line): &(String, String)| format!("  stored at {node}, {when}: {line}")
    };
    let missing = one.difference(&other).take(TOLD_MAX);
    let missing = missing.map(|row| tell("off")(row));
    let more = other.difference(&one).take(TOLD_MAX);
    missing.chain(more.map(|row| tell("now")(row))).collect()
}

/// Opens the process's log at its most talkative, in a folder that goes with the test.
fn open_log() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let telemetry = config::Telemetry {
        access_log: config::AccessLog::File(folder.path().join(LOG)),
        log_level: config::LogLevel::Trace,
        ..config::Telemetry::default()
    };
    node::install_log(&telemetry).unwrap();
    folder
}

fn corpus() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/interference/recorded.jsonl")
}

fn recorded() -> Vec<Step> {
    let text = std::fs::read_to_string(corpus()).unwrap();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

#[test]
#[ignore = "draws the recorded workload anew"]
fn record() {
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, b"headwater: what tracing must not");
    let mut runner = TestRunner::new_with_rng(Config::default(), rng);
    let drawn = workload::steps(STEPS).new_tree(&mut runner).unwrap();
    let lines = drawn
        .current()
        .iter()
        .map(|step| serde_json::to_string(step).unwrap() + "\n")
        .collect::<String>();
    std::fs::write(corpus(), lines).unwrap();
}
