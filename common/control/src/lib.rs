//! The control block between tiers: what it says, and the signature that keeps
//! it true.
//!
//! A request to an upper tier carries [`ControlBlock`] in `Tier-Control`; the
//! answer carries [`TierResult`] in `Tier-Result`. Both are RFC 9651
//! dictionaries, and both travel under an RFC 9421 signature with the label
//! `tier` that covers every field which alters the answer. A node that loses or
//! alters one of them is found out by its neighbour at once, under the name of
//! what went wrong ([`Reason`]), instead of by a visitor who sees a DNS error.
//!
//! Invariants:
//! * A [`SealedRequest`] has no method that changes it, so nothing can come
//!   between the signature and the wire.
//! * What is verified is complete: a field on the wire that the signature does
//!   not cover is refused, unless hop software owns it (the exempt lists in
//!   `fields.rs`, each entry with its reason).
//! * Bodies are not covered. The transport protects them (TLS between tiers), a
//!   signature over a head that is sent before the body exists cannot.
//! * No clock, no socket and no randomness in here, key generation excepted: the
//!   caller passes `now_ms` (Unix milliseconds) and nonces.
//! * Nothing that arrives from the network or a file can cause a panic, and no
//!   message or `Debug` output contains key material.
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod base;
mod block;
pub mod epoch;
mod error;
mod fields;
mod generate;
mod input;
mod keys;
mod replay;
mod result;
mod seal;
mod sf;
mod trace;
mod verify;

pub use block::{ControlBlock, KeyDigest, Scheme};
pub use error::{Reason, Rejection, SealError};
pub use fields::{SIGNATURE, SIGNATURE_INPUT, TIER_CONTROL, TIER_RESULT, is_tier_field, strip};
pub use generate::{GenerateError, GeneratedKey, generate};
pub use keys::{Algorithm, HMAC_SECRET_BYTES_MIN, Key, KeyError, Keyring};
pub use replay::ReplayGuard;
pub use result::{NoAnswer, TierResult};
pub use seal::{Outgoing, Receipt, SealedRequest, seal, seal_for_origin, sign_response};
pub use trace::TraceIds;
pub use verify::{Received, Verified, verify_request, verify_response};

/// The version of the control block that this build speaks. It also understands
/// `VERSION - 1`, so that a fleet can be upgraded node by node, and answers a
/// request in the version it came in. Version 2 added `to`.
pub const VERSION: u8 = 2;

/// How long a signature is valid: `expires - created`, in seconds. Long enough
/// for a slow connect and a retry inside one attempt, short enough that a
/// recorded request is soon worthless and the nonce memory stays small.
pub const VALIDITY_S: u64 = 30;

/// How far in the future `created` may lie, in seconds, because a neighbour's
/// clock is never exactly ours. `expires` gets no such grace: [`VALIDITY_S`]
/// already leaves room for a clock that is behind.
pub const SKEW_S: u64 = 10;

/// Most components one signature may cover. A head this wide is far outside
/// what the doors admit; the bound keeps verifying a hostile head cheap.
pub const COMPONENTS_MAX: usize = 256;

/// The label of our member in `Signature` and `Signature-Input`.
pub const LABEL: &str = "tier";

/// The `tag` parameter of a signed request. Together with [`RESPONSE_TAG`] it
/// binds a signature to its direction.
pub const REQUEST_TAG: &str = "headwater-request";

/// The `tag` parameter of a signed response.
pub const RESPONSE_TAG: &str = "headwater-response";
