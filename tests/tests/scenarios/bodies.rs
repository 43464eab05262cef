//! Bodies that are too large, too slow or broken, and origins that are no help.

use std::time::Duration;

use tests::{Gate, Origin, Reply, Topology, get};

/// What cannot be held in the sockets and windows of two hops, by a wide margin.
const LARGE_PARTS: usize = 96;
const PART_BYTES: usize = 1 << 20;

/// Every pattern byte tells where it stands, so that a gap would show.
fn pattern(bytes: usize) -> Vec<u8> {
    (0..bytes).map(|at| b'a' + (at % 23) as u8).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_object_over_the_limit_streams_through_and_is_not_kept() {
    for chunked in [false, true] {
        let origin = Origin::start().await;
        let mut reply = Reply::fresh(pattern(300_000));
        if chunked {
            reply = reply.repeating(pattern(50_000), 6).chunked();
        }
        origin.always("/large", reply);
        let topology = Topology::new(&origin)
            .every_node("[store]\nobject_bytes_max = \"100KiB\"")
            .start()
            .await;
        for _ in 0..2 {
            let answer = topology.edge(1).get("/large").await;
            assert!(answer.complete);
            assert_eq!(answer.body.len(), 300_000);
            assert!(!answer.says("Cache-Status").contains("hit"), "{chunked}");
        }
        assert_eq!(origin.requests("/large").len(), 2, "{chunked}");
        for node in [topology.edge(1), topology.upper(1)] {
            assert_eq!(node.metrics().await.sum("store_objects", &[]), 0);
        }
        topology.finish().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_fit_among_the_bytes_in_flight_streams_through() {
    let origin = Origin::start().await;
    origin.always("/large", Reply::fresh(pattern(3 << 20)));
    let limits = "[limits]\nfill_bytes_in_flight_max = \"1MiB\"\nfill_window_bytes = \"64KiB\"";
    let topology = Topology::new(&origin).every_node(limits).start().await;
    let answer = topology.edge(1).get("/large").await;
    assert!(answer.complete);
    assert_eq!(answer.body, pattern(3 << 20));
    let again = topology.edge(1).get("/large").await;
    assert!(!again.says("Cache-Status").contains("hit"));
    topology.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_passing_body_waits_for_its_reader() {
    let origin = Origin::start().await;
    let reply = Reply::fresh("").repeating(pattern(PART_BYTES), LARGE_PARTS);
    origin.always("/large", reply);
    let topology = Topology::new(&origin)
        .every_node("[store]\nobject_bytes_max = \"1MiB\"")
        .start()
        .await;
    let mut client = topology.edge(1).client().await;
    client.send(get("/large").bytes()).await;
    client.head().await;
    // Nobody reads: what the origin can send is what sockets and windows hold. That
    // something does not happen can only be awaited for a while.
    let beyond = (LARGE_PARTS * PART_BYTES * 3 / 4) as u64;
    let ran_ahead = origin.wait_for_sent(beyond);
    let ran_ahead = tokio::time::timeout(Duration::from_millis(700), ran_ahead).await;
    assert!(
        ran_ahead.is_err(),
        "the node holds a large object in memory"
    );
    let (body, complete) = client.rest().await;
    assert!(complete);
    assert_eq!(body.len(), LARGE_PARTS * PART_BYTES);
    topology.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_laggard_is_cut_off_and_nobody_else() {
    let origin = Origin::start().await;
    let gate = Gate::new();
    let reply = Reply::fresh("").repeating(pattern(PART_BYTES), LARGE_PARTS);
    origin.always("/large", reply.held_at(&gate));
    let topology = Topology::new(&origin)
        .edge_extra("[store]\nobject_bytes_max = \"1MiB\"\n[timeouts]\nlaggard_ms = 300")
        .upper_extra("[store]\nobject_bytes_max = \"1MiB\"")
        .start()
        .await;
    let edge = topology.edge(1);
    let mut reader = edge.client().await;
    let mut laggard = edge.client().await;
    reader.send(get("/large").bytes()).await;
    laggard.send(get("/large").bytes()).await;
    // Both are aboard before there is anything to read.
    tests::until("both wait", async || {
        (edge.metrics().await.sum("requests_in_flight", &[]) == 2).then_some(())
    })
    .await;
    gate.open();
    let whole = reader.response().await;
    assert!(whole.complete, "the reader who keeps up gets all of it");
    assert_eq!(whole.body.len(), LARGE_PARTS * PART_BYTES);
    edge.wait_for_metric("laggards_cut_total", &[], 1).await;
    let cut = laggard.response().await;
    assert!(!cut.complete, "what was cut off must not look whole");
    topology.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_body_is_resumed_by_range_under_a_strong_validator() {
    let origin = Origin::start().await;
    origin.on("/a", |asked| {
        let reply = Reply::fresh(pattern(100_000)).with("ETag", "\"v1\"");
        match asked.field("Range") {
            None => reply.breaking_after(40_000),
            Some(_) => reply.from_where_asked(asked),
        }
    });
    let topology = Topology::new(&origin).start().await;
    let answer = topology.edge(1).get("/a").await;
    assert!(answer.complete);
    assert_eq!(answer.body, pattern(100_000));
    let asked = origin.requests("/a");
    assert_eq!(asked.len(), 2);
    assert_eq!(asked[1].says("Range"), "bytes=40000-");
    assert_eq!(asked[1].says("If-Range"), "\"v1\"");
    // Resumed is as good as unbroken.
    let hit = topology.edge(1).get("/a").await;
    assert!(hit.hit_at("edge-1"));
    assert_eq!(hit.body, pattern(100_000));
    let resumed = topology.upper(1).metrics().await.sum("resumed_total", &[]);
    assert_eq!(resumed, 1);
    topology.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_changed_meanwhile_is_not_sewn_together() {
    let origin = Origin::start().await;
    origin.on("/a", |asked| match asked.field("Range") {
        None => Reply::fresh(pattern(1_000))
            .with("ETag", "\"v1\"")
            .breaking_after(400),
        // Another version: RFC 9110 §13.1.5 has If-Range fail.
        Some(_) => Reply::fresh(pattern(1_000)).with("ETag", "\"v2\""),
    });
    let topology = Topology::new(&origin).start().await;
    let answer = topology.edge(1).get("/a").await;
    assert_eq!(answer.status, 200);
    assert!(!answer.complete);
    topology.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_strong_validator_every_reader_fails_visibly() {
    for (what, etag, chunked) in [
        ("no validator", None, false),
        ("a weak one", Some("W/\"v1\""), false),
        ("no validator, chunked", None, true),
        ("a strong one but no length", Some("\"v1\""), true),
    ] {
        let origin = Origin::start().await;
        let gate = Gate::new();
        let mut whole = Reply::fresh("0123456789");
        if let Some(etag) = etag {
            whole = whole.with("ETag", etag);
        }
        if chunked {
            whole = whole.chunked();
        }
        let broken = whole.clone().pausing_after(4, &gate).breaking_after(5);
        origin.in_turn("/a", [broken, whole]);
        let topology = Topology::new(&origin).edges(2).start().await;
        let mut clients = Vec::new();
        for edge in [1, 1, 2] {
            let mut client = topology.edge(edge).client().await;
            client.send(get("/a").bytes()).await;
            client.head().await;
            assert_eq!(client.at_least(4).await, "0123", "{what}");
            clients.push(client);
        }
        gate.open();
        for client in &mut clients {
            let (_, complete) = client.rest().await;
            assert!(!complete, "{what}: a short body must not look whole");
        }
        // Nothing was kept of it.
        topology.no_fill_is_running().await;
        let again = topology.edge(1).get("/a").await;
        assert_eq!(
            (again.text().as_str(), again.complete),
            ("0123456789", true),
            "{what}"
        );
        assert_eq!(origin.requests("/a").len(), 2, "{what}");
        topology.finish().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_ends_with_its_connection_is_whole() {
    let origin = Origin::start().await;
    origin.always("/a", Reply::fresh("content").until_close());
    let topology = Topology::new(&origin).start().await;
    let answer = topology.edge(1).get("/a").await;
    assert_eq!((answer.text().as_str(), answer.complete), ("content", true));
    topology.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stalled_body_fails_visibly() {
    let origin = Origin::start().await;
    origin.always("/a", Reply::fresh("0123456789").stalling_after(4));
    let topology = Topology::new(&origin)
        .upper_extra("[timeouts]\nbetween_bytes_ms = 200")
        .start()
        .await;
    let answer = topology.edge(1).get("/a").await;
    assert_eq!((answer.text().as_str(), answer.complete), ("0123", false));
    topology.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_origin_that_is_no_help_is_named_and_the_nodes_serve_on() {
    let origin = Origin::start().await;
    origin.always("/good", Reply::fresh("content"));
    let long = format!("HTTP/1.1 200 OK\r\nX-Long: {}\r\n\r\n", "x".repeat(2 << 20));
    let both = "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: gzip\r\n\r\nabc";
    let cases = [
        ("/hangs-up", Reply::hang_up(), 502),
        ("/garbage", Reply::raw("what is this\r\n\r\n"), 502),
        ("/half-a-head", Reply::raw("HTTP/1.1 200 OK\r\nX-"), 502),
        ("/bare", Reply::raw("HTTP/1.1 banana\r\n\r\n"), 502),
        ("/long", Reply::raw(long), 502),
        (
            "/length",
            Reply::raw("HTTP/1.1 200 OK\r\nContent-Length: many\r\n\r\n"),
            502,
        ),
        ("/coding", Reply::raw(both), 502),
        ("/upgrade", Reply::raw("HTTP/1.1 101 What\r\n\r\n"), 502),
        ("/silent", Reply::silence(), 504),
    ];
    for (path, reply, _) in &cases {
        origin.always(path, reply.clone());
    }
    let topology = Topology::new(&origin)
        .upper_extra("[timeouts]\nfirst_byte_ms = 300")
        .start()
        .await;
    let mut wrong = Vec::new();
    for (path, _, status) in &cases {
        let mut client = topology.edge(1).client().await;
        let answer = client.ask(&get(path)).await;
        let proxy_status = answer.says("Proxy-Status");
        if answer.status != *status || !proxy_status.starts_with("upper-1; error=") {
            wrong.push(format!("{path}: {} {proxy_status:?}", answer.status));
        }
        // The same connection goes on, and so do the nodes behind it.
        let good = client.ask(&get("/good")).await;
        assert_eq!(
            (good.status, good.text().as_str()),
            (200, "content"),
            "{path}"
        );
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    topology.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn interim_responses_of_an_origin_do_not_end_the_request() {
    let origin = Origin::start().await;
    origin.always("/a", Reply::fresh("content").after_interim(103));
    let topology = Topology::new(&origin).start().await;
    let answer = topology.edge(1).get("/a").await;
    assert_eq!((answer.status, answer.text().as_str()), (200, "content"));
    topology.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_next_server_of_a_pool_is_asked_when_one_is_gone() {
    let origin = Origin::start().await;
    origin.always("/a", Reply::ok("content"));
    let gone = {
        let bound = tokio::net::TcpListener::bind(("127.0.0.1", 0))
            .await
            .unwrap();
        bound.local_addr().unwrap()
    };
    let topology = Topology::new(&origin).server(gone).start().await;
    for _ in 0..10 {
        assert_eq!(topology.edge(1).get("/a").await.text(), "content");
    }
    topology.finish().await;
}
