//! `[[sites.NAME.rules]]`: what holds for some paths, or some statuses there.

use super::cache::{self, lifetime, query_rule};
use super::reader::{Item, Table, each};
use super::values::{Fault, fault, shown};
use crate::model::{Cache, KeyRules, PathQuery, Pattern, Rule};

/// A node compares every request's path with each of them.
const RULES_MAX: usize = 64;

/// Statuses that nobody may keep: 304 is no representation, and RFC 6585 forbids the
/// others.
const NEVER_STORED: [u16; 5] = [304, 428, 429, 431, 511];

/// What a rule with a `status` cannot say.
const NOT_BY_STATUS: [&str; 9] = [
    "bypass",
    "bypass_cookies",
    "negative_ttl_s",
    "heuristic",
    "set_cookie",
    "origin_fields",
    "request_directives",
    "query",
    "query_sort",
];

/// Reads a site's rules; `base` and `key` are its own `cache` and `key`, which learns
/// what holds for the query on some paths.
pub(crate) fn rules(item: &Item<'_>, base: &Cache, key: &mut KeyRules) -> Option<Vec<Rule>> {
    let written = item.list()?;
    if written.len() > RULES_MAX {
        item.problem(
            format!("has {} rules, more than {RULES_MAX}", written.len()),
            "put paths together, or make another site of some hosts",
        );
        return None;
    }
    let read = |item: &Item<'_>| item.table(|table| rule(table, base, key));
    let (rules, queries): (Vec<_>, Vec<_>) = each(&written, read)?.into_iter().unzip();
    let differs = |rule: &PathQuery| rule.query != key.query || rule.query_sort != key.query_sort;
    let queries: Vec<_> = queries.into_iter().flatten().collect();
    // Where no rule speaks of the query, no request is compared with any.
    if queries.iter().any(differs) {
        key.query_by_path = queries;
    }
    for (at, rule) in rules.iter().enumerate() {
        let mut earlier = rules.iter().take(at).zip(&written);
        if let Some((_, first)) = earlier.find(|(earlier, _)| hides(earlier, rule))
            && let Some(item) = written.get(at)
        {
            item.warning(
                format!(
                    "is never reached: an earlier rule{} matches whatever it does",
                    first.place().line_note()
                ),
                "move it up, or remove it",
            );
        }
    }
    Some(rules)
}

/// Whether nothing is left for `later`.
fn hides(earlier: &Rule, later: &Rule) -> bool {
    let statuses = &earlier.status;
    earlier.path.covers(&later.path)
        && (statuses.is_empty()
            || !later.status.is_empty()
                && later.status.iter().all(|status| statuses.contains(status)))
}

/// One rule, and what holds for the query where it does; None where it goes by status.
fn rule(table: &mut Table<'_>, base: &Cache, key: &KeyRules) -> Option<(Rule, Option<PathQuery>)> {
    let path = table.required("path", "path = \"/static/*\"");
    let status = table.take("status");
    let by_status = status.is_some();
    if by_status {
        for key in NOT_BY_STATUS {
            if let Some(item) = table.take(key) {
                item.problem(
                    "does not go by status",
                    "put it into a rule without `status`",
                );
            }
        }
    }
    let bypass = table.take("bypass");
    let says_more = !table.is_empty();
    let ttl = lifetime(table, "ttl_s");
    let names_default = table.has("default_ttl_s");
    let cache = cache::shared(table, base, ttl.as_ref());
    let query = match table.take("query") {
        Some(item) => query_rule(&item),
        None => Some(key.query.clone()),
    };
    let query_sort = table.flag("query_sort", key.query_sort);

    let flag = bypass.as_ref().and_then(Item::flag);
    if by_status && ttl.is_none() && !names_default {
        table.problem(
            "names statuses, but not how long they are fresh",
            "add `ttl_s` or `default_ttl_s`",
        );
    } else if bypass.is_none() && !says_more && !by_status {
        table.problem(
            "changes nothing",
            "add what it changes, or `bypass = false` where it is an exception to a rule below",
        );
    }
    if let (Some(item), Some(true), true) = (&bypass, flag, says_more) {
        item.problem(
            "stands beside other keys",
            "remove them: nothing is stored here that they could be about",
        );
    }
    let status = match status {
        Some(item) => statuses(&item),
        None => Some(Vec::new()),
    };
    let path = path?.parse(path_pattern)?;
    let query = PathQuery {
        path: path.clone(),
        query: query?,
        query_sort,
    };
    let rule = Rule {
        path,
        status: status?,
        bypass: flag.unwrap_or(false),
        ttl_ms: ttl.and_then(|ttl| ttl.ms),
        cache,
    };
    Some((rule, (!by_status).then_some(query)))
}

fn statuses(item: &Item<'_>) -> Option<Vec<u16>> {
    let written = item.list()?;
    if written.is_empty() {
        item.problem(
            "is empty",
            "name a status, or remove `status` to mean every one",
        );
        return None;
    }
    each(&written, |item| {
        let status = item.whole(200..=599)?;
        if NEVER_STORED.contains(&status) {
            item.problem(
                format!("{status} is never stored"),
                "remove it: standards forbid to keep such a response",
            );
            return None;
        }
        Some(status)
    })
}

/// A path as it stands in a key, or the beginning of one with `*` behind it.
fn path_pattern(text: &str) -> Result<Pattern, Fault> {
    let (path, is_prefix) = match text.strip_suffix('*') {
        Some(prefix) => (prefix, true),
        None => (text, false),
    };
    let no_path = |mend: &str| fault(format!("{} is no path", shown(text)), mend);
    if !path.starts_with('/') {
        return no_path("begin with `/`: one path as `/robots.txt`, or many as `/static/*`");
    }
    if path.contains('*') {
        return no_path("write `*` at its end alone, where it stands for any ending");
    }
    if path.contains(['?', '#']) {
        return no_path("leave the query out: rules go by path");
    }
    if !path.bytes().all(|byte| byte.is_ascii_graphic()) {
        return no_path("percent-encode what is not visible ASCII: `%C3%A9` for `é`");
    }
    if !is_normal(path) {
        return no_path(
            "percent-encode as paths are compared: `%2F` in upper case, and letters, digits, `-._~` not at all",
        );
    }
    Ok(if is_prefix {
        Pattern::Prefix(path.to_owned())
    } else {
        Pattern::Exact(path.to_owned())
    })
}

/// Whether a path is as RFC 3986 §6.2.2 normalises it, which is how keys hold it.
fn is_normal(path: &str) -> bool {
    path.split('%').skip(1).all(|after| {
        let digits = after.get(..2).unwrap_or_default();
        let upper = digits
            .bytes()
            .all(|digit| digit.is_ascii_digit() || (b'A'..=b'F').contains(&digit));
        let octet = u8::from_str_radix(digits, 16).ok().filter(|_| upper);
        octet.is_some_and(|octet| {
            !octet.is_ascii_alphanumeric() && !matches!(octet, b'-' | b'.' | b'_' | b'~')
        })
    })
}
