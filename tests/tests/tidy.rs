//! House rules, held as ordinary tests.
//!
//! The first half looks at the graph of crates, as `cargo metadata` tells it: who
//! may depend on whom, and on what from outside. The most important row is that of
//! `observe`: it knows none of the types that hold a request's fields, so tracing
//! cannot touch a request.
//!
//! The second half reads our sources line by line. It is a plain search for words,
//! which a determined author could trick; it is there for the undetermined. What must
//! hold in any case is read by a parser, in the tests of `construction`.
//!
//! Each test collects everything that is wrong before it fails.

// All of this file is a test, its helpers too.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use cargo_metadata::{DependencyKind, Metadata, MetadataCommand, Package};

/// Which of our crates may name which: nothing points back up, and siblings do not
/// know each other.
const EDGES: &[(&str, &[&str])] = &[
    ("edge", &["config", "node"]),
    ("upper-tier", &["config", "node"]),
    ("headwater", &["config", "control", "node"]),
    (
        "node",
        &[
            "config",
            "control",
            "http-cache",
            "observe",
            "store",
            "topology",
        ],
    ),
    ("store", &["http-cache"]),
    ("http-cache", &[]),
    ("control", &[]),
    ("topology", &[]),
    ("config", &[]),
    ("observe", &[]),
    ("model", &["control", "topology"]),
    ("scale", &["topology"]),
    ("tests", &["config", "control", "http-cache", "node"]),
];

/// Crates from outside that one of ours must not name among its direct dependencies,
/// and why. A `*` at the end stands for any rest.
const FORBIDDEN: &[(&[&str], &[&str], &str)] = &[
    (
        &["http-cache", "control", "topology"],
        &["tokio*", "pingora*", "log"],
        "decisions are plain functions: waiting and sockets live outside them",
    ),
    (
        &["observe"],
        &["http", "http-body*", "hyper*", "pingora*", "reqwest"],
        "what traces cannot name the types that hold a request's fields",
    ),
];

/// Crates from outside that only some of ours may name, and why.
const RESERVED: &[(&[&str], &[&str], &str)] = &[
    (
        &["tracing*", "opentelemetry*", "prometheus-client", "log"],
        &["observe"],
        "a macro's arguments are code that runs only when tracing is on",
    ),
    (
        &["pingora*"],
        &["node"],
        "one crate knows the proxy, so that one crate can follow it",
    ),
    (
        &["moka"],
        &["store"],
        "where objects live is the store's business",
    ),
];

/// What tests may name although it is reserved: an independent receiver of spans.
const TEST_ONLY: &[&str] = &["opentelemetry-proto"];

/// A longer file probably holds two ideas. Files that may be longer, each with its
/// reason.
const LINES_MAX: usize = 600;
const LONG_FILES: &[(&str, &str)] = &[];

#[test]
fn crates_name_only_whom_they_may() {
    let metadata = workspace();
    let ours: BTreeSet<&str> = EDGES.iter().map(|(name, _)| *name).collect();
    let mut wrong = Vec::new();
    for package in metadata.workspace_packages() {
        let Some((_, allowed)) = EDGES.iter().find(|(name, _)| package.name == *name) else {
            wrong.push(format!("{} is not in the table of edges", package.name));
            continue;
        };
        for dependency in &package.dependencies {
            let name = dependency.name.as_str();
            if ours.contains(name) && !allowed.contains(&name) {
                wrong.push(format!("{} must not know {name}", package.name));
            }
        }
    }
    let members: BTreeSet<&str> = metadata
        .workspace_packages()
        .iter()
        .map(|package| package.name.as_str())
        .collect();
    let gone = ours.difference(&members);
    wrong.extend(gone.map(|name| format!("{name} is in the table of edges, but no member")));
    report(&wrong);
}

#[test]
fn crates_keep_away_from_what_is_not_theirs() {
    let metadata = workspace();
    let mut wrong = Vec::new();
    for package in metadata.workspace_packages() {
        for (name, test_only) in direct(package) {
            for (crates, externals, why) in FORBIDDEN {
                if crates.contains(&package.name.as_str()) && any_matches(externals, name) {
                    wrong.push(format!("{} must not name {name}: {why}", package.name));
                }
            }
            for (externals, owners, why) in RESERVED {
                let excused = test_only && TEST_ONLY.contains(&name);
                if any_matches(externals, name)
                    && !owners.contains(&package.name.as_str())
                    && !excused
                {
                    wrong.push(format!("{} must not name {name}: {why}", package.name));
                }
            }
        }
    }
    report(&wrong);
}

#[test]
fn members_inherit_version_and_lints() {
    let mut wrong = Vec::new();
    for package in workspace().workspace_packages() {
        let manifest = read(package.manifest_path.as_std_path());
        for line in [
            "version.workspace = true",
            "edition.workspace = true",
            "license.workspace = true",
            "publish.workspace = true",
            "[lints]\nworkspace = true",
        ] {
            if !manifest.contains(&format!("\n{line}\n")) {
                wrong.push(format!("{}: no {line:?}", package.manifest_path));
            }
        }
    }
    report(&wrong);
}

#[test]
fn every_licence_is_one_that_deny_toml_allows() {
    let allowed = allowed_licences();
    assert!(
        allowed.contains("Apache-2.0"),
        "deny.toml was not understood"
    );
    let metadata = everything();
    let mut needed = BTreeSet::new();
    let mut wrong = Vec::new();
    for package in &metadata.packages {
        let expression = package.license.as_deref().unwrap_or("none");
        match licence_used(expression, &allowed) {
            Some(used) => needed.extend(used),
            None => wrong.push(format!(
                "{} {}: {expression}",
                package.name, package.version
            )),
        }
    }
    let idle = allowed.difference(&needed);
    wrong.extend(idle.map(|licence| format!("deny.toml allows {licence}, which nothing needs")));
    report(&wrong);
}

#[test]
fn request_path_code_neither_traces_nor_prints() {
    search(
        |file| {
            let main = file.ends_with("src/main.rs");
            !main && !under(file, &["common/observe", "cli", "tests"])
        },
        &[
            "tracing::",
            "log::",
            "println!",
            "eprintln!",
            "print!",
            "eprint!",
            "dbg!",
        ],
        "request-path crates call typed functions of `observe`",
    );
}

#[test]
fn observe_cannot_name_what_holds_a_request() {
    search(
        |file| under(file, &["common/observe/src"]),
        &[
            "http::",
            "hyper::",
            "pingora",
            "pingora_http",
            "pingora_core",
            "reqwest",
            "HeaderMap",
            "HeaderName",
            "HeaderValue",
            "RequestHeader",
            "ResponseHeader",
        ],
        "what traces cannot name the types that hold a request's fields",
    );
}

#[test]
fn only_clock_rs_reads_a_clock() {
    search(
        |file| file.file_name().is_none_or(|name| name != "clock.rs"),
        &[
            "SystemTime::now",
            "Instant::now",
            "Utc::now",
            "clippy::disallowed_methods",
        ],
        "time enters through clock.rs; everything else takes it as an argument",
    );
}

#[test]
fn scenarios_wait_for_conditions() {
    search(
        |file| under(file, &["tests/tests"]),
        &["sleep", "sleep_until"],
        "order comes from barriers and awaited conditions",
    );
}

#[test]
fn nothing_is_left_for_later() {
    let mut wrong = Vec::new();
    for file in sources() {
        // Comments are what this is about, so every line counts.
        for (number, line) in read(&file).lines().enumerate() {
            for word in ["TODO", "FIXME", "XXX", "HACK"] {
                if names(line, word) {
                    wrong.push(format!("{}:{}: {word}", shown(&file), number + 1));
                }
            }
        }
    }
    report(&wrong);
}

#[test]
fn no_file_holds_two_ideas() {
    let mut wrong = Vec::new();
    for file in sources().into_iter().chain([this_file()]) {
        let lines = read(&file).lines().count();
        let excused = LONG_FILES.iter().any(|(name, _)| *name == shown(&file));
        match (lines > LINES_MAX, excused) {
            (true, false) => wrong.push(format!("{}: {lines} lines", shown(&file))),
            (false, true) => wrong.push(format!("{} needs no excuse", shown(&file))),
            _ => {}
        }
    }
    report(&wrong);
}

#[test]
fn these_tests_see_what_they_look_for() {
    for (line, word, want) in [
        ("    tracing::info!(x);", "tracing::", true),
        ("use ::log::info;", "log::", true),
        ("catalog::find()", "log::", false),
        ("access_log::open()", "log::", false),
        ("eprintln!(\"\")", "println!", false),
        ("std::thread::sleep(x)", "sleep", true),
        ("use tokio::time::{sleep, timeout};", "sleep", true),
        ("fn nobody_sleeps()", "sleep", false),
        ("// TODO: more", "TODO", true),
    ] {
        assert_eq!(names(line, word), want, "{word} in {line}");
    }
    for (pattern, name, want) in [
        ("http", "http", true),
        ("http", "http-cache", false),
        ("pingora*", "pingora-core", true),
        ("tokio*", "tokio", true),
    ] {
        assert_eq!(any_matches(&[pattern], name), want, "{pattern}, {name}");
    }
    let allowed = ["A", "B"].into_iter().map(String::from).collect();
    for (expression, want) in [
        ("A", Some(vec!["A"])),
        ("C", None),
        ("C OR A", Some(vec!["A"])),
        ("C/B", Some(vec!["B"])),
        ("A AND B", Some(vec!["A", "B"])),
        ("A AND C", None),
        ("(A OR C) AND B", Some(vec!["A", "B"])),
        ("(A OR B) AND C", None),
        ("C WITH exception OR B", Some(vec!["B"])),
        ("A WITH exception", None),
    ] {
        let used = licence_used(expression, &allowed);
        let used = used.map(|used| used.into_iter().collect::<Vec<_>>());
        assert_eq!(
            used,
            want.map(|w| w.into_iter().map(String::from).collect())
        );
    }
    let files: BTreeSet<String> = sources().iter().map(|file| shown(file)).collect();
    for expected in ["edge/src/main.rs", "common/topology/src/lib.rs"] {
        assert!(files.contains(expected), "{expected} was not found");
    }
}

/// The members alone, as their manifests say.
fn workspace() -> Metadata {
    metadata(MetadataCommand::new().no_deps())
}

/// Everything that is built on this kind of machine.
fn everything() -> Metadata {
    let rustc = Command::new("rustc").arg("-vV").output();
    let version = String::from_utf8(rustc.unwrap().stdout).unwrap();
    let host = version.lines().find_map(|line| line.strip_prefix("host: "));
    // Without the filter cargo would ask the network for crates of other systems.
    let filter = ["--filter-platform".into(), host.unwrap().into()];
    metadata(MetadataCommand::new().other_options(filter))
}

fn metadata(command: &mut MetadataCommand) -> Metadata {
    let manifest = root().join("Cargo.toml");
    command.manifest_path(manifest).exec().unwrap()
}

/// A package's direct dependencies, and whether each serves tests alone.
fn direct(package: &Package) -> impl Iterator<Item = (&str, bool)> {
    let dependencies = package.dependencies.iter();
    dependencies.map(|dependency| {
        let test_only = dependency.kind == DependencyKind::Development;
        (dependency.name.as_str(), test_only)
    })
}

fn any_matches(patterns: &[&str], name: &str) -> bool {
    patterns
        .iter()
        .any(|pattern| match pattern.strip_suffix('*') {
            Some(start) => name.starts_with(start),
            None => name == *pattern,
        })
}

/// The identifiers in the `allow` list of deny.toml, one a line.
fn allowed_licences() -> BTreeSet<String> {
    let text = read(&root().join("deny.toml"));
    let list = text.split("allow = [").nth(1).unwrap_or_default();
    let list = list.split(']').next().unwrap_or_default();
    let quoted = list.lines().filter_map(|line| line.split('"').nth(1));
    quoted.map(String::from).collect()
}

/// The allowed licences by which a crate may be used, None if there is no such way.
/// `OR` binds weaker than `AND` (SPDX annex D); a slash is an old `OR`.
fn licence_used(expression: &str, allowed: &BTreeSet<String>) -> Option<BTreeSet<String>> {
    let expression = expression.replace('/', " OR ").replace(" WITH ", "-with-");
    let spaced = expression.replace('(', " ( ").replace(')', " ) ");
    let mut words = spaced.split_whitespace().peekable();
    any_of(&mut words, allowed)
}

type Words<'a> = std::iter::Peekable<std::str::SplitWhitespace<'a>>;

fn any_of(words: &mut Words<'_>, allowed: &BTreeSet<String>) -> Option<BTreeSet<String>> {
    let mut used = all_of(words, allowed);
    while words.next_if_eq(&"OR").is_some() {
        let other = all_of(words, allowed);
        used = used.or(other);
    }
    used
}

fn all_of(words: &mut Words<'_>, allowed: &BTreeSet<String>) -> Option<BTreeSet<String>> {
    let mut used = one(words, allowed);
    while words.next_if_eq(&"AND").is_some() {
        let other = one(words, allowed);
        used = used.zip(other).map(|(mut used, other)| {
            used.extend(other);
            used
        });
    }
    used
}

fn one(words: &mut Words<'_>, allowed: &BTreeSet<String>) -> Option<BTreeSet<String>> {
    let word = words.next()?;
    if word == "(" {
        let used = any_of(words, allowed);
        words.next_if_eq(&")");
        return used;
    }
    allowed.get(word).map(|name| BTreeSet::from([name.clone()]))
}

/// Fails where a code line of a chosen file names one of the words. Comments may.
fn search(chosen: impl Fn(&Path) -> bool, words: &[&str], why: &str) {
    let mut wrong = Vec::new();
    let root = root();
    for file in sources() {
        let relative = file.strip_prefix(&root).unwrap_or(&file);
        if !chosen(relative) {
            continue;
        }
        let text = read(&file);
        let code = text.lines().enumerate();
        for (number, line) in code.filter(|(_, line)| !line.trim_start().starts_with("//")) {
            for word in words.iter().filter(|word| names(line, word)) {
                let place = format!("{}:{}", shown(&file), number + 1);
                wrong.push(format!("{place}: {word} ({why})"));
            }
        }
    }
    report(&wrong);
}

/// Whether the word stands in the line, not as a part of a longer one.
fn names(line: &str, word: &str) -> bool {
    let in_word = |c: char| c.is_alphanumeric() || c == '_';
    line.match_indices(word).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        let after = line[at + word.len()..].chars().next();
        let ends_open = !word.ends_with(in_word);
        !before.is_some_and(in_word) && (ends_open || !after.is_some_and(in_word))
    })
}

/// Every source file of the workspace but this one, which names all that it forbids.
fn sources() -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders: Vec<PathBuf> = ["edge", "upper-tier", "cli", "common", "tests"]
        .iter()
        .map(|folder| root().join(folder))
        .collect();
    while let Some(folder) = folders.pop() {
        for item in fs::read_dir(&folder).unwrap() {
            let path = item.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|end| end == "rs") && path != this_file() {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

fn root() -> PathBuf {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
    tests.parent().unwrap().to_path_buf()
}

fn this_file() -> PathBuf {
    root().join("tests/tests/tidy.rs")
}

fn under(file: &Path, folders: &[&str]) -> bool {
    folders.iter().any(|folder| file.starts_with(folder))
}

fn shown(file: &Path) -> String {
    let relative = file.strip_prefix(root()).unwrap_or(file);
    relative.display().to_string()
}

fn read(file: &Path) -> String {
    fs::read_to_string(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()))
}

fn report(wrong: &[String]) {
    assert!(wrong.is_empty(), "\n{}\n", wrong.join("\n"));
}
