//! A receiver of gRPC calls, written by hand over HTTP/2: it shares no code with
//! whoever exports.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use h2::RecvStream;
use h2::server::SendResponse;
use http::{HeaderMap, Request};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::AbortHandle;

/// Before each message: one byte for compression, four for the length.
const PREFIX_BYTES: usize = 5;

/// A call as it came.
#[derive(Clone, Debug)]
pub struct Call {
    /// `/package.Service/Method`.
    pub path: String,
    /// Its metadata.
    pub fields: HeaderMap,
    /// Its message.
    pub message: Bytes,
}

/// Takes every call for OK and remembers it. It ends when it is dropped.
#[derive(Debug)]
pub struct GrpcCollector {
    address: SocketAddr,
    calls: Arc<watch::Sender<Vec<Call>>>,
    accepting: AbortHandle,
}

impl GrpcCollector {
    /// Starts one.
    ///
    /// # Panics
    /// When the system has no port to give.
    pub async fn start() -> Self {
        Self::start_as(true).await
    }

    /// Starts one that takes calls and never answers any.
    ///
    /// # Panics
    /// As there.
    pub async fn start_hanging() -> Self {
        Self::start_as(false).await
    }

    async fn start_as(answering: bool) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await;
        let listener = listener.expect("the system has a port");
        let address = listener
            .local_addr()
            .expect("a bound socket has an address");
        let calls = Arc::new(watch::Sender::default());
        let accepting = tokio::spawn(accept(listener, Arc::clone(&calls), answering));
        Self {
            address,
            calls,
            accepting: accepting.abort_handle(),
        }
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Every call of that path so far, in order.
    #[must_use]
    pub fn calls(&self, path: &str) -> Vec<Call> {
        let calls = self.calls.borrow();
        calls
            .iter()
            .filter(|one| one.path == path)
            .cloned()
            .collect()
    }
}

impl Drop for GrpcCollector {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn accept(listener: TcpListener, calls: Arc<watch::Sender<Vec<Call>>>, answering: bool) {
    let mut connections = tokio::task::JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        let calls = Arc::clone(&calls);
        connections.spawn(async move {
            // A connection that breaks is the other side's story.
            let Ok(mut connection) = h2::server::handshake(stream).await else {
                return;
            };
            let mut held = Vec::new();
            while let Some(Ok((request, respond))) = connection.accept().await {
                if answering {
                    tokio::spawn(take(request, respond, Arc::clone(&calls)));
                } else {
                    held.push((request, respond));
                }
            }
        });
    }
}

async fn take(
    request: Request<RecvStream>,
    mut respond: SendResponse<Bytes>,
    calls: Arc<watch::Sender<Vec<Call>>>,
) -> Option<()> {
    let (head, mut body) = request.into_parts();
    let mut message = Vec::new();
    while let Some(chunk) = body.data().await {
        let chunk = chunk.ok()?;
        body.flow_control().release_capacity(chunk.len()).ok()?;
        message.extend_from_slice(&chunk);
    }
    let message = Bytes::from(message).slice(PREFIX_BYTES..);
    calls.send_modify(|calls| {
        calls.push(Call {
            path: head.uri.path().to_owned(),
            fields: head.headers,
            message,
        });
    });
    let mut answer = http::Response::new(());
    let kind = http::HeaderValue::from_static("application/grpc");
    answer.headers_mut().insert("content-type", kind);
    let mut stream = respond.send_response(answer, false).ok()?;
    // An empty message: all of it was taken.
    let empty = Bytes::from_static(&[0; PREFIX_BYTES]);
    stream.send_data(empty, false).ok()?;
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", http::HeaderValue::from_static("0"));
    stream.send_trailers(trailers).ok()
}
