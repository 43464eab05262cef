//! Bounds on work: on who is asked again, on what a node has under way upstream, and on
//! what it has under way at one upper tier.

use tests::{Gate, Hop, Origin, Reply, Topology, ask, get, until};

#[tokio::test(flavor = "multi_thread")]
async fn who_lost_an_upper_tier_is_asked_again_in_turn_and_gets_no_error() {
    const PAGES: usize = 20;
    let origin = Origin::start().await;
    let gate = Gate::new();
    for page in 0..PAGES {
        let held = Reply::fresh(format!("page {page}")).held_at(&gate);
        origin.always(&format!("/{page}"), held);
    }
    let topology = Topology::new(&origin)
        .uppers(2)
        .hop(Hop::Bytes)
        .site("fallback = []")
        .edge_extra("[limits]\nretry_percent = 0\nretries_min = 1")
        .start()
        .await;
    let edge = topology.edge(1);
    let visitors: Vec<_> = (0..PAGES)
        .map(|page| edge.visitor(get(&format!("/{page}"))))
        .collect();
    gate.arrivals(PAGES).await;
    let lost = topology.upper(1).metrics().await;
    let lost = lost.sum("fills_in_flight", &[]);
    assert!(lost > 1, "the pages are spread over both");
    topology.relay(1).cut().await;
    until("all but one wait for their turn", async || {
        let waited = edge.metrics().await;
        let waited = waited.sum("retries_held_total", &[("then", "waited")]);
        (waited == lost - 1).then_some(())
    })
    .await;
    // The one that does not has reached the origin, and nobody else.
    gate.arrivals(PAGES + 1).await;
    assert_eq!(origin.all_requests().len(), PAGES + 1);
    gate.open();
    for (page, visitor) in visitors.into_iter().enumerate() {
        let answer = visitor.await.unwrap();
        assert_eq!(
            (answer.status, answer.text()),
            (200, format!("page {page}"))
        );
    }
    let metrics = edge.metrics().await;
    assert_eq!(metrics.sum("retries_total", &[]), lost);
    assert_eq!(metrics.sum("retries_held_total", &[("then", "refused")]), 0);
    topology.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn beyond_its_bound_a_node_sheds_what_needs_work_and_no_hit() {
    let origin = Origin::start().await;
    let gate = Gate::new();
    origin.always("/hit", Reply::fresh("stored"));
    origin.always("/stale", Reply::stale("old", ", stale-if-error=600"));
    origin.always("/slow", Reply::fresh("slow").held_at(&gate));
    let topology = Topology::new(&origin)
        .edge_extra("[limits]\nfetches_max = 1")
        .start()
        .await;
    let edge = topology.edge(1);
    for (path, text) in [("/hit", "stored"), ("/stale", "old")] {
        assert_eq!(edge.get(path).await.text(), text);
        // A visitor has its answer a moment before the fetch gives its place back.
        topology.no_fill_is_running().await;
    }
    let slow = edge.visitor(get("/slow"));
    gate.arrivals(1).await;
    for shed in [get("/other"), ask("POST", "/order").body("one")] {
        let answer = edge.ask(&shed).await;
        assert!(answer.found_no_room_at("edge-1"), "{answer:?}");
    }
    assert_eq!(edge.get("/stale").await.text(), "old");
    assert!(edge.get("/hit").await.hit_at("edge-1"));
    assert_eq!(edge.metrics().await.sum("shed_total", &[]), 3);
    // Who wants what is under way needs no work of its own.
    let other = edge.visitor(get("/slow"));
    edge.wait_for_metric("requests_in_flight", &[], 2).await;
    gate.open();
    for visitor in [slow, other] {
        assert_eq!(visitor.await.unwrap().text(), "slow");
    }
    topology.no_fill_is_running().await;
    assert_eq!(edge.get("/other").await.status, 404);
    topology.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_upper_tier_sheds_takes_no_other_way() {
    let origin = Origin::start().await;
    let gate = Gate::new();
    origin.always("/slow", Reply::fresh("slow").held_at(&gate));
    let topology = Topology::new(&origin)
        .site("fallback = [\"direct\"]")
        .upper_extra("[limits]\nfetches_max = 1")
        .start()
        .await;
    let edge = topology.edge(1);
    let slow = edge.visitor(get("/slow"));
    gate.arrivals(1).await;
    for shed in [get("/other"), ask("POST", "/order").body("one")] {
        let answer = edge.ask(&shed).await;
        assert!(answer.found_no_room_at("upper-1"), "{answer:?}");
    }
    gate.open();
    assert_eq!(slow.await.unwrap().text(), "slow");
    assert_eq!(origin.all_requests().len(), 1);
    topology.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upper_tier_with_enough_under_way_is_passed_over() {
    let origin = Origin::start().await;
    let gate = Gate::new();
    for page in 0..3 {
        origin.always(&format!("/{page}"), Reply::fresh("page").held_at(&gate));
    }
    let topology = Topology::new(&origin)
        .uppers(2)
        .site("fallback = []")
        .towards_upper("in_flight_max = 1")
        .start()
        .await;
    let edge = topology.edge(1);
    let mut visitors = Vec::new();
    for page in 0..2 {
        visitors.push(edge.visitor(get(&format!("/{page}"))));
        gate.arrivals(page + 1).await;
    }
    for upper in topology.uppers() {
        assert_eq!(upper.metrics().await.sum("fills_in_flight", &[]), 1);
    }
    for answer in [
        edge.get("/2").await,
        edge.ask(&ask("POST", "/order").body("one")).await,
    ] {
        assert!(answer.found_no_room_at("edge-1"), "{answer:?}");
    }
    let passed_over = edge.metrics().await.sum("upper_tier_full_total", &[]);
    assert!((4..=5).contains(&passed_over), "{passed_over}");
    gate.open();
    for visitor in visitors {
        assert_eq!(visitor.await.unwrap().status, 200);
    }
    topology.no_fill_is_running().await;
    assert_eq!(edge.get("/2").await.status, 200);
    topology.finish().await;
}
