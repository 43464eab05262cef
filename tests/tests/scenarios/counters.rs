//! What operators see of all requests: the metrics.

use std::collections::HashSet;

use tests::{Origin, Reply, Topology, ask, get};

#[tokio::test(flavor = "multi_thread")]
async fn counters_tell_what_happened_at_each_tier() {
    let origin = Origin::start().await;
    origin.always("/a", Reply::fresh("content"));
    origin.always("/form", Reply::new(204));
    let topology = Topology::new(&origin).start().await;
    let (edge, upper) = (topology.edge(1), topology.upper(1));
    edge.get("/a").await;
    edge.get("/a").await;
    edge.get("/a").await;
    edge.ask(&ask("POST", "/form").body("x")).await;
    edge.ask(&get("/a").host("other.example")).await;
    // Counted when an answer is over, which its reader may see first.
    edge.wait_for_metric("requests_total", &[], 5).await;
    upper.wait_for_metric("requests_total", &[], 2).await;
    topology.no_fill_is_running().await;
    let (at_edge, at_upper) = (edge.metrics().await, upper.metrics().await);
    for (metrics, name, labels, count) in [
        (
            &at_edge,
            "requests_total",
            &[("outcome", "miss"), ("status_class", "2xx")][..],
            1,
        ),
        (
            &at_edge,
            "requests_total",
            &[("outcome", "hit"), ("protocol", "h1")],
            2,
        ),
        (&at_edge, "requests_total", &[("outcome", "pass")], 1),
        (&at_edge, "requests_total", &[("status_class", "4xx")], 1),
        (&at_edge, "requests_total", &[], 5),
        (&at_upper, "requests_total", &[("outcome", "miss")], 1),
        (&at_upper, "requests_total", &[("outcome", "pass")], 1),
        (&at_upper, "requests_total", &[], 2),
        (
            &at_edge,
            "upstream_requests_total",
            &[("peer", "upper-1"), ("result", "ok")],
            2,
        ),
        (
            &at_upper,
            "upstream_requests_total",
            &[("kind", "origin"), ("result", "ok")],
            2,
        ),
        (&at_edge, "fills_total", &[("end", "stored")], 1),
        (&at_edge, "store_objects", &[], 1),
        (&at_upper, "store_objects", &[], 1),
        (&at_edge, "upper_tier_up", &[("peer", "upper-1")], 1),
        (&at_edge, "direct_total", &[], 0),
        (&at_edge, "connections_total", &[], 5),
        (&at_edge, "tier_control_alert", &[], 0),
        (&at_edge, "fills_in_flight", &[], 0),
        (
            &at_edge,
            "request_duration_seconds_count",
            &[("outcome", "hit")],
            2,
        ),
    ] {
        assert_eq!(metrics.sum(name, labels), count, "{name} {labels:?}");
    }
    let bytes = at_edge.sum("response_bytes_total", &[]);
    assert!(bytes >= 3 * "content".len() as u64, "{bytes}");
    topology.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_metric_has_our_prefix_and_a_sentence() {
    let origin = Origin::start().await;
    origin.always("/a", Reply::fresh("content"));
    let topology = Topology::new(&origin).start().await;
    topology.edge(1).get("/a").await;
    for node in [topology.edge(1), topology.upper(1)] {
        let text = node.admin(&get("/metrics")).await.text();
        let (mut helped, mut typed) = (HashSet::new(), HashSet::new());
        for line in text.lines() {
            let words: Vec<_> = line.splitn(4, ' ').collect();
            match words[..] {
                ["#", "HELP", name, sentence] => {
                    assert!(sentence.ends_with('.'), "{line}");
                    assert!(helped.insert(name.to_owned()), "twice: {line}");
                }
                ["#", "TYPE", name, _] => {
                    assert!(typed.insert(name.to_owned()), "twice: {line}");
                }
                _ if line == "# EOF" => {}
                _ => assert!(line.starts_with("headwater_"), "{line}"),
            }
        }
        assert_eq!(helped, typed);
        for name in node.metrics().await.names() {
            let family = ["_total", "_bucket", "_sum", "_count", "_info"];
            let short = family.iter().find_map(|end| name.strip_suffix(end));
            let known = helped.contains(name) || short.is_some_and(|short| helped.contains(short));
            assert!(known, "{name} has no sentence");
        }
    }
    topology.finish().await;
}
