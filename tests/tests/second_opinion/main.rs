//! A second opinion on HTTP caching: `http-cache-semantics`, which others wrote.
//!
//! Both are asked about the same cases: is the response stored, how old is it, is it
//! fresh, does it answer another request, what does a validation send, what does a
//! 304 confirm and change. Every disagreement belongs to a named `Difference`, whose
//! reason stands in `docs/departures.md`; a new one fails.
//!
//! Invariants:
//!
//! * Each difference has a witness: a case about which the two disagree in this one
//!   way. So a difference that is gone, here or there, fails too.
//! * Page and table have the same names.
//! * The cases are the same in every run.

// All of this is a test, its helpers too.
#![allow(clippy::unwrap_used)]

mod cases;
mod differences;
mod opinions;
mod table;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestRng, TestRunner};

use crate::cases::{Case, case};
use crate::differences::{Disagreement, disagreements};
use crate::opinions::{ours, theirs};
use crate::table::DIFFERENCES;

/// Some seconds' worth. A million found nothing more.
const CASES: u32 = 6_000;

#[test]
fn every_disagreement_has_a_name() {
    let config = Config {
        cases: CASES,
        failure_persistence: None,
        ..Config::default()
    };
    let rng = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    let agreeing = TestRunner::new_with_rng(config, rng).run(&case(), |case| {
        let unexplained: Vec<_> = differing(&case)
            .into_iter()
            .filter(|found| !DIFFERENCES.iter().any(|known| known.explains(&case, found)))
            .collect();
        if unexplained.is_empty() {
            return Ok(());
        }
        Err(TestCaseError::fail(told(&case, &unexplained)))
    });
    agreeing.unwrap_or_else(|why| panic!("{why}"));
}

#[test]
fn every_difference_has_a_witness() {
    let mut wrong = Vec::new();
    for known in DIFFERENCES {
        let witness = (known.witness)();
        let found = differing(&witness);
        if found.is_empty() {
            wrong.push(format!("{}: the two agree about {witness}", known.name));
        }
        let (_, more): (Vec<_>, Vec<_>) = found
            .into_iter()
            .partition(|found| known.explains(&witness, found));
        if !more.is_empty() {
            let told = told(&witness, &more);
            wrong.push(format!("{}: the witness says more: {told}", known.name));
        }
    }
    assert!(wrong.is_empty(), "\n{}\n", wrong.join("\n"));
}

#[test]
fn every_difference_has_a_reason_on_the_page() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/departures.md");
    let page = fs::read_to_string(page).unwrap();
    let section = page
        .split("\n## ")
        .find(|section| section.starts_with("Where we differ from http-cache-semantics"))
        .expect("the page has the section");
    // The head of the table and the line below it are no differences.
    let rows = section.lines().filter(|line| line.starts_with('|')).skip(2);
    let on_page: BTreeSet<_> = rows
        .filter_map(|row| row.split('|').nth(1))
        .map(str::trim)
        .collect();
    let in_table: BTreeSet<_> = DIFFERENCES.iter().map(|known| known.name).collect();
    assert_eq!(on_page, in_table);
    assert_eq!(in_table.len(), DIFFERENCES.len(), "a name stands twice");
}

fn differing(case: &Case) -> Vec<Disagreement> {
    disagreements(&ours(case), &theirs(case))
}

fn told(case: &Case, found: &[Disagreement]) -> String {
    let (ours, theirs) = (ours(case), theirs(case));
    format!("{case}\n{found:?}\nwe:   {ours:?}\nthey: {theirs:?}")
}
