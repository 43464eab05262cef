//! Certificates are renewed under a running topology.

use tests::{Authority, Client, HOST, Origin, Reply, Topology, get, until};

/// A node of each tier, with TLS towards visitors and mutual TLS between the tiers.
async fn topology(origin: &Origin) -> Topology {
    origin.always("/a", Reply::fresh("content"));
    let topology = Topology::new(origin).mutual_tls().tls_listener();
    topology.site("fallback = []").start().await
}

/// Whether a visitor that trusts this authority alone is served, and with what.
async fn serves(topology: &Topology, authority: &Authority, target: &str) -> bool {
    let stream = authority
        .try_connect(topology.edge(1).listener(1), HOST, &["http/1.1"])
        .await;
    let Some(stream) = stream else {
        return false;
    };
    let answer = Client::over(stream).ask(&get(target)).await;
    assert_eq!((answer.status, answer.text().as_str()), (200, "content"));
    true
}

#[tokio::test(flavor = "multi_thread")]
async fn files_that_change_are_shown_and_believed_without_a_restart() {
    let origin = Origin::start().await;
    let topology = topology(&origin).await;
    let old = topology.authority();
    assert!(serves(&topology, old, "/a").await);

    // First both authorities are believed, then the new one vouches for all nodes.
    let new = Authority::new();
    topology.write("ca.pem", &format!("{}{}", old.pem, new.pem));
    for node in [topology.edge(1), topology.upper(1)] {
        let loaded = [("result", "ok")];
        node.wait_for_metric("config_reloads_total", &loaded, 1)
            .await;
    }
    let issued = new.issue(HOST);
    topology.write("site.pem", &issued.certificate);
    topology.write("site.key", &issued.key);
    let mut number = 0;
    until("the new certificate is shown to visitors", async || {
        number += 1;
        let cold = topology.edge(1).get(&format!("/a?{number}")).await;
        assert_eq!(cold.status, 200, "the hop works all the time");
        serves(&topology, &new, "/a").await.then_some(())
    })
    .await;
    assert!(!serves(&topology, old, "/a").await);

    // The old authority goes; what the tiers show each other is the new one's.
    topology.write("ca.pem", &new.pem);
    for node in [topology.edge(1), topology.upper(1)] {
        node.running().reload().unwrap();
    }
    for number in 0..10 {
        let target = format!("/a?afterwards-{number}");
        assert!(serves(&topology, &new, &target).await);
    }
    topology.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_is_no_good_changes_nothing_and_is_told() {
    let origin = Origin::start().await;
    let topology = topology(&origin).await;
    topology.write("site.pem", "half a certificate");
    for node in [topology.edge(1), topology.upper(1)] {
        let failed = [("result", "failed")];
        node.wait_for_metric("config_reloads_total", &failed, 1)
            .await;
        let why = node.running().reload().unwrap_err();
        assert!(why.contains("site.pem"), "{why}");
    }
    assert!(serves(&topology, topology.authority(), "/a?1").await);
    topology.finish().await;
}
