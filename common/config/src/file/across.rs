//! What no single file shows: whether a node and the sites fit together.

use super::hosts;
use super::sites::Written;
use crate::model::{Fallback, Node, Role, Sites, Topology};
use crate::problem::Notes;

pub(crate) fn check(node: &Node, sites: &Sites, written: &Written, notes: &mut Notes) {
    if node.role == Role::Edge && node.upper_tiers.is_empty() {
        sites_without_a_way(node, sites, written, notes);
    }
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
