//! The order of a purge, against admin listeners that write down who was asked.

use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use super::*;

/// What all listeners of a test have heard, in order: name, and the request's head.
type Heard = Arc<Mutex<Vec<(String, String)>>>;

/// An admin listener that answers every request the same.
async fn admin(name: &str, answer: &'static str, heard: &Heard) -> Target {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let target = Target {
        name: Some(name.to_owned()),
        admin: listener.local_addr().unwrap().to_string(),
    };
    let (name, heard) = (name.to_owned(), heard.clone());
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.push(stream.read_u8().await.unwrap());
            }
            heard
                .lock()
                .unwrap()
                .push((name.clone(), String::from_utf8(head).unwrap()));
            stream.write_all(answer.as_bytes()).await.unwrap();
        }
    });
    target
}

const PURGED: &str = "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npurged";
const NOT_STORED: &str = "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nnot stored";
const FAILED: &str = "HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\n\r\n";
const GARBAGE: &str = "whatever\r\n\r\n";

fn job(force: bool) -> Job {
    Job {
        query: "url=http%3A%2F%2Fshop.example%2Fa%3Fb".to_owned(),
        token: Some("open sesame".to_owned()),
        force,
    }
}

async fn run(job: &Job, ranks: Vec<Rank>) -> (Result<(), Failure>, Vec<String>) {
    let mut out = Vec::new();
    let ended = job.run(ranks, &mut out).await;
    let text = String::from_utf8(out).unwrap();
    // `name (address): outcome`, without the address, which the system chose.
    let lines = text.lines().map(|line| {
        let (target, outcome) = line.split_once(": ").unwrap();
        format!("{}: {outcome}", target.split(' ').next().unwrap())
    });
    (ended, lines.collect())
}

fn names(heard: &Heard) -> Vec<String> {
    heard
        .lock()
        .unwrap()
        .iter()
        .map(|(name, _)| name.clone())
        .collect()
}

#[tokio::test]
async fn upper_tiers_are_purged_before_edges() {
    let heard = Heard::default();
    let ranks = vec![
        vec![
            admin("upper-1", PURGED, &heard).await,
            admin("upper-2", NOT_STORED, &heard).await,
        ],
        vec![admin("edge-1", PURGED, &heard).await],
    ];
    let (ended, lines) = run(&job(false), ranks).await;
    ended.unwrap();
    assert_eq!(
        lines,
        ["upper-1: purged", "upper-2: not stored", "edge-1: purged"]
    );
    assert_eq!(names(&heard)[2], "edge-1");

    let head = heard.lock().unwrap()[2].1.to_ascii_lowercase();
    assert!(
        head.starts_with("post /purge?url=http%3a%2f%2fshop.example%2fa%3fb http/1.1\r\n"),
        "{head}"
    );
    assert!(
        head.contains("authorization: bearer open sesame\r\n"),
        "{head}"
    );
}

#[tokio::test]
async fn a_failed_upper_tier_keeps_the_edges_from_being_asked() {
    for answer in [FAILED, GARBAGE] {
        let heard = Heard::default();
        let ranks = vec![
            vec![
                admin("upper-1", answer, &heard).await,
                admin("upper-2", PURGED, &heard).await,
            ],
            vec![admin("edge-1", PURGED, &heard).await],
        ];
        let (ended, lines) = run(&job(false), ranks).await;
        assert!(ended.unwrap_err().words().contains("--force"));
        // The other upper tier is purged all the same.
        assert_eq!(lines[1..], ["upper-2: purged", "edge-1: not asked"]);
        assert!(!names(&heard).contains(&"edge-1".to_owned()));
    }
}

#[tokio::test]
async fn force_asks_the_edges_and_still_fails() {
    let heard = Heard::default();
    let gone = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = gone.local_addr().unwrap().to_string();
    drop(gone);
    let ranks = vec![
        vec![Target {
            name: Some("upper-1".to_owned()),
            admin: address,
        }],
        vec![
            admin("edge-1", PURGED, &heard).await,
            admin("edge-2", FAILED, &heard).await,
        ],
    ];
    let (ended, lines) = run(&job(true), ranks).await;
    ended.unwrap_err();
    assert!(lines[0].starts_with("upper-1: unreachable: "), "{lines:?}");
    assert_eq!(lines[1], "edge-1: purged");
    assert!(
        lines[2].starts_with("edge-2: refused: it answered 500"),
        "{lines:?}"
    );
}

#[test]
fn addresses_alone_are_asked_one_after_another() {
    let ranks = targets::in_order(&["a:1".to_owned(), "b:2".to_owned()]);
    assert_eq!(ranks.iter().map(Vec::len).collect::<Vec<_>>(), [1, 1]);
    assert_eq!(ranks[0][0].to_string(), "a:1");
}
