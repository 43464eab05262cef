//! What visitors and operators do, one step after the other.
//!
//! A workload is drawn by proptest. One is kept in `recorded.jsonl`, a step a line, so
//! that every run of the test means the same; `cargo test -p tests --test interference
//! -- --ignored` draws it anew from its seed.

use proptest::collection::vec;
use proptest::prelude::*;
use serde::{Deserialize, Serialize};

/// One thing that somebody does.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Step {
    /// How far time has moved since the step before.
    pub(crate) later_ms: u64,
    /// At which edge, counted from 1.
    pub(crate) edge: usize,
    pub(crate) act: Act,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Act {
    /// A visitor asks.
    Ask(Asked),
    /// A visitor asks for what nobody has, and while the origin takes its time
    /// another one asks for the same, at this edge or at the other one.
    Together { over_both_edges: bool },
    /// A visitor upgrades a connection and talks over it.
    Upgrade,
    /// An operator purges a path from every node, the edges first.
    Purge { target: String, soft: bool },
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Asked {
    pub(crate) door: Door,
    pub(crate) method: String,
    pub(crate) host: String,
    pub(crate) target: String,
    pub(crate) fields: Vec<(String, String)>,
    pub(crate) sent: Sent,
}

/// How a visitor speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Door {
    Http10,
    Http11,
    Http2,
}

/// How a request's body is sent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Sent {
    Nothing,
    Whole(String),
    Chunks(String, String),
    Trailer(String),
}

/// Kinds of content that the origin has (`site.rs`), as often as they are drawn.
const KINDS: [(u32, &str); 24] = [
    (6, "fresh"),
    (8, "short"),
    (5, "swr"),
    (5, "sie"),
    (5, "vary"),
    (4, "coded"),
    (3, "private"),
    (2, "no-store"),
    (2, "no-cache"),
    (3, "plain"),
    (3, "chunked"),
    (1, "until-close"),
    (2, "large"),
    (3, "error"),
    (3, "missing"),
    (2, "moved"),
    (1, "garbage"),
    (3, "interim"),
    (3, "group"),
    (2, "trailer"),
    (1, "broken"),
    (2, "fields"),
    (2, "credentials"),
    (2, "coming"),
];

/// The second site fetches ranges in slices and takes a visitor's word on traces.
const HOSTS: [(u32, &str); 3] = [
    (12, "shop.example"),
    (3, "slices.example"),
    (1, "nobody.example"),
];

/// A range beyond the end of everything.
const NOWHERE: &str = "bytes=90000000-";

/// What a visitor may add to a GET.
const FIELDS: [(&str, &str); 38] = [
    ("Range", "bytes=0-3"),
    ("Range", "bytes=5-"),
    ("Range", "bytes=-4"),
    ("Range", "bytes=0-0,6-9"),
    ("Range", NOWHERE),
    ("If-Range", "\"whole\""),
    ("If-None-Match", "*"),
    ("If-None-Match", "\"whole\""),
    ("If-None-Match", "W/\"whole\", \"other\""),
    ("If-Match", "\"other\""),
    ("If-Modified-Since", "Sun, 01 Jan 2040 00:00:00 GMT"),
    ("If-Unmodified-Since", "Fri, 01 Jan 2010 00:00:00 GMT"),
    ("Accept-Language", "de"),
    ("Accept-Language", "en;q=0.8, de"),
    ("Accept-Language", "fr"),
    ("Accept-Encoding", "gzip"),
    ("Accept-Encoding", "br, gzip;q=0.5"),
    ("Accept-Encoding", "gzip;q=0"),
    ("Cache-Control", "no-cache"),
    ("Cache-Control", "max-age=0"),
    ("Cache-Control", "max-age=5"),
    ("Cache-Control", "only-if-cached"),
    ("Cache-Control", "max-stale=100"),
    ("Cache-Control", "min-fresh=15"),
    ("Cache-Control", "no-store"),
    ("Pragma", "no-cache"),
    ("Cookie", "lang=de; session=7"),
    ("Cookie", "session=7"),
    ("Authorization", "Basic dmlzaXRvcjpzZWNyZXQ="),
    (
        "traceparent",
        "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    ),
    (
        "traceparent",
        "00-1af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00",
    ),
    ("traceparent", "no-trace"),
    ("tracestate", "vendor=one, other=two"),
    ("X-Forwarded-For", "192.0.2.66"),
    ("Tier-Control", "v=1, site=\"shop\""),
    ("Forwarded", "for=192.0.2.66"),
    ("X-Own", "one"),
    ("User-Agent", "a visitor"),
];

/// The workload that is recorded, or one of any length.
pub(crate) fn steps(count: impl Into<proptest::collection::SizeRange>) -> BoxedStrategy<Vec<Step>> {
    vec(step(), count).boxed()
}

fn step() -> impl Strategy<Value = Step> {
    // Most things follow each other at once; now and then something expires.
    let later_ms = prop_oneof![
        12 => 3_u64..400,
        3 => 2_000_u64..9_000,
        1 => 15_000_u64..90_000,
    ];
    let act = prop_oneof![
        60 => asked().prop_map(Act::Ask),
        2 => any::<bool>().prop_map(|over_both_edges| Act::Together { over_both_edges }),
        2 => Just(Act::Upgrade),
        3 => (target(), any::<bool>()).prop_map(|(target, soft)| Act::Purge { target, soft }),
    ];
    (later_ms, 1_usize..=2, act).prop_map(|(later_ms, edge, act)| Step {
        later_ms,
        edge,
        act,
    })
}

fn one_of<const N: usize>(words: [(u32, &'static str); N]) -> impl Strategy<Value = String> {
    let words = words.map(|(weight, word)| (weight, Just(word.to_owned())));
    proptest::strategy::Union::new_weighted(words.to_vec())
}

/// Few of a kind, so that most are asked for again.
fn target() -> impl Strategy<Value = String> {
    let query = prop_oneof![6 => Just(""), 1 => Just("?b=2&a=1"), 1 => Just("?a=1&utm_x=3")];
    (one_of(KINDS), 0..2, query)
        .prop_map(|(kind, number, query)| format!("/{kind}/{number}{query}"))
}

fn asked() -> impl Strategy<Value = Asked> {
    let how = prop_oneof![
        20 => look(),
        3 => change(),
        1 => about(),
    ];
    (one_of(HOSTS), target(), how).prop_map(|(host, target, mut asked)| {
        // What no connection survives is asked for plainly: whether one is tried again
        // would otherwise hang on whether it was new.
        if target.starts_with("/garbage") && asked.method != "GET" {
            asked.method = "GET".to_owned();
            asked.sent = Sent::Nothing;
        }
        // How much of a broken answer is seen over HTTP/2 before the reset is no more
        // determined than whether a slice that lies nowhere is asked for in time.
        if target.starts_with("/broken") && asked.door == Door::Http2 {
            asked.door = Door::Http11;
        }
        if host == "slices.example" {
            asked.fields.retain(|(_, value)| value != NOWHERE);
        }
        asked.host = host;
        if asked.target.is_empty() {
            asked.target = target;
        }
        if asked.target.starts_with("/coded") && asked.fields.is_empty() {
            asked.fields = owned(&[("Accept-Encoding", "gzip")]);
        }
        asked
    })
}

fn plain(door: Door, method: &str) -> Asked {
    Asked {
        door,
        method: method.to_owned(),
        host: String::new(),
        target: String::new(),
        fields: Vec::new(),
        sent: Sent::Nothing,
    }
}

/// GET and HEAD, with whatever may stand in them.
fn look() -> impl Strategy<Value = Asked> {
    let door = prop_oneof![
        10 => Just(Door::Http11),
        1 => Just(Door::Http10),
        3 => Just(Door::Http2),
    ];
    let method = one_of([(8, "GET"), (1, "HEAD")]);
    let fields = prop_oneof![
        4 => Just(Vec::new()),
        4 => vec(proptest::sample::select(FIELDS.to_vec()), 1..3),
    ];
    (door, method, fields).prop_map(|(door, method, fields)| Asked {
        fields: owned(&fields),
        ..plain(door, &method)
    })
}

/// Methods that change something.
fn change() -> impl Strategy<Value = Asked> {
    let door = prop_oneof![4 => Just(Door::Http11), 1 => Just(Door::Http2)];
    let method = one_of([(4, "POST"), (2, "PUT"), (1, "PATCH"), (1, "DELETE")]);
    let words = "[a-z ]{1,40}";
    let sent = prop_oneof![
        1 => Just(Sent::Nothing),
        3 => words.prop_map(Sent::Whole),
        2 => (words, words).prop_map(|(one, two)| Sent::Chunks(one, two)),
        1 => words.prop_map(Sent::Trailer),
    ];
    (door, method, sent).prop_map(|(door, method, mut sent)| {
        if door == Door::Http2
            && let Sent::Trailer(words) = sent
        {
            sent = Sent::Whole(words);
        }
        let mut asked = plain(door, &method);
        asked.fields = owned(&[("Content-Type", "text/plain")]);
        asked.sent = sent;
        asked
    })
}

/// Questions about the server or the way to it.
fn about() -> impl Strategy<Value = Asked> {
    let method = one_of([(2, "OPTIONS"), (1, "TRACE")]);
    let stops = proptest::sample::select(vec![None, Some("0"), Some("3")]);
    (method, stops, any::<bool>()).prop_map(|(method, stops, of_server)| {
        let mut asked = plain(Door::Http11, &method);
        if of_server && method == "OPTIONS" {
            asked.target = "*".to_owned();
        }
        if let Some(stops) = stops {
            asked.fields = owned(&[("Max-Forwards", stops)]);
        }
        asked
    })
}

fn owned(fields: &[(&str, &str)]) -> Vec<(String, String)> {
    let own = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    fields.iter().map(own).collect()
}
