//! What never ends by itself: drains, admin connections and HTTP/2 have an end.

use tests::{Gate, Origin, Reply, Topology, ask, get, within};
use tokio::io::AsyncReadExt as _;
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
async fn http2_that_says_nothing_is_ended() {
    let origin = Origin::start().await;
    let topology = Topology::new(&origin)
        .edge_extra("[timeouts]\nhead_ms = 300\nkeepalive_ms = 400\npool_idle_ms = 100")
        .start()
        .await;
    let address = topology.edge(1).address();
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    let settings = [0, 0, 0, 4, 0, 0, 0, 0, 0];
    let whole = [&preface[..], &settings[..]].concat();
    // A preface and then nothing; all of the handshake and then nothing.
    for sent in [&preface[..], &whole[..]] {
        let mut stream = TcpStream::connect(address).await.unwrap();
        tokio::io::AsyncWriteExt::write_all(&mut stream, sent)
            .await
            .unwrap();
        let mut rest = Vec::new();
        let ended = within(5, stream.read_to_end(&mut rest)).await;
        // Whether by an end or by a reset.
        let _ = ended;
    }
    topology.finish().await;
}
