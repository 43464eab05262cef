//! The drill in small: the hop between the tiers does what no hop should, to requests
//! and to answers, under load, and no visitor notices. `make drill` does the same to
//! processes, and for longer.

use std::time::Duration;

use tests::under_load::{self, CountingOrigin, Load, Pace, Tally, Watch};
use tests::{Fault, Hop, Kind, Origin, Share, Side, Topology, within};

/// Direct fetches at once that the site allows each edge.
const DIRECT_MAX: usize = 2;

const PACE: Pace = Pace {
    connections: 12,
    per_second: 300,
};

/// Requests before, during and after a fault.
const REQUESTS: u64 = 150;

/// Seconds that so many may take on a machine that does other things too.
const PATIENCE_S: u64 = 60;

/// A topology under load, and everybody who looks at it.
struct Stage {
    topology: Topology,
    origin: CountingOrigin,
    load: Load,
    watch: Watch,
}

impl Stage {
    async fn set() -> Self {
        let origin = CountingOrigin::start(Duration::from_millis(15)).await;
        let mut topology = Topology::new(&Origin::start().await)
            .edges(2)
            .uppers(2)
            .hop(Hop::Faulty)
            .sites(&under_load::sites(origin.address(), DIRECT_MAX))
            .edge_extra("[timeouts]\ntier_answer_ms = 800")
            .start()
            .await;
        topology.expects_rejections();
        let nodes = topology.edges().iter().chain(topology.uppers());
        let admins = nodes.map(|node| (node.name().to_owned(), node.admin_address()));
        let watch = Watch::over(admins.collect());
        let edges: Vec<_> = topology
            .edges()
            .iter()
            .map(tests::TestNode::address)
            .collect();
        let stage = Self {
            load: Load::start(&edges, PACE),
            topology,
            origin,
            watch,
        };
        stage.answered(REQUESTS).await;
        stage
    }

    fn fault(&self, fault: Option<Fault>) {
        for intermediary in self.topology.intermediaries() {
            intermediary.set(fault);
        }
    }

    async fn answered(&self, requests: u64) {
        within(PATIENCE_S, self.load.answered(requests)).await;
    }

    /// What the nodes count of a fault of that kind.
    async fn noticed(&self, kind: Kind) -> u64 {
        let metrics = self.watch.metrics().await;
        if kind.is_judged() {
            under_load::faults_named(&metrics)
        } else {
            under_load::upstream_failures(&metrics)
        }
    }

    /// Waits until cold pages come through the upper tiers again, and no other way.
    async fn recovered(&self) {
        loop {
            no_errors(&self.load.take(), "as the fault ends");
            self.answered(REQUESTS / 2).await;
            let tally = self.load.take();
            no_errors(&tally, "after the fault");
            if tally.by_detours == 0 && tally.by_tiers > 0 {
                return;
            }
        }
    }

    /// Waits until the nodes count more of a fault of that kind.
    async fn counts_more_than(&self, before: u64, kind: Kind) {
        let mut looks = tokio::time::interval(Duration::from_millis(20));
        while self.noticed(kind).await <= before {
            looks.tick().await;
        }
    }

    async fn strike(self) {
        self.load.stop().await;
        self.topology.finish().await;
    }
}

fn no_errors(tally: &Tally, when: &str) {
    assert_eq!(tally.errors, 0, "{when}: {:#?}", tally.told);
}

async fn goes_unnoticed(kind: Kind) {
    let stage = Stage::set().await;
    no_errors(&stage.load.take(), "before the fault");
    for side in [Side::Request, Side::Answer] {
        let fault = Fault {
            kind,
            side,
            share: if side == Side::Request {
                Share::All
            } else {
                Share::Third
            },
        };
        let what = format!("{} {}", kind.as_str(), side.as_str());
        let before = stage.noticed(kind).await;
        drop(stage.origin.take_counts());
        stage.fault(Some(fault));
        within(PATIENCE_S, stage.counts_more_than(before, kind)).await;
        stage.answered(REQUESTS).await;
        no_errors(&stage.load.take(), &what);
        alert_is_up(&stage, fault, &what).await;

        stage.fault(None);
        within(PATIENCE_S, stage.recovered()).await;
        let counts = stage.origin.take_counts();
        // Each node fetches a page once, however many wait for it there.
        assert!(counts.fetches_max() <= 4, "{what}: {:?}", counts.fetches);
        assert!(
            counts.direct_at_once_max <= DIRECT_MAX,
            "{what}: {} direct fetches at once",
            counts.direct_at_once_max
        );
        assert_eq!(counts.orders_repeated(), 0, "{what}");
        assert_eq!(stage.watch.unready(), 0, "{what}: a node was not ready");
    }
    stage.strike().await;
}

/// Who found or was told of a fault of control raises the gauge.
async fn alert_is_up(stage: &Stage, fault: Fault, what: &str) {
    if !fault.kind.is_judged() {
        return;
    }
    let all = stage.watch.metrics().await;
    let alerting = all.iter().filter(|(name, metrics)| {
        name.starts_with("edge") && metrics.sum("tier_control_alert", &[]) == 1
    });
    assert!(alerting.count() >= 1, "{what}: no edge raises its alert");
}

#[tokio::test(flavor = "multi_thread")]
async fn control_fields_that_are_cleared_cost_no_visitor_anything() {
    goes_unnoticed(Kind::Clear).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn control_fields_that_are_garbled_cost_no_visitor_anything() {
    goes_unnoticed(Kind::Garble).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn control_fields_that_are_cut_short_cost_no_visitor_anything() {
    goes_unnoticed(Kind::CutField).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn heads_that_break_off_cost_no_visitor_anything() {
    goes_unnoticed(Kind::CutHead).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_that_change_places_cost_no_visitor_anything() {
    goes_unnoticed(Kind::Swap).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_that_come_again_cost_no_visitor_anything() {
    goes_unnoticed(Kind::Replay).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_that_come_too_late_cost_no_visitor_anything() {
    goes_unnoticed(Kind::Delay).await;
}
