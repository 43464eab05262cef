//! What visitors, proxies and origins claim, and how far an edge believes it:
//! control fields from nobody, a visitor's address from trusted proxies alone.

use tests::{Client, HOST, Origin, Reply, TestNode, Topology, ask, get};
use tokio::net::TcpStream;

const TIER_SIGNATURE: &str =
    "tier=(\"@method\" \"tier-control\");created=1;expires=9999999999;keyid=\"edge-1-a\"";

async fn stripped(node: &TestNode, from: &str) -> u64 {
    let metrics = node.metrics().await;
    metrics.sum("stripped_tier_fields_total", &[("from", from)])
}

/// Who the visitor is, in the words of the last request for that path.
fn told(origin: &Origin, path: &str) -> (String, String) {
    let last = origin.requests(path).pop().unwrap();
    (last.says("X-Forwarded-For"), last.says("X-Forwarded-Proto"))
}

#[tokio::test(flavor = "multi_thread")]
async fn control_fields_of_a_visitor_go_no_further_than_the_edge() {
    let origin = Origin::start().await;
    origin.always("/a", Reply::fresh("content"));
    for uppers in [1, 0] {
        let site = "fallback = [\"direct\"]";
        let topology = Topology::new(&origin)
            .uppers(uppers)
            .site(site)
            .start()
            .await;
        let edge = topology.edge(1);
        for method in ["GET", "POST"] {
            let before = stripped(edge, "visitor").await;
            let asked = ask(method, "/a")
                .with("Tier-Control", "v=1, site=\"other\", pool=\"other\"")
                .with("tier-control", "v=1")
                .with("TIER-Anything", "x")
                .with(
                    "Signature-Input",
                    &format!("own=(\"@path\"), {TIER_SIGNATURE}"),
                )
                .with("Signature", "own=:AAAA:, tier=:AAAA:");
            let answer = edge.ask(&asked).await;
            assert_eq!((answer.status, answer.text().as_str()), (200, "content"));
            assert_eq!(stripped(edge, "visitor").await, before + 5, "{method}");

            let seen = origin.requests("/a").pop().unwrap();
            assert_eq!(seen.method, method);
            let tier = |(name, _): &&(String, String)| name.to_lowercase().starts_with("tier-");
            assert_eq!(seen.fields.iter().find(tier), None, "{method}");
            // What else the visitor signed is between it and the origin.
            assert_eq!(seen.says("Signature"), "own=:AAAA:", "{method}");
            assert_eq!(seen.says("Signature-Input"), "own=(\"@path\")", "{method}");
        }
        topology.finish().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn control_fields_of_an_origin_reach_no_visitor() {
    let origin = Origin::start().await;
    let reply = Reply::fresh("content")
        .with("Tier-Result", "v=1, node=\"upper-1\", outcome=hit")
        .with("Tier-Control", "v=1")
        .with(
            "Signature-Input",
            &format!("own=(\"@status\"), {TIER_SIGNATURE}"),
        )
        .with("Signature", "own=:AAAA:, tier=:AAAA:");
    origin.always("/a", reply);
    for uppers in [1, 0] {
        let site = "fallback = [\"direct\"]";
        let topology = Topology::new(&origin)
            .uppers(uppers)
            .site(site)
            .start()
            .await;
        let edge = topology.edge(1);
        let asks = [
            ("miss", "GET"),
            ("hit", "GET"),
            ("head", "HEAD"),
            ("pass", "POST"),
        ];
        for (what, method) in asks {
            let answer = edge.ask(&ask(method, "/a")).await;
            assert_eq!(answer.status, 200, "{what}");
            assert!(!answer.leaks_control(), "{what}: {:?}", answer.fields);
            assert_eq!(answer.says("Signature"), "own=:AAAA:", "{what}");
            assert_eq!(
                answer.says("Signature-Input"),
                "own=(\"@status\")",
                "{what}"
            );
        }
        // One miss and one pass, four things each, at whoever asked the origin.
        let asking = topology.uppers().first().unwrap_or(edge);
        assert_eq!(stripped(asking, "origin").await, 8, "{uppers} upper tiers");
        topology.finish().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn connection_options_cannot_take_our_fields_away() {
    // RFC 9110 §7.6.1: what `Connection` names is for this hop alone. What the
    // tiers tell each other is written after that, and outlives it.
    let origin = Origin::start().await;
    let kept = "Tier-Result, Signature, Signature-Input, Cache-Control, Date";
    origin.always("/a", Reply::fresh("content").with("Connection", kept));
    let topology = Topology::new(&origin).start().await;
    let named = "Tier-Control, Signature, Signature-Input, Host, Via, CDN-Loop, X-Own";
    for method in ["GET", "POST"] {
        let asked = ask(method, "/a")
            .with("Connection", named)
            .with("X-Own", "x");
        let answer = topology.edge(1).ask(&asked).await;
        assert_eq!((answer.status, answer.text().as_str()), (200, "content"));
        let seen = origin.requests("/a").pop().unwrap();
        assert_eq!(seen.says("Host"), HOST, "{method}");
        assert_eq!(seen.says("CDN-Loop"), "edge-1, upper-1", "{method}");
        assert_eq!(seen.field("X-Own"), None, "{method}");
    }
    topology.finish().await;
}

/// A version 2 header of the PROXY protocol, from its specification (§2.2).
fn proxy_v2(command: u8, family: u8, addresses: &[u8]) -> Vec<u8> {
    let mut header = b"\r\n\r\n\0\r\nQUIT\n".to_vec();
    header.extend([0x20 | command, family]);
    header.extend(u16::try_from(addresses.len()).unwrap().to_be_bytes());
    header.extend_from_slice(addresses);
    header
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_header_names_the_visitor() {
    let origin = Origin::start().await;
    origin.always("/a", Reply::new(204));
    origin.always("/b", Reply::fresh("content"));
    let topology = Topology::new(&origin)
        .listener("proxy_protocol = true")
        .start()
        .await;
    let door = topology.edge(1).listener(1);
    let v4 = [198, 51, 100, 7, 192, 0, 2, 2, 0x13, 0x88, 1, 187];
    let mut v6 = [0; 36];
    (v6[..4]).copy_from_slice(&[0x20, 1, 0xd, 0xb8]);
    v6[15] = 9;
    let with_extras = [&v4[..], &[4, 0, 3, 1, 2, 3]].concat();
    for (what, header, named) in [
        (
            "v1",
            b"PROXY TCP4 198.51.100.7 192.0.2.2 5000 443\r\n".to_vec(),
            "198.51.100.7",
        ),
        (
            "v1 v6",
            b"PROXY TCP6 2001:db8::9 ::1 5000 443\r\n".to_vec(),
            "2001:db8::9",
        ),
        ("v1 unknown", b"PROXY UNKNOWN\r\n".to_vec(), "127.0.0.1"),
        ("v2", proxy_v2(1, 0x11, &v4), "198.51.100.7"),
        ("v2 v6", proxy_v2(1, 0x21, &v6), "2001:db8::9"),
        (
            "v2 with extras",
            proxy_v2(1, 0x11, &with_extras),
            "198.51.100.7",
        ),
        ("v2 local", proxy_v2(0, 0, &[]), "127.0.0.1"),
    ] {
        let mut client = Client::connect(door).await;
        // The header may come in pieces, and with a request right behind it.
        let (first, rest) = header.split_at(9);
        client.send(first).await;
        client
            .send([rest, &ask("POST", "/a").body("x").bytes()].concat())
            .await;
        assert_eq!(client.response().await.status, 204, "{what}");
        assert_eq!(told(&origin, "/a").0, named, "{what}");
        // It is said once a connection, and holds for all of it.
        assert_eq!(client.ask(&get("/b")).await.text(), "content", "{what}");
        assert_eq!(client.ask(&ask("PUT", "/a").body("y")).await.status, 204);
        assert_eq!(told(&origin, "/a").0, named, "{what}");
    }
    // Many visitors may share what is cached: whom it was fetched for stays here.
    assert_eq!(told(&origin, "/b").0, "");
    topology.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_door_that_expects_a_proxy_header_opens_for_nothing_else() {
    let origin = Origin::start().await;
    origin.always("/a", Reply::fresh("content"));
    let topology = Topology::new(&origin)
        .listener("proxy_protocol = true")
        .start()
        .await;
    let edge = topology.edge(1);
    let request = get("/a").bytes();
    let mut wrong_version = proxy_v2(1, 0x11, &[0; 12]);
    wrong_version[12] = 0x11;
    for (what, header) in [
        ("none", Vec::new()),
        (
            "an address that is none",
            b"PROXY TCP4 a b 1 2\r\n".to_vec(),
        ),
        (
            "two addresses too few",
            b"PROXY TCP4 192.0.2.1\r\n".to_vec(),
        ),
        (
            "a line without an end",
            [b"PROXY TCP4 ".to_vec(), vec![b'1'; 300]].concat(),
        ),
        ("v2 without addresses", proxy_v2(1, 0x11, &[])),
        ("v2 larger than any", proxy_v2(1, 0x11, &[0; 5000])),
        ("v2 of another version", wrong_version),
    ] {
        let mut client = Client::connect(edge.listener(1)).await;
        client.send([&header[..], &request].concat()).await;
        assert_eq!(client.closed().await, "", "{what}");
    }
    let metrics = edge.metrics().await;
    assert_eq!(
        metrics.sum("door_refused_total", &[("reason", "proxy_protocol")]),
        7
    );
    assert_eq!(origin.all_requests().len(), 0);

    // And where none is expected, one is no request.
    let mut client = edge.client().await;
    client.send("PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n").await;
    client.send(&request).await;
    assert_eq!(client.response().await.status, 505, "no version of HTTP");
    assert_eq!(edge.get("/a").await.text(), "content");
    topology.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_header_stands_before_tls() {
    let origin = Origin::start().await;
    origin.always("/a", Reply::new(204));
    let listener = "proxy_protocol = true\n\
                    tls = { certificate = \"site.pem\", key = \"site.key\" }";
    let topology = Topology::new(&origin).listener(listener).start().await;
    let mut stream = TcpStream::connect(topology.edge(1).listener(1))
        .await
        .unwrap();
    let header = b"PROXY TCP4 198.51.100.7 192.0.2.2 5000 443\r\n";
    tokio::io::AsyncWriteExt::write_all(&mut stream, header)
        .await
        .unwrap();
    let (stream, _) = topology.authority().handshake(stream, HOST, &[]).await;
    let mut client = Client::over(stream);
    assert_eq!(client.ask(&ask("POST", "/a").body("x")).await.status, 204);
    let named = ("198.51.100.7".to_owned(), "https".to_owned());
    assert_eq!(told(&origin, "/a"), named);
    topology.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_stands_behind_a_trusted_proxy_is_the_visitor() {
    let origin = Origin::start().await;
    origin.always("/a", Reply::new(204));
    let trusted = "trusted_proxies = [\"127.0.0.1\", \"10.0.0.0/8\"]";
    let believing = Topology::new(&origin).edge_top(trusted).start().await;
    let doubting = Topology::new(&origin).start().await;
    let (xff, proto) = ("X-Forwarded-For", "X-Forwarded-Proto");
    for (fields, named) in [
        (&[][..], ("127.0.0.1", "http")),
        (&[(xff, "198.51.100.1")], ("198.51.100.1", "http")),
        (
            &[(xff, "6.6.6.6, 198.51.100.1, 10.9.9.9")],
            ("198.51.100.1", "http"),
        ),
        (
            &[(xff, "6.6.6.6, nonsense, 10.9.9.9")],
            ("10.9.9.9", "http"),
        ),
        (
            &[(xff, "198.51.100.1"), (proto, "https")],
            ("198.51.100.1", "https"),
        ),
        (&[(xff, "[2001:db8::1]:443")], ("2001:db8::1", "http")),
        (
            &[(
                "Forwarded",
                "for=\"[2001:db8::1]:4711\";proto=https, for=10.1.1.1",
            )],
            ("2001:db8::1", "https"),
        ),
        (&[("Forwarded", "for=_hidden")], ("127.0.0.1", "http")),
        (
            &[("Forwarded", "For=198.51.100.1"), (xff, "6.6.6.6")],
            ("198.51.100.1", "http"),
        ),
        (&[("Forwarded", "\"\\;=,,;for=")], ("127.0.0.1", "http")),
    ] {
        let asked = fields
            .iter()
            .fold(ask("POST", "/a").body("x"), |asked, (name, value)| {
                asked.with(name, value)
            });
        assert_eq!(believing.edge(1).ask(&asked).await.status, 204);
        let (address, scheme) = told(&origin, "/a");
        assert_eq!((address.as_str(), scheme.as_str()), named, "{fields:?}");
        // One that is not trusted speaks for itself alone.
        assert_eq!(doubting.edge(1).ask(&asked).await.status, 204);
        let (address, scheme) = told(&origin, "/a");
        assert_eq!(
            (address.as_str(), scheme.as_str()),
            ("127.0.0.1", "http"),
            "{fields:?}"
        );
        let seen = origin.requests("/a").pop().unwrap();
        assert_eq!(
            seen.field("Forwarded"),
            None,
            "one field says who, and only one"
        );
    }
    believing.finish().await;
    doubting.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_proxy_header_names_is_not_trusted_for_it() {
    let origin = Origin::start().await;
    origin.always("/a", Reply::new(204));
    let topology = Topology::new(&origin)
        .edge_top("trusted_proxies = [\"127.0.0.1\"]")
        .listener("proxy_protocol = true")
        .start()
        .await;
    for (named, seen) in [("198.51.100.7", "198.51.100.7"), ("127.0.0.1", "6.6.6.6")] {
        let mut client = Client::connect(topology.edge(1).listener(1)).await;
        client
            .send(format!("PROXY TCP4 {named} 192.0.2.2 5000 443\r\n"))
            .await;
        let asked = ask("POST", "/a")
            .with("X-Forwarded-For", "6.6.6.6")
            .body("x");
        assert_eq!(client.ask(&asked).await.status, 204);
        assert_eq!(told(&origin, "/a").0, seen, "PROXY names {named}");
    }
    topology.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_visitor_claims_about_itself_is_not_cached_for_others() {
    let origin = Origin::start().await;
    origin.on("/a", |asked| {
        let claims = [
            "X-Forwarded-Host",
            "X-Forwarded-Port",
            "X-Real-IP",
            "Forwarded",
        ];
        let believed = claims.iter().find_map(|name| asked.field(name));
        Reply::fresh(believed.unwrap_or_else(|| asked.says("X-Forwarded-Proto")))
    });
    let topology = Topology::new(&origin).start().await;
    let claiming = get("/a")
        .with("X-Forwarded-Host", "evil.example")
        .with("X-Forwarded-Port", "666")
        .with("X-Forwarded-Proto", "https")
        .with("X-Real-IP", "6.6.6.6")
        .with("Forwarded", "host=evil.example");
    assert_eq!(topology.edge(1).ask(&claiming).await.text(), "http");
    assert!(topology.edge(1).get("/a").await.hit_at("edge-1"));
    topology.finish().await;
}
