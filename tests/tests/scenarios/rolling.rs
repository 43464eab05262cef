//! Two revisions of `sites.toml` alive at once, in either order, while visitors ask.

use tests::{Load, Origin, Reply, Topology, ask, get};

/// The site that everybody has at first.
const BEFORE: &str = "[pools.shop]\nservers = [{origin}]\n\
    [sites.shop]\nhosts = [\"shop.example\"]\npool = \"shop\"\nfallback = [\"direct\"]\n";

/// What is added to it, or made of it.
const SITE_ADDED: &str = "[sites.blog]\nhosts = [\"blog.example\"]\npool = \"shop\"\n\
    fallback = [\"direct\"]\n";
const KEY_CHANGED: &str = "[sites.shop.key]\nquery = { drop = [\"n\"] }\n";

/// Everything that may change, as one whole file after another.
fn revisions() -> Vec<(&'static str, String)> {
    let renamed = BEFORE
        .replace("[pools.shop]", "[pools.store]")
        .replace("pool = \"shop\"", "pool = \"store\"");
    vec![
        ("a site is added", BEFORE.to_owned() + SITE_ADDED),
        ("a pool is renamed", renamed.clone()),
        ("a pool is added and used", {
            let other = "[pools.other]\nservers = [{origin}]\n";
            renamed.replace("pool = \"store\"", "pool = \"other\"") + other
        }),
        ("the key's rules change", BEFORE.to_owned() + KEY_CHANGED),
        ("everything is as it was", BEFORE.to_owned()),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_rolls_over_the_tiers_in_either_order_without_an_error() {
    for uppers_first in [true, false] {
        let origin = Origin::start().await;
        origin.on("/object", |asked| {
            let body = asked.target.replace("&n=1", "");
            match asked.method.as_str() {
                "GET" => Reply::fresh(body),
                _ => Reply::ok(body).with("Cache-Control", "no-store"),
            }
        });
        let topology = Topology::new(&origin).start().await;
        let (edge, upper) = (topology.edge(1), topology.upper(1));
        let server = format!("\"{}\"", origin.address());
        let write = |text: &str| topology.write("sites.toml", &text.replace("{origin}", &server));
        write(BEFORE);
        let order = match uppers_first {
            true => [upper, edge],
            false => [edge, upper],
        };
        for node in order {
            node.running().reload().unwrap();
        }
        let visited = edge.address();
        // Each has the parameter that one revision drops from the key.
        let mut load = Load::along(4, move |number| {
            let body = format!("/object?{}", number / 3);
            let target = format!("{body}&n=1");
            let asked = match number % 10 {
                0 => ask("POST", &target).body("x"),
                _ => get(&target),
            };
            (visited, asked, body)
        });
        let mut before = BEFORE.to_owned();
        for (what, text) in revisions() {
            write(&text);
            for (step, node) in order.iter().enumerate() {
                node.running().reload().unwrap();
                load.goes_on(60).await;
                // Who has the new site already serves it, by whatever way there is.
                let at_edge = match step == 1 || !uppers_first {
                    true => &text,
                    false => &before,
                };
                let known = at_edge.contains("blog.example");
                let blog = get("/object?blog").host("blog.example");
                let answer = edge.ask(&blog).await;
                let status = if known { 200 } else { 421 };
                assert_eq!(answer.status, status, "{what}, step {step}: {answer:?}");
            }
            before = text;
        }
        load.end().await;
        // `finish` holds that nothing was rejected or refused meanwhile.
        topology.finish().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn where_no_other_way_is_left_an_unknown_site_is_an_error_and_no_alarm() {
    let origin = Origin::start().await;
    origin.always("/a", Reply::fresh("content"));
    let topology = Topology::new(&origin).start().await;
    let edge = topology.edge(1);
    let server = format!("\"{}\"", origin.address());
    let text = BEFORE.to_owned() + &SITE_ADDED.replace("fallback = [\"direct\"]", "fallback = []");
    topology.write("sites.toml", &text.replace("{origin}", &server));
    edge.running().reload().unwrap();
    let answer = edge.ask(&get("/a").host("blog.example")).await;
    assert_eq!(answer.status, 502, "{answer:?}");
    assert!(
        answer.says("Proxy-Status").contains("upper-1"),
        "{answer:?}"
    );
    // The site that both know is served by the same upper tier, which is not down.
    let shop = edge.get("/a").await;
    assert_eq!((shop.status, shop.cache_status().len()), (200, 2));
    assert_eq!(edge.metrics().await.sum("upper_tier_up", &[]), 1);
    let at_upper = topology.upper(1).metrics().await;
    let unknown = at_upper.sum("door_refused_total", &[("reason", "unknown_site")]);
    assert_eq!(unknown, 1);
    topology.finish().await;
}
