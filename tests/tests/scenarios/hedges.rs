//! An upper tier is late, and another one's store is asked meanwhile.

use tests::{Client, Gate, Hop, Origin, Reply, TestNode, Topology, get, within};

/// Requests after which both upper tiers are known well enough to call an answer late.
const WARM_UP: usize = 100;

async fn warmed_up(origin: &Origin) -> Topology {
    let topology = Topology::new(origin)
        .edges(2)
        .uppers(2)
        .hop(Hop::Messages)
        .site("fallback = []\nhedge = true")
        .start()
        .await;
    let mut client = topology.edge(1).client().await;
    for number in 0..WARM_UP {
        client.ask(&get(&format!("/warm-{number}"))).await;
    }
    topology
}

async fn ended(edge: &TestNode, end: &str) -> u64 {
    let metrics = edge.metrics().await;
    metrics.sum("hedges_total", &[("end", end)])
}

#[tokio::test(flavor = "multi_thread")]
async fn what_another_one_has_stored_comes_while_the_first_is_silent() {
    const PAGES: usize = 8;
    let origin = Origin::start().await;
    for page in 0..PAGES {
        origin.always(&format!("/{page}"), Reply::fresh(format!("page {page}")));
    }
    let topology = warmed_up(&origin).await;
    // All of them are stored at the second upper tier.
    topology.relay(1).cut().await;
    for page in 0..PAGES {
        let answer = topology.edge(2).get(&format!("/{page}")).await;
        assert!(answer.says("Via").contains("upper-2"), "{answer:?}");
    }
    topology.relay(1).restore();
    topology.relay(1).swallow();
    let before = origin.all_requests().len();
    let edge = topology.edge(1);
    for page in 0..PAGES {
        // Far below the time that an upper tier has.
        let answer = within(10, edge.get(&format!("/{page}"))).await;
        assert_eq!(
            (answer.status, answer.text()),
            (200, format!("page {page}"))
        );
    }
    assert_eq!(origin.all_requests().len(), before);
    assert!(ended(edge, "won").await > 0);
    topology.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_nobody_has_stored_is_fetched_once() {
    const PAGES: usize = 8;
    let origin = Origin::start().await;
    let gate = Gate::new();
    for page in 0..PAGES {
        let held = Reply::fresh(format!("page {page}")).held_at(&gate);
        origin.always(&format!("/{page}"), held);
    }
    let topology = warmed_up(&origin).await;
    let edge = topology.edge(1);
    let before = ended(edge, "not_stored").await;
    let visitors: Vec<_> = (0..PAGES)
        .map(|page| {
            let (edge, asked) = (edge.address(), get(&format!("/{page}")));
            tokio::spawn(async move { Client::connect(edge).await.ask(&asked).await })
        })
        .collect();
    gate.arrivals(PAGES).await;
    let late = before + PAGES as u64;
    edge.wait_for_metric("hedges_total", &[("end", "not_stored")], late)
        .await;
    gate.open();
    for (page, visitor) in visitors.into_iter().enumerate() {
        let answer = visitor.await.unwrap();
        assert_eq!(
            (answer.status, answer.text()),
            (200, format!("page {page}"))
        );
        assert_eq!(origin.requests(&format!("/{page}")).len(), 1);
    }
    topology.finish().await;
}
