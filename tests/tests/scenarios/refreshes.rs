//! Refreshing in the background: once for all nodes, and not by all at the same moment.

use node::MovedClock;
use tests::{Gate, Origin, Reply, Topology, clock, until};

const EDGES: usize = 4;

#[tokio::test(flavor = "multi_thread")]
async fn what_is_stale_everywhere_is_refreshed_once() {
    let origin = Origin::start().await;
    let gate = Gate::new();
    origin.always(
        "/a",
        Reply::stale("old", ", stale-while-revalidate=600").with("ETag", "\"v1\""),
    );
    let topology = Topology::new(&origin).edges(EDGES).start().await;
    // All edges but the last have it.
    for edge in topology.edges().iter().take(EDGES - 1) {
        assert_eq!(edge.get("/a").await.text(), "old");
        topology.no_fill_is_running().await;
    }
    let fresh = Reply::fresh("new").with("ETag", "\"v2\"");
    origin.always("/a", fresh.held_at(&gate));
    let before = origin.requests("/a").len();
    for edge in topology.edges() {
        assert_eq!(edge.get("/a").await.text(), "old");
    }
    let upper = topology.upper(1);
    gate.arrivals(1).await;
    until("every edge that has it refreshes it", async || {
        let waiting = upper.metrics().await.sum("requests_in_flight", &[]);
        (waiting == EDGES as u64 - 1).then_some(())
    })
    .await;
    gate.open();
    topology.no_fill_is_running().await;
    for edge in topology.edges().iter().take(EDGES - 1) {
        assert_eq!(edge.get("/a").await.text(), "new");
    }
    assert_eq!(origin.requests("/a").len(), before + 1);
    topology.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_asked_for_near_its_end_is_fresh_again_before_it() {
    const LIFETIME_MS: u64 = 100_000;
    const STEP_MS: u64 = 250;
    let origin = Origin::start().await;
    let page = |body: &'static str, ago_s| {
        Reply::ok(body)
            .with("Cache-Control", "max-age=100")
            .set("Date", &clock::http_date(ago_s))
    };
    origin.in_turn("/a", [page("old", 100), page("new", 0)]);
    let time = MovedClock::at(clock::now_ms() / 1_000 * 1_000 - LIFETIME_MS);
    let ends_ms = time.now_ms() + LIFETIME_MS;
    let topology = Topology::new(&origin)
        .edges(EDGES)
        .clock(&time)
        .start()
        .await;
    for edge in topology.edges() {
        assert_eq!(edge.get("/a").await.text(), "old");
    }
    // The last twentieth has not begun, and nobody asks.
    time.advance(LIFETIME_MS - LIFETIME_MS / 20 - 2_000);
    for edge in topology.edges() {
        assert!(edge.get("/a").await.hit_at(edge.name()));
    }
    topology.no_fill_is_running().await;
    assert_eq!(origin.requests("/a").len(), 1);
    // It goes by in steps, and every edge's moment comes at its own.
    let mut refreshed = Vec::new();
    while time.now_ms() + STEP_MS < ends_ms {
        time.advance(STEP_MS);
        for edge in topology.edges() {
            let answer = edge.get("/a").await;
            assert!(answer.hit_at(edge.name()), "nobody waits: {answer:?}");
            topology.no_fill_is_running().await;
        }
        let mut count = 0;
        for edge in topology.edges() {
            count += u64::from(edge.get("/a").await.text() == "new");
            topology.no_fill_is_running().await;
        }
        refreshed.push(count);
    }
    assert_eq!(refreshed.last(), Some(&(EDGES as u64)), "{refreshed:?}");
    refreshed.dedup();
    assert!(refreshed.len() > 2, "all in step: {refreshed:?}");
    assert_eq!(origin.requests("/a").len(), 2);
    topology.finish().await;
}
