//! Whose field is it? Which names are ours, which are the hop's, and how ours are
//! taken off a message without touching anyone else's.

use http::HeaderMap;
use http::header::HeaderName;
use sfv::{Dictionary, Parser};

use crate::LABEL;
use crate::sf::{joined, member_text};

/// Carries [`ControlBlock`](crate::ControlBlock) to an upper tier.
pub const TIER_CONTROL: HeaderName = HeaderName::from_static("tier-control");

/// Carries [`TierResult`](crate::TierResult) back.
pub const TIER_RESULT: HeaderName = HeaderName::from_static("tier-result");

/// RFC 9421 §4.2. Ours is the member labelled [`LABEL`].
pub const SIGNATURE: HeaderName = HeaderName::from_static("signature");

/// RFC 9421 §4.1. Ours is the member labelled [`LABEL`].
pub const SIGNATURE_INPUT: HeaderName = HeaderName::from_static("signature-input");

/// Whether a name is reserved for talk between tiers: all that begin `tier-`.
#[must_use]
pub fn is_tier_field(name: &HeaderName) -> bool {
    name.as_str().starts_with("tier-")
}

/// Removes every `Tier-*` field and the `tier` member of `Signature` and
/// `Signature-Input`; members with other labels stay as they are. Returns how
/// many field lines and members went, for the counter.
///
/// One pass over the names when there is nothing to remove.
pub fn strip(fields: &mut HeaderMap) -> usize {
    let mut removed = 0;
    let mut reserved: Vec<HeaderName> = Vec::new();
    for name in fields.keys() {
        if is_tier_field(name) {
            reserved.push(name.clone());
        }
    }
    for name in reserved {
        removed += fields.get_all(&name).iter().count();
        fields.remove(&name);
    }
    for name in [SIGNATURE, SIGNATURE_INPUT] {
        removed += usize::from(strip_member(fields, &name));
    }
    removed
}

/// Takes our member out of one dictionary field.
fn strip_member(fields: &mut HeaderMap, name: &HeaderName) -> bool {
    let mentioned = fields.get_all(name).iter().any(|line| {
        line.as_bytes()
            .windows(LABEL.len())
            .any(|window| window == LABEL.as_bytes())
    });
    if !mentioned {
        return false;
    }
    let dictionary = joined(fields, name)
        .ok()
        .flatten()
        .and_then(|text| Parser::new(&text).parse::<Dictionary>().ok());
    let Some(mut dictionary) = dictionary else {
        // It names our label and cannot be read as RFC 9651, so a lax reader
        // might still find a `tier` in it. Nobody can verify such a field.
        fields.remove(name);
        return true;
    };
    if dictionary.shift_remove(LABEL).is_none() {
        return false;
    }
    fields.remove(name);
    let mut out = sfv::DictSerializer::new();
    out.members(dictionary.iter());
    if let Some(text) = out.finish() {
        fields.insert(
            name.clone(),
            text.try_into()
                .expect("a serialized dictionary is visible ASCII"),
        );
    }
    true
}

/// A member of `Signature` or `Signature-Input` that is not ours.
pub(crate) struct Foreign {
    /// The field it is in.
    pub(crate) field: HeaderName,
    /// `;key="sig1"`: the parameter that picks it (RFC 9421 §2.1.2).
    pub(crate) params: String,
    /// Its canonical text.
    pub(crate) value: String,
}

/// The other signatures on a message, to be covered by ours. A field that is no
/// dictionary, or an empty one, is removed: our own member joins it on the wire,
/// and a visitor must not be able to make our signature unreadable.
pub(crate) fn settle_foreign(fields: &mut HeaderMap) -> Vec<Foreign> {
    let mut members = Vec::new();
    for name in [SIGNATURE, SIGNATURE_INPUT] {
        if !fields.contains_key(&name) {
            continue;
        }
        let dictionary = joined(fields, &name)
            .ok()
            .flatten()
            .and_then(|text| Parser::new(&text).parse::<Dictionary>().ok())
            .unwrap_or_default();
        if dictionary.is_empty() {
            fields.remove(&name);
        }
        members.extend(foreign(&name, &dictionary));
    }
    members
}

/// Every member of a dictionary but ours.
fn foreign<'a>(
    field: &'a HeaderName,
    dictionary: &'a Dictionary,
) -> impl Iterator<Item = Foreign> + use<'a> {
    dictionary
        .iter()
        .filter(|(label, _)| label.as_str() != LABEL)
        .map(move |(label, entry)| Foreign {
            field: field.clone(),
            params: format!(";key=\"{label}\""),
            value: member_text(entry),
        })
}

/// Request fields that the signature leaves alone.
///
/// These belong to the connection or to message framing (RFC 9110 §7.6.1,
/// RFC 9112 §6, §9), and whoever handles the connection writes them: pingora
/// does so after the last user code has run. `Host` is covered as `@authority`.
/// `Content-Length` frames a body that the signature does not cover either, and
/// pingora may turn it into chunks. `Expect` decides about an interim response
/// only. `Upgrade` is not here: it changes the answer.
/// `Signature` and `Signature-Input` are covered member by member.
pub(crate) fn exempt_in_request(name: &str) -> bool {
    matches!(
        name,
        "host"
            | "connection"
            | "keep-alive"
            | "proxy-connection"
            | "te"
            | "trailer"
            | "transfer-encoding"
            | "content-length"
            | "expect"
            | "signature"
            | "signature-input"
    )
}

/// Response fields that the signature leaves alone: the connection's and the
/// framing's, as in a request, `Upgrade`, which a response only echoes, and
/// `Date`, which pingora's sessions rewrite to now. The origin's date rides in
/// `Tier-Result` instead.
pub(crate) fn exempt_in_response(name: &str) -> bool {
    matches!(
        name,
        "connection"
            | "keep-alive"
            | "proxy-connection"
            | "trailer"
            | "transfer-encoding"
            | "content-length"
            | "upgrade"
            | "date"
            | "signature"
            | "signature-input"
    )
}

/// A field that `Connection` takes away although the signature covers it.
///
/// `Connection` itself is exempt, so whoever sits between two tiers could write
/// `Connection: authorization` and have the receiver, by RFC 9110 §7.6.1, remove
/// a signed field after verifying it.
pub(crate) fn nominated_against(
    fields: &HeaderMap,
    exempt: impl Fn(&str) -> bool,
) -> Option<HeaderName> {
    fields
        .get_all(http::header::CONNECTION)
        .iter()
        .flat_map(|line| line.as_bytes().split(|b| *b == b','))
        .filter_map(|token| HeaderName::from_bytes(token.trim_ascii()).ok())
        .find(|name| name != "upgrade" && !exempt(name.as_str()) && fields.contains_key(name))
}
