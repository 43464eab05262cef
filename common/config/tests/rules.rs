//! Rules of a site: what they say, what they take from its `cache`, and where they hold.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::Path;

use config::{Pattern, QueryRule, Rule, SetCookie, Site, check, parse_sites};

/// A site with a cache of its own and those rules.
fn text(rules: &str) -> String {
    format!(
        "[pools.a]\nservers = [\"a:1\"]\n\
         [sites.a]\nhosts = [\"*\"]\npool = \"a\"\n\
         [sites.a.cache]\ndefault_ttl_s = 60\nttl_max_s = 3600\nnegative_ttl_s = 5\n\
         stale_if_error_s = 600\norigin_fields = \"ignore\"\n\
         targeted = [\"Own-Cache-Control\", \"cdn-cache-control\"]\n{rules}"
    )
}

fn site(rules: &str) -> Site {
    let sites = parse_sites(&text(rules), Path::new("sites.toml")).unwrap();
    Site::clone(sites.named("a").unwrap())
}

const RULES: &str = r#"
[[sites.a.rules]]
path = "/api/*"
bypass = true

[[sites.a.rules]]
path = "/static/*"
status = [404, 410]
ttl_s = 10

[[sites.a.rules]]
path = "/static/*"
ttl_s = 86400
ttl_max_s = 86400
default_ttl_s = 7
negative_ttl_s = 0
heuristic = false
stale_while_revalidate_s = 30
stale_if_error_s = 0
set_cookie = "strip"
bypass_cookies = ["sid", "wp_*"]
origin_fields = "honour"
request_directives = "ignore"

[[sites.a.rules]]
path = "/"
bypass = false
"#;

#[test]
fn every_key_of_a_rule_arrives() {
    let site = site(RULES);
    let [api, missing, fixed, home] = &site.rules[..] else {
        panic!("four rules")
    };
    assert!(api.bypass && api.path == Pattern::Prefix("/api/".to_owned()));
    assert_eq!(missing.status, [404, 410]);
    assert_eq!((missing.ttl_ms, missing.bypass), (Some(10_000), false));

    assert_eq!(fixed.path, Pattern::Prefix("/static/".to_owned()));
    assert!(fixed.status.is_empty());
    assert_eq!(fixed.ttl_ms, Some(86_400_000));
    let cache = &fixed.cache;
    let times = [
        cache.ttl_max_ms,
        cache.default_ttl_ms,
        cache.negative_ttl_ms,
        Some(cache.stale_while_revalidate_ms),
        Some(cache.stale_if_error_ms),
    ];
    assert_eq!(times, [86_400_000, 7_000, 0, 30_000, 0].map(Some));
    assert_eq!(cache.set_cookie, SetCookie::Strip);
    let cookies = [
        Pattern::Exact("sid".to_owned()),
        Pattern::Prefix("wp_".to_owned()),
    ];
    assert_eq!(cache.bypass_cookies, cookies);
    assert!(!cache.heuristic && cache.honour_origin_fields);
    assert!(!cache.honour_request_directives);

    assert_eq!(home.path, Pattern::Exact("/".to_owned()));
    assert!(!home.bypass);
}

#[test]
fn what_a_rule_leaves_out_is_as_in_its_sites_cache() {
    let site = site(RULES);
    assert!(!site.cache.honour_origin_fields);
    assert_eq!(
        site.cache.targeted,
        ["own-cache-control", "cdn-cache-control"]
    );
    assert_eq!(site.cache.negative_ttl_ms, Some(5_000));
    let as_site = |rule: &Rule| format!("{:?}", rule.cache) == format!("{:?}", site.cache);
    let taken: Vec<_> = site.rules.iter().map(as_site).collect();
    assert_eq!(taken, [true, true, false, true]);
}

#[test]
fn a_rule_may_say_what_counts_of_the_query() {
    let rules = r#"
        [[sites.a.rules]]
        path = "/as-site"
        ttl_s = 1
        [[sites.a.rules]]
        path = "/*"
        status = [404]
        ttl_s = 1
        [[sites.a.rules]]
        path = "/static/*"
        query = "ignore"
        [[sites.a.rules]]
        path = "/search"
        query = { keep = ["q"] }
        query_sort = false
        [sites.a.key]
        query = { drop = ["utm_*"] }
        query_sort = true
    "#;
    let site = site(rules);
    let dropped = QueryRule::Drop(vec!["utm_*".to_owned()]);
    let table = [
        ("/", (&dropped, true)),
        ("/as-site", (&dropped, true)),
        ("/static/a", (&QueryRule::Ignore, true)),
        ("/search", (&QueryRule::Keep(vec!["q".to_owned()]), false)),
    ];
    for (path, expected) in table {
        assert_eq!(site.key.query_on(path), expected, "{path}");
    }
}

#[test]
fn where_no_rule_speaks_of_the_query_none_is_asked() {
    assert!(site(RULES).key.query_by_path.is_empty());
}

#[test]
fn paths_are_matched_exactly_or_by_their_beginning() {
    let pattern = |path: &str| {
        let rules = format!("[[sites.a.rules]]\npath = {path:?}\nbypass = true\n");
        site(&rules).rules[0].path.clone()
    };
    let table = [
        ("/a", "/a", true),
        ("/a", "/a/", false),
        ("/a", "/ab", false),
        ("/a", "/A", false),
        ("/a*", "/a", true),
        ("/a*", "/ab/c", true),
        ("/a/*", "/a/", true),
        ("/a/*", "/a", false),
        ("/*", "/", true),
        ("/*", "*", false),
        ("/a%2Fb", "/a%2Fb", true),
        ("/a%2Fb", "/a/b", false),
    ];
    for (path, asked, expected) in table {
        assert_eq!(pattern(path).matches(asked), expected, "{path} {asked}");
    }
    let covered = [
        ("/*", "/a", true),
        ("/*", "/a*", true),
        ("/a*", "/a", true),
        ("/a*", "/a*", true),
        ("/a", "/a*", false),
        ("/a", "/a", true),
        ("/a*", "/b*", false),
        ("/ab*", "/a*", false),
    ];
    for (wide, narrow, expected) in covered {
        let covers = pattern(wide).covers(&pattern(narrow));
        assert_eq!(covers, expected, "{wide} {narrow}");
    }
}

#[test]
fn rules_that_are_never_reached_are_warned_of() {
    let rule = |path: &str, rest: &str| format!("[[sites.a.rules]]\npath = {path:?}\n{rest}\n");
    let ttl = "ttl_s = 1";
    let (missing, both) = (
        "status = [404]\nttl_s = 1",
        "status = [404, 500]\nttl_s = 1",
    );
    let table = [
        (["/a/*", ttl], ["/a/b", ttl], true),
        (["/a/*", ttl], ["/a/b", missing], true),
        (["/a/b", ttl], ["/a/*", ttl], false),
        (["/a/*", missing], ["/a/*", ttl], false),
        (["/a/*", missing], ["/a/*", both], false),
        (["/a/*", both], ["/a/*", missing], true),
        (["/a/*", ttl], ["/b/*", ttl], false),
    ];
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("sites.toml");
    for ([path, rest], [later_path, later_rest], warned) in table {
        let rules = rule(path, rest) + &rule(later_path, later_rest);
        fs::write(&file, text(&rules)).unwrap();
        let report = check(&file, &|_| None);
        assert_eq!(report.problems, [], "{rules}");
        let keys: Vec<_> = report.warnings.iter().map(|said| &said.key).collect();
        let expected: &[&str] = if warned { &["sites.a.rules[1]"] } else { &[] };
        assert_eq!(keys, expected, "{rules}");
    }
}
