//! The rules that operators alert by: that they name what there is, and fire.

use std::collections::BTreeSet;
use std::process::Command;

use tests::{Gate, Hop, Origin, Reply, Topology, get};

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy");

/// Every metric of ours that the rules ask for.
fn asked_for(rules: &str) -> BTreeSet<&str> {
    let asked = rules.lines().filter(|line| line.contains("expr: "));
    asked
        .flat_map(|line| line.split(|c: char| !c.is_ascii_alphanumeric() && c != '_'))
        .filter(|word| word.starts_with("headwater_"))
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_metric_in_a_rule_is_one_that_nodes_have() {
    let origin = Origin::start().await;
    let gate = Gate::new();
    origin.always("/slow", Reply::fresh("page").held_at(&gate));
    let topology = Topology::new(&origin)
        .hop(Hop::Bytes)
        .site("fallback = [\"direct\"]\ndirect_in_flight_max = 1\ndirect_queue_max = 0")
        .start()
        .await;
    let edge = topology.edge(1);
    // What carries the name of a site is there once something happened to it.
    topology.relay(1).cut().await;
    let mut first = edge.client().await;
    first.send(get("/slow").bytes()).await;
    gate.arrivals(1).await;
    assert_eq!(edge.get("/a").await.status, 503);
    gate.open();
    assert_eq!(first.response().await.status, 200);

    let metrics = edge.admin(&get("/metrics")).await.text();
    let rules = std::fs::read_to_string(format!("{FOLDER}/alerts.yml")).unwrap();
    let rules = asked_for(&rules);
    assert!(rules.contains("headwater_tier_control_alert"));
    for name in rules {
        let described = format!("# HELP {name} ");
        assert!(metrics.contains(&described), "no node has {name}");
    }
    topology.finish().await;
}

#[test]
fn rules_fire_and_fall_silent_as_they_should() {
    let tested = Command::new("promtool")
        .args(["test", "rules", "alerts_test.yml"])
        .current_dir(FOLDER)
        .output();
    // Whoever has no Prometheus tests the rest.
    if let Ok(tested) = tested {
        let said = String::from_utf8_lossy(&tested.stdout);
        let why = String::from_utf8_lossy(&tested.stderr);
        assert!(tested.status.success(), "{said}{why}");
    }
}
