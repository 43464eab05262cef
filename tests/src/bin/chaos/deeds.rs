//! What is done to make a fault, and to end it.

use std::fmt::Write as _;
use std::fs::File;
use std::io::{ErrorKind, Write as _};
use std::path::Path;
use std::time::Duration;

use tests::under_load::Mood;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::setting::{EDGES, Setting, UPPERS, nodes};
use crate::shell;
use crate::stage::Stage;

/// The table that holds every rule of ours, within a node's own network.
const TABLE: &str = "inet chaos";

/// What is done. `docs/chaos.md` shows the commands.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Deed {
    /// These are killed, and started again at the end.
    Kill(&'static [&'static str]),
    /// Upper tiers are killed and started again, one after the other, over and over.
    KillInTurn,
    /// It stands still.
    Pause(&'static str),
    /// Edges and these upper tiers do not reach each other.
    Cut(&'static [&'static str]),
    /// The origin and these upper tiers do not reach each other.
    CutOrigin(&'static [&'static str]),
    /// What this upper tier says does not reach edges.
    OneWay(&'static str),
    /// Everything between the tiers comes later.
    Late,
    /// A part of it is lost.
    Loss,
    /// Upper tiers send no faster than this.
    Squeeze,
    /// The name server does not answer.
    NoNames,
    /// The origin is in this mood.
    Origin(Mood),
    /// A node's clock is so many seconds ahead.
    Skew(&'static str, i64),
    /// Every node is restarted, one after the other.
    Roll,
    /// There is no room for another byte of any log.
    FullDisk,
    /// It can open nothing more.
    NoDescriptors(&'static str),
}

/// What has to be put back at the end.
#[derive(Default)]
pub(crate) struct Undo {
    /// A node's limit of open files, as it was.
    files_max: String,
}

impl Deed {
    /// What it needs before anybody looks.
    pub(crate) async fn prepare(self, stage: &mut Stage) {
        if let (Self::Skew(node, _), Setting::Namespaces(it)) = (self, &mut stage.setting) {
            it.fake(node, true);
            stage.setting.restart(node).await;
        }
    }

    /// Takes back what it needed.
    pub(crate) async fn clean_up(self, stage: &mut Stage) {
        if let (Self::Skew(node, _), Setting::Namespaces(it)) = (self, &mut stage.setting) {
            it.fake(node, false);
            stage.setting.restart(node).await;
        }
    }

    /// Whether nobody can ask a node anything any more, not even whether it is ready.
    pub(crate) fn silences(self, node: &str) -> bool {
        matches!(self, Self::NoDescriptors(silent) if silent == node)
    }

    /// Makes the fault.
    pub(crate) async fn begin(self, stage: &mut Stage) -> Undo {
        let mut undo = Undo::default();
        let setting = &mut stage.setting;
        match self {
            Self::Kill(nodes) => {
                for node in nodes {
                    setting.kill(node).await;
                }
            }
            Self::Pause(node) => setting.pause(node, true).await,
            Self::Cut(uppers) => cut(setting, "tiers", uppers, true).await,
            Self::CutOrigin(uppers) => cut(setting, "origin", uppers, true).await,
            Self::OneWay(upper) => {
                let from = setting.plan().of(upper);
                for edge in EDGES {
                    rule(setting, edge, &format!("ip saddr {from} counter drop")).await;
                }
            }
            Self::Late => detour(stage).await,
            Self::Loss => {
                for (some, others) in [(&EDGES[..], &UPPERS[..]), (&UPPERS, &EDGES)] {
                    let from = set(setting, others);
                    let rules = format!("ip saddr {from} numgen random mod 100 < 5 counter drop");
                    for node in some {
                        rule(setting, node, &rules).await;
                    }
                }
            }
            Self::Squeeze => {
                for upper in UPPERS {
                    let device = setting.device(upper).await;
                    let words = ["tc", "qdisc", "add", "dev", &device, "root", "tbf"];
                    let bounds = ["rate", "1mbit", "burst", "16kb", "latency", "200ms"];
                    setting
                        .enter(upper, &[&words[..], &bounds].concat(), "")
                        .await;
                }
            }
            Self::NoNames => stage.names.falls_silent(),
            Self::Origin(mood) => stage.origin.is_now(mood),
            Self::Skew(node, ahead_s) => {
                if let Setting::Namespaces(it) = setting {
                    it.set_clock(node, ahead_s);
                }
            }
            Self::FullDisk => {
                for node in nodes() {
                    fill(Path::new(&setting.log_folder_of(node).await));
                }
            }
            Self::NoDescriptors(node) => undo.files_max = no_descriptors(setting, node).await,
            Self::KillInTurn | Self::Roll => {}
        }
        undo
    }

    /// What it does all the while, until so many requests were answered in all.
    pub(crate) async fn go_on(self, stage: &mut Stage, goal: u64) {
        match self {
            Self::KillInTurn => {
                // Each is back for as long as it takes to be used again, and longer.
                'over: loop {
                    for upper in UPPERS {
                        stage.setting.kill(upper).await;
                        stage.seconds(2).await;
                        stage.setting.start(&[upper]).await;
                        stage.seconds(4).await;
                        if stage.load.total() >= goal {
                            break 'over;
                        }
                    }
                }
            }
            Self::Roll => {
                for node in nodes() {
                    match &mut stage.setting {
                        Setting::Namespaces(it) if node.starts_with("edge") => {
                            it.succeed(node).await;
                        }
                        setting => setting.restart(node).await,
                    }
                    // Those that came back are used again before the next one goes.
                    stage.seconds(3).await;
                }
            }
            _ => {}
        }
        let left = goal.saturating_sub(stage.load.total());
        stage.load.answered(left).await;
    }

    /// Ends the fault.
    pub(crate) async fn end(self, stage: &mut Stage, undo: Undo) {
        let setting = &mut stage.setting;
        match self {
            Self::Kill(nodes) => setting.start(nodes).await,
            Self::Pause(node) => setting.pause(node, false).await,
            Self::Cut(uppers) => cut(setting, "tiers", uppers, false).await,
            Self::CutOrigin(uppers) => cut(setting, "origin", uppers, false).await,
            Self::OneWay(_) => no_rules(setting, &EDGES).await,
            Self::Late => {
                no_rules(setting, &EDGES).await;
                for relay in &stage.relays {
                    // Those that were led there once would be led there for good.
                    relay.cut().await;
                    relay.restore();
                }
            }
            Self::Loss => no_rules(setting, &nodes().collect::<Vec<_>>()).await,
            Self::Squeeze => {
                for upper in UPPERS {
                    let device = setting.device(upper).await;
                    let words = ["tc", "qdisc", "del", "dev", &device, "root"];
                    setting.enter(upper, &words, "").await;
                }
            }
            Self::NoNames => stage.names_are_known(),
            Self::Origin(_) => stage.origin.is_now(Mood::Well),
            Self::Skew(node, _) => {
                if let Setting::Namespaces(it) = setting {
                    it.set_clock(node, 0);
                }
            }
            Self::FullDisk => {
                // In one setting all logs are on one file system.
                for node in nodes() {
                    is_full(Path::new(&setting.log_folder_of(node).await), node);
                }
                for node in nodes() {
                    let folder = setting.log_folder_of(node).await;
                    let _ = std::fs::remove_file(Path::new(&folder).join(FILLER));
                }
            }
            Self::NoDescriptors(node) => {
                let limit = format!("--nofile={}", undo.files_max);
                prlimit(setting, node, &[&limit]).await;
            }
            Self::KillInTurn | Self::Roll => {}
        }
    }

    /// Messages that its rules met so far; None where it has no rules.
    pub(crate) async fn hit(self, stage: &Stage) -> Option<u64> {
        let setting = &stage.setting;
        let ruled: Vec<_> = match self {
            Self::OneWay(_) | Self::Late => EDGES.to_vec(),
            Self::Loss => nodes().collect(),
            Self::Cut(uppers) | Self::CutOrigin(uppers)
                if matches!(setting, Setting::Namespaces(_)) =>
            {
                uppers.to_vec()
            }
            _ => return None,
        };
        let mut hit = 0;
        for node in ruled {
            let words = [
                &["nft", "list", "table"],
                &TABLE.split(' ').collect::<Vec<_>>()[..],
            ];
            let said = setting.enter(node, &words.concat(), "").await;
            let counts = said.split("counter packets ").skip(1);
            let counts = counts.filter_map(|rest| rest.split(' ').next()?.parse::<u64>().ok());
            hit += counts.sum::<u64>();
        }
        Some(hit)
    }
}

/// Puts rules on what comes into a node.
async fn rule(setting: &Setting, node: &str, rules: &str) {
    let hook = "type filter hook input priority 0; policy accept;";
    let table = format!("table {TABLE} {{\n chain in {{\n {hook}\n {rules}\n }}\n}}\n");
    setting.enter(node, &["nft", "-f", "-"], &table).await;
}

async fn no_rules(setting: &Setting, nodes: &[&str]) {
    for node in nodes {
        let table = format!("delete table {TABLE}\n");
        setting.enter(node, &["nft", "-f", "-"], &table).await;
    }
}

/// The addresses of nodes, as a set of nft.
fn set(setting: &Setting, nodes: &[&str]) -> String {
    let mut set = String::new();
    for node in nodes {
        let separator = if set.is_empty() { "{ " } else { ", " };
        let _ = write!(set, "{separator}{}", setting.plan().of(node));
    }
    set + " }"
}

/// Cuts upper tiers off from edges, or from the origin: nothing goes in, nothing out.
async fn cut(setting: &Setting, network: &str, uppers: &[&str], is_cut: bool) {
    if let Setting::Containers(containers) = setting {
        for upper in uppers {
            containers.connect(network, upper, !is_cut).await;
        }
        // Out of one network, a container still reaches this machine, and the origin is
        // this program, through the gateway of another.
        if network != "origin" {
            return;
        }
    }
    if !is_cut {
        no_rules(setting, uppers).await;
        return;
    }
    let others = match network {
        "origin" => setting.plan().origin().to_string(),
        _ => set(setting, &EDGES),
    };
    let table = format!(
        "table {TABLE} {{\n\
         chain in {{\n type filter hook input priority 0; policy accept;\n\
         ip saddr {others} counter drop\n }}\n\
         chain out {{\n type filter hook output priority 0; policy accept;\n\
         ip daddr {others} counter drop\n }}\n}}\n"
    );
    for upper in uppers {
        setting.enter(upper, &["nft", "-f", "-"], &table).await;
    }
}

/// Leads edges to the relays. What goes on to upper tiers otherwise is a connection that
/// was there before, and is reset.
async fn detour(stage: &Stage) {
    let mut led = String::new();
    let mut reset = String::new();
    for (upper, relay) in UPPERS.iter().zip(&stage.relays) {
        let to = stage.setting.listener(upper);
        let told = format!("ip daddr {} tcp dport {}", to.ip(), to.port());
        let _ = writeln!(led, "{told} counter dnat ip to {}", relay.address());
        let _ = writeln!(reset, "{told} reject with tcp reset");
    }
    let table = format!(
        "table {TABLE} {{\n\
         chain led {{\n type nat hook output priority -100; policy accept;\n{led} }}\n\
         chain out {{\n type filter hook output priority 0; policy accept;\n{reset} }}\n}}\n"
    );
    for edge in EDGES {
        stage.setting.enter(edge, &["nft", "-f", "-"], &table).await;
    }
}

/// What fills the file system of the logs.
const FILLER: &str = "filler";

/// Writes until there is no room for another byte.
fn fill(folder: &Path) {
    let Ok(mut file) = File::options()
        .create(true)
        .append(true)
        .open(folder.join(FILLER))
    else {
        return;
    };
    for bytes in [1 << 20, 1 << 12, 1] {
        while file.write(&vec![b'x'; bytes]).is_ok_and(|wrote| wrote > 0) {}
    }
}

/// Sees that there is no room for another page of a node's log.
fn is_full(folder: &Path, node: &str) {
    let log = folder.join(format!("{node}.log"));
    let log = File::options().append(true).open(log);
    let wrote = log.and_then(|mut log| log.write_all(&[b'\n'; 1 << 13]));
    let full = wrote
        .as_ref()
        .is_err_and(|error| error.kind() == ErrorKind::StorageFull);
    assert!(full, "there is room again for the log of {node}: {wrote:?}");
}

/// A limit that every node is beyond already.
const FILES_MAX: &str = "8";

/// Lets a node open nothing more, sees that it lets nobody new in, and ends what it has
/// open towards others: it would go on with that for as long as nothing goes wrong. Its
/// limit before.
async fn no_descriptors(setting: &Setting, node: &str) -> String {
    let words = ["--nofile", "--noheadings", "--raw", "--output", "SOFT,HARD"];
    let said = prlimit(setting, node, &words).await;
    let before = said.split_whitespace().collect::<Vec<_>>().join(":");
    let hard = before.split(':').nth(1).unwrap_or_default();
    let limit = format!("--nofile={FILES_MAX}:{hard}");
    prlimit(setting, node, &[&limit]).await;
    let listener = setting.listener(node);
    let asking = async {
        let mut stream = TcpStream::connect(listener).await?;
        stream
            .write_all(b"GET / HTTP/1.1\r\nHost: a.example\r\n\r\n")
            .await?;
        stream.read(&mut [0; 1]).await
    };
    let answered = tokio::time::timeout(NOBODY_ANSWERS, asking).await;
    assert!(
        answered.is_err(),
        "{node} still lets somebody in: {answered:?}"
    );
    let plan = setting.plan();
    let uppers = UPPERS.map(|upper| plan.of(upper));
    for upstream in uppers.iter().chain([&plan.origin()]) {
        let to = upstream.to_string();
        let ended = ["ss", "-K", "-t", "dst", &to];
        setting.enter(node, &ended, "").await;
        let left = ["ss", "-H", "-t", "state", "established", "dst", &to];
        let left = setting.enter(node, &left, "").await;
        assert!(left.is_empty(), "this system ends no connection: {left}");
    }
    before
}

/// Asks for a node's limits, or changes them, as the user that it runs as: the system
/// wants that, or more of a right than root of a container has.
async fn prlimit(setting: &Setting, node: &str, words: &[&str]) -> String {
    let pid = setting.pid(node).await.to_string();
    let user = setting.user();
    let (uid, gid) = (format!("--reuid={user}"), format!("--regid={user}"));
    let by = [
        "setpriv",
        &uid,
        &gid,
        "--clear-groups",
        "prlimit",
        "--pid",
        &pid,
    ];
    let by = if user == 0 { &by[4..] } else { &by[..] };
    shell::run(&[by, words].concat()).await
}

/// How long somebody waits who stands before a node that can open nothing.
const NOBODY_ANSWERS: Duration = Duration::from_millis(500);
