//! Nodes replaced while visitors ask: sockets handed over, drains, and who comes back.

use tests::{Client, Fleet, Gate, H2Client, Load, Origin, Process, Reply, get, until};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;

/// An ejected demo in front of an origin whose objects say their own target. Edges hand
/// over; nothing but upper tiers and origins may step in.
async fn fleet(origin: &Origin) -> Fleet {
    let object = |asked: &tests::Recorded| {
        // What passes is for nobody else.
        let reply = Reply::fresh(asked.target.clone());
        match asked.method.as_str() {
            "GET" | "HEAD" => reply,
            _ => Reply::ok(asked.target.clone()).with("Cache-Control", "no-store"),
        }
    };
    origin.on("/object", object);
    let url = format!("http://{}", origin.address());
    let fleet = Fleet::eject(&["--origin", &url]).await;
    for edge in ["edge-1", "edge-2", "edge-3"] {
        fleet.hands_over(edge);
    }
    fleet
}

#[tokio::test(flavor = "multi_thread")]
async fn every_node_is_restarted_in_turn_and_no_visitor_notices() {
    let origin = Origin::start().await;
    let mut fleet = fleet(&origin).await;
    // Not even the origin itself may step in.
    fleet.edit("sites.toml", "[\"direct\", \"stale\"]", "[\"stale\"]");
    let edges = ["edge-1", "edge-2", "edge-3"];
    fleet.start(["upper-1", "upper-2"]).await;
    fleet.start(edges).await;
    let addresses = edges.map(|edge| fleet.ports().of(edge)).to_vec();
    let mut load = Load::start(12, addresses);
    load.goes_on(300).await;
    for upper in ["upper-1", "upper-2"] {
        fleet.node(upper).signal("TERM");
        let ended = fleet.node_mut(upper).ended().await;
        assert_eq!(ended.code, Some(0), "{upper}: {}", ended.err);
        load.goes_on(200).await;
        fleet.start([upper]).await;
        load.goes_on(500).await;
    }
    for edge in edges {
        let mut old = fleet.succeed(edge).await;
        let ended = old.ended().await;
        assert_eq!(ended.code, Some(0), "{edge}: {}", ended.err);
        assert!(ended.out.contains("\"event\":\"handed_over\""), "{edge}");
        load.goes_on(300).await;
        let counted = fleet.metrics(edge).await;
        let taken = counted.sum("handovers_total", &[("result", "taken")]);
        assert_eq!(taken, 1, "{edge}");
    }
    let asked = load.end().await;
    assert!(asked > 2_000, "{asked}");
    for node in edges.into_iter().chain(["upper-1", "upper-2"]) {
        let counted = fleet.metrics(node).await;
        let rejected = counted.sum("tier_control_rejected_total", &[]);
        assert_eq!(rejected, 0, "{node}");
    }
}

/// One edge that hands over and one upper tier, running.
async fn pair(origin: &Origin) -> Fleet {
    origin.always("/a", Reply::fresh("content"));
    let url = format!("http://{}", origin.address());
    let mut fleet = Fleet::eject(&["--origin", &url, "--edges", "1", "--uppers", "1"]).await;
    fleet.hands_over("edge-1");
    fleet.start(["upper-1", "edge-1"]).await;
    fleet
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_begun_is_finished_by_the_process_it_was_begun_with() {
    let origin = Origin::start().await;
    let gate = Gate::new();
    origin.always("/held", Reply::fresh("late").held_at(&gate));
    let mut fleet = pair(&origin).await;
    let mut held = fleet.client("edge-1").await;
    held.send(get("/held").bytes()).await;
    let mut idle = fleet.client("edge-1").await;
    assert_eq!(idle.ask(&get("/a")).await.text(), "content");
    let mut unused = fleet.client("edge-1").await;
    let streams = H2Client::connect(fleet.ports().of("edge-1")).await;
    let stream = streams.begin(&get("/held"));
    gate.arrivals(1).await;

    let mut old = fleet.succeed("edge-1").await;
    // Who looks idle may have a request on its way, and is answered; so is who has
    // connected and not asked yet.
    for client in [&mut idle, &mut unused] {
        // The new process may serve a moment before the old one begins to leave.
        until("the old process asks its clients to leave", async || {
            let answer = client.ask(&get("/a")).await;
            assert_eq!((answer.status, answer.text().as_str()), (200, "content"));
            (answer.says("Connection") == "close").then_some(())
        })
        .await;
        assert!(client.closed().await.is_empty());
    }
    // Health is the new one's to tell.
    let ready = Client::connect(fleet.ports().admin_of("edge-1")).await;
    let ready = { ready }.ask(&get("/readyz")).await;
    assert_eq!(ready.status, 200, "{}", ready.text());
    assert!(old.runs());
    gate.open();
    assert_eq!(held.response().await.text(), "late");
    assert_eq!(stream.await.unwrap().text(), "late");
    let ended = old.ended().await;
    assert_eq!(ended.code, Some(0), "{}", ended.err);
    // And the next one takes over from the new one.
    let mut old = fleet.succeed("edge-1").await;
    assert_eq!(old.ended().await.code, Some(0));
    assert_eq!(fleet.get("edge-1", "/a").await.text(), "content");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_process_that_cannot_serve_takes_nothing() {
    let origin = Origin::start().await;
    let mut fleet = pair(&origin).await;
    let good = fleet.text("edge-1.toml");
    let (program, arguments) = fleet.command("edge-1");
    let taken = format!("[[listen]]\naddress = \"{}\"\n", origin.address());
    for (text, words) in [
        (good.replace("[[listen]]", "[[listn]]"), "listn"),
        (
            good.replace("name = \"edge-1\"", "name = \"edge-9\""),
            "no key to sign with",
        ),
        (good.clone() + &taken, "cannot listen on"),
    ] {
        assert_ne!(text, good, "{words}");
        fleet.write("edge-1.toml", &text);
        let failed = Process::start(program, &arguments).ended().await;
        assert_eq!(failed.code, Some(1), "{words}");
        assert!(failed.err.contains(words), "{words}: {}", failed.err);
        assert_eq!(fleet.get("edge-1", "/a").await.text(), "content", "{words}");
    }
    // Only the last one had asked for the sockets.
    fleet
        .node("edge-1")
        .says("\"event\":\"handover_failed\"")
        .await;
    let failed = async |fleet: &Fleet| {
        let counted = fleet.metrics("edge-1").await;
        counted.sum("handovers_total", &[("result", "failed")])
    };
    assert_eq!(failed(&fleet).await, 1);

    // Whoever asks and leaves, or is another node, or says what nobody understands,
    // gets nothing for good.
    for (number, said) in [
        "headwater-handover 1 take\nnode edge-1\n\n",
        "headwater-handover 1 take\nnode edge-2\n\n",
        "headwater-handover 0 take\nnode edge-1\n\n",
        "GET / HTTP/1.1\r\n\r\n\n\n",
        "",
    ]
    .into_iter()
    .enumerate()
    {
        let mut other = UnixStream::connect(fleet.file("edge-1.sock"))
            .await
            .unwrap();
        other.write_all(said.as_bytes()).await.unwrap();
        if !said.is_empty() {
            let _ = other.read(&mut [0; 512]).await;
        }
        drop(other);
        until("it is told", async || {
            (failed(&fleet).await == number as u64 + 2).then_some(())
        })
        .await;
        assert_eq!(fleet.get("edge-1", "/a").await.text(), "content", "{said}");
    }
    fleet.write("edge-1.toml", &good);
    let mut old = fleet.succeed("edge-1").await;
    assert_eq!(old.ended().await.code, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn listeners_may_come_and_go_with_the_new_process() {
    let origin = Origin::start().await;
    let mut fleet = pair(&origin).await;
    let ports = fleet.ports().clone();
    let (first, more) = (ports.of("edge-1"), ports.of("edge-2"));
    let listen = format!("[[listen]]\naddress = \"{more}\"\n");
    let good = fleet.text("edge-1.toml");
    fleet.write("edge-1.toml", &(good.clone() + &listen));
    let mut old = fleet.succeed("edge-1").await;
    assert_eq!(old.ended().await.code, Some(0));
    for address in [first, more] {
        let answer = Client::connect(address).await.ask(&get("/a")).await;
        assert_eq!(answer.text(), "content", "{address}");
    }
    fleet.write("edge-1.toml", &good);
    let mut old = fleet.succeed("edge-1").await;
    assert_eq!(old.ended().await.code, Some(0));
    assert_eq!(fleet.get("edge-1", "/a").await.text(), "content");
    assert!(tokio::net::TcpStream::connect(more).await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_was_killed_leaves_nothing_in_the_way() {
    let origin = Origin::start().await;
    let mut fleet = pair(&origin).await;
    fleet.node_mut("edge-1").kill();
    assert!(std::fs::exists(fleet.file("edge-1.sock")).unwrap());
    fleet.start(["edge-1"]).await;
    let mut old = fleet.succeed("edge-1").await;
    assert_eq!(old.ended().await.code, Some(0));
    // One that is told to end takes its socket away.
    fleet.node("edge-1").signal("TERM");
    assert_eq!(fleet.node_mut("edge-1").ended().await.code, Some(0));
    assert!(!std::fs::exists(fleet.file("edge-1.sock")).unwrap());
    fleet.start(["edge-1"]).await;
    assert_eq!(fleet.get("edge-1", "/a").await.text(), "content");
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_is_told_twice_to_end_does_so_at_once() {
    for again in ["TERM", "INT"] {
        let origin = Origin::start().await;
        let gate = Gate::new();
        origin.always("/held", Reply::fresh("late").held_at(&gate));
        let mut fleet = pair(&origin).await;
        let mut held = fleet.client("edge-1").await;
        held.send(get("/held").bytes()).await;
        gate.arrivals(1).await;
        fleet.node("edge-1").signal("TERM");
        fleet.node("edge-1").says("\"event\":\"stopping\"").await;
        fleet.node("edge-1").signal(again);
        let ended = fleet.node_mut("edge-1").ended().await;
        assert_eq!(ended.code, Some(0), "{again}: {}", ended.err);
        let words = format!("SIG{again} came during the drain: cut 2 connections and fills");
        assert!(ended.out.contains(&words), "{words}: {}", ended.out);
        assert!(ended.out.contains("among them GET"), "{}", ended.out);
        // Its fill may have been cut a moment before its connection.
        let last = held.closed_or_response().await;
        assert!(last.is_none_or(|last| last.status == 502));
        gate.open();
    }
}
