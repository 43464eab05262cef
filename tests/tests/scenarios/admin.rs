//! What operators ask of a node: how it is, what it is doing, and to forget a URL.

use tests::{Client, Gate, Origin, Reply, TestNode, Topology, Tracing, ask, get};

const URL: &str = "http://shop.example/a";

#[tokio::test(flavor = "multi_thread")]
async fn every_page_answers_whoever_asks_for_it_on_loopback() {
    let origin = Origin::start().await;
    let topology = Topology::new(&origin).start().await;
    for node in [topology.edge(1), topology.upper(1)] {
        for (method, target, status, words) in [
            ("GET", "/healthz", 200, "ok"),
            ("GET", "/readyz", 200, "ready"),
            ("GET", "/metrics", 200, "headwater_requests_total"),
            ("GET", "/requests", 200, "[]"),
            ("HEAD", "/healthz", 200, ""),
            ("GET", "/", 404, "POST /purge?url="),
            ("GET", "/metrics/more", 404, "/metrics"),
            ("POST", "/metrics", 405, "GET"),
            ("GET", "/purge?url=http://shop.example/", 405, "POST"),
        ] {
            let asked = ask(method, target).host("any.host");
            let page = node.admin(&asked).await;
            assert_eq!(page.status, status, "{method} {target}: {}", page.text());
            assert!(page.text().contains(words), "{target}: {}", page.text());
            assert!(page.complete, "{method} {target}");
        }
        let metrics = node.admin(&get("/metrics")).await;
        let kind = "text/plain; version=0.0.4; charset=utf-8";
        assert_eq!(metrics.says("Content-Type"), kind);
    }
    topology.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_admin_pages_are_not_at_the_visitors_door() {
    let origin = Origin::start().await;
    let topology = Topology::new(&origin).start().await;
    for target in ["/metrics", "/healthz", "/readyz", "/requests"] {
        // It is a path of the site's like any other, and the origin has none.
        assert_eq!(topology.edge(1).get(target).await.status, 404, "{target}");
    }
    assert_eq!(origin.all_requests().len(), 4);
    topology.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nonsense_at_the_admin_listener_costs_nobody_an_answer() {
    let origin = Origin::start().await;
    origin.always("/a", Reply::fresh("content"));
    let topology = Topology::new(&origin).start().await;
    let edge = topology.edge(1);
    for nonsense in [
        "GET / HTTP/1.1\r\n",
        "what is this\r\n\r\n",
        "\0\0\0\0\r\n\r\n",
    ] {
        let mut client = Client::connect(edge.admin_address()).await;
        client.send(nonsense).await;
        client.finish_sending().await;
        client.closed().await;
    }
    // One that says nothing at all holds up nobody else.
    let silent = Client::connect(edge.admin_address()).await;
    assert_eq!(edge.admin(&get("/healthz")).await.status, 200);
    assert_eq!(edge.get("/a").await.status, 200);
    drop(silent);
    topology.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_hangs_can_be_seen_at_both_tiers() {
    let origin = Origin::start().await;
    let gate = Gate::new();
    origin.always("/slow", Reply::fresh("late").held_at(&gate));
    let topology = Topology::new(&origin).start().await;
    let edge = topology.edge(1);
    let mut reader = edge.client().await;
    reader.send(get("/slow?id=7").bytes()).await;
    let mut writer = edge.client().await;
    writer
        .send(ask("POST", "/slow").body("words").bytes())
        .await;
    gate.arrivals(2).await;

    for node in [edge, topology.upper(1)] {
        let rows = rows(node).await;
        assert_eq!(rows.len(), 2, "{}: {rows:?}", node.name());
        for (method, path, phase) in [("GET", "/slow?id=7", "fetch"), ("POST", "/slow", "pass")] {
            let row = rows.iter().find(|row| row["method"] == method).unwrap();
            assert_eq!(row["path"], path);
            assert_eq!(row["phase"], phase);
            assert_eq!(row["host"], "shop.example");
            assert_eq!(row["client"], "127.0.0.1");
            assert!(row["started_ms"].as_u64().unwrap() > 0);
            assert!(row["age_ms"].as_u64().unwrap() < 60_000);
        }
        let counted = node.metrics().await.sum("requests_in_flight", &[]);
        assert_eq!(counted, 2, "{}", node.name());
    }

    gate.open();
    for client in [&mut reader, &mut writer] {
        assert_eq!(client.response().await.text(), "late");
    }
    for node in [edge, topology.upper(1)] {
        tests::until("the table is empty again", async || {
            rows(node).await.is_empty().then_some(())
        })
        .await;
    }
    topology.finish().await;
}

async fn rows(node: &TestNode) -> Vec<serde_json::Value> {
    let page = node.admin(&get("/requests")).await;
    serde_json::from_str(&page.text()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_purge_takes_one_url_out_of_every_tier() {
    let origin = Origin::start().await;
    origin.in_turn("/a", [Reply::fresh("old"), Reply::fresh("new")]);
    origin.always("/b", Reply::fresh("other"));
    let topology = Topology::new(&origin).edges(2).start().await;
    for edge in topology.edges() {
        assert_eq!(edge.get("/a").await.text(), "old");
        assert_eq!(edge.get("/b").await.text(), "other");
    }

    let inwards_out = topology.uppers().iter().chain(topology.edges());
    for node in inwards_out {
        assert_eq!(node.purge(URL).await, format!("purged {URL}\n"));
        assert_eq!(node.purge(URL).await, format!("not stored {URL}\n"));
        let metrics = node.metrics().await;
        for (result, count) in [("purged", 1), ("not_stored", 1), ("bad_url", 0)] {
            let counted = metrics.sum("purges_total", &[("result", result)]);
            assert_eq!(counted, count, "{result} at {}", node.name());
        }
    }

    for edge in topology.edges() {
        assert_eq!(edge.get("/a").await.text(), "new");
        assert!(edge.get("/b").await.hit_at(edge.name()));
    }
    assert_eq!(origin.requests("/a").len(), 2);
    assert_eq!(origin.requests("/b").len(), 1);
    topology.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_purge_names_the_url_as_a_visitor_would() {
    for (stored, purged) in [
        ("/a?x=1&y=2", "http://shop.example/a?x=1&y=2"),
        ("/a", "http://SHOP.example:80/a"),
        ("/a", "http://shop.example./a"),
        ("/a%20b", "http://shop.example/a%20b"),
        ("/", "http://shop.example"),
        ("/%61", "http://shop.example/a"),
    ] {
        let origin = Origin::start().await;
        for path in ["/a", "/", "/a%20b", "/%61"] {
            origin.always(path, Reply::fresh("content"));
        }
        let topology = Topology::new(&origin).start().await;
        let edge = topology.edge(1);
        edge.get(stored).await;
        assert!(edge.get(stored).await.hit_at("edge-1"), "{stored}");
        let said = edge.purge(purged).await;
        assert!(said.starts_with("purged "), "{stored}: {said}");
        assert!(!edge.get(stored).await.hit_at("edge-1"), "{stored}");
        topology.finish().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_purge_takes_every_variant_and_every_key_of_the_url() {
    let origin = Origin::start().await;
    origin.on("/a", |asked| {
        Reply::fresh(asked.says("X-Kind")).with("Vary", "X-Kind")
    });
    for (site, groups) in [
        ("", &["1"][..]),
        ("[sites.shop.key]\nheaders = [\"X-Group\"]", &["1", "2"]),
    ] {
        let topology = Topology::new(&origin).site(site).start().await;
        let edge = topology.edge(1);
        let mut all = Vec::new();
        for group in groups {
            for kind in ["red", "blue"] {
                all.push(get("/a").with("X-Kind", kind).with("X-Group", group));
            }
        }
        for asked in &all {
            assert!(!edge.ask(asked).await.hit_at("edge-1"), "{site} {asked:?}");
            assert!(edge.ask(asked).await.hit_at("edge-1"), "{site} {asked:?}");
        }
        edge.purge(URL).await;
        for asked in &all {
            let answer = edge.ask(asked).await;
            let status = answer.cache_status();
            assert!(!status.concat().contains("hit"), "{asked:?}: {status:?}");
        }
        topology.finish().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn purging_an_edge_first_does_not_bring_the_old_content_back() {
    let origin = Origin::start().await;
    origin.in_turn("/a", [Reply::fresh("old"), Reply::fresh("new")]);
    let topology = Topology::new(&origin).edges(2).start().await;
    assert_eq!(topology.edge(1).get("/a").await.text(), "old");

    // The upper tier still holds the old copy, and nobody has told it.
    topology.edge(1).purge(URL).await;
    let after = topology.edge(1).get("/a").await;
    assert_eq!(after.text(), "new");
    assert!(!after.hit_at("upper-1"), "{:?}", after.cache_status());

    // What it fetched for that edge is the new copy for all.
    let other = topology.edge(2).get("/a").await;
    assert_eq!(other.text(), "new");
    assert!(other.hit_at("upper-1"), "{:?}", other.cache_status());
    assert!(topology.edge(1).get("/a").await.hit_at("edge-1"));
    assert_eq!(origin.requests("/a").len(), 2);
    topology.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_on_its_way_before_a_purge_answers_nobody_who_asks_after_it() {
    let keyed = "[sites.shop.key]\nheaders = [\"X-Group\"]";
    for (site, both) in [("", false), ("", true), (keyed, true)] {
        let origin = Origin::start().await;
        let gate = Gate::new();
        let old = Reply::fresh("old content").pausing_after(3, &gate);
        origin.in_turn("/a", [old, Reply::fresh("new content")]);
        let topology = Topology::new(&origin).site(site).start().await;
        let edge = topology.edge(1);
        let mut before = edge.client().await;
        before.send(get("/a").bytes()).await;
        assert_eq!(&before.head().await.says("Content-Length"), "11");
        gate.arrivals(1).await;

        if both {
            topology.upper(1).purge(URL).await;
        }
        edge.purge(URL).await;
        let after = edge.get("/a").await;
        assert_eq!(after.text(), "new content", "{site} {both}");

        // Who asked before it gets what was on its way, and nobody after them.
        gate.open();
        assert_eq!(before.rest().await, ("old content".into(), true));
        topology.no_fill_is_running().await;
        let later = edge.get("/a").await;
        assert_eq!(later.text(), "new content", "{site} {both}");
        topology.finish().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_purge_is_told_what_is_wrong_with_it() {
    let origin = Origin::start().await;
    let topology = Topology::new(&origin).start().await;
    let edge = topology.edge(1);
    let long = format!("/purge?url=http://shop.example/{}", "a".repeat(20_000));
    for (target, words) in [
        ("/purge", "percent-encoded"),
        ("/purge?", "percent-encoded"),
        ("/purge?uri=http://shop.example/a", "percent-encoded"),
        ("/purge?url=%zz", "percent-encoded"),
        ("/purge?url=%ff", "percent-encoded"),
        (long.as_str(), "percent-encoded"),
        ("/purge?url=", "percent-encoded"),
        ("/purge?url=/a", "no http or https scheme"),
        ("/purge?url=shop.example", "no http or https scheme"),
        ("/purge?url=ftp://shop.example/a", "no http or https scheme"),
        ("/purge?url=http:///a", "is not a URL"),
        (
            "/purge?url=http://other.example/a",
            "no site serves the host \"other.example\"",
        ),
    ] {
        let answer = edge.admin(&ask("POST", target)).await;
        let shown: String = target.chars().take(60).collect();
        assert_eq!(answer.status, 400, "{shown}: {}", answer.text());
        assert!(answer.text().contains(words), "{shown}: {}", answer.text());
    }
    topology.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn with_a_token_only_its_holder_changes_anything() {
    let origin = Origin::start().await;
    origin.always("/a", Reply::fresh("content"));
    let topology = Topology::new(&origin).tracing(Tracing::Off).start().await;
    topology.write("token", "a-long-secret\n");
    for admin in ["0.0.0.0:0", "127.0.0.1:0"] {
        let text = format!(
            "role = \"edge\"\nname = \"edge-9\"\nsites = \"sites.toml\"\n\
             [[listen]]\naddress = \"127.0.0.1:0\"\n\
             [[upper_tier]]\nname = \"upper-1\"\naddress = \"{}\"\n\
             [keys]\nfiles = [\"edge-9.key\"]\n\
             [admin]\naddress = \"{admin}\"\ntoken_file = \"token\"\n\
             [telemetry]\naccess_log = \"off\"\n",
            topology.upper(1).address()
        );
        topology.write("edge-9.key", &tests::signing_key("edge-9", "edge-9-a"));
        let role = config::Role::Edge;
        let node = TestNode::start(topology.folder(), "edge-9", &text, role).await;
        for target in ["/metrics", "/healthz", "/requests"] {
            assert_eq!(ask_admin(&node, &get(target)).await.0, 200, "{target}");
        }
        let purge = ask("POST", &format!("/purge?url={URL}"));
        for (authorization, status) in [
            (None, 401),
            (Some(""), 401),
            (Some("Bearer"), 401),
            (Some("Bearer "), 401),
            (Some("Bearer another"), 401),
            (Some("Bearer a-long-secret-and-more"), 401),
            (Some("Basic a-long-secret"), 401),
            (Some("a-long-secret"), 401),
            (Some("Bearer a-long-secret"), 200),
        ] {
            let mut asked = purge.clone();
            if let Some(value) = authorization {
                asked = asked.with("Authorization", value);
            }
            let (got, text) = ask_admin(&node, &asked).await;
            assert_eq!(got, status, "{admin} {authorization:?}: {text}");
            assert!(!text.contains("secret"), "{text}");
        }
        node.into_running().drain().await;
    }
    topology.finish().await;
}

/// Asks an admin listener that may be bound to every address.
async fn ask_admin(node: &TestNode, asked: &tests::Ask) -> (u16, String) {
    let port = node.admin_address().port();
    let mut client = Client::connect((std::net::Ipv4Addr::LOCALHOST, port).into()).await;
    let answer = client.ask(asked).await;
    (answer.status, answer.text())
}
