//! The topology of the drill, as processes, and everything around it.

use std::path::PathBuf;
use std::time::Duration;

use tests::under_load::{self, CountingOrigin, Lines, Load, Pace, Sink, Watch};
use tests::{Fault, Fleet, Intermediary, Kind, Process, clock, within};

/// What the origin takes for each answer: long enough for fills to meet.
const ORIGIN_THINKS: Duration = Duration::from_millis(20);

/// Direct fetches at once that the site allows each edge.
pub(crate) const DIRECT_MAX: usize = 8;

/// How long an edge waits for an upper tier, and how late a delayed message is.
const PATIENCE_MS: u64 = 400;
const DELAY: Duration = Duration::from_millis(900);

/// How long what was signed is valid (30 s), and by how much clocks may differ (10 s):
/// a message that is older than both has expired.
const EXPIRED_MS: u64 = 42_000;

const EDGES: [&str; 3] = ["edge-1", "edge-2", "edge-3"];
const UPPERS: [&str; 2] = ["upper-1", "upper-2"];

/// How long an alert stays up after the last fault that was named, and a little.
const ALERT_MS: u64 = 61_000;

/// Seconds that a node may take to start.
const START_S: u64 = 30;

/// Everything that runs.
pub(crate) struct Stage {
    fleet: Fleet,
    /// They end with this.
    _nodes: Vec<Process>,
    _collector: Sink,
    intermediaries: Vec<Intermediary>,
    pub(crate) origin: CountingOrigin,
    pub(crate) load: Load,
    pub(crate) watch: Watch,
    per_second: u64,
    set_ms: u64,
    alert_at_first: u64,
    /// When a fault that nodes name ended last, Unix milliseconds.
    pub(crate) named_ms: u64,
}

/// What is to be said at the very end.
pub(crate) struct End {
    pub(crate) missed: Vec<String>,
}

impl Stage {
    /// Starts everything, and waits until every page is stored that is to be.
    pub(crate) async fn set(per_second: usize) -> Self {
        let origin = CountingOrigin::start(ORIGIN_THINKS).await;
        let collector = Sink::start().await;
        let fleet = Fleet::eject(&["--edges", "3", "--uppers", "2"]).await;
        fleet.write(
            "sites.toml",
            &under_load::sites(origin.address(), DIRECT_MAX),
        );
        let mut intermediaries = Vec::new();
        for upper in UPPERS {
            let address = fleet.ports().of(upper);
            let intermediary = Intermediary::start(address, DELAY).await;
            for edge in EDGES {
                fleet.edit(
                    &format!("{edge}.toml"),
                    &format!("\"{address}\""),
                    &format!("\"{}\"", intermediary.address()),
                );
            }
            intermediaries.push(intermediary);
        }
        for node in EDGES.into_iter().chain(UPPERS) {
            let file = format!("{node}.toml");
            let log = format!("file:{}", fleet.file(&format!("{node}.log")));
            fleet.edit(&file, "\"stdout\"", &format!("{log:?}"));
            let more = format!(
                "otlp_endpoint = \"http://{}\"\ntrace_ratio = 1.0\n\
                 [timeouts]\ntier_answer_ms = {PATIENCE_MS}\n",
                collector.address()
            );
            fleet.append(&file, &more);
        }
        let mut nodes = Vec::new();
        for node in UPPERS.into_iter().chain(EDGES) {
            let (program, arguments) = fleet.command(node);
            nodes.push(Process::start(program, arguments));
            let admin = fleet.ports().admin_of(node);
            let listening = async {
                let mut looks = tokio::time::interval(Duration::from_millis(20));
                while tokio::net::TcpStream::connect(admin).await.is_err() {
                    looks.tick().await;
                }
            };
            within(START_S, listening).await;
        }
        let admins = EDGES.into_iter().chain(UPPERS);
        let admins = admins.map(|node| (node.to_owned(), fleet.ports().admin_of(node)));
        let watch = Watch::over(admins.collect());
        let alert_at_first = alerts(&watch).await;
        let pace = Pace {
            connections: 96,
            per_second,
        };
        let load = Load::start(&EDGES.map(|edge| fleet.ports().of(edge)), pace);
        load.answered(2 * per_second as u64).await;
        drop((load.take(), origin.take_counts()));
        Self {
            fleet,
            _nodes: nodes,
            _collector: collector,
            intermediaries,
            origin,
            load,
            watch,
            per_second: per_second as u64,
            set_ms: clock::now_ms(),
            alert_at_first,
            named_ms: 0,
        }
    }

    /// Does this to the hops from now on.
    pub(crate) fn fault(&self, fault: Option<Fault>) {
        for intermediary in &self.intermediaries {
            intermediary.set(fault);
        }
    }

    /// Nodes of both tiers.
    pub(crate) fn nodes(&self) -> u64 {
        (EDGES.len() + UPPERS.len()) as u64
    }

    /// Waits for as many requests as are made in so many seconds.
    pub(crate) async fn seconds(&self, seconds: u64) {
        self.load.answered(self.per_second * seconds).await;
    }

    /// Messages that were hit so far.
    pub(crate) fn hit(&self) -> usize {
        self.intermediaries.iter().map(Intermediary::hit).sum()
    }

    /// The ends of all log files.
    pub(crate) fn lines(&self) -> Vec<Lines> {
        let nodes = EDGES.into_iter().chain(UPPERS);
        let files = nodes.map(|node| PathBuf::from(self.fleet.file(&format!("{node}.log"))));
        files.map(Lines::after_now).collect()
    }

    /// Waits until a fault of that kind can be what it is called.
    pub(crate) async fn ready_for(&self, kind: Kind) {
        if kind == Kind::ReplayFirst {
            wait_for(self.set_ms + EXPIRED_MS).await;
        }
    }

    /// Ends everything, and says what was not as it must be at the ends of it all.
    pub(crate) async fn strike(self) -> End {
        let mut missed = Vec::new();
        if self.alert_at_first > 0 {
            missed.push("the alert was up before any fault".to_owned());
        }
        wait_for(self.named_ms + ALERT_MS).await;
        let still = alerts(&self.watch).await;
        if still > 0 {
            missed.push(format!("{still} nodes still alert at the end"));
        }
        let repeated = self.origin.take_counts().orders_repeated();
        if repeated > 0 {
            missed.push(format!("{repeated} orders were taken twice"));
        }
        // Before the nodes go: afterwards nobody is ready.
        drop(self.watch);
        self.load.stop().await;
        End { missed }
    }
}

/// Nodes whose alert is up.
pub(crate) async fn alerts(watch: &Watch) -> u64 {
    let all = watch.metrics().await;
    all.iter()
        .map(|(_, metrics)| metrics.sum("tier_control_alert", &[]))
        .sum()
}

/// Waits until that moment, Unix milliseconds.
async fn wait_for(at_ms: u64) {
    let mut looks = tokio::time::interval(Duration::from_millis(50));
    while clock::now_ms() < at_ms {
        looks.tick().await;
    }
}
