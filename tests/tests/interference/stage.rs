//! Two edges, two upper tiers and an origin, with a tap on every way between them.
//!
//! The taps and the origin stay for all conditions, so that the nodes of each get the
//! same addresses and so the same files; their own ports nobody writes down.

use std::sync::{Arc, Mutex};

use bytes::Bytes;
use node::MovedClock;
use tests::{
    Ask, Client, Gate, H2Client, Origin, Passed, Tap, Topology, Towards, Tracing, ask, get, within,
};
use tokio::runtime::Runtime;

use crate::conditions::{Condition, Started};
use crate::site;
use crate::workload::{Act, Asked, Door, Sent, Step};

/// When every run begins. Far from now, so that whoever goes by another clock shows.
const BEGIN_MS: u64 = 2_208_988_800_000;

/// Where something was seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Place {
    /// Between visitors and that edge.
    Visitors(usize),
    /// Between the edges and that upper tier.
    Hop(usize),
    /// Between whoever asks it and the origin.
    Origin,
}

/// A message, where it was seen, and in which step of the workload.
#[derive(Clone, Debug)]
pub(crate) struct Told {
    pub(crate) step: usize,
    pub(crate) place: Place,
    pub(crate) message: Passed,
}

/// What came of a workload.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) told: Vec<Told>,
    /// What is stored at the end: the node, and a line for each key and variant.
    pub(crate) stored: Vec<(String, String)>,
}

/// Upgrades that may be lost in a row.
const UPGRADES_MAX: usize = 10;

/// Everything that is not a node.
#[derive(Debug)]
pub(crate) struct Stage {
    visitors: [Tap; 2],
    hops: [Tap; 2],
    before_origin: Tap,
}

/// What is still to be looked at when a run is over.
#[derive(Debug)]
pub(crate) struct Aftermath {
    condition: Condition,
    topology: Topology,
    collector: Started,
    runtime: NodesRuntime,
}

/// The runtime of one run's nodes. It ends without waiting for them, which may have
/// been brought to a standstill.
#[derive(Debug)]
struct NodesRuntime(Option<Runtime>);

impl Drop for NodesRuntime {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

impl Stage {
    pub(crate) async fn new() -> Self {
        Self {
            visitors: [Tap::start().await, Tap::start().await],
            hops: [Tap::start().await, Tap::start().await],
            before_origin: Tap::start().await,
        }
    }

    /// Plays `steps` to new nodes under `condition`.
    ///
    /// The nodes have a runtime of their own: should one of them block its threads, the
    /// visitors still lose patience.
    pub(crate) async fn play(&self, steps: &[Step], condition: Condition) -> (Run, Aftermath) {
        let clock = MovedClock::at(BEGIN_MS);
        let gate = Arc::new(Mutex::new(Gate::new()));
        let origin = Origin::start().await;
        site::open(&origin, &clock, &gate);
        self.before_origin.lead_to(origin.address());
        let collector = condition.collector.start().await;
        let mut telemetry = format!(
            "trace_ratio = {:?}\nqueue_records_max = {}\nhit_log_ratio = 1.0",
            condition.ratio, condition.queue
        );
        if let Some(address) = collector.address {
            let protocol = if condition.grpc {
                "grpc"
            } else {
                "http/protobuf"
            };
            telemetry += &format!(
                "\notlp_endpoint = \"http://{address}\"\notlp_protocol = \"{protocol}\"\n\
                 otlp_signals = [\"traces\", \"metrics\", \"logs\"]\nmetrics_interval_ms = 1000"
            );
        }
        if condition.logs {
            telemetry += "\nlog_level = \"trace\"";
        }
        let builder = Topology::behind(self.before_origin.address())
            .edges(2)
            .uppers(2)
            .taps(&self.hops)
            .sites(site::SITES)
            .tracing(Tracing::Off)
            .telemetry(&telemetry)
            // A full machine must not look like an upstream that is down.
            .every_node("[timeouts]\nconnect_ms = 15000")
            .access_log(if condition.logs { "stderr" } else { "off" })
            .clock(&clock)
            .observer_fault(condition.fault);
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap();
        let starting = runtime.spawn(builder.start());
        let runtime = NodesRuntime(Some(runtime));
        let mut topology = starting.await.unwrap();
        if condition.fault == Some(node::Fault::PanicOnEveryRecord) {
            topology.expects_panics();
        }
        for (tap, edge) in self.visitors.iter().zip(topology.edges()) {
            tap.lead_to(edge.address());
        }
        let mut told = Vec::new();
        for (number, step) in steps.iter().enumerate() {
            clock.advance(step.later_ms);
            *gate.lock().unwrap() = Gate::new();
            let scene = Scene {
                stage: self,
                topology: &topology,
                gate: gate.lock().unwrap().clone(),
                number,
            };
            let extra = scene.act(step).await;
            self.settle(&topology, &step.act).await;
            told.extend(
                extra
                    .into_iter()
                    .chain(self.take())
                    .map(|(place, message)| Told {
                        step: number,
                        place,
                        message,
                    }),
            );
        }
        let nodes = topology.edges().iter().chain(topology.uppers());
        let stored = nodes.flat_map(stored_at).collect();
        let aftermath = Aftermath {
            condition,
            topology,
            collector,
            runtime,
        };
        (Run { told, stored }, aftermath)
    }

    /// Waits until nothing is under way any more, visible or not.
    async fn settle(&self, topology: &Topology, act: &Act) {
        tests::until(&format!("nothing is under way after {act:?}"), async || {
            let nodes = topology.edges().iter().chain(topology.uppers());
            let fills: u64 = nodes.map(|node| node.running().fills_in_flight()).sum();
            (fills == 0 && self.taps().all(|(_, tap)| tap.is_quiet())).then_some(())
        })
        .await;
    }

    fn taps(&self) -> impl Iterator<Item = (Place, &Tap)> {
        let visitors = self.visitors.iter().zip([1, 2].map(Place::Visitors));
        let hops = self.hops.iter().zip([1, 2].map(Place::Hop));
        let all = visitors
            .chain(hops)
            .chain([(&self.before_origin, Place::Origin)]);
        all.map(|(tap, place)| (place, tap))
    }

    fn take(&self) -> Vec<(Place, Passed)> {
        self.taps()
            .flat_map(|(place, tap)| tap.take().into_iter().map(move |passed| (place, passed)))
            .collect()
    }
}

impl Aftermath {
    /// Checks that the condition was what it says, lest a run that shows nothing passes.
    pub(crate) async fn check(self) {
        let Self {
            condition,
            topology,
            collector,
            runtime,
        } = self;
        let edge = topology.edge(1);
        if condition.collector.fails() && condition.fault.is_none() {
            edge.wait_for_metric("telemetry_export_failures_total", &[], 1)
                .await;
        }
        match condition.fault {
            Some(node::Fault::Stall) => {
                let dropped = [("what", "record")];
                edge.wait_for_metric("telemetry_dropped_total", &dropped, 1)
                    .await;
            }
            Some(node::Fault::PanicOnEveryRecord) => {
                for node in topology.edges().iter().chain(topology.uppers()) {
                    node.wait_for_metric("telemetry_panics_total", &[], 1).await;
                }
            }
            None => {}
        }
        if condition.collector == crate::conditions::Collector::Sound && condition.fault.is_none() {
            let server = collector.server.as_ref().unwrap();
            server.wait_for_requests("/v1/traces", 1).await;
        }
        topology.leave().await;
        drop(runtime);
    }

    /// Ends the run without a look at how the collector fared.
    pub(crate) async fn leave(self) {
        self.topology.leave().await;
    }
}

/// One step of a run.
struct Scene<'a> {
    stage: &'a Stage,
    topology: &'a Topology,
    gate: Gate,
    number: usize,
}

impl Scene<'_> {
    /// Does what the step says. What no tap can read is given back.
    async fn act(&self, step: &Step) -> Option<(Place, Passed)> {
        match &step.act {
            Act::Ask(asked) if asked.door == Door::Http2 => {
                let edge = self.topology.edge(step.edge);
                let mut client = H2Client::connect(edge.address()).await;
                let answer = client.try_ask(&worded(asked)).await;
                return Some((Place::Visitors(step.edge), over_http2(answer)));
            }
            Act::Ask(asked) => {
                let mut client = self.visitor(step.edge).await;
                client.send(bytes_of(asked)).await;
                client.closed_or_response_to(&asked.method).await;
            }
            Act::Together { over_both_edges } => {
                let other = match over_both_edges {
                    true => 3 - step.edge,
                    false => step.edge,
                };
                self.together(step.edge, other).await;
            }
            Act::Upgrade => self.upgraded(step.edge).await,
            Act::Purge { target, soft } => {
                let nodes = self.topology.edges().iter().chain(self.topology.uppers());
                for node in nodes {
                    let (path, _) = target.split_once('?').unwrap_or((target, ""));
                    let url = format!("http://shop.example{path}");
                    let soft = if *soft { "&soft=1" } else { "" };
                    let purge = ask("POST", &format!("/purge?url={url}{soft}"));
                    let answer = node.admin(&purge).await;
                    assert_eq!(answer.status, 200, "{}", answer.text());
                }
            }
        }
        None
    }

    async fn visitor(&self, edge: usize) -> Client {
        Client::connect(self.stage.visitors[edge - 1].address()).await
    }

    /// Words over an upgraded connection, there and back. pingora 0.9.1 loses an upgrade
    /// whose 101 is there before it has looked at the visitor's side; what a visitor
    /// then does again is not told twice.
    async fn upgraded(&self, edge: usize) {
        let asked = get("/ws/0")
            .with("Connection", "Upgrade")
            .with("Upgrade", "words");
        for _ in 0..UPGRADES_MAX {
            let mut client = self.visitor(edge).await;
            client.send(asked.bytes()).await;
            assert_eq!(client.head().await.status, 101);
            client.send("words").await;
            let mut back = client.raw().await;
            while !back.is_empty() && back.len() < 5 {
                back = [back, client.raw().await].concat().into();
            }
            if back == "words" {
                return;
            }
            drop(client);
            self.stage.settle(self.topology, &Act::Upgrade).await;
            drop(self.stage.take());
        }
        panic!("{UPGRADES_MAX} upgrades were lost, one after the other");
    }

    /// Two visitors who want the same before anybody has it.
    async fn together(&self, edge: usize, other: usize) {
        let asked = get(&format!("/held/{}", self.number));
        let mut first = self.visitor(edge).await;
        first.send(asked.bytes()).await;
        self.gate.arrivals(1).await;
        let mut second = self.visitor(other).await;
        second.send(asked.bytes()).await;
        let at_uppers = if edge == other { 1 } else { 2 };
        for (nodes, count) in [
            (self.topology.edges(), 2),
            (self.topology.uppers(), at_uppers),
        ] {
            tests::until("both wait", async || {
                let mut waiting = 0;
                for node in nodes {
                    waiting += node.metrics().await.sum("requests_in_flight", &[]);
                }
                (waiting == count).then_some(())
            })
            .await;
        }
        self.gate.open();
        first.response().await;
        second.response().await;
    }
}

fn worded(asked: &Asked) -> Ask {
    let mut worded = ask(&asked.method, &asked.target).host(&asked.host);
    for (name, value) in &asked.fields {
        worded = worded.with(name, value);
    }
    match &asked.sent {
        Sent::Nothing => worded,
        Sent::Whole(words) | Sent::Trailer(words) => worded.body(words.clone()),
        Sent::Chunks(one, two) => worded.chunks([one, two]),
    }
}

fn bytes_of(asked: &Asked) -> Vec<u8> {
    let worded = match asked.door {
        Door::Http10 => worded(asked).http10(),
        Door::Http11 | Door::Http2 => worded(asked),
    };
    let Sent::Trailer(words) = &asked.sent else {
        return worded.bytes();
    };
    let bytes = worded.chunks([words]).bytes();
    let end = bytes.len() - b"\r\n".len();
    [&bytes[..end], b"X-Trailer: yes\r\n\r\n"].concat()
}

/// An answer over HTTP/2, as if it had been read off the wire.
fn over_http2(answer: Option<tests::Response>) -> Passed {
    let Some(answer) = answer else {
        return Passed {
            towards: Towards::Client,
            head: b"HTTP/2 reset\r\n\r\n".to_vec(),
            body: Bytes::new(),
            complete: false,
        };
    };
    let mut head = format!("HTTP/2 {}\r\n", answer.status);
    for (name, value) in &answer.fields {
        head += &format!("{name}: {value}\r\n");
    }
    Passed {
        towards: Towards::Client,
        head: (head + "\r\n").into_bytes(),
        body: answer.body,
        complete: answer.complete,
    }
}

fn stored_at(node: &tests::TestNode) -> Vec<(String, String)> {
    let mut lines = Vec::new();
    for stored in node.running().stored() {
        let key = stored.key.escape_ascii().to_string();
        let pass = stored.pass_until_ms;
        lines.push((
            node.name().to_owned(),
            format!("{key}: not shared until {pass}"),
        ));
        for variant in stored.variants {
            lines.push((node.name().to_owned(), format!("{key}: {variant:?}")));
        }
    }
    lines
}

/// Seconds one run may take, with all the waiting that a full machine brings about.
pub(crate) const RUN_S: u64 = 120;

/// Plays, and loses patience.
pub(crate) async fn played(
    stage: &Stage,
    steps: &[Step],
    condition: Condition,
) -> (Run, Aftermath) {
    within(RUN_S, stage.play(steps, condition)).await
}
