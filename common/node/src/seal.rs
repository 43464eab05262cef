//! The one way out of the node.
//!
//! Fill and pass describe what they want to send as an `Outbound`; `seal` turns
//! it into a `SealedRequest` for one target, per attempt, at send time. Nothing
//! sealed can be changed, and nothing else can be sent. On the way:
//!
//! - towards an upper tier the control block is written and everything signed;
//! - towards an origin every control field is removed;
//! - a shared fill carries nothing that belongs to one visitor.

use control::{ControlBlock, KeyDigest, Outgoing, Scheme, SealedRequest, TraceIds};
use http::header::{
    AUTHORIZATION, COOKIE, FORWARDED, HOST, HeaderName, HeaderValue, IF_MATCH, IF_MODIFIED_SINCE,
    IF_NONE_MATCH, IF_RANGE, IF_UNMODIFIED_SINCE, RANGE,
};
use http::{HeaderMap, Method};

use crate::fields::{self, TRACEPARENT};
use crate::ids;
use crate::key;
use crate::live::Live;
use crate::request::Request;
use crate::state::Node;
use crate::upstream::Target;
use crate::upstream::send::SendError;

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const X_FORWARDED_PORT: HeaderName = HeaderName::from_static("x-forwarded-port");
const X_REAL_IP: HeaderName = HeaderName::from_static("x-real-ip");

/// For whom a request is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// For everybody who waits for the key.
    Shared,
    /// For one visitor alone.
    Alone,
}

/// A request to be sent, to whichever target its turn comes.
#[derive(Debug, Clone)]
pub(crate) struct Outbound {
    pub(crate) method: Method,
    pub(crate) authority: String,
    pub(crate) path_and_query: String,
    /// End-to-end fields.
    pub(crate) fields: HeaderMap,
    site: String,
    pool: String,
    rev: String,
    key: KeyDigest,
    hop: u8,
    epoch: u64,
    scheme: Scheme,
    trace_id: [u8; 16],
    sampled: bool,
    pub(crate) background: bool,
    only_if_cached: bool,
}

impl Outbound {
    /// What `request` becomes on its way out.
    pub(crate) fn new(node: &Node, request: &Request, purpose: Purpose) -> Self {
        let key = request.digest();
        Self {
            method: request.method.clone(),
            authority: request.authority.clone(),
            path_and_query: request.path_and_query.clone(),
            fields: outbound_fields(node, request, purpose),
            site: request.site.config.name.clone(),
            pool: request.site.config.pool.name.clone(),
            rev: request.site.rev.clone(),
            key,
            hop: request.hop().saturating_add(1),
            epoch: node.purged.epoch(key).max(request.epoch()),
            scheme: request.scheme,
            trace_id: request.trace.trace_id,
            sampled: request.trace.sampled,
            background: request.is_background(),
            only_if_cached: request.facts.only_if_cached(),
        }
    }

    /// Adds the validators of what is stored.
    pub(crate) fn validate(
        &mut self,
        validators: impl IntoIterator<Item = (HeaderName, HeaderValue)>,
    ) {
        for (name, value) in validators {
            self.fields.insert(name, value);
        }
    }

    /// Asks for the rest of a body, and for nothing if it has changed (RFC 9110 §13.1.5).
    pub(crate) fn resume(&mut self, from: u64, etag: &HeaderValue) {
        for name in CONDITIONALS {
            self.fields.remove(name);
        }
        if let Ok(range) = HeaderValue::try_from(format!("bytes={from}-")) {
            self.fields.insert(RANGE, range);
            self.fields.insert(IF_RANGE, etag.clone());
        }
    }
}

/// Seals `outbound` for `target`. The span id becomes the parent of whatever the
/// target does, whether or not anyone is tracing.
pub(crate) fn seal(
    node: &Node,
    live: &Live,
    outbound: &Outbound,
    target: &Target,
    span_id: [u8; 8],
    now_ms: u64,
) -> Result<SealedRequest, SendError> {
    let mut outgoing = Outgoing {
        method: outbound.method.clone(),
        authority: outbound.authority.clone(),
        path_and_query: outbound.path_and_query.clone(),
        fields: outbound.fields.clone(),
    };
    outgoing.fields.insert(
        TRACEPARENT,
        fields::traceparent(outbound.trace_id, span_id, outbound.sampled),
    );
    match target {
        Target::Origin { pool, .. } => {
            if let Some(host) = &pool.host_header {
                outgoing.authority.clone_from(host);
            }
            Ok(control::seal_for_origin(outgoing))
        }
        Target::Upper(_) => {
            let block = ControlBlock {
                version: control::VERSION,
                site: outbound.site.clone(),
                pool: outbound.pool.clone(),
                rev: outbound.rev.clone(),
                key: outbound.key,
                hop: outbound.hop,
                node: node.name().to_owned(),
                epoch: outbound.epoch,
                scheme: outbound.scheme,
                trace: TraceIds {
                    trace_id: outbound.trace_id,
                    span_id,
                    sampled: outbound.sampled,
                },
                background: outbound.background,
                only_if_cached: outbound.only_if_cached,
            };
            let key = live.keyring.signing(node.name()).ok_or(SendError::Ours)?;
            let nonce = if outbound.method.is_safe() {
                None
            } else {
                Some(ids::nonce().ok_or(SendError::Ours)?)
            };
            control::seal(outgoing, &block, key, nonce, now_ms).map_err(|_| SendError::Ours)
        }
    }
}

const CONDITIONALS: [HeaderName; 6] = [
    RANGE,
    IF_RANGE,
    IF_MATCH,
    IF_NONE_MATCH,
    IF_MODIFIED_SINCE,
    IF_UNMODIFIED_SINCE,
];

fn outbound_fields(node: &Node, request: &Request, purpose: Purpose) -> HeaderMap {
    let mut fields = request.fields.clone();
    fields.remove(HOST);
    http_cache::remove_hop_by_hop(&mut fields);
    if request.tier.is_none() {
        // What a visitor claims about itself is no part of the key, so it must not
        // be able to change what is cached for others.
        for name in [
            FORWARDED,
            X_FORWARDED_FOR,
            X_FORWARDED_HOST,
            X_FORWARDED_PROTO,
            X_FORWARDED_PORT,
            X_REAL_IP,
        ] {
            fields.remove(name);
        }
        let scheme = HeaderValue::from_static(request.scheme.as_str());
        fields.insert(X_FORWARDED_PROTO, scheme);
        if purpose == Purpose::Alone
            && let Ok(visitor) = HeaderValue::try_from(request.visitor.to_string())
        {
            fields.insert(X_FORWARDED_FOR, visitor);
        }
    }
    if purpose == Purpose::Shared {
        for name in CONDITIONALS {
            fields.remove(name);
        }
        fields.remove(AUTHORIZATION);
        fields.remove(X_FORWARDED_FOR);
        let kept = key::kept_cookies(&request.fields, &request.site.config.key);
        fields.remove(COOKIE);
        if let Some(Ok(cookies)) = kept.map(HeaderValue::try_from) {
            fields.insert(COOKIE, cookies);
        }
    }
    fields::append_via(&mut fields, node.name());
    fields::append_cdn_loop(&mut fields, node.name());
    fields
}
