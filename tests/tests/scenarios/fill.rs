//! Fetching once for many: who waits for whom, and who does not.

use node::MovedClock;
use tests::{Client, Gate, Origin, Reply, TestNode, Topology, clock, get, within};

/// Connects and asks, without waiting for the answer.
async fn asking(edge: &TestNode, path: &str) -> Client {
    let mut client = edge.client().await;
    client.send(get(path).bytes()).await;
    client
}

/// Waits until so many requests are being served at the edges together.
async fn all_wait(topology: &Topology, count: u64) {
    tests::until("all visitors wait at their edges", async || {
        let mut waiting = 0;
        for edge in topology.edges() {
            waiting += edge.metrics().await.sum("requests_in_flight", &[]);
        }
        (waiting == count).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_visitors_at_three_edges_cost_the_origin_one_request() {
    let origin = Origin::start().await;
    let gate = Gate::new();
    origin.always("/slow", Reply::fresh("content").held_at(&gate));
    let topology = Topology::new(&origin).edges(3).uppers(2).start().await;

    let mut clients = Vec::new();
    for visitor in 0..100 {
        clients.push(asking(topology.edge(visitor % 3 + 1), "/slow").await);
    }
    all_wait(&topology, 100).await;
    gate.open();
    for client in &mut clients {
        let answer = client.response().await;
        assert_eq!((answer.status, answer.text().as_str()), (200, "content"));
    }
    assert_eq!(origin.requests("/slow").len(), 1);
    topology.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn everybody_reads_the_growing_body() {
    let origin = Origin::start().await;
    let gate = Gate::new();
    origin.always("/slow", Reply::fresh("first, then").pausing_after(5, &gate));
    let topology = Topology::new(&origin).edges(2).start().await;

    // One after the other they come, and none waits for the end.
    let mut clients = Vec::new();
    for edge in [1, 1, 2] {
        let mut client = asking(topology.edge(edge), "/slow").await;
        let head = client.head().await;
        assert_eq!(head.says("Content-Length"), "11");
        assert_eq!(client.at_least(5).await, "first", "at edge-{edge}");
        clients.push(client);
    }
    gate.open();
    for mut client in clients {
        let (rest, complete) = client.rest().await;
        assert_eq!(rest, ", then");
        assert!(complete);
    }
    assert_eq!(origin.requests("/slow").len(), 1);
    topology.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_boards_a_body_that_takes_longer_than_it_is_fresh() {
    let origin = Origin::start().await;
    let gate = Gate::new();
    let ten_seconds = |body: &'static str| Reply::ok(body).with("Cache-Control", "max-age=10");
    origin.in_turn(
        "/slow",
        [
            ten_seconds("first, then").pausing_after(5, &gate),
            ten_seconds("later"),
        ],
    );
    let time = MovedClock::at(clock::now_ms());
    let topology = Topology::new(&origin).clock(&time).start().await;
    let edge = topology.edge(1);
    let mut first = asking(edge, "/slow").await;
    first.head().await;
    time.advance(9_000);
    let mut second = asking(edge, "/slow").await;
    second.head().await;
    time.advance(1_000);
    assert_eq!(edge.get("/slow").await.text(), "later");
    gate.open();
    for mut client in [first, second] {
        let (rest, complete) = client.rest().await;
        assert_eq!((rest.as_ref(), complete), (&b"first, then"[..], true));
    }
    topology.no_fill_is_running().await;
    // What came late and is old already does not take the place of what is fresh.
    let again = edge.get("/slow").await;
    assert_eq!(again.text(), "later");
    assert!(again.hit_at("edge-1"), "{again:?}");
    assert_eq!(origin.requests("/slow").len(), 2);
    topology.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dribbled_chunked_body_is_passed_on_as_it_comes() {
    let origin = Origin::start().await;
    let gate = Gate::new();
    origin.always(
        "/slow",
        Reply::fresh("drip").chunked().pausing_after(2, &gate),
    );
    let topology = Topology::new(&origin).start().await;
    let mut client = asking(topology.edge(1), "/slow").await;
    client.head().await;
    assert_eq!(client.at_least(2).await, "dr");
    gate.open();
    let (rest, complete) = client.rest().await;
    assert_eq!((&rest[..], complete), (&b"ip"[..], true));
    // Stored under the length that it turned out to have.
    let hit = topology.edge(1).get("/slow").await;
    assert!(hit.hit_at("edge-1"));
    assert_eq!(hit.says("Content-Length"), "4");
    topology.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_visitor_who_leaves_does_not_cancel_what_will_be_stored() {
    const MIB: usize = 1 << 20;
    let origin = Origin::start().await;
    let (left, noticed) = (Gate::new(), Gate::new());
    let reply = Reply::fresh(vec![b'x'; 2 * MIB]);
    origin.always(
        "/slow",
        reply
            .pausing_after(5, &left)
            .pausing_after(MIB as u64, &noticed),
    );
    let topology = Topology::new(&origin).start().await;
    let edge = topology.edge(1);

    let mut client = asking(edge, "/slow").await;
    client.head().await;
    client.at_least(5).await;
    drop(client);
    left.open();
    // The edge finds out by writing, and has no reader left for the second half.
    tests::until("the visitor is gone", async || {
        (edge.metrics().await.sum("connections", &[]) == 0).then_some(())
    })
    .await;
    noticed.open();
    edge.wait_for_metric("fills_total", &[("end", "stored")], 1)
        .await;
    let hit = edge.get("/slow").await;
    assert_eq!(hit.body.len(), 2 * MIB);
    assert!(hit.hit_at("edge-1"), "{:?}", hit.cache_status());
    assert_eq!(origin.requests("/slow").len(), 1);
    topology.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_nobody_reads_and_nobody_keeps_is_not_fetched_to_its_end() {
    let origin = Origin::start().await;
    // A gigabyte, which nobody here means to carry.
    let body = Reply::new(200).with("Cache-Control", "no-store");
    origin.always("/endless", body.repeating(vec![b'x'; 1 << 20], 1 << 10));
    let topology = Topology::new(&origin).start().await;
    let mut client = asking(topology.edge(1), "/endless").await;
    client.head().await;
    client.at_least(1).await;
    drop(client);
    origin.wait_for_abandoned(1).await;
    topology.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_uncacheable_answer_lets_everybody_go_at_once() {
    let origin = Origin::start().await;
    let (first, others) = (Gate::new(), Gate::new());
    let private = Reply::ok("yours").with("Cache-Control", "private");
    origin.in_turn(
        "/mine",
        [private.clone().held_at(&first), private.held_at(&others)],
    );
    let topology = Topology::new(&origin).start().await;
    let edge = topology.edge(1);

    let mut clients = Vec::new();
    for _ in 0..5 {
        clients.push(asking(edge, "/mine").await);
    }
    all_wait(&topology, 5).await;
    first.arrivals(1).await;
    assert_eq!(origin.requests("/mine").len(), 1);
    first.open();
    // Nobody answers the other four, and yet all of them arrive: in parallel.
    others.arrivals(4).await;
    others.open();
    for client in &mut clients {
        assert_eq!(client.response().await.text(), "yours");
    }
    assert_eq!(origin.requests("/mine").len(), 5);
    for node in [edge, topology.upper(1)] {
        let marks = node.metrics().await.sum("hit_for_miss_total", &[]);
        assert!(marks >= 1, "{} left no mark", node.name());
    }
    topology.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn behind_a_hit_for_miss_mark_nobody_waits_for_anybody() {
    let origin = Origin::start().await;
    let gate = Gate::new();
    let private = Reply::ok("yours").with("Cache-Control", "private");
    origin.in_turn("/mine", [private.clone(), private.held_at(&gate)]);
    let topology = Topology::new(&origin).start().await;
    topology.edge(1).get("/mine").await;
    let mut clients = Vec::new();
    for _ in 0..3 {
        clients.push(asking(topology.edge(1), "/mine").await);
    }
    gate.arrivals(3).await;
    gate.open();
    for client in &mut clients {
        assert_eq!(client.response().await.text(), "yours");
    }
    topology.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn followers_split_where_their_variants_differ() {
    let origin = Origin::start().await;
    let gate = Gate::new();
    let held = gate.clone();
    origin.on("/a", move |asked| {
        let reply = Reply::fresh(asked.says("X-Kind")).with("Vary", "X-Kind");
        reply.held_at(&held)
    });
    let topology = Topology::new(&origin).start().await;
    let kinds = ["red", "blue", "red", "blue", "red", "blue"];
    let mut clients = Vec::new();
    for kind in kinds {
        let mut client = topology.edge(1).client().await;
        client.send(get("/a").with("X-Kind", kind).bytes()).await;
        clients.push(client);
    }
    all_wait(&topology, 6).await;
    assert_eq!(
        origin.requests("/a").len(),
        1,
        "nobody knows yet that it varies"
    );
    gate.open();
    for (client, kind) in clients.iter_mut().zip(kinds) {
        assert_eq!(client.response().await.text(), kind);
    }
    assert_eq!(origin.requests("/a").len(), 2, "one a variant");
    topology.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shared_fill_carries_nothing_of_one_visitor() {
    let origin = Origin::start().await;
    origin.always("/a", Reply::fresh("content"));
    let site = "[sites.shop.key]\ncookies = [\"lang\"]";
    let topology = Topology::new(&origin).site(site).start().await;
    let asked = get("/a")
        .with("Cookie", "session=secret; lang=de")
        .with("If-None-Match", "\"v1\"")
        .with("Range", "bytes=0-1")
        .with("X-Forwarded-For", "192.0.2.1")
        .with("Forwarded", "for=192.0.2.1");
    topology.edge(1).ask(&asked).await;
    let seen = origin.requests("/a").pop().unwrap();
    assert_eq!(seen.says("Cookie"), "lang=de");
    for name in [
        "If-None-Match",
        "Range",
        "X-Forwarded-For",
        "Forwarded",
        "Authorization",
    ] {
        assert_eq!(seen.field(name), None, "{name}");
    }
    let others = get("/b").with("Cookie", "session=secret");
    topology.edge(1).ask(&others).await;
    assert_eq!(origin.requests("/b")[0].field("Cookie"), None);
    topology.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_purge_during_a_fill_keeps_it_out_of_the_store() {
    let origin = Origin::start().await;
    let gate = Gate::new();
    origin.in_turn(
        "/a",
        [
            Reply::fresh("old content").pausing_after(3, &gate),
            Reply::fresh("new content"),
        ],
    );
    let topology = Topology::new(&origin).start().await;
    let mut client = asking(topology.edge(1), "/a").await;
    client.head().await;
    client.at_least(3).await;
    for node in [topology.upper(1), topology.edge(1)] {
        node.purge("http://shop.example/a").await;
    }
    gate.open();
    // Whoever asked before the purge gets what there was.
    let (rest, complete) = client.rest().await;
    assert_eq!((&rest[..], complete), (&b" content"[..], true));
    assert_eq!(topology.edge(1).get("/a").await.text(), "new content");
    assert_eq!(origin.requests("/a").len(), 2);
    topology.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_follower_waits_only_so_long_for_anothers_fill() {
    let origin = Origin::start().await;
    let gate = Gate::new();
    origin.in_turn(
        "/slow",
        [Reply::fresh("first").held_at(&gate), Reply::fresh("second")],
    );
    let topology = Topology::new(&origin)
        .every_node("[timeouts]\ncollapse_ms = 200")
        .start()
        .await;
    let mut leader = asking(topology.edge(1), "/slow").await;
    origin.wait_for_requests("/slow", 1).await;
    // The leader's answer does not come, so the follower gets its own.
    let follower = within(10, topology.edge(1).get("/slow")).await;
    assert_eq!(follower.text(), "second");
    gate.open();
    assert_eq!(leader.response().await.text(), "first");
    topology.finish().await;
}
