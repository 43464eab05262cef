//! An upper tier that alone cannot reach the origin, and an origin that nobody reaches.

use tests::{Client, Gate, Load, Origin, Reply, Topology, ask, get, until, within};

/// Two upper tiers, and nothing to fall back to.
async fn strict(origin: &Origin) -> Topology {
    Topology::new(origin)
        .uppers(2)
        .ways_on()
        .site("fallback = []")
        .start()
        .await
}

/// What a visitor and the origin agree upon: its body is its target.
fn echo(origin: &Origin) {
    origin.on("/object", |asked| match asked.method.as_str() {
        "GET" => Reply::fresh(asked.target.clone()),
        _ => Reply::ok(asked.target.clone()).with("Cache-Control", "no-store"),
    });
}

/// How often upper tiers said so to that edge.
async fn unreached(topology: &Topology, upper: &str) -> u64 {
    let metrics = topology.edge(1).metrics().await;
    metrics.sum("upper_tier_unreached_total", &[("peer", upper)])
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_is_cut_off_from_the_origin_costs_no_visitor_an_error() {
    let origin = Origin::start().await;
    echo(&origin);
    let topology = strict(&origin).await;
    let edge = topology.edge(1).address();
    // Pages of before, new ones, and orders, each with either upper tier as first choice.
    let mut load = Load::along(8, move |number| {
        let target = format!("/object?{}", number / 3);
        let asked = match number % 9 {
            0 => ask("POST", &target).body("x"),
            1 => ask("OPTIONS", &target),
            _ => get(&target),
        };
        (edge, asked, target)
    });
    load.goes_on(150).await;
    topology.way_on(1).cut().await;
    load.goes_on(300).await;
    topology.way_on(1).restore();
    // And it is asked again, by its store and by its way on.
    let mut next = 0;
    let asked_again = until("it fetches again", async || {
        next += 1;
        let answer = topology.edge(1).get(&format!("/object?again={next}")).await;
        assert_eq!(answer.status, 200);
        answer.says("Via").contains("upper-1").then_some(())
    });
    within(3, asked_again).await;
    load.goes_on(150).await;
    load.end().await;
    assert!(unreached(&topology, "upper-1").await > 0);
    assert_eq!(unreached(&topology, "upper-2").await, 0);
    let metrics = topology.edge(1).metrics().await;
    assert_eq!(metrics.sum("requests_total", &[("status_class", "5xx")]), 0);
    assert_eq!(metrics.sum("upper_tier_up", &[]), 2, "neither is down");
    topology.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_it_has_stored_is_still_served_by_it() {
    let origin = Origin::start().await;
    echo(&origin);
    let topology = Topology::new(&origin)
        .edges(2)
        .uppers(2)
        .ways_on()
        .site("fallback = []")
        .start()
        .await;
    // Warm at the upper tiers, by the other edge.
    let pages: Vec<_> = (0..20).map(|page| format!("/object?{page}")).collect();
    for page in &pages {
        assert_eq!(topology.edge(2).get(page).await.text(), *page);
    }
    for way_on in topology.ways_on() {
        way_on.cut().await;
    }
    assert_eq!(topology.edge(1).get("/object?cold").await.status, 502);
    for page in &pages {
        let answer = topology.edge(1).get(page).await;
        assert_eq!((answer.status, answer.text()), (200, page.clone()));
    }
    topology.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_now_and_then_a_request_finds_out_whether_it_still_is() {
    let origin = Origin::start().await;
    echo(&origin);
    // It is not tried again while this test runs.
    let topology = Topology::new(&origin)
        .uppers(2)
        .ways_on()
        .site("fallback = []")
        .probing()
        .edge_extra("[health]\ndown_ms = 600000")
        .start()
        .await;
    topology.way_on(1).cut().await;
    let mut client = topology.edge(1).client().await;
    for page in 0..60 {
        let page = format!("/object?{page}");
        let answer = client.ask(&get(&page)).await;
        assert_eq!((answer.status, answer.text()), (200, page));
    }
    assert_eq!(unreached(&topology, "upper-1").await, 1);
    topology.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_may_have_been_executed_is_not_sent_by_another() {
    // The connection of each order breaks behind the upper tier; the origin has it.
    let origin = Origin::start().await;
    origin.always("/order", Reply::hang_up());
    origin.always("/page", Reply::hang_up());
    let topology = strict(&origin).await;
    let edge = topology.edge(1);
    let answer = edge.ask(&ask("POST", "/order").body("one")).await;
    assert_eq!(answer.status, 502);
    assert!(answer.says("Proxy-Status").contains("upper-"), "{answer:?}");
    assert_eq!(origin.requests("/order").len(), 1);
    // A page is asked for by either, once each, and by nobody else.
    let answer = edge.get("/page").await;
    assert_eq!(answer.status, 502);
    assert_eq!(origin.requests("/page").len(), 2);
    topology.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn those_who_wait_for_the_same_page_find_out_together() {
    const VISITORS: usize = 40;
    let origin = Origin::start().await;
    let gate = Gate::new();
    origin.always("/page", Reply::hang_up().held_at(&gate));
    let topology = strict(&origin).await;
    let edge = topology.edge(1);
    let visitors: Vec<_> = (0..VISITORS)
        .map(|_| {
            let address = edge.address();
            tokio::spawn(async move { Client::connect(address).await.ask(&get("/page")).await })
        })
        .collect();
    gate.arrivals(1).await;
    let all = VISITORS as u64;
    edge.wait_for_metric("requests_in_flight", &[], all).await;
    gate.open();
    for visitor in visitors {
        assert_eq!(visitor.await.unwrap().status, 502);
    }
    // Once by either upper tier, for all of them.
    assert_eq!(origin.requests("/page").len(), 2);
    topology.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_origin_that_nobody_reaches_is_one_clean_error_and_is_back_at_once() {
    const VISITORS: usize = 40;
    let origin = Origin::start().await;
    echo(&origin);
    origin.always("/stale", Reply::stale("old", ", stale-if-error=600"));
    let topology = Topology::new(&origin)
        .uppers(2)
        .ways_on()
        .site("fallback = [\"stale\"]")
        .start()
        .await;
    let edge = topology.edge(1);
    assert_eq!(edge.get("/stale").await.text(), "old");
    for way_on in topology.ways_on() {
        way_on.cut().await;
    }
    let mut visitors = tokio::task::JoinSet::new();
    for _ in 0..VISITORS {
        let address = edge.address();
        visitors.spawn(async move {
            let asked = get("/object?same");
            Client::connect(address).await.ask(&asked).await
        });
    }
    while let Some(answer) = visitors.join_next().await {
        let answer = answer.unwrap();
        assert_eq!((answer.status, answer.complete), (502, true));
        let named = answer.says("Proxy-Status");
        assert!(named.starts_with("upper-"), "who could not: {named}");
        assert!(named.contains("error=connection_refused"), "{named}");
        assert_eq!(answer.says("Cache-Control"), "no-store");
        assert!(!answer.leaks_control(), "{answer:?}");
    }
    // Each asked both at most, and those who waited for another's fill none.
    let said = unreached(&topology, "upper-1").await + unreached(&topology, "upper-2").await;
    assert!((2..=2 * VISITORS as u64).contains(&said), "{said}");
    let stale = edge.get("/stale").await;
    assert_eq!((stale.status, stale.text().as_str()), (200, "old"));
    for way_on in topology.ways_on() {
        way_on.restore();
    }
    let served = until("the origin is reached again", async || {
        (edge.get("/object?same").await.status == 200).then_some(())
    });
    within(3, served).await;
    topology.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_origin_itself_is_the_way_past_upper_tiers_that_are_cut_off() {
    let origin = Origin::start().await;
    echo(&origin);
    let topology = Topology::new(&origin)
        .uppers(2)
        .ways_on()
        .site("fallback = [\"direct\"]")
        .start()
        .await;
    for way_on in topology.ways_on() {
        way_on.cut().await;
    }
    for page in 0..20 {
        let page = format!("/object?{page}");
        let answer = topology.edge(1).get(&page).await;
        assert_eq!((answer.status, answer.text()), (200, page));
    }
    let order = ask("POST", "/object?order").body("x");
    assert_eq!(topology.edge(1).ask(&order).await.status, 200);
    topology.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_way_on_that_swallows_everything_costs_its_time_and_no_error() {
    let origin = Origin::start().await;
    echo(&origin);
    let topology = Topology::new(&origin)
        .uppers(2)
        .ways_on()
        .site("fallback = []")
        .upper_extra("[timeouts]\nfirst_byte_ms = 300")
        .start()
        .await;
    topology.way_on(1).swallow();
    for page in 0..12 {
        let page = format!("/object?{page}");
        let answer = topology.edge(1).get(&page).await;
        assert_eq!((answer.status, answer.text()), (200, page));
    }
    assert!(unreached(&topology, "upper-1").await > 0);
    topology.finish().await;
}
