//! One fault, from the quiet before it to the quiet after it.

use std::time::Duration;

use tests::under_load::{self, Counts, Line, Lines, Tally};
use tests::{Fault, clock};

use crate::stage::{DIRECT_MAX, Stage, alerts};

/// Seconds of load before a fault, after it until misses must go through the upper
/// tiers again, and after that.
const BEFORE_S: u64 = 1;
const RECOVERY_S: u64 = 3;
const AFTER_S: u64 = 1;

/// How soon a fault must be named.
const NAMED_MS_MAX: u64 = 1_000;

/// How long it is looked for, so that the table can say how late it came.
const LOOKED_FOR_MS: u64 = 5_000;

/// How often counters and logs are looked at meanwhile.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// What came of one fault.
pub(crate) struct Row {
    pub(crate) fault: Fault,
    /// Messages that were hit.
    pub(crate) hit: usize,
    /// Visitor requests while it lasted, and errors from before it until after it.
    pub(crate) requests: u64,
    pub(crate) errors: u64,
    /// From its beginning until a counter and a log line told of it, milliseconds.
    pub(crate) counted_ms: Option<u64>,
    pub(crate) logged_ms: Option<u64>,
    pub(crate) line: Option<Line>,
    /// Nodes whose alert was up at its end.
    pub(crate) alerts: u64,
    /// How often a node was not ready.
    pub(crate) unready: u64,
    /// From its end until the last miss that was asked for and went past the upper
    /// tiers, milliseconds.
    pub(crate) back_ms: u64,
    /// What reached the origin meanwhile.
    pub(crate) origin: Counts,
    pub(crate) orders_failed: u64,
    pub(crate) orders_taken: u64,
    /// 99 of 100 requests took less: before, during, after.
    pub(crate) p99_ms: [f64; 3],
    /// What was not as it must be.
    pub(crate) missed: Vec<String>,
}

/// When the nodes told of a fault.
#[derive(Default)]
struct Told {
    counted_ms: Option<u64>,
    logged_ms: Option<u64>,
    line: Option<Line>,
}

impl Row {
    /// Plays a fault while at least so many requests are made.
    pub(crate) async fn play(stage: &mut Stage, fault: Fault, requests: u64) -> Self {
        stage.ready_for(fault.kind).await;
        drop(stage.load.take());
        stage.seconds(BEFORE_S).await;
        let before = stage.load.take();

        let lines = stage.lines();
        let count = noticed(stage, fault).await;
        let (hit, unready) = (stage.hit(), stage.watch.unready());
        drop(stage.origin.take_counts());
        let begin_ms = clock::now_ms();
        stage.fault(Some(fault));
        let (told, ()) = tokio::join!(
            told(stage, fault, begin_ms, count, &lines),
            stage.load.answered(requests)
        );
        let during = stage.load.take();
        let alerts = alerts(&stage.watch).await;
        let end_ms = clock::now_ms();
        stage.fault(None);
        if fault.kind.is_judged() {
            stage.named_ms = end_ms;
        }
        stage.seconds(RECOVERY_S).await;
        let recovery = stage.load.take();
        let origin = stage.origin.take_counts();
        stage.seconds(AFTER_S).await;
        let after = stage.load.take();

        let mut row = Self {
            fault,
            hit: stage.hit() - hit,
            requests: during.requests,
            errors: 0,
            counted_ms: told.counted_ms,
            logged_ms: told.logged_ms,
            line: told.line,
            alerts,
            unready: stage.watch.unready() - unready,
            back_ms: recovery.last_detour_ms.saturating_sub(end_ms),
            origin,
            orders_failed: during.orders_failed,
            orders_taken: during.orders_taken,
            p99_ms: [&before, &during, &after].map(|tally| tally.percentile_ms(99.0)),
            missed: Vec::new(),
        };
        let phases = [
            ("before", &before),
            ("during", &during),
            ("as it ended", &recovery),
            ("after", &after),
        ];
        row.judge_visitors(phases);
        row.judge_recovery(&after);
        row.judge_nodes();
        row.judge_origin(stage.nodes());
        row
    }

    fn miss(&mut self, is_missed: bool, what: impl FnOnce() -> String) {
        if is_missed {
            self.missed.push(what());
        }
    }

    fn judge_visitors(&mut self, phases: [(&str, &Tally); 4]) {
        for (when, tally) in phases {
            self.errors += tally.errors;
            self.miss(tally.errors > 0, || {
                format!("{} visitor errors {when}: {:?}", tally.errors, tally.told)
            });
        }
    }

    fn judge_recovery(&mut self, after: &Tally) {
        let detours = after.by_detours;
        self.miss(after.by_tiers == 0 || detours > 0, || {
            format!("{RECOVERY_S} s after its end {detours} misses go past the upper tiers")
        });
    }

    fn judge_nodes(&mut self) {
        self.miss(self.hit == 0, || "no message was hit".to_owned());
        let late = |ms: Option<u64>| ms.is_none_or(|ms| ms > NAMED_MS_MAX);
        self.miss(late(self.counted_ms), || {
            "no counter rose within a second".to_owned()
        });
        if self.fault.kind.is_judged() {
            self.miss(late(self.logged_ms), || {
                "no log line named it within a second".to_owned()
            });
            self.miss(self.alerts == 0, || "no alert was up".to_owned());
        }
        let unready = self.unready;
        self.miss(unready > 0, || {
            format!("nodes were not ready {unready} times")
        });
    }

    fn judge_origin(&mut self, nodes: u64) {
        let fetches = self.origin.fetches_max();
        self.miss(fetches > nodes, || {
            format!("a page was fetched {fetches} times by {nodes} nodes")
        });
        let direct = self.origin.direct_at_once_max;
        self.miss(direct > DIRECT_MAX, || {
            format!("{direct} direct fetches of one edge at once, not {DIRECT_MAX}")
        });
        let repeated = self.origin.orders_repeated();
        self.miss(repeated > 0, || {
            format!("{repeated} orders were taken twice")
        });
    }
}

/// What the nodes count of a fault of that kind.
async fn noticed(stage: &Stage, fault: Fault) -> u64 {
    let metrics = stage.watch.metrics().await;
    if fault.kind.is_judged() {
        under_load::faults_named(&metrics)
    } else {
        under_load::upstream_failures(&metrics)
    }
}

/// Looks until counters and log lines have told of a fault.
async fn told(stage: &Stage, fault: Fault, begin_ms: u64, count: u64, lines: &[Lines]) -> Told {
    let mut told = Told::default();
    let mut looks = tokio::time::interval(LOOK_EVERY);
    loop {
        looks.tick().await;
        let since_ms = clock::now_ms().saturating_sub(begin_ms);
        if told.counted_ms.is_none() && noticed(stage, fault).await > count {
            told.counted_ms = Some(clock::now_ms().saturating_sub(begin_ms));
        }
        if fault.kind.is_judged() && told.line.is_none() {
            let mut found = lines.iter().flat_map(Lines::about_control);
            told.line = found.find(|line| line.at_ms >= begin_ms);
            told.logged_ms = told
                .line
                .is_some()
                .then(|| clock::now_ms().saturating_sub(begin_ms));
        }
        let all = told.counted_ms.is_some() && (told.line.is_some() || !fault.kind.is_judged());
        if all || since_ms > LOOKED_FOR_MS {
            return told;
        }
    }
}
