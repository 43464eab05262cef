//! Past the upper tiers: what an edge takes to the origin itself, and the bound that
//! keeps a fault between the tiers from becoming one at the origin.

use tests::{Client, Gate, Hop, Origin, Reply, TestNode, Topology, ask, get, until};

/// One edge whose upper tier is gone.
async fn without_upper_tier(origin: &Origin, site: &str) -> Topology {
    let topology = Topology::new(origin)
        .hop(Hop::Bytes)
        .site(site)
        .start()
        .await;
    topology.relay(1).cut().await;
    topology
}

async fn held(edge: &TestNode, then: &str) -> u64 {
    let metrics = edge.metrics().await;
    metrics.sum("direct_held_total", &[("site", "shop"), ("then", then)])
}

async fn until_held(edge: &TestNode, then: &str, count: u64) {
    until("requests are held", async || {
        (held(edge, then).await == count).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_origin_sees_no_more_at_once_than_its_site_allows() {
    let origin = Origin::start().await;
    let gate = Gate::new();
    for path in 0..6 {
        let held = Reply::fresh(format!("page {path}")).held_at(&gate);
        origin.always(&format!("/{path}"), held);
    }
    let site = "fallback = [\"direct\"]\ndirect_in_flight_max = 2";
    let topology = without_upper_tier(&origin, site).await;
    let edge = topology.edge(1);
    // Two for each page, who share what one of them fetches.
    let visitors: Vec<_> = (0..12)
        .map(|number| edge.visitor(get(&format!("/{}", number % 6))))
        .collect();
    gate.arrivals(2).await;
    until_held(edge, "waited", 4).await;
    let under_way = edge.metrics().await.sum("direct_in_flight", &[]);
    assert_eq!((under_way, origin.all_requests().len()), (2, 2));

    gate.open();
    for (number, visitor) in visitors.into_iter().enumerate() {
        let answer = visitor.await.unwrap();
        let expected = format!("page {}", number % 6);
        assert_eq!((answer.status, answer.text()), (200, expected));
    }
    assert_eq!(origin.all_requests().len(), 6);
    topology.no_fill_is_running().await;
    assert_eq!(edge.metrics().await.sum("direct_in_flight", &[]), 0);
    topology.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_stale_is_preferred_to_a_wait() {
    let origin = Origin::start().await;
    let gate = Gate::new();
    origin.in_turn(
        "/a",
        [
            Reply::stale("old", ", stale-if-error=600"),
            Reply::fresh("new"),
        ],
    );
    origin.always("/slow", Reply::fresh("slow").held_at(&gate));
    let topology = Topology::new(&origin)
        .hop(Hop::Bytes)
        .site("fallback = [\"direct\", \"stale\"]\ndirect_in_flight_max = 1")
        .start()
        .await;
    let edge = topology.edge(1);
    assert_eq!(edge.get("/a").await.text(), "old");
    topology.relay(1).cut().await;
    let slow = edge.visitor(get("/slow"));
    gate.arrivals(1).await;
    assert_eq!(
        edge.get("/a").await.text(),
        "old",
        "the gate is still closed"
    );
    assert_eq!(held(edge, "stale").await, 1);
    gate.open();
    assert_eq!(slow.await.unwrap().text(), "slow");
    topology.no_fill_is_running().await;
    assert_eq!(edge.get("/a").await.text(), "new");
    topology.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_finds_no_room_to_wait_is_told_when_to_come_again() {
    let origin = Origin::start().await;
    let gate = Gate::new();
    for path in ["/a", "/b"] {
        origin.always(path, Reply::fresh("page").held_at(&gate));
    }
    let site = "fallback = [\"direct\"]\ndirect_in_flight_max = 1\ndirect_queue_max = 1";
    let topology = without_upper_tier(&origin, site).await;
    let edge = topology.edge(1);
    let first = edge.visitor(get("/a"));
    gate.arrivals(1).await;
    let second = edge.visitor(get("/b"));
    until_held(edge, "waited", 1).await;
    let third = edge.get("/c").await;
    assert!(third.found_no_room_at("edge-1"), "{third:?}");
    assert_eq!(held(edge, "refused").await, 1);
    gate.open();
    for visitor in [first, second] {
        assert_eq!(visitor.await.unwrap().status, 200);
    }
    assert!(origin.requests("/c").is_empty());
    topology.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wait_for_the_origin_ends_before_the_visitor_gives_up() {
    let origin = Origin::start().await;
    let gate = Gate::new();
    origin.always("/a", Reply::fresh("page").held_at(&gate));
    let site = "fallback = [\"direct\"]\ndirect_in_flight_max = 1\ndirect_wait_ms = 50";
    let topology = without_upper_tier(&origin, site).await;
    let edge = topology.edge(1);
    let first = edge.visitor(get("/a"));
    gate.arrivals(1).await;
    let second = edge.get("/b").await;
    assert!(second.found_no_room_at("edge-1"), "{second:?}");
    gate.open();
    assert_eq!(first.await.unwrap().status, 200);
    topology.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_passes_counts_too() {
    let origin = Origin::start().await;
    let gate = Gate::new();
    origin.always("/order", Reply::new(201).body("ordered").held_at(&gate));
    origin.always("/a", Reply::fresh("page"));
    let site = "fallback = [\"direct\"]\ndirect_in_flight_max = 1\ndirect_queue_max = 0";
    let topology = without_upper_tier(&origin, site).await;
    let edge = topology.edge(1);
    let order = edge.visitor(ask("POST", "/order").body("one"));
    gate.arrivals(1).await;
    for more in [get("/a"), ask("POST", "/order").body("two")] {
        let answer = edge.ask(&more).await;
        assert!(answer.found_no_room_at("edge-1"), "{answer:?}");
    }
    gate.open();
    assert_eq!(order.await.unwrap().status, 201);
    until("its place is free again", async || {
        let metrics = edge.metrics().await;
        (metrics.sum("direct_in_flight", &[]) == 0).then_some(())
    })
    .await;
    assert_eq!(edge.get("/a").await.status, 200);
    assert_eq!(origin.requests("/order").len(), 1);
    topology.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_place_is_held_until_the_body_is_there() {
    let origin = Origin::start().await;
    let gate = Gate::new();
    let slow = Reply::fresh("all of the page").pausing_after(3, &gate);
    origin.always("/slow", slow);
    origin.always("/a", Reply::fresh("page"));
    let site = "fallback = [\"direct\"]\ndirect_in_flight_max = 1\ndirect_queue_max = 0";
    let topology = without_upper_tier(&origin, site).await;
    let edge = topology.edge(1);
    let mut reader = Client::connect(edge.address()).await;
    reader.send(get("/slow").bytes()).await;
    assert_eq!(reader.head().await.status, 200);
    let answer = edge.get("/a").await;
    assert!(answer.found_no_room_at("edge-1"), "{answer:?}");
    gate.open();
    assert_eq!(reader.rest().await, ("all of the page".into(), true));
    topology.no_fill_is_running().await;
    assert_eq!(edge.get("/a").await.status, 200);
    topology.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_site_without_upper_tiers_has_no_such_bound() {
    let origin = Origin::start().await;
    let gate = Gate::new();
    for path in ["/a", "/b"] {
        origin.always(path, Reply::fresh("page").held_at(&gate));
    }
    let topology = Topology::new(&origin)
        .site("topology = \"off\"\ndirect_in_flight_max = 1\ndirect_queue_max = 0")
        .start()
        .await;
    let edge = topology.edge(1);
    let visitors = ["/a", "/b"].map(|path| edge.visitor(get(path)));
    gate.arrivals(2).await;
    gate.open();
    for visitor in visitors {
        assert_eq!(visitor.await.unwrap().status, 200);
    }
    assert_eq!(edge.metrics().await.sum("direct_total", &[]), 0);
    topology.finish().await;
}
