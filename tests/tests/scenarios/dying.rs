//! An upper tier dies with a fill in its hands: whoever was reading gets all of it, and
//! its origin is asked for no more than one fill again.

use std::net::SocketAddr;

use bytes::Bytes;
use tests::{Client, Gate, Hop, Origin, Reply, Topology, get, until};
use tokio::task::JoinHandle;

/// Bytes of one part of the large body: no power of two and no multiple of anything,
/// so that bytes in the wrong place are seen.
const PART_BYTES: usize = 65_521;

/// How often it is repeated: 24 MiB in all.
const PARTS: usize = 384;

const EDGES: usize = 3;
const READERS: usize = 50;

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
    status: u16,
    bytes: usize,
    /// Every byte was the right one.
    right: bool,
}

/// Reads a body, however large, keeping nothing of it.
fn reader(edge: SocketAddr, part: Bytes) -> JoinHandle<Read> {
    tokio::spawn(async move {
        let mut client = Client::connect(edge).await;
        client.send(get("/large").bytes()).await;
        let status = client.head().await.status;
        let (mut bytes, mut right) = (0, true);
        // It panics where the body breaks off.
        while let Some(piece) = client.part().await {
            let mut piece = &piece[..];
            while !piece.is_empty() {
                let expected = &part[bytes % PART_BYTES..];
                let (now, rest) = piece.split_at(piece.len().min(expected.len()));
                right &= *now == expected[..now.len()];
                bytes += now.len();
                piece = rest;
            }
        }
        Read {
            status,
            bytes,
            right,
        }
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn fifty_readers_of_a_large_body_lose_nothing_and_cost_one_fetch_more() {
    let origin = Origin::start().await;
    let part = part();
    let gate = Gate::new();
    let whole = Reply::fresh("")
        .repeating(part.clone(), PARTS)
        .with("ETag", "\"v1\"");
    let half = (PART_BYTES * PARTS / 2) as u64;
    origin.in_turn("/large", [whole.clone().pausing_after(half, &gate), whole]);
    let topology = Topology::new(&origin)
        .edges(EDGES)
        .uppers(2)
        .hop(Hop::Bytes)
        .site("fallback = []")
        .start()
        .await;
    let readers: Vec<_> = (0..READERS)
        .map(|number| reader(topology.edge(1 + number % EDGES).address(), part.clone()))
        .collect();
    gate.arrivals(1).await;
    for edge in topology.edges() {
        let begun = half / 2;
        edge.wait_for_metric("fill_bytes_in_flight", &[], begun)
            .await;
    }
    for (relay, upper) in topology.relays().iter().zip(topology.uppers()) {
        if upper.metrics().await.sum("fills_in_flight", &[]) > 0 {
            relay.cut().await;
            break;
        }
    }
    let all = Read {
        status: 200,
        bytes: PART_BYTES * PARTS,
        right: true,
    };
    for reader in readers {
        assert_eq!(reader.await.unwrap(), all);
    }
    assert_eq!(origin.requests("/large").len(), 2);
    let mut resumed = 0;
    for edge in topology.edges() {
        resumed += edge.metrics().await.sum("resumed_total", &[]);
        let stored = get("/large").with("Range", "bytes=0-0");
        let first = edge.ask(&stored).await;
        assert!(first.hit_at(edge.name()), "{first:?}");
    }
    assert_eq!(resumed, EDGES as u64);
    gate.open();
    topology.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn while_nothing_of_it_has_come_it_is_fetched_once_more_by_another() {
    let origin = Origin::start().await;
    let gate = Gate::new();
    let page = Reply::fresh("content");
    origin.in_turn("/a", [page.clone().held_at(&gate), page]);
    let topology = Topology::new(&origin)
        .edges(EDGES)
        .uppers(2)
        .hop(Hop::Bytes)
        .site("fallback = []")
        .start()
        .await;
    let visitors: Vec<_> = (0..READERS)
        .map(|number| {
            let edge = topology.edge(1 + number % EDGES).address();
            tokio::spawn(async move { Client::connect(edge).await.ask(&get("/a")).await })
        })
        .collect();
    gate.arrivals(1).await;
    for edge in topology.edges() {
        edge.wait_for_metric("fills_in_flight", &[], 1).await;
    }
    let mut died = 0;
    for (relay, upper) in topology.relays().iter().zip(topology.uppers()) {
        if upper.metrics().await.sum("fills_in_flight", &[]) > 0 {
            // All three edges wait for it.
            until("every edge has asked", async || {
                let asked = upper.metrics().await.sum("requests_in_flight", &[]);
                (asked == EDGES as u64).then_some(())
            })
            .await;
            relay.cut().await;
            died += 1;
            break;
        }
    }
    assert_eq!(died, 1);
    for visitor in visitors {
        let answer = visitor.await.unwrap();
        assert_eq!((answer.status, answer.text().as_str()), (200, "content"));
    }
    assert_eq!(origin.requests("/a").len(), 2);
    gate.open();
    topology.finish().await;
}
