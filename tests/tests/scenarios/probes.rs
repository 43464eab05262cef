//! What an edge learns of its upper tiers without asking for a visitor.

use tests::{Forge, Hop, Origin, Reply, Topology, until};

#[tokio::test(flavor = "multi_thread")]
async fn one_that_dies_unasked_is_found_out_before_a_visitor_pays_and_used_when_it_is_back() {
    let origin = Origin::start().await;
    origin.always("/a", Reply::fresh("content"));
    let topology = Topology::new(&origin)
        .uppers(2)
        .hop(Hop::Bytes)
        .site("fallback = []")
        .probing()
        .start()
        .await;
    let edge = topology.edge(1);
    let up = async |peer: &str, value: u64| {
        let what = format!("upper_tier_up of {peer} is {value}");
        until(&what, async || {
            let metrics = edge.metrics().await;
            (metrics.sum("upper_tier_up", &[("peer", peer)]) == value).then_some(())
        })
        .await;
    };
    topology.relay(1).cut().await;
    up("upper-1", 0).await;
    // Nobody has to try it again.
    for number in 0..20 {
        let answer = edge.get(&format!("/a?{number}")).await;
        assert_eq!((answer.status, answer.text().as_str()), (200, "content"));
        assert!(!answer.says("Cache-Status").contains("upper-1"));
    }
    let failed = [("target", "upper-1"), ("result", "error")];
    let metrics = edge.metrics().await;
    assert_eq!(metrics.sum("upstream_requests_total", &failed), 0);

    topology.relay(1).restore();
    up("upper-1", 1).await;
    let mut number = 20;
    until("upper-1 is asked again", async || {
        number += 1;
        let answer = edge.get(&format!("/a?{number}")).await;
        assert_eq!(answer.status, 200);
        answer
            .says("Cache-Status")
            .contains("upper-1")
            .then_some(())
    })
    .await;
    assert_eq!(origin.requests("*").len(), 0, "no probe reaches an origin");
    topology.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_probe_that_is_altered_on_the_way_is_an_alarm_as_any_request_is() {
    let origin = Origin::start().await;
    let mut topology = Topology::new(&origin)
        .hop(Hop::Messages)
        .site("fallback = [\"direct\"]")
        .probing()
        .start()
        .await;
    topology.expects_refused("missing");
    topology
        .relay(1)
        .on_request(|request| tests::set_field(&mut request.fields, "Tier-Control", None));
    let missing = [("side", "request"), ("reason", "missing")];
    let upper = topology.upper(1);
    upper
        .wait_for_metric("tier_control_rejected_total", &missing, 1)
        .await;
    let edge = topology.edge(1);
    edge.wait_for_metric("tier_refused_total", &[("peer", "upper-1")], 1)
        .await;
    until("nobody is asked for nothing", async || {
        let metrics = edge.metrics().await;
        (metrics.sum("upper_tier_up", &[("peer", "upper-1")]) == 0).then_some(())
    })
    .await;
    topology.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_probe_needs_a_signature_and_counts_as_nobodys_request() {
    let origin = Origin::start().await;
    let mut topology = Topology::new(&origin).start().await;
    topology.expects_rejections();
    let upper = topology.upper(1);
    let bare = tests::ask("OPTIONS", "*").with("Max-Forwards", "0");
    assert_eq!(upper.ask(&bare).await.status, 403);
    let before = upper.metrics().await.sum("requests_total", &[]);

    let mut probe = Forge::new(topology.folder(), "edge-1", "OPTIONS", "*");
    probe
        .fields
        .insert("max-forwards", http::HeaderValue::from_static("0"));
    let mut client = upper.client().await;
    client.send(probe.bytes()).await;
    let answer = client.response().await;
    assert_eq!(answer.status, 204);
    assert!(!answer.says("Tier-Result").is_empty());
    assert_eq!(upper.metrics().await.sum("requests_total", &[]), before);
    topology.finish().await;
}
