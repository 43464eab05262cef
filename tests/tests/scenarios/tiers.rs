//! The upper tier's door: what is refused there, under which name, and that
//! refusing costs nobody else anything.

use tests::{Client, Forge, Hop, Origin, Reply, Topology, ask, get};

/// A forged request, and the reason under which it must be refused.
struct Refused {
    what: &'static str,
    bytes: Vec<u8>,
    reason: &'static str,
}

fn refused(what: &'static str, bytes: Vec<u8>, reason: &'static str) -> Refused {
    Refused {
        what,
        bytes,
        reason,
    }
}

/// Replaces text in a request's bytes, which must hold it.
fn with(bytes: &[u8], from: &str, to: &str) -> Vec<u8> {
    let text = String::from_utf8(bytes.to_vec()).unwrap();
    assert!(text.contains(from), "{from} is not in {text}");
    text.replacen(from, to, 1).into_bytes()
}

/// Leaves out every line that begins so.
fn without(bytes: &[u8], start: &str) -> Vec<u8> {
    let text = String::from_utf8(bytes.to_vec()).unwrap();
    let kept: Vec<_> = text
        .split("\r\n")
        .filter(|line| !line.starts_with(start))
        .collect();
    assert!(
        kept.len() < text.split("\r\n").count(),
        "no {start} in {text}"
    );
    kept.join("\r\n").into_bytes()
}

/// Every way to be refused with a safe request.
fn everything_refused(topology: &Topology) -> Vec<Refused> {
    let forge = || Forge::new(topology.folder(), "edge-1", "GET", "/a");
    let bent = |bend: &dyn Fn(&mut Forge)| {
        let mut forge = forge();
        bend(&mut forge);
        forge.bytes()
    };
    let good = forge().bytes();
    let own_line = std::fs::read_to_string(topology.folder().join("edge-1.key")).unwrap();
    let unknown = control::generate(control::Algorithm::HmacSha256, "edge-1", "edge-1-z");
    // The first edge's secret under its own key id, in a line that says edge-2.
    let stolen = own_line.replacen(" edge-1 ", " edge-2 ", 1);
    let mut as_edge_2 = forge();
    as_edge_2.block.node = "edge-2".to_owned();
    let twice = String::from_utf8(good.clone()).unwrap();
    let control_line = twice
        .split("\r\n")
        .find(|line| line.starts_with("tier-control"));
    let doubled = format!("{}\r\n\r\n", control_line.unwrap());
    vec![
        refused("no control block at all", get("/a").bytes(), "missing"),
        refused("no Tier-Control", without(&good, "tier-control"), "missing"),
        refused("no signature", without(&good, "signature: "), "missing"),
        refused(
            "no Signature-Input",
            without(&good, "signature-input"),
            "missing",
        ),
        refused(
            "a Tier-Control that is no dictionary",
            with(&good, "tier-control: v=", "tier-control: ]v="),
            "malformed",
        ),
        refused(
            "two of them",
            with(&good, "\r\n\r\n", &format!("\r\n{doubled}")),
            "malformed",
        ),
        refused(
            "a version nobody knows",
            with(&good, "tier-control: v=2", "tier-control: v=99"),
            "malformed",
        ),
        refused(
            "signed a minute ago",
            bent(&|forge| forge.now_ms -= 60_000),
            "expired",
        ),
        refused(
            "signed in a minute",
            bent(&|forge| forge.now_ms += 60_000),
            "expired",
        ),
        refused(
            "an unknown key",
            forge().signed_by(&unknown.unwrap().private_line).bytes(),
            "unknown_key",
        ),
        refused(
            "bound to another path",
            forge().bytes_to("/b"),
            "bad_signature",
        ),
        refused(
            "another method",
            with(&good, "GET ", "HEAD "),
            "bad_signature",
        ),
        refused(
            "another pool",
            with(&good, "pool=\"shop\"", "pool=\"shoq\""),
            "bad_signature",
        ),
        refused(
            "a field that nobody signed",
            with(&good, "\r\n\r\n", "\r\nRange: bytes=0-0\r\n\r\n"),
            "mismatch",
        ),
        refused(
            "another edge's name",
            as_edge_2.signed_by(&stolen).bytes(),
            "mismatch",
        ),
        refused(
            "recorded on the way to another node",
            bent(&|forge| forge.block.to = Some("upper-2".to_owned())),
            "mismatch",
        ),
        refused(
            "an unconfigured pool",
            bent(&|forge| forge.block.pool = "attic".to_owned()),
            "mismatch",
        ),
        refused(
            "an unconfigured site",
            bent(&|forge| forge.block.site = "attic".to_owned()),
            "mismatch",
        ),
        refused(
            "another key's digest",
            bent(&|forge| forge.block.key = control::KeyDigest::of(b"else")),
            "mismatch",
        ),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn one_upper_tier_fetches_everything_of_an_origin_and_another_stands_by() {
    let origin = Origin::start().await;
    let paths: Vec<String> = (0..40).map(|path| format!("/{path}")).collect();
    for path in &paths {
        origin.always(path, Reply::fresh("content"));
    }
    let topology = Topology::new(&origin)
        .edges(2)
        .uppers(3)
        .hop(Hop::Bytes)
        .site("topology = \"single\"\nfallback = []")
        .start()
        .await;
    // Who answers a path at an edge.
    let by = async |edge: usize, path: &str| {
        let answer = topology.edge(edge).get(path).await;
        assert_eq!(answer.status, 200, "{path}");
        let uppers = ["upper-1", "upper-2", "upper-3"];
        let via = answer.says("Via");
        let upper = uppers.iter().position(|upper| via.contains(upper));
        upper.unwrap_or_else(|| panic!("no upper tier in {via}")) + 1
    };
    let chosen = by(1, "/0").await;
    for path in &paths[1..20] {
        assert_eq!((by(1, path).await, by(2, path).await), (chosen, chosen));
    }
    topology.relay(chosen).cut().await;
    let standby = by(1, "/20").await;
    assert_ne!(standby, chosen);
    for path in &paths[21..30] {
        assert_eq!((by(1, path).await, by(2, path).await), (standby, standby));
    }
    topology.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_carries_no_valid_control_block_is_refused_by_name() {
    let origin = Origin::start().await;
    origin.always("/a", Reply::fresh("content"));
    let mut topology = Topology::new(&origin).edges(2).start().await;
    for refused in everything_refused(&topology) {
        topology.expects_rejected("request", refused.reason);
    }
    let upper = topology.upper(1);

    let mut wrong = Vec::new();
    for Refused {
        what,
        bytes,
        reason,
    } in everything_refused(&topology)
    {
        let labels = [("side", "request"), ("reason", reason)];
        let before = upper
            .metrics()
            .await
            .sum("tier_control_rejected_total", &labels);
        let mut client = upper.client().await;
        client.send(&bytes).await;
        let method = if bytes.starts_with(b"HEAD") {
            "HEAD"
        } else {
            "GET"
        };
        let answer = client.response_to(method).await;
        let proxy_status = answer.says("Proxy-Status");
        let named = format!("tier-control {reason}");
        if answer.status != 403 || !proxy_status.contains(&named) {
            wrong.push(format!(
                "{what}: {} {proxy_status:?}, not {reason}",
                answer.status
            ));
        }
        let after = upper
            .metrics()
            .await
            .sum("tier_control_rejected_total", &labels);
        if after != before + 1 {
            wrong.push(format!("{what}: {reason} counted {} times", after - before));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert_eq!(
        origin.all_requests().len(),
        0,
        "nothing of it reached the origin"
    );

    // The node is as it was: ready, serving, and with an alert up.
    assert_eq!(upper.admin(&get("/readyz")).await.status, 200);
    assert_eq!(upper.metrics().await.sum("tier_control_alert", &[]), 1);
    let mut client = upper.client().await;
    client
        .send(Forge::new(topology.folder(), "edge-1", "GET", "/a").bytes())
        .await;
    let answer = client.response().await;
    assert_eq!((answer.status, answer.text().as_str()), (200, "content"));
    assert!(answer.leaks_control(), "between tiers the answer is signed");
    topology.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_recorded_unsafe_request_is_refused_the_second_time() {
    let origin = Origin::start().await;
    origin.always("/a", Reply::new(204));
    let mut topology = Topology::new(&origin).start().await;
    for reason in ["replayed", "malformed"] {
        topology.expects_rejected("request", reason);
    }
    let upper = topology.upper(1);
    let recorded = Forge::new(topology.folder(), "edge-1", "POST", "/a").bytes();
    for (status, named) in [(204, ""), (403, "tier-control replayed")] {
        let mut client = upper.client().await;
        client.send(&recorded).await;
        let answer = client.response_to("POST").await;
        assert_eq!(answer.status, status);
        assert!(answer.says("Proxy-Status").contains(named));
    }
    // A fresh nonce is a new request.
    let mut fresh = Forge::new(topology.folder(), "edge-1", "POST", "/a");
    fresh.nonce = Some([1; 16]);
    let mut client = upper.client().await;
    client.send(fresh.bytes()).await;
    assert_eq!(client.response_to("POST").await.status, 204);
    // One without is none at all.
    let mut bare = Forge::new(topology.folder(), "edge-1", "POST", "/a");
    bare.nonce = None;
    let mut client = upper.client().await;
    client.send(bare.bytes()).await;
    let answer = client.response_to("POST").await;
    assert_eq!(answer.status, 403);
    assert!(
        answer
            .says("Proxy-Status")
            .contains("tier-control malformed")
    );
    assert_eq!(origin.requests("/a").len(), 2);
    topology.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_recorded_on_the_way_to_one_upper_tier_is_worth_nothing_at_another() {
    let origin = Origin::start().await;
    origin.always("/order", Reply::new(204));
    let mut topology = Topology::new(&origin)
        .uppers(2)
        .hop(Hop::Messages)
        .start()
        .await;
    topology.expects_rejected("request", "mismatch");
    let order = ask("POST", "/order").body("one");
    assert_eq!(topology.edge(1).ask(&order).await.status, 204);
    let (asked, other) = match topology.relay(1).exchanges().first() {
        Some(_) => (1, 2),
        None => (2, 1),
    };
    let recorded = topology.relay(asked).exchanges()[0].request.bytes(false);
    let mut client = topology.upper(other).client().await;
    client.send(&recorded).await;
    let answer = client.response_to("POST").await;
    let proxy_status = answer.says("Proxy-Status");
    assert_eq!(answer.status, 403, "{proxy_status}");
    for words in [
        "tier-control mismatch".to_owned(),
        format!("this request is for upper-{asked}, this node is upper-{other}"),
    ] {
        assert!(proxy_status.contains(&words), "{words}: {proxy_status}");
    }
    assert_eq!(origin.requests("/order").len(), 1, "ordered once");
    topology.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restarted_node_executes_nothing_from_before_its_start() {
    let origin = Origin::start().await;
    origin.always("/order", Reply::new(204));
    let mut topology = Topology::new(&origin).start().await;
    topology.expects_rejected("request", "replayed");
    let signed = |ago_ms: u64| {
        let mut forge = Forge::new(topology.folder(), "edge-1", "POST", "/order");
        forge.now_ms -= ago_ms;
        forge.bytes()
    };
    // The node of this topology has just been started, and remembers no nonce.
    for (bytes, status, named) in [
        (signed(20_000), 403, "tier-control replayed"),
        (signed(0), 204, ""),
    ] {
        let mut client = topology.upper(1).client().await;
        client.send(&bytes).await;
        let answer = client.response_to("POST").await;
        assert_eq!(answer.status, status);
        assert!(answer.says("Proxy-Status").contains(named), "{answer:?}");
    }
    assert_eq!(origin.requests("/order").len(), 1);
    topology.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edge_of_the_version_before_is_understood_and_answered_in_it() {
    let origin = Origin::start().await;
    origin.always("/a", Reply::fresh("content"));
    let topology = Topology::new(&origin).start().await;
    for method in ["GET", "POST"] {
        let mut forge = Forge::new(topology.folder(), "edge-1", method, "/a");
        forge.block.version = control::VERSION - 1;
        forge.block.to = None;
        let mut client = topology.upper(1).client().await;
        client.send(forge.bytes()).await;
        let answer = client.response_to(method).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        let version = format!("v={},", control::VERSION - 1);
        assert!(answer.says("Tier-Result").starts_with(&version));
    }
    topology.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hop_count_beyond_the_limit_is_a_loop() {
    let origin = Origin::start().await;
    origin.always("/a", Reply::fresh("content"));
    let topology = Topology::new(&origin).start().await;
    for (hop, status) in [(4, 200), (5, 508)] {
        let mut forge = Forge::new(topology.folder(), "edge-1", "GET", "/a");
        forge.block.hop = hop;
        let mut client = topology.upper(1).client().await;
        client.send(forge.bytes()).await;
        assert_eq!(client.response().await.status, status, "hop {hop}");
    }
    topology.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_connection_goes_on_with_good_requests() {
    let origin = Origin::start().await;
    origin.always("/a", Reply::fresh("content"));
    let mut topology = Topology::new(&origin).start().await;
    topology.expects_rejected("request", "missing");
    let mut client: Client = topology.upper(1).client().await;
    assert_eq!(client.ask(&get("/a")).await.status, 403);
    client
        .send(Forge::new(topology.folder(), "edge-1", "GET", "/a").bytes())
        .await;
    assert_eq!(client.response().await.status, 200);
    topology.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_rotate_without_a_refused_request() {
    let origin = Origin::start().await;
    origin.always("/a", Reply::ok("content").with("Cache-Control", "no-store"));
    let topology = Topology::new(&origin).start().await;
    let (edge, upper) = (topology.edge(1), topology.upper(1));
    let old = std::fs::read_to_string(topology.folder().join("edge-1.key")).unwrap();
    let new = control::generate(control::Algorithm::HmacSha256, "edge-1", "edge-1-b").unwrap();
    let new = new.private_line;
    // A node signs with its first key and accepts all of them.
    for (what, text, nodes) in [
        (
            "upper tiers learn the new key",
            format!("{old}{new}\n"),
            vec![upper],
        ),
        (
            "the edge signs with it",
            format!("{new}\n{old}"),
            vec![edge],
        ),
        (
            "the old one is taken away",
            format!("{new}\n"),
            vec![edge, upper],
        ),
    ] {
        topology.write("edge-1.key", &text);
        for node in nodes {
            node.running().reload().unwrap();
            assert_eq!(edge.get("/a").await.status, 200, "{what}");
            assert_eq!(edge.get("/a").await.cache_status().len(), 2, "{what}");
        }
    }
    topology.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ed25519_signs_in_both_directions() {
    let origin = Origin::start().await;
    origin.always("/a", Reply::fresh("content"));
    origin.always("/b", Reply::new(204));
    let topology = Topology::new(&origin).start().await;
    // In one file here; an operator gives each node its own private line only.
    let lines = ["edge-1", "upper-1"].map(|node| {
        let keyid = format!("{node}-ed");
        let key = control::generate(control::Algorithm::Ed25519, node, &keyid);
        key.unwrap().private_line + "\n"
    });
    topology.write("edge-1.key", &lines.concat());
    for node in [topology.upper(1), topology.edge(1)] {
        node.running().reload().unwrap();
    }
    let answer = topology.edge(1).get("/a").await;
    assert_eq!((answer.status, answer.cache_status().len()), (200, 2));
    assert_eq!(
        topology
            .edge(1)
            .ask(&ask("POST", "/b").body("x"))
            .await
            .status,
        204
    );
    topology.finish().await;
}
