//! A node's own file: `edge.toml` or `upper-tier.toml`.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use super::disk::{Named, Use};
use super::hosts;
use super::reader::{Item, Reader, Table, each};
use super::values::{self, Fault, shown};
use super::{settings, tls};
use crate::model::{
    Admin, Health, HostPort, Limits, Listener, Node, Role, Store, Telemetry, Tier, Timeouts,
    UpperTier,
};
use crate::problem::{Notes, Place};

/// What a node's file says, and what is still to be fetched from elsewhere.
///
/// The parts stand beside each other, rather than inside a `Node`, so that the
/// files they name are looked at even when the node itself has a problem.
#[derive(Debug)]
pub(crate) struct Written {
    /// None when a problem was noted. The admin token is not in it yet.
    pub(crate) node: Option<Node>,
    pub(crate) sites_file: Option<(PathBuf, Place)>,
    /// Files to look at, key files in their order.
    pub(crate) files: Vec<Named>,
    /// Environment variables with signing keys.
    pub(crate) key_env: Vec<(String, Place)>,
    /// Environment variable with the admin token.
    pub(crate) token_env: Option<(String, Place)>,
}

/// Reads the text of a node's file. Touches no disk. With `role`, the file must
/// be for that role; without, it says itself what it is for.
pub(crate) fn read(text: &str, file: &Path, role: Option<Role>, notes: &mut Notes) -> Written {
    let problems_before = notes.problems.len();
    let mut walk = Walk {
        file: file.to_owned(),
        ..Walk::default()
    };
    let node = Reader::read(text, file, &TOP_KEYS, notes, |top| walk.top(top, role));
    let clean = notes.problems.len() == problems_before;
    Written {
        node: node.filter(|_| clean),
        sites_file: walk.sites_file,
        files: walk.files,
        key_env: walk.key_env,
        token_env: walk.token_env,
    }
}

#[derive(Default)]
struct Walk {
    file: PathBuf,
    sites_file: Option<(PathBuf, Place)>,
    files: Vec<Named>,
    key_env: Vec<(String, Place)>,
    token_env: Option<(String, Place)>,
    /// Every listening address that could be read, whatever else is wrong.
    listening: Vec<(SocketAddr, Place)>,
}

/// Keys at the top of the file that are no tables, and are easily written
/// below one: TOML gives all that follows `[admin]` to it.
const TOP_KEYS: [&str; 4] = ["role", "sites", "trusted_proxies", "handover"];

/// The longest path of a hand-over socket. A socket's address has room for 107 bytes
/// (`sun_path`), and the one that is about to take its place has a longer name.
const HANDOVER_PATH_BYTES_MAX: usize = 95;

const ROLES: [(&str, Role); 2] = [("edge", Role::Edge), ("upper-tier", Role::UpperTier)];

/// Requests under way at one upper tier, where nobody says otherwise.
const UPPER_IN_FLIGHT_MAX: usize = 4_096;

/// A weight beyond this is a slip: it only counts against the weights of the others.
const WEIGHT_MAX: u64 = 1_000;

const TIERS: [(&str, Tier); 2] = [("upper", Tier::Upper), ("regional", Tier::Regional)];

impl Walk {
    fn top(&mut self, top: &mut Table<'_>, started_as: Option<Role>) -> Option<Node> {
        let role = role(top, started_as);
        let name = top.required("name", "name = \"edge-1\"");
        let sites = top.required("sites", "sites = \"sites.toml\"");
        let listen = top.required("listen", "[[listen]]");
        let admin = top.take("admin");
        let trusted_proxies = top.list("trusted_proxies");
        let name_servers = top.list("name_servers");
        let handover = top.take("handover");
        let upper_tier = top.take("upper_tier");
        let keys = top.take("keys");
        let store = section(top, "store", Store::default(), settings::store);
        let limits = section(top, "limits", Limits::default(), settings::limits);
        let timeouts = section(top, "timeouts", Timeouts::default(), settings::timeouts);
        let health = section(top, "health", Health::default(), settings::health);
        let telemetry = section(top, "telemetry", Telemetry::default(), |table| {
            settings::telemetry(table, &self.file, &mut self.files)
        });

        let name = name.and_then(|item| item.parse(values::name));
        let sites_file = sites.and_then(|item| Some((item.path()?, item.place().clone())));
        self.sites_file.clone_from(&sites_file);
        let listeners = listen.and_then(|item| self.listeners(&item));
        let admin = self.admin(top, admin.as_ref());
        let trusted_proxies = each(&trusted_proxies, trusted_proxy);
        let name_servers = each(&name_servers, |item| item.parse(hosts::name_server));
        let handover = match handover {
            Some(item) => handover_path(&item, role).map(Some),
            None => Some(None),
        };
        let itself = Itself {
            role,
            name: name.as_deref(),
            listening: self.listening.iter().map(|(own, _)| *own).collect(),
        };
        let needs_keys = upper_tier.is_some() || role == Some(Role::UpperTier);
        let upper_tiers = match upper_tier {
            Some(item) => self.upper_tiers(&item, &itself),
            None => Some(Vec::new()),
        };
        self.keys(top, keys.as_ref(), needs_keys);
        Some(Node {
            name: name?,
            role: role?,
            listeners: listeners?,
            admin: admin?,
            trusted_proxies: trusted_proxies?,
            name_servers: name_servers?,
            handover: handover?,
            upper_tiers: upper_tiers?,
            store: store?,
            limits: limits?,
            timeouts: timeouts?,
            health: health?,
            telemetry: telemetry?,
            sites_file: sites_file?.0,
        })
    }

    fn listeners(&mut self, item: &Item<'_>) -> Option<Vec<Listener>> {
        let written = item.list()?;
        if written.is_empty() {
            item.problem("is empty", "add a `[[listen]]` with an `address`");
            return None;
        }
        each(&written, |item| {
            item.table(|table| {
                let address = table.required("address", "address = \"0.0.0.0:8081\"");
                let tls = table.take("tls");
                let proxy_protocol = table.flag("proxy_protocol", false);
                let http2 = table.flag("http2", true);
                let tls = tls.and_then(|item| tls::listener(&item, &mut self.files));
                let item = address?;
                let address = item.parse(hosts::listen_address)?;
                if let Some(clash) = self.clash(address) {
                    item.problem(clash, "give each listener its own port");
                }
                self.listening.push((address, item.place().clone()));
                Some(Listener {
                    address,
                    tls,
                    proxy_protocol,
                    http2,
                })
            })
        })
    }

    fn admin(&mut self, top: &Table<'_>, item: Option<&Item<'_>>) -> Option<Admin> {
        let Some(item) = item else {
            let place = Place {
                key: "admin".to_owned(),
                ..top.place().clone()
            };
            return Some(self.default_admin(top, &place));
        };
        item.table(|table| {
            let address_item = table.take("address");
            let has_token = self.admin_token(table);
            let Some(item) = address_item else {
                return Some(self.default_admin(table, item.place()));
            };
            let address = item.parse(hosts::listen_address)?;
            if let Some(clash) = self.clash(address) {
                item.problem(clash, "give the admin listener its own port");
            }
            if !address.ip().is_loopback() && !has_token {
                item.problem(
                    "is open to other machines, and anybody there could purge",
                    "listen on `127.0.0.1`, or set `token_file` or `token_env`",
                );
            }
            // `load` puts the token in, once it has read the file or variable.
            Some(Admin {
                address,
                token: None,
            })
        })
    }

    /// Notes where the token stands; says whether there is to be one.
    fn admin_token(&mut self, table: &mut Table<'_>) -> bool {
        let file = table.take("token_file");
        let env = table.take("token_env");
        if file.is_some() && env.is_some() {
            table.problem("has two tokens", "keep one of `token_file` and `token_env`");
        }
        let some = file.is_some() || env.is_some();
        if let Some(item) = file {
            tls::named(&item, Use::Token, &mut self.files);
        }
        if let Some(item) = env {
            let name = item.parse(variable_name);
            self.token_env = name.map(|name| (name, item.place().clone()));
        }
        some
    }

    /// On loopback, a thousand above the first listener's port; any free port
    /// where there is no such number.
    fn default_admin(&self, table: &Table<'_>, place: &Place) -> Admin {
        let first = self.listening.first().map_or(0, |(first, _)| first.port());
        let port = match first {
            0 => 0,
            port => port.checked_add(1_000).unwrap_or(0),
        };
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        if let Some(clash) = self.clash(address) {
            table.problem_at(
                place,
                &format!("names no address, and its default {address} {clash}"),
                "give `[admin]` an `address` with a port of its own",
            );
        }
        Admin {
            address,
            token: None,
        }
    }

    /// What an address has against the listeners before it.
    fn clash(&self, address: SocketAddr) -> Option<String> {
        let mut earlier = self.listening.iter();
        let (other, place) = earlier.find(|(other, _)| hosts::overlap(*other, address))?;
        let line = place.line_note();
        Some(format!("clashes with the listener on {other}{line}"))
    }

    fn upper_tiers(&mut self, item: &Item<'_>, itself: &Itself<'_>) -> Option<Vec<UpperTier>> {
        let mut names: Vec<(String, Place)> = Vec::new();
        let mut addresses: Vec<(String, Place)> = Vec::new();
        each(&item.list()?, |item| {
            item.table(|table| {
                let name_item = table.required("name", "name = \"upper-1\"");
                let address_item = table.required("address", "address = \"127.0.0.1:8091\"");
                let tls = table.take("tls");
                let tier_item = table.take("tier");
                let weight = table.whole("weight", 1, 0..=WEIGHT_MAX);
                let in_flight_max = table.whole(
                    "in_flight_max",
                    UPPER_IN_FLIGHT_MAX,
                    1..=settings::FETCHES_MAX,
                );
                let name = name_item.as_ref().and_then(|item| item.parse(values::name));
                let address = address_item
                    .as_ref()
                    .and_then(|item| item.parse(hosts::host_port));
                if let (Some(item), Some(name)) = (&name_item, &name) {
                    itself.refuse_name(item, name);
                    once(item, name, &mut names);
                }
                if let (Some(item), Some(address)) = (&address_item, &address) {
                    itself.refuse_address(item, address);
                    once(item, &address.to_string(), &mut addresses);
                }
                let tier = match &tier_item {
                    Some(item) => itself.tier(item),
                    None => Some(Tier::Upper),
                };
                let sni = address.as_ref().map_or("", |address| &address.host);
                let tls = tls.and_then(|item| tls::upstream(&item, sni, &mut self.files));
                Some(UpperTier {
                    name: name?,
                    address: address?,
                    tls,
                    in_flight_max,
                    weight,
                    tier: tier?,
                })
            })
        })
    }

    fn keys(&mut self, top: &Table<'_>, item: Option<&Item<'_>>, needed: bool) {
        let Some(item) = item else {
            if needed {
                let place = Place {
                    key: "keys".to_owned(),
                    ..top.place().clone()
                };
                top.problem_at(
                    &place,
                    "is missing: tiers sign what they tell each other",
                    "add `[keys]` with `files` or `env`; `headwater keygen` makes a key",
                );
            }
            return;
        };
        item.table(|table| {
            let files = table.list("files");
            let env = table.list("env");
            if needed && files.is_empty() && env.is_empty() {
                table.problem(
                    "names no key",
                    "name one in `files` or `env`; `headwater keygen` makes a key",
                );
            }
            for item in &files {
                tls::named(item, Use::SigningKey, &mut self.files);
            }
            for item in &env {
                let name = item.parse(variable_name);
                let place = item.place().clone();
                self.key_env.extend(name.map(|name| (name, place)));
            }
            Some(())
        });
    }
}

/// A node must not be its own upper tier: every miss would go in a circle.
struct Itself<'n> {
    role: Option<Role>,
    name: Option<&'n str>,
    listening: Vec<SocketAddr>,
}

impl Itself<'_> {
    fn refuse_name(&self, item: &Item<'_>, name: &str) {
        if self.name == Some(name) {
            item.problem(
                format!("{} is this node's own name", shown(name)),
                "name another node, or rename this one",
            );
        }
    }

    /// What one of its upper tiers is. A chain has three tiers: behind a regional one
    /// comes one that goes to the origins.
    fn tier(&self, item: &Item<'_>) -> Option<Tier> {
        let tier = item.choice(&TIERS)?;
        if tier == Tier::Regional && self.role == Some(Role::UpperTier) {
            item.problem(
                "an upper tier asks no regional tier: only edges do",
                "name upper tiers that go to the origins, and leave `tier` out",
            );
        }
        Some(tier)
    }

    fn refuse_address(&self, item: &Item<'_>, address: &HostPort) {
        let mut listening = self.listening.iter();
        if let Some(own) = listening.find(|own| hosts::reaches(address, **own)) {
            item.problem(
                format!("is this node itself, which listens on {own}"),
                "write the address of another node",
            );
        }
    }
}

fn role(top: &mut Table<'_>, started_as: Option<Role>) -> Option<Role> {
    let example = match started_as {
        Some(Role::UpperTier) => "role = \"upper-tier\"",
        _ => "role = \"edge\"",
    };
    let item = top.required("role", example)?;
    let role = item.choice(&ROLES)?;
    match started_as {
        Some(Role::Edge) if role != Role::Edge => item.problem(
            "this file is for an upper tier, and this is an edge",
            "start it with `upper-tier --config`",
        ),
        Some(Role::UpperTier) if role != Role::UpperTier => item.problem(
            "this file is for an edge, and this is an upper tier",
            "start it with `edge --config`",
        ),
        _ => {}
    }
    Some(role)
}

/// A table that may be absent, and then has its defaults.
fn section<'a, T>(
    top: &mut Table<'a>,
    key: &'static str,
    default: T,
    read: impl FnOnce(&mut Table<'a>) -> Option<T>,
) -> Option<T> {
    match top.take(key) {
        Some(item) => item.table(read),
        None => Some(default),
    }
}

/// Where a new process of this edge asks the old one for its sockets.
fn handover_path(item: &Item<'_>, role: Option<Role>) -> Option<PathBuf> {
    if role == Some(Role::UpperTier) {
        // Two processes would each know the nonces that they saw themselves.
        item.problem(
            "an upper tier hands nothing over: a recorded unsafe request could be sent again to the new process",
            "remove it, and restart one upper tier after the other; edges take other ways meanwhile",
        );
        return None;
    }
    let path = item.path()?;
    if path.as_os_str().len() > HANDOVER_PATH_BYTES_MAX {
        item.problem(
            format!("is longer than the {HANDOVER_PATH_BYTES_MAX} bytes that fit a socket's name"),
            "write a shorter path, such as \"/run/headwater/edge-1.sock\"",
        );
        return None;
    }
    Some(path)
}

fn trusted_proxy(item: &Item<'_>) -> Option<ipnet::IpNet> {
    let network = item.parse(hosts::network)?;
    if network.prefix_len() == 0 {
        item.warning(
            "trusts everybody to say which client a request comes from",
            "name the networks of your own proxies",
        );
    }
    Some(network)
}

/// Refuses what stands there twice.
fn once(item: &Item<'_>, text: &str, earlier: &mut Vec<(String, Place)>) {
    if let Some((_, place)) = earlier.iter().find(|(other, _)| other == text) {
        item.problem(
            format!("{} is named twice{}", shown(text), place.line_note()),
            "remove one, or correct it",
        );
    }
    earlier.push((text.to_owned(), item.place().clone()));
}

fn variable_name(text: &str) -> Result<String, Fault> {
    let good = text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    if good && !text.is_empty() {
        return Ok(text.to_owned());
    }
    // Not quoted: somebody may have pasted the secret itself.
    Err(Fault {
        what: "is no name of an environment variable".to_owned(),
        mend: "write the variable's name, such as \"HEADWATER_KEYS\", not its value".to_owned(),
    })
}
