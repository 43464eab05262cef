//! `headwater demo`: a whole topology on loopback, in one process or as files.
//!
//! [`plan`] says what there is and writes every file as a text; [`eject`] puts the
//! texts into a folder; [`mod@run`] starts all nodes from that folder with the very
//! code that the `edge` and `upper-tier` binaries run. The demo process therefore
//! has no configuration of its own that could differ from the ejected one.

mod certificates;
mod eject;
mod node;
mod origin_url;
pub(crate) mod plan;
mod ports;
mod run;
mod show;
mod sites;

use std::fs;
use std::io::{self, Write as _};
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

use config::Sites;

use crate::failure::Failure;
use origin_url::OriginUrl;
use plan::{
    BASE_PORT, BASE_PORT_MAX, DEMO_EDGES, DEMO_UPPERS, EDGES_MAX, EjectedFile, Plan, SitesText,
    UPPERS_MAX,
};

/// Command line of `headwater demo`.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Cache this origin instead of the demo's own; every Host is one site.
    #[arg(long, value_name = "URL")]
    origin: Option<OriginUrl>,
    /// Number of edges.
    #[arg(long, value_name = "N", default_value_t = DEMO_EDGES, value_parser = clap::value_parser!(u16).range(1..=i64::from(EDGES_MAX)))]
    edges: u16,
    /// Number of upper tiers; 0 sends edges straight to the origin.
    #[arg(long, value_name = "N", default_value_t = DEMO_UPPERS, value_parser = clap::value_parser!(u16).range(0..=i64::from(UPPERS_MAX)))]
    uppers: u16,
    /// Serve the sites of this file instead of one catch-all site.
    #[arg(long, value_name = "FILE")]
    sites: Option<PathBuf>,
    /// Let edges and upper tiers speak mutual TLS to each other.
    #[arg(long)]
    mtls: bool,
    /// Write the topology's files into this folder and exit.
    #[arg(long, value_name = "DIR")]
    eject: Option<PathBuf>,
    /// The demo origin's port; edges are at +81 and up, upper tiers at +91 and up,
    /// each admin listener 1000 above its node.
    #[arg(long, value_name = "PORT", default_value_t = BASE_PORT, value_parser = clap::value_parser!(u16).range(1..=i64::from(BASE_PORT_MAX)))]
    base_port: u16,
}

/// `headwater demo`.
pub(crate) fn run(options: Options) -> Result<(), Failure> {
    if options.sites.is_some() && options.origin.is_some() {
        writeln!(
            io::stderr(),
            "note: --sites names the origins; --origin only keeps the demo origin from being started"
        )?;
    }
    let folder = options.eject.clone();
    let plan = options.plan()?;
    let files = plan::files(&plan).map_err(Failure::because)?;
    let origin = demo_origin(&plan, &files)?;
    match folder {
        Some(folder) => {
            eject::eject(&files, &folder)?;
            io::stdout().write_all(show::ejected(&plan, origin, &folder).as_bytes())?;
            Ok(())
        }
        None => crate::block_on(run::run(plan, files, origin)),
    }
}

impl Options {
    fn plan(self) -> Result<Plan, Failure> {
        let sites = self.sites.as_deref().map(read_sites).transpose()?;
        Ok(Plan {
            edges: self.edges,
            uppers: self.uppers,
            origin: self.origin,
            sites,
            mtls: self.mtls,
            base_port: self.base_port,
        })
    }
}

/// Reads `--sites FILE`, checked here so that its problems are told under its own
/// name and lines and not under those of the demo's copy.
fn read_sites(path: &Path) -> Result<SitesText, Failure> {
    config::load_sites(path).map_err(Failure::because)?;
    let unreadable = |error| Failure::because(format!("cannot read {}: {error}", path.display()));
    let text = fs::read_to_string(path).map_err(unreadable)?;
    let absolute = std::path::absolute(path).map_err(unreadable)?;
    let folder = absolute.parent().unwrap_or(Path::new("/")).to_owned();
    Ok(SitesText { folder, text })
}

/// Where the demo origin listens; None where no site asks for it.
fn demo_origin(plan: &Plan, files: &[EjectedFile]) -> Result<Option<SocketAddr>, Failure> {
    let text = files
        .iter()
        .find(|file| file.name == "sites.toml")
        .map(|file| file.text.as_str());
    let sites = config::parse_sites(text.unwrap_or_default(), Path::new("sites.toml"))
        .map_err(Failure::because)?;
    let address = plan.origin_address();
    Ok((plan.origin.is_none() && names(&sites, address)).then_some(address))
}

/// Whether a pool has the server `address`, which is on loopback.
fn names(sites: &Sites, address: SocketAddr) -> bool {
    let mut servers = sites.all().iter().flat_map(|site| &site.pool.servers);
    servers.any(|server| {
        let host_is_ours = match server.host.parse::<IpAddr>() {
            Ok(ip) => ip == address.ip(),
            Err(_) => server.host == "localhost",
        };
        host_is_ours && server.port == address.port()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_demo_origin_is_started_where_a_site_asks_for_it() {
        let pool = |server: &str| {
            format!(
                "[pools.a]\nservers = [\"{server}\"]\n[sites.a]\nhosts = [\"*\"]\npool = \"a\"\n"
            )
        };
        let cases = [
            (None, None, true),
            (Some("http://127.0.0.1:9000"), None, false),
            (Some("http://127.0.0.1:8000"), None, false),
            (None, Some("127.0.0.1:8000"), true),
            (None, Some("localhost:8000"), true),
            (None, Some("127.0.0.1:8001"), false),
            (None, Some("shop.example:8000"), false),
            (Some("http://127.0.0.1:9000"), Some("127.0.0.1:8000"), false),
        ];
        for (origin, server, expected) in cases {
            let sites = server.map(|server| SitesText {
                folder: PathBuf::from("/"),
                text: pool(server),
            });
            let origin = origin.map(|origin: &str| origin.parse().unwrap());
            let plan = Plan {
                origin,
                sites,
                ..Plan::default()
            };
            let started = demo_origin(&plan, &plan::files(&plan).unwrap()).unwrap();
            assert_eq!(started.is_some(), expected, "{:?} {server:?}", plan.origin);
        }
    }

    #[test]
    fn problems_of_a_sites_file_are_told_under_its_own_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("mine.toml");
        fs::write(&path, "[sites.a]\nhost = 3\n").unwrap();
        let failure = read_sites(&path).unwrap_err();
        assert!(failure.words().contains("mine.toml:2"), "{failure:?}");
    }
}
