//! Random identifiers, drawn as plain values before a request is sealed,
//! whether or not anyone is tracing.
//!
//! They name things and choose samples; nothing secret hangs on them, so a fast
//! generator seeded from the system is enough. Nonces, which do guard something,
//! come from the system directly.

use ring::rand::{SecureRandom, SystemRandom};

/// A span id: eight bytes, never all zero.
pub(crate) fn span_id() -> [u8; 8] {
    fastrand::u64(1..).to_be_bytes()
}

/// A trace id: sixteen bytes, never all zero.
pub(crate) fn trace_id() -> [u8; 16] {
    fastrand::u128(1..).to_be_bytes()
}

/// A number to sample by.
pub(crate) fn sample() -> u64 {
    fastrand::u64(..)
}

/// A nonce for a request that must not be played twice. `None` where the system
/// has no randomness to give, in which case the request must not be sent.
pub(crate) fn nonce() -> Option<[u8; 16]> {
    let mut nonce = [0; 16];
    SystemRandom::new().fill(&mut nonce).ok()?;
    Some(nonce)
}
