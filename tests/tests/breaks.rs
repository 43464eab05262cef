//! The breaks of `make proof` are as good as on the day they were made: each says what
//! it has to, applies to the tree as it is, and stands in `docs/proof.md`.

// All of this file is a test, its helpers too.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

const LAYERS: [&str; 6] = [
    "construction",
    "wire",
    "non-interference",
    "model",
    "drill",
    "ways",
];

/// A break, as its patch file describes it.
struct Break {
    name: String,
    patch: PathBuf,
    /// Layer, break, test and expected words.
    said: [Option<String>; 4],
}

impl Break {
    /// Its row in the table of the page.
    fn row(&self) -> String {
        let [layer, what, test, _] = &self.said;
        let text = |said: &Option<String>| said.clone().unwrap_or_default();
        format!("| {} | {} | `{}` |", text(layer), text(what), text(test))
    }
}

#[test]
fn every_break_says_what_it_breaks_and_what_finds_it() {
    let mut wrong = Vec::new();
    for one in breaks() {
        let [layer, ..] = &one.said;
        if one.said.iter().any(Option::is_none) {
            wrong.push(format!("{}: a line of its head is missing", one.name));
        }
        let layer = layer.as_deref().unwrap_or_default();
        if !LAYERS.contains(&layer) || !one.name.starts_with(layer) {
            wrong.push(format!("{}: its layer is none, or another", one.name));
        }
    }
    report(&wrong);
}

#[test]
fn every_break_still_applies() {
    let mut wrong = Vec::new();
    for one in breaks() {
        let check = Command::new("git")
            .args(["apply", "--check"])
            .arg(&one.patch)
            .current_dir(root())
            .output()
            .unwrap();
        if !check.status.success() {
            let why = String::from_utf8_lossy(&check.stderr);
            wrong.push(format!("{}: {}", one.name, why.trim()));
        }
    }
    report(&wrong);
}

#[test]
fn the_page_lists_every_break_and_no_other() {
    let page = fs::read_to_string(root().join("docs/proof.md")).unwrap();
    let layer_of = |line: &str| line.split('|').nth(1).map(|cell| cell.trim().to_owned());
    let mut listed: Vec<&str> = page
        .lines()
        .filter(|line| layer_of(line).is_some_and(|layer| LAYERS.contains(&&*layer)))
        .collect();
    listed.sort_unstable();
    let mut rows: Vec<_> = breaks().iter().map(Break::row).collect();
    rows.sort_unstable();
    assert_eq!(listed, rows, "tests/proof/run --write brings the page up");
}

fn breaks() -> Vec<Break> {
    let folder = root().join("tests/proof/breaks");
    let mut found: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|item| item.unwrap().path())
        .map(|patch| {
            let text = fs::read_to_string(&patch).unwrap();
            let head: Vec<_> = text.lines().take_while(|line| !line.is_empty()).collect();
            let said = ["Layer: ", "Break: ", "Test: ", "Expect: "].map(|key| {
                let line = head.iter().find_map(|line| line.strip_prefix(key));
                line.map(|value| value.trim().to_owned())
            });
            let name = patch.file_stem().unwrap().to_string_lossy().into_owned();
            Break { name, patch, said }
        })
        .collect();
    found.sort_by(|one, other| one.name.cmp(&other.name));
    assert!(!found.is_empty());
    found
}

fn root() -> PathBuf {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
    tests.parent().unwrap().to_path_buf()
}

fn report(wrong: &[String]) {
    assert!(wrong.is_empty(), "\n{}\n", wrong.join("\n"));
}
