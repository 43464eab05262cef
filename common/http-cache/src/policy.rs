//! What a site decides about caching, beyond what its origin's fields say.

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

/// What a site decides about caching; the node builds it from configuration.
///
/// All times are milliseconds. The default is a shared cache as RFC 9111 describes
/// it, with the safe choice about cookies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// Freshness lifetime of a response that names none, where its status may be
    /// cached by heuristics; `None` leaves it to `Last-Modified`.
    pub default_ttl_ms: Option<u64>,
    /// No response stays fresh for longer.
    pub ttl_max_ms: Option<u64>,
    /// Whether `Last-Modified` may make a response fresh (RFC 9111 §4.2.2).
    pub heuristic: bool,
    /// `stale-while-revalidate` (RFC 5861 §3) of responses that name none but have
    /// a freshness lifetime; 0 for never.
    pub stale_while_revalidate_ms: u64,
    /// `stale-if-error` (RFC 5861 §4) of responses that name none but have a
    /// freshness lifetime; 0 for never.
    pub stale_if_error_ms: u64,
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

impl Default for Policy {
    fn default() -> Self {
        Self {
            default_ttl_ms: None,
            ttl_max_ms: None,
            heuristic: true,
            stale_while_revalidate_ms: 0,
            stale_if_error_ms: 0,
            set_cookie: SetCookie::Bypass,
            honour_request_directives: true,
            normalise_accept_encoding: false,
            normalise_accept_language: false,
        }
    }
}
