//! Ways to content: upper tiers that die, come late or come back, and what a site
//! says should happen when none is left.

use tests::{Hop, Origin, Reply, Topology, ask, get, within};

#[tokio::test(flavor = "multi_thread")]
async fn an_unsafe_request_takes_the_next_way_while_none_was_connected_to() {
    let origin = Origin::start().await;
    origin.always("/order", Reply::new(201).body("ordered"));
    let topology = Topology::new(&origin)
        .hop(Hop::Bytes)
        .site("fallback = [\"direct\"]")
        .start()
        .await;
    topology.relay(1).cut().await;
    let answer = topology
        .edge(1)
        .ask(&ask("POST", "/order").body("one"))
        .await;
    assert_eq!((answer.status, answer.text().as_str()), (201, "ordered"));
    assert_eq!(origin.requests("/order")[0].body, "one");
    topology.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_upper_tier_costs_no_visitor_an_error_and_is_used_again() {
    let origin = Origin::start().await;
    let paths: Vec<String> = (0..200).map(|path| format!("/{path}")).collect();
    for path in &paths {
        origin.always(path, Reply::fresh("content"));
    }
    let topology = Topology::new(&origin)
        .uppers(2)
        .hop(Hop::Bytes)
        .start()
        .await;
    let edge = topology.edge(1);
    let mut visitors = tokio::task::JoinSet::new();
    for part in paths.chunks(50) {
        let (part, address) = (part.to_vec(), edge.address());
        visitors.spawn(async move {
            let mut client = tests::Client::connect(address).await;
            for path in part {
                let answer = client.ask(&get(&path)).await;
                assert_eq!((answer.status, answer.complete), (200, true), "{path}");
            }
        });
    }
    // In the middle of it, one of the two goes.
    let half_way = async || (origin.all_requests().len() >= 60).then_some(());
    tests::until("the visitors are under way", half_way).await;
    topology.relay(1).cut().await;
    while let Some(visitor) = visitors.join_next().await {
        visitor.unwrap();
    }
    let edge_metrics = edge.metrics().await;
    assert_eq!(
        edge_metrics.sum("requests_total", &[("status_class", "5xx")]),
        0
    );

    topology.relay(1).restore();
    let mut next = 0;
    let asked_again = tests::until("the first upper tier is asked again", async || {
        next += 1;
        let answer = edge.get(&format!("/later-{next}")).await;
        answer.says("Via").contains("upper-1").then_some(())
    });
    within(3, asked_again).await;
    topology.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_came_back_is_asked_when_the_other_dies() {
    let origin = Origin::start().await;
    let paths: Vec<String> = (0..100).map(|path| format!("/{path}")).collect();
    for path in &paths {
        origin.always(path, Reply::fresh("content"));
    }
    let topology = Topology::new(&origin)
        .uppers(2)
        .hop(Hop::Bytes)
        .site("fallback = []")
        .start()
        .await;
    let edge = topology.edge(1);
    topology.relay(1).cut().await;
    let mut paths = paths.iter();
    tests::until("the edge finds the first upper tier down", async || {
        assert_eq!(edge.get(paths.next().unwrap()).await.status, 200);
        let metrics = edge.metrics().await;
        let up = metrics.sum("upper_tier_up", &[("peer", "upper-1")]);
        (up == 0).then_some(())
    })
    .await;
    // It is back before its time down is over, and now the other one goes.
    topology.relay(1).restore();
    topology.relay(2).cut().await;
    for path in paths.take(2) {
        let answer = edge.get(path).await;
        assert_eq!((answer.status, answer.text().as_str()), (200, "content"));
    }
    topology.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn it_does_not_matter_who_starts_first() {
    let origin = Origin::start().await;
    origin.always("/a", Reply::fresh("content"));
    let topology = Topology::new(&origin)
        .hop(Hop::Bytes)
        .site("fallback = []")
        .start()
        .await;
    // For the edge this is an upper tier that is not there yet.
    topology.relay(1).cut().await;
    let edge = topology.edge(1);
    assert_eq!(edge.get("/a").await.status, 502);
    topology.relay(1).restore();
    let served = tests::until("the edge found its upper tier", async || {
        (edge.get("/a").await.status == 200).then_some(())
    });
    within(3, served).await;
    topology.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_any_upper_tier_the_site_decides() {
    for (fallback, status, body) in [
        ("[\"direct\"]", 200, "new"),
        ("[\"stale\"]", 200, "old"),
        ("[\"stale\", \"direct\"]", 200, "old"),
        ("[\"direct\", \"stale\"]", 200, "new"),
        ("[]", 502, ""),
    ] {
        let origin = Origin::start().await;
        origin.in_turn(
            "/a",
            [
                Reply::stale("old", ", stale-if-error=600"),
                Reply::fresh("new"),
            ],
        );
        let topology = Topology::new(&origin)
            .uppers(2)
            .hop(Hop::Bytes)
            .site(&format!("fallback = {fallback}"))
            .start()
            .await;
        assert_eq!(topology.edge(1).get("/a").await.text(), "old", "{fallback}");
        for relay in topology.relays() {
            relay.cut().await;
        }
        let answer = topology.edge(1).get("/a").await;
        assert_eq!(answer.status, status, "{fallback}");
        if status == 200 {
            assert_eq!(answer.text(), body, "{fallback}");
        } else {
            let named = answer.says("Proxy-Status");
            assert!(named.starts_with("edge-1; error="), "{fallback}: {named}");
        }
        topology.finish().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upper_tier_that_does_not_answer_is_a_504() {
    let origin = Origin::start().await;
    let topology = Topology::new(&origin)
        .hop(Hop::Messages)
        .site("fallback = []")
        .edge_extra("[timeouts]\ntier_answer_ms = 300")
        .start()
        .await;
    topology.relay(1).swallow();
    let answer = topology.edge(1).get("/a").await;
    assert_eq!(answer.status, 504);
    let named = answer.says("Proxy-Status");
    assert!(named.contains("upper-1"), "{named}");
    topology.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_goes_on_from_another_upper_tier_when_its_own_dies() {
    let origin = Origin::start().await;
    let gate = tests::Gate::new();
    let whole = Reply::fresh("first half, second half").with("ETag", "\"v1\"");
    origin.in_turn("/a", [whole.clone().pausing_after(10, &gate), whole]);
    let topology = Topology::new(&origin)
        .uppers(2)
        .hop(Hop::Bytes)
        .start()
        .await;
    let mut client = topology.edge(1).client().await;
    client.send(get("/a").bytes()).await;
    client.head().await;
    assert_eq!(client.at_least(10).await, "first half");
    for (relay, upper) in topology.relays().iter().zip(topology.uppers()) {
        if upper.metrics().await.sum("fills_in_flight", &[]) > 0 {
            // Only this one: from here on the other may be filling too.
            relay.cut().await;
            break;
        }
    }
    let (rest, complete) = client.rest().await;
    assert_eq!((&rest[..], complete), (&b", second half"[..], true));
    assert_eq!(
        topology.edge(1).metrics().await.sum("resumed_total", &[]),
        1
    );
    gate.open();
    topology.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edge_is_ready_whatever_its_upper_tiers_do_while_it_may_go_around_them() {
    let origin = Origin::start().await;
    origin.always("/a", Reply::fresh("content"));
    let topology = Topology::new(&origin)
        .hop(Hop::Bytes)
        .site("fallback = [\"direct\"]")
        .start()
        .await;
    // Before it was ever asked, and after it was found dead.
    topology.relay(1).cut().await;
    let edge = topology.edge(1);
    assert_eq!(edge.admin(&get("/readyz")).await.status, 200);
    assert_eq!(edge.get("/a").await.text(), "content");
    assert_eq!(edge.admin(&get("/readyz")).await.status, 200);
    let up = edge
        .metrics()
        .await
        .sum("upper_tier_up", &[("peer", "upper-1")]);
    assert_eq!(up, 0);
    topology.finish().await;
}
