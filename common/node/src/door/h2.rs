//! HTTP/2: pingora's session, one task a stream.

use std::sync::Arc;

use async_trait::async_trait;
use pingora_core::apps::{HttpServerApp, HttpServerOptions, ReusedHttpStream, ServerApp};
use pingora_core::protocols::Stream;
use pingora_core::protocols::http::ServerSession;
use pingora_core::protocols::http::v2::server::{H2Options, default_h2_options};
use pingora_core::server::ShutdownWatch;

use super::{Conn, DOOR};
use crate::pass::Proxy;

/// Header lists of HTTP/2 are bounded like heads of HTTP/1.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    pub(crate) head_bytes_max: usize,
}

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
    let app = Arc::new(App {
        proxy: Arc::clone(proxy),
        conn: Arc::clone(conn),
        options,
        bounds,
    });
    app.process_new(stream, draining).await;
}

#[async_trait]
impl HttpServerApp for App {
    async fn process_new_http(
        self: &Arc<Self>,
        session: ServerSession,
        shutdown: &ShutdownWatch,
    ) -> Option<ReusedHttpStream> {
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
