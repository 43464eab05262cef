//! Whatever stands in a file, reading it ends with a value or with problems.
#![allow(clippy::unwrap_used)]

use std::path::Path;

use config::{Problems, Role, parse_node, parse_sites};
use proptest::prelude::*;

const GOOD: [&str; 2] = [
    include_str!("bad/sites.toml"),
    include_str!("bad/edge.toml"),
];

/// Reads `text` as every kind of file. An answer is a value or some problem.
fn read(text: &str) {
    let file = Path::new("any.toml");
    let answers = [
        parse_sites(text, file).err(),
        parse_node(text, file, Role::Edge).err(),
        parse_node(text, file, Role::UpperTier).err(),
    ];
    let lines = text.split('\n').count();
    for Problems(problems) in answers.into_iter().flatten() {
        assert!(!problems.is_empty());
        for problem in problems {
            assert!(problem.line.is_none_or(|line| (1..=lines).contains(&line)));
            assert_eq!(problem.to_string().lines().count(), 1, "{problem}");
        }
    }
}

/// Words of the files, so that arbitrary text gets past the first line.
fn word() -> impl Strategy<Value = String> {
    prop_oneof![
        Just("[sites.a]\n".to_owned()),
        Just("[sites.a.cache]\n".to_owned()),
        Just("[[listen]]\n".to_owned()),
        Just("[[upper_tier]]\n".to_owned()),
        Just("[keys]\n".to_owned()),
        Just("pools = { a = { servers = [".to_owned()),
        Just("hosts".to_owned()),
        Just("address".to_owned()),
        Just("bytes_max".to_owned()),
        Just("query".to_owned()),
        Just("tls".to_owned()),
        Just(" = ".to_owned()),
        Just("\"*.[::1]:0\"".to_owned()),
        Just("\"\\u0000\\n\\u009b\"".to_owned()),
        Just("'\u{85}\u{2028}'".to_owned()),
        Just("\n".to_owned()),
        Just("\r\n".to_owned()),
        Just("{".to_owned()),
        Just("}]".to_owned()),
        any::<i64>().prop_map(|number| number.to_string()),
        any::<f64>().prop_map(|number| number.to_string()),
        ".{0,8}",
    ]
}

proptest! {
    #[test]
    fn arbitrary_text_is_answered(text in "\\PC{0,200}") {
        read(&text);
    }

    #[test]
    fn text_of_familiar_words_is_answered(words in proptest::collection::vec(word(), 0..40)) {
        read(&words.concat());
    }

    #[test]
    fn a_file_with_one_slip_is_answered(
        which in 0..GOOD.len(),
        at in any::<prop::sample::Index>(),
        slip in word(),
        removed in 0..3usize,
    ) {
        let chars: Vec<char> = GOOD[which].chars().collect();
        let at = at.index(chars.len());
        let before: String = chars[..at].iter().collect();
        let after: String = chars[at..].iter().skip(removed).collect();
        read(&format!("{before}{slip}{after}"));
    }

    #[test]
    fn arbitrary_values_are_answered(
        value in prop_oneof![".{0,40}".prop_map(|text| format!("{text:?}")), word()],
    ) {
        read(&format!("pools = {{ a = {{ servers = [{value}], host_header = {value}, tls = {value} }} }}\n"));
        read(&format!("[sites.{value}]\nhosts = [{value}]\npool = {value}\nkey = {{ query = {value}, headers = [{value}] }}\n"));
        read(&format!("name = {value}\ntrusted_proxies = [{value}]\n[[listen]]\naddress = {value}\n[store]\nbytes_max = {value}\n[telemetry]\notlp_endpoint = {value}\naccess_log = {value}\n"));
        read(&format!("{value} = {value}\n"));
    }
}

#[test]
fn deep_nesting_is_answered() {
    read(&format!("a = {}", "[".repeat(100_000)));
    read(&format!("a = {}", "{a=".repeat(100_000)));
    read(&"a.".repeat(100_000));
}
