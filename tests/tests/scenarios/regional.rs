//! Regional tiers: edge, regional tier, upper tier, origin.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tests::{Hop, Origin, Reply, Response, Tap, TestNode, Topology, ask, get, set_field};

const SITE: &str = "topology = \"regional\"";

fn members(answer: &Response) -> Vec<String> {
    answer
        .says("Cache-Status")
        .split(", ")
        .map(str::to_owned)
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_miss_crosses_three_tiers_and_each_of_them_stores_it() {
    let origin = Origin::start().await;
    let paths: Vec<String> = (0..20).map(|path| format!("/{path}")).collect();
    for path in &paths {
        origin.always(path, Reply::fresh("content"));
    }
    let topology = Topology::new(&origin)
        .edges(2)
        .regionals(2)
        .uppers(2)
        .site(SITE)
        .start()
        .await;
    for path in &paths {
        let answer = topology.edge(1).get(path).await;
        assert_eq!((answer.status, answer.text().as_str()), (200, "content"));
        let told = members(&answer);
        assert_eq!(told.len(), 3, "{told:?}");
        for (member, node) in told.iter().zip(["upper-", "regional-", "edge-1"]) {
            let missed = member.contains("; fwd=uri-miss; fwd-status=200; stored");
            assert!(member.starts_with(node) && missed, "{told:?}");
        }
        let request = &origin.requests(path)[0];
        let came = request.says("CDN-Loop");
        assert_eq!(came.split(", ").count(), 3, "{came}");
        assert_eq!(request.says("Tier-Control"), "", "none reaches an origin");
        assert_eq!(answer.says("Tier-Result"), "", "none reaches a visitor");
    }
    // The other edge finds it at the regional tier, which asks nobody.
    for path in &paths {
        let told = members(&topology.edge(2).get(path).await);
        assert!(told[1].starts_with("regional-"), "{told:?}");
        assert!(told[1].contains("; hit"), "{told:?}");
    }
    assert_eq!(origin.all_requests().len(), paths.len());
    // Both of each tier had their part.
    for node in topology.regionals().iter().chain(topology.uppers()) {
        let asked = node.metrics().await.sum("requests_total", &[]);
        assert!(asked > 0, "{}", node.name());
    }
    topology.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_miss_crosses_a_regional_tier_where_nobody_traces() {
    for tracing in tests::Tracing::ALL {
        let origin = Origin::start().await;
        origin.always("/a", Reply::fresh("content"));
        origin.always("/order", Reply::new(201).body("ordered"));
        let topology = Topology::new(&origin)
            .regionals(1)
            .site(SITE)
            .tracing(tracing)
            .start()
            .await;
        let edge = topology.edge(1);
        assert_eq!(members(&edge.get("/a").await).len(), 3, "{tracing:?}");
        let order = edge.ask(&ask("POST", "/order").body("one")).await;
        assert_eq!(order.text(), "ordered", "{tracing:?}");
        let asked = &origin.requests("/order")[0];
        assert_eq!(asked.body, "one", "{tracing:?}");
        let via = asked.says("Via");
        for node in ["edge-1", "regional-1", "upper-1"] {
            assert!(via.contains(node), "{tracing:?}: {via}");
        }
        topology.finish().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_regional_tier_edges_ask_the_upper_tiers() {
    let origin = Origin::start().await;
    let paths: Vec<String> = (0..20).map(|path| format!("/{path}")).collect();
    for path in &paths {
        origin.always(path, Reply::fresh("content"));
    }
    let topology = Topology::new(&origin)
        .regionals(2)
        .uppers(2)
        .hop(Hop::Bytes)
        .site(&format!("{SITE}\nfallback = []"))
        .start()
        .await;
    // The relays before the upper tiers come first.
    topology.relay(3).cut().await;
    for path in &paths {
        let answer = topology.edge(1).get(path).await;
        assert_eq!(answer.status, 200, "{path}");
        assert!(answer.says("Via").contains("regional-2"), "{path}");
    }
    topology.relay(4).cut().await;
    topology.edge(1).purge("http://shop.example/0").await;
    let answer = topology.edge(1).get(&paths[0]).await;
    let told = members(&answer);
    assert_eq!((answer.status, told.len()), (200, 2), "{told:?}");
    assert!(told[0].starts_with("upper-"), "{told:?}");
    topology.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_regional_tier_without_an_upper_tier_goes_direct_where_the_site_says_so() {
    for (fallback, status) in [("[\"direct\"]", 200), ("[]", 502)] {
        let origin = Origin::start().await;
        origin.always("/a", Reply::fresh("content"));
        let topology = Topology::new(&origin)
            .regionals(1)
            .hop(Hop::Bytes)
            .site(&format!("{SITE}\nfallback = {fallback}"))
            .start()
            .await;
        topology.relay(1).cut().await;
        let answer = topology.edge(1).get("/a").await;
        assert_eq!(answer.status, status, "{fallback}");
        let regional = topology.regional(1).metrics().await;
        let edge = topology.edge(1).metrics().await;
        let direct = u64::from(status == 200);
        assert_eq!(regional.sum("direct_total", &[]), direct, "{fallback}");
        assert_eq!(edge.sum("direct_total", &[]), 0, "{fallback}");
        if status == 502 {
            let named = answer.says("Proxy-Status");
            assert!(named.contains("regional-1; error="), "{named}");
        }
        topology.finish().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn other_sites_pass_a_regional_tier_by() {
    let origin = Origin::start().await;
    origin.always("/a", Reply::fresh("content"));
    origin.always("/b", Reply::fresh("content"));
    let topology = Topology::new(&origin)
        .regionals(1)
        .hop(Hop::Bytes)
        .site("topology = \"hash\"\nfallback = []")
        .start()
        .await;
    let told = members(&topology.edge(1).get("/a").await);
    assert!(told[0].starts_with("upper-1"), "{told:?}");
    assert_eq!(told.len(), 2);
    // It stands by, and is an upper tier like any other then.
    topology.relay(1).cut().await;
    let told = members(&topology.edge(1).get("/b").await);
    assert!(told[0].starts_with("regional-1"), "{told:?}");
    assert_eq!(told.len(), 2);
    let metrics = topology.regional(1).metrics().await;
    assert_eq!(metrics.sum("direct_total", &[]), 0, "that is its own way");
    topology.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_purge_at_an_edge_reaches_what_is_stored_two_tiers_behind() {
    let origin = Origin::start().await;
    origin.in_turn("/a", [Reply::fresh("old"), Reply::fresh("new")]);
    let topology = Topology::new(&origin)
        .edges(2)
        .regionals(1)
        .site(SITE)
        .start()
        .await;
    for edge in topology.edges() {
        assert_eq!(edge.get("/a").await.text(), "old");
    }
    topology.edge(1).purge("http://shop.example/a").await;
    assert_eq!(topology.edge(1).get("/a").await.text(), "new");
    assert_eq!(topology.edge(2).get("/a").await.text(), "old", "not purged");
    topology.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_regional_tier_got_after_a_purge_may_be_from_before_it() {
    let origin = Origin::start().await;
    origin.in_turn("/a", [Reply::fresh("old"), Reply::fresh("new")]);
    let topology = Topology::new(&origin)
        .edges(3)
        .regionals(1)
        .hop(Hop::Bytes)
        .site(SITE)
        .start()
        .await;
    // Past the regional tier, so that the upper tier alone has it.
    topology.relay(2).cut().await;
    assert_eq!(topology.edge(2).get("/a").await.text(), "old");
    topology.relay(2).restore();
    topology.edge(1).purge("http://shop.example/a").await;
    // An edge that knows of no purge brings it to the regional tier now.
    assert_eq!(topology.edge(3).get("/a").await.text(), "old");
    assert_eq!(topology.edge(1).get("/a").await.text(), "new");
    topology.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_if_cached_asks_the_stores_of_all_three_tiers_and_no_origin() {
    let origin = Origin::start().await;
    origin.always("/a", Reply::fresh("content"));
    origin.always("/b", Reply::fresh("content"));
    let topology = Topology::new(&origin)
        .edges(2)
        .regionals(1)
        .hop(Hop::Bytes)
        .site(SITE)
        .start()
        .await;
    // Past the regional tier, so that the upper tier alone has it for the other edge.
    topology.relay(2).cut().await;
    assert_eq!(topology.edge(2).get("/a").await.status, 200);
    topology.relay(2).restore();
    let stored = |path: &str| get(path).with("Cache-Control", "only-if-cached");
    let found = topology.edge(1).ask(&stored("/a")).await;
    assert_eq!((found.status, found.text().as_str()), (200, "content"));
    let told = members(&found);
    assert!(told[0].starts_with("upper-1; hit"), "{told:?}");
    assert_eq!(told.len(), 3, "{told:?}");
    assert_eq!(topology.edge(1).ask(&stored("/b")).await.status, 504);
    assert_eq!(origin.requests("/b").len(), 0);
    topology.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_field_lost_behind_a_regional_tier_is_found_there_and_no_visitor_pays() {
    let origin = Origin::start().await;
    origin.always("/a", Reply::fresh("content"));
    let mut topology = Topology::new(&origin)
        .regionals(1)
        .uppers(2)
        .hop(Hop::Messages)
        .site(&format!("{SITE}\nfallback = []"))
        .start()
        .await;
    // Whichever of the two is asked first loses what it says; the other does not.
    let lost = Arc::new(AtomicBool::new(false));
    for relay in &topology.relays()[..2] {
        let lost = Arc::clone(&lost);
        relay.on_response(move |_, response| {
            if !lost.swap(true, Ordering::SeqCst) {
                set_field(&mut response.fields, "tier-result", None);
            }
        });
    }
    topology.expects_rejected("response", "missing");
    let answer = topology.edge(1).get("/a").await;
    assert_eq!((answer.status, answer.text().as_str()), (200, "content"));
    for (node, times) in [(topology.edge(1), 0), (topology.regional(1), 1)] {
        let metrics = node.metrics().await;
        let counted = metrics.sum("tier_control_rejected_total", &[]);
        assert_eq!(counted, times, "{}", node.name());
    }
    topology.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_goes_on_when_a_tier_dies_in_the_middle_of_it() {
    for dies in ["upper-", "regional-"] {
        let origin = Origin::start().await;
        let gate = tests::Gate::new();
        let whole = Reply::fresh("first half, second half").with("ETag", "\"v1\"");
        origin.in_turn("/a", [whole.clone().pausing_after(10, &gate), whole]);
        let topology = Topology::new(&origin)
            .regionals(2)
            .uppers(2)
            .hop(Hop::Bytes)
            .site(SITE)
            .start()
            .await;
        let mut client = topology.edge(1).client().await;
        client.send(get("/a").bytes()).await;
        client.head().await;
        assert_eq!(client.at_least(10).await, "first half");
        let tiers = topology.uppers().iter().chain(topology.regionals());
        for (relay, node) in topology.relays().iter().zip(tiers) {
            let fills = node.metrics().await.sum("fills_in_flight", &[]);
            if node.name().starts_with(dies) && fills > 0 {
                relay.cut().await;
                break;
            }
        }
        if dies == "regional-" {
            // The tiers behind it go on, and whoever takes it up boards their fill.
            gate.open();
        }
        let (rest, complete) = client.rest().await;
        assert_eq!(
            (&rest[..], complete),
            (&b", second half"[..], true),
            "{dies}"
        );
        let fetches = origin.requests("/a").len();
        assert!(fetches <= 2, "{dies}: {fetches}");
        let mut resumed = 0;
        for node in topology.edges().iter().chain(topology.regionals()) {
            resumed += node.metrics().await.sum("resumed_total", &[]);
        }
        assert_eq!(resumed, 1, "{dies}");
        gate.open();
        topology.finish().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cold_object_is_fetched_once_though_every_edge_asks() {
    let origin = Origin::start().await;
    let gate = tests::Gate::new();
    origin.always("/a", Reply::fresh("content").held_at(&gate));
    let topology = Topology::new(&origin)
        .edges(3)
        .regionals(2)
        .uppers(2)
        .site(SITE)
        .start()
        .await;
    let mut visitors = tokio::task::JoinSet::new();
    for edge in topology.edges() {
        for _ in 0..5 {
            let address = edge.address();
            visitors.spawn(async move {
                let mut client = tests::Client::connect(address).await;
                client.ask(&get("/a")).await.text()
            });
        }
    }
    origin.wait_for_requests("/a", 1).await;
    tests::until("all visitors wait", async || {
        let mut waiting = 0;
        for edge in topology.edges() {
            waiting += edge.metrics().await.sum("requests_in_flight", &[]);
        }
        (waiting == 15).then_some(())
    })
    .await;
    gate.open();
    while let Some(text) = visitors.join_next().await {
        assert_eq!(text.unwrap(), "content");
    }
    assert_eq!(origin.requests("/a").len(), 1);
    topology.finish().await;
}

/// An upper tier's file, with one upper tier of its own.
fn node_file(name: &str, upper: (&str, SocketAddr)) -> String {
    let keys: Vec<_> = ["edge-1", "one", "other"]
        .map(|node| format!("\"{node}.key\""))
        .into();
    format!(
        "role = \"upper-tier\"\nname = \"{name}\"\nsites = \"sites.toml\"\n\
         [[listen]]\naddress = \"127.0.0.1:0\"\nhttp2 = false\n\
         [admin]\naddress = \"127.0.0.1:0\"\n\
         [keys]\nfiles = [{}]\n[health]\nprobe_ms = 0\n\
         [telemetry]\naccess_log = \"off\"\n\
         [[upper_tier]]\nname = \"{}\"\naddress = \"{}\"\n",
        keys.join(", "),
        upper.0,
        upper.1
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn two_tiers_that_name_each_other_are_no_circle() {
    let origin = Origin::start().await;
    let gate = tests::Gate::new();
    for number in 0..10 {
        let path = format!("/{number}");
        origin.always(&path, Reply::fresh("content").held_at(&gate));
    }
    // It has the sites and the edge's key; its own upper tier is not asked here.
    let topology = Topology::new(&origin)
        .uppers(0)
        .site(&format!("{SITE}\nfallback = [\"direct\"]"))
        .start()
        .await;
    let folder = topology.folder();
    for node in ["one", "other", "edge-1"] {
        topology.write(&format!("{node}.key"), &tests::signing_key(node, node));
    }
    let tap = Tap::start().await;
    let role = config::Role::UpperTier;
    let one = node_file("one", ("other", tap.address()));
    let one = TestNode::start(folder, "one", &one, role).await;
    let other = node_file("other", ("one", one.address()));
    let other = TestNode::start(folder, "other", &other, role).await;
    tap.lead_to(other.address());
    let edge = |name: &str, asked: &TestNode| {
        format!(
            "role = \"edge\"\nname = \"edge-1\"\nsites = \"sites.toml\"\n\
             [[listen]]\naddress = \"127.0.0.1:0\"\n\
             [admin]\naddress = \"127.0.0.1:0\"\n\
             [keys]\nfiles = [\"edge-1.key\"]\n[health]\nprobe_ms = 0\n\
             [telemetry]\naccess_log = \"off\"\n\
             [[upper_tier]]\nname = \"{name}\"\naddress = \"{}\"\ntier = \"regional\"\n",
            asked.address()
        )
    };
    // Each asks the other for the same at the same time, and neither waits for itself.
    let role = config::Role::Edge;
    let to_one = TestNode::start(folder, "to-one", &edge("one", &one), role).await;
    let to_other = TestNode::start(folder, "to-other", &edge("other", &other), role).await;
    let mut visitors = tokio::task::JoinSet::new();
    for number in 0..10 {
        for asked in [to_one.address(), to_other.address()] {
            visitors.spawn(async move {
                let mut client = tests::Client::connect(asked).await;
                client.ask(&get(&format!("/{number}"))).await.text()
            });
        }
    }
    for number in 0..10 {
        origin.wait_for_requests(&format!("/{number}"), 2).await;
    }
    gate.open();
    while let Some(text) = visitors.join_next().await {
        assert_eq!(text.unwrap(), "content");
    }
    for node in [to_one, to_other, one, other] {
        node.into_running().drain().await;
    }
    topology.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_tier_brings_an_invalidated_group_back() {
    let origin = Origin::start().await;
    let pages: Vec<String> = (0..12).map(|page| format!("/{page}")).collect();
    for page in &pages {
        let version = |n| Reply::fresh(format!("version {n}")).with("Cache-Groups", "\"pages\"");
        origin.in_turn(page, [version(1), version(2)]);
    }
    let changed = Reply::ok("changed").with("Cache-Group-Invalidation", "\"pages\"");
    origin.always("/change", changed);
    let topology = Topology::new(&origin)
        .edges(2)
        .regionals(2)
        .uppers(3)
        .hop(Hop::Bytes)
        .site(SITE)
        .start()
        .await;
    // Past the regional tiers, so that the upper tiers alone hold them.
    for relay in &topology.relays()[3..] {
        relay.cut().await;
    }
    for page in &pages {
        assert_eq!(topology.edge(2).get(page).await.text(), "version 1");
    }
    for relay in &topology.relays()[3..] {
        relay.restore();
    }
    // One of each tier passes this on; the others hear nothing of it.
    let change = ask("POST", "/change").body("words");
    assert_eq!(topology.edge(1).ask(&change).await.status, 200);
    for page in &pages {
        let answer = topology.edge(1).get(page).await;
        assert_eq!(answer.text(), "version 2", "{page}: {:?}", members(&answer));
    }
    topology.finish().await;
}
