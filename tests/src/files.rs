//! The files of a topology, as an operator would write them.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use crate::ask::HOST;
use crate::tls::Authority;

/// What a scenario wants to be different, as TOML.
#[derive(Clone, Debug, Default)]
pub(crate) struct Wishes {
    /// All of `sites.toml`, instead of what follows here.
    pub(crate) sites: Option<String>,
    /// Lines of `[pools.shop]`.
    pub(crate) pool: String,
    /// Lines of `[sites.shop]` and tables below it.
    pub(crate) site: String,
    /// Lines at the top of every edge's file.
    pub(crate) edge_top: String,
    /// Lines at the top of every upper tier's file.
    pub(crate) upper_top: String,
    /// Tables of every edge's file.
    pub(crate) edge: String,
    /// Tables of every upper tier's file.
    pub(crate) upper: String,
    /// Lines of further `[[listen]]` tables of every edge, one each.
    pub(crate) listeners: Vec<String>,
    /// Lines of the `[[listen]]` table of every upper tier.
    pub(crate) upper_listener: String,
    /// Value of `access_log`: `off`, where a scenario wishes for nothing else.
    pub(crate) access_log: Option<String>,
    /// Lines of `[telemetry]`.
    pub(crate) telemetry: String,
    /// Edges probe their upper tiers, as they do unless they are told not to.
    pub(crate) probing: bool,
    /// Lines of every `[[upper_tier]]` table.
    pub(crate) towards_upper: String,
    /// Lines of the `[[upper_tier]]` tables for the node of that name.
    pub(crate) towards: Vec<(String, String)>,
    /// Tables of every regional tier's file.
    pub(crate) regional: String,
}

/// An upper tier that a node asks.
#[derive(Clone, Debug)]
pub(crate) struct Way {
    pub(crate) name: String,
    pub(crate) address: SocketAddr,
    pub(crate) is_regional: bool,
}

/// `sites.toml`: one site, unless the scenario wishes for others.
pub(crate) fn sites(wishes: &Wishes, servers: &[SocketAddr]) -> String {
    let servers: Vec<_> = servers
        .iter()
        .map(|server| format!("\"{server}\""))
        .collect();
    let servers = servers.join(", ");
    if let Some(sites) = &wishes.sites {
        return sites.replace("{origin}", &servers);
    }
    format!(
        "[pools.shop]\nservers = [{servers}]\n{}\n\
         [sites.shop]\nhosts = [\"{HOST}\"]\npool = \"shop\"\n{}\n",
        wishes.pool, wishes.site
    )
}

/// An upper tier's file, with the file of the sites that it knows; `keys` are the nodes
/// whose keys it has.
pub(crate) fn upper(wishes: &Wishes, name: &str, sites: &str, keys: &[String]) -> String {
    let keys: Vec<_> = keys.iter().map(|node| format!("\"{node}.key\"")).collect();
    format!(
        "role = \"upper-tier\"\nname = \"{name}\"\nsites = \"{sites}\"\n{}\n\
         [[listen]]\naddress = \"127.0.0.1:0\"\nhttp2 = false\n{}\n\
         [admin]\naddress = \"127.0.0.1:0\"\n\
         [keys]\nfiles = [{}]\n\
         [telemetry]\naccess_log = \"{}\"\n{}\n{}\n",
        wishes.upper_top,
        wishes.upper_listener,
        keys.join(", "),
        access_log(wishes),
        wishes.telemetry,
        wishes.upper
    )
}

/// A regional tier's file; `keys` are the nodes whose keys it has, its own among them.
pub(crate) fn regional(wishes: &Wishes, name: &str, keys: &[String], uppers: &[Way]) -> String {
    upper(wishes, name, "sites.toml", keys) + &upper_tiers(wishes, uppers) + &wishes.regional
}

/// The tables of whom a node asks, and how often it probes them.
fn upper_tiers(wishes: &Wishes, ways: &[Way]) -> String {
    let mut text = String::new();
    for way in ways {
        let tier = if way.is_regional { "regional" } else { "upper" };
        text += &format!(
            "[[upper_tier]]\nname = \"{}\"\naddress = \"{}\"\ntier = \"{tier}\"\n{}\n",
            way.name, way.address, wishes.towards_upper
        );
        let own = wishes.towards.iter().filter(|(name, _)| *name == way.name);
        text.extend(own.map(|(_, lines)| format!("{lines}\n")));
    }
    if !wishes.probing {
        text += "[health]\nprobe_ms = 0\n";
    }
    text
}

/// An edge's file; `uppers` are the upper tiers it asks.
pub(crate) fn edge(wishes: &Wishes, name: &str, uppers: &[Way]) -> String {
    let mut text = format!(
        "role = \"edge\"\nname = \"{name}\"\nsites = \"sites.toml\"\n{}\n\
         [[listen]]\naddress = \"127.0.0.1:0\"\n",
        wishes.edge_top
    );
    for listener in &wishes.listeners {
        text += &format!("[[listen]]\naddress = \"127.0.0.1:0\"\n{listener}\n");
    }
    text += &upper_tiers(wishes, uppers);
    if !uppers.is_empty() {
        text += &format!("[keys]\nfiles = [\"{name}.key\"]\n");
    }
    text + &format!(
        "[admin]\naddress = \"127.0.0.1:0\"\n\
         [telemetry]\naccess_log = \"{}\"\n{}\n{}\n",
        access_log(wishes),
        wishes.telemetry,
        wishes.edge
    )
}

fn access_log(wishes: &Wishes) -> &str {
    wishes.access_log.as_deref().unwrap_or("off")
}

/// An edge's signing key, as a key file.
pub(crate) fn key(edge: &str) -> String {
    signing_key(edge, &format!("{edge}-a"))
}

/// A new signing key of a node, as a line of a key file.
///
/// # Panics
/// When the names cannot stand there.
#[must_use]
pub fn signing_key(node: &str, keyid: &str) -> String {
    let key = control::generate(control::Algorithm::HmacSha256, node, keyid);
    key.expect("the names can stand in a key file").private_line + "\n"
}

/// The authority's certificate and one for [`HOST`], for listeners with TLS.
pub(crate) fn write_certificates(folder: &Path, authority: &Authority) {
    let issued = authority.issue(HOST);
    write(folder, "ca.pem", &authority.pem);
    write(folder, "site.pem", &issued.certificate);
    write(folder, "site.key", &issued.key);
}

/// Writes a file that only its owner may read, as keys have to be.
pub(crate) fn write(folder: &Path, name: &str, text: &str) {
    let path = folder.join(name);
    fs::write(&path, text).expect("the scenario's folder can be written to");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("the file is ours");
}
