//! What holds by construction: whoever traces cannot name what holds a request, who
//! serves a request names nothing that traces, and what is not sealed cannot be sent.
//!
//! `tidy.rs` holds the graph of crates. But a crate can be named through another one
//! that hands it out again, under another name, or by a macro; so here the sources are
//! read by a real parser, and every path in them is looked at, those of `use` trees
//! over many lines, of attributes and of macros' arguments among them.
//!
//! Each test collects everything that is wrong before it fails.

// All of this file is a test, its helpers too.
#![allow(clippy::unwrap_used)]

mod api;
mod names;

use std::fs;
use std::path::{Path, PathBuf};

use cargo_metadata::{DependencyKind, MetadataCommand};
use syn::visit::{self, Visit};

use api::{Api, Parts};
use names::{Names, segments};

/// All that `observe` takes from outside, and why nothing in it is a way to a request.
/// A crate that is not here is added with its reason, or not at all.
const OBSERVE_TAKES: &[(&str, &str)] = &[
    ("bytes", "finished telemetry on its way into a gRPC message"),
    ("crossbeam-channel", "queues"),
    ("crossbeam-queue", "memory of records that goes round"),
    ("log", "the bridge from other crates' lines"),
    ("parking_lot", "locks around its own tables"),
    ("prometheus-client", "counters"),
    ("rustls", "the collector's certificate"),
    ("rustls-native-certs", "who may vouch for it"),
    ("serde", "the table of requests in flight as JSON"),
    ("serde_json", "lines below info"),
    (
        "tokio",
        "the runtime that gRPC to the collector needs, its own",
    ),
    (
        "tonic",
        "gRPC to the collector, with messages that are bytes already",
    ),
    ("tracing", "lines"),
    ("tracing-log", "the bridge from other crates' lines"),
    ("tracing-subscriber", "where lines go"),
    (
        "ureq",
        "HTTP to the collector, with bodies that are bytes already",
    ),
];

/// Names of crates and modules that lead to types which hold a request or its fields,
/// wherever in a path they stand, so through any re-export. A `*` stands for any rest.
const CARRIES_A_REQUEST: &[&str] = &[
    "http",
    "http_body*",
    "http_types",
    "h2",
    "hyper*",
    "reqwest*",
    "pingora*",
    "opentelemetry_http",
    "codegen",
    "axum*",
    "tower_http",
    "HeaderMap",
    "HeaderName",
    "HeaderValue",
    "MetadataMap",
    "RequestHeader",
    "ResponseHeader",
    "SealedRequest",
    "Outgoing",
];

/// What traces or logs. A macro's arguments are code that runs only when it is on.
const TRACES: &[&str] = &[
    "tracing*",
    "log",
    "opentelemetry*",
    "slog*",
    "prometheus_client",
];

/// Macros that trace, log or print, in case one comes without a path.
const TRACING_MACROS: &[&str] = &[
    "trace",
    "debug",
    "info",
    "warn",
    "error",
    "event",
    "span",
    "trace_span",
    "debug_span",
    "info_span",
    "warn_span",
    "error_span",
    "log",
    "print",
    "println",
    "eprint",
    "eprintln",
    "dbg",
];

/// Attributes that wrap a function into a span, or bring in macros without a path.
const TRACING_ATTRIBUTES: &[&str] = &["instrument", "macro_use"];

/// Where requests are served. `cli` and `tests` speak to people.
const REQUEST_PATH: &[&str] = &[
    "edge/src",
    "upper-tier/src",
    "common/http-cache/src",
    "common/control/src",
    "common/topology/src",
    "common/store/src",
    "common/config/src",
    "common/node/src",
];

#[test]
fn observe_takes_only_what_is_listed() {
    let manifest = root().join("common/observe/Cargo.toml");
    let metadata = MetadataCommand::new()
        .manifest_path(manifest)
        .no_deps()
        .exec()
        .unwrap();
    let packages = metadata.packages.iter();
    let observe = packages.into_iter().find(|one| one.name == "observe");
    let mut wrong = Vec::new();
    let mut taken = Vec::new();
    for dependency in &observe.unwrap().dependencies {
        if dependency.kind == DependencyKind::Development {
            continue;
        }
        let name = dependency.name.as_str();
        taken.push(name.to_owned());
        if !OBSERVE_TAKES.iter().any(|(known, _)| *known == name) {
            wrong.push(format!("observe must not take {name}: it is not listed"));
        }
        if let Some(alias) = &dependency.rename {
            wrong.push(format!("observe calls {name} {alias}: keep its own name"));
        }
    }
    for (known, _) in OBSERVE_TAKES {
        if !taken.iter().any(|name| name == known) {
            wrong.push(format!("observe does not take {known} any more"));
        }
    }
    report(&wrong);
}

#[test]
fn observe_names_nothing_that_carries_a_request_not_even_through_another_crate() {
    let mut wrong = Vec::new();
    for (file, names) in named_in(&["common/observe/src"]) {
        for path in &names.paths {
            if let Some(part) = path.iter().find(|part| matches(CARRIES_A_REQUEST, part)) {
                wrong.push(format!("{file}: {} leads to {part}", path.join("::")));
            }
            // A glob could bring any name in.
            let ours = ["crate", "self", "super", "std"];
            if path.last().is_some_and(|last| last == "*") && !ours.contains(&&*path[0]) {
                wrong.push(format!("{file}: {} hides what it names", path.join("::")));
            }
        }
    }
    report(&wrong);
}

#[test]
fn observe_hands_out_and_takes_in_values_alone() {
    let mut wrong = Vec::new();
    for (file, syntax) in parsed(&["common/observe/src"]) {
        let api = Api::of(&syntax);
        wrong.extend(api.wrong.into_iter().map(|what| format!("{file}: {what}")));
    }
    report(&wrong);
}

#[test]
fn request_path_code_neither_traces_nor_prints_under_any_name() {
    let mut wrong = Vec::new();
    for (file, names) in named_in(REQUEST_PATH) {
        for path in &names.paths {
            if let Some(part) = path.iter().find(|part| matches(TRACES, part)) {
                wrong.push(format!("{file}: {} names {part}", path.join("::")));
            }
        }
        for called in &names.macros {
            if matches(TRACING_MACROS, called) && !file.ends_with("src/main.rs") {
                wrong.push(format!("{file}: {called} traces, logs or prints"));
            }
        }
        for attribute in &names.attributes {
            if matches(TRACING_ATTRIBUTES, attribute) {
                wrong.push(format!("{file}: #[{attribute}] brings tracing in"));
            }
        }
    }
    report(&wrong);
}

#[test]
fn only_what_is_sealed_becomes_a_request_head() {
    // Whoever wants a head has to bring a sealed request, and there is one such place.
    let mut built = Vec::new();
    let mut written = Vec::new();
    for (file, syntax) in parsed(&["common/node/src"]) {
        let mut heads = Heads::default();
        heads.visit_file(&syntax);
        built.extend(
            heads
                .built
                .into_iter()
                .map(|what| format!("{file}: {what}")),
        );
        written.extend(
            heads
                .written
                .into_iter()
                .map(|what| format!("{file}: {what}")),
        );
    }
    let send = "common/node/src/upstream/send.rs";
    assert_eq!(built, [format!("{send}: wire_header(&SealedRequest)")]);
    assert_eq!(written, [format!("{send}: exchange")]);
}

#[test]
fn these_tests_see_what_they_look_for() {
    for (code, want) in [
        ("use tonic::codegen::{\n    http,\n    *,\n};", "http"),
        (
            "use opentelemetry_otlp::x::{y as z, reqwest as r};",
            "reqwest",
        ),
        ("extern crate http as plain;", "http"),
        ("fn f(_: &tonic::metadata::HeaderMap) {}", "HeaderMap"),
        ("fn f() { x!(a, crate::http::y(1)); }", "http"),
        ("#[pingora_core::on] fn f() {}", "pingora_core"),
    ] {
        let names = Names::of(&syn::parse_str(code).unwrap());
        let found = names.paths.iter().flatten().any(|part| part == want);
        assert!(found, "{want} in {code}: {:?}", names.paths);
        assert!(matches(CARRIES_A_REQUEST, want), "{want}");
    }
    for code in [
        "fn f() { info!(\"x\"); }",
        "fn f() { a!(b, warn!(\"x\")); }",
    ] {
        let names = Names::of(&syn::parse_str(code).unwrap());
        let found = names.macros.iter().any(|one| matches(TRACING_MACROS, one));
        assert!(found, "{code}");
    }
    let names = Names::of(&syn::parse_str("#[x::instrument(skip(a))] fn f() {}").unwrap());
    assert_eq!(names.attributes, ["instrument"]);
    for code in [
        "use http::HeaderMap; pub fn f(_: HeaderMap) {}",
        "pub struct S { pub a: tonic::Status }",
        "impl S { pub fn f(&self, _: &mut String) {} }",
        "impl S { pub fn f(&self, _: impl Fn(u8)) {} }",
        "pub fn f() -> Box<dyn Send> { x() }",
        "pub struct S { pub a: std::sync::Arc<std::sync::Mutex<u8>> }",
    ] {
        let syntax = syn::parse_str(code).unwrap();
        let api = Api::of(&syntax);
        assert!(!api.wrong.is_empty(), "{code}");
    }
    let files: Vec<_> = parsed(REQUEST_PATH)
        .into_iter()
        .map(|(file, _)| file)
        .collect();
    for expected in ["edge/src/main.rs", "common/node/src/pass/way.rs"] {
        assert!(files.iter().any(|file| file == expected), "{expected}");
    }
}

/// Where pingora's request heads come from, and where they go.
#[derive(Default)]
struct Heads {
    function: String,
    built: Vec<String>,
    written: Vec<String>,
}

impl<'ast> Visit<'ast> for Heads {
    fn visit_signature(&mut self, signature: &'ast syn::Signature) {
        let mut takes = Vec::new();
        for input in &signature.inputs {
            let mut parts = Parts::default();
            parts.visit_fn_arg(input);
            takes.extend(parts.types.into_iter().map(|(_, last)| format!("&{last}")));
        }
        self.function = format!("{}({})", signature.ident, takes.join(", "));
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let names = segments(path);
        if names.len() > 1 && names[names.len() - 2] == "RequestHeader" {
            self.built.push(self.function.clone());
        }
        visit::visit_path(self, path);
    }

    fn visit_expr_method_call(&mut self, call: &'ast syn::ExprMethodCall) {
        if call.method == "write_request_header" {
            let name = self.function.split('(').next().unwrap_or_default();
            self.written.push(name.to_owned());
        }
        visit::visit_expr_method_call(self, call);
    }
}

fn named_in(folders: &[&str]) -> Vec<(String, Names)> {
    let files = parsed(folders).into_iter();
    files
        .map(|(file, syntax)| (file, Names::of(&syntax)))
        .collect()
}

/// Every source in these folders, by its path from the root.
fn parsed(folders: &[&str]) -> Vec<(String, syn::File)> {
    let mut found = Vec::new();
    let mut waiting: Vec<PathBuf> = folders.iter().map(|folder| root().join(folder)).collect();
    while let Some(folder) = waiting.pop() {
        for item in fs::read_dir(&folder).unwrap() {
            let path = item.unwrap().path();
            if path.is_dir() {
                waiting.push(path);
            } else if path.extension().is_some_and(|end| end == "rs") {
                let text = fs::read_to_string(&path).unwrap();
                let shown = path.strip_prefix(root()).unwrap().display().to_string();
                let syntax = syn::parse_file(&text);
                found.push((
                    shown.clone(),
                    syntax.unwrap_or_else(|e| panic!("{shown}: {e}")),
                ));
            }
        }
    }
    found.sort_by(|one, other| one.0.cmp(&other.0));
    found
}

fn matches(patterns: &[&str], name: &str) -> bool {
    patterns
        .iter()
        .any(|pattern| match pattern.strip_suffix('*') {
            Some(start) => name.starts_with(start),
            None => name == *pattern,
        })
}

fn root() -> PathBuf {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
    tests.parent().unwrap().to_path_buf()
}

fn report(wrong: &[String]) {
    assert!(wrong.is_empty(), "\n{}\n", wrong.join("\n"));
}
