//! What a site decides about caching, beyond what its origin's fields say.

use std::ops::RangeInclusive;

use http::{HeaderName, StatusCode};

use crate::directives::CDN_CACHE_CONTROL;

/// What happens to a response that sets a cookie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SetCookie {
    /// The response is not stored ([`NotStored::SetCookie`](crate::NotStored)).
    Bypass,
    /// The response is stored without `Set-Cookie`.
    Strip,
    /// The response is stored and replayed as it is.
    Store,
}

/// A cookie's name, or the beginning of several. Names have a case (RFC 6265 §5.4).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CookieName {
    /// This one.
    Exact(String),
    /// All that begin so.
    Prefix(String),
}

impl CookieName {
    pub(crate) fn matches(&self, name: &[u8]) -> bool {
        match self {
            Self::Exact(exact) => name == exact.as_bytes(),
            Self::Prefix(prefix) => name.starts_with(prefix.as_bytes()),
        }
    }
}

/// How long responses are good, as far as the site decides. Milliseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Times {
    /// Freshness lifetime whatever the response says of its own. Where the status is
    /// not [named](StatusTimes), errors (400 and above) keep theirs: who pins a page
    /// for a day does not mean its 404. What forbids storing or reuse without
    /// validation still does.
    pub ttl_ms: Option<u64>,
    /// Freshness lifetime of a response that names none, where its status may be
    /// cached by heuristics or is [named](StatusTimes); `None` leaves it to
    /// `Last-Modified`.
    pub default_ttl_ms: Option<u64>,
    /// No response stays fresh for longer.
    pub ttl_max_ms: Option<u64>,
    /// `stale-while-revalidate` (RFC 5861 §3) of responses that name none but have
    /// a freshness lifetime; 0 for never.
    pub stale_while_revalidate_ms: u64,
    /// `stale-if-error` (RFC 5861 §4) of responses that name none but have a
    /// freshness lifetime; 0 for never.
    pub stale_if_error_ms: u64,
}

/// Times of their own for some statuses. A `ttl_ms` or `default_ttl_ms` here makes a
/// response of these statuses storable without its saying so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StatusTimes {
    /// The statuses.
    pub statuses: Vec<RangeInclusive<u16>>,
    /// What holds for them instead of [`Policy::times`].
    pub times: Times,
}

/// What a site decides about caching; the node builds it from configuration.
///
/// The default is a shared cache as RFC 9111 describes it, with the safe choice
/// about cookies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// Nothing is looked up and nothing is stored…
    pub bypass: bool,
    /// …for a request with one of these cookies at least.
    pub bypass_cookies: Vec<CookieName>,
    /// How long responses are good.
    pub times: Times,
    /// Statuses with times of their own; the first entry that names one counts.
    pub by_status: Vec<StatusTimes>,
    /// Whether `Last-Modified` may make a response fresh (RFC 9111 §4.2.2).
    pub heuristic: bool,
    /// Whether the response's cache directives and `Expires` are obeyed. When false
    /// they are as good as absent, `no-store` and `private` too, but for 5xx: an
    /// error of a node behind us says of itself that it is not to be kept.
    pub honour_response_directives: bool,
    /// Targeted fields (RFC 9213), the most particular first. The first that is
    /// valid and not empty takes the place of `Cache-Control` and `Expires`.
    pub targeted: Vec<HeaderName>,
    /// What happens to a response that sets a cookie.
    pub set_cookie: SetCookie,
    /// Whether a request's `Cache-Control` and `Pragma` are obeyed (RFC 9111 §5.2.1
    /// leaves that to the cache). When false they are as good as absent.
    pub honour_request_directives: bool,
    /// Compare `Accept-Encoding` by the set of acceptable codings alone.
    pub normalise_accept_encoding: bool,
    /// Compare `Accept-Language` by ranges and weights, whatever their order or case.
    pub normalise_accept_language: bool,
}

impl Policy {
    /// The times that hold for a status.
    pub fn times(&self, status: StatusCode) -> &Times {
        self.named_times(status).unwrap_or(&self.times)
    }

    /// The times of the first entry that names the status.
    pub(crate) fn named_times(&self, status: StatusCode) -> Option<&Times> {
        let entry = self.by_status.iter().find(|entry| {
            let mut statuses = entry.statuses.iter();
            statuses.any(|range| range.contains(&status.as_u16()))
        });
        entry.map(|entry| &entry.times)
    }

    /// Whether the directives of a response with that status are obeyed.
    pub(crate) fn obeys_directives(&self, status: StatusCode) -> bool {
        self.honour_response_directives || status.is_server_error()
    }
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            bypass: false,
            bypass_cookies: Vec::new(),
            times: Times::default(),
            by_status: Vec::new(),
            heuristic: true,
            honour_response_directives: true,
            targeted: vec![CDN_CACHE_CONTROL],
            set_cookie: SetCookie::Bypass,
            honour_request_directives: true,
            normalise_accept_encoding: false,
            normalise_accept_language: false,
        }
    }
}
