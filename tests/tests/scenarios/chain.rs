//! What comes out of two tiers: caching as a visitor sees it.

use tests::{Gate, Origin, Reply, Topology, Tracing, ask, clock, get, within};

/// How the members of `Cache-Status` read after a miss at both tiers.
const MISS_AT_BOTH: [&str; 2] = [
    "upper-1; fwd=uri-miss; fwd-status=200; stored",
    "edge-1; fwd=uri-miss; fwd-status=200; stored",
];

#[tokio::test(flavor = "multi_thread")]
async fn a_miss_becomes_a_hit_at_every_tier_whatever_tracing_does() {
    for tracing in Tracing::ALL {
        let origin = Origin::start().await;
        origin.always("/a", Reply::fresh("content"));
        let topology = Topology::new(&origin)
            .edges(2)
            .tracing(tracing)
            .start()
            .await;

        let miss = topology.edge(1).get("/a").await;
        assert_eq!((miss.status, miss.text().as_str()), (200, "content"));
        assert_eq!(miss.cache_status(), MISS_AT_BOTH, "{tracing:?}");

        let hit = topology.edge(1).get("/a").await;
        assert_eq!(hit.text(), "content");
        assert!(hit.hit_at("edge-1"), "{:?}", hit.cache_status());

        let other_edge = topology.edge(2).get("/a").await;
        assert_eq!(other_edge.text(), "content");
        assert!(
            other_edge.hit_at("upper-1"),
            "{:?}",
            other_edge.cache_status()
        );
        assert!(!other_edge.hit_at("edge-2"));

        assert_eq!(origin.requests("/a").len(), 1, "{tracing:?}");
        for response in [miss, hit, other_edge] {
            assert!(!response.leaks_control(), "{:?}", response.fields);
        }
        topology.finish().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_origins_fields_arrive_as_it_sent_them() {
    let date = clock::http_date(100);
    let fields = [
        ("Date", date.as_str()),
        ("Content-Type", "text/x-scripted; charset=utf-8"),
        ("ETag", "\"v1\""),
        ("Last-Modified", "Tue, 01 Oct 2024 10:00:00 GMT"),
        ("Cache-Control", "max-age=3600"),
        ("X-Own", "one"),
        ("X-Own", "two"),
        ("Link", "</style.css>; rel=preload"),
    ];
    let mut reply = Reply::new(200).without("Date").body("content");
    for (name, value) in fields {
        reply = reply.with(name, value);
    }
    let origin = Origin::start().await;
    origin.always("/a", reply);
    let topology = Topology::new(&origin).edges(2).start().await;

    let answers = [
        ("miss", topology.edge(1).get("/a").await),
        ("hit at the edge", topology.edge(1).get("/a").await),
        ("hit at the upper tier", topology.edge(2).get("/a").await),
    ];
    for (what, answer) in &answers {
        for (name, value) in fields.into_iter().filter(|(name, _)| *name != "X-Own") {
            assert_eq!(answer.says(name), value, "{name}, {what}");
            assert_eq!(answer.lines(name), 1, "{name}, {what}");
        }
        assert_eq!(answer.says("X-Own"), "one, two", "{what}");
        assert_eq!(answer.says("Content-Length"), "7", "{what}");
        // RFC 9111 §4.2.3: by its Date the object is a hundred seconds old, or nearly:
        // a Date stands for any moment of its second.
        if let Some(age) = answer.field("Age") {
            let age_s: u64 = age.parse().unwrap();
            assert!((99..130).contains(&age_s), "Age {age_s}, {what}");
        }
        assert!(answer.says("Via").contains("upper-1"), "{what}");
    }
    let hit = &answers[1].1;
    assert!(hit.field("Age").is_some(), "a hit says how old it is");
    topology.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_head_is_answered_from_a_stored_get_and_starts_none_itself() {
    let origin = Origin::start().await;
    origin.always("/a", Reply::fresh("content"));
    let topology = Topology::new(&origin).start().await;

    let cold = topology.edge(1).ask(&ask("HEAD", "/a")).await;
    assert_eq!(
        (cold.status, cold.says("Content-Length").as_str()),
        (200, "7")
    );
    let methods = |origin: &Origin| -> Vec<String> {
        let requests = origin.requests("/a");
        requests.into_iter().map(|request| request.method).collect()
    };
    assert_eq!(methods(&origin), ["HEAD"]);

    topology.edge(1).get("/a").await;
    let mut client = topology.edge(1).client().await;
    let warm = client.ask(&ask("HEAD", "/a")).await;
    assert!(warm.hit_at("edge-1"), "{:?}", warm.cache_status());
    assert_eq!(warm.says("Content-Length"), "7");
    // The connection is still in step: no body followed.
    assert_eq!(client.ask(&get("/a")).await.text(), "content");
    assert_eq!(methods(&origin), ["HEAD", "GET"]);
    topology.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_get_does_not_wait_for_a_head_that_brings_no_body() {
    let origin = Origin::start().await;
    let gate = Gate::new();
    let held = gate.clone();
    origin.on("/a", move |asked| match asked.method.as_str() {
        "HEAD" => Reply::fresh("content").held_at(&held),
        _ => Reply::fresh("content"),
    });
    let topology = Topology::new(&origin).start().await;
    let mut head = topology.edge(1).client().await;
    head.send(ask("HEAD", "/a").bytes()).await;
    gate.arrivals(1).await;
    let answer = topology.edge(1).get("/a").await;
    assert_eq!((answer.text().as_str(), answer.complete), ("content", true));
    gate.open();
    assert_eq!(head.response_to("HEAD").await.says("Content-Length"), "7");
    topology.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ranges_are_cut_from_the_whole_object() {
    let origin = Origin::start().await;
    let reply = Reply::fresh("0123456789").with("ETag", "\"v1\"");
    origin.always("/a", reply.clone());
    origin.always("/cold", reply);
    let topology = Topology::new(&origin).start().await;
    let edge = topology.edge(1);

    // A cold range fetches the whole and answers the part.
    let cold = edge.ask(&get("/cold").with("Range", "bytes=2-4")).await;
    assert_eq!((cold.status, cold.text().as_str()), (206, "234"));
    assert!(edge.get("/cold").await.hit_at("edge-1"));
    assert_eq!(origin.requests("/cold")[0].field("Range"), None);

    edge.get("/a").await;
    for (range, if_range, status, body, content_range) in [
        ("bytes=0-0", None, 206, "0", "bytes 0-0/10"),
        ("bytes=7-", None, 206, "789", "bytes 7-9/10"),
        ("bytes=7-99", None, 206, "789", "bytes 7-9/10"),
        ("bytes=-2", None, 206, "89", "bytes 8-9/10"),
        ("bytes=2-4", Some("\"v1\""), 206, "234", "bytes 2-4/10"),
        ("bytes=2-4", Some("\"v0\""), 200, "0123456789", ""),
        ("bytes=10-", None, 416, "", "bytes */10"),
        ("lines=1-2", None, 200, "0123456789", ""),
    ] {
        let mut asked = get("/a").with("Range", range);
        if let Some(etag) = if_range {
            asked = asked.with("If-Range", etag);
        }
        let answer = edge.ask(&asked).await;
        assert_eq!(answer.status, status, "{range} {if_range:?}");
        assert_eq!(answer.text(), body, "{range} {if_range:?}");
        assert_eq!(answer.says("Content-Range"), content_range, "{range}");
    }
    assert_eq!(origin.requests("/a").len(), 1);
    topology.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_visitors_validators_are_answered_from_the_store() {
    let origin = Origin::start().await;
    let modified = "Tue, 01 Oct 2024 10:00:00 GMT";
    let reply = Reply::fresh("content").with("ETag", "\"v1\"");
    origin.always("/a", reply.with("Last-Modified", modified));
    let topology = Topology::new(&origin).start().await;
    let edge = topology.edge(1);

    // A cold one fetches the whole, so that everybody after it has it.
    let cold = edge.ask(&get("/a").with("If-None-Match", "\"v1\"")).await;
    assert_eq!(cold.status, 304);
    assert_eq!(origin.requests("/a")[0].field("If-None-Match"), None);

    for (name, value, status) in [
        ("If-None-Match", "\"v1\"", 304),
        ("If-None-Match", "W/\"v1\"", 304),
        ("If-None-Match", "\"v0\", \"v1\"", 304),
        ("If-None-Match", "*", 304),
        ("If-None-Match", "\"v0\"", 200),
        ("If-Modified-Since", modified, 304),
        ("If-Modified-Since", "Mon, 30 Sep 2024 10:00:00 GMT", 200),
    ] {
        let mut client = edge.client().await;
        let answer = client.ask(&get("/a").with(name, value)).await;
        assert_eq!(answer.status, status, "{name}: {value}");
        assert_eq!(answer.says("ETag"), "\"v1\"", "{name}: {value}");
        let body = if status == 304 { "" } else { "content" };
        assert_eq!(answer.text(), body, "{name}: {value}");
        assert_eq!(client.ask(&get("/a")).await.text(), "content");
    }
    assert_eq!(origin.requests("/a").len(), 1);
    topology.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_post_passes_with_its_body_and_invalidates_what_it_changed() {
    let origin = Origin::start().await;
    origin.on("/a", |asked| match asked.method.as_str() {
        "POST" => Reply::new(201).body("made"),
        _ => Reply::fresh("content"),
    });
    let topology = Topology::new(&origin).start().await;
    let edge = topology.edge(1);
    edge.get("/a").await;
    assert!(edge.get("/a").await.hit_at("edge-1"));

    let made = edge.ask(&ask("POST", "/a").body("a form")).await;
    assert_eq!((made.status, made.text().as_str()), (201, "made"));
    assert!(made.at("edge-1").contains("fwd=method"), "{made:?}");
    assert!(!made.leaks_control(), "{:?}", made.fields);
    let post = origin.requests("/a").pop().unwrap();
    assert_eq!(
        (post.method.as_str(), &post.body[..]),
        ("POST", &b"a form"[..])
    );

    let after = edge.get("/a").await;
    assert!(
        !after.hit_at("edge-1") && !after.hit_at("upper-1"),
        "{after:?}"
    );
    let methods: Vec<_> = origin
        .requests("/a")
        .into_iter()
        .map(|one| one.method)
        .collect();
    assert_eq!(methods, ["GET", "POST", "GET"]);
    topology.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_post_invalidates_nothing() {
    let origin = Origin::start().await;
    origin.on("/a", |asked| match asked.method.as_str() {
        "POST" => Reply::new(500),
        _ => Reply::fresh("content"),
    });
    let topology = Topology::new(&origin).start().await;
    topology.edge(1).get("/a").await;
    let failed = topology.edge(1).ask(&ask("POST", "/a").body("x")).await;
    assert_eq!(failed.status, 500);
    assert!(topology.edge(1).get("/a").await.hit_at("edge-1"));
    topology.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_post_also_invalidates_what_its_answer_points_at() {
    let origin = Origin::start().await;
    for path in ["/list", "/item"] {
        origin.always(path, Reply::fresh("content"));
    }
    let made = Reply::new(201)
        .with("Location", "/item")
        .with("Content-Location", "http://shop.example/list");
    origin.always("/make", made);
    let topology = Topology::new(&origin).start().await;
    for path in ["/list", "/item"] {
        topology.edge(1).get(path).await;
    }
    topology.edge(1).ask(&ask("POST", "/make").body("x")).await;
    for path in ["/list", "/item"] {
        let after = topology.edge(1).get(path).await;
        assert!(
            !after.says("Cache-Status").contains("hit"),
            "{path}: {after:?}"
        );
    }
    topology.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chunked_upload_arrives_whole() {
    let origin = Origin::start().await;
    origin.always("/upload", Reply::new(204));
    let topology = Topology::new(&origin).start().await;
    let mut client = topology.edge(1).client().await;
    let upload = ask("PUT", "/upload").chunks(["one ", "two ", "three"]);
    assert_eq!(client.ask(&upload).await.status, 204);
    assert_eq!(origin.requests("/upload")[0].body, "one two three");
    // And the connection goes on.
    assert_eq!(client.ask(&get("/none")).await.status, 404);
    topology.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn cookies_are_stored_as_the_site_says() {
    for (policy, second_is_hit, cookie_first, cookie_second) in [
        ("bypass", false, "id=1", "id=1"),
        ("strip", true, "", ""),
        ("store", true, "id=1", "id=1"),
    ] {
        let origin = Origin::start().await;
        origin.always("/a", Reply::fresh("content").with("Set-Cookie", "id=1"));
        let site = format!("[sites.shop.cache]\nset_cookie = \"{policy}\"");
        let topology = Topology::new(&origin).site(&site).start().await;
        let first = topology.edge(1).get("/a").await;
        let second = topology.edge(1).get("/a").await;
        assert_eq!(first.says("Set-Cookie"), cookie_first, "{policy}");
        assert_eq!(second.says("Set-Cookie"), cookie_second, "{policy}");
        assert_eq!(second.hit_at("edge-1"), second_is_hit, "{policy}");
        let fetched = if second_is_hit { 1 } else { 2 };
        assert_eq!(origin.requests("/a").len(), fetched, "{policy}");
        topology.finish().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn vary_keeps_variants_apart_at_both_tiers() {
    let origin = Origin::start().await;
    origin.on("/a", |asked| {
        Reply::fresh(asked.says("X-Kind")).with("Vary", "X-Kind")
    });
    let topology = Topology::new(&origin).edges(2).start().await;
    for (edge, kind, hit_at) in [
        (1, "red", None),
        (1, "blue", None),
        (1, "red", Some("edge-1")),
        (1, "blue", Some("edge-1")),
        (2, "blue", Some("upper-1")),
        (2, "red", Some("upper-1")),
    ] {
        let answer = topology
            .edge(edge)
            .ask(&get("/a").with("X-Kind", kind))
            .await;
        assert_eq!(answer.text(), kind, "edge-{edge}");
        if let Some(node) = hit_at {
            assert!(answer.hit_at(node), "{kind} at edge-{edge}: {answer:?}");
        }
    }
    assert_eq!(origin.requests("/a").len(), 2);
    topology.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_to_be_shared_is_not_stored() {
    for (fields, asked) in [
        (&[("Cache-Control", "no-store")][..], get("/a")),
        (&[("Cache-Control", "private, max-age=60")], get("/a")),
        (&[("Cache-Control", "max-age=60"), ("Vary", "*")], get("/a")),
        (
            &[("Cache-Control", "max-age=60")],
            get("/a").with("Authorization", "Basic eA=="),
        ),
        (
            &[("Cache-Control", "max-age=60")],
            get("/a").with("Cache-Control", "no-store"),
        ),
    ] {
        let origin = Origin::start().await;
        let mut reply = Reply::ok("content");
        for (name, value) in fields {
            reply = reply.with(name, value);
        }
        origin.always("/a", reply);
        let topology = Topology::new(&origin).start().await;
        for _ in 0..2 {
            let answer = topology.edge(1).ask(&asked).await;
            assert_eq!(answer.text(), "content");
            assert!(!answer.says("Cache-Status").contains("hit"), "{fields:?}");
        }
        assert_eq!(origin.requests("/a").len(), 2, "{fields:?} {asked:?}");
        topology.finish().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_with_credentials_do_not_wait_for_each_other() {
    let origin = Origin::start().await;
    let gate = Gate::new();
    origin.always("/a", Reply::ok("content").held_at(&gate));
    let topology = Topology::new(&origin).start().await;
    let mut clients = Vec::new();
    for user in ["one", "two"] {
        let mut client = topology.edge(1).client().await;
        client
            .send(get("/a").with("Authorization", user).bytes())
            .await;
        clients.push(client);
    }
    // Both are at the origin at once, each with its own credentials.
    let asked = origin.wait_for_requests("/a", 2).await;
    let mut users: Vec<_> = asked.iter().map(|one| one.says("Authorization")).collect();
    users.sort();
    assert_eq!(users, ["one", "two"]);
    gate.open();
    for client in &mut clients {
        assert_eq!(client.response().await.text(), "content");
    }
    topology.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_if_cached_never_reaches_the_origin() {
    let origin = Origin::start().await;
    origin.always("/a", Reply::fresh("content"));
    let topology = Topology::new(&origin).edges(2).start().await;
    let asked = get("/a").with("Cache-Control", "only-if-cached");
    assert_eq!(topology.edge(1).ask(&asked).await.status, 504);
    assert_eq!(origin.requests("/a").len(), 0);
    topology.edge(1).get("/a").await;
    // Stored at the upper tier, which counts as the same cache.
    let answer = within(10, topology.edge(2).ask(&asked)).await;
    assert_eq!((answer.status, answer.text().as_str()), (200, "content"));
    assert_eq!(origin.requests("/a").len(), 1);
    topology.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_site_without_tiers_goes_straight_to_its_origin() {
    let origin = Origin::start().await;
    origin.always("/a", Reply::fresh("content"));
    let topology = Topology::new(&origin)
        .site("topology = \"off\"")
        .start()
        .await;
    let answer = topology.edge(1).get("/a").await;
    assert_eq!(
        answer.cache_status().len(),
        1,
        "{:?}",
        answer.cache_status()
    );
    assert!(!origin.requests("/a")[0].says("Via").contains("upper"));
    assert!(topology.edge(1).get("/a").await.hit_at("edge-1"));
    topology.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tiers_may_speak_mutual_tls_to_each_other() {
    let origin = Origin::start().await;
    origin.always("/a", Reply::fresh("content"));
    origin.always("/b", Reply::new(204));
    let topology = Topology::new(&origin).mutual_tls().start().await;
    assert_eq!(
        topology.edge(1).get("/a").await.cache_status(),
        MISS_AT_BOTH
    );
    let posted = topology.edge(1).ask(&ask("POST", "/b").body("x")).await;
    assert_eq!(posted.status, 204);
    topology.finish().await;
}
