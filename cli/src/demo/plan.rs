//! What a demo topology consists of, and the text of every file it needs.
//!
//! A plan is a value and its files are texts: nothing here touches a disk or a
//! socket, so that `headwater demo` and `headwater demo --eject` cannot differ.
//! Keys and certificates are drawn anew each time and are all that is random.

use std::fmt::{self, Write as _};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use config::Role;

use super::certificates::{self, Certificates};
use super::origin_url::OriginUrl;
use super::sites;

/// Edges and upper tiers of a demo where nothing else is said.
pub(crate) const DEMO_EDGES: u16 = 3;
pub(crate) const DEMO_UPPERS: u16 = 2;

/// Edges have the ten ports before those of the upper tiers.
pub(crate) const EDGES_MAX: u16 = 10;
/// As many as edges: more would be a fleet, not a demo.
pub(crate) const UPPERS_MAX: u16 = 10;

/// Port of the demo origin; all others follow from it.
pub(crate) const BASE_PORT: u16 = 8000;
/// The last upper tier's admin port must still be a port.
pub(crate) const BASE_PORT_MAX: u16 = u16::MAX - UPPER_PORTS - UPPERS_MAX - ADMIN_PORTS;

/// Distances from the base port to the port before the first of a kind.
const EDGE_PORTS: u16 = 80;
const UPPER_PORTS: u16 = 90;
/// Distance from a node's port to its admin port.
const ADMIN_PORTS: u16 = 1000;

/// Files that hold a secret, and those that hold none.
const MODE_SECRET: u32 = 0o600;
const MODE_PUBLIC: u32 = 0o644;

/// A demo topology on loopback. The counts and the base port are within the
/// bounds above; the command line sees to that.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    /// Number of edges, 1 to [`EDGES_MAX`].
    pub(crate) edges: u16,
    /// Number of upper tiers, up to [`UPPERS_MAX`]. 0: edges go straight to the origin.
    pub(crate) uppers: u16,
    /// The origin behind the catch-all site. None: the demo origin.
    pub(crate) origin: Option<OriginUrl>,
    /// A sites file to use instead of the catch-all site.
    pub(crate) sites: Option<SitesText>,
    /// Whether edges and upper tiers speak mutual TLS.
    pub(crate) mtls: bool,
    /// The demo origin's port, from which all others are counted.
    pub(crate) base_port: u16,
}

/// A sites file that has been read.
#[derive(Debug, Clone)]
pub(crate) struct SitesText {
    /// Its folder, absolute: relative paths in it start there.
    pub(crate) folder: PathBuf,
    /// Its text.
    pub(crate) text: String,
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            edges: DEMO_EDGES,
            uppers: DEMO_UPPERS,
            origin: None,
            sites: None,
            mtls: false,
            base_port: BASE_PORT,
        }
    }
}

/// One node of a plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PlannedNode {
    /// Edge or upper tier.
    pub(crate) role: Role,
    /// Counted from 1 within the role.
    pub(crate) number: u16,
    port: u16,
}

impl PlannedNode {
    /// `edge-1`, `upper-2`.
    pub(crate) fn name(&self) -> String {
        match self.role {
            Role::Edge => format!("edge-{}", self.number),
            Role::UpperTier => format!("upper-{}", self.number),
        }
    }

    /// Where it serves.
    pub(crate) fn address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.port).into()
    }

    /// Where its admin listener is.
    pub(crate) fn admin_address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.port + ADMIN_PORTS).into()
    }
}

/// One file of an ejected topology.
#[derive(Debug, Clone)]
pub(crate) struct EjectedFile {
    /// Name within the folder.
    pub(crate) name: String,
    /// Content.
    pub(crate) text: String,
    /// Permission bits.
    pub(crate) mode: u32,
}

/// Why a plan has no files.
#[derive(Debug)]
pub(crate) enum PlanError {
    /// No signing key could be made.
    Key(control::GenerateError),
    /// No certificate could be made.
    Certificate(rcgen::Error),
}

impl fmt::Display for PlanError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Key(error) => write!(f, "cannot make a signing key: {error}"),
            Self::Certificate(error) => write!(f, "cannot make a certificate: {error}"),
        }
    }
}

impl std::error::Error for PlanError {}

impl Plan {
    /// The edges, in order.
    pub(crate) fn edges(&self) -> impl Iterator<Item = PlannedNode> + use<> {
        let first = self.base_port + EDGE_PORTS;
        (1..=self.edges).map(move |number| PlannedNode {
            role: Role::Edge,
            number,
            port: first + number,
        })
    }

    /// The upper tiers, in order.
    pub(crate) fn uppers(&self) -> impl Iterator<Item = PlannedNode> + use<> {
        let first = self.base_port + UPPER_PORTS;
        (1..=self.uppers).map(move |number| PlannedNode {
            role: Role::UpperTier,
            number,
            port: first + number,
        })
    }

    /// Where the demo origin listens, if the sites ask for it.
    pub(crate) fn origin_address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.base_port).into()
    }
}

/// Every file of the topology: `sites.toml`, one node file a node, one key file an
/// edge, and with `mtls` certificates and their keys.
pub(crate) fn files(plan: &Plan) -> Result<Vec<EjectedFile>, PlanError> {
    let mut files = vec![public("sites.toml", sites::text(plan))];
    for edge in plan.edges() {
        files.push(public(
            &format!("{}.toml", edge.name()),
            edge_file(plan, &edge),
        ));
    }
    for upper in plan.uppers() {
        files.push(public(
            &format!("{}.toml", upper.name()),
            upper_file(plan, &upper),
        ));
    }
    // Signatures and certificates are spoken between tiers alone.
    if plan.uppers > 0 {
        for edge in plan.edges() {
            files.push(secret(&key_name(&edge), key_text(&edge)?));
        }
        if plan.mtls {
            add_certificates(plan, &mut files)?;
        }
    }
    Ok(files)
}

fn edge_file(plan: &Plan, edge: &PlannedNode) -> String {
    let mut text = head(edge, "edge", "");
    for upper in plan.uppers() {
        let name = upper.name();
        write!(
            text,
            "\n[[upper_tier]]\nname = \"{name}\"\naddress = \"{}\"\n",
            upper.address()
        )
        .expect(STRING);
        if plan.mtls {
            let (edge, sni) = (edge.name(), certificates::host(&name));
            writeln!(
                text,
                "tls = {{ sni = \"{sni}\", ca = \"ca.pem\", certificate = \"{edge}.pem\", key = \"{edge}.pem.key\" }}"
            )
            .expect(STRING);
        }
    }
    if plan.uppers > 0 {
        write!(
            text,
            "\n# Signs what this edge asks its upper tiers.\n[keys]\nfiles = [\"{}\"]\n",
            key_name(edge)
        )
        .expect(STRING);
    }
    text + TELEMETRY
}

fn upper_file(plan: &Plan, upper: &PlannedNode) -> String {
    let name = upper.name();
    // Tiers speak HTTP/1.1 to each other: a 1xx answer does not survive our HTTP/2.
    let mut listener = "http2 = false\n".to_owned();
    if plan.mtls {
        writeln!(
            listener,
            "tls = {{ certificate = \"{name}.pem\", key = \"{name}.pem.key\", client_ca = \"ca.pem\" }}"
        )
        .expect(STRING);
    }
    let mut text = head(upper, "upper-tier", &listener);
    let keys: Vec<_> = plan
        .edges()
        .map(|edge| format!("\"{}\"", key_name(&edge)))
        .collect();
    write!(
        text,
        "\n# One key an edge, so that no edge can speak as another.\n[keys]\nfiles = [{}]\n",
        keys.join(", ")
    )
    .expect(STRING);
    text + TELEMETRY
}

/// What both kinds of node file begin with.
fn head(node: &PlannedNode, role: &str, listener: &str) -> String {
    let (name, address, admin) = (node.name(), node.address(), node.admin_address());
    format!(
        "# {role} of a demo topology. Run it with: {role} --config {name}.toml\n\
         role = \"{role}\"\n\
         name = \"{name}\"\n\
         sites = \"sites.toml\"\n\
         \n\
         [[listen]]\n\
         address = \"{address}\"\n\
         {listener}\
         \n\
         [admin]\n\
         address = \"{admin}\"\n"
    )
}

const TELEMETRY: &str = "\n[telemetry]\naccess_log = \"stdout\"\n";

/// Why formatting into a string is expected to succeed.
const STRING: &str = "writing to a string cannot fail";

fn key_name(edge: &PlannedNode) -> String {
    format!("{}.key", edge.name())
}

fn key_text(edge: &PlannedNode) -> Result<String, PlanError> {
    let name = edge.name();
    let key = control::generate(
        control::Algorithm::HmacSha256,
        &name,
        &format!("{name}-demo"),
    )
    .map_err(PlanError::Key)?;
    Ok(format!(
        "# Shared by {name} and the upper tiers. Secret.\n{}\n",
        key.private_line
    ))
}

fn add_certificates(plan: &Plan, files: &mut Vec<EjectedFile>) -> Result<(), PlanError> {
    let nodes = plan.uppers().chain(plan.edges()).map(|node| node.name());
    let Certificates { ca, issued } = certificates::issue(nodes).map_err(PlanError::Certificate)?;
    files.push(public("ca.pem", ca));
    for issued in issued {
        files.push(public(&format!("{}.pem", issued.node), issued.certificate));
        files.push(secret(&format!("{}.pem.key", issued.node), issued.key));
    }
    Ok(())
}

fn public(name: &str, text: String) -> EjectedFile {
    EjectedFile {
        name: name.to_owned(),
        text,
        mode: MODE_PUBLIC,
    }
}

fn secret(name: &str, text: String) -> EjectedFile {
    EjectedFile {
        name: name.to_owned(),
        text,
        mode: MODE_SECRET,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(plan: &Plan) -> Vec<String> {
        files(plan)
            .unwrap()
            .into_iter()
            .map(|file| file.name)
            .collect()
    }

    #[test]
    fn the_ports_are_those_of_the_contract() {
        let plan = Plan::default();
        let ports = |node: PlannedNode| {
            (
                node.name(),
                node.address().port(),
                node.admin_address().port(),
            )
        };
        let edges: Vec<_> = plan.edges().map(ports).collect();
        let uppers: Vec<_> = plan.uppers().map(ports).collect();
        let node = |name: &str, port, admin| (name.to_owned(), port, admin);
        assert_eq!(
            edges,
            [
                node("edge-1", 8081, 9081),
                node("edge-2", 8082, 9082),
                node("edge-3", 8083, 9083)
            ]
        );
        assert_eq!(
            uppers,
            [node("upper-1", 8091, 9091), node("upper-2", 8092, 9092)]
        );
        assert_eq!(plan.origin_address().port(), 8000);
    }

    #[test]
    fn no_two_listeners_of_the_largest_plan_share_a_port() {
        for base_port in [1, BASE_PORT, BASE_PORT_MAX] {
            let plan = Plan {
                edges: EDGES_MAX,
                uppers: UPPERS_MAX,
                base_port,
                ..Plan::default()
            };
            let nodes = plan.edges().chain(plan.uppers());
            let mut all: Vec<_> = nodes
                .flat_map(|node| [node.address(), node.admin_address()])
                .collect();
            all.push(plan.origin_address());
            let count = all.len();
            all.sort();
            all.dedup();
            assert_eq!(all.len(), count, "from {base_port}");
        }
    }

    #[test]
    fn each_plan_has_the_files_it_needs_and_no_more() {
        assert_eq!(
            names(&Plan {
                edges: 2,
                uppers: 1,
                ..Plan::default()
            }),
            [
                "sites.toml",
                "edge-1.toml",
                "edge-2.toml",
                "upper-1.toml",
                "edge-1.key",
                "edge-2.key"
            ]
        );
        assert_eq!(
            names(&Plan {
                edges: 1,
                uppers: 0,
                mtls: true,
                ..Plan::default()
            }),
            ["sites.toml", "edge-1.toml"]
        );
        assert_eq!(
            names(&Plan {
                edges: 1,
                uppers: 1,
                mtls: true,
                ..Plan::default()
            }),
            [
                "sites.toml",
                "edge-1.toml",
                "upper-1.toml",
                "edge-1.key",
                "ca.pem",
                "upper-1.pem",
                "upper-1.pem.key",
                "edge-1.pem",
                "edge-1.pem.key",
            ]
        );
    }

    #[test]
    fn only_keys_are_secret() {
        let plan = Plan {
            mtls: true,
            ..Plan::default()
        };
        for file in files(&plan).unwrap() {
            let mode = if file.name.ends_with(".key") {
                0o600
            } else {
                0o644
            };
            assert_eq!(file.mode, mode, "{}", file.name);
            assert_eq!(
                file.text.contains("PRIVATE KEY"),
                file.name.ends_with(".pem.key"),
                "{}",
                file.name
            );
        }
    }

    #[test]
    fn edges_name_their_upper_tiers_where_a_middle_man_can_be_put() {
        let files = files(&Plan::default()).unwrap();
        let edge = &files
            .iter()
            .find(|file| file.name == "edge-3.toml")
            .unwrap()
            .text;
        assert!(edge.contains("address = \"127.0.0.1:8091\"\n"), "{edge}");
        assert!(edge.contains("address = \"127.0.0.1:8092\"\n"), "{edge}");
    }
}
