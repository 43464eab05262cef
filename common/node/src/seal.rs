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
    AUTHORIZATION, CACHE_CONTROL, COOKIE, FORWARDED, HOST, HeaderName, HeaderValue, IF_MATCH,
    IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_RANGE, IF_UNMODIFIED_SINCE, MAX_FORWARDS, PRAGMA, RANGE,
};
use http::{HeaderMap, Method};
use http_cache::Vary;

use crate::fields::{self, TRACEPARENT};
use crate::ids;
use crate::key;
use crate::live::Live;
use crate::purge;
use crate::request::Request;
use crate::state::Node;
use crate::upstream::Target;
use crate::upstream::send::SendError;

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// Fields beside `X-Forwarded-*` in which proxies tell who the visitor is. An edge
/// writes its own and believes nobody else's.
const CLAIMS: [&str; 7] = [
    "forwarded",
    "x-real-ip",
    "x-client-ip",
    "client-ip",
    "true-client-ip",
    "x-cluster-client-ip",
    "x-host",
];

/// Fields by which some origins let a request be taken for another one. They are
/// no part of the key, so what everybody gets must not hang on them.
const OVERRIDES: [&str; 5] = [
    "x-original-url",
    "x-rewrite-url",
    "x-http-method-override",
    "x-http-method",
    "x-method-override",
];

/// For whom a request is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// For everybody who waits for the key.
    Shared,
    /// For one visitor alone. What comes back is kept for nobody else, unless the
    /// visitor's credentials were all that was its own: then the response itself
    /// says whether it may be (RFC 9111 §3.5).
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
    scheme: Scheme,
    trace_id: [u8; 16],
    sampled: bool,
    pub(crate) background: bool,
    only_if_cached: bool,
    /// Authority to send to an origin for everybody: the host of the key.
    host: String,
    purpose: Purpose,
    /// Cookies of the visitor's were left out.
    pub(crate) dropped_cookies: bool,
    /// What comes back may be stored, if it says so itself.
    pub(crate) may_be_kept: bool,
}

impl Outbound {
    /// What `request` becomes on its way out.
    pub(crate) fn new(node: &Node, request: &Request, purpose: Purpose) -> Self {
        let key = request.digest();
        let rules = &request.site.config.key;
        let other_cookies = key::has_other_cookies(&request.fields, rules);
        let credentials_alone = request.facts.has_authorization() && !other_cookies;
        let canonical = match purpose {
            Purpose::Shared => key::path_and_query(&request.key),
            Purpose::Alone => None,
        };
        Self {
            method: request.method.clone(),
            authority: request.authority.clone(),
            path_and_query: canonical.unwrap_or(&request.path_and_query).to_owned(),
            fields: outbound_fields(node, request, purpose, !credentials_alone),
            host: request.host.clone(),
            purpose,
            dropped_cookies: purpose == Purpose::Shared && other_cookies,
            may_be_kept: purpose == Purpose::Shared || credentials_alone,
            site: request.site.config.name.clone(),
            pool: request.site.config.pool.name.clone(),
            rev: request.site.rev.clone(),
            key,
            hop: request.hop().saturating_add(1),
            scheme: request.scheme,
            trace_id: request.trace.trace_id,
            sampled: request.trace.sampled,
            background: request.is_background(),
            only_if_cached: request.facts.only_if_cached(),
        }
    }

    /// Whether it carries nothing that is one visitor's.
    pub(crate) fn is_everybodys(&self) -> bool {
        self.purpose == Purpose::Shared
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

    /// Asks the stores of the hierarchy alone (RFC 9111 §5.2.1.7).
    pub(crate) fn ask_stores_alone(&mut self) {
        self.only_if_cached = true;
        let only_if_cached = HeaderValue::from_static("only-if-cached");
        self.fields.insert(CACHE_CONTROL, only_if_cached);
    }

    /// Whether what any store of the hierarchy would answer will do.
    pub(crate) fn may_ask_any_store(&self) -> bool {
        let wishes = [CACHE_CONTROL, PRAGMA, AUTHORIZATION];
        let has_wishes = wishes.iter().any(|name| self.fields.contains_key(name));
        self.method.is_safe() && !self.background && !self.only_if_cached && !has_wishes
    }

    /// Asks past the stores between us and the origin (RFC 9111 §5.2.1.4).
    pub(crate) fn reload(&mut self) {
        let no_cache = HeaderValue::from_static("no-cache");
        self.fields.insert(CACHE_CONTROL, no_cache);
    }

    /// Whether `Vary` names a field of the request that was not sent as received:
    /// then nobody knows for whom the answer was chosen.
    pub(crate) fn hides(&self, vary: &Vary, received: &HeaderMap) -> bool {
        let Vary::Fields(names) = vary else {
            return false;
        };
        // These two are part of the key, whatever is sent in them.
        let keyed = [HOST, X_FORWARDED_PROTO];
        names
            .iter()
            .filter(|name| !keyed.contains(name))
            .any(|name| {
                self.fields
                    .get_all(name)
                    .iter()
                    .ne(received.get_all(name).iter())
            })
    }

    /// Asks for a part alone; under a validator, for the whole if it has changed
    /// (RFC 9110 §13.1.5).
    pub(crate) fn ask_part(&mut self, range: HeaderValue, validator: Option<HeaderValue>) {
        self.fields.insert(RANGE, range);
        if let Some(validator) = validator {
            self.fields.insert(IF_RANGE, validator);
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
            } else if outbound.purpose == Purpose::Shared {
                // The key knows no port and no case, so neither may the answer.
                outgoing.authority.clone_from(&outbound.host);
            }
            Ok(control::seal_for_origin(outgoing))
        }
        Target::Upper(at) => {
            let upper = node.upstreams.uppers.get(*at).ok_or(SendError::Ours)?;
            let block = ControlBlock {
                version: control::VERSION,
                to: Some(upper.config.name.clone()),
                site: outbound.site.clone(),
                pool: outbound.pool.clone(),
                rev: outbound.rev.clone(),
                key: outbound.key,
                hop: outbound.hop,
                node: node.name().to_owned(),
                epoch: purge::epoch(node, outbound.key, now_ms),
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

/// Seals a probe of an upper tier: a ping that ends there (RFC 9110 §9.3.7) and is
/// about no site.
pub(crate) fn probe(
    node: &Node,
    live: &Live,
    upper: usize,
    span_id: [u8; 8],
    now_ms: u64,
) -> Result<SealedRequest, SendError> {
    let to = node.upstreams.uppers.get(upper).ok_or(SendError::Ours)?;
    let mut fields = HeaderMap::with_capacity(4);
    fields.insert(MAX_FORWARDS, HeaderValue::from_static("0"));
    let outgoing = Outgoing {
        method: Method::OPTIONS,
        authority: PROBED.to_owned(),
        path_and_query: "*".to_owned(),
        fields,
    };
    let block = ControlBlock {
        version: control::VERSION,
        to: Some(to.config.name.clone()),
        site: String::new(),
        pool: String::new(),
        rev: String::new(),
        key: KeyDigest::of(b""),
        hop: 1,
        node: node.name().to_owned(),
        epoch: 0,
        scheme: Scheme::Http,
        trace: TraceIds {
            trace_id: ids::trace_id(),
            span_id,
            sampled: false,
        },
        background: true,
        only_if_cached: true,
    };
    let key = live.keyring.signing(node.name()).ok_or(SendError::Ours)?;
    control::seal(outgoing, &block, key, None, now_ms).map_err(|_| SendError::Ours)
}

/// The host of a probe, which no site can have (RFC 2606 §2).
const PROBED: &str = "probe.invalid";

const CONDITIONALS: [HeaderName; 6] = [
    RANGE,
    IF_RANGE,
    IF_MATCH,
    IF_NONE_MATCH,
    IF_MODIFIED_SINCE,
    IF_UNMODIFIED_SINCE,
];

fn outbound_fields(
    node: &Node,
    request: &Request,
    purpose: Purpose,
    tell_address: bool,
) -> HeaderMap {
    let mut fields = request.fields.clone();
    fields.remove(HOST);
    http_cache::remove_hop_by_hop(&mut fields);
    if request.tier.is_none() {
        remove_claims(&mut fields);
        let scheme = HeaderValue::from_static(request.scheme.as_str());
        fields.insert(X_FORWARDED_PROTO, scheme);
        if purpose == Purpose::Alone
            && tell_address
            && let Ok(visitor) = HeaderValue::try_from(request.visitor.to_string())
        {
            fields.insert(X_FORWARDED_FOR, visitor);
        }
    }
    if purpose == Purpose::Shared {
        make_everybodys(&mut fields, request);
    }
    fields::append_via(&mut fields, node.name());
    fields::append_cdn_loop(&mut fields, node.name());
    fields
}

/// What a visitor claims about itself.
fn remove_claims(fields: &mut HeaderMap) {
    let claimed: Vec<HeaderName> = fields
        .keys()
        .filter(|name| name.as_str().starts_with("x-forwarded-") || CLAIMS.contains(&name.as_str()))
        .cloned()
        .collect();
    for name in claimed {
        fields.remove(name);
    }
    fields.remove(FORWARDED);
}

/// Takes away what belongs to one visitor: the answer is for everybody who has
/// the same key.
fn make_everybodys(fields: &mut HeaderMap, request: &Request) {
    for name in CONDITIONALS {
        fields.remove(name);
    }
    for name in OVERRIDES {
        fields.remove(name);
    }
    fields.remove(AUTHORIZATION);
    fields.remove(X_FORWARDED_FOR);
    // One visitor's wishes about age are not the others'. Only that something
    // newer is wanted is passed on, and those who want it have a fill of their own.
    fields.remove(CACHE_CONTROL);
    fields.remove(PRAGMA);
    let kept = key::kept_cookies(&request.fields, &request.site.config.key);
    fields.remove(COOKIE);
    if let Some(Ok(cookies)) = kept.map(HeaderValue::try_from) {
        fields.insert(COOKIE, cookies);
    }
}

/// Whether a field asks for another request to be answered than the one that came.
pub(crate) fn names_another_target(fields: &HeaderMap) -> bool {
    OVERRIDES.iter().any(|name| fields.contains_key(*name))
}

/// Whether a request between tiers carries what a shared fill would leave out: the
/// edge asks for one visitor, and so must we.
pub(crate) fn is_for_one(request: &Request) -> bool {
    request.tier.is_some()
        && (request.fields.contains_key(X_FORWARDED_FOR)
            || key::has_other_cookies(&request.fields, &request.site.config.key))
}
