//! One door, two ways inside: what our own parser answers and what it hands over,
//! on the same connection, in the order it was asked.

use tests::{Gate, HOST, Origin, Reply, Topology, ask, get};

async fn shop() -> Origin {
    let origin = Origin::start().await;
    origin.always("/known", Reply::fresh("known"));
    origin.on("/form", |asked| {
        let body = String::from_utf8_lossy(&asked.body);
        Reply::ok(format!("{} {body}", asked.method))
    });
    origin
}

#[tokio::test(flavor = "multi_thread")]
async fn pipelined_requests_are_answered_in_order() {
    let origin = shop().await;
    let gate = Gate::new();
    origin.always("/slow", Reply::fresh("slow").held_at(&gate));
    let topology = Topology::new(&origin).start().await;
    let edge = topology.edge(1);
    edge.get("/known").await;

    // A miss, hits, a HEAD, what is not there, a body that is handed over, and
    // what stands behind it, all in one write.
    let asks = [
        (get("/slow"), 200, "slow"),
        (get("/known"), 200, "known"),
        (ask("HEAD", "/known"), 200, ""),
        (get("/none"), 404, ""),
        (ask("POST", "/form").body("one"), 200, "POST one"),
        (get("/known"), 200, "known"),
        (ask("DELETE", "/form"), 200, "DELETE "),
        (ask("PUT", "/form").body("two"), 200, "PUT two"),
        (get("/known").with("Connection", "close"), 200, "known"),
    ];
    let mut client = edge.client().await;
    let all: Vec<_> = asks.iter().flat_map(|(ask, ..)| ask.bytes()).collect();
    client.send(&all).await;
    gate.arrivals(1).await;
    gate.open();
    for (at, (_, status, body)) in asks.iter().enumerate() {
        let method = if at == 2 { "HEAD" } else { "GET" };
        let answer = client.response_to(method).await;
        let seen = (answer.status, answer.text());
        assert_eq!(seen, (*status, (*body).to_owned()), "answer {at}");
        assert!(answer.complete, "answer {at}");
    }
    assert_eq!(client.closed().await, "");
    topology.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_behind_chunks_is_answered() {
    let origin = shop().await;
    let topology = Topology::new(&origin).start().await;
    let upload = ask("PUT", "/form").chunks(["one ", "0\r\n\r\n", " two"]);
    let (upload, known) = (upload.bytes(), get("/known").bytes());
    let all = [&upload[..], &known, &upload, &upload, &known].concat();
    let bodies = ["PUT", "known", "PUT", "PUT", "known"];
    // In one write, and cut where chunks and their end are.
    for cut in [
        all.len(),
        upload.len() - 3,
        upload.len() - 40,
        upload.len() + 9,
    ] {
        let mut client = topology.edge(1).client().await;
        let (first, rest) = all.split_at(cut);
        client.send(first).await;
        client.send(rest).await;
        for (at, body) in bodies.into_iter().enumerate() {
            let answer = client.response().await;
            assert!(answer.text().starts_with(body), "{at}: {answer:?}");
        }
    }
    for seen in origin.requests("/form") {
        assert_eq!(seen.body, "one 0\r\n\r\n two");
    }
    topology.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_connection_goes_back_and_forth_between_the_doors() {
    let origin = shop().await;
    let topology = Topology::new(&origin).start().await;
    let mut client = topology.edge(1).client().await;
    let large = "x".repeat(300_000);
    for round in 0..20 {
        let form = ask("POST", "/form").body(format!("{round}"));
        assert_eq!(client.ask(&form).await.text(), format!("POST {round}"));
        assert_eq!(client.ask(&get("/known")).await.text(), "known");
        if round % 5 == 0 {
            let form = ask("PUT", "/form").body(large.clone());
            assert_eq!(client.ask(&form).await.text(), format!("PUT {large}"));
        }
    }
    topology.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_is_never_read_as_a_request() {
    let origin = shop().await;
    origin.always("/smuggled", Reply::ok("smuggled"));
    let topology = Topology::new(&origin).start().await;
    let smuggled = String::from_utf8(get("/smuggled").bytes()).unwrap();
    for method in ["GET", "HEAD", "POST", "OPTIONS", "TRACK"] {
        for asked in [
            ask(method, "/form").body(smuggled.clone()),
            ask(method, "/form").chunks([&smuggled[..]]),
        ] {
            let mut client = topology.edge(1).client().await;
            client.send(asked.bytes()).await;
            assert_eq!(client.response_to(method).await.status, 200, "{asked:?}");
            client.send(get("/known").bytes()).await;
            // Closing is allowed; the wrong answer is not.
            let next = client.closed_or_response().await;
            assert!(next.is_none_or(|next| next.text() == "known"), "{asked:?}");
        }
    }
    assert_eq!(origin.requests("/smuggled").len(), 0);
    topology.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_form_says_that_it_is_empty() {
    // RFC 9110 §8.6: there are origins that answer 411 to a POST without a length.
    let origin = shop().await;
    let topology = Topology::new(&origin).start().await;
    for asked in [ask("POST", "/form").body(""), ask("PUT", "/form")] {
        assert_eq!(topology.edge(1).ask(&asked).await.status, 200);
        let seen = origin.requests("/form").pop().unwrap();
        assert_eq!(seen.says("Content-Length"), "0", "{asked:?}");
    }
    topology.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_is_wrong_is_named_and_ends_its_connection_alone() {
    let origin = shop().await;
    let limits = "[limits]\nrequest_body_bytes_max = 100\n[timeouts]\nrequest_body_ms = 300";
    let topology = Topology::new(&origin).edge_extra(limits).start().await;
    let edge = topology.edge(1);
    let chunked = |body: &str| {
        format!("POST /form HTTP/1.1\r\nHost: {HOST}\r\nTransfer-Encoding: chunked\r\n\r\n{body}")
    };
    let long = "x".repeat(60);
    let slow = ask("POST", "/form").with("Content-Length", "10").bytes();
    let too_long = ask("POST", "/form").body("x".repeat(101)).bytes();
    for (what, bytes, status) in [
        ("no chunk size", chunked("zz\r\nab\r\n0\r\n\r\n"), 400),
        (
            "a negative chunk size",
            chunked("-1\r\nab\r\n0\r\n\r\n"),
            400,
        ),
        (
            "a chunk longer than its size",
            chunked("1\r\nab\r\n0\r\n\r\n"),
            400,
        ),
        (
            "a chunk size beyond all numbers",
            chunked("fffffffffffffffff\r\nab\r\n0\r\n\r\n"),
            400,
        ),
        (
            "chunks beyond the limit",
            chunked(&format!("3c\r\n{long}\r\n3c\r\n{long}\r\n0\r\n\r\n")),
            413,
        ),
        (
            "a length beyond the limit",
            String::from_utf8(too_long).unwrap(),
            413,
        ),
        (
            "a body that does not come",
            String::from_utf8(slow).unwrap() + "abc",
            408,
        ),
    ] {
        let mut client = edge.client().await;
        client.send(&bytes).await;
        let answer = client.closed_or_response().await;
        let answer = answer.unwrap_or_else(|| panic!("{what}: closed without a word"));
        assert_eq!(answer.status, status, "{what}: {answer:?}");
        let why = answer.says("Proxy-Status");
        assert!(
            why.contains("edge-1; error=http_request_error"),
            "{what}: {why}"
        );
        assert_eq!(client.closed().await, "", "{what}");
        assert_eq!(edge.get("/known").await.text(), "known", "{what}");
    }
    assert_eq!(origin.requests("/form").len(), 0);
    topology.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_visitor_that_leaves_within_its_body_harms_nobody() {
    let origin = shop().await;
    let topology = Topology::new(&origin).start().await;
    for _ in 0..6 {
        let mut client = topology.edge(1).client().await;
        client
            .send(ask("POST", "/form").with("Content-Length", "9").bytes())
            .await;
        client.send("abc").await;
        client.finish_sending().await;
        drop(client);
    }
    // Leaving is nobody's failure: the way to the upper tier is open as ever.
    let answer = topology
        .edge(1)
        .ask(&ask("POST", "/form").body("whole"))
        .await;
    assert_eq!(answer.text(), "POST whole");
    assert_eq!(
        answer.cache_status().len(),
        2,
        "{:?}",
        answer.cache_status()
    );
    let methods = origin.requests("/form");
    assert_eq!(methods.len(), 1, "a broken body is no request: {methods:?}");
    topology.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_waits_to_send_its_body_is_told_to() {
    let origin = shop().await;
    let topology = Topology::new(&origin).start().await;
    for _ in 0..2 {
        let mut client = topology.edge(1).client().await;
        let waiting = ask("POST", "/form")
            .with("Expect", "100-continue")
            .with("Content-Length", "4");
        client.send(waiting.bytes()).await;
        let mut told = Vec::new();
        while !told.ends_with(b"\r\n\r\n") {
            let more = client.raw().await;
            assert!(!more.is_empty(), "closed before 100 came");
            told.extend_from_slice(&more);
        }
        assert!(told.starts_with(b"HTTP/1.1 100 "), "{told:?}");
        client.send("body").await;
        assert_eq!(client.response().await.text(), "POST body");
        // Who does not wait is not made to.
        let eager = ask("POST", "/form")
            .with("Expect", "100-continue")
            .body("eager");
        assert_eq!(topology.edge(1).ask(&eager).await.text(), "POST eager");
    }
    let idle = get("/known").with("Expect", "100-continue");
    assert_eq!(topology.edge(1).ask(&idle).await.text(), "known");
    // RFC 9110 §10.1.1: HTTP/1.0 knows neither the question nor the answer.
    let old = ask("POST", "/form")
        .with("Expect", "100-continue")
        .body("old");
    let answer = topology.edge(1).ask(&old.http10()).await;
    assert_eq!(
        (answer.text().as_str(), &answer.interim[..]),
        ("POST old", &[][..])
    );
    topology.finish().await;
}
