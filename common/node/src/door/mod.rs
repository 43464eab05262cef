//! Two doors to one inside.
//!
//! ```text
//!   accept ─ PROXY ─ TLS ─┬─ h1: own parser and writer ──┐
//!                         │     └ unusual: replay ─┐     ├─ admit ─ serve
//!                         └─ h2: pingora's session ┴─────┘        └ pass
//! ```
//!
//! Both validate framing, Host and target with the same function (`head::check`)
//! and let a request in through the same one (`admit`).

pub(crate) mod accept;
pub(crate) mod admit;
pub(crate) mod chunks;
pub(crate) mod client;
pub(crate) mod h1;
pub(crate) mod h2;
pub(crate) mod head;
pub(crate) mod proxy_protocol;
pub(crate) mod replay;
pub(crate) mod target;
pub(crate) mod tls;
mod trace;
pub(crate) mod write;

use std::net::SocketAddr;

tokio::task_local! {
    /// The connection a pingora session belongs to; set around each request that
    /// goes through one, since pingora has no place for it.
    pub(crate) static DOOR: std::sync::Arc<Conn>;
}

/// One visitor connection, as far as requests need to know it.
#[derive(Debug, Clone)]
pub(crate) struct Conn {
    /// The peer, or whom a PROXY header names.
    pub(crate) peer: SocketAddr,
    /// It came in over TLS.
    pub(crate) tls: bool,
    /// HTTP/2 may be spoken on it.
    pub(crate) http2: bool,
}
