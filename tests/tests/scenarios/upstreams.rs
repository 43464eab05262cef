//! Whom a node asks: what it holds against them, and what it does not.

use tests::{Origin, Reply, Topology, ask};

#[tokio::test(flavor = "multi_thread")]
async fn a_page_that_hangs_is_held_against_nobody_but_its_origin() {
    let origin = Origin::start().await;
    origin.always("/hangs", Reply::silence());
    origin.always("/a", Reply::fresh("content"));
    // As long as an upper tier waits for an origin, so long an edge would, too.
    let topology = Topology::new(&origin)
        .uppers(2)
        .site("fallback = []")
        .every_node("[timeouts]\nfirst_byte_ms = 300")
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
