//! A topology of processes, run from the files that `headwater demo --eject` wrote.
//!
//! The demo counts all ports from one base, so here, and nowhere else, the system
//! does not pick them. Bases lie below the ports that the system gives to others.
//! Whoever uses one holds a socket next to it, so that no two runs of these tests
//! use the same.

use std::collections::HashMap;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};

use tempfile::TempDir;

use crate::ask::{Ask, get};
use crate::client::{Client, Response};
use crate::metrics::Metrics;
use crate::process::{Process, run};

/// The first port of all bases; those of the system begin far above the last.
const FIRST: u16 = 10_000;

/// A demo's ports span less than 1100; so many bases share 2000 of them.
const BLOCK: u16 = 2_000;
const STEP: u16 = 120;
const BASES_IN_BLOCK: u16 = 8;
const BASES: u16 = 10 * BASES_IN_BLOCK;

/// The ports of one demo, ours as long as a clone of this lives.
#[derive(Clone, Debug)]
pub struct Ports {
    base: u16,
    _held: Arc<TcpListener>,
}

impl Ports {
    /// Ports that nobody has at this moment.
    ///
    /// # Panics
    /// When there are none.
    #[must_use]
    pub fn free() -> Self {
        static NEXT: AtomicU16 = AtomicU16::new(0);
        // Other runs of these tests begin elsewhere.
        let first = std::process::id() as u16;
        (0..BASES)
            .filter_map(|_| {
                let number = NEXT.fetch_add(1, Ordering::Relaxed).wrapping_add(first) % BASES;
                let (block, within) = (number / BASES_IN_BLOCK, number % BASES_IN_BLOCK);
                let base = FIRST + block * BLOCK + within * STEP;
                let held = TcpListener::bind(at(base + 1)).ok()?;
                Some(Self {
                    base,
                    _held: Arc::new(held),
                })
            })
            .find(|ports| {
                let all = ports.all();
                all.iter().all(|address| TcpListener::bind(address).is_ok())
            })
            .expect("some of the demo's ports are free")
    }

    /// What `--base-port` says.
    #[must_use]
    pub fn base(&self) -> String {
        self.base.to_string()
    }

    /// The demo origin.
    #[must_use]
    pub fn origin(&self) -> SocketAddr {
        at(self.base)
    }

    /// A node's listener, by its name: `edge-1`, `upper-2`.
    ///
    /// # Panics
    /// When it is no node's name.
    #[must_use]
    pub fn of(&self, name: &str) -> SocketAddr {
        let (kind, number) = name.rsplit_once('-').expect("a node's name has a number");
        let number: u16 = number.parse().expect("a node's name ends with a number");
        let first = if kind == "edge" { 80 } else { 90 };
        at(self.base + first + number)
    }

    /// A node's admin listener, by its name.
    #[must_use]
    pub fn admin_of(&self, name: &str) -> SocketAddr {
        at(self.of(name).port() + 1000)
    }

    fn all(&self) -> Vec<SocketAddr> {
        let mut all = vec![self.origin()];
        for name in ["edge-1", "edge-2", "edge-3", "upper-1", "upper-2"] {
            all.extend([self.of(name), self.admin_of(name)]);
        }
        all
    }
}

fn at(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}

/// Nodes as processes, by name. They are killed when this is dropped.
#[derive(Debug)]
pub struct Fleet {
    ports: Ports,
    folder: TempDir,
    nodes: HashMap<String, Process>,
}

impl Fleet {
    /// Ejects a demo with these flags; nothing runs yet.
    ///
    /// # Panics
    /// When the demo does not eject.
    pub async fn eject(flags: &[&str]) -> Self {
        let ports = Ports::free();
        let folder = tempfile::tempdir().expect("the system has a folder for temporary files");
        let path = folder.path().to_string_lossy().into_owned();
        let base = ports.base();
        let mut arguments = vec!["demo", "--eject", &path, "--base-port", &base];
        arguments.extend(flags);
        let ejected = run("headwater", arguments).await;
        assert_eq!(ejected.code, Some(0), "{}", ejected.err);
        Self {
            ports,
            folder,
            nodes: HashMap::new(),
        }
    }

    /// Where everything listens.
    #[must_use]
    pub fn ports(&self) -> &Ports {
        &self.ports
    }

    /// The folder with its files.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The path of one of its files, as an argument.
    #[must_use]
    pub fn file(&self, name: &str) -> String {
        self.folder.path().join(name).to_string_lossy().into_owned()
    }

    /// Changes the text of one of its files, which keeps its mode.
    ///
    /// # Panics
    /// When there is no such file, or nothing to change in it.
    pub fn edit(&self, name: &str, from: &str, to: &str) {
        let text = self.text(name);
        assert!(text.contains(from), "{name} has no {from:?}:\n{text}");
        self.write(name, &text.replace(from, to));
    }

    /// Adds to the end of one of its files.
    pub fn append(&self, name: &str, more: &str) {
        self.write(name, &(self.text(name) + more));
    }

    /// Writes one of its files anew.
    ///
    /// # Panics
    /// When that fails.
    pub fn write(&self, name: &str, text: &str) {
        fs::write(self.file(name), text).expect("the fleet's folder can be written to");
    }

    /// The text of one of its files.
    ///
    /// # Panics
    /// When there is no such file.
    #[must_use]
    pub fn text(&self, name: &str) -> String {
        fs::read_to_string(self.file(name)).unwrap_or_else(|why| panic!("{name}: {why}"))
    }

    /// The program that runs a node, and its arguments.
    #[must_use]
    pub fn command(&self, name: &str) -> (&'static str, [String; 2]) {
        let program = if name.starts_with("edge") {
            "edge"
        } else {
            "upper-tier"
        };
        let file = self.file(&format!("{name}.toml"));
        (program, ["--config".to_owned(), file])
    }

    /// Starts nodes, each of which says that it serves.
    pub async fn start<const N: usize>(&mut self, names: [&str; N]) {
        for name in names {
            let (program, arguments) = self.command(name);
            let process = Process::start(program, arguments);
            process.says("\"event\":\"started\"").await;
            self.nodes.insert(name.to_owned(), process);
        }
    }

    /// Starts a second process of a node beside the one that runs, which it takes over
    /// from, and gives the old one.
    ///
    /// # Panics
    /// When it was never started, or the new one does not take over.
    pub async fn succeed(&mut self, name: &str) -> Process {
        let (program, arguments) = self.command(name);
        let process = Process::start(program, arguments);
        process.says("\"event\":\"took_over\"").await;
        process.says("\"event\":\"started\"").await;
        let old = self.nodes.insert(name.to_owned(), process);
        old.expect("the node was started")
    }

    /// Gives an edge a place to hand its sockets over at. Before it starts.
    pub fn hands_over(&self, name: &str) {
        let text = self.text(&format!("{name}.toml"));
        let place = format!("handover = \"{name}.sock\"\n");
        self.write(&format!("{name}.toml"), &(place + &text));
    }

    /// A node's process.
    ///
    /// # Panics
    /// When it was never started.
    #[must_use]
    pub fn node(&self, name: &str) -> &Process {
        &self.nodes[name]
    }

    /// A node's process, to be ended.
    ///
    /// # Panics
    /// When it was never started.
    pub fn node_mut(&mut self, name: &str) -> &mut Process {
        self.nodes.get_mut(name).expect("the node was started")
    }

    /// A visitor's connection to a node.
    pub async fn client(&self, name: &str) -> Client {
        Client::connect(self.ports.of(name)).await
    }

    /// Asks a node over a new connection.
    pub async fn ask(&self, name: &str, ask: &Ask) -> Response {
        self.client(name).await.ask(ask).await
    }

    /// A GET over a new connection.
    pub async fn get(&self, name: &str, target: &str) -> Response {
        self.ask(name, &get(target)).await
    }

    /// A node's metrics now.
    pub async fn metrics(&self, name: &str) -> Metrics {
        Metrics::fetch(self.ports.admin_of(name)).await
    }
}
