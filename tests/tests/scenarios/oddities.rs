//! Requests that are well formed and yet not what an edge sees every day: hosts it
//! does not serve, loops, old clients, paths that look like others.

use tests::{Client, Gate, H2Client, HOST, Origin, Reply, Topology, ask, get};

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_no_site_has_is_misdirected() {
    let origin = Origin::start().await;
    origin.always("/good", Reply::fresh("content"));
    let topology = Topology::new(&origin).start().await;
    let edge = topology.edge(1);
    let mut client = edge.client().await;
    let mut h2 = H2Client::connect(edge.address()).await;
    client.ask(&get("/good")).await;
    let hosts = [
        "other.example",
        "www.shop.example",
        "shop.example.other",
        "xshop.example",
        "example",
        "127.0.0.1",
        "[::1]:80",
    ];
    for host in hosts {
        let asked = get("/good").host(host);
        let posted = ask("POST", "/good").host(host).body("x");
        for answer in [
            client.ask(&asked).await,
            h2.ask(&asked).await,
            edge.ask(&posted).await,
        ] {
            assert_eq!(answer.status, 421, "{host}");
            let why = answer.says("Proxy-Status");
            let named = "edge-1; error=destination_not_found; details=\"no site serves";
            assert!(why.starts_with(named), "{host}: {why}");
        }
        // What is well formed leaves the connection in order.
        assert!(client.ask(&get("/good")).await.hit_at("edge-1"), "{host}");
    }
    let count = 3 * u64::try_from(hosts.len()).unwrap();
    let metrics = edge.metrics().await;
    let labels = [("reason", "unknown_host")];
    assert_eq!(metrics.sum("door_refused_total", &labels), count);
    for host in [
        "SHOP.example",
        "shop.example.",
        "shop.example:8081",
        "Shop.Example.:1",
    ] {
        let answer = client.ask(&get("/good").host(host)).await;
        assert!(answer.hit_at("edge-1"), "{host}: {answer:?}");
    }
    assert_eq!(origin.all_requests().len(), 1);
    topology.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_error_that_answers_a_head_has_no_body() {
    let origin = Origin::start().await;
    origin.always("/good", Reply::fresh("content"));
    origin.always("/gone", Reply::hang_up());
    let topology = Topology::new(&origin).start().await;
    let edge = topology.edge(1);
    let mut client = edge.client().await;
    let mut h2 = H2Client::connect(edge.address()).await;
    for (asked, status) in [
        (ask("HEAD", "/good").host("other.example"), 421),
        (ask("HEAD", "/good").with("CDN-Loop", "edge-1"), 508),
        (ask("HEAD", "/cold").with("CDN-Loop", "upper-1"), 508),
        (ask("HEAD", "/gone"), 502),
        (
            ask("HEAD", "/cold").with("Cache-Control", "only-if-cached"),
            504,
        ),
    ] {
        for answer in [client.ask(&asked).await, h2.ask(&asked).await] {
            assert_eq!(answer.status, status, "{asked:?}");
            assert_eq!(answer.text(), "", "{asked:?}");
        }
        // What stood behind the head would be read as the next answer.
        assert_eq!(
            client.ask(&get("/good")).await.text(),
            "content",
            "{asked:?}"
        );
    }
    topology.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_encoded_slash_is_no_slash() {
    let origin = Origin::start().await;
    for (target, body) in [("/a/b", "slash"), ("/a%2Fb", "encoded"), ("/a%5Cb", "back")] {
        origin.always(target, Reply::fresh(body));
    }
    let topology = Topology::new(&origin).start().await;
    for (target, body, is_hit) in [
        ("/a%2Fb", "encoded", false),
        ("/a/b", "slash", false),
        ("/a%5Cb", "back", false),
        ("/a%2fb", "encoded", true),
        ("/%61%2Fb", "encoded", true),
        ("/a/%62", "slash", true),
        ("http://shop.example/a/b", "slash", true),
    ] {
        let answer = topology.edge(1).get(target).await;
        assert_eq!(
            (answer.status, answer.text().as_str()),
            (200, body),
            "{target}"
        );
        assert_eq!(answer.hit_at("edge-1"), is_hit, "{target}");
    }
    topology.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_was_here_before_is_a_loop() {
    let origin = Origin::start().await;
    origin.always("/good", Reply::fresh("content"));
    let topology = Topology::new(&origin).start().await;
    let edge = topology.edge(1);
    for (seen, status) in [
        ("edge-1", 508),
        ("other; v=1, EDGE-1", 508),
        ("upper-1", 508),
        ("edge-10, other", 200),
    ] {
        let asked = get("/good").with("CDN-Loop", seen);
        let posted = ask("POST", "/good").with("CDN-Loop", seen).body("x");
        for answer in [edge.ask(&posted).await, edge.ask(&asked).await] {
            assert_eq!(answer.status, status, "{seen}");
            let why = answer.says("Proxy-Status");
            assert_eq!(
                why.contains("error=proxy_loop_detected"),
                status == 508,
                "{seen}: {why}"
            );
        }
    }
    let last = origin.requests("/good").pop().unwrap();
    assert_eq!(last.says("CDN-Loop"), "edge-10, other, edge-1, upper-1");
    // What one visitor made a loop is nobody else's: it is stored and a hit.
    assert!(edge.get("/good").await.hit_at("edge-1"));
    topology.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_origin_pool_that_points_back_at_an_edge_is_a_loop() {
    let origin = Origin::start().await;
    let way_back = tokio::net::TcpListener::bind(("127.0.0.1", 0))
        .await
        .unwrap();
    let servers = format!(
        "[pools.shop]\nservers = [\"{}\"]\n",
        way_back.local_addr().unwrap()
    );
    let site = format!("[sites.shop]\nhosts = [\"{HOST}\"]\npool = \"shop\"\n");
    let topology = Topology::new(&origin)
        .sites(&(servers + &site))
        .start()
        .await;
    let edge = topology.edge(1).address();
    let going_round = tokio::spawn(async move {
        while let Ok((mut from, _)) = way_back.accept().await {
            let mut to = tokio::net::TcpStream::connect(edge).await.unwrap();
            tokio::spawn(async move { tokio::io::copy_bidirectional(&mut from, &mut to).await });
        }
    });
    for asked in [get("/a"), ask("POST", "/a").body("x")] {
        let answer = topology.edge(1).ask(&asked).await;
        assert_eq!(answer.status, 508, "{asked:?}");
        let why = answer.says("Proxy-Status");
        assert!(why.contains("edge-1; error=proxy_loop_detected"), "{why}");
    }
    going_round.abort();
    topology.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn old_clients_are_served_as_they_can_read() {
    let origin = Origin::start().await;
    let gate = Gate::new();
    origin.always("/known", Reply::fresh("content"));
    origin.always(
        "/grows",
        Reply::ok("slow content").chunked().pausing_after(4, &gate),
    );
    let topology = Topology::new(&origin).start().await;
    let edge = topology.edge(1);

    let mut client = edge.client().await;
    let answer = client.ask(&get("/known").http10()).await;
    assert_eq!((answer.status, answer.text().as_str()), (200, "content"));
    assert_eq!(answer.says("Connection"), "close");
    assert_eq!(client.closed().await, "");

    let mut client = edge.client().await;
    let keep = get("/known").http10().with("Connection", "keep-alive");
    for _ in 0..2 {
        let answer = client.ask(&keep).await;
        assert_eq!(answer.says("Connection"), "keep-alive");
        assert!(answer.hit_at("edge-1"));
    }

    // HTTP/1.0 knows no chunks: the body ends with the connection, and grows
    // before its end is known.
    client
        .send(
            get("/grows")
                .http10()
                .with("Connection", "keep-alive")
                .bytes(),
        )
        .await;
    let head = client.head().await;
    assert_eq!(head.field("Transfer-Encoding"), None);
    assert_eq!(head.says("Connection"), "close");
    assert_eq!(client.at_least(4).await, "slow");
    gate.open();
    assert_eq!(client.rest().await.0, " content");
    topology.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_line_before_a_request_is_forgiven() {
    // RFC 9112 §2.2: old clients send one behind a body.
    let origin = Origin::start().await;
    origin.always("/good", Reply::fresh("content"));
    origin.always("/form", Reply::new(204));
    let topology = Topology::new(&origin).start().await;
    let mut client = Client::connect(topology.edge(1).address()).await;
    for _ in 0..2 {
        let mut form = ask("POST", "/form").body("x").bytes();
        form.extend_from_slice(b"\r\n");
        client.send(&form).await;
        assert_eq!(client.response().await.status, 204);
        client
            .send([b"\r\n", &get("/good").bytes()[..]].concat())
            .await;
        assert_eq!(client.response().await.text(), "content");
    }
    topology.finish().await;
}
