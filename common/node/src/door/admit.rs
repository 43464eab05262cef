//! Letting a checked head in: control fields, site, loops, key.

use std::net::IpAddr;
use std::sync::Arc;

use control::{Scheme, Verified};
use http::header::COOKIE;
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use http_cache::RequestFacts;
use observe::{Protocol, StrippedFrom};

use super::head::Checked;
use super::{Conn, client, trace};
use crate::answer::Answer;
use crate::clock::Stopwatch;
use crate::fields::{self, ProxyError};
use crate::ids;
use crate::key::{self, Resource};
use crate::live::{Live, Site};
use crate::request::{Request, Trace};
use crate::state::Node;
use crate::tier;

/// A checked head on its way in.
#[derive(Debug)]
pub(crate) struct Arrival {
    pub(crate) method: Method,
    pub(crate) checked: Checked,
    pub(crate) fields: HeaderMap,
    pub(crate) protocol: Protocol,
}

/// A request that is not let in, and what is known of it for the record.
#[derive(Debug)]
pub(crate) struct TurnedAway {
    pub(crate) answer: Box<Answer>,
    pub(crate) method: Method,
    pub(crate) checked: Checked,
    pub(crate) visitor: IpAddr,
    pub(crate) https: bool,
    pub(crate) received_ms: u64,
    pub(crate) watch: Stopwatch,
}

/// Lets a head in, or says to its sender why not.
pub(crate) fn admit(
    node: &Arc<Node>,
    conn: &Conn,
    mut arrival: Arrival,
) -> Result<Request, Box<TurnedAway>> {
    let received_ms = node.now_ms();
    let watch = Stopwatch::start();
    let live = node.live.load_full();
    match enter(node, conn, &live, &mut arrival, received_ms) {
        Ok(entered) => {
            let policies = &entered.site.policies;
            let ruling = policies.ruling(&entered.key);
            let policy = policies.get(ruling);
            let facts = RequestFacts::of(&arrival.method, &arrival.fields, policy);
            Ok(Request {
                live,
                site: entered.site,
                method: arrival.method,
                authority: arrival.checked.authority,
                host: arrival.checked.host,
                path_and_query: arrival.checked.path_and_query,
                fields: arrival.fields,
                scheme: entered.scheme,
                visitor: entered.visitor,
                peer: conn.peer.ip(),
                protocol: arrival.protocol,
                received_ms,
                watch,
                trace: entered.trace,
                tier: entered.tier,
                facts,
                key: entered.key,
                ruling,
            })
        }
        Err(answer) => Err(Box::new(TurnedAway {
            answer,
            method: arrival.method,
            checked: arrival.checked,
            visitor: conn.peer.ip(),
            https: conn.tls,
            received_ms,
            watch,
        })),
    }
}

struct Entered {
    site: Arc<Site>,
    scheme: Scheme,
    visitor: IpAddr,
    trace: Trace,
    tier: Option<Box<Verified>>,
    key: Vec<u8>,
}

fn enter(
    node: &Arc<Node>,
    conn: &Conn,
    live: &Live,
    arrival: &mut Arrival,
    now_ms: u64,
) -> Result<Entered, Box<Answer>> {
    join_cookies(&mut arrival.fields);
    let entered = if node.is_edge() {
        from_visitor(node, conn, live, arrival)?
    } else {
        from_tier(node, conn, live, arrival, now_ms)?
    };
    if fields::has_looped(&arrival.fields, node.name()) {
        let error = ProxyError::new(
            "proxy_loop_detected",
            "this request has been here before; an origin pool points back at this node",
        );
        let mut answer = error_answer(node, StatusCode::LOOP_DETECTED, &error);
        if let Some(verified) = &entered.tier {
            tier::sign_answer(node, live, verified, &mut answer);
        }
        return Err(answer);
    }
    Ok(entered)
}

/// At an edge: whatever a visitor says in our own fields is removed.
fn from_visitor(
    node: &Node,
    conn: &Conn,
    live: &Live,
    arrival: &mut Arrival,
) -> Result<Entered, Box<Answer>> {
    let stripped = control::strip(&mut arrival.fields);
    if stripped > 0 {
        node.observer
            .metrics()
            .stripped_tier_fields(StrippedFrom::Visitor, stripped as u64);
    }
    let visitor = client::visitor(
        conn.peer.ip(),
        &arrival.fields,
        &node.config.trusted_proxies,
    );
    let https = visitor.https.unwrap_or(conn.tls);
    let scheme = if https { Scheme::Https } else { Scheme::Http };
    let checked = &arrival.checked;
    let site = live.serving(&checked.host).ok_or_else(|| {
        node.observer.metrics().door_refused("unknown_host");
        // RFC 9110 §15.5.20; the details are for whoever set up the DNS.
        let details = format!("no site serves the host {}", checked.host);
        let error = ProxyError::new("destination_not_found", details);
        error_answer(node, StatusCode::MISDIRECTED_REQUEST, &error)
    })?;
    let key = key_of(site, scheme, checked, &arrival.fields);
    let parent = trace::continued(&mut arrival.fields, site.config.trust_traceparent);
    let sampled = match &parent {
        Some(parent) => parent.sampled && node.observer.head_sample(0),
        None => node.observer.head_sample(ids::sample()),
    };
    Ok(Entered {
        site: Arc::clone(site),
        scheme,
        visitor: visitor.address,
        trace: Trace {
            trace_id: parent.map_or_else(ids::trace_id, |parent| parent.trace_id),
            span_id: ids::span_id(),
            parent: parent.map(|parent| parent.span_id),
            sampled,
        },
        tier: None,
        key,
    })
}

/// At an upper tier: nothing is done without a verified control block, and
/// nothing but what both sides' configuration names.
fn from_tier(
    node: &Node,
    conn: &Conn,
    live: &Live,
    arrival: &mut Arrival,
    now_ms: u64,
) -> Result<Entered, Box<Answer>> {
    let checked = &arrival.checked;
    let verified = tier::admit(
        node,
        live,
        &arrival.method,
        &checked.authority,
        &checked.path_and_query,
        &arrival.fields,
        now_ms,
    )?;
    if tier::is_probe(&arrival.method, &checked.path_and_query, &arrival.fields) {
        return Err(Box::new(tier::answer_probe(node, live, &verified)));
    }
    let block = verified.block();
    let mismatch = |detail: String| tier::refuse_mismatch(node, &block.node, detail);
    // While a change rolls over the tiers, one of them knows sites, pools and key rules
    // that the other does not. What this node's own file says is what counts here.
    let same_revision = block.rev == live.revision();
    let site = live.named(&block.site).ok_or_else(|| {
        let detail = format!("site {} is not configured here", block.site);
        match same_revision {
            true => mismatch(detail),
            false => not_yet_known(node, &detail),
        }
    })?;
    if site.config.pool.name != block.pool && same_revision {
        return Err(mismatch(format!(
            "pool {} is not the pool of site {} here",
            block.pool, block.site
        )));
    }
    if block.hop > node.config.limits.hops_max {
        let error = ProxyError::new("proxy_loop_detected", "too many hops between tiers");
        let mut answer = error_answer(node, StatusCode::LOOP_DETECTED, &error);
        tier::sign_answer(node, live, &verified, &mut answer);
        return Err(answer);
    }
    let key = key_of(site, block.scheme, checked, &arrival.fields);
    let agrees = control::KeyDigest::of(&key) == block.key || !same_revision;
    if !agrees {
        return Err(mismatch(
            "the key digest is not that of the request".to_owned(),
        ));
    }
    let trace = Trace {
        trace_id: block.trace.trace_id,
        span_id: ids::span_id(),
        parent: Some(block.trace.span_id),
        sampled: block.trace.sampled,
    };
    let (scheme, site) = (block.scheme, Arc::clone(site));
    control::strip(&mut arrival.fields);
    Ok(Entered {
        site,
        scheme,
        visitor: conn.peer.ip(),
        trace,
        tier: Some(verified),
        key,
    })
}

/// Turns a request away whose site stands in another revision than this node's. That is
/// no fault of the hop: the edge asks somebody else for this one.
fn not_yet_known(node: &Node, detail: &str) -> Box<Answer> {
    node.observer.metrics().door_refused("unknown_site");
    // RFC 9110 §15.5.20: not able to answer for this target.
    let details = format!("{detail}, and the revisions of the sites differ");
    let error = ProxyError::new("destination_not_found", details);
    error_answer(node, StatusCode::MISDIRECTED_REQUEST, &error)
}

/// RFC 9113 §8.2.3: HTTP/2 may split `Cookie`; everybody else reads one line. An
/// upper tier gets it joined, so there this changes nothing that is signed.
fn join_cookies(fields: &mut HeaderMap) {
    let mut crumbs = fields.get_all(COOKIE).iter();
    let Some(first) = crumbs.next() else { return };
    let mut joined = first.as_bytes().to_vec();
    let mut several = false;
    for crumb in crumbs {
        several = true;
        joined.extend_from_slice(b"; ");
        joined.extend_from_slice(crumb.as_bytes());
    }
    if several && let Ok(joined) = HeaderValue::try_from(joined) {
        fields.insert(COOKIE, joined);
    }
}

fn key_of(site: &Site, scheme: Scheme, checked: &Checked, fields: &HeaderMap) -> Vec<u8> {
    let mut key = Vec::with_capacity(32 + checked.host.len() + checked.path_and_query.len());
    let resource = Resource {
        site: &site.config.name,
        scheme,
        host: &checked.host,
        path_and_query: &checked.path_and_query,
    };
    key::write_key(&mut key, resource, fields, &site.config.key);
    key
}

fn error_answer(node: &Node, status: StatusCode, error: &ProxyError) -> Box<Answer> {
    Box::new(Answer::error(node, status, error))
}
