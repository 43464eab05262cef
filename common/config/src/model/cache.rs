//! What a site caches, for how long, and under which key.

use http::HeaderName;

/// What is cached, and for how long.
#[derive(Debug, Clone)]
pub struct Cache {
    /// Freshness of a response that says nothing; None leaves it to heuristics.
    pub default_ttl_ms: Option<u64>,
    /// No response stays fresh for longer.
    pub ttl_max_ms: Option<u64>,
    /// Whether `Last-Modified` may make a response fresh (RFC 9111 §4.2.2).
    pub heuristic: bool,
    /// `stale-while-revalidate` for responses that name none.
    pub stale_while_revalidate_ms: u64,
    /// `stale-if-error` for responses that name none.
    pub stale_if_error_ms: u64,
    /// What happens to a response with `Set-Cookie`.
    pub set_cookie: SetCookie,
    /// Whether a visitor's `Cache-Control` and `Pragma` are obeyed.
    pub honour_request_directives: bool,
    /// Normalise `Accept-Encoding` before comparing variants.
    pub normalise_accept_encoding: bool,
    /// Normalise `Accept-Language` before comparing variants.
    pub normalise_accept_language: bool,
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
    /// Request fields whose values count.
    pub headers: Vec<HeaderName>,
    /// Cookies whose values count. All others stay out of a shared fill.
    pub cookies: Vec<String>,
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
