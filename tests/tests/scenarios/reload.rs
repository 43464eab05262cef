//! A node's beginning, its changes while it runs, and its end.

use tests::{Client, Gate, H2Client, Origin, Reply, TestNode, Topology, ask, get, signing_key};
use tokio::net::TcpStream;
use tokio::sync::watch;

/// The usual site, and a second one.
const TWO_SITES: &str = "[pools.shop]\nservers = [{origin}]\n\
    [sites.shop]\nhosts = [\"shop.example\"]\npool = \"shop\"\n\
    [sites.blog]\nhosts = [\"blog.example\"]\npool = \"shop\"\n";

#[tokio::test(flavor = "multi_thread")]
async fn a_reload_brings_sites_and_takes_them_away() {
    let origin = Origin::start().await;
    let gate = Gate::new();
    origin.always("/a", Reply::fresh("content"));
    origin.always("/slow", Reply::fresh("late").held_at(&gate));
    let topology = Topology::new(&origin).start().await;
    let one_site = std::fs::read_to_string(topology.folder().join("sites.toml")).unwrap();
    let edge = topology.edge(1);
    let blog = get("/a").host("blog.example");
    assert_eq!(edge.ask(&blog).await.status, 421);
    edge.get("/a").await;

    write_sites(&topology, &origin, TWO_SITES);
    reload_all(&topology);
    assert_eq!(edge.ask(&blog).await.text(), "content");
    // What was stored for the other site is as good as before.
    assert!(edge.get("/a").await.hit_at("edge-1"));

    // A request keeps the configuration it began under.
    let mut slow = edge.client().await;
    slow.send(get("/slow").host("blog.example").bytes()).await;
    gate.arrivals(1).await;
    topology.write("sites.toml", &one_site);
    reload_all(&topology);
    assert_eq!(edge.ask(&blog).await.status, 421);
    gate.open();
    assert_eq!(slow.response().await.text(), "late");
    for node in [edge, topology.upper(1)] {
        let metrics = node.metrics().await;
        assert_eq!(metrics.sum("config_reloads_total", &[("result", "ok")]), 2);
    }
    topology.finish().await;
}

fn write_sites(topology: &Topology, origin: &Origin, text: &str) {
    let server = format!("\"{}\"", origin.address());
    topology.write("sites.toml", &text.replace("{origin}", &server));
}

fn reload_all(topology: &Topology) {
    for node in topology.uppers().iter().chain(topology.edges()) {
        node.running().reload().unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_file_changes_nothing_and_says_why() {
    let origin = Origin::start().await;
    origin.always("/a", Reply::fresh("content"));
    origin.always("/b", Reply::fresh("more"));
    let topology = Topology::new(&origin).start().await;
    let folder = topology.folder();
    let read = |name: &str| std::fs::read_to_string(folder.join(name)).unwrap();
    let edge = topology.edge(1);
    edge.get("/a").await;
    let mut failed = 0;
    for (file, text, words) in [
        ("sites.toml", "sites = [".to_owned(), "sites.toml:1: "),
        (
            "sites.toml",
            read("sites.toml").replace("hosts =", "hots ="),
            "sites.shop.hots: is an unknown key; did you mean `hosts`?",
        ),
        (
            "sites.toml",
            read("sites.toml").replace("pool = \"shop\"", "pool = \"gone\""),
            "no pool is named `gone`",
        ),
        ("edge-1.key", " \n".to_owned(), "edge-1.key is empty"),
        (
            "edge-1.key",
            "hmac-sha256 edge-1\n".to_owned(),
            "edge-1.key",
        ),
        (
            "edge-1.key",
            signing_key("edge-2", "edge-2-a"),
            "no key to sign with",
        ),
        (
            "edge-1.toml",
            read("edge-1.toml").replace("[admin]", "[admni]"),
            "admni: is an unknown key",
        ),
    ] {
        let good = read(file);
        assert_ne!(good, text, "{words}");
        topology.write(file, &text);
        let why = edge.running().reload().unwrap_err();
        assert!(why.contains(words), "{words}: {why}");
        // No error shows a secret.
        let secret = good.split_whitespace().nth(3).unwrap_or("?");
        assert!(!file.ends_with(".key") || !why.contains(secret), "{why}");
        topology.write(file, &good);

        failed += 1;
        let metrics = edge.metrics().await;
        let count = metrics.sum("config_reloads_total", &[("result", "failed")]);
        assert_eq!(count, failed, "{words}");
        assert_eq!(edge.admin(&get("/readyz")).await.status, 200, "{words}");
        assert!(edge.get("/a").await.hit_at("edge-1"), "{words}");
        let cold = format!("/b?{failed}");
        assert_eq!(edge.get(&cold).await.cache_status().len(), 2, "{words}");
    }
    edge.running().reload().unwrap();
    topology.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn all_problems_of_a_bad_file_are_told_at_once() {
    let origin = Origin::start().await;
    let topology = Topology::new(&origin).start().await;
    topology.write(
        "sites.toml",
        "[pools.shop]\nservers = [\"nowhere\"]\n\
         [sites.shop]\nhosts = [\"shop.example\", \"SHOP.example\"]\npool = \"gone\"\nmore = 1\n",
    );
    let why = topology.edge(1).running().reload().unwrap_err();
    for line in [
        "sites.toml:2: pools.shop.servers[0]: ",
        "sites.toml:4: sites.shop.hosts[1]: ",
        "sites.toml:5: sites.shop.pool: ",
        "sites.toml:6: sites.shop.more: ",
    ] {
        assert!(why.contains(line), "{line}: {why}");
    }
    topology.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_are_rotated_without_a_refusal() {
    let origin = Origin::start().await;
    origin.always("/a", Reply::fresh("content"));
    origin.always("/form", Reply::new(204));
    let topology = Topology::new(&origin).start().await;
    let edge = topology.edge(1);
    let upper = topology.upper(1);
    let old = std::fs::read_to_string(topology.folder().join("edge-1.key")).unwrap();
    let new = signing_key("edge-1", "edge-1-b");
    let mut steps = 0;
    let mut crosses_the_tiers = async |when: &str| {
        steps += 1;
        let cold = edge.get(&format!("/a?{steps}")).await;
        assert_eq!(cold.cache_status().len(), 2, "{when}");
        let posted = edge.ask(&ask("POST", "/form").body("x")).await;
        assert_eq!(posted.status, 204, "{when}");
    };
    crosses_the_tiers("at first").await;
    for (text, what) in [
        (format!("{old}{new}"), "the new key is known"),
        (format!("{new}{old}"), "the new key signs"),
        (new, "the old key is gone"),
    ] {
        topology.write("edge-1.key", &text);
        upper.running().reload().unwrap();
        crosses_the_tiers(&format!("{what}, at the upper tier")).await;
        edge.running().reload().unwrap();
        crosses_the_tiers(&format!("{what}, at both tiers")).await;
    }
    // `finish` holds that nothing was rejected meanwhile.
    topology.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_are_rotated_under_load_without_a_refusal() {
    let origin = Origin::start().await;
    origin.always("/a", Reply::ok("content").with("Cache-Control", "no-store"));
    let topology = Topology::new(&origin).edges(2).uppers(2).start().await;
    let crossed = watch::Sender::new(0u64);
    let (stop, stopped) = watch::channel(false);
    let asking: Vec<_> = topology
        .edges()
        .iter()
        .flat_map(|edge| ["GET", "POST"].map(|method| (edge.address(), method)))
        .map(|(edge, method)| {
            let (crossed, stopped) = (crossed.clone(), stopped.clone());
            tokio::spawn(async move {
                let mut client = Client::connect(edge).await;
                while !*stopped.borrow() {
                    let answer = client.ask(&ask(method, "/a").body("")).await;
                    let seen = (answer.status, answer.cache_status().len());
                    assert_eq!(seen, (200, 2), "{method}: {answer:?}");
                    crossed.send_modify(|count| *count += 1);
                }
            })
        })
        .collect();
    let go_on = async || {
        let mut seen = crossed.subscribe();
        let so_many = *seen.borrow() + 40;
        let more = seen.wait_for(|count| *count >= so_many);
        tests::within(20, more).await.unwrap();
    };
    go_on().await;
    let old = ["edge-1", "edge-2"].map(|edge| {
        let text = std::fs::read_to_string(topology.folder().join(format!("{edge}.key")));
        (edge, text.unwrap(), signing_key(edge, &format!("{edge}-b")))
    });
    // Known first, then signed with, then alone; at one node after the other.
    for step in [
        |old: &str, new: &str| format!("{old}{new}"),
        |old: &str, new: &str| format!("{new}{old}"),
        |_: &str, new: &str| new.to_owned(),
    ] {
        for (edge, old, new) in &old {
            topology.write(&format!("{edge}.key"), &step(old, new));
        }
        for node in topology.uppers().iter().chain(topology.edges()) {
            node.running().reload().unwrap();
            go_on().await;
        }
    }
    stop.send_replace(true);
    for one in asking {
        tests::within(20, one).await.unwrap();
    }
    // `finish` holds that nothing was rejected meanwhile.
    topology.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn while_one_tier_has_newer_sites_requests_still_cross() {
    let origin = Origin::start().await;
    origin.always("/a", Reply::fresh("content"));
    let topology = Topology::new(&origin).start().await;
    let edge = topology.edge(1);
    // Key rules that give another key to the very same request.
    let newer = TWO_SITES.to_owned() + "[sites.shop.key]\nquery = { drop = [\"n\"] }\n";
    write_sites(&topology, &origin, &newer);
    topology.upper(1).running().reload().unwrap();
    let crossed = edge.get("/a?n=1").await;
    assert_eq!(crossed.cache_status().len(), 2, "{:?}", crossed.fields);
    edge.running().reload().unwrap();
    let crossed = edge.get("/a?n=2").await;
    assert!(crossed.hit_at("upper-1"), "{:?}", crossed.fields);
    topology.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_ends_with_the_last_request() {
    let origin = Origin::start().await;
    let gate = Gate::new();
    origin.always("/held", Reply::fresh("late").held_at(&gate));
    let streamed = Reply::ok("all of it").with("Cache-Control", "no-store");
    origin.always("/streamed", streamed.pausing_after(3, &gate));
    origin.always("/a", Reply::fresh("content"));
    let mut topology = Topology::new(&origin).start().await;
    let edge = topology.take_edge(1);
    let (address, admin) = (edge.address(), edge.admin_address());

    // Connections in every state: used and idle, never used, waiting for a head,
    // within a body, passing.
    let mut idle = edge.client().await;
    assert_eq!(idle.ask(&get("/a")).await.text(), "content");
    let mut unused = edge.client().await;
    let mut held = edge.client().await;
    held.send(get("/held").bytes()).await;
    let mut streaming = edge.client().await;
    streaming.send(get("/streamed").bytes()).await;
    streaming.head().await;
    assert_eq!(streaming.at_least(3).await, "all");
    let mut posting = edge.client().await;
    posting.send(ask("POST", "/held").body("x").bytes()).await;
    gate.arrivals(3).await;

    edge.running().begin_drain();
    let mut client = Client::connect(admin).await;
    let ready = client.ask(&get("/readyz")).await;
    assert_eq!((ready.status, ready.text().as_str()), (503, "draining\n"));
    let mut draining = tokio::spawn(edge.into_running().drain());
    assert!(idle.closed().await.is_empty());
    assert!(unused.closed().await.is_empty());
    tests::until("nobody new is let in", async || {
        TcpStream::connect(address).await.err()
    })
    .await;
    assert!(!draining.is_finished(), "three requests are under way");

    gate.open();
    assert_eq!(streaming.rest().await, (" of it".into(), true));
    let answer = held.response().await;
    assert_eq!(answer.text(), "late");
    assert_eq!(answer.says("Connection"), "close");
    assert_eq!(posting.response_to("POST").await.text(), "late");
    for client in [&mut streaming, &mut held, &mut posting] {
        assert!(client.closed().await.is_empty());
    }
    tests::within(10, &mut draining).await.unwrap();
    topology.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_ends_with_the_last_stream() {
    let origin = Origin::start().await;
    let gate = Gate::new();
    origin.always("/held", Reply::fresh("late").held_at(&gate));
    origin.always("/a", Reply::fresh("content"));
    let mut topology = Topology::new(&origin).start().await;
    let edge = topology.take_edge(1);
    let mut idle = H2Client::connect(edge.address()).await;
    assert_eq!(idle.ask(&get("/a")).await.text(), "content");
    let busy = H2Client::connect(edge.address()).await;
    let streams = [get("/held"), ask("POST", "/held").body("x")].map(|ask| busy.begin(&ask));
    gate.arrivals(2).await;
    let mut draining = tokio::spawn(edge.into_running().drain());
    // The idle one is told to go; it cannot ask any more.
    tests::until("no further stream is taken", async || {
        idle.try_ask(&get("/a")).await.is_none().then_some(())
    })
    .await;
    assert!(!draining.is_finished(), "two streams are under way");
    gate.open();
    for stream in streams {
        assert_eq!(stream.await.unwrap().text(), "late");
    }
    tests::within(10, &mut draining).await.unwrap();
    topology.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_waits_for_nobody_who_has_not_asked() {
    let origin = Origin::start().await;
    let mut topology = Topology::new(&origin)
        .listener("proxy_protocol = true")
        .tls_listener()
        .start()
        .await;
    let edge = topology.take_edge(1);
    let mut silent = Vec::new();
    // Nothing at all, the beginning of a PROXY header, that of a TLS record.
    for (listener, begun) in [
        (0, ""),
        (1, ""),
        (1, "PROXY TCP4 "),
        (2, ""),
        (2, "\u{16}\u{3}\u{1}"),
    ] {
        let mut client = Client::connect(edge.listener(listener)).await;
        client.send(begun).await;
        silent.push(client);
    }
    tests::until("all of them are connected", async || {
        let connected = edge.metrics().await.sum("connections", &[]);
        (connected == 5).then_some(())
    })
    .await;
    tests::within(5, edge.into_running().drain()).await;
    topology.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_waits_for_a_fill_whose_visitor_left() {
    let origin = Origin::start().await;
    let gate = Gate::new();
    origin.always("/a", Reply::fresh("content").pausing_after(3, &gate));
    let mut topology = Topology::new(&origin).start().await;
    let upper = topology.upper(1).address();
    let edge = topology.take_edge(1);
    let mut visitor = edge.client().await;
    visitor.send(get("/a").bytes()).await;
    visitor.head().await;
    gate.arrivals(1).await;
    drop(visitor);
    let draining = tokio::spawn(edge.into_running().drain());
    gate.open();
    tests::within(10, draining).await.unwrap();
    // And the upper tier has the object for whoever asks next.
    topology.no_fill_is_running().await;
    assert_eq!(topology.upper(1).address(), upper);
    let metrics = topology.upper(1).metrics().await;
    assert_eq!(metrics.sum("fills_total", &[("end", "stored")]), 1);
    topology.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upper_tier_drains_without_costing_an_edges_visitors_anything() {
    let origin = Origin::start().await;
    let gate = Gate::new();
    origin.always("/held", Reply::fresh("late").held_at(&gate));
    origin.always("/a", Reply::fresh("content"));
    let topology = Topology::new(&origin)
        .site("fallback = [\"direct\"]")
        .start()
        .await;
    let edge = topology.edge(1);
    edge.get("/a").await;
    let mut held = edge.client().await;
    held.send(get("/held").bytes()).await;
    gate.arrivals(1).await;
    topology.upper(1).running().begin_drain();
    // Cold ones take the other way from now on.
    for number in 0..20 {
        let answer = edge.get(&format!("/a?{number}")).await;
        assert_eq!((answer.status, answer.text().as_str()), (200, "content"));
    }
    gate.open();
    let answer = held.response().await;
    assert_eq!(answer.text(), "late");
    assert_eq!(answer.cache_status().len(), 2);
    assert!(edge.metrics().await.sum("direct_total", &[]) > 0);
    topology.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_in_use_is_named_and_nobody_else_is_hurt() {
    let origin = Origin::start().await;
    origin.always("/a", Reply::fresh("content"));
    let topology = Topology::new(&origin).start().await;
    let edge = topology.edge(1);
    let held_twice = |listen: &str, admin: &str| {
        format!(
            "role = \"edge\"\nname = \"edge-2\"\nsites = \"sites.toml\"\n\
             [[listen]]\naddress = \"{listen}\"\n[admin]\naddress = \"{admin}\"\n\
             [[upper_tier]]\nname = \"upper-1\"\naddress = \"{}\"\n\
             [keys]\nfiles = [\"edge-2.key\"]\n[telemetry]\naccess_log = \"off\"\n",
            topology.upper(1).address()
        )
    };
    topology.write("edge-2.key", &signing_key("edge-2", "edge-2-a"));
    let any = "127.0.0.1:0";
    for (address, which, text) in [
        (
            edge.address(),
            "visitors",
            held_twice(&edge.address().to_string(), any),
        ),
        (
            edge.admin_address(),
            "admin",
            held_twice(any, &edge.admin_address().to_string()),
        ),
    ] {
        let role = config::Role::Edge;
        let started = TestNode::try_start(topology.folder(), "edge-2", &text, role).await;
        let why = started.map(drop).unwrap_err();
        let words = format!("edge-2: cannot listen on {address} ({which}): ");
        assert!(why.starts_with(&words), "{why}");
        assert!(why.contains("in use"), "{why}");
        assert!(why.contains("change `address`"), "{why}");
        assert_eq!(edge.get("/a").await.text(), "content");
    }
    topology.finish().await;
}
