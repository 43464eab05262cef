//! What never ends by itself: drains, admin connections and HTTP/2 have an end.

use tests::{Gate, HOST, Origin, Reply, Topology, ask, get, within};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_cuts_what_outlasts_it() {
    let origin = Origin::start().await;
    let gate = Gate::new();
    let live = Reply::ok("event, event").pausing_after(5, &gate);
    origin.always("/live", live);
    let mut topology = Topology::new(&origin)
        .edge_extra("[timeouts]\ndrain_ms = 300")
        .start()
        .await;
    let edge = topology.take_edge(1);
    let admin = edge.admin_address();
    let mut client = edge.client().await;
    client.send(get("/live").bytes()).await;
    client.head().await;
    assert_eq!(client.at_least(5).await, "event");
    within(5, edge.into_running().drain()).await;
    let (rest, complete) = client.rest().await;
    assert_eq!((&rest[..], complete), (&b""[..], false));
    // With the drain the admin listener's port is free, too.
    let freed = tokio::net::TcpListener::bind(admin).await;
    assert!(freed.is_ok(), "{freed:?}");
    gate.open();
    topology.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn idle_connections_do_not_lock_an_operator_out() {
    let origin = Origin::start().await;
    let topology = Topology::new(&origin).start().await;
    let edge = topology.edge(1);
    // What was asked once on a connection is not kept.
    let mut client = tests::Client::connect(edge.admin_address()).await;
    assert_eq!(client.ask(&get("/healthz")).await.status, 200);
    assert_eq!(client.closed().await, "");
    topology.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_web_page_purges() {
    let origin = Origin::start().await;
    let topology = Topology::new(&origin).start().await;
    let edge = topology.edge(1);
    let purge = ask("POST", "/purge?url=http%3A%2F%2Fshop.example%2Fa").body("");
    for (name, value) in [
        ("Origin", "https://evil.example"),
        ("Origin", "null"),
        ("Sec-Fetch-Site", "cross-site"),
    ] {
        let answer = edge.admin(&purge.clone().with(name, value)).await;
        assert_eq!(answer.status, 403, "{name}: {value}");
    }
    assert_eq!(edge.admin(&purge).await.status, 200);
    // Reading is no harm, and a page could not read the answer anyway.
    let looking = get("/healthz").with("Sec-Fetch-Site", "none");
    assert_eq!(edge.admin(&looking).await.status, 200);
    topology.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn http2_that_says_or_takes_nothing_is_ended() {
    let origin = Origin::start().await;
    origin.always("/a", Reply::fresh("content"));
    let waits = "head_ms = 300\nkeepalive_ms = 400\npool_idle_ms = 100\nwrite_ms = 300";
    let mut topology = Topology::new(&origin)
        .edge_extra(&format!("[timeouts]\n{waits}"))
        .tls_listener()
        .start()
        .await;
    let edge = topology.take_edge(1);
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    let settings = [0, 0, 0, 4, 0, 0, 0, 0, 0];
    // SETTINGS_INITIAL_WINDOW_SIZE 0: nothing of a body may be sent.
    let no_window = [0, 0, 6, 4, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0, 0];
    let fields = [b"\x82\x86\x04\x02/a\x01\x0c", &b"shop.example"[..]].concat();
    let head = [0, 0, fields.len() as u8, 1, 5, 0, 0, 0, 1];
    for (what, sent) in [
        ("a preface alone", preface.clone()),
        ("no request", [&preface[..], &settings].concat()),
        (
            "no room for the answer",
            [&preface[..], &no_window, &head, &fields].concat(),
        ),
    ] {
        let mut stream = TcpStream::connect(edge.address()).await.unwrap();
        stream.write_all(&sent).await.unwrap();
        let ended = within(5, stream.read_to_end(&mut Vec::new())).await;
        assert!(ended.is_ok(), "{what}: {ended:?}");
    }
    // Over TLS it is agreed on, and then not spoken.
    let door = edge.listener(1);
    let (mut stream, spoken) = topology.authority().connect(door, HOST, &["h2"]).await;
    assert_eq!(spoken.as_deref(), Some("h2"));
    // Whether TLS says goodbye is another matter.
    let _ = within(5, stream.read_to_end(&mut Vec::new())).await;
    edge.into_running().drain().await;
    topology.finish().await;
}
