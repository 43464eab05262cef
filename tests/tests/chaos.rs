//! The chaos suite in small: one fault, in network namespaces, for a moment. `make chaos`
//! plays all of them, for longer.

use std::process::{Command, Stdio};

/// Requests during the fault, and how many a second: little, for a build without
/// optimisation beside other tests.
const REQUESTS: &str = "600";
const PER_SECOND: &str = "300";

/// What the program says where the system does not let it make namespaces.
const IMPOSSIBLE: &str = "no namespaces here";

#[test]
fn an_upper_tier_that_is_killed_costs_no_visitor_anything() {
    let played = Command::new(env!("CARGO_BIN_EXE_chaos"))
        .args([
            "--setting",
            "namespaces",
            "--only",
            "kill -9 of an upper tier",
        ])
        .args(["--requests", REQUESTS, "--per-second", PER_SECOND])
        .stdin(Stdio::null())
        .output();
    let played = played.expect("cargo built it");
    let said = String::from_utf8_lossy(&played.stdout);
    let complained = String::from_utf8_lossy(&played.stderr);
    if let Some(why) = complained.lines().find(|line| line.contains(IMPOSSIBLE)) {
        println!("skipped: {why}");
        return;
    }
    assert!(played.status.success(), "{said}\n{complained}");
    assert!(said.contains("Everything was as it must be."), "{said}");
}
