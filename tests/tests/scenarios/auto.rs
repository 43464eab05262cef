//! `auto`: the upper tier that is nearest to an origin, as an edge measures it.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use node::MovedClock;
use tests::{Hop, Origin, Reply, TestNode, Topology, clock, get};

/// How much longer the far way to the origin takes: beyond what a busy machine adds.
const FAR: Duration = Duration::from_millis(120);

/// Measurements before a time counts, and how long a better one has to stay better, as
/// `topology::AutoRules` has them.
const SAMPLES: usize = 5;
const HOLD_MS: u64 = 30_000;

/// An origin that is far for whichever upper tier is asked first, and near for others.
async fn far_for_the_first() -> (Origin, Arc<Mutex<Option<String>>>) {
    let origin = Origin::start().await;
    let far = Arc::new(Mutex::new(None));
    let first = Arc::clone(&far);
    origin.on_others(move |asked| {
        let via = asked.says("Via");
        let upper = via.rsplit(' ').next().unwrap_or_default().to_owned();
        let mut first = first.lock().unwrap();
        let reply = Reply::fresh("content");
        match *first.get_or_insert_with(|| upper.clone()) == upper {
            true => reply.taking(FAR),
            false => reply,
        }
    });
    (origin, far)
}

/// Who brought what was not stored.
async fn brought_by(edge: &TestNode, path: &str) -> String {
    let answer = edge.get(path).await;
    assert_eq!((answer.status, answer.text().as_str()), (200, "content"));
    let told = answer.says("Cache-Status");
    told.split([';', ',']).next().unwrap_or_default().to_owned()
}

async fn page(edge: &TestNode) -> serde_json::Value {
    let page = edge.admin(&get("/tiers")).await;
    serde_json::from_str(&page.text()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn misses_move_to_the_upper_tier_with_the_shorter_way_to_the_origin() {
    let (origin, far) = far_for_the_first().await;
    let time = MovedClock::at(clock::now_ms());
    let topology = Topology::new(&origin)
        .uppers(2)
        .site("topology = \"auto\"")
        .clock(&time)
        .start()
        .await;
    let edge = topology.edge(1);
    let mut next = 0;
    let mut path = || {
        next += 1;
        format!("/{next}")
    };
    // Until anybody is known everything goes over one, as with `single`.
    let first = brought_by(edge, &path()).await;
    assert_eq!(Some(&first), far.lock().unwrap().as_ref());
    for _ in 1..SAMPLES {
        assert_eq!(brought_by(edge, &path()).await, first);
    }
    assert_eq!(page(edge).await["nearest"][0]["nearest"], first.as_str());

    // Now one in a second goes to the other, and every other one to the first.
    let mut other = String::new();
    for _ in 0..SAMPLES {
        time.advance(1_000);
        other = brought_by(edge, &path()).await;
        assert_ne!(other, first);
        assert_eq!(brought_by(edge, &path()).await, first);
    }
    let known = page(edge).await;
    assert_eq!(known["nearest"][0]["nearest"], first.as_str(), "{known}");
    assert_eq!(known["nearest"][0]["next"], other.as_str(), "{known}");

    // Better for long enough.
    time.advance(HOLD_MS);
    assert_eq!(brought_by(edge, &path()).await, first);
    for _ in 0..5 {
        assert_eq!(brought_by(edge, &path()).await, other);
    }
    let known = page(edge).await;
    assert_eq!(known["nearest"][0]["nearest"], other.as_str(), "{known}");
    assert_eq!(known["nearest"][0]["next"], first.as_str(), "{known}");
    let why = known["nearest"][0]["why"].as_str().unwrap();
    assert!(why.contains(&format!("for shop {other} takes ")), "{why}");
    let metrics = edge.metrics().await;
    for (peer, nearest) in [(&other, 1), (&first, 0)] {
        let labels = [("pool", "shop"), ("peer", peer.as_str())];
        assert_eq!(metrics.sum("nearest", &labels), nearest, "{peer}");
    }
    assert_eq!(metrics.sum("nearest_changes_total", &[]), 2);
    topology.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_upper_tier_has_stored_is_no_measurement() {
    let origin = Origin::start().await;
    origin.always("/a", Reply::fresh("content"));
    let topology = Topology::new(&origin)
        .uppers(2)
        .site("topology = \"auto\"")
        // The edge keeps nothing, so that each request is one of the upper tier.
        .edge_extra("[store]\nobject_bytes_max = 1")
        .start()
        .await;
    let edge = topology.edge(1);
    for _ in 0..10 {
        brought_by(edge, "/a").await;
    }
    assert_eq!(origin.requests("/a").len(), 1);
    let known = page(edge).await;
    let measured = known["nearest"][0]["measured"].as_array().unwrap();
    let samples = measured.iter().map(|one| one["samples"].as_u64().unwrap());
    assert_eq!(samples.sum::<u64>(), 1, "{known}");
    assert!(known["nearest"][0]["nearest"].is_null(), "{known}");
    topology.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_runner_up_is_asked_while_the_nearest_is_down() {
    let (origin, _) = far_for_the_first().await;
    let topology = Topology::new(&origin)
        .uppers(2)
        .hop(Hop::Bytes)
        .site("topology = \"auto\"\nfallback = []")
        .start()
        .await;
    let edge = topology.edge(1);
    let first = brought_by(edge, "/first").await;
    let number: usize = first.trim_start_matches("upper-").parse().unwrap();
    topology.relay(number).cut().await;
    for path in 0..5 {
        assert_ne!(brought_by(edge, &format!("/{path}")).await, first);
    }
    topology.finish().await;
}
