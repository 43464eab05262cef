//! One fault, from the quiet before it to the quiet after it.

use std::time::Duration;

use tests::clock;
use tests::under_load::{Allowance, Counts, Tally};

use crate::deeds::Deed;
use crate::faults::Fault;
use crate::setting::{EDGES, OPEN};
use crate::stage::Stage;

/// Seconds of load before a fault, and after its recovery.
const BEFORE_S: u64 = 1;
const AFTER_S: u64 = 1;

/// How soon after its end misses must go through the upper tiers again.
const RECOVERY: Duration = Duration::from_secs(3);

/// What came of one fault.
pub(crate) struct Row {
    pub(crate) name: &'static str,
    pub(crate) expected: &'static str,
    /// Visitor requests while it lasted.
    pub(crate) requests: u64,
    /// From before it until after it.
    pub(crate) errors: u64,
    pub(crate) wrong: u64,
    /// What visitors had to put up with.
    pub(crate) refused: u64,
    pub(crate) broken: u64,
    pub(crate) again: u64,
    /// From its end until the last miss that was asked for and went past the upper
    /// tiers, milliseconds.
    pub(crate) back_ms: u64,
    /// What reached the origin meanwhile.
    pub(crate) origin: Counts,
    pub(crate) orders_taken: u64,
    pub(crate) orders_failed: u64,
    /// 99 of 100 requests took less: before, during, after.
    pub(crate) p99_ms: [f64; 3],
    /// What was not as it must be.
    pub(crate) missed: Vec<String>,
}

impl Row {
    /// Plays a fault while at least so many requests are made.
    pub(crate) async fn play(stage: &mut Stage, fault: &Fault, requests: u64) -> Self {
        let deed = fault.deed;
        stage.setting.empty_logs().await;
        deed.prepare(stage).await;
        stage.load.asks_for(fault.host);
        stage.load.warm().await;
        drop(stage.load.take());
        stage.seconds(BEFORE_S).await;
        let before = stage.load.take();

        stage.load.allows(fault.allowed);
        drop(stage.origin.take_counts());
        let goal = stage.load.total() + requests;
        let undo = deed.begin(stage).await;
        deed.go_on(stage, goal).await;
        let during = stage.load.take();
        let origin = stage.origin.take_counts();
        let hit = deed.hit(stage).await;
        let unready = unready(stage, deed).await;
        deed.end(stage, undo).await;
        let end_ms = clock::now_ms();
        tokio::time::sleep(RECOVERY).await;
        let recovery = stage.load.take();
        stage.load.allows(Allowance::default());
        // Those asked before may still be refused.
        stage.seconds(AFTER_S).await;
        let after = stage.load.take();
        let dead = stage.setting.dead().await;
        deed.clean_up(stage).await;
        stage.load.asks_for(OPEN);

        let phases = [
            ("before", &before),
            ("during", &during),
            ("as it ended", &recovery),
            ("after", &after),
        ];
        let sum = |of: fn(&Tally) -> u64| phases.iter().map(|(_, tally)| of(tally)).sum();
        let mut row = Self {
            name: fault.name,
            expected: fault.expected,
            requests: during.requests,
            errors: sum(|tally| tally.errors),
            wrong: sum(|tally| tally.wrong),
            refused: sum(|tally| tally.refused),
            broken: sum(|tally| tally.broken),
            again: sum(|tally| tally.again),
            back_ms: recovery.last_detour_ms.saturating_sub(end_ms),
            origin,
            orders_taken: sum(|tally| tally.orders_taken),
            orders_failed: sum(|tally| tally.orders_failed),
            p99_ms: [&before, &during, &after].map(|tally| tally.percentile_ms(99.0)),
            missed: Vec::new(),
        };
        row.judge_visitors(phases);
        row.judge_fault(fault, hit);
        row.judge_recovery(&after);
        row.judge_nodes(&dead, &unready);
        row
    }

    fn miss(&mut self, is_missed: bool, what: impl FnOnce() -> String) {
        if is_missed {
            self.missed.push(what());
        }
    }

    fn judge_visitors(&mut self, phases: [(&str, &Tally); 4]) {
        for (when, tally) in phases {
            let (errors, wrong) = (tally.errors, tally.wrong);
            self.miss(errors > 0, || {
                format!(
                    "{errors} visitor errors {when}, {wrong} wrong bodies: {:?}",
                    tally.told
                )
            });
        }
        let repeated = self.origin.orders_repeated();
        self.miss(repeated > 0, || {
            format!("{repeated} orders were taken twice")
        });
    }

    /// A fault that nothing shows was none, and proves nothing.
    fn judge_fault(&mut self, fault: &Fault, hit: Option<u64>) {
        self.miss(hit == Some(0), || "no packet was hit".to_owned());
        let seen = self.refused + self.broken;
        self.miss(fault.must_refuse() && seen == 0, || {
            "nothing was refused, though no way was left".to_owned()
        });
    }

    fn judge_recovery(&mut self, after: &Tally) {
        let detours = after.by_detours;
        self.miss(after.by_tiers == 0 || detours > 0, || {
            format!(
                "{} s after its end {detours} misses go past the upper tiers, {} through them",
                RECOVERY.as_secs(),
                after.by_tiers
            )
        });
        let failed = after.orders_failed;
        self.miss(failed > 0, || format!("{failed} orders fail after its end"));
    }

    fn judge_nodes(&mut self, dead: &[&str], unready: &[String]) {
        self.miss(!dead.is_empty(), || format!("{dead:?} ended by themselves"));
        self.miss(!unready.is_empty(), || format!("not ready: {unready:?}"));
    }
}

/// Edges that do not say that they are ready, and what they say instead. Each of them has
/// a permitted way to something whatever happens: on one of its sites it may ask the
/// origin, and upper tiers answer while that does not.
async fn unready(stage: &Stage, deed: Deed) -> Vec<String> {
    let mut unready = Vec::new();
    for edge in EDGES {
        if deed.silences(edge) {
            continue;
        }
        let said = stage.setting.readiness(edge).await;
        if !said.contains(" 200 ") {
            unready.push(format!("{edge}: {said}"));
        }
    }
    unready
}
