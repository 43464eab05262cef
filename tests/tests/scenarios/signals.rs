//! Nodes as processes: killed, told to end, told to read their files again.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tests::{Client, Fleet, Gate, Origin, Reply, ask, get, within};
use tokio::sync::watch;

/// An ejected demo in front of a scripted origin, running.
async fn fleet<const N: usize>(origin: &Origin, nodes: [&str; N]) -> Fleet {
    let url = format!("http://{}", origin.address());
    let mut fleet = Fleet::eject(&["--origin", &url]).await;
    fleet.start(nodes).await;
    fleet
}

#[tokio::test(flavor = "multi_thread")]
async fn killing_an_upper_tier_under_load_costs_no_visitor_an_error() {
    const OBJECTS: usize = 3000;
    const VISITORS: usize = 24;
    let origin = Origin::start().await;
    origin.on("/object", |asked| Reply::fresh(asked.target.clone()));
    let url = format!("http://{}", origin.address());
    let mut fleet = Fleet::eject(&["--origin", &url]).await;
    // Nothing but the other upper tier may step in.
    fleet.edit("sites.toml", "[\"direct\", \"stale\"]", "[\"stale\"]");
    fleet
        .start(["upper-1", "upper-2", "edge-1", "edge-2", "edge-3"])
        .await;

    let next = Arc::new(AtomicUsize::new(0));
    let done = Arc::new(watch::Sender::new(0));
    let mut visitors = tokio::task::JoinSet::new();
    for visitor in 0..VISITORS {
        let (next, done) = (Arc::clone(&next), Arc::clone(&done));
        let edge = ["edge-1", "edge-2", "edge-3"][visitor % 3];
        let address = fleet.ports().of(edge);
        visitors.spawn(async move {
            let mut client = Client::connect(address).await;
            let mut ways = [0, 0, 0];
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= OBJECTS {
                    return ways;
                }
                let target = format!("/object?{number}");
                let answer = client.ask(&get(&target)).await;
                assert_eq!(answer.status, 200, "{target}: {answer:?}");
                assert_eq!((answer.text(), answer.complete), (target, true));
                let way = answer.cache_status()[0].clone();
                let way = ["upper-1", "upper-2"]
                    .iter()
                    .position(|at| way.starts_with(at));
                ways[way.unwrap_or(2)] += 1;
                done.send_modify(|done| *done += 1);
            }
        });
    }
    let mut watched = done.subscribe();
    within(60, watched.wait_for(|done| *done >= OBJECTS / 3))
        .await
        .unwrap();
    fleet.node_mut("upper-1").kill();
    let killed_at = *done.borrow();
    assert!(killed_at < OBJECTS, "the load outlived the upper tier");

    let mut ways = [0, 0, 0];
    while let Some(seen) = within(60, visitors.join_next()).await {
        for (all, own) in ways.iter_mut().zip(seen.unwrap()) {
            *all += own;
        }
    }
    assert_eq!(ways.iter().sum::<usize>(), OBJECTS);
    // It had its share, and the other one took over.
    assert!(ways[0] > killed_at / 4, "{ways:?}");
    assert!(ways[1] > OBJECTS / 2, "{ways:?}");
    let at_edge = fleet.metrics("edge-1").await;
    assert_eq!(at_edge.sum("upper_tier_up", &[("peer", "upper-1")]), 0);
    assert_eq!(at_edge.sum("upper_tier_up", &[("peer", "upper-2")]), 1);
    assert_eq!(at_edge.sum("tier_control_rejected_total", &[]), 0);

    // Back again, it is used again within three seconds.
    fleet.start(["upper-1"]).await;
    let mut number = OBJECTS;
    within(3, async {
        loop {
            number += 1;
            let answer = fleet.get("edge-1", &format!("/object?{number}")).await;
            assert_eq!(answer.status, 200);
            if answer.says("Cache-Status").starts_with("upper-1") {
                return;
            }
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_told_to_end_ends_with_its_last_request() {
    for told in ["edge-1", "upper-1"] {
        for signal in ["TERM", "INT"] {
            let origin = Origin::start().await;
            let gate = Gate::new();
            origin.always("/held", Reply::fresh("late").held_at(&gate));
            let url = format!("http://{}", origin.address());
            let flags = ["--origin", &url, "--edges", "1", "--uppers", "1"];
            let mut fleet = Fleet::eject(&flags).await;
            fleet.start(["upper-1", "edge-1"]).await;
            let mut reader = fleet.client("edge-1").await;
            reader.send(get("/held").bytes()).await;
            let mut writer = fleet.client("edge-1").await;
            writer.send(ask("POST", "/held").body("x").bytes()).await;
            gate.arrivals(2).await;

            fleet.node(told).signal(signal);
            fleet.node(told).says("\"event\":\"stopping\"").await;
            assert!(fleet.node_mut(told).runs());
            gate.open();
            for client in [&mut reader, &mut writer] {
                let answer = client.response().await;
                assert_eq!(answer.text(), "late", "{told} {signal}");
                assert_eq!(answer.cache_status().len(), 2, "{told} {signal}");
            }
            let ended = fleet.node_mut(told).ended().await;
            assert_eq!(ended.code, Some(0), "{told} {signal}: {}", ended.err);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_told_to_read_its_files_again_does_so_or_says_why_not() {
    let origin = Origin::start().await;
    origin.always("/a", Reply::fresh("content"));
    let fleet = fleet(&origin, ["upper-1", "upper-2", "edge-1"]).await;
    let nodes = ["upper-1", "upper-2", "edge-1"];
    let good = fleet.text("sites.toml");
    assert_eq!(fleet.get("edge-1", "/a").await.status, 200);

    // A bad file changes nothing.
    fleet.write("sites.toml", &good.replace("hosts =", "hots ="));
    let line = 1 + good
        .lines()
        .position(|line| line.starts_with("hosts ="))
        .unwrap();
    for node in nodes {
        fleet.node(node).signal("HUP");
        let said = fleet.node(node).says("\"event\":\"reload_failed\"").await;
        let words = format!("sites.toml:{line}: sites.demo.hots: is an unknown key");
        assert!(said.contains(&words), "{node}: {said}");
        assert!(said.contains("headwater check"), "{node}: {said}");
    }
    assert!(fleet.get("edge-1", "/a").await.hit_at("edge-1"));

    // A good one is in force at once, in a process that goes on.
    fleet.write(
        "sites.toml",
        &good.replace("[\"*\"]", "[\"other.example\"]"),
    );
    for node in nodes {
        fleet.node(node).signal("HUP");
        fleet.node(node).says("\"event\":\"reloaded\"").await;
    }
    assert_eq!(fleet.get("edge-1", "/a").await.status, 421);
    let other = fleet.ask("edge-1", &get("/a").host("other.example")).await;
    assert_eq!((other.status, other.cache_status().len()), (200, 2));
    let counted = fleet.metrics("edge-1").await;
    for result in ["ok", "failed"] {
        let count = counted.sum("config_reloads_total", &[("result", result)]);
        assert_eq!(count, 1, "{result}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_takes_signals_from_the_moment_it_says_that_it_serves() {
    let origin = Origin::start().await;
    let mut fleet = fleet(&origin, []).await;
    for _ in 0..5 {
        fleet.start(["upper-1"]).await;
        fleet.node("upper-1").signal("HUP");
        fleet.node("upper-1").says("\"event\":\"reloaded\"").await;
        fleet.node("upper-1").signal("TERM");
        assert_eq!(fleet.node_mut("upper-1").ended().await.code, Some(0));
    }
}
