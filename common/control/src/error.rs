//! What can go wrong: on the wire ([`Rejection`], the neighbour's doing) and in
//! our own hands ([`SealError`]).

use std::fmt;

/// Why a control block or its signature is refused. The words are the values of
/// the `reason` label in `headwater_tier_control_rejected_total`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Reason {
    /// The control field or the signature is not there.
    Missing,
    /// It is there but cannot be read, or speaks a version we do not know.
    Malformed,
    /// Signed too long ago, or by a clock that is ahead of ours.
    Expired,
    /// The signature does not fit what arrived.
    BadSignature,
    /// Signed with a key that this node does not hold.
    UnknownKey,
    /// Signature and message contradict each other: another node's key, another
    /// direction, or a field that the signature does not cover.
    Mismatch,
    /// A nonce that was seen before, or could no longer be remembered.
    Replayed,
}

impl Reason {
    /// Every reason, so that a counter for each can exist before the first event.
    pub const ALL: [Self; 7] = [
        Self::Missing,
        Self::Malformed,
        Self::Expired,
        Self::BadSignature,
        Self::UnknownKey,
        Self::Mismatch,
        Self::Replayed,
    ];

    /// The word used in metrics, logs and `Proxy-Status`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Malformed => "malformed",
            Self::Expired => "expired",
            Self::BadSignature => "bad_signature",
            Self::UnknownKey => "unknown_key",
            Self::Mismatch => "mismatch",
            Self::Replayed => "replayed",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A refused control block: the reason to count, and a sentence for the person
/// who has to mend it. The sentence is printable ASCII and holds no key material.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejection {
    /// What to count and to answer with.
    pub reason: Reason,
    /// What was found and what to do about it.
    pub detail: String,
}

impl Rejection {
    pub(crate) fn new(reason: Reason, detail: impl Into<String>) -> Self {
        Self {
            reason,
            detail: detail.into(),
        }
    }

    pub(crate) fn missing(detail: impl Into<String>) -> Self {
        Self::new(Reason::Missing, detail)
    }

    pub(crate) fn malformed(detail: impl Into<String>) -> Self {
        Self::new(Reason::Malformed, detail)
    }

    pub(crate) fn mismatch(detail: impl Into<String>) -> Self {
        Self::new(Reason::Mismatch, detail)
    }
}

impl fmt::Display for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.reason, self.detail)
    }
}

impl std::error::Error for Rejection {}

/// Why a message cannot be sealed or signed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// The block speaks for one node and the key signs for another. Ours.
    #[error("the control block speaks for node {block_node:?} but the key signs for {key_node:?}")]
    KeyOfAnotherNode {
        /// The node the block names.
        block_node: String,
        /// The node the key belongs to.
        key_node: String,
    },
    /// The key is a public one and can only verify. Configuration.
    #[error(
        "key {keyid:?} is a public key and cannot sign; give this node its hmac-sha256 or ed25519 line"
    )]
    CannotSign {
        /// Which key.
        keyid: String,
    },
    /// The request came with an ed25519 signature and this node has no key of
    /// its own to answer with. Configuration.
    #[error("the request was signed with ed25519 and this node has no signing key of its own")]
    NoKey,
    /// A value that the encoding cannot carry. Ours: the doors and the
    /// configuration admit no such value.
    #[error("`{what}` cannot be written: {why}")]
    Unencodable {
        /// The dictionary key, or the part of the request.
        what: &'static str,
        /// What the encoding asks for.
        why: &'static str,
    },
    /// More fields than [`COMPONENTS_MAX`](crate::COMPONENTS_MAX). The client's
    /// doing: answer 431.
    #[error("more fields than one signature covers")]
    TooManyFields,
}
