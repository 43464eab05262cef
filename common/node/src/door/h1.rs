//! HTTP/1.1 through our own door: read, answer, next; whatever is unusual goes to
//! pingora's session, request by request on the same connection.

use std::sync::Arc;

use bytes::BytesMut;
use http::Method;
use http::header::UPGRADE;
use observe::Protocol;
use pingora_core::apps::HttpServerApp;
use pingora_core::protocols::Stream;
use pingora_core::protocols::http::ServerSession;
use pingora_core::server::ShutdownWatch;
use tokio::io::AsyncReadExt;

use super::admit::{Arrival, admit};
use super::head::{self, Framing, Head, Refusal};
use super::replay::{Extent, Replay};
use super::write::{Manner, Writer};
use super::{Conn, DOOR, h2};
use crate::answer::Answer;
use crate::clock::Stopwatch;
use crate::drain::time_to_go;
use crate::fill::interim;
use crate::pass::{Proxy, UPGRADED_IDLE_MS};
use crate::report;
use crate::request::Request;
use crate::serve;
use crate::state::Node;
use crate::upstream::millis;

/// What a client that speaks HTTP/2 by prior knowledge sends first (RFC 9113 §3.4).
const H2_PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Room for the head of a request, which an idle connection holds while it waits.
/// Most heads fit; for the rest of a longer one more is taken.
const HEAD_BYTES: usize = 1024;
const REST_BYTES: usize = 4096;

/// One connection.
pub(crate) struct Door {
    pub(crate) node: Arc<Node>,
    pub(crate) proxy: Arc<Proxy>,
    pub(crate) conn: Arc<Conn>,
    pub(crate) draining: ShutdownWatch,
}

enum Read {
    Head(Box<Head>),
    Refused(Refusal),
    Http2,
    Closed,
}

impl Door {
    /// Serves a connection to its end.
    pub(crate) async fn serve(self, mut stream: Stream) {
        let mut inbuf = BytesMut::new();
        let mut writer = Writer::default();
        let mut first = true;
        loop {
            let read = self.read_head(&mut stream, &mut inbuf, first).await;
            first = false;
            match read {
                Read::Closed => return,
                Read::Http2 => {
                    let replay = Replay::new(stream, inbuf.freeze(), Extent::Open);
                    let bounds = h2::Bounds::of(&self.node);
                    h2::serve(
                        &self.proxy,
                        Box::new(replay),
                        &self.conn,
                        bounds,
                        &self.draining,
                    )
                    .await;
                    return;
                }
                Read::Refused(refusal) => {
                    self.refuse(&mut stream, &mut writer, refusal).await;
                    return;
                }
                Read::Head(head) if is_usual(&head) => {
                    let _ = inbuf.split_to(head.wire_len);
                    if !self.answer(&mut stream, &mut writer, *head).await {
                        return;
                    }
                }
                Read::Head(head) => {
                    let Some((back, behind)) = self.hand_over(stream, inbuf, &head).await else {
                        return;
                    };
                    stream = back;
                    inbuf = behind;
                }
            }
        }
    }

    /// Reads until a whole head is there, or the connection is over.
    async fn read_head(&self, stream: &mut Stream, inbuf: &mut BytesMut, first: bool) -> Read {
        let timeouts = &self.node.config.timeouts;
        let (head_ms, keepalive_ms) = (timeouts.head_ms, timeouts.keepalive_ms);
        let mut begun: Option<Stopwatch> = None;
        loop {
            if !inbuf.is_empty() {
                if first && self.conn.http2 && !self.conn.tls && begins_http2(inbuf) {
                    if inbuf.len() >= H2_PREFACE.len() {
                        return Read::Http2;
                    }
                } else {
                    match head::parse(inbuf, self.node.head_limits) {
                        Ok(Some(head)) => return Read::Head(Box::new(head)),
                        Ok(None) => {}
                        Err(refusal) => return Read::Refused(refusal),
                    }
                }
            }
            let idle = inbuf.is_empty() && !first;
            let wait_ms = if idle {
                keepalive_ms
            } else {
                let spent = begun.get_or_insert_with(Stopwatch::start).elapsed_ms();
                match head_ms.checked_sub(spent) {
                    Some(left) => left,
                    None => return self.head_is_late(inbuf),
                }
            };
            inbuf.reserve(if inbuf.is_empty() {
                HEAD_BYTES
            } else {
                REST_BYTES
            });
            let read = pingora_timeout::timeout(millis(wait_ms), stream.read_buf(inbuf));
            let read = if idle || first {
                tokio::select! {
                    biased;
                    read = read => read,
                    // An idle connection has nothing to finish.
                    () = time_to_go(&self.node, &self.draining) => return Read::Closed,
                }
            } else {
                read.await
            };
            match read {
                Ok(Ok(bytes)) if bytes > 0 => {}
                Ok(_) => return Read::Closed,
                Err(_) if idle => return Read::Closed,
                Err(_) => return self.head_is_late(inbuf),
            }
        }
    }

    fn head_is_late(&self, inbuf: &BytesMut) -> Read {
        if inbuf.is_empty() {
            return Read::Closed;
        }
        Read::Refused(Refusal {
            status: http::StatusCode::REQUEST_TIMEOUT,
            reason: "head_timeout",
            message: "the request head did not arrive in time",
        })
    }

    /// Says what is wrong with a head, and ends the connection: where a head is
    /// malformed, nobody knows where the next one begins.
    async fn refuse(&self, stream: &mut Stream, writer: &mut Writer, refusal: Refusal) {
        self.node.observer.metrics().door_refused(refusal.reason);
        let watch = Stopwatch::start();
        let mut answer = Answer::refusal(&self.node, refusal);
        let manner = self.manner(1, false);
        let sent = writer
            .write(stream, self.node.name(), &mut answer, manner)
            .await;
        let protocol = Protocol::H1;
        report::malformed(
            &self.node,
            &self.conn,
            &answer,
            watch,
            protocol,
            sent.body_bytes,
        );
        self.linger(stream).await;
    }

    /// Takes in what the client is still sending, within bounds, so that closing
    /// does not reset the connection under the answer (RFC 9112 §9.6).
    async fn linger(&self, stream: &mut Stream) {
        const LINGER_MS: u64 = 1000;
        const LINGER_BYTES_MAX: usize = 256 * 1024;
        let _ = tokio::io::AsyncWriteExt::shutdown(stream).await;
        let drained = async {
            let mut taken = 0;
            let mut chunk = [0; 4096];
            while taken < LINGER_BYTES_MAX {
                match stream.read(&mut chunk).await {
                    Ok(bytes) if bytes > 0 => taken += bytes,
                    _ => return,
                }
            }
        };
        let _ = pingora_timeout::timeout(millis(LINGER_MS), drained).await;
    }

    fn manner(&self, minor: u8, keep_alive: bool) -> Manner {
        Manner {
            minor,
            keep_alive: keep_alive && !*self.draining.borrow(),
            patience: millis(self.node.config.timeouts.write_ms),
        }
    }

    /// Answers a GET or HEAD. False: the connection is over.
    async fn answer(&self, stream: &mut Stream, writer: &mut Writer, head: Head) -> bool {
        let (minor, keep_alive) = (head.minor, head.keep_alive);
        let arrival = Arrival {
            method: head.method,
            checked: head.checked,
            fields: head.fields,
            protocol: Protocol::H1,
        };
        let sent = match admit(&self.node, &self.conn, arrival) {
            Ok(request) => {
                let mut answer = match serve::look_up(&self.node, &request, request.received_ms) {
                    serve::Lookup::Answer(answer) => answer,
                    serve::Lookup::Fetch(fetch) => {
                        self.fetched(stream, writer, &request, fetch, minor).await
                    }
                };
                let manner = self.manner(minor, keep_alive);
                let written_from_us = request.watch.elapsed_us();
                answer.leave_out_body(&request.method);
                let sent = writer
                    .write(stream, self.node.name(), &mut answer, manner)
                    .await;
                if !sent.whole {
                    answer.story.detail = "cut_off".into();
                }
                report::done(
                    &self.node,
                    &request,
                    &answer,
                    sent.body_bytes,
                    written_from_us,
                );
                sent
            }
            Err(turned_away) => {
                let mut turned_away = *turned_away;
                let manner = self.manner(minor, keep_alive);
                turned_away.answer.leave_out_body(&turned_away.method);
                let sent = writer
                    .write(stream, self.node.name(), &mut turned_away.answer, manner)
                    .await;
                report::turned_away(&self.node, &turned_away, Protocol::H1, sent.body_bytes);
                sent
            }
        };
        sent.keep_alive
    }

    /// Waits for what is not stored, writing interim answers as they come.
    async fn fetched(
        &self,
        stream: &mut Stream,
        writer: &mut Writer,
        request: &Request,
        mut fetch: serve::Fetch,
        minor: u8,
    ) -> Answer {
        let _visible = report::in_flight(&self.node, request, "fetch");
        let (teller, mut interims) = interim::channel();
        // RFC 9110 §15.2: an HTTP/1.0 client would take one for the answer.
        fetch.interim = (minor >= 1).then_some(teller);
        let patience = self.manner(minor, true).patience;
        let mut answer = Box::pin(serve::fetch_answer(&self.node, request, fetch));
        let answer = loop {
            tokio::select! {
                biased;
                Some(interim) = interims.recv() => {
                    writer.write_interim(stream, &interim, patience).await;
                }
                answer = &mut answer => break answer,
            }
        };
        while let Ok(interim) = interims.try_recv() {
            writer.write_interim(stream, &interim, patience).await;
        }
        answer
    }

    /// Gives one request to pingora's session and proxy, its bytes unread, and
    /// takes the connection back afterwards.
    async fn hand_over(
        &self,
        stream: Stream,
        inbuf: BytesMut,
        head: &Head,
    ) -> Option<(Stream, BytesMut)> {
        let extent = match head.checked.framing {
            // Where the protocol may change, everything that follows belongs to it.
            _ if head.fields.contains_key(UPGRADE) => Extent::Open,
            Framing::None => Extent::Bytes(head.wire_len as u64),
            Framing::Length(body) => Extent::Bytes((head.wire_len as u64).saturating_add(body)),
            Framing::Chunked => Extent::Chunks {
                head: head.wire_len,
            },
        };
        let replay = Replay::new(stream, inbuf.freeze(), extent);
        let mut session = ServerSession::new_http1(Box::new(replay));
        let timeouts = &self.node.config.timeouts;
        session.set_keepalive(Some(timeouts.keepalive_ms.div_ceil(1000)));
        let silence_ms = if head.fields.contains_key(UPGRADE) {
            UPGRADED_IDLE_MS
        } else {
            timeouts.request_body_ms
        };
        session.set_read_timeout(Some(millis(silence_ms)));
        session.set_write_timeout(Some(millis(timeouts.write_ms)));
        let reused = DOOR
            .scope(
                Arc::clone(&self.conn),
                Box::pin(self.proxy.process_new_http(session, &self.draining)),
            )
            .await?;
        if *self.draining.borrow() {
            return None;
        }
        let (stream, _) = reused.consume();
        let replay = stream.into_any().downcast::<Replay>().ok()?;
        replay.into_parts()
    }
}

fn begins_http2(inbuf: &[u8]) -> bool {
    let seen = inbuf.len().min(H2_PREFACE.len());
    inbuf.get(..seen) == H2_PREFACE.get(..seen)
}

/// Whether our own door answers it: a GET or HEAD without a body that wants
/// nothing but its answer.
fn is_usual(head: &Head) -> bool {
    (head.method == Method::GET || head.method == Method::HEAD)
        && head.checked.framing == Framing::None
        && !head.checked.unusual
}
