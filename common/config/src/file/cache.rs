//! `[sites.NAME.cache]` and `[sites.NAME.key]`: what is kept, and under which key.

use http::HeaderName;

use super::reader::{Item, Table, each};
use super::values::{self, Fault, shown};
use crate::model::{Cache, KeyRules, QueryRule, SetCookie};

/// Ten years. RFC 9111 §1.2.2 lets a cache treat more than 2^31 seconds as that.
const TTL_MAX_S: u64 = 315_360_000;

pub(crate) fn cache(table: &mut Table<'_>) -> Option<Cache> {
    let default = Cache::default();
    let default_ttl = table.take("default_ttl_s");
    let ttl_max = table.take("ttl_max_s");
    let heuristic = table.flag("heuristic", default.heuristic);
    let revalidate_s = table.whole("stale_while_revalidate_s", 0, 0..=TTL_MAX_S);
    let error_s = table.whole("stale_if_error_s", 0, 0..=TTL_MAX_S);
    let set_cookie = table.choice("set_cookie", default.set_cookie, &SET_COOKIE);
    let honour = table.choice("request_directives", true, &DIRECTIVES);
    let normalise = table.take("normalise");

    let default_ttl_s = default_ttl
        .as_ref()
        .and_then(|item| item.whole::<u64>(0..=TTL_MAX_S));
    let ttl_max_s = ttl_max.and_then(|item| item.whole::<u64>(1..=TTL_MAX_S));
    if let (Some(item), Some(default_s), Some(max_s)) = (&default_ttl, default_ttl_s, ttl_max_s)
        && default_s > max_s
    {
        item.problem(
            format!("is more than `ttl_max_s`, which is {max_s}"),
            "lower it, or raise `ttl_max_s`",
        );
    }
    let normalise = match normalise {
        Some(item) => each(&item.list()?, |item| item.choice(&NORMALISE))?,
        None => vec![Normalise::Encoding],
    };
    Some(Cache {
        default_ttl_ms: default_ttl_s.map(ms),
        ttl_max_ms: ttl_max_s.map(ms),
        heuristic,
        stale_while_revalidate_ms: ms(revalidate_s),
        stale_if_error_ms: ms(error_s),
        set_cookie,
        honour_request_directives: honour,
        normalise_accept_encoding: normalise.contains(&Normalise::Encoding),
        normalise_accept_language: normalise.contains(&Normalise::Language),
    })
}

fn ms(seconds: u64) -> u64 {
    seconds.saturating_mul(1_000)
}

const SET_COOKIE: [(&str, SetCookie); 3] = [
    ("bypass", SetCookie::Bypass),
    ("strip", SetCookie::Strip),
    ("store", SetCookie::Store),
];

const DIRECTIVES: [(&str, bool); 2] = [("honour", true), ("ignore", false)];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Normalise {
    Encoding,
    Language,
}

const NORMALISE: [(&str, Normalise); 2] = [
    ("accept-encoding", Normalise::Encoding),
    ("accept-language", Normalise::Language),
];

pub(crate) fn key(table: &mut Table<'_>) -> Option<KeyRules> {
    let query = table.take("query");
    let query_sort = table.flag("query_sort", false);
    let headers = table.list("headers");
    let cookies = table.list("cookies");

    let query = match query {
        Some(item) => query_rule(&item),
        None => Some(QueryRule::All),
    };
    let headers = each(&headers, |item| item.parse(key_header));
    let cookies = each(&cookies, |item| item.parse(values::token));
    Some(KeyRules {
        query: query?,
        query_sort,
        headers: headers?,
        cookies: cookies?,
    })
}

const QUERY_RULES: [(&str, bool); 2] = [("all", true), ("ignore", false)];

fn query_rule(item: &Item<'_>) -> Option<QueryRule> {
    let mend = "write \"all\", \"ignore\", { keep = […] } or { drop = […] }";
    if item.is_text() {
        let all = item.choice(&QUERY_RULES)?;
        return Some(if all {
            QueryRule::All
        } else {
            QueryRule::Ignore
        });
    }
    if !item.is_table() {
        item.wrong_type(mend);
        return None;
    }
    item.table(|table| {
        let keep = table.take("keep");
        let drop = table.take("drop");
        match (keep, drop) {
            (Some(keep), None) => parameters(&keep).map(QueryRule::Keep),
            (None, Some(drop)) => parameters(&drop).map(QueryRule::Drop),
            _ => {
                table.problem("needs one of `keep` and `drop`", mend);
                None
            }
        }
    })
}

fn parameters(item: &Item<'_>) -> Option<Vec<String>> {
    each(&item.list()?, |item| item.parse(parameter))
}

fn parameter(text: &str) -> Result<String, Fault> {
    let stem = text.strip_suffix('*').unwrap_or(text);
    if text.is_empty()
        || stem.contains(['*', '&', '=', '#', '?'])
        || stem.contains(char::is_control)
    {
        return Err(Fault {
            what: format!("{} is no parameter name", shown(text)),
            mend: "write a name as `id`, or a prefix as `utm_*`".to_owned(),
        });
    }
    Ok(text.to_owned())
}

/// Fields that can be no part of a key, because a shared fill never carries
/// them or because they are in the key already.
const NOT_IN_KEY: [(&str, &str); 12] = [
    ("cookie", "name single cookies in `cookies`"),
    ("host", "remove it: the host is always part of the key"),
    ("range", "remove it: ranges are cut from whole objects"),
    ("if-range", "remove it: ranges are cut from whole objects"),
    ("if-match", "remove it: a shared fill has no conditions"),
    (
        "if-none-match",
        "remove it: a shared fill has no conditions",
    ),
    (
        "if-modified-since",
        "remove it: a shared fill has no conditions",
    ),
    (
        "if-unmodified-since",
        "remove it: a shared fill has no conditions",
    ),
    ("connection", "remove it: it ends at this hop"),
    ("te", "remove it: it ends at this hop"),
    ("transfer-encoding", "remove it: it ends at this hop"),
    (
        "tier-control",
        "remove it: `Tier-*` fields never come from visitors",
    ),
];

fn key_header(text: &str) -> Result<HeaderName, Fault> {
    let Ok(name) = HeaderName::from_bytes(text.as_bytes()) else {
        return Err(Fault {
            what: format!("{} is no field name", shown(text)),
            mend: "write the bare name, such as `x-device`".to_owned(),
        });
    };
    match NOT_IN_KEY.iter().find(|(field, _)| name == *field) {
        Some((_, mend)) => Err(Fault {
            what: format!("{} cannot be part of the key", shown(text)),
            mend: (*mend).to_owned(),
        }),
        None => Ok(name),
    }
}
