//! Nodes in containers, by the compose file that everybody else uses.

use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::{Path, PathBuf};

use tests::Fleet;

use crate::setting::{LOG_BYTES, Plan, nodes};
use crate::shell;

/// Number of the user in the image, and of its group, which may read the keys.
pub(crate) const GROUP: u32 = 10_001;

/// What the projects of all runs begin with.
const PROJECT: &str = "headwater-chaos-";

/// What is run, besides this program.
const PROGRAMS: [&str; 7] = ["docker", "nsenter", "setpriv", "ip", "nft", "tc", "prlimit"];

/// The compose that is there, the newer one first.
fn compose() -> Option<Vec<&'static str>> {
    let newer = vec!["docker", "compose"];
    let is_there = |words: &[&str]| shell::now(&[words, &["version"]].concat(), "").is_ok();
    if is_there(&newer) {
        return Some(newer);
    }
    let older = vec!["docker-compose"];
    is_there(&older).then_some(older)
}

/// Whether containers can be made here; otherwise, what is missing.
pub(crate) fn possible() -> Result<(), String> {
    shell::lacks(&PROGRAMS)?;
    let user = shell::now(&["id", "-u"], "")?;
    if user.trim() != "0" {
        return Err("it needs root, to enter the containers' networks".to_owned());
    }
    shell::now(&["docker", "info"], "").map_err(|_| "no Docker engine answers".to_owned())?;
    if compose().is_none() {
        return Err("there is no docker compose and no docker-compose".to_owned());
    }
    Ok(())
}

/// The nodes' containers, of one project.
pub(crate) struct Containers {
    pub(crate) plan: Plan,
    pub(crate) fleet: Fleet,
    project: String,
    image: String,
    compose: Vec<&'static str>,
    /// Whether the nodes were started before.
    begun: bool,
    /// Ended by this program.
    ended: Vec<&'static str>,
}

impl Containers {
    pub(crate) async fn make(fleet: Fleet) -> Self {
        remove_what_others_left();
        let number = std::process::id();
        let project = format!("{PROJECT}{number}");
        let made = Self {
            plan: Plan::new(64 + u8::try_from(number % 128).unwrap_or(0)),
            fleet,
            image: format!("{project}:nodes"),
            project,
            compose: compose().expect("it was there a moment ago"),
            begun: false,
            ended: Vec::new(),
        };
        let programs = beside();
        let mut words = vec![root().join("tests/compose/make-image")];
        words.push(PathBuf::from(&made.image));
        for program in ["edge", "upper-tier", "headwater"] {
            words.push(programs.join(program));
        }
        let words: Vec<_> = words.iter().map(|word| word.to_string_lossy()).collect();
        shell::run(&words.iter().map(AsRef::as_ref).collect::<Vec<_>>()).await;
        made.open_folder();
        // Networks first: the origin listens in one of them.
        made.compose(&[&["up", "--no-start", "--no-build"], NODES].concat())
            .await;
        made
    }

    /// Lets the containers' user read the fleet's files.
    fn open_folder(&self) {
        let set = |path: &Path, mode| {
            let mode = std::fs::Permissions::from_mode(mode);
            std::fs::set_permissions(path, mode).expect("the folder is ours");
        };
        set(self.fleet.folder(), 0o755);
        for node in nodes().filter(|node| node.starts_with("edge")) {
            let key = PathBuf::from(self.fleet.file(&format!("{node}.key")));
            chown(&key, None, Some(GROUP)).expect("we are root");
            set(&key, 0o640);
        }
    }

    pub(crate) fn files_are_written(&self) {
        self.open_folder();
    }

    /// The command line of compose.
    fn words(&self, arguments: &[&str]) -> Vec<String> {
        let folder = self.fleet.folder().to_string_lossy().into_owned();
        let (number, net) = (std::process::id(), self.plan.net());
        let mut words = vec!["env".to_owned()];
        words.extend([
            format!("HEADWATER_CHAOS_FOLDER={folder}"),
            format!("HEADWATER_CHAOS_NET={net}"),
            format!("HEADWATER_CHAOS_LOG_BYTES={LOG_BYTES}"),
            format!("HEADWATER_TEST_IMAGE={}", self.image),
            format!("HEADWATER_KEYS={folder}"),
            format!("HEADWATER_KEYS_GROUP={GROUP}"),
            format!("HEADWATER_PUBLISH=127.0.{}.2", number % 250 + 1),
        ]);
        words.extend(self.compose.iter().map(|&word| word.to_owned()));
        words.extend(["--project-name".to_owned(), self.project.clone()]);
        for file in ["docker-compose.yml", "tests/compose/chaos.yml"] {
            let file = root().join(file).to_string_lossy().into_owned();
            words.extend(["-f".to_owned(), file]);
        }
        words.extend(arguments.iter().map(|&word| word.to_owned()));
        words
    }

    async fn compose(&self, arguments: &[&str]) {
        let words = self.words(arguments);
        let words: Vec<_> = words.iter().map(String::as_str).collect();
        shell::run(&words).await;
    }

    /// A node's container, by the name that compose gives it.
    async fn id(&self, node: &str) -> String {
        let project = format!("label=com.docker.compose.project={}", self.project);
        let service = format!("label=com.docker.compose.service={node}");
        let words = ["docker", "ps", "--all", "--quiet", "--no-trunc", "--filter"];
        let said = shell::run(&[&words[..], &[&project, "--filter", &service]].concat()).await;
        said.trim().to_owned()
    }

    async fn docker(&self, words: &[&str], node: &str) -> String {
        let id = self.id(node).await;
        shell::run(&[&["docker"], words, &[&id]].concat()).await
    }

    pub(crate) async fn pid(&self, node: &str) -> u32 {
        let format = ["inspect", "--format", "{{.State.Pid}}"];
        let said = self.docker(&format, node).await;
        said.trim().parse().expect("a process has a number")
    }

    pub(crate) async fn start(&mut self, nodes: &[&'static str]) {
        self.ended.retain(|node| !nodes.contains(node));
        if !self.begun {
            // The older compose connects them to their other networks only now.
            self.compose(&[&["start"], nodes].concat()).await;
            self.begun = true;
            return;
        }
        for node in nodes {
            self.docker(&["start"], node).await;
        }
    }

    pub(crate) async fn kill(&mut self, node: &'static str) {
        self.ended.push(node);
        self.docker(&["kill", "--signal", "KILL"], node).await;
    }

    pub(crate) async fn stop(&mut self, node: &'static str) {
        self.ended.push(node);
        // Longer than any drain here.
        self.docker(&["stop", "--time", "60"], node).await;
    }

    pub(crate) async fn pause(&mut self, node: &'static str, still: bool) {
        let word = if still { "pause" } else { "unpause" };
        self.docker(&[word], node).await;
    }

    /// Takes a node out of a network of the project, or back in.
    pub(crate) async fn connect(&self, network: &str, node: &str, is_in: bool) {
        let id = self.id(node).await;
        let address = match network {
            "origin" => self.plan.towards_origin(node),
            _ => self.plan.of(node),
        };
        let network = format!("{}_{network}", self.project);
        let address = address.to_string();
        let words = ["docker", "network"];
        let words: Vec<&str> = if is_in {
            [&words[..], &["connect", "--ip", &address, &network, &id]].concat()
        } else {
            [&words[..], &["disconnect", &network, &id]].concat()
        };
        shell::run(&words).await;
    }

    /// Nodes that do not run, or were started again by the engine.
    pub(crate) async fn dead(&self) -> Vec<&'static str> {
        let mut dead = Vec::new();
        for node in nodes().filter(|node| !self.ended.contains(node)) {
            let format = "{{.State.Running}} {{.RestartCount}}";
            let said = self.docker(&["inspect", "--format", format], node).await;
            if said.trim() != "true 0" {
                dead.push(node);
            }
        }
        dead
    }
}

impl Drop for Containers {
    fn drop(&mut self) {
        let down = ["down", "--volumes", "--remove-orphans", "--timeout", "5"];
        let downed = shell::now(&self.words(&down), "");
        let removed = shell::now(&["docker", "image", "rm", "--force", &self.image], "");
        for gone in [downed, removed] {
            if let Err(why) = gone {
                eprintln!("chaos: {why}");
            }
        }
    }
}

/// The services that are used.
const NODES: &[&str] = &["upper-1", "upper-2", "edge-1", "edge-2", "edge-3"];

/// Removes the containers and networks of runs that were killed before they could.
fn remove_what_others_left() {
    let label = "{{.Label \"com.docker.compose.project\"}} {{.ID}}";
    for (what, list) in [
        (
            "container",
            &["docker", "ps", "--all", "--format", label][..],
        ),
        (
            "network",
            &["docker", "network", "ls", "--format", label][..],
        ),
    ] {
        for line in shell::now(list, "").unwrap_or_default().lines() {
            let (project, id) = line.split_once(' ').unwrap_or_default();
            let Some(number) = project.strip_prefix(PROJECT) else {
                continue;
            };
            if !Path::new("/proc").join(number).exists() {
                let force: &[&str] = if what == "container" {
                    &["--force"]
                } else {
                    &[]
                };
                let _ = shell::now(&[&["docker", what, "rm"], force, &[id]].concat(), "");
            }
        }
    }
}

fn root() -> PathBuf {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
    tests.parent().expect("it lies in the tree").to_path_buf()
}

/// The folder of this program, where those of the nodes are.
fn beside() -> PathBuf {
    let own = std::env::current_exe().expect("a program has a path");
    own.parent().expect("a file lies in a folder").to_path_buf()
}
