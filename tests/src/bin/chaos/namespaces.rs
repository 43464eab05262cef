//! Nodes as processes, each in a network namespace of its own, on two bridges: one where
//! edges meet upper tiers and visitors, one where the origin is.
//!
//! All of it is made within namespaces (network, mounts, processes) that this program
//! begins for itself: `unshare` starts it once more in them. Nothing has a name outside,
//! so nothing can be left behind: when that process ends, in whatever way, the system
//! ends every process and takes away every device, rule and mount.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tests::{Fleet, Process, within};

use crate::setting::{EDGES, LOG_BYTES, Plan, nodes};
use crate::{Options, shell, table};

/// Seconds that a process may take for what it is asked to.
const PATIENCE_S: u64 = 60;

/// Where `libfaketime` is on Debian and its relatives, beneath the machine's own folder.
const FAKETIME: &str = "faketime/libfaketimeMT.so.1";

/// What is run, besides this program.
const PROGRAMS: [&str; 6] = ["unshare", "nsenter", "ip", "nft", "tc", "prlimit"];

/// `unshare` with what makes an own world; without root, as root of a user namespace.
fn own_world() -> Vec<&'static str> {
    let mut words = vec!["unshare"];
    let user = shell::now(&["id", "-u"], "").unwrap_or_default();
    if user.trim() != "0" {
        words.push("--map-root-user");
    }
    words.extend(["--net", "--mount", "--pid", "--fork", "--kill-child"]);
    words.push("--mount-proc");
    words
}

/// Whether namespaces can be made here; otherwise, what is missing.
pub(crate) fn possible() -> Result<(), String> {
    shell::lacks(&PROGRAMS)?;
    if faketime().is_none() {
        return Err(format!("there is no {FAKETIME} (package faketime)"));
    }
    let script = "ip link set lo up && ip link add chaos type bridge && nft list ruleset \
                  && tc qdisc add dev chaos root tbf rate 1mbit burst 16kb latency 100ms";
    let mut words = own_world();
    words.extend(["sh", "-c", script]);
    let made = shell::now(&words, "");
    made.map(drop)
        .map_err(|why| format!("{why}; it needs root, or user namespaces for everybody"))
}

/// Plays all faults in an own world, and gives the rows and whether all was well.
pub(crate) async fn play(options: &Options) -> Result<(Vec<table::Cells>, bool), String> {
    let folder = tempfile::tempdir().map_err(|why| why.to_string())?;
    let file = folder.path().join("rows");
    let own = std::env::current_exe().map_err(|why| why.to_string())?;
    let words = own_world();
    let mut command = Command::new(words[0]);
    command.args(&words[1..]).arg(own);
    command.arg("--inside").arg(&file);
    command.args(["--requests", &options.requests.to_string()]);
    command.args(["--per-second", &options.per_second.to_string()]);
    if let Some(only) = &options.only {
        command.args(["--only", only]);
    }
    let child = command.spawn().map_err(|why| why.to_string())?;
    let mut world = World(child);
    let mut looks = tokio::time::interval(Duration::from_millis(100));
    let ended = loop {
        looks.tick().await;
        if let Some(ended) = world.0.try_wait().map_err(|why| why.to_string())? {
            break ended;
        }
    };
    let rows = std::fs::read_to_string(&file).unwrap_or_default();
    Ok((table::cells_from(&rows), ended.success()))
}

/// The process with namespaces of its own. All that is in them ends with it.
struct World(Child);

impl Drop for World {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The library that fakes the time for a process.
fn faketime() -> Option<PathBuf> {
    let folders = std::fs::read_dir("/usr/lib").ok()?;
    let mut found = folders.filter_map(|folder| {
        let library = folder.ok()?.path().join(FAKETIME);
        library.exists().then_some(library)
    });
    found.next()
}

/// The nodes, and where each of them is.
pub(crate) struct Namespaces {
    pub(crate) plan: Plan,
    pub(crate) fleet: Fleet,
    nodes: HashMap<&'static str, Process>,
    /// A process in each namespace that does nothing but be there.
    holders: HashMap<&'static str, Child>,
    /// Nodes whose clock is another.
    faked: HashSet<&'static str>,
}

impl Namespaces {
    pub(crate) async fn make(fleet: Fleet) -> Self {
        let plan = Plan::new(99);
        shell::run(&["ip", "link", "set", "lo", "up"]).await;
        for (bridge, address) in [("tiers", plan.host()), ("origin", plan.origin())] {
            shell::run(&["ip", "link", "add", bridge, "type", "bridge"]).await;
            let address = format!("{address}/24");
            shell::run(&["ip", "addr", "add", &address, "dev", bridge]).await;
            shell::run(&["ip", "link", "set", bridge, "up"]).await;
        }
        let mut made = Self {
            plan,
            fleet,
            nodes: HashMap::new(),
            holders: HashMap::new(),
            faked: HashSet::new(),
        };
        for node in nodes() {
            made.make_one(node).await;
        }
        let logs = made.log_folder();
        std::fs::create_dir(&logs).expect("the fleet's folder can be written to");
        let size = format!("size={LOG_BYTES}");
        shell::run(&["mount", "-t", "tmpfs", "-o", &size, "logs", &logs]).await;
        made
    }

    /// A namespace with the ends of two wires whose other ends are on the bridges.
    async fn make_one(&mut self, node: &'static str) {
        let holder = Command::new("unshare")
            .args(["--net", "sleep", "infinity"])
            .stdin(Stdio::null())
            .spawn()
            .expect("unshare was there a moment ago");
        let number = holder.id().to_string();
        self.holders.insert(node, holder);
        let ours = std::fs::read_link("/proc/self/ns/net").ok();
        within(PATIENCE_S, async {
            let mut looks = tokio::time::interval(Duration::from_millis(5));
            let theirs = format!("/proc/{number}/ns/net");
            while std::fs::read_link(&theirs).ok() == ours {
                looks.tick().await;
            }
        })
        .await;
        let net = format!("--net=/proc/{number}/ns/net");
        let wires = [
            ("tiers", "eth0", self.plan.of(node)),
            ("origin", "eth1", self.plan.towards_origin(node)),
        ];
        for (bridge, device, address) in wires {
            for words in [
                format!("ip link add {node}-{device} type veth peer name {device} netns {number}"),
                format!("ip link set {node}-{device} master {bridge} up"),
                format!("nsenter {net} ip addr add {address}/24 dev {device}"),
                format!("nsenter {net} ip link set {device} up"),
            ] {
                shell::run(&words.split(' ').collect::<Vec<_>>()).await;
            }
        }
        shell::run(&["nsenter", &net, "ip", "link", "set", "lo", "up"]).await;
    }

    pub(crate) fn files_are_written(&self) {
        for edge in EDGES {
            self.fleet.hands_over(edge);
        }
    }

    pub(crate) fn log_folder(&self) -> String {
        self.fleet.file("logs")
    }

    /// The process that holds a node's namespace.
    pub(crate) fn holder(&self, node: &str) -> u32 {
        self.holders[node].id()
    }

    pub(crate) fn pid(&self, node: &str) -> u32 {
        self.nodes[node].id()
    }

    pub(crate) fn start(&mut self, nodes: &[&'static str]) {
        for node in nodes {
            let process = self.begin(node);
            self.nodes.insert(node, process);
        }
    }

    fn begin(&self, node: &str) -> Process {
        let mut by = vec![
            "nsenter".to_owned(),
            format!("--net=/proc/{}/ns/net", self.holder(node)),
        ];
        if self.faked.contains(node) {
            let library = faketime().expect("it was there a moment ago");
            by.extend([
                "env".to_owned(),
                format!("LD_PRELOAD={}", library.display()),
                format!("FAKETIME_TIMESTAMP_FILE={}", self.clock(node)),
                // A process measures time with a clock that nobody sets.
                "FAKETIME_DONT_FAKE_MONOTONIC=1".to_owned(),
                "FAKETIME_CACHE_DURATION=1".to_owned(),
            ]);
        }
        let (program, arguments) = self.fleet.command(node);
        Process::start_by(&by, program, arguments)
    }

    /// The file that says how much a node's clock is ahead.
    pub(crate) fn clock(&self, node: &str) -> String {
        self.fleet.file(&format!("{node}.clock"))
    }

    /// Whether a node has another clock, from its next start on.
    pub(crate) fn fake(&mut self, node: &'static str, is_faked: bool) {
        if is_faked {
            self.set_clock(node, 0);
            self.faked.insert(node);
        } else {
            self.faked.remove(node);
        }
    }

    /// Sets that clock so many seconds ahead.
    pub(crate) fn set_clock(&self, node: &str, ahead_s: i64) {
        let clock = PathBuf::from(self.clock(node));
        // In one piece: the node reads it at any time.
        let new = clock.with_extension("new");
        std::fs::write(&new, format!("{ahead_s:+}s\n")).expect("the folder is ours");
        std::fs::rename(&new, &clock).expect("the folder is ours");
    }

    pub(crate) fn kill(&mut self, node: &'static str) {
        if let Some(mut process) = self.nodes.remove(node) {
            process.kill();
        }
    }

    pub(crate) fn signal(&self, node: &str, name: &str) {
        self.nodes[node].signal(name);
    }

    pub(crate) async fn stop(&mut self, node: &'static str) {
        if let Some(mut process) = self.nodes.remove(node) {
            process.signal("TERM");
            process.ended().await;
        }
    }

    /// Starts a second process of an edge, which takes over from the first, and waits
    /// until that has ended.
    pub(crate) async fn succeed(&mut self, node: &'static str) {
        let process = self.begin(node);
        if let Some(mut old) = self.nodes.insert(node, process) {
            old.ended().await;
        }
    }

    pub(crate) fn dead(&mut self) -> Vec<&'static str> {
        let nodes = self.nodes.iter_mut();
        let dead = nodes.filter_map(|(node, process)| (!process.runs()).then_some(*node));
        dead.collect()
    }
}

impl Drop for Namespaces {
    fn drop(&mut self) {
        for holder in self.holders.values_mut() {
            let _ = holder.kill();
            let _ = holder.wait();
        }
        self.nodes.clear();
        // Before its folder goes.
        let logs = self.log_folder();
        if Path::new(&logs).exists() {
            let _ = shell::now(&["umount", "--lazy", &logs], "");
        }
    }
}
