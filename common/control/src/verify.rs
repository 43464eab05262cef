//! Verifying: a request that came up, an answer that came down.
//!
//! The order of the questions decides under which name a fault is counted, so it
//! is fixed: is everything there, can it be read, whose key is it, does the
//! signature claim what it should, is it in time, does it cover the whole
//! message, is it true, and does what it says fit who says it.

use std::fmt;
use std::sync::Arc;

use http::header::HeaderName;
use http::{HeaderMap, HeaderValue, Method, StatusCode};

use crate::base::{FieldFault, Target, push_field, push_field_bytes, push_params};
use crate::block::ControlBlock;
use crate::error::{Reason, Rejection};
use crate::fields::{
    SIGNATURE, TIER_CONTROL, TIER_RESULT, exempt_in_request, exempt_in_response, nominated_against,
};
use crate::input::{Component, Input, SignatureFields};
use crate::keys::{Algorithm, Key, Keyring};
use crate::result::TierResult;
use crate::seal::Receipt;
use crate::{LABEL, REQUEST_TAG, RESPONSE_TAG, SKEW_S, VALIDITY_S, sf};

/// The longest nonce we remember, in bytes of text. Ours have 24.
const NONCE_BYTES_MAX: usize = 128;

/// A request as it arrived.
#[derive(Clone, Copy)]
pub struct Received<'a> {
    /// The method.
    pub method: &'a Method,
    /// The value of `Host`, or of `:authority`.
    pub authority: &'a str,
    /// The target in origin form.
    pub path_and_query: &'a str,
    /// Every field of the request.
    pub fields: &'a HeaderMap,
}

impl fmt::Debug for Received<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Fields hold visitors' credentials; a debug line has no use for them.
        f.debug_struct("Received")
            .field("method", self.method)
            .field("authority", &self.authority)
            .field("path_and_query", &self.path_and_query)
            .finish_non_exhaustive()
    }
}

/// A request whose control block is true, and what it takes to answer it.
#[derive(Clone, Debug)]
pub struct Verified {
    block: ControlBlock,
    key: Arc<Key>,
    nonce: Option<String>,
    created_s: u64,
    safe: bool,
    signature: Box<[u8]>,
}

impl Verified {
    /// What the sender says about the request.
    #[must_use]
    pub fn block(&self) -> &ControlBlock {
        &self.block
    }

    /// The key that verified it: the sending node's.
    #[must_use]
    pub fn key(&self) -> &Arc<Key> {
        &self.key
    }

    /// The id of that key.
    #[must_use]
    pub fn keyid(&self) -> &str {
        self.key.keyid()
    }

    /// The `nonce` parameter as it was written; `None` without one.
    #[must_use]
    pub fn nonce(&self) -> Option<&str> {
        self.nonce.as_deref()
    }

    /// When it was signed, Unix seconds, by the sender's clock.
    #[must_use]
    pub fn created_s(&self) -> u64 {
        self.created_s
    }

    /// Whether the method is safe (RFC 9110 §9.2.1): repeating such a request
    /// does no harm, and it needs no nonce.
    #[must_use]
    pub fn is_safe(&self) -> bool {
        self.safe
    }

    pub(crate) fn signature(&self) -> &[u8] {
        &self.signature
    }
}

/// Verifies a request that claims to come from a tier below. `own_name` is the
/// verifying node's, which the block must name as its receiver; `now_ms` is Unix
/// milliseconds.
///
/// # Errors
/// The first thing wrong with it, as [`Rejection`]. Nothing about the request may
/// be believed then.
pub fn verify_request(
    received: Received<'_>,
    ring: &Keyring,
    own_name: &str,
    now_ms: u64,
) -> Result<Verified, Rejection> {
    let fields = received.fields;
    let control = sole(fields, &TIER_CONTROL)?;
    let member = SignatureFields::read(fields)?;
    let block = ControlBlock::decode(control)?;
    let target = Target {
        method: received.method,
        authority: received.authority,
        path_and_query: received.path_and_query,
        scheme: block.scheme,
    };
    if !target.is_clean() {
        return Err(Rejection::malformed(
            "host, path or query contain spaces or control characters",
        ));
    }
    let input = read_input(&member.input)?;
    let key = find(ring, input.keyid)?;

    check_claims(&input, key, REQUEST_TAG)?;
    check_time(&input, now_ms)?;
    let message = Message {
        fields,
        member: &member,
        derive: &|out, name| target.push(out, name),
        request_signature: None,
    };
    for component in Target::COVERED {
        require(&input, component)?;
    }
    require(&input, TIER_CONTROL.as_str())?;
    message.check_complete(&input, exempt_in_request)?;
    message.check_signature(&input, key)?;

    if key.node() != block.node {
        return Err(Rejection::mismatch(format!(
            "Tier-Control speaks for node {:?} and the key {:?} belongs to {:?}: a node signs with its own key",
            block.node,
            key.keyid(),
            key.node()
        )));
    }
    if let Some(to) = block.to.as_deref().filter(|to| *to != own_name) {
        return Err(Rejection::mismatch(format!(
            "this request is for {to:?}, this node is {own_name:?}: compare `name` in {:?}'s [[upper_tier]] with `name` in this node's file; if they agree, the request was recorded and sent on",
            block.node
        )));
    }
    Ok(Verified {
        block,
        key: Arc::clone(key),
        nonce: input.nonce.map(str::to_owned),
        created_s: input.created_s,
        safe: received.method.is_safe(),
        signature: member.signature.into(),
    })
}

/// Verifies an answer to the sealed request that `receipt` came from. `ring` is
/// asked for the answering node's key where the tiers use ed25519; it should hold
/// no keys but this node's own and its upper tiers'.
///
/// # Errors
/// The first thing wrong with it, as [`Rejection`]. The answer may be neither
/// cached nor trusted then.
pub fn verify_response(
    status: StatusCode,
    fields: &HeaderMap,
    receipt: &Receipt,
    ring: &Keyring,
    now_ms: u64,
) -> Result<TierResult, Rejection> {
    let encoded = sole(fields, &TIER_RESULT)?;
    let member = SignatureFields::read(fields)?;
    let result = TierResult::decode(encoded)?;
    let input = read_input(&member.input)?;
    let key = answering_key(ring, receipt, input.keyid)?;

    check_claims(&input, key, RESPONSE_TAG)?;
    check_time(&input, now_ms)?;
    let message = Message {
        fields,
        member: &member,
        derive: &|out, name| {
            let ours = name == "@status";
            if ours {
                out.push_str(status.as_str());
            }
            ours
        },
        request_signature: Some(&receipt.signature),
    };
    require(&input, "@status")?;
    require(&input, TIER_RESULT.as_str())?;
    if !input.covers_member(SIGNATURE.as_str(), LABEL, true) {
        return Err(Rejection::mismatch(
            "the signature does not cover the request's, so the answer could be another request's",
        ));
    }
    message.check_complete(&input, exempt_in_response)?;
    message.check_signature(&input, key)?;

    if let Some(asked) = receipt.to.as_deref().filter(|asked| **asked != result.node) {
        return Err(Rejection::mismatch(format!(
            "the request was for {asked:?} and {:?} answers: compare `name` in this node's [[upper_tier]] with `name` in the upper tier's file",
            result.node
        )));
    }
    if key.algorithm() == Algorithm::Ed25519 && key.node() != result.node {
        return Err(Rejection::mismatch(format!(
            "Tier-Result speaks for node {:?} and the key {:?} belongs to {:?}: a node signs with its own key",
            result.node,
            key.keyid(),
            key.node()
        )));
    }
    Ok(result)
}

/// The one line of a field that has one line.
fn sole<'a>(fields: &'a HeaderMap, name: &HeaderName) -> Result<&'a HeaderValue, Rejection> {
    let mut lines = fields.get_all(name).iter();
    match (lines.next(), lines.next()) {
        (Some(line), None) => Ok(line),
        (None, _) => Err(Rejection::missing(format!(
            "there is no {name}: the sender is not a tier, or something between the tiers removed it"
        ))),
        (Some(_), Some(_)) => Err(Rejection::malformed(format!(
            "there is more than one {name}: something between the tiers added one"
        ))),
    }
}

fn read_input(text: &str) -> Result<Input<'_>, Rejection> {
    let input = Input::parse(text)
        .map_err(|what| Rejection::malformed(format!("Signature-Input: `tier` {what}")))?;
    if input.nonce.is_some_and(|n| n.len() > NONCE_BYTES_MAX) {
        return Err(Rejection::malformed(format!(
            "Signature-Input: `tier` has a nonce of more than {NONCE_BYTES_MAX} bytes"
        )));
    }
    Ok(input)
}

fn find<'a>(ring: &'a Keyring, keyid: &str) -> Result<&'a Arc<Key>, Rejection> {
    ring.find(keyid).ok_or_else(|| {
        let shown: String = keyid.chars().take(64).collect();
        Rejection::new(
            Reason::UnknownKey,
            format!(
                "this node holds no key {shown:?}: add its line to the key files here, or stop signing with it there"
            ),
        )
    })
}

/// An hmac request is answered under the very same key, an ed25519 request under
/// the answering node's own.
fn answering_key<'a>(
    ring: &'a Keyring,
    receipt: &'a Receipt,
    keyid: &str,
) -> Result<&'a Arc<Key>, Rejection> {
    if receipt.key.algorithm() == Algorithm::Ed25519 {
        return find(ring, keyid);
    }
    if keyid == receipt.key.keyid() {
        return Ok(&receipt.key);
    }
    find(ring, keyid)?;
    Err(Rejection::mismatch(format!(
        "the answer is not signed with the request's key {:?}",
        receipt.key.keyid()
    )))
}

/// Whether the signature claims this key's algorithm and this direction.
fn check_claims(input: &Input<'_>, key: &Key, tag: &str) -> Result<(), Rejection> {
    if input.alg != key.algorithm().as_str() {
        return Err(Rejection::mismatch(format!(
            "the signature's `alg` is not {}, which the key {:?} is for",
            key.algorithm(),
            key.keyid()
        )));
    }
    if input.tag != tag {
        return Err(Rejection::mismatch(format!(
            "the signature's `tag` is not {tag}: it was made for something else"
        )));
    }
    Ok(())
}

fn check_time(input: &Input<'_>, now_ms: u64) -> Result<(), Rejection> {
    let ms = |seconds: u64| seconds.saturating_mul(1000);
    if input.expires_s.checked_sub(input.created_s) > Some(VALIDITY_S)
        || input.expires_s < input.created_s
    {
        return Err(Rejection::malformed(format!(
            "the signature is to be valid for something other than 0 to {VALIDITY_S} s"
        )));
    }
    if ms(input.created_s) > now_ms.saturating_add(ms(SKEW_S)) {
        return Err(Rejection::new(
            Reason::Expired,
            format!(
                "signed {} ms in the future: set the clocks of both nodes",
                ms(input.created_s).saturating_sub(now_ms)
            ),
        ));
    }
    if now_ms > ms(input.expires_s) {
        return Err(Rejection::new(
            Reason::Expired,
            format!(
                "expired {} ms ago: set the clocks of both nodes, or look for what holds messages back",
                now_ms.saturating_sub(ms(input.expires_s))
            ),
        ));
    }
    Ok(())
}

/// Whether a component that every signature of this direction covers is covered.
fn require(input: &Input<'_>, component: &str) -> Result<(), Rejection> {
    if input.covers(component) {
        return Ok(());
    }
    Err(Rejection::mismatch(format!(
        "the signature does not cover \"{component}\""
    )))
}

/// A message in the eyes of the verifier.
struct Message<'a> {
    fields: &'a HeaderMap,
    member: &'a SignatureFields<'a>,
    /// Appends a derived component's value; false when there is no such one.
    derive: &'a dyn Fn(&mut String, &str) -> bool,
    /// The signature of the request this message answers.
    request_signature: Option<&'a [u8]>,
}

impl Message<'_> {
    /// Whether the signature covers everything that it must not leave open.
    fn check_complete(
        &self,
        input: &Input<'_>,
        exempt: impl Fn(&str) -> bool + Copy,
    ) -> Result<(), Rejection> {
        for name in self.fields.keys() {
            if !exempt(name.as_str()) && !input.covers(name.as_str()) {
                return Err(Rejection::mismatch(format!(
                    "the field {name} is not covered: something between the tiers added it"
                )));
            }
        }
        for (field, label) in self.member.foreign_labels() {
            if !input.covers_member(field, label, false) {
                return Err(Rejection::mismatch(format!(
                    "the member {label} of {field} is not covered: something between the tiers added it"
                )));
            }
        }
        if let Some(name) = nominated_against(self.fields, exempt) {
            return Err(Rejection::mismatch(format!(
                "Connection takes away the signed field {name}: something between the tiers added that"
            )));
        }
        Ok(())
    }

    /// Rebuilds the base and holds the signature against it.
    fn check_signature(&self, input: &Input<'_>, key: &Key) -> Result<(), Rejection> {
        let mut base = String::with_capacity(1536);
        for component in &input.components {
            base.push_str(component.identifier);
            base.push_str(": ");
            self.push_component(&mut base, component)?;
            base.push('\n');
        }
        push_params(&mut base, &self.member.input);
        if key.verifies(base.as_bytes(), &self.member.signature) {
            return Ok(());
        }
        Err(Rejection::new(
            Reason::BadSignature,
            format!(
                "the signature under key {:?} does not fit: something between the tiers altered the message, or the two nodes hold different keys under one id",
                key.keyid()
            ),
        ))
    }

    fn push_component(
        &self,
        base: &mut String,
        component: &Component<'_>,
    ) -> Result<(), Rejection> {
        let unknown = || {
            Rejection::malformed(format!(
                "Signature-Input: `tier` covers {}, which this node cannot derive",
                component.identifier
            ))
        };
        let absent = || {
            Rejection::mismatch(format!(
                "{} is signed and not there: something between the tiers removed it",
                component.identifier
            ))
        };
        let name = component.name;
        if component.req {
            let ours = name == SIGNATURE.as_str() && component.key == Some(LABEL) && !component.bs;
            let signature = self
                .request_signature
                .filter(|_| ours)
                .ok_or_else(unknown)?;
            sf::push_bytes(base, signature);
            return Ok(());
        }
        if let Some(label) = component.key {
            if component.bs {
                return Err(unknown());
            }
            let text = self.member.member(name, label).ok_or_else(absent)?;
            base.push_str(&text);
            return Ok(());
        }
        if name.starts_with('@') {
            let derived = !component.bs && (self.derive)(base, name);
            return if derived { Ok(()) } else { Err(unknown()) };
        }
        let pushed = if component.bs {
            push_field_bytes(base, self.fields, name)
        } else {
            push_field(base, self.fields, name)
        };
        pushed.map_err(|fault| match fault {
            FieldFault::Absent => absent(),
            FieldFault::NotAscii => Rejection::malformed(format!(
                "{} is not visible ASCII and is covered without `bs`",
                component.identifier
            )),
        })
    }
}
