//! A visitor that speaks HTTP/2.

use std::net::SocketAddr;

use bytes::{Bytes, BytesMut};
use h2::client::SendRequest;
use http::Request;
use tokio::net::TcpStream;
use tokio::task::{AbortHandle, JoinHandle};

use crate::ask::{Ask, AskBody};
use crate::client::Response;
use crate::wire::{Stream, field};
use crate::within;

/// Seconds that a visitor waits for anything.
const PATIENCE_S: u64 = 20;

/// One HTTP/2 connection.
#[derive(Debug)]
pub struct H2Client {
    requests: SendRequest<Bytes>,
    scheme: &'static str,
    driving: AbortHandle,
}

impl H2Client {
    /// Connects in the clear, by prior knowledge (RFC 9113 §3.3).
    ///
    /// # Panics
    /// When nobody speaks HTTP/2 there.
    pub async fn connect(address: SocketAddr) -> Self {
        let stream = within(PATIENCE_S, TcpStream::connect(address)).await;
        let stream = stream.expect("the node listens");
        Self::over(Box::new(stream), "http").await
    }

    /// Speaks over a stream that is there already.
    ///
    /// # Panics
    /// When the other side does not speak HTTP/2.
    pub async fn over(stream: Box<dyn Stream>, scheme: &'static str) -> Self {
        let handshake = within(PATIENCE_S, h2::client::handshake(stream)).await;
        let (requests, connection) = handshake.expect("the node speaks HTTP/2");
        let driving = tokio::spawn(async move {
            // How the connection ended shows in the requests on it.
            let _ = connection.await;
        });
        Self {
            requests,
            scheme,
            driving: driving.abort_handle(),
        }
    }

    /// Sends a request and reads its response.
    ///
    /// # Panics
    /// When the stream ends before a response head.
    pub async fn ask(&mut self, ask: &Ask) -> Response {
        let exchange = exchange(self.requests.clone(), self.scheme, ask);
        within(PATIENCE_S, exchange)
            .await
            .expect("a response comes")
    }

    /// As [`H2Client::ask`]; None where the stream is reset before its head.
    pub async fn try_ask(&mut self, ask: &Ask) -> Option<Response> {
        let exchange = exchange(self.requests.clone(), self.scheme, ask);
        within(PATIENCE_S, exchange).await.ok()
    }

    /// Sends a request on a stream of its own, beside whatever else is under way.
    #[must_use]
    pub fn begin(&self, ask: &Ask) -> JoinHandle<Response> {
        let (requests, scheme, ask) = (self.requests.clone(), self.scheme, ask.clone());
        tokio::spawn(async move {
            let exchange = exchange(requests, scheme, &ask);
            within(PATIENCE_S, exchange)
                .await
                .expect("a response comes")
        })
    }
}

async fn exchange(
    requests: SendRequest<Bytes>,
    scheme: &str,
    ask: &Ask,
) -> Result<Response, h2::Error> {
    let authority = field(&ask.fields, "host").unwrap_or_default();
    let mut request = Request::builder()
        .method(ask.method.as_str())
        .uri(format!("{scheme}://{authority}{}", ask.target));
    for (name, value) in &ask.fields {
        // RFC 9113 §8.3.1: the authority stands in `:authority`.
        if !name.eq_ignore_ascii_case("host") {
            request = request.header(name, value);
        }
    }
    let request = request.body(()).expect("the request is well formed");
    let parts = match &ask.body {
        AskBody::None => Vec::new(),
        AskBody::Whole(body) => vec![body.clone()],
        AskBody::Chunks(chunks) => chunks.clone(),
    };
    let mut sender = requests.ready().await?;
    let (response, mut stream) = sender.send_request(request, parts.is_empty())?;
    let last = parts.len().saturating_sub(1);
    for (at, part) in parts.into_iter().enumerate() {
        stream.send_data(part, at == last)?;
    }
    let (head, mut incoming) = response.await?.into_parts();
    let fields = head.headers.iter().map(|(name, value)| {
        let value = String::from_utf8_lossy(value.as_bytes());
        (name.as_str().to_owned(), value.into_owned())
    });
    let mut read = Response {
        status: head.status.as_u16(),
        fields: fields.collect(),
        ..Response::default()
    };
    let mut body = BytesMut::new();
    read.complete = loop {
        match incoming.data().await {
            Some(Ok(part)) => {
                let _ = incoming.flow_control().release_capacity(part.len());
                body.extend_from_slice(&part);
            }
            Some(Err(_)) => break false,
            None => break true,
        }
    };
    read.body = body.freeze();
    Ok(read)
}

impl Drop for H2Client {
    fn drop(&mut self) {
        self.driving.abort();
    }
}
