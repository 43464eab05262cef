//! Origins have names, and names have addresses for a time.

use std::net::{Ipv4Addr, SocketAddr};

use tests::{NameServer, Origin, Reply, Topology, until};

/// One edge and one upper tier before an origin that is known by name.
async fn topology(origin: SocketAddr, names: &NameServer) -> Topology {
    let port = origin.port();
    Topology::new(&Origin::start().await)
        .every_top(&format!("name_servers = [\"{}\"]", names.address()))
        .every_node("[timeouts]\nconnect_ms = 1000")
        .sites(&format!(
            "[pools.shop]\nservers = [\"origin.shop.example:{port}\"]\n\
             [sites.shop]\nhosts = [\"*\"]\npool = \"shop\"\n"
        ))
        .start()
        .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_server_that_falls_silent_takes_no_content_away() {
    let origin = Origin::start().await;
    origin.always("/a", Reply::fresh("content"));
    let names = NameServer::start().await;
    names.says(Ipv4Addr::LOCALHOST, 0);
    let topology = topology(origin.address(), &names).await;
    assert_eq!(topology.edge(1).get("/a?first").await.status, 200);
    assert_eq!(names.asked(), 1, "and only the upper tier asks");
    names.falls_silent();
    // The answer's time is over when the name is asked for again, in vain.
    let mut number = 0;
    until("the name is asked for again", async || {
        number += 1;
        let answer = topology.edge(1).get(&format!("/a?{number}")).await;
        assert_eq!((answer.status, answer.text().as_str()), (200, "content"));
        (names.asked() >= 2).then_some(())
    })
    .await;
    for number in 0..10 {
        let answer = topology.edge(1).get(&format!("/a?later-{number}")).await;
        assert_eq!(answer.status, 200);
    }
    topology.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_moves_is_followed_however_long_its_old_address_should_hold() {
    let names = NameServer::start().await;
    let old = Origin::start().await;
    old.always("/a", Reply::fresh("old"));
    let at = old.address();
    names.says(Ipv4Addr::LOCALHOST, 86_400);
    let topology = topology(at, &names).await;
    assert_eq!(topology.edge(1).get("/a").await.text(), "old");

    let new_address = Ipv4Addr::new(127, 0, 0, 2);
    let new = Origin::start_at(SocketAddr::from((new_address, at.port()))).await;
    new.always("/a", Reply::fresh("new"));
    drop(old);
    names.says(new_address, 86_400);
    let mut number = 0;
    until("the new origin answers", async || {
        number += 1;
        let answer = topology.edge(1).get(&format!("/a?{number}")).await;
        (answer.status == 200 && answer.text() == "new").then_some(())
    })
    .await;
    topology.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_nobody_knows_is_said_to_be_one() {
    let names = NameServer::start().await;
    let origin = Origin::start().await;
    origin.always("/a", Reply::fresh("content"));
    let topology = topology(origin.address(), &names).await;
    for number in 0..5 {
        let answer = topology.edge(1).get(&format!("/a?{number}")).await;
        assert_eq!(answer.status, 502);
        let why = answer.says("Proxy-Status");
        assert!(why.starts_with("upper-1; error=dns_error"), "{why}");
    }
    names.says(Ipv4Addr::LOCALHOST, 60);
    let mut number = 5;
    until("the name has an address", async || {
        number += 1;
        let answer = topology.edge(1).get(&format!("/a?{number}")).await;
        (answer.status == 200).then_some(())
    })
    .await;
    topology.finish().await;
}
