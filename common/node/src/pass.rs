//! Passing on what cannot be cached, through pingora's proxy, and answering
//! HTTP/2 through its session.
//!
//! ```text
//!   request_filter ── GET or HEAD over HTTP/2 ──▶ serve, written to the session
//!     │ the rest
//!   upstream_peer ── the next way
//!   upstream_request_filter ── seal: the last code of ours before the wire
//!   upstream_response_filter ── verify, strip, invalidate
//!   response_filter ── our fields, and at an upper tier the signature
//! ```
//!
//! A request that may have been executed is never sent twice: the next way is
//! taken only while none was connected to, or when the method is safe.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use control::Receipt;
use http::header::{
    CONNECTION, CONTENT_LENGTH, DATE, EXPECT, HeaderValue, TRANSFER_ENCODING, UPGRADE,
};
use http::{HeaderMap, Method, StatusCode};
use observe::{Attempt, Done, InFlightGuard, Outcome, Protocol};
use pingora_core::protocols::http::ServerSession;
use pingora_core::upstreams::peer::{HttpPeer, HttpUpstreamRequestPolicy};
use pingora_error::{Error, ErrorSource, ErrorType, Result};
use pingora_http::{RequestHeader, ResponseHeader};
use pingora_proxy::{FailToProxy, HttpProxy, ProxyHttp, Session};
use topology::Failure;

use crate::answer::{Answer, Body};
use crate::clock;
use crate::door::admit::{Arrival, TurnedAway, admit};
use crate::door::head::{self, Checked, Framing, Version};
use crate::door::{Conn, DOOR};
use crate::fields::{self, CACHE_STATUS, CacheStatus, Forward, ProxyError};
use crate::fill::reach::{self, Route};
use crate::ids;
use crate::key::Resource;
use crate::purge;
use crate::report;
use crate::request::Request;
use crate::seal::{Outbound, Purpose, seal};
use crate::serve;
use crate::state::Node;
use crate::tier;
use crate::upstream::send::{SendError, framing_is_sound, wire_header};
use crate::upstream::{Target, host_only};

/// pingora's proxy around ours.
pub(crate) type Proxy = HttpProxy<Pass>;

const UNVERIFIED: ErrorType = ErrorType::new("TierResultUnverified");
const UNSOUND: ErrorType = ErrorType::new("UnknownTransferCoding");
const TOO_LARGE: ErrorType = ErrorType::new("RequestBodyTooLarge");
/// pingora's name for chunks it cannot read; it exports none.
const INVALID_CHUNK: ErrorType = ErrorType::new("InvalidChunk");

/// The node, as pingora's proxy sees it.
#[derive(Debug)]
pub(crate) struct Pass {
    pub(crate) node: Arc<Node>,
}

/// One request on its way through.
#[derive(Debug, Default)]
pub(crate) struct Passing {
    conn: Option<Arc<Conn>>,
    way: Option<Box<OnTheWay>>,
    /// Written by `serve` or a refusal, and told already.
    told: bool,
}

/// What is known once a request was let in to pass.
#[derive(Debug)]
struct OnTheWay {
    request: Request,
    outbound: Outbound,
    targets: std::vec::IntoIter<Target>,
    target: Option<Target>,
    receipt: Option<Receipt>,
    span_id: [u8; 8],
    attempt_from_us: u64,
    attempts: Vec<Attempt>,
    /// What is wrong, in the words of the last attempt.
    failed: Option<SendError>,
    body_bytes: u64,
    framing: Framing,
    upgrade: Option<HeaderValue>,
    expects_continue: bool,
    _visible: InFlightGuard,
}

#[async_trait]
impl ProxyHttp for Pass {
    type CTX = Passing;

    fn new_ctx(&self) -> Passing {
        Passing {
            conn: DOOR.try_with(Arc::clone).ok(),
            ..Passing::default()
        }
    }

    async fn request_filter(&self, session: &mut Session, passing: &mut Passing) -> Result<bool> {
        let Some(conn) = passing.conn.clone() else {
            return Err(Error::explain(
                ErrorType::InternalError,
                "a session without its connection",
            ));
        };
        let protocol = if session.is_http2() {
            Protocol::H2
        } else {
            Protocol::H1
        };
        let arrival = match self.arrival(session, protocol) {
            Ok(arrival) => arrival,
            Err(refusal) => {
                self.node.observer.metrics().door_refused(refusal.reason);
                let watch = clock::Stopwatch::start();
                let mut answer = Answer::refusal(self.node.name(), refusal);
                let sent = write_answer(session, self.node.name(), &mut answer).await?;
                report::malformed(&self.node, &conn, &answer, watch, sent);
                passing.told = true;
                return Ok(true);
            }
        };
        let framing = arrival.checked.framing;
        let unusual = arrival.checked.unusual;
        match admit(&self.node, &conn, arrival) {
            Err(turned_away) => {
                self.turn_away(session, *turned_away, protocol).await?;
                passing.told = true;
                Ok(true)
            }
            Ok(request) => {
                let cached = request.method == Method::GET || request.method == Method::HEAD;
                let usual = framing == Framing::None && !unusual && session.is_body_empty();
                if cached && usual {
                    passing.told = true;
                    self.serve(session, &request).await?;
                    return Ok(true);
                }
                passing.way = Some(Box::new(self.set_out(request, framing)));
                Ok(false)
            }
        }
    }

    async fn upstream_peer(
        &self,
        _session: &mut Session,
        passing: &mut Passing,
    ) -> Result<Box<HttpPeer>> {
        let way = passing.way.as_mut().ok_or_else(lost)?;
        let Some(target) = way.targets.next() else {
            let mut error = Error::explain(ErrorType::ConnectError, "no way is left");
            error.as_up();
            return Err(error);
        };
        if matches!(way.target, Some(Target::Upper(_))) && matches!(target, Target::Origin { .. }) {
            self.node.observer.metrics().direct();
        }
        way.span_id = ids::span_id();
        way.attempt_from_us = way.request.watch.elapsed_us();
        let host = match &target {
            Target::Origin { pool, .. } => pool.host_header.as_deref(),
            Target::Upper(_) => None,
        };
        let host = host_only(host.unwrap_or(&way.outbound.authority)).to_owned();
        let peers = target.peers(&self.node, &host, clock::now_ms()).await;
        way.target = Some(target);
        match peers.ok().and_then(|peers| peers.into_iter().next()) {
            Some(mut peer) => {
                // The seal decides what goes out; pingora adds nothing before it.
                peer.options.http_upstream_request_policy = HttpUpstreamRequestPolicy::preserve();
                let first_byte_ms = self.node.config.timeouts.first_byte_ms;
                peer.options.read_timeout = Some(crate::upstream::millis(first_byte_ms));
                Ok(Box::new(peer))
            }
            None => {
                self.attempt_failed(way, SendError::Dns);
                let mut error = Error::explain(ErrorType::ConnectError, "no address");
                error.as_up();
                error.set_retry(way.targets.len() > 0);
                Err(error)
            }
        }
    }

    async fn upstream_request_filter(
        &self,
        session: &mut Session,
        upstream_request: &mut RequestHeader,
        passing: &mut Passing,
    ) -> Result<()> {
        let way = passing.way.as_mut().ok_or_else(lost)?;
        let target = way.target.as_ref().ok_or_else(lost)?;
        let live = &way.request.live;
        let sealed = seal(
            &self.node,
            live,
            &way.outbound,
            target,
            way.span_id,
            clock::now_ms(),
        )
        .map_err(|_| Error::explain(ErrorType::InternalError, "the request cannot be sealed"))?;
        way.receipt = sealed.receipt().cloned();
        let mut header = wire_header(&sealed).ok_or_else(|| {
            Error::explain(ErrorType::InternalError, "the request cannot be built")
        })?;
        // Framing belongs to the connection, not to what was sealed.
        match way.framing {
            // RFC 9110 §8.6: where a body is expected, that there is none is said.
            Framing::None if expects_body(&header.method) && session.is_body_empty() => {
                header.insert_header(CONTENT_LENGTH, 0)?;
            }
            Framing::None => {}
            Framing::Length(length) => {
                header.insert_header(CONTENT_LENGTH, length)?;
            }
            Framing::Chunked => {
                header.insert_header(TRANSFER_ENCODING, "chunked")?;
            }
        }
        if way.upgrade.is_some() {
            header.insert_header(CONNECTION, "upgrade")?;
        }
        if way.expects_continue {
            header.insert_header(EXPECT, "100-continue")?;
        }
        *upstream_request = header;
        Ok(())
    }

    async fn request_body_filter(
        &self,
        _session: &mut Session,
        body: &mut Option<Bytes>,
        _end_of_stream: bool,
        passing: &mut Passing,
    ) -> Result<()> {
        let way = passing.way.as_mut().ok_or_else(lost)?;
        way.body_bytes += body.as_ref().map_or(0, Bytes::len) as u64;
        let upgraded = way.upgrade.is_some();
        if !upgraded && way.body_bytes > self.node.config.limits.request_body_bytes_max {
            let mut error = Error::explain(TOO_LARGE, "the request body is too large");
            error.as_down();
            return Err(error);
        }
        Ok(())
    }

    async fn upstream_response_filter(
        &self,
        _session: &mut Session,
        response: &mut ResponseHeader,
        passing: &mut Passing,
    ) -> Result<()> {
        let way = passing.way.as_mut().ok_or_else(lost)?;
        if response.status.is_informational() && response.status != StatusCode::SWITCHING_PROTOCOLS
        {
            return Ok(());
        }
        let mut fields = response.headers.clone();
        if !framing_is_sound(&fields) {
            self.attempt_failed(way, SendError::Garbage);
            let mut error = Error::explain(UNSOUND, "an unknown transfer coding");
            error.as_up();
            return Err(error);
        }
        if let Some(receipt) = &way.receipt {
            let keyring = &way.request.live.keyring;
            let now_ms = clock::now_ms();
            match control::verify_response(response.status, &fields, receipt, keyring, now_ms) {
                Ok(result) => {
                    control::strip(&mut fields);
                    if let Some(date_s) = result.date_s {
                        fields.insert(DATE, http_cache::date::format(date_s.saturating_mul(1000)));
                    }
                }
                Err(rejection) => {
                    let peer = way.target.as_ref().map(|target| target.name(&self.node));
                    let peer = peer.unwrap_or_default();
                    let error = reach::unverified(&self.node, &peer, &fields, &rejection);
                    self.attempt_failed(way, error);
                    let mut error = Error::explain(UNVERIFIED, "tier-result does not verify");
                    error.as_up();
                    return Err(error);
                }
            }
        } else {
            reach::strip_from_origin(&self.node, &mut fields);
        }
        self.attempt_succeeded(way, response.status);
        self.invalidate(way, response.status, &fields);
        replace_fields(response, &fields)
    }

    async fn response_filter(
        &self,
        session: &mut Session,
        response: &mut ResponseHeader,
        passing: &mut Passing,
    ) -> Result<()> {
        let way = passing.way.as_mut().ok_or_else(lost)?;
        if response.status.is_informational() && response.status != StatusCode::SWITCHING_PROTOCOLS
        {
            return Ok(());
        }
        let mut fields = response.headers.clone();
        let coding = fields.get(TRANSFER_ENCODING).cloned();
        let upgrade = fields.get(UPGRADE).cloned();
        http_cache::remove_hop_by_hop(&mut fields);
        fields::append_via(&mut fields, self.node.name());
        if !fields.contains_key(DATE) {
            fields.insert(DATE, http_cache::date::format(clock::now_ms()));
        }
        let cache_status = CacheStatus {
            upstream: fields::joined(&fields, &CACHE_STATUS),
            forward: Some(forward_reason(&way.request)),
            forward_status: Some(response.status.as_u16()),
            ..CacheStatus::default()
        };
        fields.insert(CACHE_STATUS, cache_status.value(self.node.name()));
        if response.status == StatusCode::SWITCHING_PROTOCOLS
            && let Some(upgrade) = upgrade
        {
            fields.insert(UPGRADE, upgrade);
            fields.insert(CONNECTION, HeaderValue::from_static("upgrade"));
        }
        self.sign(&way.request, response.status, &mut fields)?;
        if let Some(coding) = coding
            && !session.is_http2()
        {
            fields.insert(TRANSFER_ENCODING, coding);
        }
        replace_fields(response, &fields)
    }

    fn fail_to_connect(
        &self,
        _session: &mut Session,
        _peer: &HttpPeer,
        passing: &mut Passing,
        mut error: Box<Error>,
    ) -> Box<Error> {
        if let Some(way) = &mut passing.way {
            self.attempt_failed(way, SendError::ConnectRefused);
            // Nothing was sent, so any method may take the next way.
            error.set_retry(way.targets.len() > 0);
        }
        error
    }

    fn error_while_proxy(
        &self,
        _peer: &HttpPeer,
        session: &mut Session,
        mut error: Box<Error>,
        passing: &mut Passing,
        client_reused: bool,
    ) -> Box<Error> {
        let Some(way) = &mut passing.way else {
            return error;
        };
        if *error.esource() == ErrorSource::Upstream
            && !matches!(error.etype(), &UNVERIFIED | &UNSOUND)
        {
            let failure = match error.etype() {
                ErrorType::ReadTimedout => SendError::FirstByteTimeout,
                ErrorType::InvalidHTTPHeader => SendError::Garbage,
                _ => SendError::Closed,
            };
            self.attempt_failed(way, failure);
        }
        let repeatable = reach::may_repeat(&way.request.method)
            && !session.as_ref().retry_buffer_truncated()
            && session.response_written().is_none()
            && *error.esource() == ErrorSource::Upstream;
        if repeatable && way.targets.len() > 0 {
            error.set_retry(true);
        } else {
            // pingora would repeat on a fresh connection what died on a pooled one:
            // right for what is safe to repeat, and for nothing else.
            error.retry.decide_reuse(client_reused && repeatable);
            error.set_retry(false);
        }
        error
    }

    async fn fail_to_proxy(
        &self,
        session: &mut Session,
        error: &Error,
        passing: &mut Passing,
    ) -> FailToProxy {
        let silent = FailToProxy {
            error_code: 0,
            can_reuse_downstream: false,
        };
        let Some((status, proxy_error)) = self.explain(error, passing) else {
            return silent;
        };
        if session.response_written().is_some() {
            return silent;
        }
        let mut answer = Answer::error(self.node.name(), status, &proxy_error);
        if let Some(way) = &passing.way {
            tier::sign(&self.node, &way.request, &mut answer);
        }
        session.set_keepalive(None);
        let _ = write_answer(session, self.node.name(), &mut answer).await;
        FailToProxy {
            error_code: status.as_u16(),
            can_reuse_downstream: false,
        }
    }

    async fn logging(&self, session: &mut Session, _error: Option<&Error>, passing: &mut Passing) {
        if passing.told {
            return;
        }
        let Some(mut way) = passing.way.take() else {
            return;
        };
        let status = session
            .response_written()
            .map_or(499, |response| response.status.as_u16());
        let outcome = if way.failed.is_some() && status >= 500 {
            Outcome::Error
        } else {
            Outcome::Pass
        };
        let request = &way.request;
        let done = Done {
            outcome,
            status,
            body_bytes: session.body_bytes_sent() as u64,
            duration_us: request.watch.elapsed_us(),
            protocol: request.protocol,
        };
        self.node.observer.count(&done);
        if self
            .node
            .observer
            .wants(outcome, status, request.trace.sampled)
        {
            let mut record = report::record_of(request, outcome, status);
            record.duration_us = done.duration_us;
            record.body_bytes = done.body_bytes;
            record.detail = way.failed.map_or("", SendError::as_str).to_owned();
            record.upstream_attempts = std::mem::take(&mut way.attempts);
            self.node.observer.record(record);
        }
    }

    fn suppress_error_log(&self, _: &Session, _: &Passing, _: &Error) -> bool {
        // The record says it, in our words and with bounds.
        true
    }
}

/// Methods whose requests have a body as a rule.
fn expects_body(method: &Method) -> bool {
    [Method::POST, Method::PUT, Method::PATCH].contains(method)
}

fn lost() -> Box<Error> {
    Error::explain(ErrorType::InternalError, "a phase out of order")
}

fn forward_reason(request: &Request) -> Forward {
    if request.method == Method::GET || request.method == Method::HEAD {
        Forward::Bypass
    } else {
        Forward::Method
    }
}

impl Pass {
    /// The head pingora read, through the same check as our own door's.
    fn arrival(&self, session: &Session, protocol: Protocol) -> Result<Arrival, head::Refusal> {
        let header = session.req_header();
        let version = match protocol {
            Protocol::H2 => Version::Http2,
            Protocol::H1 if header.version == http::Version::HTTP_10 => Version::Http1 { minor: 0 },
            Protocol::H1 => Version::Http1 { minor: 1 },
        };
        let target = match protocol {
            Protocol::H2 => header.uri.to_string(),
            Protocol::H1 => String::from_utf8_lossy(header.raw_path()).into_owned(),
        };
        let limits = self.node.head_limits;
        if header.headers.len() > limits.fields_max {
            return Err(head::Refusal {
                status: StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
                reason: "head_too_large",
                message: "the request head is larger than this node allows",
            });
        }
        let mut fields = header.headers.clone();
        head::drop_void_offers(&mut fields, version);
        let checked: Checked = head::check(&header.method, &target, &fields, version, limits)?;
        Ok(Arrival {
            method: header.method.clone(),
            checked,
            fields,
            protocol,
        })
    }

    async fn turn_away(
        &self,
        session: &mut Session,
        mut turned_away: TurnedAway,
        protocol: Protocol,
    ) -> Result<()> {
        let sent = write_answer(session, self.node.name(), &mut turned_away.answer).await?;
        report::turned_away(&self.node, &turned_away, protocol, sent);
        Ok(())
    }

    async fn serve(&self, session: &mut Session, request: &Request) -> Result<()> {
        let visible = report::in_flight(&self.node, request, "serve");
        let mut answer = serve::answer(&self.node, request).await;
        let written_from_us = request.watch.elapsed_us();
        let written = write_answer(session, self.node.name(), &mut answer).await;
        let sent = *written.as_ref().unwrap_or(&0);
        report::done(&self.node, request, &answer, sent, written_from_us);
        drop(visible);
        written.map(drop)
    }

    fn set_out(&self, request: Request, framing: Framing) -> OnTheWay {
        let mut outbound = Outbound::new(&self.node, &request, Purpose::Alone);
        let upgrade = request.fields.get(UPGRADE).cloned();
        if let Some(upgrade) = &upgrade {
            // What protocol to change to alters the answer, so it is sealed.
            outbound.fields.insert(UPGRADE, upgrade.clone());
        }
        let expects_continue = outbound.fields.remove(EXPECT).is_some();
        outbound.fields.remove(CONTENT_LENGTH);
        let route = Route {
            live: Arc::clone(&request.live),
            site: Arc::clone(&request.site),
            digest: request.digest().0,
            stale_may_serve: false,
            only_if_cached: false,
            watch: request.watch,
        };
        let targets = reach::targets(&self.node, &route, clock::now_ms());
        OnTheWay {
            outbound,
            targets: targets.into_vec().into_iter(),
            target: None,
            receipt: None,
            span_id: [0; 8],
            attempt_from_us: 0,
            attempts: Vec::new(),
            failed: None,
            body_bytes: 0,
            framing,
            upgrade,
            expects_continue,
            _visible: report::in_flight(&self.node, &request, "pass"),
            request,
        }
    }

    fn attempt_succeeded(&self, way: &mut OnTheWay, status: StatusCode) {
        if let Some(target) = &way.target {
            target.report(&self.node, clock::now_ms(), Ok(()));
            self.record_attempt(way, Some(status.as_u16()), None);
        }
        way.failed = None;
    }

    fn attempt_failed(&self, way: &mut OnTheWay, error: SendError) {
        if let (Some(target), Some(failure)) = (&way.target, error.failure()) {
            let failure: Failure = failure;
            target.report(&self.node, clock::now_ms(), Err(failure));
        }
        self.record_attempt(way, None, Some(error));
        way.failed = Some(error);
    }

    fn record_attempt(&self, way: &mut OnTheWay, status: Option<u16>, error: Option<SendError>) {
        let Some(target) = &way.target else { return };
        let name = target.name(&self.node);
        let result = match error {
            None => observe::UpstreamResult::Ok,
            Some(SendError::Unverified | SendError::Refused) => observe::UpstreamResult::Unverified,
            Some(error) if error.is_timeout() => observe::UpstreamResult::Timeout,
            Some(_) => observe::UpstreamResult::Error,
        };
        self.node
            .observer
            .metrics()
            .upstream_request(&name, target.kind(), result);
        way.attempts.push(Attempt {
            span_id: way.span_id,
            target: name,
            kind: target.kind(),
            start_us: way.attempt_from_us,
            duration_us: way
                .request
                .watch
                .elapsed_us()
                .saturating_sub(way.attempt_from_us),
            status,
            error: error.map(|error| error.as_str().to_owned()),
            reused_connection: false,
        });
    }

    /// RFC 9111 §4.4: what an unsafe method changed is no longer stored.
    fn invalidate(&self, way: &OnTheWay, status: StatusCode, fields: &HeaderMap) {
        let request = &way.request;
        if !http_cache::invalidates(&request.method, status) {
            return;
        }
        let targets =
            http_cache::invalidation_targets(&request.authority, &request.path_and_query, fields);
        for path_and_query in &targets {
            let resource = Resource {
                site: &request.site.config.name,
                scheme: request.scheme,
                host: &request.host,
                path_and_query,
            };
            let rules = &request.site.config.key;
            purge::purge_resource(&self.node, resource, rules, clock::now_ms());
        }
    }

    fn sign(&self, request: &Request, status: StatusCode, fields: &mut HeaderMap) -> Result<()> {
        let Some(verified) = &request.tier else {
            return Ok(());
        };
        let outcome = Outcome::Pass.as_str().to_owned();
        tier::sign_fields(
            &self.node,
            &request.live,
            verified,
            status,
            fields,
            outcome,
            None,
        )
        .map_err(|error| Error::explain(ErrorType::InternalError, error))
    }

    /// Status and words for an error of pingora's; None where nobody is left to hear.
    fn explain(&self, error: &Error, passing: &Passing) -> Option<(StatusCode, ProxyError)> {
        let way = passing.way.as_ref();
        if *error.esource() == ErrorSource::Downstream {
            return explain_body(error.etype());
        }
        let failed = way.and_then(|way| way.failed);
        let target = way
            .and_then(|way| way.target.as_ref())
            .map_or_else(String::new, |target| target.name(&self.node));
        Some(match failed {
            Some(failed) if failed.is_timeout() => {
                (StatusCode::GATEWAY_TIMEOUT, failed.proxy_error(&target))
            }
            Some(failed) => (StatusCode::BAD_GATEWAY, failed.proxy_error(&target)),
            None if *error.esource() == ErrorSource::Upstream => (
                StatusCode::BAD_GATEWAY,
                ProxyError::new("destination_unavailable", "no way to the content is up"),
            ),
            None => (
                StatusCode::INTERNAL_SERVER_ERROR,
                ProxyError::new("proxy_internal_error", "the request could not be passed on"),
            ),
        })
    }
}

/// What to say of a request body that is not as it should be; None where the
/// visitor has left.
fn explain_body(error: &ErrorType) -> Option<(StatusCode, ProxyError)> {
    let (status, details) = match error {
        error if error == &TOO_LARGE => (
            StatusCode::PAYLOAD_TOO_LARGE,
            "the request body is larger than this node allows",
        ),
        error if error == &INVALID_CHUNK => (
            StatusCode::BAD_REQUEST,
            "the chunks of the request body are malformed",
        ),
        ErrorType::ReadTimedout => (
            StatusCode::REQUEST_TIMEOUT,
            "the request body did not arrive in time",
        ),
        _ => return None,
    };
    Some((status, ProxyError::new("http_request_error", details)))
}

/// Replaces the fields of a response, and nothing else of it.
fn replace_fields(response: &mut ResponseHeader, fields: &HeaderMap) -> Result<()> {
    let mut replaced = ResponseHeader::build(response.status, Some(fields.len()))?;
    replaced.set_version(response.version);
    for (name, value) in fields {
        replaced.append_header(name.clone(), value.clone())?;
    }
    *response = replaced;
    Ok(())
}

/// Writes an answer through pingora's session. Returns the body bytes sent; an
/// error where the client will see that the answer is not whole.
async fn write_answer(session: &mut ServerSession, node: &str, answer: &mut Answer) -> Result<u64> {
    answer.leave_out_body(&session.req_header().method);
    let (status, fields) = answer.build(node);
    let mut header = ResponseHeader::build(status, Some(fields.len()))?;
    for (name, value) in fields.iter() {
        header.append_header(name.clone(), value.clone())?;
    }
    let unknown_length = matches!(&answer.body, Body::Growing { length: None, .. });
    if unknown_length && !session.is_http2() {
        header.insert_header(TRANSFER_ENCODING, "chunked")?;
    }
    session.write_response_header(Box::new(header)).await?;
    match &mut answer.body {
        Body::Absent => {
            session.write_response_body(Bytes::new(), true).await?;
            Ok(0)
        }
        Body::Whole(body) => {
            session.write_response_body(body.clone(), true).await?;
            Ok(body.len() as u64)
        }
        Body::Growing {
            reader,
            skip,
            length,
        } => {
            let (mut skip, mut left) = (*skip, *length);
            let mut sent = 0;
            while left != Some(0) {
                match reader.next().await {
                    Ok(Some(mut chunk)) => {
                        let skipped = skip.min(chunk.len() as u64);
                        skip -= skipped;
                        let mut chunk = chunk.split_off(skipped as usize);
                        if let Some(left) = &mut left {
                            chunk.truncate((*left).min(chunk.len() as u64) as usize);
                            *left -= chunk.len() as u64;
                        }
                        if !chunk.is_empty() {
                            sent += chunk.len() as u64;
                            session.write_response_body(chunk, false).await?;
                        }
                    }
                    Ok(None) if left.is_none_or(|left| left == 0) => break,
                    Ok(None) | Err(_) => {
                        session.shutdown_with_reason(h2::Reason::INTERNAL_ERROR);
                        let mut error =
                            Error::explain(ErrorType::ConnectionClosed, "the body broke off");
                        error.as_up();
                        return Err(error);
                    }
                }
            }
            session.write_response_body(Bytes::new(), true).await?;
            Ok(sent)
        }
    }
}
