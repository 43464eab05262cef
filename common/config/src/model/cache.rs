//! What a site caches, for how long, and under which key.

use http::HeaderName;

/// What is cached, and for how long.
#[derive(Debug, Clone)]
pub struct Cache {
    /// Freshness of a response that says nothing; None leaves it to heuristics.
    pub default_ttl_ms: Option<u64>,
    /// No response stays fresh for longer.
    pub ttl_max_ms: Option<u64>,
    /// Freshness of a 404, 410 or 5xx that says nothing; None treats them as others.
    pub negative_ttl_ms: Option<u64>,
    /// Whether `Last-Modified` may make a response fresh (RFC 9111 §4.2.2).
    pub heuristic: bool,
    /// `stale-while-revalidate` for responses that name none.
    pub stale_while_revalidate_ms: u64,
    /// `stale-if-error` for responses that name none.
    pub stale_if_error_ms: u64,
    /// What happens to a response with `Set-Cookie`.
    pub set_cookie: SetCookie,
    /// Requests with one of these cookies are bypassed.
    pub bypass_cookies: Vec<Pattern>,
    /// Whether what a response says about its caching is obeyed.
    pub honour_origin_fields: bool,
    /// Targeted cache-control fields (RFC 9213) in the order in which they count.
    pub targeted: Vec<HeaderName>,
    /// Whether a visitor's `Cache-Control` and `Pragma` are obeyed.
    pub honour_request_directives: bool,
    /// Whether an edge compresses what came plain and gains by it.
    pub compress: bool,
    /// Whether an edge refreshes what is hot a little ahead of its end.
    pub refresh_ahead: bool,
    /// Whether `Cache-Status` tells the key (RFC 9211 §2.7).
    pub tell_key: bool,
    /// A range of what is not stored is fetched in aligned slices of this many bytes,
    /// each stored on its own. None: out of a fill of the whole.
    pub slice_bytes: Option<u64>,
    /// Normalise `Accept-Encoding` before comparing variants.
    pub normalise_accept_encoding: bool,
    /// Normalise `Accept-Language` before comparing variants.
    pub normalise_accept_language: bool,
}

/// What holds for some paths, or some statuses there, instead of a site's [`Cache`].
///
/// Of the rules whose path matches, the first one counts whose `status` is empty or
/// names the response's. What is decided before there is a response goes by the first
/// whose `status` is empty.
#[derive(Debug, Clone)]
pub struct Rule {
    /// Where it holds.
    pub path: Pattern,
    /// Statuses it holds for, and then it sets times alone; empty: all.
    pub status: Vec<u16>,
    /// Nothing is looked up and nothing is stored.
    pub bypass: bool,
    /// Freshness whatever a response says of its own. Without a `status` it leaves
    /// errors (400 and above) alone.
    pub ttl_ms: Option<u64>,
    /// The site's own, with what the rule says instead.
    pub cache: Cache,
}

/// A text, or the beginning of several: of paths, without a query and with their
/// percent-encoding normalised, or of cookies' names.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Pattern {
    /// This one.
    Exact(String),
    /// Those that begin so; `/static/` was written as `/static/*`.
    Prefix(String),
}

impl Pattern {
    /// Whether a text is meant.
    #[must_use]
    pub fn matches(&self, text: &str) -> bool {
        match self {
            Self::Exact(exact) => text == exact,
            Self::Prefix(prefix) => text.starts_with(prefix.as_str()),
        }
    }

    /// Whether every text that `other` means is meant here, too. Two patterns that
    /// mean a text in common always cover one another, in one direction at least.
    #[must_use]
    pub fn covers(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Exact(_), Self::Prefix(_)) => false,
            (_, Self::Exact(text) | Self::Prefix(text)) => self.matches(text),
        }
    }
}

/// What happens to a response with `Set-Cookie`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SetCookie {
    /// It is not stored.
    Bypass,
    /// It is stored and replayed without the cookie, and the first visitor gets none either.
    Strip,
    /// It is stored and replayed as it is.
    Store,
}

/// What tells one object from another, beside site, scheme, host and path.
#[derive(Debug, Clone, Default)]
pub struct KeyRules {
    /// Which query parameters count.
    pub query: QueryRule,
    /// Order of parameters does not matter.
    pub query_sort: bool,
    /// Paths where something else holds of these two; the first that matches counts.
    pub query_by_path: Vec<PathQuery>,
    /// Request fields whose values count.
    pub headers: Vec<HeaderName>,
    /// Cookies whose values count. All others stay out of a shared fill.
    pub cookies: Vec<String>,
    /// Slices of an object may be stored, under keys that begin with the object's.
    pub sliced: bool,
}

/// What counts of the query on some paths.
#[derive(Debug, Clone)]
pub struct PathQuery {
    /// Where it holds.
    pub path: Pattern,
    /// Which query parameters count.
    pub query: QueryRule,
    /// Order of parameters does not matter.
    pub query_sort: bool,
}

impl KeyRules {
    /// Which query parameters count on a path, and whether they are sorted.
    #[must_use]
    pub fn query_on(&self, path: &str) -> (&QueryRule, bool) {
        let mut rules = self.query_by_path.iter();
        match rules.find(|rule| rule.path.matches(path)) {
            Some(rule) => (&rule.query, rule.query_sort),
            None => (&self.query, self.query_sort),
        }
    }
}

/// Which query parameters count. A name ending in `*` stands for a prefix.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum QueryRule {
    /// Every one.
    #[default]
    All,
    /// None.
    Ignore,
    /// Only these.
    Keep(Vec<String>),
    /// All but these.
    Drop(Vec<String>),
}
