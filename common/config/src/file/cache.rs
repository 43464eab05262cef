//! `[sites.NAME.cache]` and `[sites.NAME.key]`: what is kept, and under which key.

use std::ops::RangeInclusive;

use http::HeaderName;

use super::reader::{Item, Table, each};
use super::values::{self, Fault, shown};
use crate::model::{Cache, KeyRules, Pattern, QueryRule, SetCookie};

/// Ten years. RFC 9111 §1.2.2 lets a cache treat more than 2^31 seconds as that.
const TTL_MAX_S: u64 = 315_360_000;

/// Smaller slices cost more requests than they save bytes; larger ones are no slices.
const SLICE_BYTES: RangeInclusive<u64> = 64 * 1024..=64 * 1024 * 1024;

/// `[sites.NAME.cache]`.
pub(crate) fn cache(table: &mut Table<'_>) -> Option<Cache> {
    let cache = shared(table, &Cache::default(), None);
    let targeted = table.take("targeted");
    let compress = table.flag("compress", cache.compress);
    let slice_bytes = table.take("slice_bytes");
    let refresh_ahead = table.flag("refresh_ahead", cache.refresh_ahead);
    let tell_key = table.flag("tell_key", cache.tell_key);
    let normalise = table.take("normalise");
    let targeted = match targeted {
        Some(item) => each(&item.list()?, |item| item.parse(targeted_field))?,
        None => cache.targeted.clone(),
    };
    let normalise = match normalise {
        Some(item) => each(&item.list()?, |item| item.choice(&NORMALISE))?,
        None => vec![Normalise::Encoding],
    };
    let slice_bytes = match slice_bytes {
        Some(item) => Some(item.bytes(SLICE_BYTES)?),
        None => None,
    };
    Some(Cache {
        targeted,
        compress,
        slice_bytes,
        refresh_ahead,
        tell_key,
        normalise_accept_encoding: normalise.contains(&Normalise::Encoding),
        normalise_accept_language: normalise.contains(&Normalise::Language),
        ..cache
    })
}

/// A lifetime as it was written; what cannot be read has left its problem.
pub(crate) struct Lifetime<'a> {
    item: Item<'a>,
    pub(crate) ms: Option<u64>,
}

pub(crate) fn lifetime<'a>(table: &mut Table<'a>, key: &'static str) -> Option<Lifetime<'a>> {
    let item = table.take(key)?;
    let ms = item.whole(0..=TTL_MAX_S).map(ms);
    Some(Lifetime { item, ms })
}

/// The keys that a site and its rules have in common; what is left out is as in
/// `base`. `ttl` is a lifetime that a rule alone can have.
pub(crate) fn shared<'a>(table: &mut Table<'a>, base: &Cache, ttl: Option<&Lifetime<'a>>) -> Cache {
    let default_ttl = lifetime(table, "default_ttl_s");
    let ttl_max = table.take("ttl_max_s");
    let negative_ttl = lifetime(table, "negative_ttl_s");
    let ttl_max_ms = match ttl_max {
        Some(item) => item.whole(1..=TTL_MAX_S).map(ms),
        None => base.ttl_max_ms,
    };
    for lifetime in [default_ttl.as_ref(), negative_ttl.as_ref(), ttl] {
        if let (Some(lifetime), Some(max_ms)) = (lifetime, ttl_max_ms)
            && lifetime.ms.is_some_and(|ms| ms > max_ms)
        {
            lifetime.item.problem(
                format!("is more than `ttl_max_s`, which is {}", max_ms / 1_000),
                "lower it, or raise `ttl_max_s`",
            );
        }
    }
    Cache {
        default_ttl_ms: default_ttl.map_or(base.default_ttl_ms, |ttl| ttl.ms),
        ttl_max_ms,
        negative_ttl_ms: negative_ttl.map_or(base.negative_ttl_ms, |ttl| ttl.ms),
        heuristic: table.flag("heuristic", base.heuristic),
        stale_while_revalidate_ms: window_ms(
            table,
            "stale_while_revalidate_s",
            base.stale_while_revalidate_ms,
        ),
        stale_if_error_ms: window_ms(table, "stale_if_error_s", base.stale_if_error_ms),
        set_cookie: table.choice("set_cookie", base.set_cookie, &SET_COOKIE),
        bypass_cookies: match table.take("bypass_cookies") {
            Some(item) => cookie_names(&item),
            None => base.bypass_cookies.clone(),
        },
        honour_origin_fields: table.choice("origin_fields", base.honour_origin_fields, &OBEYED),
        honour_request_directives: table.choice(
            "request_directives",
            base.honour_request_directives,
            &OBEYED,
        ),
        ..base.clone()
    }
}

/// Names of cookies; what cannot be read has left its problem.
fn cookie_names(item: &Item<'_>) -> Vec<Pattern> {
    let name = |text: &str| {
        let pattern = match text.strip_suffix('*') {
            Some(start) => (start, Pattern::Prefix(start.to_owned())),
            None => (text, Pattern::Exact(text.to_owned())),
        };
        match pattern {
            (bare, pattern) if values::is_token(bare) && !bare.contains('*') => Ok(pattern),
            _ => Err(Fault {
                what: format!("{} is no cookie name", shown(text)),
                mend: "write a name as `session`, or a beginning as `wp_*`".to_owned(),
            }),
        }
    };
    let written = item.list().unwrap_or_default();
    each(&written, |item| item.parse(name)).unwrap_or_default()
}

fn window_ms(table: &mut Table<'_>, key: &'static str, base_ms: u64) -> u64 {
    ms(table.whole(key, base_ms / 1_000, 0..=TTL_MAX_S))
}

fn ms(seconds: u64) -> u64 {
    seconds.saturating_mul(1_000)
}

const SET_COOKIE: [(&str, SetCookie); 3] = [
    ("bypass", SetCookie::Bypass),
    ("strip", SetCookie::Strip),
    ("store", SetCookie::Store),
];

const OBEYED: [(&str, bool); 2] = [("honour", true), ("ignore", false)];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Normalise {
    Encoding,
    Language,
}

const NORMALISE: [(&str, Normalise); 2] = [
    ("accept-encoding", Normalise::Encoding),
    ("accept-language", Normalise::Language),
];

/// A field of RFC 9213. Those that end as its registry asks are known as what they
/// are wherever fields are sorted out.
fn targeted_field(text: &str) -> Result<HeaderName, Fault> {
    let lower = text.to_ascii_lowercase();
    match HeaderName::from_bytes(lower.as_bytes()) {
        Ok(name) if lower.ends_with("-cache-control") => Ok(name),
        _ => Err(Fault {
            what: format!("{} is no targeted field", shown(text)),
            mend: "write a field name that ends in `-cache-control` (RFC 9213)".to_owned(),
        }),
    }
}

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
        query_by_path: Vec::new(),
        headers: headers?,
        cookies: cookies?,
        sliced: false,
    })
}

const QUERY_RULES: [(&str, bool); 2] = [("all", true), ("ignore", false)];

pub(crate) fn query_rule(item: &Item<'_>) -> Option<QueryRule> {
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
