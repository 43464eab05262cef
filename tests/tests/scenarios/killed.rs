//! Upper tiers as processes that are killed, with what they had in their hands, and come
//! back.

use std::net::SocketAddr;

use bytes::Bytes;
use tests::clock::Stopwatch;
use tests::{Fleet, Gate, HOST, Load, Origin, Reply, get, until, within};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

const EDGES: [&str; 3] = ["edge-1", "edge-2", "edge-3"];
const UPPERS: [&str; 2] = ["upper-1", "upper-2"];
const READERS: usize = 50;

/// One at a time: each of these keeps a small machine busy.
static ALONE: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

/// Bytes of one part of the large body: no power of two and no multiple of anything,
/// so that bytes in the wrong place are seen.
const PART_BYTES: usize = 65_521;

/// How often it is repeated: 100 MB in all.
const PARTS: usize = 1_527;

/// An upper tier that is back is used as before after so long, and warm so long after it
/// was found (`warm_ms`, and a little).
const BACK_US: u64 = 3_000_000;
const WARM_US: u64 = 1_200_000;

/// How much is read at once.
const READ_BYTES: usize = 256 * 1024;

/// An ejected demo in front of that origin, all of it running.
async fn fleet(origin: &Origin) -> Fleet {
    let url = format!("http://{}", origin.address());
    Fleet::eject(&["--origin", &url]).await
}

fn part() -> Bytes {
    let mut random = 1_u32;
    let mut next = || {
        random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        random.to_be_bytes()[0]
    };
    (0..PART_BYTES).map(|_| next()).collect()
}

/// What a reader has to say of its body.
#[derive(Debug, PartialEq)]
struct Read {
    ok: bool,
    bytes: usize,
    /// Every byte was the right one.
    right: bool,
}

/// Reads a body until the connection ends. Bare of everything that a debug build would
/// make slow: there are five gigabytes of it in all. `pattern` is the part, long enough
/// to compare a whole read with, wherever in the part it begins.
fn reader(edge: SocketAddr, pattern: Bytes) -> JoinHandle<Read> {
    tokio::spawn(async move {
        let mut stream = TcpStream::connect(edge).await.unwrap();
        let asked = format!("GET /large HTTP/1.1\r\nHost: {HOST}\r\nConnection: close\r\n\r\n");
        stream.write_all(asked.as_bytes()).await.unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.unwrap());
        }
        let (mut bytes, mut right) = (0, true);
        let mut buffer = vec![0; READ_BYTES];
        loop {
            // An error is an end too, and a body that is too short.
            let read = stream.read(&mut buffer).await.unwrap_or(0);
            if read == 0 {
                break;
            }
            let at = bytes % PART_BYTES;
            right &= buffer[..read] == pattern[at..at + read];
            bytes += read;
        }
        Read {
            ok: head.starts_with(b"HTTP/1.1 200 "),
            bytes,
            right,
        }
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn fifty_readers_of_a_hundred_megabytes_lose_nothing_when_its_upper_tier_is_killed() {
    let _alone = ALONE.lock().await;
    let origin = Origin::start().await;
    let part = part();
    let gate = Gate::new();
    let whole = Reply::fresh("")
        .repeating(part.clone(), PARTS)
        .with("ETag", "\"v1\"");
    let half = (PART_BYTES * PARTS / 2) as u64;
    origin.in_turn("/large", [whole.clone().pausing_after(half, &gate), whole]);
    let mut fleet = fleet(&origin).await;
    // The origin itself may not step in.
    fleet.edit("sites.toml", "[\"direct\", \"stale\"]", "[\"stale\"]");
    fleet.start(UPPERS).await;
    fleet.start(EDGES).await;
    let times = (PART_BYTES + READ_BYTES).div_ceil(PART_BYTES);
    let pattern = Bytes::from(part.repeat(times));
    let readers: Vec<_> = (0..READERS)
        .map(|number| {
            let edge = fleet.ports().of(EDGES[number % EDGES.len()]);
            reader(edge, pattern.clone())
        })
        .collect();
    gate.arrivals(1).await;
    for edge in EDGES {
        until("the edge has begun to fill", async || {
            let begun = fleet.metrics(edge).await.sum("fill_bytes_in_flight", &[]);
            (begun > half / 2).then_some(())
        })
        .await;
    }
    let mut killed = 0;
    for upper in UPPERS {
        if fleet.metrics(upper).await.sum("fills_in_flight", &[]) > 0 {
            fleet.node_mut(upper).kill();
            killed += 1;
            // From here on the other may be filling too.
            break;
        }
    }
    assert_eq!(killed, 1);
    let all = Read {
        ok: true,
        bytes: PART_BYTES * PARTS,
        right: true,
    };
    for reader in readers {
        assert_eq!(within(60, reader).await.unwrap(), all);
    }
    assert_eq!(origin.requests("/large").len(), 2);
    for edge in EDGES {
        let resumed = fleet.metrics(edge).await.sum("resumed_total", &[]);
        assert_eq!(resumed, 1, "{edge}");
        let first = get("/large").with("Range", "bytes=0-0");
        let first = fleet.ask(edge, &first).await;
        assert!(first.hit_at(edge), "{first:?}");
    }
    gate.open();
}

/// Asks every edge for so many objects that nobody has, and gives how those answers came
/// about of which the origin was asked more than once.
async fn fetched_twice(fleet: &Fleet, origin: &Origin, batch: &str) -> Vec<String> {
    const OBJECTS: usize = 12;
    let objects = (0..OBJECTS).map(|number| format!("/object?cold-{batch}-{number}"));
    let mut twice = Vec::new();
    for object in objects {
        let (first, second, third) = tokio::join!(
            fleet.get("edge-1", &object),
            fleet.get("edge-2", &object),
            fleet.get("edge-3", &object),
        );
        let answers = [first, second, third];
        for answer in &answers {
            assert_eq!((answer.status, answer.text()), (200, object.clone()));
        }
        if origin.requests(&object).len() > 1 {
            let ways = answers.map(|answer| answer.says("Cache-Status"));
            twice.push(format!("{object}: {}", ways.join(" | ")));
        }
    }
    twice
}

#[tokio::test(flavor = "multi_thread")]
async fn three_seconds_after_all_upper_tiers_came_back_an_object_is_one_fetch_again() {
    let _alone = ALONE.lock().await;
    let origin = Origin::start().await;
    origin.on("/object", |asked| match asked.method.as_str() {
        // With a validator: who dies between a head and its body loses nothing.
        "GET" => Reply::fresh(asked.target.clone())
            .with("ETag", "\"one\"")
            .from_where_asked(asked),
        _ => Reply::ok(asked.target.clone()).with("Cache-Control", "no-store"),
    });
    let mut fleet = fleet(&origin).await;
    fleet.start(UPPERS).await;
    fleet.start(EDGES).await;
    let edges = EDGES.map(|edge| fleet.ports().of(edge)).to_vec();
    let mut load = Load::along(3, move |number| {
        let target = format!("/object?{}", number / 6);
        (edges[number % edges.len()], get(&target), target)
    });
    load.goes_on(100).await;
    assert_eq!(fetched_twice(&fleet, &origin, "before").await, [""; 0]);
    for upper in UPPERS {
        fleet.node_mut(upper).kill();
    }
    // What is permitted without them, which is the origin itself, goes on.
    load.goes_on(200).await;
    for edge in EDGES {
        let up = fleet.metrics(edge).await.sum("upper_tier_up", &[]);
        assert_eq!(up, 0, "{edge}");
    }
    fleet.start(UPPERS).await;
    let back = Stopwatch::start();
    let again = until("both are used again", async || {
        for edge in EDGES {
            if fleet.metrics(edge).await.sum("upper_tier_up", &[]) < 2 {
                return None;
            }
        }
        Some(())
    });
    within(3, again).await;
    // Their keys come back to them share by share, and are all back when they are warm.
    let warm_us = back.elapsed_us() + WARM_US;
    while back.elapsed_us() < warm_us.max(BACK_US) {
        load.goes_on(20).await;
    }
    assert_eq!(fetched_twice(&fleet, &origin, "after").await, [""; 0]);
    load.end().await;
}
