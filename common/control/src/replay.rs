//! Remembering nonces, so that a recorded unsafe request cannot be sent twice.

use std::collections::{HashSet, VecDeque};

use ring::digest::{Context, SHA256};

use crate::error::{Reason, Rejection};
use crate::verify::Verified;
use crate::{SKEW_S, VALIDITY_S};

/// How long a nonce is remembered after it was admitted, in milliseconds: as long
/// as its signature could still be accepted, made by the fastest tolerated clock.
const REMEMBERED_MS: u64 = (VALIDITY_S + SKEW_S) * 1000;

/// The nonces of the last [`VALIDITY_S`] + [`SKEW_S`] seconds.
///
/// What a process before this one admitted, this one cannot remember. So an unsafe
/// request that was signed before the guard began is refused: it may have been
/// executed already. The price is that for as long as an edge's clock is behind
/// ours, its unsafe requests are refused after a start.
///
/// Invariants: an entry takes 48 bytes or so, whatever the nonce's length, and
/// there are never more than `capacity`. Time that runs backwards forgets
/// nothing early.
#[derive(Debug)]
pub struct ReplayGuard {
    capacity: usize,
    started_s: u64,
    seen: HashSet<[u8; 16]>,
    /// In the order of admission, which is the order of expiry.
    order: VecDeque<(u64, [u8; 16])>,
    latest_ms: u64,
}

impl ReplayGuard {
    /// A guard for at most `capacity` nonces at a time that begins at `started_ms`,
    /// Unix milliseconds.
    #[must_use]
    pub fn new(capacity: usize, started_ms: u64) -> Self {
        Self {
            capacity,
            started_s: started_ms / 1000,
            seen: HashSet::new(),
            order: VecDeque::new(),
            latest_ms: 0,
        }
    }

    /// Admits a verified request once. A safe one needs no nonce and is admitted
    /// without; a nonce that is there is remembered under its key's id. Call this
    /// after verifying, so that nobody without a key can fill the memory.
    ///
    /// # Errors
    /// `Replayed` for a nonce seen before, and when the memory is full: what can
    /// no longer be remembered could be sent again, so it is refused. So is what was
    /// signed in an earlier second than the guard began. `Malformed`
    /// for an unsafe request without a nonce.
    pub fn admit(&mut self, verified: &Verified, now_ms: u64) -> Result<(), Rejection> {
        let Some(nonce) = verified.nonce() else {
            if verified.is_safe() {
                return Ok(());
            }
            return Err(Rejection::malformed(
                "an unsafe request carries no nonce: the sender must draw one, or both sides use mutual TLS",
            ));
        };
        // `created` has whole seconds, so the second of the start itself is let in.
        if !verified.is_safe() && verified.created_s() < self.started_s {
            return Err(Rejection::new(
                Reason::Replayed,
                format!(
                    "signed {} s before this node started, so it may have been executed already: set the clocks of both nodes if this goes on",
                    self.started_s - verified.created_s()
                ),
            ));
        }
        let id = identity(verified.keyid(), nonce);
        self.latest_ms = self.latest_ms.max(now_ms);
        self.forget();
        if self.seen.contains(&id) {
            return Err(Rejection::new(
                Reason::Replayed,
                "this nonce was seen before: the request was recorded and sent again",
            ));
        }
        if self.seen.len() >= self.capacity {
            return Err(Rejection::new(
                Reason::Replayed,
                format!(
                    "the memory for {} nonces is full: give it more room, or use mutual TLS between the tiers",
                    self.capacity
                ),
            ));
        }
        self.seen.insert(id);
        let until_ms = self.latest_ms.saturating_add(REMEMBERED_MS);
        self.order.push_back((until_ms, id));
        Ok(())
    }

    /// How many nonces are remembered.
    #[must_use]
    pub fn len(&self) -> usize {
        self.seen.len()
    }

    /// Whether none is.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.seen.is_empty()
    }

    fn forget(&mut self) {
        while let Some((until_ms, id)) = self.order.front().copied() {
            // At `until_ms` itself the signature may still be valid.
            if self.latest_ms <= until_ms {
                break;
            }
            self.order.pop_front();
            self.seen.remove(&id);
        }
    }
}

/// A nonce is unique per key. Neither part contains a zero byte, so the digest's
/// input is unambiguous; 128 bits of it are enough to tell nonces apart.
fn identity(keyid: &str, nonce: &str) -> [u8; 16] {
    let mut digest = Context::new(&SHA256);
    digest.update(keyid.as_bytes());
    digest.update(&[0]);
    digest.update(nonce.as_bytes());
    *digest
        .finish()
        .as_ref()
        .first_chunk::<16>()
        .expect("SHA-256 is 32 bytes")
}
