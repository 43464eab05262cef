//! What methods other than GET do to a cache, through one tier and through two.

use tests::{Origin, Reply, Topology, ask, get};

/// One tier and two: whatever is said here must hold for both.
const TIERS: [usize; 2] = [0, 1];

/// An edge without upper tiers goes to the origin itself.
const DIRECT: &str = "fallback = [\"stale\", \"direct\"]";

#[tokio::test(flavor = "multi_thread")]
async fn a_fresh_answer_to_a_post_may_answer_gets() {
    for uppers in TIERS {
        let origin = Origin::start().await;
        origin.on("/a", |asked| {
            let reply = Reply::fresh(format!("by {}", asked.method));
            match asked.method.as_str() {
                "POST" => reply.with("Content-Location", "/a"),
                _ => reply,
            }
        });
        let topology = Topology::new(&origin)
            .uppers(uppers)
            .site(DIRECT)
            .start()
            .await;
        let edge = topology.edge(1);
        assert_eq!(edge.get("/a").await.text(), "by GET");
        let posted = edge.ask(&ask("POST", "/a").body("x")).await;
        assert_eq!(posted.text(), "by POST");
        assert!(posted.at("edge-1").contains("stored"), "{posted:?}");
        let got = edge.get("/a").await;
        assert_eq!(got.text(), "by POST");
        assert!(got.hit_at("edge-1"), "{got:?}");
        assert_eq!(origin.requests("/a").len(), 2);

        topology.finish().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_to_a_post_that_does_not_say_so_is_not_kept() {
    type Case<'a> = (&'a str, Reply, &'a [(&'a str, &'a str)]);
    let of_target = |reply: Reply| reply.with("Content-Location", "/a");
    let cases: [Case<'_>; 7] = [
        ("no Content-Location", Reply::fresh("post"), &[]),
        (
            "another Content-Location",
            Reply::fresh("post").with("Content-Location", "/b"),
            &[],
        ),
        (
            "no explicit freshness",
            of_target(Reply::ok("post")).with("ETag", "\"1\""),
            &[],
        ),
        (
            "private",
            of_target(Reply::ok("post")).with("Cache-Control", "private, max-age=60"),
            &[],
        ),
        (
            "a cookie",
            of_target(Reply::fresh("post")).with("Set-Cookie", "a=b"),
            &[],
        ),
        (
            "a visitor's cookie",
            of_target(Reply::fresh("post")),
            &[("Cookie", "sid=1")],
        ),
        (
            "credentials",
            of_target(Reply::fresh("post")),
            &[("Authorization", "Basic eA==")],
        ),
    ];
    for (what, reply, fields) in cases {
        let origin = Origin::start().await;
        origin.on("/a", move |asked| match asked.method.as_str() {
            "POST" => reply.clone(),
            _ => Reply::fresh("get"),
        });
        let topology = Topology::new(&origin).start().await;
        let mut post = ask("POST", "/a").body("x");
        for (name, value) in fields {
            post = post.with(name, value);
        }
        let posted = topology.edge(1).ask(&post).await;
        assert_eq!(posted.text(), "post", "{what}");
        assert!(
            !posted.at("edge-1").contains("stored"),
            "{what}: {posted:?}"
        );
        assert_eq!(topology.edge(1).get("/a").await.text(), "get", "{what}");
        topology.finish().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn max_forwards_counts_the_tiers_as_one() {
    for uppers in TIERS {
        let origin = Origin::start().await;
        origin.on("/a", |asked| {
            Reply::ok(format!("after {}", asked.says("Max-Forwards")))
        });
        let topology = Topology::new(&origin)
            .uppers(uppers)
            .site(DIRECT)
            .start()
            .await;
        let edge = topology.edge(1);
        for method in ["OPTIONS", "TRACE"] {
            for (count, text) in [("1", "after 0"), ("8", "after 7"), ("x", "after x")] {
                let asked = ask(method, "/a").with("Max-Forwards", count);
                assert_eq!(edge.ask(&asked).await.text(), text, "{method} {count}");
            }
            let before = origin.requests("/a").len();
            let asked = ask(method, "/a").with("Max-Forwards", "0");
            let answer = edge.ask(&asked).await;
            assert_eq!(answer.status, 200, "{method}");
            assert_eq!(origin.requests("/a").len(), before, "{method}");
        }
        // Other methods have no use for it.
        let asked = ask("POST", "/a").with("Max-Forwards", "0").body("x");
        assert_eq!(edge.ask(&asked).await.text(), "after 0");
        topology.finish().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trace_that_ends_here_gives_no_secret_back() {
    let origin = Origin::start().await;
    let topology = Topology::new(&origin).start().await;
    let asked = ask("TRACE", "/a?b=c")
        .with("Max-Forwards", "0")
        .with("Via", "1.1 before")
        .with("Cookie", "sid=secret")
        .with("Authorization", "Bearer secret")
        .with("X-Api-Key", "secret");
    let answer = topology.edge(1).ask(&asked).await;
    assert_eq!(answer.says("Content-Type"), "message/http");
    let text = answer.text();
    assert!(text.starts_with("TRACE /a?b=c HTTP/1.1\r\n"), "{text}");
    assert!(text.contains("via: 1.1 before\r\n"), "{text}");
    assert!(!text.contains("secret"), "{text}");
    topology.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn options_of_the_server_are_the_edges_own() {
    let origin = Origin::start().await;
    let topology = Topology::new(&origin).start().await;
    let mut client = topology.edge(1).client().await;
    let answer = client
        .ask(&ask("OPTIONS", "*").body("GET /b HTTP/1.1\r\n\r\n"))
        .await;
    assert_eq!(answer.status, 200);
    assert!(answer.says("Allow").contains("GET"), "{answer:?}");
    // Closing is allowed; reading the body as a request is not.
    origin.always("/a", Reply::ok("a"));
    client.send(get("/a").bytes()).await;
    let next = client.closed_or_response().await;
    assert!(next.is_none_or(|next| next.text() == "a"));
    assert!(
        origin
            .all_requests()
            .iter()
            .all(|asked| asked.method == "GET" && asked.path() == "/a")
    );
    topology.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_head_freshens_what_it_confirms() {
    for uppers in TIERS {
        let origin = Origin::start().await;
        origin.on("/a", |asked| {
            let reply = match asked.method.as_str() {
                "HEAD" => Reply::fresh("content").with("X-Confirmed", "yes"),
                _ => Reply::stale("content", ""),
            };
            reply.with("ETag", "\"v1\"")
        });
        let topology = Topology::new(&origin)
            .uppers(uppers)
            .site(DIRECT)
            .start()
            .await;
        let edge = topology.edge(1);
        edge.get("/a").await;
        let head = edge.ask(&ask("HEAD", "/a")).await;
        assert!(head.at("edge-1").contains("fwd=stale"), "{head:?}");
        let got = edge.get("/a").await;
        assert!(got.hit_at("edge-1"), "{uppers}: {got:?}");
        assert_eq!(got.says("X-Confirmed"), "yes");
        assert_eq!(got.text(), "content");
        let asked = origin.requests("/a");
        assert_eq!(asked.len(), 2);
        // It stands for everybody's GET, and says nothing of who asked.
        assert_eq!(asked[1].field("X-Forwarded-For"), None);
        topology.finish().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_head_that_shows_a_change_makes_what_is_stored_stale() {
    for uppers in TIERS {
        let origin = Origin::start().await;
        origin.in_turn(
            "/a",
            [
                Reply::fresh("old").with("ETag", "\"v1\""),
                Reply::fresh("newer").with("ETag", "\"v2\""),
            ],
        );
        let topology = Topology::new(&origin)
            .uppers(uppers)
            .site(DIRECT)
            .start()
            .await;
        let edge = topology.edge(1);
        edge.get("/a").await;
        let reload = ask("HEAD", "/a").with("Cache-Control", "no-cache");
        assert_eq!(edge.ask(&reload).await.says("ETag"), "\"v2\"");
        let got = edge.get("/a").await;
        assert_eq!(got.text(), "newer", "{uppers}: {got:?}");
        topology.finish().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_visitors_head_changes_nothing_for_the_others() {
    for (name, value) in [
        ("Cookie", "sid=1"),
        ("Authorization", "Basic eA=="),
        ("If-None-Match", "\"v9\""),
    ] {
        let origin = Origin::start().await;
        origin.in_turn(
            "/a",
            [
                Reply::fresh("old").with("ETag", "\"v1\""),
                Reply::fresh("newer").with("ETag", "\"v2\""),
            ],
        );
        let topology = Topology::new(&origin).start().await;
        let edge = topology.edge(1);
        edge.get("/a").await;
        let reload = ask("HEAD", "/a")
            .with("Cache-Control", "no-cache")
            .with(name, value);
        assert_eq!(edge.ask(&reload).await.status, 200, "{name}");
        assert_eq!(origin.requests("/a").len(), 2, "{name}");
        assert_eq!(edge.get("/a").await.text(), "old", "{name}");
        topology.finish().await;
    }
}
