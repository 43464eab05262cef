//! Upper tiers that answer, but too slowly: their visitors wait, and not in vain.

use tests::{Gate, Hop, Origin, Reply, Topology, ask, get, until};

#[tokio::test(flavor = "multi_thread")]
async fn slow_upper_tiers_leave_time_for_the_origin() {
    const EACH: usize = 6;
    let origin = Origin::start().await;
    let gate = Gate::new();
    for page in 0..EACH {
        let held = Reply::fresh(format!("page {page}")).held_at(&gate);
        origin.always(&format!("/{page}"), held);
    }
    origin.always("/passed", Reply::new(204).held_at(&gate));
    let topology = Topology::new(&origin)
        .uppers(2)
        .hop(Hop::Messages)
        .site("fallback = [\"direct\"]")
        // Once in turn, they would need twelve times half a second.
        .edge_extra(
            "[timeouts]\ntier_answer_ms = 500\nanswer_ms = 4000\n\
             [limits]\nretry_percent = 0\nretries_min = 1",
        )
        .start()
        .await;
    let edge = topology.edge(1);
    for relay in topology.relays() {
        relay.swallow();
    }
    let passed = ask("OPTIONS", "/passed");
    let visitors = (0..EACH).map(|page| edge.visitor(get(&format!("/{page}"))));
    let visitors: Vec<_> = visitors.collect();
    let passing: Vec<_> = (0..EACH).map(|_| edge.visitor(passed.clone())).collect();
    // All of them, though there is one turn to ask again.
    gate.arrivals(2 * EACH).await;
    gate.open();
    for (page, visitor) in visitors.into_iter().enumerate() {
        let answer = visitor.await.unwrap();
        let got = (answer.status, answer.text());
        assert_eq!(got, (200, format!("page {page}")), "{answer:?}");
    }
    for visitor in passing {
        let answer = visitor.await.unwrap();
        assert_eq!(answer.status, 204, "{answer:?}");
    }
    let metrics = edge.metrics().await;
    let held = |then| metrics.sum("retries_held_total", &[("then", then)]);
    assert!(
        held("direct") > 0,
        "some found no turn at the other upper tier"
    );
    assert_eq!(held("refused"), 0);
    assert_eq!(origin.all_requests().len(), 2 * EACH);
    topology.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_answers_too_late_too_often_is_passed_over_though_it_answers_others() {
    // As many as `recent_failures_to_down`, of twice as many: `recent`.
    const LATE: usize = 10;
    let origin = Origin::start().await;
    let gate = Gate::new();
    for page in 0..LATE {
        origin.always(&format!("/late/{page}"), Reply::ok("late").held_at(&gate));
    }
    origin.on_others(|_| Reply::fresh("soon"));
    let topology = Topology::new(&origin)
        .probing()
        .site("fallback = [\"direct\"]")
        .edge_extra(
            "[timeouts]\ntier_answer_ms = 2000\n\
             [health]\ndown_ms = 600000",
        )
        .start()
        .await;
    let edge = topology.edge(1);
    let pages = (0..LATE).map(|page| edge.visitor(get(&format!("/late/{page}"))));
    let late: Vec<_> = pages.collect();
    gate.arrivals(LATE).await;
    for page in 0..LATE {
        let answer = edge.get(&format!("/soon/{page}")).await;
        assert!(answer.says("Via").contains("upper-1"), "{answer:?}");
    }
    until("it counts as down", async || {
        let metrics = edge.metrics().await;
        (metrics.sum("upper_tier_up", &[]) == 0).then_some(())
    })
    .await;
    let answer = edge.get("/next").await;
    assert_eq!(answer.text(), "soon");
    assert!(!answer.says("Via").contains("upper-1"), "{answer:?}");
    gate.open();
    for visitor in late {
        assert_eq!(visitor.await.unwrap().text(), "late");
    }
    topology.finish().await;
}
