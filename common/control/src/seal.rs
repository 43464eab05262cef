//! Signing: a request on its way out, an answer on its way down.
//!
//! Sealing happens per attempt and at send time, and is the last thing that
//! happens: what comes out can be read and sent, and nothing else.

use std::fmt;
use std::sync::Arc;

use http::header::{HOST, HeaderName, HeaderValue};
use http::{HeaderMap, Method, StatusCode};

use crate::base::{Draft, Params, Signed, Target};
use crate::block::ControlBlock;
use crate::error::SealError;
use crate::fields::{
    Foreign, SIGNATURE, SIGNATURE_INPUT, TIER_CONTROL, TIER_RESULT, exempt_in_request,
    exempt_in_response, settle_foreign, strip,
};
use crate::keys::{Algorithm, Key};
use crate::result::TierResult;
use crate::verify::Verified;
use crate::{REQUEST_TAG, RESPONSE_TAG, sf};

/// W3C Trace Context §3.2. Written from the block, so that the two agree.
const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

/// A request as it will leave, before it is sealed.
#[derive(Clone)]
pub struct Outgoing {
    /// The method.
    pub method: Method,
    /// Host and, where one is spelled out, port: the visitor's on the way to an
    /// upper tier. A `Host` among `fields` is removed.
    pub authority: String,
    /// The target in origin form; not empty, no fragment.
    pub path_and_query: String,
    /// End-to-end fields only.
    pub fields: HeaderMap,
}

impl fmt::Debug for Outgoing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Fields hold visitors' credentials; a debug line has no use for them.
        f.debug_struct("Outgoing")
            .field("method", &self.method)
            .field("authority", &self.authority)
            .field("path_and_query", &self.path_and_query)
            .finish_non_exhaustive()
    }
}

/// A request that can only be sent: no method changes it, and the fields inside
/// can be read and not taken out.
pub struct SealedRequest {
    outgoing: Outgoing,
    receipt: Option<Receipt>,
}

impl SealedRequest {
    /// The method.
    #[must_use]
    pub fn method(&self) -> &Method {
        &self.outgoing.method
    }

    /// The value for `Host`, which is not among [`Self::fields`].
    #[must_use]
    pub fn authority(&self) -> &str {
        &self.outgoing.authority
    }

    /// The target in origin form.
    #[must_use]
    pub fn path_and_query(&self) -> &str {
        &self.outgoing.path_and_query
    }

    /// Every field to send, apart from `Host` and the framing.
    #[must_use]
    pub fn fields(&self) -> &HeaderMap {
        &self.outgoing.fields
    }

    /// What verifies the answer; `None` on the way to an origin.
    #[must_use]
    pub fn receipt(&self) -> Option<&Receipt> {
        self.receipt.as_ref()
    }
}

impl fmt::Debug for SealedRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SealedRequest")
            .field("outgoing", &self.outgoing)
            .field("receipt", &self.receipt)
            .finish()
    }
}

/// What is needed to verify the answer to a sealed request: that request's own
/// signature, which the answer must cover, the key it was made with, and who was
/// asked.
#[derive(Clone)]
pub struct Receipt {
    pub(crate) signature: Arc<[u8]>,
    pub(crate) key: Arc<Key>,
    /// The node that was asked, which nobody may answer for. Thin, since a receipt is
    /// held across every wait for an answer.
    pub(crate) to: Option<Arc<String>>,
}

impl fmt::Debug for Receipt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Receipt")
            .field("keyid", &self.key.keyid())
            .finish_non_exhaustive()
    }
}

/// Seals a request to an upper tier. Whatever tier fields and tier signature it
/// carries are removed; `Tier-Control`, `traceparent`, `Signature-Input` and
/// `Signature` are written.
///
/// `nonce` belongs on every unsafe method, fresh for every attempt; `now_ms` is
/// Unix milliseconds.
///
/// # Errors
/// [`SealError`]; `TooManyFields` is the client's doing, the others are ours.
pub fn seal(
    mut outgoing: Outgoing,
    block: &ControlBlock,
    key: &Arc<Key>,
    nonce: Option<[u8; 16]>,
    now_ms: u64,
) -> Result<SealedRequest, SealError> {
    if key.node() != block.node {
        return Err(SealError::KeyOfAnotherNode {
            block_node: block.node.clone(),
            key_node: key.node().to_owned(),
        });
    }
    let control = block.encode()?;
    let traceparent = HeaderValue::try_from(block.trace.to_traceparent())
        .expect("a traceparent is visible ASCII");
    let fields = &mut outgoing.fields;
    strip(fields);
    fields.remove(HOST);
    let foreign = settle_foreign(fields);
    set(fields, TIER_CONTROL, control)?;
    set(fields, TRACEPARENT, traceparent)?;

    let target = Target {
        method: &outgoing.method,
        authority: &outgoing.authority,
        path_and_query: &outgoing.path_and_query,
        scheme: block.scheme,
    };
    if !target.is_clean() {
        return Err(SealError::Unencodable {
            what: "target",
            why: "host, path and query must not contain spaces or control characters",
        });
    }
    let mut draft = Draft::new();
    draft.cover_target(target);
    cover_fields(
        &mut draft,
        &outgoing.fields,
        &TIER_CONTROL,
        exempt_in_request,
    );
    cover_foreign(&mut draft, &foreign);
    let signed = draft.finish(
        &Params {
            created_s: now_ms / 1000,
            nonce,
            tag: REQUEST_TAG,
        },
        key,
    )?;
    let signature = write(&mut outgoing.fields, signed)?;
    Ok(SealedRequest {
        outgoing,
        receipt: Some(Receipt {
            signature: signature.into(),
            key: Arc::clone(key),
            to: block.to.clone().map(Arc::new),
        }),
    })
}

/// Seals a request to an origin: what tiers say to each other is none of its
/// business, so every tier field and tier signature is removed, and nothing is
/// signed.
#[must_use]
pub fn seal_for_origin(mut outgoing: Outgoing) -> SealedRequest {
    strip(&mut outgoing.fields);
    outgoing.fields.remove(HOST);
    SealedRequest {
        outgoing,
        receipt: None,
    }
}

/// Signs an answer to a verified request. Tier fields and tier signatures that
/// are already there are removed; `Tier-Result`, `Signature-Input` and
/// `Signature` are written into `fields`, which must otherwise be final.
///
/// The key is the hmac key that verified the request. An ed25519 request cannot
/// be answered with the sender's key, so `own` signs: this node's own.
///
/// # Errors
/// [`SealError`]: `NoKey` when an ed25519 request meets a node without a key, and
/// whatever [`TierResult::encode`] refuses.
pub fn sign_response(
    status: StatusCode,
    fields: &mut HeaderMap,
    result: &TierResult,
    request: &Verified,
    own: Option<&Arc<Key>>,
    now_ms: u64,
) -> Result<(), SealError> {
    let key = match request.key().algorithm() {
        Algorithm::HmacSha256 => request.key(),
        Algorithm::Ed25519 => {
            let own = own.ok_or(SealError::NoKey)?;
            if own.node() != result.node {
                return Err(SealError::KeyOfAnotherNode {
                    block_node: result.node.clone(),
                    key_node: own.node().to_owned(),
                });
            }
            own
        }
    };
    let encoded = result.encode()?;
    strip(fields);
    let foreign = settle_foreign(fields);
    set(fields, TIER_RESULT, encoded)?;

    let mut draft = Draft::new();
    draft.cover("@status", "", |out| out.push_str(status.as_str()));
    cover_fields(&mut draft, fields, &TIER_RESULT, exempt_in_response);
    cover_foreign(&mut draft, &foreign);
    // RFC 9421 §2.4: the answer names the very request it answers.
    draft.cover(SIGNATURE.as_str(), REQUEST_SIGNATURE_PARAMS, |out| {
        sf::push_bytes(out, request.signature());
    });
    let signed = draft.finish(
        &Params {
            created_s: now_ms / 1000,
            nonce: None,
            tag: RESPONSE_TAG,
        },
        key,
    )?;
    write(fields, signed)?;
    Ok(())
}

/// The parameters that pick our member of the request's `Signature`: the label is
/// [`LABEL`](crate::LABEL).
const REQUEST_SIGNATURE_PARAMS: &str = ";req;key=\"tier\"";

/// Covers our own field first and then all that are not exempt.
fn cover_fields(
    draft: &mut Draft,
    fields: &HeaderMap,
    ours: &HeaderName,
    exempt: impl Fn(&str) -> bool,
) {
    draft.cover_field(fields, ours);
    for name in fields.keys() {
        if name != ours && !exempt(name.as_str()) {
            draft.cover_field(fields, name);
        }
    }
}

fn cover_foreign(draft: &mut Draft, members: &[Foreign]) {
    for member in members {
        draft.cover(member.field.as_str(), &member.params, |out| {
            out.push_str(&member.value);
        });
    }
}

/// Adds the signature as lines of their own, below what others signed.
fn write(fields: &mut HeaderMap, signed: Signed) -> Result<Box<[u8]>, SealError> {
    let too_many = |_| SealError::TooManyFields;
    fields
        .try_append(SIGNATURE_INPUT, signed.input)
        .map_err(too_many)?;
    fields
        .try_append(SIGNATURE, signed.signature)
        .map_err(too_many)?;
    Ok(signed.bytes)
}

fn set(fields: &mut HeaderMap, name: HeaderName, value: HeaderValue) -> Result<(), SealError> {
    fields
        .try_insert(name, value)
        .map(drop)
        .map_err(|_| SealError::TooManyFields)
}
