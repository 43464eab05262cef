//! The other ways in, and out: HTTP/2, TLS, and protocols that HTTP is only the
//! beginning of.

use tests::{Ask, Client, Gate, H2Client, HOST, Origin, Reply, TestNode, Topology, ask, get};

/// Everything the node sends until `end` has come.
async fn until_end(client: &mut Client, end: &str) -> String {
    let mut all = Vec::new();
    while !String::from_utf8_lossy(&all).ends_with(end) {
        let more = client.raw().await;
        let text = String::from_utf8_lossy(&all).into_owned();
        assert!(!more.is_empty(), "closed before {end:?} came: {text:?}");
        all.extend_from_slice(&more);
    }
    String::from_utf8_lossy(&all).into_owned()
}

async fn shop() -> Origin {
    let origin = Origin::start().await;
    origin.always("/known", Reply::fresh("known"));
    origin.on("/form", |asked| {
        let body = String::from_utf8_lossy(&asked.body);
        Reply::ok(format!("{} {body}", asked.method))
    });
    origin
}

fn upgrade(target: &str) -> Ask {
    get(target)
        .with("Connection", "Upgrade")
        .with("Upgrade", "echo")
}

/// A connection that speaks `echo` from here on.
async fn upgraded(edge: &TestNode) -> Client {
    // pingora 0.9.1 loses an upgrade whose 101 is there before it has looked at the
    // request's empty body once (proxy_h1.rs, proxy_handle_upstream): a matter of
    // microseconds, which a machine full of scenarios has now and then.
    for _ in 0..10 {
        let mut client = edge.client().await;
        client.send(upgrade("/socket").bytes()).await;
        let head = client.head().await;
        assert_eq!(head.status, 101, "{head:?}");
        assert_eq!(head.says("Upgrade"), "echo");
        assert!(head.says("Connection").eq_ignore_ascii_case("upgrade"));
        assert!(!head.leaks_control(), "{:?}", head.fields);
        client.send("hello").await;
        match &client.raw().await[..] {
            b"hello" => return client,
            lost => assert_eq!(lost, b"", "the echo is whole or not there"),
        }
    }
    panic!("ten upgrades were lost, one after the other");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upgraded_connection_carries_any_bytes_through_both_tiers() {
    let origin = shop().await;
    origin.always("/socket", Reply::switching_to("echo"));
    origin.always("/refuses", Reply::new(426).with("Upgrade", "other"));
    let topology = Topology::new(&origin)
        .pool("in_flight_max = 1\nqueue_max = 0")
        .start()
        .await;
    let edge = topology.edge(1);
    let mut client = upgraded(edge).await;
    for said in ["GET / HTTP/1.1\r\n\r\n", "\0\r\n\r\n\0 end"] {
        client.send(said).await;
        assert_eq!(until_end(&mut client, said).await, said);
    }
    let large = "x".repeat(200_000) + "end";
    client.send(&large).await;
    assert_eq!(until_end(&mut client, "end").await.len(), large.len());
    // It is no request any more, and takes nobody's place.
    assert_eq!(edge.get("/known").await.text(), "known");
    client.finish_sending().await;
    assert_eq!(client.closed().await, "");

    // Who answers with HTTP stays with HTTP.
    let mut client = edge.client().await;
    assert_eq!(client.ask(&upgrade("/refuses")).await.status, 426);
    assert_eq!(edge.ask(&upgrade("/known")).await.text(), "known");
    assert_eq!(edge.get("/known").await.text(), "known");
    topology.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_version_of_http_is_nothing_to_upgrade_to() {
    // A granted `Upgrade: h2c` would be a tunnel past every check and the cache.
    // Such offers are ignored (RFC 9110 §7.8), and what came with them is cached.
    let origin = shop().await;
    origin.on("/socket", |asked| match asked.field("Upgrade") {
        Some(protocol) => Reply::switching_to(&protocol),
        None => Reply::fresh("stayed"),
    });
    let topology = Topology::new(&origin).start().await;
    let offer = |protocol: &str, option: &str| {
        get("/socket")
            .with("Connection", option)
            .with("Upgrade", protocol)
    };
    let h2c = offer("h2c", "Upgrade, HTTP2-Settings").with("HTTP2-Settings", "AAMAAABk");
    let mut client = topology.edge(1).client().await;
    for (at, asked) in [
        h2c,
        offer("H2C", "Upgrade"),
        offer("websocket, h2c", "Upgrade"),
        offer("TLS/1.3", "Upgrade"),
        offer("HTTP/3.0", "Upgrade"),
        offer("echo", "keep-alive"),
        offer("echo", "Upgrade, keep-alive").http10(),
    ]
    .into_iter()
    .enumerate()
    {
        let answer = client.ask(&asked).await;
        assert_eq!(answer.text(), "stayed", "{asked:?}");
        assert_eq!(answer.hit_at("edge-1"), at > 0, "{asked:?}");
    }
    let seen = origin.requests("/socket");
    assert_eq!(seen.len(), 1);
    assert_eq!(seen[0].field("HTTP2-Settings"), None);
    topology.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn http2_comes_to_the_same_inside() {
    let origin = shop().await;
    let topology = Topology::new(&origin).edges(2).start().await;
    let mut h2 = H2Client::connect(topology.edge(1).address()).await;
    let miss = h2.ask(&get("/known")).await;
    assert_eq!((miss.status, miss.text().as_str()), (200, "known"));
    assert!(miss.at("upper-1").contains("fwd=uri-miss"), "{miss:?}");
    let hit = h2.ask(&get("/known")).await;
    assert!(hit.hit_at("edge-1"), "{hit:?}");
    assert!(
        topology.edge(1).get("/known").await.hit_at("edge-1"),
        "one store"
    );
    let head = h2.ask(&ask("HEAD", "/known")).await;
    assert_eq!(
        (head.status, head.says("Content-Length").as_str()),
        (200, "5")
    );
    assert_eq!(head.text(), "");

    let large = "x".repeat(200_000);
    for (asked, text) in [
        (
            ask("POST", "/form").body("a form"),
            "POST a form".to_owned(),
        ),
        (
            ask("PUT", "/form").chunks(["two ", "parts"]),
            "PUT two parts".to_owned(),
        ),
        (
            ask("PUT", "/form").body(large.clone()),
            format!("PUT {large}"),
        ),
        (ask("DELETE", "/form"), "DELETE ".to_owned()),
    ] {
        let answer = h2.ask(&asked).await;
        assert_eq!((answer.status, answer.text()), (200, text));
        assert!(!answer.leaks_control(), "{:?}", answer.fields);
        for connection in ["Connection", "Transfer-Encoding", "Keep-Alive"] {
            // RFC 9113 §8.2.2: these belong to HTTP/1.
            assert_eq!(answer.field(connection), None);
        }
    }
    let ranged = h2.ask(&get("/known").with("Range", "bytes=1-2")).await;
    assert_eq!((ranged.status, ranged.text().as_str()), (206, "no"));
    topology.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn http2_requests_are_checked_by_the_same_rules() {
    let origin = shop().await;
    origin.always("/breaks", Reply::fresh("0123456789").breaking_after(4));
    origin.always("/gone", Reply::hang_up());
    let topology = Topology::new(&origin).start().await;
    let mut h2 = H2Client::connect(topology.edge(1).address()).await;
    for (asked, status, error) in [
        (get("/a/../b"), 400, "http_request_error"),
        (get("/a/%2e%2E/b"), 400, "http_request_error"),
        (get("/a%00"), 400, "http_request_error"),
        (get("/a%zz"), 400, "http_request_error"),
        (ask("POST", "/..").body("x"), 400, "http_request_error"),
        (
            get("/a").host("shop.example:99999"),
            400,
            "http_request_error",
        ),
        (
            get("/a").host("other.example"),
            421,
            "destination_not_found",
        ),
        (
            get("/a").with("CDN-Loop", "edge-1"),
            508,
            "proxy_loop_detected",
        ),
        (get("/gone"), 502, "connection_terminated"),
    ] {
        let answer = h2.ask(&asked).await;
        assert_eq!(answer.status, status, "{asked:?}");
        let why = answer.says("Proxy-Status");
        assert!(why.contains(&format!("error={error}")), "{asked:?}: {why}");
    }
    // A body that breaks off ends its stream visibly, and no other. The reset may
    // overtake the head (RFC 9113 §5.4.2).
    let broken = h2.try_ask(&get("/breaks")).await;
    assert!(
        broken.as_ref().is_none_or(|broken| !broken.complete),
        "{broken:?}"
    );
    assert_eq!(h2.ask(&get("/known")).await.text(), "known");
    topology.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_stream_holds_up_no_other() {
    let origin = shop().await;
    let gate = Gate::new();
    origin.always("/slow", Reply::fresh("slow").held_at(&gate));
    let topology = Topology::new(&origin).start().await;
    let mut h2 = H2Client::connect(topology.edge(1).address()).await;
    let slow: Vec<_> = (0..50).map(|_| h2.begin(&get("/slow"))).collect();
    gate.arrivals(1).await;
    assert_eq!(h2.ask(&get("/known")).await.text(), "known");
    gate.open();
    for slow in slow {
        assert_eq!(slow.await.unwrap().text(), "slow");
    }
    assert_eq!(origin.requests("/slow").len(), 1);
    topology.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_listener_speaks_http2_only_where_it_should() {
    let origin = shop().await;
    let topology = Topology::new(&origin)
        .listener("http2 = false")
        .start()
        .await;
    let mut client = Client::connect(topology.edge(1).listener(1)).await;
    client.send("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await;
    assert_eq!(client.response().await.status, 505);
    assert_eq!(client.closed().await, "");
    // A preface is one at the beginning alone.
    let mut client = topology.edge(1).client().await;
    assert_eq!(client.ask(&get("/known")).await.text(), "known");
    client.send("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await;
    assert_eq!(client.response().await.status, 505);
    topology.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_speaks_what_was_agreed_on() {
    let origin = shop().await;
    origin.on("/scheme", |asked| {
        Reply::fresh(asked.says("X-Forwarded-Proto"))
    });
    let topology = Topology::new(&origin).tls_listener().start().await;
    let (edge, door) = (topology.edge(1), topology.edge(1).listener(1));
    assert_eq!(edge.get("/scheme").await.text(), "http");
    let ways = [
        (&["h2", "http/1.1"][..], Some("h2")),
        (&["http/1.1"], Some("http/1.1")),
        (&[], None),
    ];
    for (at, (offered, agreed)) in ways.into_iter().enumerate() {
        let (stream, spoken) = topology.authority().connect(door, HOST, offered).await;
        assert_eq!(spoken.as_deref(), agreed);
        let asks = [
            get("/scheme"),
            ask("POST", "/form").body("x"),
            get("/scheme"),
        ];
        let mut answers = Vec::new();
        if agreed == Some("h2") {
            let mut h2 = H2Client::over(stream, "https").await;
            for asked in &asks {
                answers.push(h2.ask(asked).await);
            }
        } else {
            let mut client = Client::over(stream);
            for asked in &asks {
                answers.push(client.ask(asked).await);
            }
        }
        // What was fetched for one scheme is not shown under the other.
        assert_eq!(answers[0].text(), "https", "{offered:?}");
        assert_eq!(answers[0].hit_at("edge-1"), at > 0, "{offered:?}");
        assert_eq!(answers[1].text(), "POST x", "{offered:?}");
        assert!(answers[2].hit_at("edge-1"), "{offered:?}");
    }
    let form = origin.requests("/form").pop().unwrap();
    assert_eq!(form.says("X-Forwarded-Proto"), "https");
    assert_eq!(edge.get("/scheme").await.text(), "http");
    topology.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_handshake_is_closed_and_counted() {
    let origin = shop().await;
    let topology = Topology::new(&origin).tls_listener().start().await;
    let edge = topology.edge(1);
    for hello in [
        &get("/known").bytes()[..],
        b"\x16\x03\x01\x00\x04\x01\x00\x00\x00",
        b"\0",
    ] {
        let mut client = Client::connect(edge.listener(1)).await;
        client.send(hello).await;
        client.finish_sending().await;
        // At most an alert (RFC 8446 §6), and then the end.
        assert!(client.closed().await.len() < 16);
    }
    let labels = [("reason", "tls_handshake")];
    edge.wait_for_metric("door_refused_total", &labels, 3).await;
    let (stream, _) = topology
        .authority()
        .connect(edge.listener(1), HOST, &[])
        .await;
    assert_eq!(
        Client::over(stream).ask(&get("/known")).await.text(),
        "known"
    );
    assert_eq!(edge.get("/known").await.text(), "known");
    topology.finish().await;
}

/// Why tiers do not speak HTTP/2 to each other: `docs/decisions/0032`. What fails here is
/// a reason to look at that page again.
#[tokio::test(flavor = "multi_thread")]
async fn what_pingora_does_to_answers_over_http_2_is_still_so() {
    let origin = Origin::start().await;
    let date = "Sun, 06 Nov 1994 08:49:37 GMT";
    let early = Reply::ok("late").set("Date", date).after_interim(103);
    origin.always("/early", early.with("Cache-Control", "private"));
    let topology = Topology::new(&origin).start().await;
    let edge = topology.edge(1);
    let by_h1 = edge.get("/early").await;
    assert_eq!(
        (by_h1.text().as_str(), &by_h1.interim[..]),
        ("late", &[103][..])
    );
    assert_eq!(by_h1.says("Date"), date);
    let by_h2 = H2Client::connect(edge.address())
        .await
        .ask(&get("/early"))
        .await;
    assert_eq!(by_h2.text(), "late");
    assert_ne!(by_h2.says("Date"), date);
    topology.finish().await;
}
