//! Sends one sealed request and reads its answer.
//!
//! A sealed request is all that can be sent: there is no other way to a
//! connection for a fill. A pooled connection that turns out to be dead is
//! replaced once, silently, and only while nothing of an answer has come.

use std::time::Duration;

use bytes::Bytes;
use control::{NoAnswer, SealedRequest};
use http::header::TRANSFER_ENCODING;
use http::{HeaderMap, StatusCode};
use pingora_core::protocols::http::v1::client::HttpSession;
use pingora_core::upstreams::peer::HttpPeer;
use pingora_error::ErrorType;
use pingora_http::RequestHeader;
use pingora_timeout::timeout;
use tokio::sync::OwnedSemaphorePermit;
use topology::{Ended, Failure};

use super::{Target, host_only, millis};
use crate::clock::Stopwatch;
use crate::coding::Encoder;
use crate::fields::ProxyError;
use crate::fill::interim::{self, Teller};
use crate::fill::place::Place;
use crate::state::Node;

/// Informational answers before the final one; more is not an answer.
const INFORMATIONAL_MAX: usize = 16;

/// Why an attempt gave no answer. The upstream is at fault, unless it says ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SendError {
    Dns,
    Tls,
    ConnectRefused,
    ConnectTimeout,
    WriteTimeout,
    FirstByteTimeout,
    ReadTimeout,
    Closed,
    Garbage,
    /// The answer was not signed, or its signature does not hold.
    Unverified,
    /// The upper tier refused our control block.
    Refused,
    /// The upper tier would not take this one request, and said so with that
    /// status.
    Declined(StatusCode),
    /// The upper tier says, under its signature and with that status, that no origin
    /// server answered it.
    NoAnswer(NoAnswer, StatusCode),
    /// As many go to the origin itself as the site allows, and as many wait.
    DirectFull,
    /// As many are at the origin as its pool allows, and as many wait.
    OriginFull,
    /// As many requests are under way at the upper tier as may be.
    UpperFull,
    /// We could not build the request.
    Ours,
}

impl SendError {
    /// For logs and metrics.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Dns => "dns",
            Self::Tls => "tls",
            Self::ConnectRefused => "connect_refused",
            Self::ConnectTimeout => "connect_timeout",
            Self::WriteTimeout => "write_timeout",
            Self::FirstByteTimeout => "first_byte_timeout",
            Self::ReadTimeout => "read_timeout",
            Self::Closed => "closed",
            Self::Garbage => "garbage",
            Self::Unverified => "unverified",
            Self::Refused => "refused",
            Self::Declined(_) => "declined",
            Self::NoAnswer(said, _) => said.as_str(),
            Self::DirectFull => "direct_full",
            Self::OriginFull => "origin_full",
            Self::UpperFull => "upper_full",
            Self::Ours => "ours",
        }
    }

    /// Whether waiting was the problem: 504 rather than 502.
    pub(crate) fn is_timeout(self) -> bool {
        matches!(
            self,
            Self::ConnectTimeout | Self::WriteTimeout | Self::FirstByteTimeout | Self::ReadTimeout
        )
    }

    /// The status of an answer that says so, where there is no other way.
    pub(crate) fn status(self) -> StatusCode {
        match self {
            // Too much of something: only who sent it can mend that.
            Self::Declined(
                status @ (StatusCode::PAYLOAD_TOO_LARGE
                | StatusCode::URI_TOO_LONG
                | StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE),
            ) => status,
            Self::NoAnswer(_, status) => status,
            Self::DirectFull | Self::OriginFull | Self::UpperFull => {
                StatusCode::SERVICE_UNAVAILABLE
            }
            error if error.is_timeout() => StatusCode::GATEWAY_TIMEOUT,
            _ => StatusCode::BAD_GATEWAY,
        }
    }

    /// What it means for the upstream's health. None: nothing.
    pub(crate) fn failure(self) -> Option<Failure> {
        match self {
            Self::Dns | Self::Tls | Self::ConnectRefused | Self::ConnectTimeout => {
                Some(Failure::Connect)
            }
            Self::WriteTimeout | Self::FirstByteTimeout | Self::ReadTimeout => {
                Some(Failure::Timeout)
            }
            Self::Closed | Self::Garbage => Some(Failure::Broken),
            Self::Unverified => Some(Failure::Unverified),
            Self::Refused => Some(Failure::Refused),
            // For its way on to the origin that is another matter.
            Self::NoAnswer(..)
            | Self::Declined(_)
            | Self::DirectFull
            | Self::OriginFull
            | Self::UpperFull
            | Self::Ours => None,
        }
    }

    /// What it means for the walk over the ways.
    pub(crate) fn ended(self) -> Ended {
        match self {
            Self::Dns
            | Self::Tls
            | Self::ConnectRefused
            | Self::ConnectTimeout
            | Self::DirectFull
            | Self::OriginFull
            | Self::UpperFull
            | Self::Ours => Ended::NothingSent,
            Self::NoAnswer(NoAnswer::Unreached, _) => Ended::Unreached,
            Self::WriteTimeout
            | Self::FirstByteTimeout
            | Self::ReadTimeout
            | Self::Closed
            | Self::Garbage
            | Self::NoAnswer(NoAnswer::Unanswered, _) => Ended::Unanswered,
            Self::Unverified => Ended::Unverified,
            Self::Refused => Ended::Refused,
            Self::Declined(_) => Ended::Declined,
        }
    }

    /// What it lets this node say of the origins that it asks for others, where it is
    /// the last there was to try. None: nothing that another node would not find too.
    /// What is not HTTP is an answer of an origin's in its way, and what found no place
    /// is bound by one that holds for all.
    pub(crate) fn no_answer(self) -> Option<NoAnswer> {
        match self {
            Self::Dns | Self::Tls | Self::ConnectRefused | Self::ConnectTimeout => {
                Some(NoAnswer::Unreached)
            }
            Self::WriteTimeout
            | Self::FirstByteTimeout
            | Self::ReadTimeout
            | Self::Closed
            | Self::Unverified
            | Self::Refused => Some(NoAnswer::Unanswered),
            Self::NoAnswer(said, _) => Some(said),
            Self::Garbage
            | Self::Declined(_)
            | Self::DirectFull
            | Self::OriginFull
            | Self::UpperFull
            | Self::Ours => None,
        }
    }

    /// In the words of RFC 9209 §2.3.
    pub(crate) fn proxy_error(self, target: &str) -> ProxyError {
        let kind = match self {
            Self::Dns => "dns_error",
            Self::Tls => "tls_protocol_error",
            Self::ConnectRefused => "connection_refused",
            Self::ConnectTimeout => "connection_timeout",
            Self::WriteTimeout => "connection_write_timeout",
            Self::FirstByteTimeout => "http_response_timeout",
            Self::ReadTimeout => "connection_read_timeout",
            Self::Closed => "connection_terminated",
            Self::Garbage | Self::Unverified | Self::Refused => "http_protocol_error",
            Self::Declined(_) => "http_request_error",
            Self::NoAnswer(..) => "destination_unavailable",
            Self::DirectFull | Self::OriginFull | Self::UpperFull => "connection_limit_reached",
            Self::Ours => "proxy_internal_error",
        };
        ProxyError::new(kind, format!("{target}: {}", self.explain()))
    }

    fn explain(self) -> &'static str {
        match self {
            Self::Dns => "its name does not resolve",
            Self::Tls => "the TLS handshake failed",
            Self::ConnectRefused => "it cannot be connected to",
            Self::ConnectTimeout => "connecting took too long",
            Self::WriteTimeout => "it does not take our request",
            Self::FirstByteTimeout => "it did not answer in time",
            Self::ReadTimeout => "its answer stalled",
            Self::Closed => "it closed the connection before its answer was complete",
            Self::Garbage => "its answer is not HTTP",
            Self::Unverified => "tier-result does not verify",
            Self::Refused => "it refused our tier-control",
            Self::Declined(_) => "it would not take this request",
            Self::NoAnswer(NoAnswer::Unreached, _) => "it reaches no server of the origin",
            Self::NoAnswer(NoAnswer::Unanswered, _) => "no server of the origin answers it",
            Self::DirectFull => {
                "no upper tier answers, and `direct_in_flight_max` fetches are under way here"
            }
            Self::OriginFull => "`in_flight_max` fetches of its pool are under way here",
            Self::UpperFull => "`in_flight_max` of our requests are under way there",
            Self::Ours => "the request could not be built",
        }
    }
}

/// An answer whose head has arrived.
pub(crate) struct Response {
    pub(crate) status: StatusCode,
    pub(crate) fields: HeaderMap,
    pub(crate) reused: bool,
    /// What connecting took, microseconds; 0 on a connection that stood.
    pub(crate) connect_us: u64,
    pub(crate) request_ms: u64,
    pub(crate) response_ms: u64,
    // Boxed: a session is kilobytes, and responses are passed around.
    session: Box<HttpSession>,
    peer: Box<HttpPeer>,
    /// Its place at an origin, where one gave it.
    place: Option<Place>,
    /// Its seat at an upper tier, where that gave it.
    seat: Option<OwnedSemaphorePermit>,
    /// Compresses the body on its way, until its end was given out.
    encoder: Option<Box<Encoder>>,
}

impl std::fmt::Debug for Response {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Response")
            .field("status", &self.status)
            .finish_non_exhaustive()
    }
}

/// Sends `sealed` to `target` and waits for the final head of its answer.
pub(crate) async fn send(
    node: &Node,
    target: &Target,
    sealed: &SealedRequest,
    interim: Option<&Teller>,
) -> Result<Response, SendError> {
    let now_ms = node.now_ms();
    let peers = target
        .peers(node, host_only(sealed.authority()), now_ms)
        .await
        .map_err(|_| SendError::Dns)?;
    let mut last = SendError::Dns;
    for peer in peers {
        match send_to(node, target, peer, sealed, interim).await {
            Ok(response) => return Ok(response),
            // The next address of the same name, but only while none was connected to.
            Err(
                error @ (SendError::ConnectRefused | SendError::ConnectTimeout | SendError::Tls),
            ) => last = error,
            Err(error) => return Err(error),
        }
    }
    Err(last)
}

async fn send_to(
    node: &Node,
    target: &Target,
    peer: HttpPeer,
    sealed: &SealedRequest,
    interim: Option<&Teller>,
) -> Result<Response, SendError> {
    let header = wire_header(sealed).ok_or(SendError::Ours)?;
    let patience = millis(target.head_wait_ms(node));
    // A pooled connection may have died while idle, and after a restart of the
    // upstream all of them have: the second one is new.
    for asked in [&peer, &unpooled(&peer)] {
        let request_ms = node.now_ms();
        let watch = Stopwatch::start();
        let (mut session, reused) = node
            .upstreams
            .connector
            .get_http_session(asked)
            .await
            .map_err(|error| connect_error(&error))?;
        let connect_us = if reused { 0 } else { watch.elapsed_us() };
        if !reused {
            target.connected(node, connect_us);
        }
        session.read_timeout = Some(patience);
        session.write_timeout = Some(millis(node.config.timeouts.write_ms));
        match exchange(&mut session, &header, patience, interim).await {
            Ok(status) => {
                session.read_timeout = Some(millis(node.config.timeouts.between_bytes_ms));
                let fields = session
                    .resp_header()
                    .map(|head| head.headers.clone())
                    .unwrap_or_default();
                if !framing_is_sound(&fields) || frames_twice(&session, &fields) {
                    return Err(SendError::Garbage);
                }
                return Ok(Response {
                    status,
                    fields,
                    reused,
                    connect_us,
                    request_ms,
                    response_ms: node.now_ms(),
                    session: Box::new(session),
                    peer: Box::new(peer.clone()),
                    place: None,
                    seat: None,
                    encoder: None,
                });
            }
            Err(SendError::Closed) if reused => {}
            Err(error) => return Err(error),
        }
    }
    Err(SendError::Closed)
}

/// The same peer where no connection of the pool fits it.
pub(crate) fn unpooled(peer: &HttpPeer) -> HttpPeer {
    let mut peer = peer.clone();
    // Connections are released as the peer's own, whose group is 0.
    peer.group_key = fastrand::u64(1..);
    peer
}

async fn exchange(
    session: &mut HttpSession,
    header: &RequestHeader,
    patience: Duration,
    teller: Option<&Teller>,
) -> Result<StatusCode, SendError> {
    session
        .write_request_header(Box::new(header.clone()))
        .await
        .map_err(|error| read_error(&error, SendError::WriteTimeout))?;
    let whole = timeout(patience, async {
        for _ in 0..INFORMATIONAL_MAX {
            session
                .read_response()
                .await
                .map_err(|error| read_error(&error, SendError::FirstByteTimeout))?;
            match session.get_status() {
                // An upgrade nobody asked for, or a status outside HTTP.
                Some(StatusCode::SWITCHING_PROTOCOLS) => return Err(SendError::Garbage),
                Some(status) if status.is_informational() => {
                    if let (Some(teller), Some(head)) = (teller, session.resp_header()) {
                        interim::tell(teller, status, &head.headers);
                    }
                }
                Some(status) if status.as_u16() < 600 => return Ok(status),
                _ => return Err(SendError::Garbage),
            }
        }
        Err(SendError::Garbage)
    });
    whole.await.unwrap_or(Err(SendError::FirstByteTimeout))
}

impl Response {
    /// The next part of the body; None at its end.
    pub(crate) async fn chunk(&mut self) -> Result<Option<Bytes>, SendError> {
        let chunk = match self.session.read_body_bytes().await {
            Ok(chunk) => chunk,
            Err(error) => return Err(read_error(&error, SendError::ReadTimeout)),
        };
        match (chunk, &mut self.encoder) {
            (chunk, None) => Ok(chunk),
            (Some(plain), Some(encoder)) => encoder.part(&plain).map(Some).ok_or(SendError::Ours),
            (None, Some(_)) => {
                let encoder = self.encoder.take();
                let end = encoder.map(|encoder| encoder.end().ok_or(SendError::Ours));
                end.transpose()
            }
        }
    }

    /// Holds a place at an origin, or a seat at an upper tier, for as long as that is
    /// busy with this answer.
    pub(crate) fn hold(&mut self, place: Option<Place>, seat: Option<OwnedSemaphorePermit>) {
        self.place = place;
        // One that was asked beside another holds its own.
        self.seat = self.seat.take().or(seat);
    }

    /// Gives that back: nothing more is read of this answer.
    pub(crate) fn give_way(&mut self) {
        self.place = None;
        self.seat = None;
    }

    /// Compresses the body from its beginning on.
    pub(crate) fn encode(&mut self) {
        self.encoder = Some(Box::new(Encoder::new()));
    }

    /// Gives the connection back to the pool, if its answer was read to the end.
    pub(crate) async fn release(self, node: &Node) {
        let idle = millis(node.config.timeouts.pool_idle_ms);
        node.upstreams
            .connector
            .release_http_session(*self.session, &*self.peer, Some(idle))
            .await;
    }

    /// Reads what little is left of an answer nobody wants, so that its
    /// connection can be used again; gives up beyond a small size.
    pub(crate) async fn discard(mut self, node: &Node) {
        const DISCARD_BYTES_MAX: usize = 64 * 1024;
        let mut read = 0;
        while let Ok(Some(chunk)) = self.chunk().await {
            read += chunk.len();
            if read > DISCARD_BYTES_MAX {
                return;
            }
        }
        self.release(node).await;
    }
}

/// Codings that change the bytes of a body. We ask for none of them, and passing
/// the bytes on without saying so would corrupt them.
const CODINGS: [&[u8]; 5] = [b"gzip", b"x-gzip", b"deflate", b"compress", b"x-compress"];

/// Whether a response's body is what it seems: either chunked and nothing else, or
/// under a coding nobody has registered, which ends with the connection
/// (RFC 9112 §6.3) and is taken as it is.
pub(crate) fn framing_is_sound(fields: &HeaderMap) -> bool {
    let mut codings = fields
        .get_all(TRANSFER_ENCODING)
        .iter()
        .flat_map(|value| value.as_bytes().split(|byte| *byte == b','))
        .map(<[u8]>::trim_ascii);
    let Some(coding) = codings.next() else {
        return true;
    };
    let known = CODINGS
        .iter()
        .any(|known| coding.eq_ignore_ascii_case(known));
    !known && codings.next().is_none()
}

/// Whether a head says twice how long its body is. pingora takes the length away
/// where a coding is named too, so only the bytes tell.
fn frames_twice(session: &HttpSession, fields: &HeaderMap) -> bool {
    fields.contains_key(TRANSFER_ENCODING)
        && session
            .get_headers_raw_bytes()
            .split(|byte| *byte == b'\n')
            .any(|line| {
                let name = line.split(|byte| *byte == b':').next().unwrap_or(line);
                name.eq_ignore_ascii_case(b"content-length")
            })
}

/// The request in pingora's type, exactly as sealed.
pub(crate) fn wire_header(sealed: &SealedRequest) -> Option<RequestHeader> {
    let fields = sealed.fields();
    let mut header = RequestHeader::build(
        sealed.method().as_str(),
        sealed.path_and_query().as_bytes(),
        Some(fields.len() + 1),
    )
    .ok()?;
    header.insert_header("Host", sealed.authority()).ok()?;
    for (name, value) in fields {
        header.append_header(name.clone(), value.clone()).ok()?;
    }
    Some(header)
}

/// Why a connection could not be made.
pub(crate) fn connect_error(error: &pingora_error::Error) -> SendError {
    match error.etype() {
        ErrorType::ConnectTimedout | ErrorType::TLSHandshakeTimedout => SendError::ConnectTimeout,
        ErrorType::TLSHandshakeFailure
        | ErrorType::InvalidCert
        | ErrorType::HandshakeError
        | ErrorType::TLSWantX509Lookup => SendError::Tls,
        _ => SendError::ConnectRefused,
    }
}

fn read_error(error: &pingora_error::Error, timed_out: SendError) -> SendError {
    match error.etype() {
        ErrorType::ReadTimedout | ErrorType::WriteTimedout => timed_out,
        ErrorType::InvalidHTTPHeader => SendError::Garbage,
        // pingora keeps the constant to itself, but not its name.
        ErrorType::Custom("InvalidChunk") => SendError::Garbage,
        _ => SendError::Closed,
    }
}
