//! What each upper tier is given: weights, and a bound on its load.

use std::collections::BTreeMap;

use tests::{Client, Gate, Origin, Recorded, Reply, Topology, ask, get, until};

/// How many GETs came to the origin over each upper tier.
fn over(origin: &Origin) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for request in origin.all_requests() {
        if request.method == "GET" {
            *counts.entry(last_via(&request)).or_default() += 1;
        }
    }
    counts
}

fn gets(origin: &Origin) -> usize {
    over(origin).values().sum()
}

/// The node that brought a request to the origin.
fn last_via(request: &Recorded) -> String {
    let via = request.says("Via");
    via.rsplit(' ').next().unwrap_or_default().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upper_tier_has_keys_by_its_weight() {
    let origin = Origin::start().await;
    origin.on_others(|_| Reply::fresh("content"));
    let topology = Topology::new(&origin)
        .uppers(3)
        .towards("upper-1", "weight = 4")
        .towards("upper-2", "weight = 1")
        .towards("upper-3", "weight = 0")
        .start()
        .await;
    let mut client = topology.edge(1).client().await;
    for path in 0..100 {
        assert_eq!(client.ask(&get(&format!("/{path}"))).await.status, 200);
    }
    let over = over(&origin);
    // Four fifths are 80; the keys are the same in every run.
    assert!((70..=90).contains(&over["upper-1"]), "{over:?}");
    assert_eq!(over["upper-1"] + over["upper-2"], 100, "{over:?}");
    topology.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_beyond_an_upper_tiers_share_goes_to_the_next() {
    const ASKED: usize = 40;
    for (bound, most) in [("", ASKED), ("upper_load_percent_max = 125", 25)] {
        let origin = Origin::start().await;
        let gate = Gate::new();
        let held = gate.clone();
        origin.on_others(move |asked| match asked.method.as_str() {
            "GET" => Reply::fresh("content").held_at(&held),
            _ => Reply::fresh("content"),
        });
        let topology = Topology::new(&origin)
            .uppers(2)
            .edge_extra(&format!("[limits]\n{bound}"))
            .start()
            .await;
        let edge = topology.edge(1);
        // A HEAD goes the way of a GET and leaves nothing behind: so it is known which
        // keys are the first upper tier's.
        let mut of_one = Vec::new();
        for number in 0..3 * ASKED {
            let path = format!("/{number}");
            edge.ask(&ask("HEAD", &path)).await;
            if last_via(&origin.requests(&path)[0]) == "upper-1" {
                of_one.push(path);
            }
        }
        of_one.truncate(ASKED);
        assert_eq!(of_one.len(), ASKED);
        let mut visitors = tokio::task::JoinSet::new();
        for (at, path) in of_one.into_iter().enumerate() {
            let address = edge.address();
            visitors.spawn(async move {
                let mut client = Client::connect(address).await;
                client.ask(&get(&path)).await.status
            });
            // One after the other, so that each finds those before it under way.
            until("the origin is asked", async || {
                (gets(&origin) > at).then_some(())
            })
            .await;
        }
        let over = over(&origin);
        assert_eq!(over["upper-1"], most, "{bound}: {over:?}");
        gate.open();
        while let Some(status) = visitors.join_next().await {
            assert_eq!(status.unwrap(), 200);
        }
        topology.finish().await;
    }
}
