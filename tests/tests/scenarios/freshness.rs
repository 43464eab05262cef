//! How long an answer is good, and what becomes of it afterwards.
//!
//! Nothing waits for an object to become stale: the origin sends it with an `Age`
//! beyond its freshness.

use std::sync::atomic::{AtomicBool, Ordering};

use tests::{Gate, Origin, Reply, Topology, clock};

#[tokio::test(flavor = "multi_thread")]
async fn age_counts_on_from_where_the_origin_was() {
    let origin = Origin::start().await;
    origin.always("/a", Reply::fresh("content").with("Age", "50"));
    let topology = Topology::new(&origin).edges(2).start().await;
    for edge in [1, 1, 2, 2] {
        let answer = topology.edge(edge).get("/a").await;
        let age_s: u64 = answer.says("Age").parse().unwrap();
        assert!((50..80).contains(&age_s), "Age {age_s} at edge-{edge}");
    }
    topology.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_stale_is_validated_through_both_tiers() {
    let origin = Origin::start().await;
    origin.on("/a", |asked| {
        let reply = if asked.field("If-None-Match").is_none() {
            Reply::stale("content", "")
        } else {
            Reply::fresh("content").with("X-Confirmed", "yes")
        };
        reply.unless_known(asked, "\"v1\"")
    });
    let topology = Topology::new(&origin).start().await;
    let edge = topology.edge(1);

    assert_eq!(edge.get("/a").await.text(), "content");
    let confirmed = edge.get("/a").await;
    assert_eq!(
        (confirmed.status, confirmed.text().as_str()),
        (200, "content")
    );
    assert!(
        confirmed.at("edge-1").contains("fwd=stale"),
        "{confirmed:?}"
    );
    assert_eq!(confirmed.says("X-Confirmed"), "yes");
    let asked = origin.requests("/a");
    assert_eq!(asked.len(), 2);
    assert_eq!(asked[1].says("If-None-Match"), "\"v1\"");

    // The 304 made it fresh at both tiers.
    assert!(edge.get("/a").await.hit_at("edge-1"));
    assert_eq!(origin.requests("/a").len(), 2);
    topology.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_304_that_answers_no_validator_of_ours_is_fetched_again() {
    let origin = Origin::start().await;
    let asked_before = AtomicBool::new(false);
    origin.on("/a", move |asked| match asked.field("If-None-Match") {
        None if !asked_before.swap(true, Ordering::Relaxed) => {
            Reply::stale("old", "").with("ETag", "\"v1\"")
        }
        None => Reply::fresh("new").with("ETag", "\"v2\""),
        Some(_) => Reply::new(304).with("ETag", "\"v9\""),
    });
    let topology = Topology::new(&origin).start().await;
    let edge = topology.edge(1);
    assert_eq!(edge.get("/a").await.text(), "old");
    let second = edge.get("/a").await;
    assert_eq!((second.status, second.text().as_str()), (200, "new"));
    assert!(edge.get("/a").await.hit_at("edge-1"));
    topology.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn freshness_comes_from_where_the_standard_says() {
    let (hour_ago, tomorrow) = (clock::http_date(3600), "Fri, 31 Dec 2100 10:00:00 GMT");
    let origin = Origin::start().await;
    type Case<'a> = (&'a str, &'a [(&'a str, &'a str)], bool);
    let cases: [Case<'_>; 11] = [
        ("max-age", &[("Cache-Control", "max-age=60")], true),
        (
            "s-maxage first",
            &[("Cache-Control", "max-age=0, s-maxage=60")],
            true,
        ),
        (
            "s-maxage first, too",
            &[("Cache-Control", "max-age=60, s-maxage=0")],
            false,
        ),
        (
            "for CDNs first",
            &[
                ("CDN-Cache-Control", "max-age=60"),
                ("Cache-Control", "no-store"),
            ],
            true,
        ),
        ("Expires", &[("Expires", tomorrow)], true),
        ("Expires gone by", &[("Expires", hour_ago.as_str())], false),
        ("Expires unreadable", &[("Expires", "0")], false),
        (
            "max-age before Expires",
            &[("Cache-Control", "max-age=60"), ("Expires", "0")],
            true,
        ),
        (
            "a guess",
            &[("Last-Modified", "Tue, 01 Oct 2024 10:00:00 GMT")],
            true,
        ),
        (
            "no-cache",
            &[("Cache-Control", "no-cache, max-age=60"), ("ETag", "\"v\"")],
            false,
        ),
        ("nothing", &[], false),
    ];
    for (at, (_, fields, _)) in cases.iter().enumerate() {
        let mut reply = Reply::ok("content");
        for (name, value) in *fields {
            reply = reply.with(name, value);
        }
        origin.always(&format!("/{at}"), reply);
    }
    let topology = Topology::new(&origin).start().await;
    let mut wrong = Vec::new();
    for (at, (what, _, fresh)) in cases.iter().enumerate() {
        let path = format!("/{at}");
        topology.edge(1).get(&path).await;
        let second = topology.edge(1).get(&path).await;
        if second.hit_at("edge-1") != *fresh {
            wrong.push(format!("{what}: {:?}", second.cache_status()));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    topology.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn stale_while_revalidate_answers_at_once_and_refreshes_behind() {
    let origin = Origin::start().await;
    let gate = Gate::new();
    origin.in_turn(
        "/a",
        [
            Reply::stale("old", ", stale-while-revalidate=600"),
            Reply::fresh("new").held_at(&gate),
        ],
    );
    let topology = Topology::new(&origin).start().await;
    let edge = topology.edge(1);
    assert_eq!(edge.get("/a").await.text(), "old");

    // The refresh waits at the origin; no visitor waits for it.
    let stale = edge.get("/a").await;
    assert_eq!(stale.text(), "old");
    assert!(stale.hit_at("edge-1"), "{:?}", stale.cache_status());
    gate.arrivals(1).await;
    assert_eq!(edge.get("/a").await.text(), "old");
    gate.open();
    tests::until("the edge has the new content", async || {
        (edge.get("/a").await.text() == "new").then_some(())
    })
    .await;
    assert_eq!(origin.requests("/a").len(), 2, "one refresh, whoever asked");
    topology.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn stale_if_error_bridges_a_failing_origin() {
    for failure in [
        Reply::new(503),
        Reply::hang_up(),
        Reply::raw("what is this\r\n\r\n"),
    ] {
        let origin = Origin::start().await;
        origin.in_turn(
            "/a",
            [Reply::stale("old", ", stale-if-error=600"), failure.clone()],
        );
        let topology = Topology::new(&origin).start().await;
        assert_eq!(topology.edge(1).get("/a").await.text(), "old");
        let bridged = topology.edge(1).get("/a").await;
        assert_eq!(
            (bridged.status, bridged.text().as_str()),
            (200, "old"),
            "{failure:?}"
        );
        // RFC 9211 §2: what was forwarded is no hit, whatever came of it.
        assert!(!bridged.hit_at("edge-1"), "{bridged:?}");
        assert!(bridged.at("edge-1").contains("fwd=stale"), "{bridged:?}");
        assert!(origin.requests("/a").len() >= 2);
        topology.finish().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_origins_error_is_its_own_where_nothing_may_stand_in() {
    let origin = Origin::start().await;
    origin.in_turn(
        "/a",
        [
            Reply::stale("old", "").with("ETag", "\"v1\""),
            Reply::new(503),
        ],
    );
    let topology = Topology::new(&origin).start().await;
    topology.edge(1).get("/a").await;
    let answer = topology.edge(1).get("/a").await;
    assert_eq!(answer.status, 503);
    assert_eq!(
        answer.field("Proxy-Status"),
        None,
        "the error is the origin's"
    );
    topology.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_304_says_how_old_what_it_confirms_is() {
    for uppers in [0, 1] {
        let origin = Origin::start().await;
        let reply = Reply::fresh("content").with("ETag", "\"v1\"");
        origin.always("/a", reply.with("Age", "50"));
        let topology = Topology::new(&origin)
            .edges(2)
            .uppers(uppers)
            .site("fallback = [\"stale\", \"direct\"]")
            .start()
            .await;
        topology.edge(1).get("/a").await;
        let asked = tests::get("/a").with("If-None-Match", "\"v1\"");
        // The second edge has nothing: its fill is for everybody, its answer is not.
        for edge in [1, 2] {
            let answer = topology.edge(edge).ask(&asked).await;
            assert_eq!((answer.status, answer.text().as_str()), (304, ""));
            let age_s: u64 = answer.says("Age").parse().unwrap();
            assert!((50..80).contains(&age_s), "{uppers}: Age {age_s}");
        }
        topology.finish().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_wants_something_newer_gets_it_past_both_tiers() {
    let origin = Origin::start().await;
    origin.always("/a", Reply::fresh("content").with("Age", "20"));
    let topology = Topology::new(&origin).start().await;
    let edge = topology.edge(1);
    edge.get("/a").await;
    for (at, wish) in ["max-age=10", "min-fresh=3590"].into_iter().enumerate() {
        let newer = tests::get("/a").with("Cache-Control", wish);
        let answer = edge.ask(&newer).await;
        assert!(answer.at("edge-1").contains("fwd=request"), "{answer:?}");
        assert_eq!(origin.requests("/a").len(), at + 2, "{wish}");
    }
    topology.finish().await;
}
