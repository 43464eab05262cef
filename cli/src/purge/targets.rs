//! Which admin listeners to ask, and in which order.

use std::fmt;
use std::fs;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use config::Role;
use tokio::net::TcpStream;

use crate::demo::plan::{DEMO_EDGES, DEMO_UPPERS, Plan, PlannedNode};
use crate::failure::Failure;

/// A node of the demo that does not take a connection on loopback within this
/// time is not running.
const PROBE_MS: u64 = 500;

/// One node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Target {
    /// Its name; None where only the address is known.
    pub(super) name: Option<String>,
    /// Host and port of its admin listener.
    pub(super) admin: String,
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.name {
            Some(name) => write!(f, "{name} ({})", self.admin),
            None => f.write_str(&self.admin),
        }
    }
}

/// Nodes that cannot refill each other, and may be purged at once.
pub(super) type Rank = Vec<Target>;

/// Addresses as given. Nothing says which are upper tiers, so that each may refill
/// from those before it: one rank each.
pub(super) fn in_order(admins: &[String]) -> Vec<Rank> {
    admins
        .iter()
        .map(|admin| {
            vec![Target {
                name: None,
                admin: admin.clone(),
            }]
        })
        .collect()
}

/// The node files (`*.toml` with a `role`) in `folder`: upper tiers, then those of them
/// that have upper tiers themselves, then edges.
pub(super) fn of_topology(folder: &Path) -> Result<Vec<Rank>, Failure> {
    let (mut uppers, mut regionals, mut edges) = (Rank::new(), Rank::new(), Rank::new());
    for path in toml_files(folder)? {
        let text = fs::read_to_string(&path).map_err(|error| {
            Failure::because(format!("cannot read {}: {error}", path.display()))
        })?;
        let Some(role) = role(&text) else {
            continue;
        };
        let node = config::parse_node(&text, &path, role).map_err(Failure::because)?;
        let target = Target {
            name: Some(node.node.name.clone()),
            admin: reachable(node.node.admin.address).to_string(),
        };
        match role {
            Role::UpperTier if node.node.upper_tiers.is_empty() => uppers.push(target),
            Role::UpperTier => regionals.push(target),
            Role::Edge => edges.push(target),
        }
    }
    if uppers.is_empty() && regionals.is_empty() && edges.is_empty() {
        let folder = folder.display();
        return Err(Failure::because(format!(
            "{folder} has no node file: a .toml file with a `role`"
        )));
    }
    Ok(vec![uppers, regionals, edges])
}

fn toml_files(folder: &Path) -> Result<Vec<PathBuf>, Failure> {
    let unreadable = |error| Failure::because(format!("cannot read {}: {error}", folder.display()));
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).map_err(unreadable)? {
        let path = entry.map_err(unreadable)?.path();
        if path
            .extension()
            .is_some_and(|extension| extension == "toml")
        {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

/// The role a node file gives itself. None: it is a sites file or something else.
fn role(text: &str) -> Option<Role> {
    let table: toml::Table = text.parse().ok()?;
    match table.get("role")?.as_str()? {
        "upper-tier" => Some(Role::UpperTier),
        "edge" => Some(Role::Edge),
        _ => None,
    }
}

/// An address that listens on every interface is asked over loopback.
fn reachable(mut address: SocketAddr) -> SocketAddr {
    if address.ip().is_unspecified() {
        address.set_ip(match address {
            SocketAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
            SocketAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
        });
    }
    address
}

/// The nodes of a demo with its usual ports, as far as they are running. One that
/// is not has no memory to purge.
pub(super) async fn of_running_demo() -> Result<Vec<Rank>, Failure> {
    let plan = Plan::default();
    let ranks = vec![
        answering(plan.uppers()).await,
        answering(plan.edges()).await,
    ];
    if ranks.iter().all(Vec::is_empty) {
        return Err(Failure::because(format!(
            "no node of a demo answers ({DEMO_UPPERS} upper tiers and {DEMO_EDGES} edges, on its usual ports); \
             name admin addresses with --admin, or a folder of node files with --topology"
        )));
    }
    Ok(ranks)
}

/// Those of `nodes` whose admin listener takes a connection.
async fn answering(nodes: impl Iterator<Item = PlannedNode>) -> Rank {
    let mut rank = Rank::new();
    for node in nodes {
        let admin = node.admin_address();
        let connecting =
            tokio::time::timeout(Duration::from_millis(PROBE_MS), TcpStream::connect(admin));
        if matches!(connecting.await, Ok(Ok(_))) {
            rank.push(Target {
                name: Some(node.name()),
                admin: admin.to_string(),
            });
        }
    }
    rank
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_node_files_have_a_role() {
        assert_eq!(role("role = \"edge\""), Some(Role::Edge));
        assert_eq!(role("role = \"upper-tier\""), Some(Role::UpperTier));
        for text in [
            "",
            "[sites.a]",
            "role = 1",
            "role = \"visitor\"",
            "not toml",
        ] {
            assert_eq!(role(text), None, "{text}");
        }
    }

    #[test]
    fn a_folder_of_node_files_is_ranked_by_role() {
        let folder = tempfile::tempdir().unwrap();
        let plan = Plan {
            edges: 2,
            ..Plan::default()
        };
        for file in crate::demo::plan::files(&plan).unwrap() {
            fs::write(folder.path().join(file.name), file.text).unwrap();
        }
        let regional = "role = \"upper-tier\"\nname = \"regional-1\"\nsites = \"sites.toml\"\n\
                        [[listen]]\naddress = \"127.0.0.1:8071\"\n\
                        [keys]\nfiles = [\"regional-1.key\"]\n\
                        [[upper_tier]]\nname = \"upper-1\"\naddress = \"127.0.0.1:8091\"\n";
        fs::write(folder.path().join("a-regional-1.toml"), regional).unwrap();
        let ranks = of_topology(folder.path()).unwrap();
        let shown: Vec<Vec<_>> = ranks
            .iter()
            .map(|rank| rank.iter().map(ToString::to_string).collect())
            .collect();
        assert_eq!(
            shown,
            [
                vec!["upper-1 (127.0.0.1:9091)", "upper-2 (127.0.0.1:9092)"],
                vec!["regional-1 (127.0.0.1:9071)"],
                vec!["edge-1 (127.0.0.1:9081)", "edge-2 (127.0.0.1:9082)"],
            ]
        );
    }

    #[test]
    fn a_folder_without_a_node_file_or_with_a_bad_one_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("sites.toml"), "").unwrap();
        let failure = of_topology(folder.path()).unwrap_err();
        assert!(failure.words().contains("no node file"), "{failure:?}");

        fs::write(folder.path().join("edge-1.toml"), "role = \"edge\"\n").unwrap();
        let failure = of_topology(folder.path()).unwrap_err();
        assert!(failure.words().contains("edge-1.toml"), "{failure:?}");
    }

    #[test]
    fn a_wildcard_address_is_asked_over_loopback() {
        let cases = [
            ("0.0.0.0:1", "127.0.0.1:1"),
            ("[::]:1", "[::1]:1"),
            ("10.0.0.1:1", "10.0.0.1:1"),
        ];
        for (listens, asked) in cases {
            assert_eq!(reachable(listens.parse().unwrap()).to_string(), asked);
        }
    }
}
