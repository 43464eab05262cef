//! `sites.toml`: pools of origin servers, and the sites they stand behind.

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::sync::Arc;

use super::disk::Named;
use super::hosts;
use super::reader::{Item, Reader, Table, each};
use super::values::{self, shown};
use super::{cache, rules, settings, tls};
use crate::model::{
    Cache, Fallback, HostPattern, KeyRules, OriginPool, Places, Site, Sites, Topology,
};
use crate::problem::{Notes, Place};

/// What a sites file says, and where.
#[derive(Debug)]
pub(crate) struct Written {
    /// None when a problem was noted.
    pub(crate) sites: Option<Sites>,
    /// Files to look at.
    pub(crate) files: Vec<Named>,
    /// Where each site that could be read begins, by name.
    pub(crate) site_places: HashMap<String, Place>,
    /// Where each server of a pool is named.
    pub(crate) server_places: HashMap<(String, usize), Place>,
}

/// Reads the text of a sites file. Touches no disk.
pub(crate) fn read(text: &str, file: &Path, notes: &mut Notes) -> Written {
    let problems_before = notes.problems.len();
    let mut walk = Walk::default();
    let sites = Reader::read(text, file, &[], notes, |top| walk.top(top));
    let clean = notes.problems.len() == problems_before;
    Written {
        sites: sites
            .filter(|_| clean)
            .map(|sites| Sites::new(values::digest(text), sites)),
        files: walk.files,
        site_places: walk.site_places,
        server_places: walk.server_places,
    }
}

/// What is learned on the way and needed further on.
#[derive(Default)]
struct Walk {
    files: Vec<Named>,
    site_places: HashMap<String, Place>,
    server_places: HashMap<(String, usize), Place>,
    /// Every pool that was written; None where it had a problem of its own, so
    /// that a site naming it is not blamed as well.
    pools: HashMap<String, Option<Arc<OriginPool>>>,
    pools_used: HashSet<String>,
    /// The first site that claimed a host, and where.
    hosts: HashMap<HostPattern, (String, Place)>,
}

impl Walk {
    fn top(&mut self, top: &mut Table<'_>) -> Option<Vec<Site>> {
        let pools = top.required("pools", "[pools.NAME]");
        let sites = top.required("sites", "[sites.NAME]");
        let pools = pools.and_then(|item| item.table(|table| Some(table.take_all())));
        let pools = pools.unwrap_or_default();
        for (name, item) in &pools {
            let pool = self.pool(name, item).map(Arc::new);
            self.pools.insert((*name).to_owned(), pool);
        }
        let sites = sites?.table(|table| {
            let written = table.take_all();
            if written.is_empty() {
                table.problem("names no site", "add a `[sites.NAME]`");
            }
            Some(written)
        })?;
        let sites: Vec<_> = sites
            .iter()
            .map(|(name, item)| self.site(name, item))
            .collect();
        for (name, item) in &pools {
            if !self.pools_used.contains(*name) {
                item.warning(
                    "is used by no site",
                    "name it in a site's `pool`, or remove it",
                );
            }
        }
        sites.into_iter().collect()
    }

    fn pool(&mut self, name: &str, item: &Item<'_>) -> Option<OriginPool> {
        let name = checked_name(name, item);
        item.table(|table| {
            let servers = table.required("servers", "servers = [\"10.0.0.7:8000\"]");
            let host_header = table.take("host_header");
            let tls = table.take("tls");
            let places = pool_places(table);
            let written = servers.as_ref().and_then(Item::list);
            if let (Some(item), Some([])) = (&servers, written.as_deref()) {
                item.problem("is empty", "name at least one `\"host:port\"`");
            }
            let written = written.unwrap_or_default();
            let servers: Option<Vec<_>> = each(&written, |item| item.parse(hosts::host_port));
            for (at, server) in written.iter().enumerate() {
                let key = (name.clone().unwrap_or_default(), at);
                self.server_places.insert(key, server.place().clone());
            }
            Some(OriginPool {
                // What cannot be read has left its problem; None does no harm here.
                host_header: host_header.and_then(|item| item.parse(hosts::host_header)),
                tls: tls.and_then(|item| tls::upstream(&item, "", &mut self.files)),
                name: name?,
                servers: servers?,
                places,
            })
        })
    }

    fn site(&mut self, name: &str, item: &Item<'_>) -> Option<Site> {
        let name = checked_name(name, item);
        let shown_name = name.clone().unwrap_or_default();
        item.table(|table| {
            let hosts = table.required("hosts", "hosts = [\"shop.example\"]");
            let pool = table.required("pool", "pool = \"NAME\"");
            let topology = table.choice("topology", Topology::Hash, &TOPOLOGIES);
            let fallback = table.take("fallback");
            let direct = direct(table);
            let hedge = table.flag("hedge", false);
            let trust_traceparent = table.flag("trust_traceparent", false);
            let cache = table.take("cache");
            let key = table.take("key");
            let rules = table.take("rules");

            let hosts = hosts.and_then(|item| self.hosts(&shown_name, &item));
            let pool = pool.and_then(|item| self.pool_of(&item));
            let fallback = match fallback {
                Some(item) => fallbacks(&item),
                None => Some(vec![Fallback::Stale]),
            };
            let cache = match cache {
                Some(item) => item.table(cache::cache),
                None => Some(Cache::default()),
            };
            let mut key = match key {
                Some(item) => item.table(cache::key),
                None => Some(KeyRules::default()),
            };
            let rules = match rules {
                // What cannot be read has left its problem; the rules have their own.
                Some(item) => rules::rules(
                    &item,
                    cache.as_ref().unwrap_or(&Cache::default()),
                    key.as_mut().unwrap_or(&mut KeyRules::default()),
                ),
                None => Some(Vec::new()),
            };
            if let (Some(key), Some(cache)) = (&mut key, &cache) {
                key.sliced = cache.slice_bytes.is_some();
            }
            self.site_places.insert(shown_name, table.place().clone());
            Some(Site {
                name: name?,
                hosts: hosts?,
                pool: pool?,
                topology,
                fallback: fallback?,
                direct,
                hedge,
                cache: cache?,
                rules: rules?,
                key: key?,
                trust_traceparent,
            })
        })
    }

    fn hosts(&mut self, site: &str, item: &Item<'_>) -> Option<Vec<HostPattern>> {
        let written = item.list()?;
        if written.is_empty() {
            item.problem(
                "is empty",
                "name at least one host, or `\"*\"` for all others",
            );
            return None;
        }
        each(&written, |item| {
            let host = item.parse(hosts::host_pattern)?;
            if let Some((other, place)) = self.hosts.get(&host) {
                let shown = item.text().map(shown).unwrap_or_default();
                item.problem(
                    format!(
                        "{shown} already belongs to site `{other}`{}",
                        place.line_note()
                    ),
                    "remove one of the two",
                );
                return None;
            }
            let claim = (site.to_owned(), item.place().clone());
            self.hosts.insert(host.clone(), claim);
            Some(host)
        })
    }

    fn pool_of(&mut self, item: &Item<'_>) -> Option<Arc<OriginPool>> {
        let name = item.text()?;
        self.pools_used.insert(name.to_owned());
        if let Some(pool) = self.pools.get(name) {
            return pool.clone();
        }
        let names = self.pools.keys().map(String::as_str);
        let mend = match values::nearest(name, names) {
            Some(near) => format!("did you mean `{near}`?"),
            None => "add a pool of that name, or name one there is".to_owned(),
        };
        item.problem(format!("no pool is named {}", shown(name)), mend);
        None
    }
}

const TOPOLOGIES: [(&str, Topology); 5] = [
    ("hash", Topology::Hash),
    ("single", Topology::Single),
    ("auto", Topology::Auto),
    ("regional", Topology::Regional),
    ("off", Topology::Off),
];

const FALLBACKS: [(&str, Fallback); 2] = [("stale", Fallback::Stale), ("direct", Fallback::Direct)];

/// Fetches at once, and requests that wait for one. More would be no bound.
const PLACES_MAX: u64 = 65_536;

fn pool_places(table: &mut Table<'_>) -> Places {
    let default = Places::pool();
    Places {
        in_flight_max: table.whole("in_flight_max", default.in_flight_max, 1..=PLACES_MAX),
        queue_max: table.whole("queue_max", default.queue_max, 0..=PLACES_MAX),
        wait_ms: table.whole("queue_wait_ms", default.wait_ms, settings::WAIT_MS),
    }
}

fn direct(table: &mut Table<'_>) -> Places {
    let default = Places::direct();
    Places {
        in_flight_max: table.whole(
            "direct_in_flight_max",
            default.in_flight_max,
            1..=PLACES_MAX,
        ),
        queue_max: table.whole("direct_queue_max", default.queue_max, 0..=PLACES_MAX),
        wait_ms: table.whole("direct_wait_ms", default.wait_ms, settings::WAIT_MS),
    }
}

fn fallbacks(item: &Item<'_>) -> Option<Vec<Fallback>> {
    let written = item.list()?;
    let ways: Vec<Fallback> = each(&written, |item| item.choice(&FALLBACKS))?;
    for (at, way) in ways.iter().enumerate() {
        if ways.iter().take(at).any(|earlier| earlier == way) {
            item.problem(
                "names a way twice",
                "name each way once, in the order to try",
            );
            return None;
        }
    }
    Some(ways)
}

fn checked_name(name: &str, item: &Item<'_>) -> Option<String> {
    match values::name(name) {
        Ok(name) => Some(name),
        Err(fault) => {
            item.problem(fault.what, fault.mend);
            None
        }
    }
}
