//! `docs/operations/configuration.md` lists the keys that are read, all of them
//! and no others, with the defaults that hold.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::path::Path;

use config::{Node, Role, parse_node, parse_sites};

const PAGE: &str = include_str!("../../../docs/operations/configuration.md");

const NODE: &str = "role = \"edge\"\nname = \"e\"\nsites = \"s\"\n\
                    [[listen]]\naddress = \"127.0.0.1:0\"\n";

/// The rows of the table below a heading: key and default, as they are printed.
fn rows(heading: &str) -> Vec<(String, String)> {
    let section = PAGE
        .split("\n#")
        .find(|section| section.lines().next().unwrap().trim_matches(['#', ' ']) == heading)
        .unwrap_or_else(|| panic!("no section {heading}"));
    let rows = section.lines().filter(|line| line.starts_with("| `"));
    rows.map(|row| {
        let mut cells = row.split('|').skip(1).map(str::trim);
        let key = cells.next().unwrap().trim_matches('`').to_owned();
        (key, cells.next().unwrap().to_owned())
    })
    .collect()
}

/// The keys a table knows, learned from what it says to one it does not know.
fn known(text: &str, sites: bool) -> BTreeSet<String> {
    let file = Path::new("any.toml");
    let problems = if sites {
        parse_sites(text, file).unwrap_err()
    } else {
        parse_node(text, file, Role::Edge).unwrap_err()
    };
    let refused = problems
        .0
        .iter()
        .find(|problem| problem.key.ends_with("qqqqqqqqqq"));
    let list = refused
        .unwrap()
        .mend
        .strip_prefix("remove it, or use one of ");
    let keys = list.unwrap().split(", ");
    keys.map(|key| key.trim_matches('`').to_owned()).collect()
}

#[test]
fn every_key_has_its_row() {
    let sites = [
        ("`[pools.NAME]`", "[pools.a]"),
        ("`[sites.NAME]`", "[sites.a]"),
        ("`[sites.NAME.cache]`", "[sites.a.cache]"),
        ("`[sites.NAME.key]`", "[sites.a.key]"),
        ("`[[sites.NAME.rules]]`", "[[sites.a.rules]]"),
        ("TLS towards an upstream", "[pools.a.tls]"),
    ];
    let node = [
        ("At the top of the file", ""),
        ("`[[listen]]`", "[[listen]]"),
        ("`[[listen]]` with `tls`", "[[listen]]\n[listen.tls]"),
        ("`[admin]`", "[admin]"),
        ("`[[upper_tier]]`", "[[upper_tier]]"),
        (
            "TLS towards an upstream",
            "[[upper_tier]]\n[upper_tier.tls]",
        ),
        ("`[keys]`", "[keys]"),
        ("`[store]`", "[store]"),
        ("`[limits]`", "[limits]"),
        ("`[timeouts]`", "[timeouts]"),
        ("`[health]`", "[health]"),
        ("`[telemetry]`", "[telemetry]"),
    ];
    let sites = sites.map(|(heading, table)| (heading, table, true));
    let node = node.map(|(heading, table)| (heading, table, false));
    for (heading, table, sites) in sites.into_iter().chain(node) {
        let documented: BTreeSet<_> = rows(heading).into_iter().map(|(key, _)| key).collect();
        let known = known(&format!("{table}\nqqqqqqqqqq = 1\n"), sites);
        assert_eq!(documented, known, "{heading}");
    }
}

#[test]
fn the_defaults_are_those_that_hold() {
    let mut written = NODE.to_owned();
    for table in ["store", "limits", "timeouts", "health", "telemetry"] {
        written += &format!("[{table}]\n");
        for (key, default) in rows(&format!("`[{table}]`")) {
            if default != "none" {
                written += &format!("{key} = {}\n", default.trim_matches('`'));
            }
        }
    }
    assert_eq!(format!("{:?}", node(&written)), format!("{:?}", node(NODE)));
}

fn node(text: &str) -> Node {
    let file = parse_node(text, Path::new("edge.toml"), Role::Edge).unwrap();
    file.node
}

#[test]
fn the_defaults_of_a_site_are_those_that_hold() {
    let pool = "[pools.a]\nservers = [\"a:1\"]\n";
    let site = "[sites.a]\nhosts = [\"*\"]\npool = \"a\"\n";
    let base = format!("{pool}{site}");
    let mut written = String::new();
    let tables = [
        ("`[pools.NAME]`", pool),
        ("`[sites.NAME]`", site),
        ("`[sites.NAME.cache]`", "[sites.a.cache]\n"),
        ("`[sites.NAME.key]`", "[sites.a.key]\n"),
    ];
    for (heading, table) in tables {
        written += table;
        for (key, default) in rows(heading) {
            if default.starts_with('`') {
                written += &format!("{key} = {}\n", default.trim_matches('`'));
            }
        }
    }
    let site = |text: &str| {
        let sites = parse_sites(text, Path::new("sites.toml")).unwrap();
        format!("{:?}", sites.all())
    };
    assert_eq!(site(&written), site(&base));
}

#[test]
fn the_examples_are_accepted() {
    let blocks: Vec<_> = PAGE
        .split("```toml\n")
        .skip(1)
        .map(|rest| rest.split("```").next().unwrap())
        .collect();
    let [sites, edge] = blocks[..] else {
        panic!("two examples")
    };
    parse_sites(sites, Path::new("sites.toml")).unwrap();
    node(edge);
}
