//! Passing on what cannot be cached, through pingora's proxy, and answering
//! HTTP/2 through its session.
//!
//! ```text
//!   request_filter ── GET or HEAD over HTTP/2 ──▶ serve, written to the session
//!     │           └── nobody but us is asked ──▶ answered at this last stop
//!     │ the rest
//!   upstream_peer ── the next way
//!   upstream_request_filter ── seal: the last code of ours before the wire
//!   upstream_response_filter ── verify, strip, invalidate
//!   response_filter ── our fields, and at an upper tier the signature
//!   response_body_filter ── gather what may be kept for a GET
//! ```
//!
//! A request that may have been executed is never sent twice: the next way is
//! taken only while none was connected to, here or behind an upper tier that says so,
//! or when the method is safe.

mod keep;
mod last_stop;
mod session;
mod way;

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use control::NoAnswer;
use http::header::{CONNECTION, DATE, HeaderValue, TRANSFER_ENCODING, UPGRADE};
use http::{HeaderMap, Method, StatusCode};
use observe::{Attempt, Done, Outcome, Protocol};
use pingora_core::upstreams::peer::HttpPeer;
use pingora_error::{Error, ErrorSource, ErrorType, Result};
use pingora_http::{RequestHeader, ResponseHeader};
use pingora_proxy::{FailToProxy, HttpProxy, ProxyHttp, Session};
use topology::Ended;

use crate::answer::Answer;
use crate::clock::Stopwatch;
use crate::door::admit::{Arrival, TurnedAway, admit};
use crate::door::head::{self, Checked, Framing, Version};
use crate::door::{Conn, DOOR};
use crate::fields::{self, CACHE_STATUS, CacheStatus, Forward};
use crate::fill::run::shed;
use crate::report;
use crate::request::Request;
use crate::serve;
use crate::state::Node;
use crate::tier;
use crate::upstream::send::{SendError, connect_error};
use session::{explain, final_written, replace_fields, write_answer};
use way::OnTheWay;
pub(crate) use way::UPGRADED_IDLE_MS;

/// pingora's proxy around ours.
pub(crate) type Proxy = HttpProxy<Pass>;

const UNVERIFIED: ErrorType = ErrorType::new("TierResultUnverified");
const NO_ANSWER: ErrorType = ErrorType::new("OriginDoesNotAnswer");
const UNSOUND: ErrorType = ErrorType::new("UnknownTransferCoding");
const TOO_LARGE: ErrorType = ErrorType::new("RequestBodyTooLarge");
/// pingora's name for chunks it cannot read; it exports none.
const INVALID_CHUNK: ErrorType = ErrorType::new("InvalidChunk");

/// How long what a refused visitor still sends is taken in.
const LINGER: Duration = Duration::from_secs(1);

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
                let watch = Stopwatch::start();
                let mut answer = Answer::refusal(&self.node, refusal);
                let sent = write_answer(session, self.node.name(), &mut answer).await?;
                report::malformed(&self.node, &conn, &answer, watch, protocol, sent);
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
                if let Some(answer) = last_stop::answer(&self.node, &request) {
                    passing.told = true;
                    self.end_here(session, &request, answer).await?;
                    return Ok(true);
                }
                let Ok(place) = Arc::clone(&self.node.fetches).try_acquire_owned() else {
                    passing.told = true;
                    self.end_here(session, &request, self.shed(&request))
                        .await?;
                    return Ok(true);
                };
                let way = OnTheWay::new(&self.node, request, framing, place);
                passing.way = Some(Box::new(way));
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
        way.next_peer(&self.node).await.map(Box::new)
    }

    async fn upstream_request_filter(
        &self,
        session: &mut Session,
        upstream_request: &mut RequestHeader,
        passing: &mut Passing,
    ) -> Result<()> {
        let way = passing.way.as_mut().ok_or_else(lost)?;
        *upstream_request = way.header(&self.node, session.is_body_empty())?;
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
        session: &mut Session,
        response: &mut ResponseHeader,
        passing: &mut Passing,
    ) -> Result<()> {
        let way = passing.way.as_mut().ok_or_else(lost)?;
        if is_interim(response.status) {
            // Not signed and of no use to anybody but the next hop, so it goes bare.
            return replace_fields(response, &HeaderMap::new());
        }
        let mut fields = response.headers.clone();
        let whole = !session.as_ref().retry_buffer_truncated();
        way.accept(&self.node, response.status, &mut fields, whole)?;
        replace_fields(response, &fields)
    }

    async fn response_filter(
        &self,
        session: &mut Session,
        response: &mut ResponseHeader,
        passing: &mut Passing,
    ) -> Result<()> {
        let way = passing.way.as_mut().ok_or_else(lost)?;
        if is_interim(response.status) {
            return Ok(());
        }
        let mut fields = response.headers.clone();
        let coding = fields.get(TRANSFER_ENCODING).cloned();
        let upgrade = fields.get(UPGRADE).cloned();
        http_cache::remove_hop_by_hop(&mut fields);
        fields::append_via(&mut fields, self.node.name());
        if !fields.contains_key(DATE) {
            fields.insert(DATE, http_cache::date::format(self.node.now_ms()));
        }
        let cache_status = CacheStatus {
            upstream: fields::joined(&fields, &CACHE_STATUS),
            forward: Some(forward_reason(&way.request)),
            forward_status: Some(response.status.as_u16()),
            stored: way.keeping.is_some(),
            ..CacheStatus::default()
        };
        fields.insert(CACHE_STATUS, cache_status.value(self.node.name()));
        if response.status == StatusCode::SWITCHING_PROTOCOLS
            && let Some(upgrade) = upgrade
        {
            fields.insert(UPGRADE, upgrade);
            fields.insert(CONNECTION, HeaderValue::from_static("upgrade"));
        }
        self.sign(way, response.status, &mut fields)?;
        match coding {
            Some(_) if session.req_header().version == http::Version::HTTP_10 => {
                // HTTP/1.0 knows no chunks: the end of the body is that of the connection.
                session.set_keepalive(None);
            }
            Some(coding) if !session.is_http2() => {
                fields.insert(TRANSFER_ENCODING, coding);
            }
            _ => {}
        }
        replace_fields(response, &fields)
    }

    fn response_body_filter(
        &self,
        _session: &mut Session,
        body: &mut Option<Bytes>,
        end_of_stream: bool,
        passing: &mut Passing,
    ) -> Result<Option<Duration>> {
        let Some(way) = passing.way.as_mut() else {
            return Ok(None);
        };
        if let (Some(keeping), Some(chunk)) = (&mut way.keeping, body)
            && !keeping.take(chunk)
        {
            way.keeping = None;
        }
        if end_of_stream && let Some(keeping) = way.keeping.take() {
            keeping.complete();
        }
        Ok(None)
    }

    fn fail_to_connect(
        &self,
        _session: &mut Session,
        _peer: &HttpPeer,
        passing: &mut Passing,
        mut error: Box<Error>,
    ) -> Box<Error> {
        if let Some(way) = &mut passing.way {
            let failure = connect_error(&error);
            way.not_connected(&self.node, failure);
            error.set_retry(way.may_ask_again(failure.ended()) && way.has_another());
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
        let of_upstream = *error.esource() == ErrorSource::Upstream;
        if of_upstream && !matches!(error.etype(), &UNVERIFIED | &UNSOUND | &NO_ANSWER) {
            let failure = match error.etype() {
                ErrorType::ReadTimedout => SendError::FirstByteTimeout,
                ErrorType::InvalidHTTPHeader => SendError::Garbage,
                _ => SendError::Closed,
            };
            // A visitor that is still sending may be the one who is waited for.
            let counts = !failure.is_timeout()
                || session.as_mut().is_body_done() && way.had_its_chance(&self.node);
            way.failed(&self.node, failure, counts);
        }
        let ended = way.failure.map_or(Ended::Unanswered, SendError::ended);
        let repeatable = of_upstream
            && way.may_ask_again(ended)
            && !session.as_ref().retry_buffer_truncated()
            && final_written(session).is_none();
        if repeatable && client_reused && error.etype() != &NO_ANSWER {
            // What died may only have been the pooled connection.
            way.ask_again();
        }
        error.set_retry(repeatable && way.has_another());
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
        let way = passing.way.as_deref();
        let Some(failure) = explain(&self.node, error, way) else {
            return silent;
        };
        let status = failure.status;
        if final_written(session).is_some() {
            return silent;
        }
        let mut answer = Answer::failure(&self.node, &failure);
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
        let status = final_written(session).map_or(499, |status| status.as_u16());
        let outcome = if way.failure.is_some() && status >= 500 {
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
            method: observe::Method::of(request.method.as_str()),
            https: request.scheme == control::Scheme::Https,
        };
        self.node.observer.count(&done);
        let has_failed_attempt = way.attempts.iter().any(Attempt::has_failed);
        let sampled = request.trace.sampled;
        if self.node.observer.wants(&done, sampled, has_failed_attempt) {
            let mut record = report::record_of(request, &done);
            record.detail = Cow::Borrowed(way.failure.map_or("", SendError::as_str));
            record.upstream_attempts = std::mem::take(&mut way.attempts);
            self.node.observer.record(record);
        }
    }

    fn suppress_error_log(&self, _: &Session, _: &Passing, _: &Error) -> bool {
        // The record says it, in our words and with bounds.
        true
    }
}

/// An answer before the answer. 101 is none: it is the last of HTTP.
fn is_interim(status: StatusCode) -> bool {
    status.is_informational() && status != StatusCode::SWITCHING_PROTOCOLS
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
        // What the visitor is still sending is taken in for a while, so that closing
        // does not reset the connection under the answer (RFC 9112 §9.6).
        session.set_total_drain_timeout(Some(LINGER));
        let _ = session.drain_request_body().await;
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

    /// The answer to a request for whose upstream work there is no room.
    fn shed(&self, request: &Request) -> Answer {
        let failure = shed(&self.node);
        let mut answer = Answer::error(&self.node, failure.status, &failure.error);
        tier::sign(&self.node, request, &mut answer);
        answer
    }

    /// Answers a request that goes no further, its body taken in unread.
    async fn end_here(
        &self,
        session: &mut Session,
        request: &Request,
        mut answer: Answer,
    ) -> Result<()> {
        let written_from_us = request.watch.elapsed_us();
        let written = write_answer(session, self.node.name(), &mut answer).await;
        session.set_total_drain_timeout(Some(LINGER));
        let _ = session.drain_request_body().await;
        let sent = *written.as_ref().unwrap_or(&0);
        report::done(&self.node, request, &answer, sent, written_from_us);
        written.map(drop)
    }

    fn sign(&self, way: &OnTheWay, status: StatusCode, fields: &mut HeaderMap) -> Result<()> {
        let request = &way.request;
        let Some(verified) = &request.tier else {
            return Ok(());
        };
        let pass = Outcome::Pass.as_str();
        let outcome = way.no_answer.map_or(pass, NoAnswer::as_str).to_owned();
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
}
