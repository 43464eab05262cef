//! What no single file shows: whether a node and the sites fit together.

use super::hosts;
use super::sites::Written;
use crate::model::{Fallback, Node, Role, Sites, Tier, Topology};
use crate::problem::{Notes, Place};

pub(crate) fn check(node: &Node, sites: &Sites, written: &Written, notes: &mut Notes) {
    if node.role == Role::Edge && node.upper_tiers.is_empty() {
        sites_without_a_way(node, sites, written, notes);
    }
    regional(node, sites, written, notes);
    pools_that_are_this_node(node, sites, written, notes);
}

/// Without upper tiers an edge goes straight to the origin, where the site
/// allows that.
fn sites_without_a_way(node: &Node, sites: &Sites, written: &Written, notes: &mut Notes) {
    for site in sites.all() {
        if site.topology == Topology::Off || site.fallback.contains(&Fallback::Direct) {
            continue;
        }
        let Some(place) = written.site_places.get(&site.name) else {
            continue;
        };
        notes.problems.push(place.problem(
            format!(
                "the edge `{}` has no upper tier, and may not go to this site's origin directly",
                node.name
            ),
            "add an `[[upper_tier]]` to the edge's file, or set `topology = \"off\"` or \
             `fallback = [\"stale\", \"direct\"]` here",
        ));
    }
}

/// Only warnings: what a node at another address is, its own file says. Misses travel
/// all the same, over fewer tiers than meant.
fn regional(node: &Node, sites: &Sites, written: &Written, notes: &mut Notes) {
    let has_regional = |tier: &Tier| node.upper_tiers.iter().any(|upper| upper.tier == *tier);
    let is_regional = |site: &&std::sync::Arc<crate::Site>| site.topology == Topology::Regional;
    let first = sites.all().iter().find(is_regional);
    let place = first.and_then(|site| written.site_places.get(&site.name));
    if node.role == Role::Edge
        && !node.upper_tiers.is_empty()
        && !has_regional(&Tier::Regional)
        && let Some(place) = place
    {
        notes.warnings.push(place.problem(
            format!(
                "is `regional`, and the edge `{}` has no regional tier: it asks its upper \
                 tiers as with `hash`",
                node.name
            ),
            "set `tier = \"regional\"` in an `[[upper_tier]]` of the edge's file",
        ));
    }
    if node.role == Role::UpperTier && !node.upper_tiers.is_empty() && first.is_none() {
        notes.warnings.push(Place::file(&node.sites_file).problem(
            format!(
                "has no site that is `regional`, so that the upper tier `{}` goes to every \
                 origin itself and asks none of its upper tiers",
                node.name
            ),
            "set `topology = \"regional\"` for a site, or remove the node's `[[upper_tier]]`",
        ));
    }
}

/// Only a warning: in another network the same address may be another machine.
fn pools_that_are_this_node(node: &Node, sites: &Sites, written: &Written, notes: &mut Notes) {
    let mut seen = Vec::new();
    for site in sites.all() {
        let pool = &site.pool;
        if seen.contains(&pool.name.as_str()) {
            continue;
        }
        seen.push(&pool.name);
        for (at, server) in pool.servers.iter().enumerate() {
            let own = node
                .listeners
                .iter()
                .find(|own| hosts::reaches(server, own.address));
            let place = written.server_places.get(&(pool.name.clone(), at));
            if let (Some(own), Some(place)) = (own, place) {
                notes.warnings.push(place.problem(
                    format!(
                        "is the node `{}` itself, which listens on {}",
                        node.name, own.address
                    ),
                    "write the address of an origin",
                ));
            }
        }
    }
}
