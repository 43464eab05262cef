//! What a site's rules decide, by path and by status, at one tier and at two.

use tests::{Gate, HOST, Origin, Reply, Topology, ask, get};

/// Edges with those rules, with an upper tier or straight before the origin.
async fn topology(origin: &Origin, uppers: usize, rules: &str) -> Topology {
    let way = if uppers == 0 { "off" } else { "hash" };
    Topology::new(origin)
        .edges(2)
        .uppers(uppers)
        .site(&format!("topology = \"{way}\"\n{rules}"))
        .start()
        .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bypassed_path_is_everybodys_own_however_it_is_spelt() {
    const RULES: &str = r#"
        [[sites.shop.rules]]
        path = "/own/logo"
        bypass = false
        [[sites.shop.rules]]
        path = "/own/*"
        bypass = true
    "#;
    for uppers in [0, 1] {
        let origin = Origin::start().await;
        origin.on("/own/cart", |asked| Reply::fresh(asked.says("X-Who")));
        origin.on("/%6Fwn/cart", |asked| Reply::fresh(asked.says("X-Who")));
        origin.always("/own/logo", Reply::fresh("logo"));
        let topology = topology(&origin, uppers, RULES).await;
        let edge = topology.edge(1);

        for (target, who) in [
            ("/own/cart", "first"),
            ("/own/cart", "second"),
            ("/%6Fwn/cart", "third"),
            ("/own/cart?x", "fourth"),
        ] {
            let answer = edge.ask(&get(target).with("X-Who", who)).await;
            assert_eq!(answer.text(), who, "{target}");
            for node in ["edge-1", "upper-1"].iter().take(1 + uppers) {
                let said = answer.at(node);
                assert!(said.contains("fwd=bypass"), "{target}: {said}");
                assert!(said.contains("detail=rule"), "{target}: {said}");
                assert!(!said.contains("stored"), "{target}: {said}");
            }
        }
        // Nor does anything answer for it that may be asked alone.
        let alone = edge
            .ask(&get("/own/cart").with("Cache-Control", "only-if-cached"))
            .await;
        assert_eq!(alone.status, 504);

        edge.get("/own/logo").await;
        assert!(edge.get("/own/logo").await.hit_at("edge-1"));
        topology.finish().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_has_logged_in_is_shown_their_own() {
    const RULES: &str = r#"
        [sites.shop.cache]
        bypass_cookies = ["sid", "wp_*"]
        [[sites.shop.rules]]
        path = "/static/*"
        bypass_cookies = []
    "#;
    for uppers in [0, 1] {
        let origin = Origin::start().await;
        for path in ["/a", "/static/a"] {
            origin.on(path, |asked| {
                Reply::fresh(format!("for {}", asked.says("Cookie")))
            });
        }
        let topology = topology(&origin, uppers, RULES).await;
        let edge = topology.edge(1);
        let with = |path: &str, cookies| get(path).with("Cookie", cookies);

        // Before anything is stored, and after.
        let own = edge.ask(&with("/a", "sid=1")).await;
        assert_eq!(own.text(), "for sid=1");
        for node in ["edge-1", "upper-1"].iter().take(1 + uppers) {
            assert!(own.at(node).contains("detail=rule"), "{}", own.at(node));
        }
        assert_eq!(edge.ask(&with("/a", "lang=de")).await.text(), "for ");
        assert!(edge.ask(&with("/a", "lang=fr")).await.hit_at("edge-1"));
        for cookies in ["lang=de; sid=2", "wp_login=3"] {
            let own = edge.ask(&with("/a", cookies)).await;
            assert_eq!(own.text(), format!("for {cookies}"));
        }
        assert!(edge.get("/a").await.hit_at("edge-1"));

        edge.get("/static/a").await;
        let shared = edge.ask(&with("/static/a", "sid=1")).await;
        assert_eq!(shared.text(), "for ");
        assert!(shared.hit_at("edge-1"), "{:?}", shared.cache_status());
        topology.finish().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_query_counts_where_its_path_says_so() {
    const RULES: &str = r#"
        [[sites.shop.rules]]
        path = "/static/*"
        query = "ignore"
        [[sites.shop.rules]]
        path = "/search"
        query = { keep = ["q"] }
    "#;
    for uppers in [0, 1] {
        let origin = Origin::start().await;
        for path in ["/static/a", "/search", "/other"] {
            origin.on(path, |asked| Reply::fresh(asked.target.clone()));
        }
        let topology = topology(&origin, uppers, RULES).await;
        let edge = topology.edge(1);
        for (target, asked, hit) in [
            ("/static/a?v=1", "/static/a", false),
            ("/static/a?v=2", "/static/a", true),
            ("/st%61tic/a?v=3", "/static/a", true),
            ("/search?utm=x&q=1", "/search?q=1", false),
            ("/search?q=1", "/search?q=1", true),
            ("/search?q=2", "/search?q=2", false),
            ("/other?v=1", "/other?v=1", false),
            ("/other?v=2", "/other?v=2", false),
        ] {
            let answer = edge.get(target).await;
            assert_eq!(answer.text(), asked, "{target}");
            assert_eq!(answer.hit_at("edge-1"), hit, "{target}");
        }
        topology.finish().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_waits_for_another_on_a_bypassed_path() {
    let rules = "[[sites.shop.rules]]\npath = \"/own/*\"\nbypass = true\n";
    for uppers in [0, 1] {
        let origin = Origin::start().await;
        let gate = Gate::new();
        origin.always("/own/cart", Reply::fresh("cart").held_at(&gate));
        let topology = topology(&origin, uppers, rules).await;
        let mut visitors = Vec::new();
        for _ in 0..3 {
            let mut visitor = topology.edge(1).client().await;
            visitor.send(get("/own/cart").bytes()).await;
            visitors.push(visitor);
        }
        gate.arrivals(3).await;
        gate.open();
        for visitor in &mut visitors {
            assert_eq!(visitor.response_to("GET").await.text(), "cart");
        }
        topology.finish().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rules_decide_what_is_kept_and_two_tiers_agree() {
    const RULES: &str = r#"
        [sites.shop.cache]
        negative_ttl_s = 600
        targeted = ["own-cache-control", "cdn-cache-control"]
        [[sites.shop.rules]]
        path = "/fixed/*"
        status = [302, 418]
        default_ttl_s = 600
        [[sites.shop.rules]]
        path = "/fixed/*"
        ttl_s = 600
        negative_ttl_s = 0
        [[sites.shop.rules]]
        path = "/ours/*"
        origin_fields = "ignore"
        default_ttl_s = 600
        [[sites.shop.rules]]
        path = "/bare/*"
        set_cookie = "strip"
        request_directives = "ignore"
        [[sites.shop.rules]]
        path = "/short/*"
        ttl_max_s = 60
    "#;
    const CC: &str = "Cache-Control";
    type Case<'a> = (&'a str, u16, &'a [(&'a str, &'a str)], bool);
    let cases: &[Case<'_>] = &[
        // A lifetime of the site's goes before the origin's, not before its no.
        ("/fixed/silent", 200, &[], true),
        ("/fixed/stale", 200, &[(CC, "max-age=0")], true),
        ("/fixed/expired", 200, &[("Expires", "0")], true),
        ("/fixed/no-store", 200, &[(CC, "no-store")], false),
        ("/fixed/private", 200, &[(CC, "private")], false),
        (
            "/fixed/no-cache",
            200,
            &[(CC, "no-cache"), ("ETag", "\"v\"")],
            false,
        ),
        ("/fixed/cookie", 200, &[("Set-Cookie", "a=b")], false),
        ("/fixed/moved", 302, &[], true),
        ("/fixed/moved-at-once", 302, &[(CC, "max-age=0")], false),
        ("/fixed/teapot", 418, &[], true),
        ("/fixed/see-other", 303, &[], false),
        ("/fixed/missing", 404, &[], false),
        ("/fixed/broken", 503, &[], false),
        // What the origin says of its content is not heard.
        ("/ours/no-store", 200, &[(CC, "no-store")], true),
        ("/ours/private", 200, &[(CC, "private, max-age=0")], true),
        (
            "/ours/targeted",
            200,
            &[("CDN-Cache-Control", "no-store")],
            true,
        ),
        ("/ours/cookie", 200, &[("Set-Cookie", "a=b")], false),
        ("/ours/any", 200, &[("Vary", "*")], false),
        ("/ours/broken", 503, &[(CC, "no-store")], false),
        // Errors that say nothing are kept, too.
        ("/missing", 404, &[], true),
        ("/gone", 410, &[], true),
        ("/broken", 503, &[], true),
        ("/broken-at-once", 503, &[(CC, "no-store")], false),
        ("/forbidden", 403, &[], false),
        ("/silent", 200, &[], false),
        // The first targeted field of the list governs.
        (
            "/own",
            200,
            &[
                ("Own-Cache-Control", "max-age=60"),
                ("CDN-Cache-Control", "no-store"),
            ],
            true,
        ),
        (
            "/cdn",
            200,
            &[
                ("Own-Cache-Control", "max-age=x"),
                ("CDN-Cache-Control", "max-age=60"),
            ],
            true,
        ),
        (
            "/own-no",
            200,
            &[
                ("Own-Cache-Control", "no-store"),
                ("CDN-Cache-Control", "max-age=60"),
            ],
            false,
        ),
        (
            "/bare/cookie",
            200,
            &[("Set-Cookie", "a=b"), (CC, "max-age=60")],
            true,
        ),
        (
            "/short/old",
            200,
            &[("Age", "61"), (CC, "max-age=600")],
            false,
        ),
        (
            "/short/new",
            200,
            &[("Age", "5"), (CC, "max-age=600")],
            true,
        ),
    ];
    for uppers in [0, 1] {
        let origin = Origin::start().await;
        for (path, status, fields, _) in cases {
            let mut reply = Reply::new(*status).body("content");
            for (name, value) in *fields {
                reply = reply.with(name, value);
            }
            origin.always(path, reply);
        }
        let topology = topology(&origin, uppers, RULES).await;
        let mut wrong = Vec::new();
        for (path, status, _, kept) in cases {
            topology.edge(1).get(path).await;
            let second = topology.edge(1).get(path).await;
            assert_eq!(
                (second.status, second.text().as_str()),
                (*status, "content")
            );
            if second.hit_at("edge-1") != *kept {
                wrong.push(format!("{uppers} {path}: {:?}", second.cache_status()));
            }
            let elsewhere = topology.edge(2).get(path).await;
            if uppers > 0 && elsewhere.hit_at("upper-1") != *kept {
                wrong.push(format!("elsewhere {path}: {:?}", elsewhere.cache_status()));
            }
        }
        assert!(wrong.is_empty(), "{wrong:#?}");

        let bare = topology.edge(1).get("/bare/cookie").await;
        assert_eq!(bare.field("Set-Cookie"), None);
        let insistent = get("/bare/cookie").with("Cache-Control", "no-cache");
        assert!(topology.edge(1).ask(&insistent).await.hit_at("edge-1"));
        let head = topology.edge(1).ask(&ask("HEAD", "/fixed/silent")).await;
        assert!(head.hit_at("edge-1"), "{:?}", head.cache_status());
        topology.finish().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_nodes_own_error_is_never_kept_by_a_rule() {
    const RULES: &str = r#"
        [[sites.shop.rules]]
        path = "/*"
        status = [502]
        ttl_s = 600
        [[sites.shop.rules]]
        path = "/*"
        origin_fields = "ignore"
        default_ttl_s = 600
        negative_ttl_s = 600
    "#;
    for uppers in [0, 1] {
        let origin = Origin::start().await;
        origin.always("/a", Reply::raw("what is this\r\n\r\n"));
        let topology = topology(&origin, uppers, RULES).await;
        let failed = topology.edge(1).get("/a").await;
        assert_eq!(failed.status, 502);
        assert!(failed.field("Proxy-Status").is_some());
        origin.always("/a", Reply::ok("well again"));
        assert_eq!(topology.edge(1).get("/a").await.text(), "well again");
        topology.finish().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kept_error_does_not_displace_what_may_stand_in_for_it() {
    let rules = "[sites.shop.cache]\nnegative_ttl_s = 600\n";
    for uppers in [0, 1] {
        let origin = Origin::start().await;
        origin.in_turn(
            "/a",
            [Reply::stale("old", ", stale-if-error=600"), Reply::new(503)],
        );
        let topology = topology(&origin, uppers, rules).await;
        topology.edge(1).get("/a").await;
        for _ in 0..3 {
            let bridged = topology.edge(1).get("/a").await;
            let got = (bridged.status, bridged.text());
            assert_eq!(got, (200, "old".to_owned()), "{:?}", bridged.cache_status());
        }
        topology.finish().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_key_is_told_by_both_tiers_where_a_site_asks_for_it() {
    let origin = Origin::start().await;
    origin.always("/a", Reply::fresh("content"));
    let site = "[sites.shop.cache]\ntell_key = true\n[sites.shop.key]\nquery = \"ignore\"\n";
    let topology = Topology::new(&origin).site(site).start().await;
    for _ in 0..2 {
        let answer = topology.edge(1).get("/a?b").await;
        for node in ["upper-1", "edge-1"] {
            let told = answer.at(node);
            let key = format!("key=\"shop|http|{HOST}|/a\"");
            assert!(told.contains(&key), "{told}");
        }
    }
    topology.finish().await;
}
