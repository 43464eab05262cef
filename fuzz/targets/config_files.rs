//! Files of operators: any text is read, or refused with a sentence.
#![no_main]

use std::path::Path;

use config::{Role, parse_node, parse_sites};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let file = Path::new("file.toml");
    let problems = [
        parse_sites(text, file).err(),
        parse_node(text, file, Role::Edge).err(),
        parse_node(text, file, Role::UpperTier).err(),
    ];
    for problems in problems.into_iter().flatten() {
        assert!(!problems.to_string().is_empty());
    }
});
