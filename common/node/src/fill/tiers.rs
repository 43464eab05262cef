//! Whom a node asks for a site: which tiers, in whose order.
//!
//! ```text
//!   edge ──▶ upper tier ──▶ origin
//!   edge ──▶ regional tier ──▶ upper tier ──▶ origin      `regional`
//! ```
//!
//! What must stay true:
//!
//! * A chain has three tiers at most. An upper tier asks upper tiers of its own for an
//!   edge alone; whatever came over another tier it takes to the origin, so that no
//!   files, however wrong, make a circle of tiers that wait for each other.
//! * Who is nearest is decided by fetches from the origin. What an upper tier had stored
//!   says nothing about its way to there.

use std::collections::{BTreeMap, HashMap};

use config::Topology as Wanted;
use control::KeyDigest;
use observe::{Event, Outcome};
use parking_lot::Mutex;
use serde_json::{Value, json};
use smallvec::SmallVec;
use topology::{Auto, AutoRules, Load, State, Tier, Topology};

use super::flight::Onward;
use super::reach::{Reached, Route};
use crate::request::Request;
use crate::state::Node;
use crate::upstream::Target;

/// Requests that any upper tier may have under way, whatever its share. Of fewer, chance
/// alone brings one a quarter more than its share: the square root of 16 is 4.
const LOAD_FREE: u32 = 16;

/// Whether misses of a site go over upper tiers here, to which `hop` tiers came before.
pub(crate) fn asks_tiers(node: &Node, site: &config::Site, hop: u8) -> bool {
    let may = match site.topology {
        Wanted::Off => false,
        _ if node.is_edge() => true,
        Wanted::Regional => hop <= 1,
        Wanted::Single | Wanted::Hash | Wanted::Auto => false,
    };
    may && !node.upstreams.uppers.is_empty()
}

/// Where a fill for a request goes from here.
pub(crate) fn onward(node: &Node, request: &Request) -> Onward {
    if !asks_tiers(node, &request.site.config, request.hop()) {
        return Onward::Origin;
    }
    Onward::Tiers {
        told_ms: match request.tier {
            Some(_) => node.purged.last(request.digest()),
            None => 0,
        },
    }
}

/// What a site's topology is decided by, held for as long as that is asked.
#[derive(Debug)]
pub(super) struct Plan {
    wanted: Wanted,
    asks_tiers: bool,
    asker: Option<Tier>,
    origin: [u8; 16],
    /// Requests under way at each upper tier, where their number is bounded.
    requests: SmallVec<[u32; 8]>,
    load_percent: Option<u32>,
    auto: Auto,
}

impl Plan {
    pub(super) fn of(node: &Node, route: &Route) -> Self {
        let site = &route.site.config;
        let load_percent = node.config.limits.upper_load_percent_max;
        let requests = match load_percent {
            Some(_) => node.upstreams.requests(),
            None => SmallVec::new(),
        };
        Self {
            wanted: site.topology,
            asks_tiers: asks_tiers(node, site, route.hop),
            asker: (!node.is_edge()).then_some(Tier::Regional),
            origin: KeyDigest::of(site.pool.name.as_bytes()).0,
            requests,
            load_percent,
            auto: match site.topology {
                Wanted::Auto => node.nearest.of(&site.pool.name),
                _ => Auto::new(AutoRules::default(), 0),
            },
        }
    }

    pub(super) fn topology(&self) -> Topology<'_> {
        if !self.asks_tiers {
            return Topology::Off;
        }
        let load = self.load_percent.map(|percent| Load {
            requests: &self.requests,
            percent,
            free: LOAD_FREE,
        });
        let origin = &self.origin;
        match self.wanted {
            Wanted::Off => Topology::Off,
            Wanted::Single => Topology::Single { origin },
            Wanted::Hash => load.map_or(Topology::Hash, Topology::Bounded),
            Wanted::Regional => Topology::Regional {
                asker: self.asker,
                load,
            },
            Wanted::Auto => Topology::Auto {
                auto: &self.auto,
                origin,
            },
        }
    }
}

/// What is known of the way to each origin over each upper tier, by the pool's name.
/// There are as many as the operator's files have named.
#[derive(Debug, Default)]
pub(crate) struct Nearest {
    pools: Mutex<HashMap<String, Auto, ahash::RandomState>>,
    uppers: usize,
}

impl Nearest {
    /// Among so many upper tiers, of which nothing is known.
    pub(crate) fn among(uppers: usize) -> Self {
        Self {
            pools: Mutex::default(),
            uppers,
        }
    }

    /// What is known of the origin of a pool.
    fn of(&self, pool: &str) -> Auto {
        self.with(pool, |auto| auto.clone())
    }

    /// Everything that is known, by the names of the pools.
    fn all(&self) -> BTreeMap<String, Auto> {
        let pools = self.pools.lock();
        let all = pools.iter();
        all.map(|(pool, auto)| (pool.clone(), auto.clone()))
            .collect()
    }

    fn with<T>(&self, pool: &str, act: impl FnOnce(&mut Auto) -> T) -> T {
        let mut pools = self.pools.lock();
        if let Some(auto) = pools.get_mut(pool) {
            return act(auto);
        }
        let unknown = Auto::new(AutoRules::default(), self.uppers);
        act(pools.entry(pool.to_owned()).or_insert(unknown))
    }
}

/// Now and then sends a request to another upper tier than the nearest, which is then
/// the next way: how else would anybody know that it has become the nearest. What it
/// costs is a fetch of what the nearest has stored.
pub(super) fn measure_another(node: &Node, route: &Route, targets: &mut [Target], now_ms: u64) {
    let site = &route.site.config;
    let (Wanted::Auto, Some(Target::Upper(first))) = (site.topology, targets.first()) else {
        return;
    };
    if route.only_if_cached || route.is_retry {
        return;
    }
    let states = node.upstreams.upper_states(now_ms);
    let reaches = node.upstreams.reaches(&site.pool.name, now_ms);
    let is_up = |at: usize| {
        let of = |states: &[State]| states.get(at) == Some(&State::Up);
        of(&states) && of(&reaches)
    };
    // Whose trial this is goes there.
    if !is_up(*first) {
        return;
    }
    let may = |at: usize| is_up(at) && !node.upstreams.candidates.stands_by(at);
    let begin = |auto: &mut Auto| auto.begin_measuring(now_ms, may);
    let Some(other) = node.nearest.with(&site.pool.name, begin) else {
        return;
    };
    let is_other = |target: &Target| matches!(target, Target::Upper(at) if *at == other);
    if let Some(found) = targets.iter().position(is_other)
        && let Some(ahead) = targets.get_mut(..=found)
    {
        ahead.rotate_right(1);
    }
}

/// Takes note of an answer that took `us` microseconds, its connection included.
pub(super) fn measured(node: &Node, route: &Route, target: &Target, reached: &Reached, us: u64) {
    let site = &route.site.config;
    let (Wanted::Auto, Target::Upper(at)) = (site.topology, target) else {
        return;
    };
    let Some(tier) = &reached.tier else { return };
    if !asked_origin(&tier.outcome) || node.upstreams.candidates.stands_by(*at) {
        return;
    }
    let connect_us = node.upstreams.connect_us(*at);
    let first_byte_us = us.saturating_sub(reached.response.connect_us);
    let now_ms = node.now_ms();
    let pool = &site.pool.name;
    let (changed, auto) = node.nearest.with(pool, |auto| {
        let changed = auto.measure(*at, connect_us, first_byte_us, now_ms);
        (changed, changed.then(|| auto.clone()))
    });
    let metrics = node.observer.metrics();
    if let (true, Some(auto)) = (changed, auto) {
        let peer = target.name(node);
        let detail = why(node, pool, &auto);
        node.observer
            .event(Event::NearestChanged { peer, detail }, now_ms);
        for upper in 0..node.upstreams.uppers.len() {
            let name = Target::Upper(upper).name(node);
            metrics.nearest(pool, &name, auto.first() == Some(upper));
        }
    }
}

/// Whether an upper tier that says so of its answer waited for the origin alone: not for
/// somebody else's fetch, which had begun before.
fn asked_origin(outcome: &str) -> bool {
    [Outcome::Miss, Outcome::Revalidated, Outcome::Bypass]
        .iter()
        .any(|one| one.as_str() == outcome)
}

/// The choice for a pool, in a sentence.
fn why(node: &Node, pool: &str, auto: &Auto) -> String {
    let Some(first) = auto.first() else {
        return format!("for {pool} nobody was measured often enough, so that it goes by its name");
    };
    let took = |at: usize| {
        let name = Target::Upper(at).name(node);
        match auto.time_us(at) {
            Some(us) => format!("{name} takes {:.1} ms", us as f64 / 1_000.0),
            None => format!("{name} was measured {} times", auto.samples(at)),
        }
    };
    let others = (0..node.upstreams.uppers.len()).filter(|at| *at != first);
    let others: Vec<String> = others.map(took).collect();
    let next = match auto.runner_up() {
        Some(next) => format!("; next is {}", Target::Upper(next).name(node)),
        None => String::new(),
    };
    let rest = match others.is_empty() {
        true => String::new(),
        false => format!("; {}", others.join(", ")),
    };
    format!("for {pool} {}{rest}{next}", took(first))
}

/// The upper tiers and what is known of their ways to origins, for an operator.
pub(crate) fn view(node: &Node, now_ms: u64) -> Value {
    let ms = |us: u64| us as f64 / 1_000.0;
    let states = node.upstreams.upper_states(now_ms);
    let requests = node.upstreams.requests();
    let uppers = &node.upstreams.uppers;
    let tiers = uppers.iter().zip(states).zip(requests).enumerate();
    let tiers = tiers.map(|(at, ((upper, state), in_flight))| {
        json!({
            "name": upper.config.name,
            "tier": match upper.config.tier {
                config::Tier::Upper => "upper",
                config::Tier::Regional => "regional",
            },
            "weight": upper.config.weight,
            "state": match state {
                State::Up => "up",
                State::Warming { .. } => "warming",
                State::Trial => "in trial",
                State::Down { .. } => "down",
            },
            "in_flight": in_flight,
            "connect_ms": ms(node.upstreams.connect_us(at)),
        })
    });
    let name = |at: usize| uppers.get(at).map(|upper| upper.config.name.as_str());
    let known = node.nearest.all();
    let nearest = known.iter().map(|(pool, auto)| {
        let measured = uppers.iter().enumerate().map(|(at, upper)| {
            json!({
                "name": upper.config.name,
                "ms": auto.time_us(at).map(ms),
                "samples": auto.samples(at),
            })
        });
        json!({
            "pool": pool,
            "nearest": auto.first().and_then(name),
            "next": auto.runner_up().and_then(name),
            "why": why(node, pool, auto),
            "measured": measured.collect::<Vec<_>>(),
        })
    });
    json!({
        "upper_tiers": tiers.collect::<Vec<_>>(),
        "nearest": nearest.collect::<Vec<_>>(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_fetch_from_the_origin_is_a_measurement() {
        for outcome in Outcome::ALL {
            let counts = matches!(
                outcome,
                Outcome::Miss | Outcome::Revalidated | Outcome::Bypass
            );
            assert_eq!(asked_origin(outcome.as_str()), counts, "{outcome:?}");
        }
        assert!(!asked_origin("an-outcome-of-later"));
    }
}
