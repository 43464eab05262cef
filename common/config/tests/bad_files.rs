//! Files that are wrong, each with exactly what is said about it.
//!
//! `tests/bad/NAME.toml` is the file, `tests/bad/NAME.txt` what an operator
//! reads. The beginning of the name says which reader the file meets.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use config::{Problems, Role, parse_node, parse_sites};

#[test]
fn every_problem_is_named_with_its_line_and_mend() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/bad");
    let names: BTreeSet<_> = fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.ends_with(".toml"))
        .collect();
    assert!(!names.is_empty());
    for name in names {
        let text = fs::read_to_string(folder.join(&name)).unwrap();
        let expected = fs::read_to_string(folder.join(name.replace(".toml", ".txt"))).unwrap();
        let said = problems(&text, &name).to_string();
        assert!(
            said.trim_end() == expected.trim_end(),
            "{name}: expected\n{expected}\nbut it says\n{said}"
        );
    }
}

fn problems(text: &str, name: &str) -> Problems {
    let file = Path::new(name);
    if name.starts_with("edge") {
        parse_node(text, file, Role::Edge).unwrap_err()
    } else if name.starts_with("upper-tier") {
        parse_node(text, file, Role::UpperTier).unwrap_err()
    } else {
        parse_sites(text, file).unwrap_err()
    }
}
