//! Whom a node asks: what it holds against them, and what it does not.

use tests::{Origin, Reply, Topology, ask, get};

#[tokio::test(flavor = "multi_thread")]
async fn a_page_that_hangs_is_held_against_nobody_but_its_origin() {
    let origin = Origin::start().await;
    origin.always("/hangs", Reply::silence());
    origin.always("/a", Reply::fresh("content"));
    // As long as an upper tier waits for an origin, so long an edge would, too.
    let topology = Topology::new(&origin)
        .uppers(2)
        .site("fallback = []")
        .every_node("[timeouts]\nfirst_byte_ms = 300\nrequest_body_ms = 300")
        .start()
        .await;
    let edge = topology.edge(1);
    let mut visitors = tokio::task::JoinSet::new();
    for number in 0..6 {
        let target = format!("/hangs?{number}");
        let address = edge.address();
        let method = if number % 2 == 0 { "GET" } else { "POST" };
        visitors.spawn(async move {
            let mut client = tests::Client::connect(address).await;
            client.ask(&ask(method, &target)).await
        });
    }
    while let Some(answer) = visitors.join_next().await {
        let answer = answer.unwrap();
        assert_eq!(answer.status, 504);
        let named = answer.says("Proxy-Status");
        assert!(named.starts_with("upper-"), "{named}");
    }
    let metrics = edge.metrics().await;
    for peer in ["upper-1", "upper-2"] {
        assert_eq!(metrics.sum("upper_tier_up", &[("peer", peer)]), 1, "{peer}");
    }
    topology.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_edge_lets_in_an_upper_tier_does_not_refuse() {
    let origin = Origin::start().await;
    origin.always("/a", Reply::fresh("content"));
    let limits = "[limits]\nfields_max = 40\nhead_bytes_max = 4096";
    let topology = Topology::new(&origin).every_node(limits).start().await;
    let many = (1..40).fold(get("/a"), |ask, number| {
        ask.with(&format!("X-{number}"), "value")
    });
    let long_name = "X-".to_owned() + &"long".repeat(1_900 / 4);
    let long = get("/a?2").with(&long_name, &"value".repeat(1_900 / 5));
    for ask in [many, long] {
        let answer = topology.edge(1).ask(&ask).await;
        assert!(answer.says("Via").contains("upper-1"), "{answer:?}");
    }
    topology.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_an_upper_tier_will_not_take_is_its_visitors_alone() {
    let origin = Origin::start().await;
    origin.always("/a", Reply::fresh("content"));
    let topology = Topology::new(&origin)
        .site("fallback = []")
        .upper_extra("[limits]\nfields_max = 10")
        .start()
        .await;
    let edge = topology.edge(1);
    for number in 0..4 {
        let method = if number % 2 == 0 { "GET" } else { "POST" };
        let many = (0..50).fold(ask(method, &format!("/many?{number}")), |ask, number| {
            ask.with(&format!("X-{number}"), "value")
        });
        let answer = edge.ask(&many).await;
        assert!([431, 502].contains(&answer.status), "{answer:?}");
        let named = answer.says("Proxy-Status");
        assert!(named.contains("upper-1: it would not take this"), "{named}");
    }
    // No alarm, which `finish` looks for, and the hop is in use.
    let metrics = edge.metrics().await;
    assert_eq!(metrics.sum("upper_tier_up", &[("peer", "upper-1")]), 1);
    assert_eq!(edge.get("/a").await.text(), "content");
    topology.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_took_too_long_is_counted() {
    let origin = Origin::start().await;
    origin.always("/hangs", Reply::silence());
    let topology = Topology::new(&origin)
        .uppers(0)
        .site("fallback = [\"direct\"]")
        .edge_extra("[timeouts]\nanswer_ms = 300")
        .start()
        .await;
    let edge = topology.edge(1);
    assert_eq!(edge.get("/hangs").await.status, 504);
    let metrics = edge.metrics().await;
    let timeouts = metrics.sum("upstream_requests_total", &[("result", "timeout")]);
    assert_eq!(timeouts, 1);
    topology.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restarted_origin_costs_no_visitor_an_error() {
    let origin = Origin::start().await;
    // Each second request of a connection finds it closed, as after a restart.
    let gate = tests::Gate::new();
    origin.on("/a", {
        let gate = gate.clone();
        move |asked| match asked.target.as_str() {
            "/a?again" if asked.connection < 3 => Reply::hang_up(),
            "/a?again" => Reply::fresh("content"),
            _ => Reply::ok("content").held_at(&gate),
        }
    });
    let topology = Topology::new(&origin)
        .uppers(0)
        .site("fallback = [\"direct\"]")
        .start()
        .await;
    let address = topology.edge(1).address();
    let mut visitors = tokio::task::JoinSet::new();
    for number in 0..3 {
        visitors.spawn(async move {
            let mut client = tests::Client::connect(address).await;
            client.ask(&get(&format!("/a?{number}"))).await
        });
    }
    // Three at once, so three connections are in the pool afterwards.
    origin.wait_for_requests("/a", 3).await;
    gate.open();
    while let Some(answer) = visitors.join_next().await {
        assert_eq!(answer.unwrap().status, 200);
    }
    topology.no_fill_is_running().await;
    let answer = topology.edge(1).get("/a?again").await;
    assert_eq!((answer.status, answer.text().as_str()), (200, "content"));
    topology.finish().await;
}
