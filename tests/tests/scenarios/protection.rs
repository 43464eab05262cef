//! What an origin is spared: no node asks more of it at once than its pool allows,
//! however many visitors want something.

use tests::{Gate, Origin, Reply, TestNode, Topology, get, until};

async fn held(node: &TestNode, then: &str) -> u64 {
    let metrics = node.metrics().await;
    metrics.sum("origin_held_total", &[("pool", "shop"), ("then", then)])
}

async fn until_held(node: &TestNode, then: &str, count: u64) {
    until("requests are held", async || {
        (held(node, then).await == count).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn however_many_want_something_the_origin_is_asked_for_so_much_at_once() {
    let origin = Origin::start().await;
    let gate = Gate::new();
    for path in 0..6 {
        let held = Reply::fresh(format!("page {path}")).held_at(&gate);
        origin.always(&format!("/{path}"), held);
    }
    let topology = Topology::new(&origin)
        .edges(2)
        .pool("in_flight_max = 2")
        .start()
        .await;
    let upper = topology.upper(1);
    let visitors: Vec<_> = (0..12)
        .map(|number| {
            let edge = topology.edge(1 + number % 2);
            edge.visitor(get(&format!("/{}", number / 2)))
        })
        .collect();
    gate.arrivals(2).await;
    until_held(upper, "waited", 4).await;
    let under_way = upper.metrics().await.sum("origin_in_flight", &[]);
    assert_eq!((under_way, origin.all_requests().len()), (2, 2));

    gate.open();
    for (number, visitor) in visitors.into_iter().enumerate() {
        let answer = visitor.await.unwrap();
        let expected = format!("page {}", number / 2);
        assert_eq!((answer.status, answer.text()), (200, expected));
    }
    assert_eq!(origin.all_requests().len(), 6);
    topology.no_fill_is_running().await;
    assert_eq!(upper.metrics().await.sum("origin_in_flight", &[]), 0);
    topology.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_finds_no_place_is_told_so_and_takes_no_other_way() {
    let origin = Origin::start().await;
    let gate = Gate::new();
    for path in 0..8 {
        origin.always(&format!("/{path}"), Reply::fresh("page").held_at(&gate));
    }
    let topology = Topology::new(&origin)
        .uppers(2)
        .site("fallback = [\"direct\"]")
        .pool("in_flight_max = 1\nqueue_max = 0")
        .start()
        .await;
    let edge = topology.edge(1);
    let visitors: Vec<_> = (0..8)
        .map(|path| edge.visitor(get(&format!("/{path}"))))
        .collect();
    // One for each upper tier is at the origin, and six are answered.
    gate.arrivals(2).await;
    until("the others are refused", async || {
        let mut refused = 0;
        for upper in topology.uppers() {
            refused += held(upper, "refused").await;
        }
        (refused == 6).then_some(())
    })
    .await;
    gate.open();
    let mut refused = 0;
    for visitor in visitors {
        let answer = visitor.await.unwrap();
        let by_upper = answer.found_no_room_at("upper-1") || answer.found_no_room_at("upper-2");
        refused += usize::from(by_upper);
        assert!(by_upper || answer.status == 200, "{answer:?}");
    }
    assert_eq!((refused, origin.all_requests().len()), (6, 2));
    let metrics = edge.metrics().await;
    assert_eq!(metrics.sum("direct_total", &[]), 0);
    assert_eq!(metrics.sum("upstream_requests_total", &[]), 8);
    topology.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_stale_is_preferred_to_a_wait_at_the_origin() {
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
        .pool("in_flight_max = 1")
        .start()
        .await;
    let edge = topology.edge(1);
    assert_eq!(edge.get("/a").await.text(), "old");
    let slow = edge.visitor(get("/slow"));
    gate.arrivals(1).await;
    assert_eq!(edge.get("/a").await.text(), "old", "the gate is closed");
    assert_eq!(held(topology.upper(1), "stale").await, 1);
    gate.open();
    assert_eq!(slow.await.unwrap().text(), "slow");
    topology.no_fill_is_running().await;
    assert_eq!(edge.get("/a").await.text(), "new");
    topology.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edge_without_upper_tiers_keeps_to_it_as_well() {
    let origin = Origin::start().await;
    let gate = Gate::new();
    origin.always("/a", Reply::fresh("page").held_at(&gate));
    let topology = Topology::new(&origin)
        .site("topology = \"off\"")
        .pool("in_flight_max = 1\nqueue_wait_ms = 50")
        .start()
        .await;
    let edge = topology.edge(1);
    let first = edge.visitor(get("/a"));
    gate.arrivals(1).await;
    let second = edge.get("/b").await;
    assert!(second.found_no_room_at("edge-1"), "{second:?}");
    gate.open();
    assert_eq!(first.await.unwrap().status, 200);
    assert!(origin.requests("/b").is_empty());
    topology.finish().await;
}
