//! What the demo tells the person at the terminal: what listens where, and what to
//! try first.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::Path;

use super::plan::{Plan, PlannedNode};

/// Why formatting into a string is expected to succeed.
const STRING: &str = "writing to a string cannot fail";

/// The table of listeners and three commands to try.
pub(super) fn running(plan: &Plan, origin: Option<SocketAddr>) -> String {
    let mut text = "Headwater demo\n\n".to_owned();
    for node in plan.edges() {
        row(&mut text, &node, "http");
    }
    for node in plan.uppers() {
        row(&mut text, &node, if plan.mtls { "https" } else { "http" });
    }
    match (origin, &plan.origin) {
        (Some(address), _) => writeln!(text, "  origin    http://{address}").expect(STRING),
        (None, Some(origin)) => {
            let scheme = if origin.tls { "https" } else { "http" };
            writeln!(text, "  origin    {scheme}://{}", origin.server).expect(STRING);
        }
        (None, None) => text.push_str("  origins   as the sites file names them\n"),
    }
    text.push_str("\nTry, and read Cache-Status:\n");
    text.push_str(&commands(plan, origin.is_some()));
    text.push_str("\nCtrl-C stops it.\n");
    text
}

fn row(text: &mut String, node: &PlannedNode, scheme: &str) {
    let (name, address, admin) = (node.name(), node.address(), node.admin_address());
    writeln!(
        text,
        "  {name:<9} {scheme}://{address:<16}  admin http://{admin}/metrics"
    )
    .expect(STRING);
}

/// A miss and then a hit, the other edge's hit at the upper tier, and a range.
fn commands(plan: &Plan, demo_site: bool) -> String {
    let nodes: Vec<_> = plan.edges().map(|edge| edge.address()).collect();
    let (Some(first), Some(last)) = (nodes.first(), nodes.last()) else {
        return String::new();
    };
    // Another origin's paths are not known; its front page is the best guess.
    let (page, large) = if demo_site {
        ("photo.png", "large")
    } else {
        ("", "")
    };
    let elsewhere = match (nodes.len(), plan.uppers) {
        (1, _) => "a hit, by now",
        (_, 0) => "another edge: a miss of its own",
        _ => "another edge: a hit at the upper tier",
    };
    format!(
        "  curl -s -o /dev/null -D - http://{first}/{page}    # twice: a miss, then a hit\n\
        \x20 curl -s -o /dev/null -D - http://{last}/{page}    # {elsewhere}\n\
        \x20 curl -s -o /dev/null -D - -r 0-99 http://{first}/{large}    # a hundred bytes of something large\n"
    )
}

/// What was written, and how to run it.
pub(super) fn ejected(plan: &Plan, origin: Option<SocketAddr>, folder: &Path) -> String {
    let folder = folder.display();
    let mut text = format!(
        "Wrote a topology to {folder}. Run each of these in a terminal of its own, in any order:\n"
    );
    if let Some(address) = origin {
        writeln!(text, "  headwater origin --listen {address}").expect(STRING);
    }
    for node in plan.uppers() {
        writeln!(text, "  upper-tier --config {folder}/{}.toml", node.name()).expect(STRING);
    }
    for node in plan.edges() {
        writeln!(text, "  edge --config {folder}/{}.toml", node.name()).expect(STRING);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_names_every_listener_and_the_commands_fit_the_topology() {
        let plan = Plan::default();
        let text = running(&plan, Some(plan.origin_address()));
        for port in [
            8081, 8082, 8083, 8091, 8092, 8000, 9081, 9082, 9083, 9091, 9092,
        ] {
            assert!(
                text.contains(&format!("http://127.0.0.1:{port}")),
                "{port} in {text}"
            );
        }
        assert_eq!(text.matches("curl ").count(), 3);
        assert!(text.contains(
            "http://127.0.0.1:8083/photo.png    # another edge: a hit at the upper tier\n"
        ));

        let plan = Plan {
            origin: Some("https://shop.example".parse().unwrap()),
            mtls: true,
            ..plan
        };
        let text = running(&plan, None);
        assert!(
            text.contains("origin    https://shop.example:443\n"),
            "{text}"
        );
        assert!(text.contains("https://127.0.0.1:8091"), "{text}");
        assert!(!text.contains("photo.png"), "{text}");
    }

    #[test]
    fn an_ejected_topology_says_how_to_run_it() {
        let plan = Plan {
            edges: 1,
            uppers: 1,
            ..Plan::default()
        };
        assert_eq!(
            ejected(&plan, Some(plan.origin_address()), Path::new("topology")),
            "Wrote a topology to topology. Run each of these in a terminal of its own, in any order:\n\
            \x20 headwater origin --listen 127.0.0.1:8000\n\
            \x20 upper-tier --config topology/upper-1.toml\n\
            \x20 edge --config topology/edge-1.toml\n"
        );
    }
}
