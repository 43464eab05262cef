//! HTTP/2: pingora's session, one task a stream.
//!
//! Every wait has a bound, since pingora's own are none: for the preface, between
//! two requests, and for a visitor that takes nothing of its answer. A request
//! body that stops coming is bounded by the patience of whoever it is passed to.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::BytesMut;
use pingora_core::apps::{HttpServerApp, HttpServerOptions, ReusedHttpStream, ServerApp};
use pingora_core::protocols::Stream;
use pingora_core::protocols::http::ServerSession;
use pingora_core::protocols::http::v2::server::{H2Options, default_h2_options};
use pingora_core::server::ShutdownWatch;
use tokio::io::AsyncReadExt;

use super::replay::{Extent, Replay};
use super::{Conn, DOOR};
use crate::pass::Proxy;
use crate::state::Node;
use crate::upstream::millis;

/// HTTP/2 is bounded like HTTP/1: its header lists, and every wait.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    head_bytes_max: usize,
    preface: Duration,
    idle: Duration,
    write: Duration,
}

impl Bounds {
    pub(crate) fn of(node: &Node) -> Self {
        let timeouts = &node.config.timeouts;
        Self {
            head_bytes_max: node.head_limits.bytes_max,
            preface: millis(timeouts.head_ms),
            idle: millis(timeouts.keepalive_ms),
            write: millis(timeouts.write_ms),
        }
    }
}

/// Bytes of a connection preface (RFC 9113 §3.4).
const PREFACE_BYTES: usize = 24;

/// Concurrent streams of one connection.
const STREAMS_MAX: u32 = 128;

struct App {
    proxy: Arc<Proxy>,
    conn: Arc<Conn>,
    options: HttpServerOptions,
    bounds: Bounds,
}

/// Serves an HTTP/2 connection to its end.
pub(crate) async fn serve(
    proxy: &Arc<Proxy>,
    stream: Stream,
    conn: &Arc<Conn>,
    bounds: Bounds,
    draining: &ShutdownWatch,
) {
    let mut options = HttpServerOptions::default();
    options.h2c = !conn.tls;
    options.h2_idle_timeout = Some(bounds.idle);
    let preface = pingora_timeout::timeout(bounds.preface, after_preface(stream, conn));
    let Ok(Some(stream)) = preface.await else {
        return;
    };
    let app = Arc::new(App {
        proxy: Arc::clone(proxy),
        conn: Arc::clone(conn),
        options,
        bounds,
    });
    app.process_new(stream, draining).await;
}

/// The stream once its preface has come, which stays to be read. In the clear our
/// own door has waited for it already.
async fn after_preface(mut stream: Stream, conn: &Conn) -> Option<Stream> {
    if !conn.tls {
        return Some(stream);
    }
    let mut preface = BytesMut::with_capacity(PREFACE_BYTES);
    while preface.len() < PREFACE_BYTES {
        if stream.read_buf(&mut preface).await.ok()? == 0 {
            return None;
        }
    }
    Some(Box::new(Replay::new(
        stream,
        preface.freeze(),
        Extent::Open,
    )))
}

#[async_trait]
impl HttpServerApp for App {
    async fn process_new_http(
        self: &Arc<Self>,
        mut session: ServerSession,
        shutdown: &ShutdownWatch,
    ) -> Option<ReusedHttpStream> {
        session.set_write_timeout(Some(self.bounds.write));
        DOOR.scope(
            Arc::clone(&self.conn),
            self.proxy.process_new_http(session, shutdown),
        )
        .await
    }

    fn server_options(&self) -> Option<&HttpServerOptions> {
        Some(&self.options)
    }

    fn h2_options(&self) -> Option<H2Options> {
        let mut options = default_h2_options();
        options.max_concurrent_streams(STREAMS_MAX);
        options.max_header_list_size(u32::try_from(self.bounds.head_bytes_max).unwrap_or(u32::MAX));
        Some(options)
    }
}
