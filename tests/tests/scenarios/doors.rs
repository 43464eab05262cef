//! What visitors may throw at an edge: a clear answer under its own name, nothing
//! of it at the origin, and a node that serves on.

use tests::{Gate, H2Client, HOST, Origin, Reply, TestNode, Topology, get};

/// What must come of one thing that is no request: status and the counter's reason.
type Case = (String, u16, &'static str);

/// Every case is answered once, by name, and counted; what a smuggler put behind
/// it is never read as a request, and the edge serves on.
async fn are_refused(cases: impl IntoIterator<Item = Case>) {
    let origin = Origin::start().await;
    origin.always("/good", Reply::fresh("content"));
    let topology = Topology::new(&origin).start().await;
    let edge = topology.edge(1);
    assert_eq!(edge.get("/good").await.text(), "content");
    for (bytes, status, reason) in cases {
        let what: String = bytes.chars().take(120).collect();
        let before = refused(edge, reason).await;
        let mut client = edge.client().await;
        client.send(&bytes).await;
        client.send(get("/good").bytes()).await;
        let answer = client.response().await;
        let why = answer.says("Proxy-Status");
        assert_eq!(answer.status, status, "{what:?}: {why}");
        let named = "edge-1; error=http_request_error; details=\"";
        assert!(why.starts_with(named), "{what:?}: {why}");
        assert!(answer.complete, "{what:?}");
        assert_eq!(answer.says("Connection"), "close", "{what:?}");
        assert_eq!(answer.says("Cache-Control"), "no-store", "{what:?}");
        assert_eq!(client.closed().await, "", "{what:?}");
        assert_eq!(
            refused(edge, reason).await,
            before + 1,
            "{what:?}: {reason}"
        );
    }
    assert!(edge.get("/good").await.hit_at("edge-1"));
    assert_eq!(
        origin.all_requests().len(),
        1,
        "the origin saw what was good"
    );
    topology.finish().await;
}

async fn refused(node: &TestNode, reason: &str) -> u64 {
    let metrics = node.metrics().await;
    metrics.sum("door_refused_total", &[("reason", reason)])
}

/// A request with these lines behind its Host.
fn with(method: &str, lines: &str) -> String {
    format!("{method} /good HTTP/1.1\r\nHost: {HOST}\r\n{lines}\r\n")
}

/// A GET for that target.
fn to(target: &str) -> String {
    format!("GET {target} HTTP/1.1\r\nHost: {HOST}\r\n\r\n")
}

/// A GET with these lines alone.
fn only(lines: &str) -> String {
    format!("GET /good HTTP/1.1\r\n{lines}\r\n")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_line_is_three_words() {
    let rest = format!("\r\nHost: {HOST}\r\n\r\n");
    let lines = [
        ("\u{1}\u{2}\u{0} what is this", 400, "request_line"),
        // The start of a TLS handshake, at a door that speaks in the clear.
        (
            "\u{16}\u{3}\u{1}\u{2}\u{0}\u{1}\u{0}\u{1}",
            400,
            "request_line",
        ),
        (" GET /good HTTP/1.1", 400, "request_line"),
        ("GET  /good HTTP/1.1", 400, "request_line"),
        ("GET /good  HTTP/1.1", 505, "version"),
        ("GET /good HTTP/1.1 ", 400, "new_line"),
        ("G@T /good HTTP/1.1", 400, "request_line"),
        ("GET /good", 400, "request_line"),
        ("GET", 400, "request_line"),
        ("GET /good HTTP/2.0", 505, "version"),
        ("GET /good HTTP/0.9", 505, "version"),
        ("GET /good http/1.1", 505, "version"),
        ("CONNECT shop.example:443 HTTP/1.1", 405, "connect"),
    ];
    are_refused(lines.map(|(line, status, reason)| (format!("{line}{rest}"), status, reason)))
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn lines_end_with_crlf_and_fields_are_tokens_and_text() {
    are_refused([
        (to("/good").replace("\r\n", "\n"), 400, "bare_lf"),
        (with("GET", "X: a\n"), 400, "bare_lf"),
        (
            with("GET", "X: a\nTransfer-Encoding: chunked\r\n"),
            400,
            "bare_lf",
        ),
        (to("/good").replace("\r\n", "\r"), 400, "new_line"),
        (with("GET", "X: a\rb\r\n"), 400, "field_value"),
        (
            with("GET", "X: a\rTransfer-Encoding: chunked\r\n"),
            400,
            "field_value",
        ),
        (with("GET", "X: a\u{0}b\r\n"), 400, "field_value"),
        (with("GET", "X: a\u{1}b\r\n"), 400, "field_value"),
        (with("GET", "X : a\r\n"), 400, "field_name"),
        (with("GET", "X\u{0}Y: a\r\n"), 400, "field_name"),
        (with("GET", "X(: a\r\n"), 400, "field_name"),
        (with("GET", ": a\r\n"), 400, "field_name"),
        (with("GET", "X\r\n"), 400, "field_name"),
        // RFC 9112 §5.2: a line folded into the next.
        (with("GET", "X: a\r\n b\r\n"), 400, "field_name"),
        (
            with("GET", "X: a\r\n\tContent-Length: 9\r\n"),
            400,
            "field_name",
        ),
    ])
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_has_one_length() {
    let both = "Content-Length: 6\r\nTransfer-Encoding: chunked\r\n";
    let both_turned = "Transfer-Encoding: chunked\r\nContent-Length: 6\r\n";
    let mut cases = vec![
        (with("POST", both) + "0\r\n\r\nX", 400, "length_and_coding"),
        (
            with("GET", both_turned) + "0\r\n\r\nX",
            400,
            "length_and_coding",
        ),
        (
            with("POST", "Transfer-Encoding: chunked\r\n").replace("HTTP/1.1", "HTTP/1.0"),
            400,
            "transfer_encoding",
        ),
        (
            with("POST", "Content-Length: 2000000000\r\n"),
            413,
            "body_too_large",
        ),
        (
            with("POST", &format!("Content-Length: {}\r\n", u64::MAX)),
            413,
            "body_too_large",
        ),
    ];
    for length in [
        "-1",
        "+1",
        "0x10",
        "1e3",
        "1.0",
        "1, 1",
        "1 1",
        "",
        "\"1\"",
        "99999999999999999999",
    ] {
        let lines = format!("Content-Length: {length}\r\n");
        cases.push((with("POST", &lines) + "x", 400, "content_length"));
    }
    let twice = "Content-Length: 1\r\nContent-Length: 1\r\n";
    cases.push((with("POST", twice) + "x", 400, "content_length"));
    let apart = "Content-Length: 1\r\nContent-Length: 2\r\n";
    cases.push((with("GET", apart) + "x", 400, "content_length"));
    for coding in [
        "gzip",
        "identity",
        "gzip, chunked",
        "chunked, chunked",
        "chunked, identity",
        "chunked;q=1",
        "xchunked",
        "\"chunked\"",
        "chunked\r\nTransfer-Encoding: chunked",
        "chunked\r\nTransfer-Encoding: identity",
        "",
    ] {
        let lines = format!("Transfer-Encoding: {coding}\r\n");
        cases.push((with("POST", &lines) + "0\r\n\r\n", 501, "transfer_encoding"));
    }
    are_refused(cases).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_names_one_host() {
    are_refused(
        [
            only(""),
            only("Host:\r\n"),
            only("Host: shop.example\r\nHost: shop.example\r\n"),
            only("Host: shop.example\r\nHost: other.example\r\n"),
            only("Host: shop.example, other.example\r\n"),
            only("Host: shop example\r\n"),
            only("Host: shop.example/x\r\n"),
            only("Host: shop.example@other.example\r\n"),
            only("Host: shop.example:http\r\n"),
            only("Host: shop.example:65536\r\n"),
            only("Host: shop.example:80:80\r\n"),
            only("Host: shop%2eexample\r\n"),
            only("Host: [::1\r\n"),
            only("Host: ..\r\n"),
            only("Host: .shop.example\r\n"),
            only("Host: shop..example\r\n"),
            only(&format!("Host: {}\r\n", "a".repeat(256))),
            // The target names another authority than the field does.
            to("http://other.example/good"),
            to("http://shop.example@other.example/good"),
        ]
        .map(|bytes| (bytes, 400, "host")),
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_target_can_be_read_one_way_only() {
    let targets = [
        ("/good/../good", "dot_segment"),
        ("/../good", "dot_segment"),
        ("/good/..", "dot_segment"),
        ("/./good", "dot_segment"),
        ("/.%2e/good", "dot_segment"),
        ("/%2E%2e/good", "dot_segment"),
        ("/good\\..\\good", "dot_segment"),
        ("/..%2Fgood", "dot_segment"),
        ("/a%2f..%2fgood", "dot_segment"),
        ("/a%5C%2e%2E%5cgood", "dot_segment"),
        ("/../good?x=1", "dot_segment"),
        ("/a/..;x/good", "dot_segment"),
        ("http://shop.example/../good", "dot_segment"),
        ("/good%", "percent"),
        ("/good%2", "percent"),
        ("/good%u0041", "percent"),
        ("/good%00", "nul"),
        ("/good#there", "fragment"),
        ("/g\u{f6}\u{f6}d", "target_byte"),
        ("*", "target"),
        ("good", "target"),
        ("ftp://shop.example/good", "target"),
        ("shop.example:443", "target"),
        ("http://shop.example?x", "target"),
    ];
    are_refused(targets.map(|(target, reason)| (to(target), 400, reason))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_head_is_bounded_in_bytes_and_in_fields() {
    let origin = Origin::start().await;
    origin.always("/good", Reply::fresh("content"));
    let limits = "[limits]\nhead_bytes_max = 2048\nfields_max = 10";
    let topology = Topology::new(&origin).edge_extra(limits).start().await;
    let edge = topology.edge(1);
    let bare = with("GET", "X: \r\n").len();
    let long = |bytes: usize| with("GET", &format!("X: {}\r\n", "a".repeat(bytes - bare)));
    let many = |fields: usize| with("GET", &"A: b\r\n".repeat(fields - 1));
    for (what, bytes, status) in [
        ("as long as allowed", long(2048), 200),
        ("one byte longer", long(2049), 431),
        ("as many fields as allowed", many(10), 200),
        ("one field more", many(11), 431),
        ("more fields than any node allows", many(1000), 431),
        ("a long target", to(&format!("/{}", "a".repeat(4000))), 431),
        (
            "a head without an end",
            format!("GET /{}", "a".repeat(9000)),
            431,
        ),
    ] {
        let mut client = edge.client().await;
        client.send(&bytes).await;
        let answer = client.response().await;
        assert_eq!(answer.status, status, "{what}");
        if status == 431 {
            assert!(answer.says("Proxy-Status").contains("larger"), "{what}");
            assert_eq!(client.closed().await, "", "{what}");
        }
    }
    assert_eq!(refused(edge, "head_too_large").await, 5);
    assert_eq!(origin.all_requests().len(), 1);

    // The same bounds hold for HTTP/2, where the framing layer may say it.
    let mut client = H2Client::connect(edge.address()).await;
    let too_many = (0..11).fold(get("/good"), |ask, at| ask.with(&format!("x-{at}"), "y"));
    assert_eq!(client.ask(&too_many).await.status, 431);
    let too_long = get("/good").with("x", &"a".repeat(3000));
    assert_eq!(client.ask(&too_long).await.status, 431);
    assert_eq!(client.ask(&get("/good")).await.status, 200);
    topology.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_head_has_to_come_in_time() {
    let origin = Origin::start().await;
    origin.always("/good", Reply::fresh("content"));
    let limits = "[timeouts]\nhead_ms = 200";
    let topology = Topology::new(&origin).edge_extra(limits).start().await;
    let edge = topology.edge(1);

    let mut slow = edge.client().await;
    slow.send("GET /good HTTP/1.1\r\nHos").await;
    let answer = slow.response().await;
    assert_eq!(answer.status, 408);
    assert!(
        answer.says("Proxy-Status").contains("in time"),
        "{answer:?}"
    );
    assert_eq!(slow.closed().await, "");
    assert_eq!(refused(edge, "head_timeout").await, 1);

    // Who says nothing is not answered; between requests more time is given.
    let mut silent = edge.client().await;
    assert_eq!(silent.closed().await, "");
    assert_eq!(edge.get("/good").await.text(), "content");
    topology.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_are_bounded_and_room_is_used_again() {
    let origin = Origin::start().await;
    let gate = Gate::new();
    origin.always("/good", Reply::fresh("content"));
    origin.always("/slow", Reply::fresh("slow").held_at(&gate));
    let limits = "[limits]\nconnections_max = 2";
    let topology = Topology::new(&origin).edge_extra(limits).start().await;
    let edge = topology.edge(1);
    let mut first = edge.client().await;
    first.send(get("/slow").bytes()).await;
    gate.arrivals(1).await;
    // The fill that runs for the first takes no visitor's place.
    let mut second = edge.client().await;
    assert_eq!(second.ask(&get("/good")).await.status, 200);
    assert_eq!(edge.client().await.closed().await, "", "no room");
    assert_eq!(refused(edge, "connections_max").await, 1);

    gate.open();
    assert_eq!(first.response().await.text(), "slow");
    drop(first);
    tests::until("there is room again", async || {
        let mut third = edge.client().await;
        third.send(get("/good").bytes()).await;
        (!third.raw().await.is_empty()).then_some(())
    })
    .await;
    assert_eq!(second.ask(&get("/good")).await.status, 200);
    topology.finish().await;
}
