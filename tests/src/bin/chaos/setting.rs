//! Where the nodes run, and what can be done to one in either place.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use clap::ValueEnum;
use tests::{Fleet, Ports, within};
use tokio::net::TcpStream;

use crate::containers::{self, Containers};
use crate::namespaces::Namespaces;
use crate::shell;

pub(crate) const EDGES: [&str; 3] = ["edge-1", "edge-2", "edge-3"];
pub(crate) const UPPERS: [&str; 2] = ["upper-1", "upper-2"];

/// All nodes.
pub(crate) fn nodes() -> impl Iterator<Item = &'static str> {
    UPPERS.into_iter().chain(EDGES)
}

/// Seconds that a node may take to start or to stop.
const PATIENCE_S: u64 = 60;

/// Bytes of the file system that holds the logs, and no more.
pub(crate) const LOG_BYTES: &str = "64m";

/// The name by which nodes know the origin.
pub(crate) const ORIGIN: &str = "origin.test";

/// How long a node waits, milliseconds: for another tier or an origin, and for an answer
/// over all ways together.
const FIRST_BYTE_MS: u64 = 2_000;
pub(crate) const ANSWER_MS: u64 = 5_000;

/// Direct fetches at once that a site allows each edge.
const DIRECT_MAX: usize = 16;

/// A site that allows edges to ask the origin, and one that does not.
pub(crate) const OPEN: &str = tests::HOST;
pub(crate) const WALLED: &str = "walled.example";

/// A setting.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Kind {
    /// Network namespaces that this program makes.
    Namespaces,
    /// Containers by compose.
    Containers,
}

impl Kind {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Namespaces => "namespaces",
            Self::Containers => "containers",
        }
    }
}

/// The addresses of everybody.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    /// The second number of all of them. The third is 1 between the tiers and 2 towards
    /// the origin.
    net: u8,
}

impl Plan {
    pub(crate) fn new(net: u8) -> Self {
        Self { net }
    }

    /// What the addresses begin with.
    pub(crate) fn net(self) -> String {
        format!("10.{}", self.net)
    }

    /// This program, as nodes see it.
    pub(crate) fn host(self) -> Ipv4Addr {
        Ipv4Addr::new(10, self.net, 1, 1)
    }

    /// The origin, as nodes see it.
    pub(crate) fn origin(self) -> Ipv4Addr {
        Ipv4Addr::new(10, self.net, 2, 1)
    }

    /// A node, as other nodes and visitors see it.
    pub(crate) fn of(self, node: &str) -> Ipv4Addr {
        let first = if node.starts_with("edge") { 10 } else { 20 };
        Ipv4Addr::new(10, self.net, 1, first + number(node))
    }

    /// A node, as the origin sees it.
    pub(crate) fn towards_origin(self, node: &str) -> Ipv4Addr {
        let [first, second, _, last] = self.of(node).octets();
        Ipv4Addr::new(first, second, 2, last)
    }
}

/// The number in a node's name.
fn number(node: &str) -> u8 {
    let number = node.rsplit('-').next().and_then(|last| last.parse().ok());
    number.expect("a node's name ends with a number")
}

/// Nodes that run somewhere.
pub(crate) enum Setting {
    Namespaces(Namespaces),
    Containers(Containers),
}

impl Setting {
    /// Makes what the nodes need. None runs yet.
    pub(crate) async fn make(kind: Kind) -> Self {
        let fleet = Fleet::eject(&["--edges", "3", "--uppers", "2"]).await;
        match kind {
            Kind::Namespaces => Self::Namespaces(Namespaces::make(fleet).await),
            Kind::Containers => Self::Containers(Containers::make(fleet).await),
        }
    }

    pub(crate) fn plan(&self) -> Plan {
        match self {
            Self::Namespaces(it) => it.plan,
            Self::Containers(it) => it.plan,
        }
    }

    pub(crate) fn fleet(&self) -> &Fleet {
        match self {
            Self::Namespaces(it) => &it.fleet,
            Self::Containers(it) => &it.fleet,
        }
    }

    /// Where a node's listener is, as everybody else sees it.
    pub(crate) fn listener(&self, node: &str) -> SocketAddr {
        let ports: &Ports = self.fleet().ports();
        (self.plan().of(node), ports.of(node).port()).into()
    }

    /// Changes the ejected files to what the nodes need here.
    pub(crate) fn write_files(&self, origin_port: u16, names: SocketAddr) {
        let fleet = self.fleet();
        fleet.write("sites.toml", &sites(origin_port));
        for node in nodes() {
            let file = format!("{node}.toml");
            let port = fleet.ports().of(node).port();
            let everywhere = format!("\"{}:{port}\"", Ipv4Addr::UNSPECIFIED);
            fleet.edit(&file, &format!("\"127.0.0.1:{port}\""), &everywhere);
            if node.starts_with("edge") {
                for upper in UPPERS {
                    let told = format!("\"{}\"", fleet.ports().of(upper));
                    fleet.edit(&file, &told, &format!("\"{}\"", self.listener(upper)));
                }
            }
            let sites = "sites = \"sites.toml\"\n";
            fleet.edit(
                &file,
                sites,
                &format!("{sites}name_servers = [\"{names}\"]\n"),
            );
            let log = format!("\"file:{}/{node}.log\"", self.log_folder());
            fleet.edit(&file, "\"stdout\"", &log);
            fleet.append(
                &file,
                &format!(
                    "\n[timeouts]\nfirst_byte_ms = {FIRST_BYTE_MS}\n\
                     tier_answer_ms = {FIRST_BYTE_MS}\nanswer_ms = {ANSWER_MS}\n"
                ),
            );
        }
        match self {
            Self::Namespaces(it) => it.files_are_written(),
            Self::Containers(it) => it.files_are_written(),
        }
    }

    /// The folder of the logs, as nodes see it.
    fn log_folder(&self) -> String {
        match self {
            Self::Namespaces(it) => it.log_folder(),
            Self::Containers(_) => "/logs".to_owned(),
        }
    }

    /// The same, as this program sees it.
    pub(crate) async fn log_folder_of(&self, node: &str) -> String {
        match self {
            Self::Namespaces(it) => it.log_folder(),
            Self::Containers(it) => format!("/proc/{}/root/logs", it.pid(node).await),
        }
    }

    /// Starts nodes that do not run, and waits until they listen.
    pub(crate) async fn start(&mut self, nodes: &[&'static str]) {
        match self {
            Self::Namespaces(it) => it.start(nodes),
            Self::Containers(it) => it.start(nodes).await,
        }
        for node in nodes {
            self.listens(node).await;
        }
    }

    /// Waits until a node listens.
    async fn listens(&self, node: &str) {
        let listener = self.listener(node);
        let listening = async {
            let mut looks = tokio::time::interval(Duration::from_millis(20));
            while TcpStream::connect(listener).await.is_err() {
                looks.tick().await;
            }
        };
        within(PATIENCE_S, listening).await;
    }

    /// Ends a node with SIGKILL.
    pub(crate) async fn kill(&mut self, node: &'static str) {
        match self {
            Self::Namespaces(it) => it.kill(node),
            Self::Containers(it) => it.kill(node).await,
        }
    }

    /// Lets a node end by itself, with SIGTERM, and starts it again.
    pub(crate) async fn restart(&mut self, node: &'static str) {
        match self {
            Self::Namespaces(it) => it.stop(node).await,
            Self::Containers(it) => it.stop(node).await,
        }
        self.start(&[node]).await;
    }

    /// Lets a node stand still, or go on.
    pub(crate) async fn pause(&mut self, node: &'static str, still: bool) {
        match self {
            Self::Namespaces(it) => it.signal(node, if still { "STOP" } else { "CONT" }),
            Self::Containers(it) => it.pause(node, still).await,
        }
    }

    /// The number of a node's process, as this program sees it.
    pub(crate) async fn pid(&self, node: &str) -> u32 {
        match self {
            Self::Namespaces(it) => it.pid(node),
            Self::Containers(it) => it.pid(node).await,
        }
    }

    /// The number of the user that nodes run as; their group has the same.
    pub(crate) fn user(&self) -> u32 {
        match self {
            Self::Namespaces(_) => 0,
            Self::Containers(_) => containers::GROUP,
        }
    }

    /// Nodes that ended though nobody ended them.
    pub(crate) async fn dead(&mut self) -> Vec<&'static str> {
        match self {
            Self::Namespaces(it) => it.dead(),
            Self::Containers(it) => it.dead().await,
        }
    }

    /// Runs a command in a node's network namespace.
    pub(crate) async fn enter(&self, node: &str, words: &[&str], input: &str) -> String {
        let net = self.network_of(node).await;
        shell::feed(&[&["nsenter", &net], words].concat(), input).await
    }

    async fn network_of(&self, node: &str) -> String {
        let holder = match self {
            Self::Namespaces(it) => it.holder(node),
            Self::Containers(it) => it.pid(node).await,
        };
        format!("--net=/proc/{holder}/ns/net")
    }

    /// What a node's `/readyz` answers, its first line; or why it answers nothing.
    pub(crate) async fn readiness(&self, node: &str) -> String {
        let net = self.network_of(node).await;
        let port = self.fleet().ports().admin_of(node).port();
        let script = format!(
            "exec 3<>/dev/tcp/127.0.0.1/{port}; \
             printf 'GET /readyz HTTP/1.1\\r\\nHost: {node}\\r\\nConnection: close\\r\\n\\r\\n' >&3; \
             head -n 1 <&3"
        );
        let asked = ["nsenter", &net, "timeout", "5", "bash", "-c", &script];
        let said = shell::attempt(&asked, "").await;
        said.unwrap_or_else(|why| why).trim().to_owned()
    }

    /// The device by which a node reaches the other nodes.
    pub(crate) async fn device(&self, node: &str) -> String {
        let address = self.plan().of(node).to_string();
        let said = self
            .enter(
                node,
                &["ip", "-o", "-4", "addr", "show", "to", &address],
                "",
            )
            .await;
        let device = said.split_whitespace().nth(1);
        device.expect("a node has its address").to_owned()
    }

    /// Empties every log.
    pub(crate) async fn empty_logs(&self) {
        for node in nodes() {
            let log = format!("{}/{node}.log", self.log_folder_of(node).await);
            if let Ok(file) = std::fs::File::options().write(true).open(log) {
                // Nodes append, so that they go on at the beginning.
                let _ = file.set_len(0);
            }
        }
    }
}

/// `sites.toml`: the same pages twice.
fn sites(origin_port: u16) -> String {
    format!(
        "[pools.shop]\nservers = [\"{ORIGIN}:{origin_port}\"]\n\n\
         [sites.open]\nhosts = [\"{OPEN}\"]\npool = \"shop\"\n\
         fallback = [\"direct\", \"stale\"]\ndirect_in_flight_max = {DIRECT_MAX}\n\n\
         [sites.walled]\nhosts = [\"{WALLED}\"]\npool = \"shop\"\nfallback = [\"stale\"]\n"
    )
}

/// An address that this program may listen at.
pub(crate) fn at(address: Ipv4Addr) -> IpAddr {
    address.into()
}
