//! The policies of a site: its own, and one for every path pattern of its rules,
//! made before any request comes.
//!
//! Of two patterns that match one path, one covers the other. So the narrowest
//! pattern that matches a path stands for all that do, and its policy can be put
//! together beforehand from all of their rules. A request takes a number and
//! allocates nothing.

use std::cmp::Reverse;

use config::{Cache, Pattern, Rule};
use http_cache::{CookieName, Policy, StatusTimes, Times};

use crate::key;

/// All policies of one site.
#[derive(Debug)]
pub(crate) struct Policies {
    /// Where no rule matches.
    site: Policy,
    /// The narrowest pattern first.
    by_path: Vec<(Pattern, Policy)>,
}

/// Which policy of its site holds for a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ruling(Option<usize>);

impl Policies {
    /// Puts a site's policies together, of its `cache` and its rules.
    pub(crate) fn new(site: &Cache, rules: &[Rule]) -> Self {
        let mut patterns: Vec<&Pattern> = rules.iter().map(|rule| &rule.path).collect();
        patterns.sort_by_key(|pattern| match pattern {
            Pattern::Exact(path) => (Reverse(path.len()), false, path),
            Pattern::Prefix(path) => (Reverse(path.len()), true, path),
        });
        patterns.dedup();
        let policy_on = |pattern: &Pattern| {
            let rules = rules.iter().filter(|rule| rule.path.covers(pattern));
            policy(site, rules)
        };
        Self {
            site: policy(site, std::iter::empty()),
            by_path: patterns
                .into_iter()
                .map(|pattern| (pattern.clone(), policy_on(pattern)))
                .collect(),
        }
    }

    /// What holds for a request with that key. It goes by the path in the key, so
    /// that no spelling of a path escapes its rule and two tiers find the same.
    pub(crate) fn ruling(&self, key: &[u8]) -> Ruling {
        if self.by_path.is_empty() {
            return Ruling(None);
        }
        let path = key::path_and_query(key)
            .and_then(|path| path.split('?').next())
            .unwrap_or_default();
        let mut patterns = self.by_path.iter();
        Ruling(patterns.position(|(pattern, _)| pattern.matches(path)))
    }

    /// The policy of a ruling that was made here.
    pub(crate) fn get(&self, ruling: Ruling) -> &Policy {
        let found = ruling.0.and_then(|at| self.by_path.get(at));
        found.map_or(&self.site, |(_, policy)| policy)
    }
}

/// What `rules`, which all match, make of a site's own `cache`.
fn policy<'a>(site: &Cache, rules: impl Iterator<Item = &'a Rule>) -> Policy {
    let mut by_status = Vec::new();
    let mut whole = None;
    for rule in rules {
        if rule.status.is_empty() {
            whole = Some(rule);
            break;
        }
        by_status.push(StatusTimes {
            statuses: rule.status.iter().map(|status| *status..=*status).collect(),
            times: times(&rule.cache, rule.ttl_ms),
        });
    }
    let cache = whole.map_or(site, |rule| &rule.cache);
    by_status.extend(cache.negative_ttl_ms.map(|ttl_ms| negative(cache, ttl_ms)));
    Policy {
        bypass: whole.is_some_and(|rule| rule.bypass),
        bypass_cookies: cache.bypass_cookies.iter().map(cookie_name).collect(),
        times: times(cache, whole.and_then(|rule| rule.ttl_ms)),
        by_status,
        heuristic: cache.heuristic,
        honour_response_directives: cache.honour_origin_fields,
        targeted: cache.targeted.clone(),
        set_cookie: match cache.set_cookie {
            config::SetCookie::Bypass => http_cache::SetCookie::Bypass,
            config::SetCookie::Strip => http_cache::SetCookie::Strip,
            config::SetCookie::Store => http_cache::SetCookie::Store,
        },
        honour_request_directives: cache.honour_request_directives,
        normalise_accept_encoding: cache.normalise_accept_encoding,
        normalise_accept_language: cache.normalise_accept_language,
    }
}

fn cookie_name(pattern: &Pattern) -> CookieName {
    match pattern {
        Pattern::Exact(name) => CookieName::Exact(name.clone()),
        Pattern::Prefix(start) => CookieName::Prefix(start.clone()),
    }
}

fn times(cache: &Cache, ttl_ms: Option<u64>) -> Times {
    Times {
        ttl_ms,
        default_ttl_ms: cache.default_ttl_ms,
        ttl_max_ms: cache.ttl_max_ms,
        stale_while_revalidate_ms: cache.stale_while_revalidate_ms,
        stale_if_error_ms: cache.stale_if_error_ms,
    }
}

/// Negative caching: a time for errors that say nothing. None at all for those of
/// the server would still let them be stored, for validation, and is left out.
fn negative(cache: &Cache, ttl_ms: u64) -> StatusTimes {
    let mut statuses = vec![404..=404, 410..=410];
    if ttl_ms > 0 {
        statuses.push(500..=599);
    }
    StatusTimes {
        statuses,
        times: Times {
            default_ttl_ms: Some(ttl_ms),
            ..times(cache, None)
        },
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use http::StatusCode;
    use proptest::prelude::*;

    use super::*;

    const RULES: &str = r#"
        [pools.p]
        servers = ["127.0.0.1:1"]
        [sites.s]
        hosts = ["*"]
        pool = "p"
        [sites.s.cache]
        default_ttl_s = 1
        negative_ttl_s = 2
        [[sites.s.rules]]
        path = "/a/b/open"
        bypass = false
        [[sites.s.rules]]
        path = "/a/b/*"
        bypass = true
        [[sites.s.rules]]
        path = "/a/*"
        status = [404, 302]
        ttl_s = 3
        [[sites.s.rules]]
        path = "/a/c*"
        ttl_s = 4
        [[sites.s.rules]]
        path = "/*"
        status = [404, 418]
        default_ttl_s = 5
        [[sites.s.rules]]
        path = "/a/d"
        negative_ttl_s = 0
    "#;

    fn policies(text: &str) -> Policies {
        let sites = config::parse_sites(text, Path::new("sites.toml")).unwrap();
        let site = sites.named("s").unwrap();
        Policies::new(&site.cache, &site.rules)
    }

    fn key(path_and_query: &str) -> Vec<u8> {
        format!("s\0http\0h\0{path_and_query}\0").into_bytes()
    }

    /// `ttl` or `default_ttl` in seconds that a policy gives a status.
    fn seconds(policy: &Policy, status: u16) -> (Option<u64>, Option<u64>) {
        let times = policy.times(StatusCode::from_u16(status).unwrap());
        let seconds = |ms: Option<u64>| ms.map(|ms| ms / 1000);
        (seconds(times.ttl_ms), seconds(times.default_ttl_ms))
    }

    #[test]
    fn the_first_rule_that_matches_wins() {
        let policies = policies(RULES);
        let pinned = |ttl| (Some(ttl), Some(1));
        let default = |ttl| (None, Some(ttl));
        let table = [
            // path, bypass, times of 200, 302, 404, 410, 418
            ("/a/b/open", false, [1, 1, 2, 2, 1].map(default)),
            ("/a/b/open/", true, [1, 1, 2, 2, 1].map(default)),
            ("/a/b/", true, [1, 1, 2, 2, 1].map(default)),
            (
                "/a/b",
                false,
                [default(1), pinned(3), pinned(3), default(2), default(5)],
            ),
            (
                "/a/",
                false,
                [default(1), pinned(3), pinned(3), default(2), default(5)],
            ),
            (
                "/a/c",
                false,
                [pinned(4), pinned(3), pinned(3), default(2), pinned(4)],
            ),
            (
                "/a/cc?x=/a/b/",
                false,
                [pinned(4), pinned(3), pinned(3), default(2), pinned(4)],
            ),
            (
                "/a/d",
                false,
                [default(1), pinned(3), pinned(3), default(0), default(5)],
            ),
            ("/", false, [1, 1, 5, 2, 5].map(default)),
            ("/A/b/", false, [1, 1, 5, 2, 5].map(default)),
        ];
        for (path, bypass, expected) in table {
            let policy = policies.get(policies.ruling(&key(path)));
            assert_eq!(policy.bypass, bypass, "{path}");
            let got = [200, 302, 404, 410, 418].map(|status| seconds(policy, status));
            assert_eq!(got, expected, "{path}");
        }
    }

    #[test]
    fn what_no_rule_matches_goes_by_the_site() {
        let text = RULES.split("[[sites.s.rules]]").next().unwrap();
        let policies = policies(text);
        for path in ["/", "/a/b/", ""] {
            let ruling = policies.ruling(&key(path));
            assert_eq!(ruling, Ruling(None));
            assert_eq!(seconds(policies.get(ruling), 503), (None, Some(2)));
            assert_eq!(seconds(policies.get(ruling), 200), (None, Some(1)));
        }
    }

    #[test]
    fn a_policy_that_nobody_configured_is_the_default() {
        let text = "[pools.p]\nservers = [\"a:1\"]\n[sites.s]\nhosts = [\"*\"]\npool = \"p\"\n";
        let normalising = Policy {
            normalise_accept_encoding: true,
            ..Policy::default()
        };
        assert_eq!(policies(text).site, normalising);
    }

    /// What a list of rules means, said without any preparation: the policy's facts for
    /// a path and a status.
    fn told(site: &Cache, rules: &[Rule], path: &str, status: u16) -> (bool, Option<u64>) {
        let on_path = || rules.iter().filter(|rule| rule.path.matches(path));
        let whole = on_path().find(|rule| rule.status.is_empty());
        let of_status =
            on_path().find(|rule| rule.status.is_empty() || rule.status.contains(&status));
        let cache = of_status.map_or(site, |rule| &rule.cache);
        let ttl_ms = of_status.and_then(|rule| rule.ttl_ms);
        (
            whole.is_some_and(|rule| rule.bypass),
            ttl_ms.or(cache.default_ttl_ms),
        )
    }

    proptest! {
        #[test]
        fn prepared_policies_say_what_the_list_says(
            drawn in prop::collection::vec(
                (
                    prop::sample::select(vec!["/", "/a", "/ab", "/abc", "/b"]),
                    any::<(bool, bool, bool)>(),
                    prop::option::of(1..9_u64),
                ),
                0..6,
            ),
        ) {
            let site = Cache::default();
            let rules: Vec<Rule> = drawn
                .into_iter()
                .map(|(path, (is_prefix, by_status, bypass), ttl_ms)| Rule {
                    path: if is_prefix {
                        Pattern::Prefix(path.to_owned())
                    } else {
                        Pattern::Exact(path.to_owned())
                    },
                    status: if by_status { vec![404] } else { Vec::new() },
                    bypass: bypass && !by_status,
                    ttl_ms,
                    cache: site.clone(),
                })
                .collect();
            let policies = Policies::new(&site, &rules);
            for path in ["/", "/a", "/ab", "/abc", "/abcd", "/ac", "/b", "/bb", "/c", ""] {
                let policy = policies.get(policies.ruling(&key(path)));
                for status in [200, 404] {
                    let times = policy.times(StatusCode::from_u16(status).unwrap());
                    let got = (policy.bypass, times.ttl_ms.or(times.default_ttl_ms));
                    prop_assert_eq!(got, told(&site, &rules, path, status), "{} {}", path, status);
                }
            }
        }
    }
}
