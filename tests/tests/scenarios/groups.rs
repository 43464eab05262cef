//! Cache groups (RFC 9875), and purges that reach further than a URL.

use tests::{Gate, Origin, Reply, TestNode, Topology, ask, get};

/// An origin whose pages count how often they were asked for, all in one group, and
/// whose `/change` invalidates that group.
async fn shop(pages: &[&str]) -> Origin {
    let origin = Origin::start().await;
    for page in pages {
        let versions = (1..=9).map(|n| grouped(&format!("version {n}"), "\"pages\", \"all\""));
        origin.in_turn(page, versions);
    }
    let changed = Reply::ok("changed").with("Cache-Group-Invalidation", "\"pages\"");
    origin.always("/change", changed);
    origin
}

fn grouped(body: &str, groups: &str) -> Reply {
    Reply::fresh(body.to_owned()).with("Cache-Groups", groups)
}

/// One edge, behind so many upper tiers.
async fn through(origin: &Origin, uppers: usize) -> Topology {
    let site = if uppers == 0 {
        "topology = \"off\""
    } else {
        ""
    };
    Topology::new(origin)
        .uppers(uppers)
        .site(site)
        .start()
        .await
}

async fn post(node: &TestNode, target: &str) {
    let answer = node.ask(&ask("POST", target).body("words")).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
}

/// What a node's admin listener says to a purge.
async fn purge(node: &TestNode, query: &str) -> (u16, String) {
    let page = node.admin(&ask("POST", &format!("/purge?{query}"))).await;
    (page.status, page.text())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unsafe_request_invalidates_a_group_at_every_tier_it_passed() {
    for uppers in [0, 1] {
        let origin = shop(&["/a", "/b"]).await;
        origin.always("/other", grouped("other", "\"others\", \"PAGES\""));
        origin.always("/none", Reply::fresh("none"));
        let topology = through(&origin, uppers).await;
        let edge = topology.edge(1);
        for path in ["/a", "/b", "/other", "/none"] {
            edge.get(path).await;
            assert!(edge.get(path).await.hit_at("edge-1"), "{path}");
        }

        post(edge, "/change").await;
        for path in ["/a", "/b"] {
            let answer = edge.get(path).await;
            assert_eq!(answer.text(), "version 2", "{path} {uppers}");
            assert!(!answer.cache_status().concat().contains("; hit"), "{path}");
            assert!(edge.get(path).await.hit_at("edge-1"), "{path}");
        }
        for path in ["/other", "/none"] {
            assert!(edge.get(path).await.hit_at("edge-1"), "{path} {uppers}");
        }
        topology.finish().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_upper_tier_brings_an_invalidated_group_back() {
    let pages: Vec<String> = (0..12).map(|n| format!("/{n}")).collect();
    let pages: Vec<&str> = pages.iter().map(String::as_str).collect();
    let origin = shop(&pages).await;
    let topology = Topology::new(&origin).edges(2).uppers(3).start().await;
    // The first edge holds none of them, all upper tiers together hold them all.
    for page in &pages {
        topology.edge(2).get(page).await;
    }
    // One upper tier passes this on; the others hear nothing of it.
    post(topology.edge(1), "/change").await;
    for page in &pages {
        let answer = topology.edge(1).get(page).await;
        let status = answer.cache_status();
        assert_eq!(answer.text(), "version 2", "{page}: {status:?}");
        assert!(topology.edge(1).get(page).await.hit_at("edge-1"), "{page}");
        assert_eq!(origin.requests(page).len(), 2, "{page}");
    }
    topology.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_unsafe_requests_of_the_same_origin_invalidate() {
    let origin = shop(&["/a"]).await;
    let asked = Reply::fresh("asked").with("Cache-Group-Invalidation", "\"pages\"");
    origin.always("/asked", asked);
    let nonsense = Reply::ok("changed").with("Cache-Group-Invalidation", "pages");
    origin.always("/nonsense", nonsense);
    let hosts = "[pools.shop]\nservers = [{origin}]\n\
                 [sites.shop]\nhosts = [\"shop.example\", \"www.shop.example\"]\npool = \"shop\"\n";
    let topology = Topology::new(&origin).sites(hosts).start().await;
    let edge = topology.edge(1);
    edge.get("/a").await;

    edge.get("/asked").await;
    edge.ask(&ask("HEAD", "/asked")).await;
    post(edge, "/nonsense").await;
    let other = ask("POST", "/change")
        .host("www.shop.example")
        .body("words");
    assert_eq!(edge.ask(&other).await.status, 200);
    assert!(edge.get("/a").await.hit_at("edge-1"));

    post(edge, "/change").await;
    assert_eq!(edge.get("/a").await.text(), "version 2");
    topology.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fill_from_before_an_invalidation_answers_nobody_who_asks_after_it() {
    for uppers in [0, 1] {
        let origin = shop(&[]).await;
        let gate = Gate::new();
        let old = grouped("old content", "\"pages\"").pausing_after(3, &gate);
        let new = grouped("new content", "\"pages\"");
        origin.in_turn("/a", [old, new]);
        let topology = through(&origin, uppers).await;
        let edge = topology.edge(1);
        let mut before = edge.client().await;
        before.send(get("/a").bytes()).await;
        assert_eq!(&before.head().await.says("Content-Length"), "11");
        gate.arrivals(1).await;

        post(edge, "/change").await;
        assert_eq!(edge.get("/a").await.text(), "new content", "{uppers}");
        gate.open();
        assert_eq!(before.rest().await, ("old content".into(), true));
        topology.no_fill_is_running().await;
        let later = edge.get("/a").await;
        assert_eq!(later.text(), "new content", "{uppers}");
        assert!(later.hit_at("edge-1"), "{:?}", later.cache_status());
        topology.finish().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_in_more_groups_than_can_be_compared_is_not_stored() {
    let groups = |count| {
        let names: Vec<String> = (0..count).map(|n| format!("\"group {n:0>26}\"")).collect();
        names.join(", ")
    };
    let origin = Origin::start().await;
    origin.always("/many", grouped("many", &groups(128)));
    origin.always("/more", grouped("more", &groups(129)));
    let topology = Topology::new(&origin).start().await;
    let edge = topology.edge(1);
    for (path, stored) in [("/many", true), ("/more", false)] {
        edge.get(path).await;
        let second = edge.get(path).await;
        let status = second.cache_status();
        assert_eq!(second.hit_at("edge-1"), stored, "{path}: {status:?}");
    }
    topology.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_names_too_many_groups_invalidates_all_of_its_origin() {
    let names = |count| {
        let names: Vec<String> = (0..count).map(|n| format!("\"{n}\"")).collect();
        Reply::ok("changed").with("Cache-Group-Invalidation", &names.join(", "))
    };
    let origin = shop(&["/a"]).await;
    origin.always("/none", Reply::fresh("none"));
    origin.always("/many", names(1024));
    origin.always("/more", names(1025));
    let topology = Topology::new(&origin).start().await;
    let edge = topology.edge(1);
    for path in ["/a", "/none"] {
        edge.get(path).await;
    }
    post(edge, "/many").await;
    assert!(edge.get("/a").await.hit_at("edge-1"));
    post(edge, "/more").await;
    assert_eq!(edge.get("/a").await.text(), "version 2");
    assert!(edge.get("/none").await.hit_at("edge-1"));
    topology.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_purge_takes_a_group_a_prefix_or_a_site() {
    // What is purged, what the edge says, and which of the three pages go.
    for (query, said, gone) in [
        (
            "group=pages&url=http://shop.example/",
            "purged group \"pages\" of http://shop.example/: 2 objects\n",
            [true, true, false],
        ),
        (
            "group=nobody&url=http://shop.example/",
            "not stored group \"nobody\" of http://shop.example/\n",
            [false; 3],
        ),
        (
            "prefix=http%3A%2F%2Fshop.example%2Fa",
            "purged http://shop.example/a*: 2 keys\n",
            [true, false, true],
        ),
        ("site=shop", "purged site shop: 3 keys\n", [true; 3]),
    ] {
        let origin = shop(&["/a", "/b"]).await;
        let plain = (1..=9).map(|n| Reply::fresh(format!("version {n}")));
        origin.in_turn("/a/c", plain);
        let topology = Topology::new(&origin).start().await;
        let pages = ["/a", "/b", "/a/c"];
        for page in pages {
            topology.edge(1).get(page).await;
        }
        for node in [topology.upper(1), topology.edge(1)] {
            assert_eq!(purge(node, query).await, (200, said.to_owned()));
            let nothing = purge(node, query).await.1;
            assert!(nothing.starts_with("not stored "), "{nothing}");
        }
        for (page, gone) in pages.into_iter().zip(gone) {
            let answer = topology.edge(1).get(page).await;
            let version = if gone { "version 2" } else { "version 1" };
            assert_eq!(answer.text(), version, "{query} {page}");
        }
        topology.finish().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_purge_that_names_no_one_thing_purges_nothing() {
    let origin = shop(&["/a"]).await;
    let topology = Topology::new(&origin).start().await;
    let edge = topology.edge(1);
    edge.get("/a").await;
    for (query, words) in [
        ("", "?site=NAME"),
        ("site=nobody", "no site \"nobody\""),
        ("prefix=http://shop.example/%3Fa", "no query"),
        ("prefix=http://other.example/", "no site serves"),
        ("group=pages", "?group=NAME&url=URL"),
        ("site=shop&url=http://shop.example/a", "POST /purge?"),
        ("site=shop&hard=1", "\"hard\""),
        ("site=shop&soft=perhaps", "1 or 0"),
    ] {
        let (status, said) = purge(edge, query).await;
        assert_eq!(status, 400, "{query}: {said}");
        assert!(said.contains(words), "{query}: {said}");
    }
    assert!(edge.get("/a").await.hit_at("edge-1"));
    topology.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_soft_purge_leaves_what_may_bridge_an_error() {
    for query in [
        "url=http://shop.example/a",
        "prefix=http://shop.example/",
        "site=shop",
        "group=pages&url=http://shop.example/",
    ] {
        let origin = Origin::start().await;
        let kept = || {
            Reply::ok("old")
                .with("Cache-Control", "max-age=3600, stale-if-error=600")
                .with("Cache-Groups", "\"pages\"")
        };
        origin.in_turn("/a", [kept(), Reply::new(503), Reply::fresh("new")]);
        let topology = Topology::new(&origin).start().await;
        let edge = topology.edge(1);
        edge.get("/a").await;
        for node in [topology.upper(1), edge] {
            let (status, said) = purge(node, &format!("{query}&soft=1")).await;
            assert_eq!(status, 200, "{said}");
            assert!(said.starts_with("stale "), "{said}");
        }
        let bridged = edge.get("/a").await;
        let seen = (bridged.status, bridged.text());
        assert_eq!(
            seen,
            (200, "old".to_owned()),
            "{query}: {:?}",
            bridged.cache_status()
        );
        assert_eq!(edge.get("/a").await.text(), "new", "{query}");
        assert!(edge.get("/a").await.hit_at("edge-1"), "{query}");
        topology.finish().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_soft_purge_left_is_validated_through_both_tiers() {
    let origin = Origin::start().await;
    origin.on("/a", |asked| {
        Reply::fresh("content").unless_known(asked, "\"v1\"")
    });
    let topology = Topology::new(&origin).start().await;
    let edge = topology.edge(1);
    edge.get("/a").await;
    for node in [topology.upper(1), edge] {
        purge(node, "site=shop&soft=1").await;
    }
    let confirmed = edge.get("/a").await;
    assert_eq!(confirmed.text(), "content");
    assert!(
        confirmed.at("edge-1").contains("fwd=stale"),
        "{confirmed:?}"
    );
    let asked = origin.requests("/a");
    assert_eq!(asked.len(), 2);
    assert_eq!(asked[1].says("If-None-Match"), "\"v1\"");
    assert!(edge.get("/a").await.hit_at("edge-1"));
    topology.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_soft_purge_is_seen_by_the_caches_behind() {
    let origin = Origin::start().await;
    let gate = Gate::new();
    let old = Reply::ok("old").with("Cache-Control", "max-age=3600, stale-while-revalidate=600");
    origin.in_turn("/a", [old, Reply::fresh("new").held_at(&gate)]);
    let topology = Topology::new(&origin).edges(2).start().await;
    topology.edge(1).get("/a").await;
    purge(topology.upper(1), "url=http://shop.example/a&soft=1").await;

    // The other edge is given what is stale, and does not take it for fresh.
    let stale = topology.edge(2).get("/a").await;
    assert_eq!(stale.text(), "old");
    let age_s: u64 = stale.says("Age").parse().unwrap();
    assert!((3600..3700).contains(&age_s), "Age {age_s}");
    gate.open();
    tests::until("the edge has the new content", async || {
        (topology.edge(2).get("/a").await.text() == "new").then_some(())
    })
    .await;
    topology.finish().await;
}
