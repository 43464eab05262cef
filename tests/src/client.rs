//! A visitor that speaks HTTP/1.1 as bytes.

use std::net::SocketAddr;

use bytes::{Bytes, BytesMut};
use tokio::net::TcpStream;

use crate::ask::Ask;
use crate::wire::{Fields, Stream, Wire, field, response_framing, status_of};
use crate::within;

/// Seconds that a visitor waits for anything. Far longer than any node needs.
const PATIENCE_S: u64 = 20;

/// A response, as far as it came.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Response {
    /// Its status.
    pub status: u16,
    /// Its fields, in order.
    pub fields: Fields,
    /// Its body, without framing.
    pub body: Bytes,
    /// Whether the body came to the end that its framing promised.
    pub complete: bool,
    /// Statuses of the interim responses before it.
    pub interim: Vec<u16>,
}

impl Response {
    /// All values of a field, joined; None where there is none.
    #[must_use]
    pub fn field(&self, name: &str) -> Option<String> {
        field(&self.fields, name)
    }

    /// All values of a field, joined; empty where there is none.
    #[must_use]
    pub fn says(&self, name: &str) -> String {
        self.field(name).unwrap_or_default()
    }

    /// How often a field stands there.
    #[must_use]
    pub fn lines(&self, name: &str) -> usize {
        let same = |(have, _): &&(String, String)| have.eq_ignore_ascii_case(name);
        self.fields.iter().filter(same).count()
    }

    /// The body as text.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The members of `Cache-Status`, nearest the origin first.
    #[must_use]
    pub fn cache_status(&self) -> Vec<String> {
        let status = self.says("cache-status");
        let members = status.split(", ").filter(|member| !member.is_empty());
        members.map(str::to_owned).collect()
    }

    /// Whether the member of that node in `Cache-Status` says it was a hit.
    #[must_use]
    pub fn hit_at(&self, node: &str) -> bool {
        self.at(node).contains("; hit")
    }

    /// The member of that node in `Cache-Status`; empty where there is none.
    #[must_use]
    pub fn at(&self, node: &str) -> String {
        let named = |member: &String| member.split(';').next() == Some(node);
        self.cache_status()
            .into_iter()
            .find(named)
            .unwrap_or_default()
    }

    /// Whether that node has no room for the request, and says when to come again.
    #[must_use]
    pub fn found_no_room_at(&self, node: &str) -> bool {
        let named = format!("{node}; error=connection_limit_reached");
        self.status == 503
            && self.says("Retry-After") == "1"
            && self.says("Proxy-Status").starts_with(&named)
    }

    /// Whether any field's name begins with `tier-`, or a signature is ours.
    #[must_use]
    pub fn leaks_control(&self) -> bool {
        self.fields.iter().any(|(name, value)| {
            let name = name.to_ascii_lowercase();
            name.starts_with("tier-") || (name.starts_with("signature") && value.contains("tier="))
        })
    }
}

/// One connection of a visitor.
#[derive(Debug)]
pub struct Client {
    wire: Wire,
}

impl Client {
    /// Connects in the clear.
    ///
    /// # Panics
    /// When nobody listens there.
    pub async fn connect(address: SocketAddr) -> Self {
        let connecting = within(PATIENCE_S, TcpStream::connect(address));
        let stream = connecting.await.expect("the node listens");
        let _ = stream.set_nodelay(true);
        Self::over(Box::new(stream))
    }

    /// Speaks over a stream that is there already.
    #[must_use]
    pub fn over(stream: Box<dyn Stream>) -> Self {
        Self {
            wire: Wire::new(stream),
        }
    }

    /// Sends bytes as they are. What the node refuses to take is its answer to
    /// give, so a write that fails is not an error here.
    pub async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        let _ = within(PATIENCE_S, self.wire.write(bytes.as_ref())).await;
    }

    /// Says that this client will send nothing more.
    pub async fn finish_sending(&mut self) {
        let _ = self.wire.finish_writing().await;
    }

    /// Sends a request and reads its response.
    pub async fn ask(&mut self, ask: &Ask) -> Response {
        self.send(ask.bytes()).await;
        self.response_to(&ask.method).await
    }

    /// The same over a connection that the node may be closing: None where it did so
    /// without a word of an answer.
    pub async fn try_ask(&mut self, ask: &Ask) -> Option<Response> {
        self.send(ask.bytes()).await;
        let closed = within(PATIENCE_S, self.wire.is_at_end()).await;
        if closed {
            return None;
        }
        Some(self.response_to(&ask.method).await)
    }

    /// Reads the response to a GET.
    pub async fn response(&mut self) -> Response {
        self.response_to("GET").await
    }

    /// Reads the response to a request of that method, to its end or to wherever
    /// it breaks.
    pub async fn response_to(&mut self, method: &str) -> Response {
        let mut response = self.head_of(method).await;
        let (body, complete) = within(PATIENCE_S, self.wire.rest()).await;
        response.body = body;
        response.complete = complete;
        response
    }

    /// Reads a response's head and leaves its body for [`Client::part`].
    pub async fn head(&mut self) -> Response {
        self.head_of("GET").await
    }

    async fn head_of(&mut self, method: &str) -> Response {
        let mut interim = Vec::new();
        loop {
            let head = within(PATIENCE_S, self.wire.head()).await;
            let head = head
                .expect("a response head is whole")
                .expect("the node answers before it closes");
            let status = status_of(&head.start);
            let status = status.unwrap_or_else(|| panic!("no status line: {:?}", head.start));
            if (100..200).contains(&status) && status != 101 {
                interim.push(status);
                continue;
            }
            self.wire
                .begin_body(response_framing(method, status, &head.fields));
            return Response {
                status,
                fields: head.fields,
                body: Bytes::new(),
                complete: false,
                interim,
            };
        }
    }

    /// The next part of a body whose head was read; None at its end.
    ///
    /// # Panics
    /// When the body breaks off.
    pub async fn part(&mut self) -> Option<Bytes> {
        within(PATIENCE_S, self.wire.part())
            .await
            .expect("the body goes on")
    }

    /// At least `bytes` bytes of a body whose head was read.
    ///
    /// # Panics
    /// When it ends before.
    pub async fn at_least(&mut self, bytes: usize) -> Bytes {
        let mut body = BytesMut::new();
        while body.len() < bytes {
            body.extend_from_slice(&self.part().await.expect("the body is longer"));
        }
        body.freeze()
    }

    /// The rest of a body whose head was read, and whether it came to its end.
    pub async fn rest(&mut self) -> (Bytes, bool) {
        within(PATIENCE_S, self.wire.rest()).await
    }

    /// Reads the response to a GET, unless the node closes before it begins.
    pub async fn closed_or_response(&mut self) -> Option<Response> {
        self.closed_or_response_to("GET").await
    }

    /// As [`Client::response_to`], unless the node closes before it begins.
    pub async fn closed_or_response_to(&mut self, method: &str) -> Option<Response> {
        let closed = within(PATIENCE_S, self.wire.is_at_end()).await;
        match closed {
            true => None,
            false => Some(self.response_to(method).await),
        }
    }

    /// Whether the node has closed the connection by now, as whoever keeps connections
    /// looks before using one again.
    pub async fn has_closed(&mut self) -> bool {
        tokio::select! {
            biased;
            at_end = self.wire.is_at_end() => at_end,
            () = std::future::ready(()) => false,
        }
    }

    /// The next bytes, whatever they are; empty when the node has closed.
    pub async fn raw(&mut self) -> Bytes {
        within(PATIENCE_S, self.wire.raw())
            .await
            .unwrap_or_default()
    }

    /// Waits until the node closes the connection, and gives what still came.
    pub async fn closed(&mut self) -> Bytes {
        let mut all = BytesMut::new();
        loop {
            let more = self.raw().await;
            if more.is_empty() {
                return all.freeze();
            }
            all.extend_from_slice(&more);
        }
    }
}
