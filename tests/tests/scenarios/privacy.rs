//! What is one visitor's reaches no other, whatever else the response says.
//!
//! Stories are drawn at random, the same ones in every run: a response that is marked
//! as somebody's, among fields that would like to have it cached, and visitors with
//! cookies of their own who ask two edges for it, one after the other or at once. The
//! origin numbers its answers, so who has seen a number that was another's was shown
//! what was not theirs.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};

use proptest::prelude::*;
use proptest::sample::{select, subsequence};
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use tests::{Ask, Origin, Recorded, Reply, Response, Topology, ask, get};

/// Some seconds' worth.
const STORIES: u32 = 60;

/// What makes a whole response somebody's. `{}` is where the number goes.
const MARKS: [(&str, &str); 8] = [
    ("Cache-Control", "private"),
    ("Cache-Control", "no-store"),
    ("Cache-Control", "Private, No-Store"),
    ("Cache-Control", "private=\"\""),
    ("Cache-Control", "private=\"not a name\""),
    ("CDN-Cache-Control", "private, max-age=3600"),
    ("CDN-Cache-Control", "no-store"),
    ("Set-Cookie", "session={}"),
];

/// What makes one field somebody's.
const WITHHELD: [(&str, &str); 2] = [
    ("Cache-Control", "private=\"x-mine\""),
    ("Cache-Control", "no-cache=\"x-other, X-Mine\""),
];

/// What would like to have it cached.
const WISHES: [(&str, &str); 14] = [
    ("Cache-Control", "max-age=3600"),
    ("Cache-Control", "s-maxage=3600"),
    ("Cache-Control", "public"),
    ("Cache-Control", "public, s-maxage=60, immutable"),
    ("Cache-Control", "must-revalidate"),
    (
        "Cache-Control",
        "stale-while-revalidate=600, stale-if-error=600",
    ),
    ("Cache-Control", "private=\"x-other\""),
    ("Expires", "Fri, 31 Dec 2100 10:00:00 GMT"),
    ("Last-Modified", "Tue, 01 Oct 2024 10:00:00 GMT"),
    ("ETag", "\"v\""),
    ("Age", "120"),
    ("Vary", "Accept-Encoding"),
    ("Vary", "Cookie"),
    ("Pragma", "public"),
];

/// What a visitor adds to a request.
const ADDITIONS: [(&str, &str); 9] = [
    ("Accept", "*/*"),
    ("Accept-Encoding", "gzip"),
    ("Cache-Control", "max-stale"),
    ("Cache-Control", "no-cache"),
    ("Cache-Control", "only-if-cached"),
    ("If-None-Match", "\"v\""),
    ("Range", "bytes=0-1"),
    ("Authorization", "Basic eDp5"),
    ("Connection", "cookie"),
];

/// One visit; a visitor is a number.
#[derive(Clone, Debug)]
struct Visit {
    visitor: usize,
    edge: usize,
    method: &'static str,
    adds: (&'static str, &'static str),
}

/// A response that is somebody's, and who asks for it.
#[derive(Clone, Debug)]
struct Story {
    status: u16,
    lines: Vec<(&'static str, &'static str)>,
    /// Only `X-Mine` is somebody's, not the whole response.
    withheld: bool,
    chunked: bool,
    /// All but the first answer of the origin are 503.
    fails: bool,
    visits: Vec<Visit>,
    at_once: bool,
}

fn visit() -> impl Strategy<Value = Visit> {
    let methods = select(vec!["GET", "GET", "GET", "GET", "HEAD"]);
    (0..3_usize, 1..=2_usize, methods, select(&ADDITIONS[..])).prop_map(
        |(visitor, edge, method, adds)| Visit {
            visitor,
            edge,
            method,
            adds,
        },
    )
}

fn story() -> impl Strategy<Value = Story> {
    let marks = prop_oneof![
        4 => select(&MARKS[..]).prop_map(|mark| (mark, false)),
        1 => select(&WITHHELD[..]).prop_map(|mark| (mark, true)),
    ];
    let lines = (marks, subsequence(&WISHES[..], 0..6), any::<bool>());
    let lines = lines.prop_map(|((mark, withheld), mut lines, first)| {
        let at = if first { 0 } else { lines.len() };
        lines.insert(at, mark);
        (lines, withheld)
    });
    let statuses = select(vec![200, 200, 200, 404, 301, 500]);
    let visits = prop::collection::vec(visit(), 3..7);
    let flags = (any::<bool>(), any::<bool>(), any::<bool>());
    (lines, statuses, visits, flags).prop_map(|(lines, status, visits, flags)| Story {
        status,
        lines: lines.0,
        withheld: lines.1,
        chunked: flags.0,
        fails: flags.1,
        visits,
        at_once: flags.2,
    })
}

impl Story {
    /// The origin's answer with that number.
    fn reply(&self, asked: &Recorded, number: u64) -> Reply {
        let text = number.to_string();
        let status = if self.fails && !number.is_multiple_of(100) {
            503
        } else {
            self.status
        };
        let mut reply = Reply::new(status)
            .body(format!("number {text}"))
            .with("X-Number", &text)
            .with("X-Mine", &text);
        for (name, value) in &self.lines {
            reply = reply.with(name, &value.replace("{}", &text));
        }
        if asked.says("if-none-match") == "\"v\"" && self.lines.contains(&("ETag", "\"v\"")) {
            return reply.unless_known(asked, "\"v\"");
        }
        if self.chunked { reply.chunked() } else { reply }
    }

    /// What a visitor saw of the answers' numbers, where that is somebody's.
    fn seen(&self, response: &Response) -> Vec<String> {
        if self.withheld {
            return response.field("X-Mine").into_iter().collect();
        }
        let body = response.text();
        let in_body = body.strip_prefix("number ").map(str::to_owned);
        let fields = ["X-Number", "X-Mine"].map(|name| response.field(name));
        fields.into_iter().flatten().chain(in_body).collect()
    }
}

impl Visit {
    fn ask(&self, path: &str) -> Ask {
        let plain = match self.method {
            "GET" => get(path),
            method => ask(method, path),
        };
        plain
            .with("Cookie", &format!("who={}", self.visitor))
            .with(self.adds.0, self.adds.1)
    }
}

/// What each visit of a story was answered with.
async fn tell(story: &Story, topology: &Topology, path: &str) -> Vec<Response> {
    let mut answers = Vec::new();
    if !story.at_once {
        for visit in &story.visits {
            answers.push(topology.edge(visit.edge).ask(&visit.ask(path)).await);
        }
        return answers;
    }
    let mut clients = Vec::new();
    for visit in &story.visits {
        let mut client = topology.edge(visit.edge).client().await;
        client.send(visit.ask(path).bytes()).await;
        clients.push((client, visit));
    }
    for (client, visit) in &mut clients {
        answers.push(client.response_to(visit.method).await);
    }
    answers
}

#[test]
fn what_is_one_visitors_reaches_no_other() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .unwrap();
    let (origin, topology) = runtime.block_on(async {
        let origin = Origin::start().await;
        let topology = Topology::new(&origin).edges(2).start().await;
        (origin, topology)
    });
    let config = Config {
        cases: STORIES,
        failure_persistence: None,
        max_shrink_iters: 60,
        ..Config::default()
    };
    let rng = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    let told = AtomicU64::new(0);
    let kept = TestRunner::new_with_rng(config, rng).run(&story(), |story| {
        // Each story has a path, and a hundred numbers.
        let number = told.fetch_add(1, Ordering::Relaxed) * 100;
        let path = format!("/{number}");
        let (numbers, script) = (AtomicU64::new(number), story.clone());
        origin.on(&path, move |asked| {
            script.reply(asked, numbers.fetch_add(1, Ordering::Relaxed))
        });
        let answers = runtime.block_on(tell(&story, &topology, &path));
        let mut whose = HashMap::new();
        for (visit, answer) in story.visits.iter().zip(&answers) {
            for number in story.seen(answer) {
                let owner = *whose.entry(number.clone()).or_insert(visit.visitor);
                prop_assert_eq!(
                    owner,
                    visit.visitor,
                    "{} was another's: {:?}",
                    number,
                    answers
                );
            }
        }
        Ok(())
    });
    kept.unwrap_or_else(|why| panic!("{why}"));
    runtime.block_on(topology.finish());
}

#[test]
fn stories_see_what_they_look_for() {
    let story = Story {
        status: 200,
        lines: vec![MARKS[7]],
        withheld: false,
        chunked: false,
        fails: false,
        visits: Vec::new(),
        at_once: false,
    };
    let answer = Response {
        body: "number 7".into(),
        fields: vec![("X-Mine".to_owned(), "8".to_owned())],
        ..Response::default()
    };
    assert_eq!(story.seen(&answer), ["8", "7"]);
    let withheld = Story {
        withheld: true,
        ..story
    };
    assert_eq!(withheld.seen(&answer), ["8"]);
}
