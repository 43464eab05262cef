//! A tap on a connection: bytes go through as they come, and are kept.
//!
//! Unlike a relay of messages a tap reads nothing while bytes pass, so it changes no
//! timing that a node could notice, and a head is told as it stood on the wire. Its
//! address stays while what is behind it changes, so that two topologies, one after
//! the other, can be given the very same files.
//!
//! What is not told is how a body was cut into chunks and writes: that follows the
//! reads of whoever sent it on, and is different each time.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{AbortHandle, JoinSet};

use crate::wire::{Framing, parse_head, request_framing, response_framing, status_of};

/// Which way a message went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Towards {
    /// It is a request.
    Server,
    /// It is a response, or an interim one.
    Client,
}

/// A message as it passed.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Passed {
    /// Which way.
    pub towards: Towards,
    /// Its head, byte for byte, with the empty line at its end. None for bytes after
    /// an upgrade.
    pub head: Vec<u8>,
    /// Its body, without chunk sizes, and its trailers behind it.
    pub body: Bytes,
    /// Whether all of it came.
    pub complete: bool,
}

/// A tap in front of a server.
#[derive(Debug, Clone)]
pub struct Tap {
    address: SocketAddr,
    shared: Arc<Shared>,
    _accepting: Arc<Accepting>,
}

#[derive(Debug)]
struct Shared {
    target: Mutex<SocketAddr>,
    connections: Mutex<Vec<Arc<Mutex<Connection>>>>,
}

#[derive(Debug)]
struct Accepting(AbortHandle);

impl Drop for Accepting {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// What passed on one connection and was not taken yet.
#[derive(Debug, Default)]
struct Connection {
    requests: Vec<u8>,
    responses: Vec<u8>,
    /// Methods of requests whose response has not been taken.
    asked: VecDeque<String>,
    /// After a 101.
    is_tunnel: bool,
    requests_ended: bool,
    responses_ended: bool,
}

impl Tap {
    /// In front of nothing yet: connections are closed until there is a target.
    ///
    /// # Panics
    /// When the system has no port to give.
    pub async fn start() -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await;
        let listener = listener.expect("the system has a port");
        let address = listener
            .local_addr()
            .expect("a bound socket has an address");
        let shared = Arc::new(Shared {
            target: Mutex::new(address),
            connections: Mutex::default(),
        });
        let accepting = tokio::spawn(accept(listener, Arc::clone(&shared))).abort_handle();
        Self {
            address,
            shared,
            _accepting: Arc::new(Accepting(accepting)),
        }
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Connects to `target` from now on, and forgets what passed before.
    pub fn lead_to(&self, target: SocketAddr) {
        *self.shared.target.lock().expect("nobody panics") = target;
        self.shared
            .connections
            .lock()
            .expect("nobody panics")
            .clear();
    }

    /// Whether every message that began to pass has passed, and every request has its
    /// response, or its connection has ended, as one that was upgraded must have.
    #[must_use]
    pub fn is_quiet(&self) -> bool {
        let connections = self.shared.connections.lock().expect("nobody panics");
        connections
            .iter()
            .all(|one| one.lock().expect("nobody panics").is_quiet())
    }

    /// Every message that passed since this was last asked, in order where they went
    /// over one connection.
    #[must_use]
    pub fn take(&self) -> Vec<Passed> {
        let connections = self.shared.connections.lock().expect("nobody panics");
        connections
            .iter()
            .flat_map(|one| one.lock().expect("nobody panics").take())
            .collect()
    }
}

impl Connection {
    fn is_quiet(&mut self) -> bool {
        let mut probe = Self {
            requests: self.requests.clone(),
            responses: self.responses.clone(),
            asked: self.asked.clone(),
            ..*self
        };
        let _ = probe.take();
        let ended = self.requests_ended && self.responses_ended;
        ended || (probe.requests.is_empty() && probe.responses.is_empty() && probe.asked.is_empty())
    }

    fn take(&mut self) -> Vec<Passed> {
        let mut passed = Vec::new();
        while !self.is_tunnel {
            // What follows a request may be no HTTP, as its response will say.
            let waits = !self.asked.is_empty();
            let next = match waits {
                true => self.response(),
                false => self.request().or_else(|| self.response()),
            };
            match next {
                Some(message) => passed.push(message),
                None => break,
            }
        }
        if self.is_tunnel {
            for (towards, bytes) in [
                (Towards::Server, &mut self.requests),
                (Towards::Client, &mut self.responses),
            ] {
                if !bytes.is_empty() {
                    passed.push(Passed {
                        towards,
                        head: Vec::new(),
                        body: Bytes::from(std::mem::take(bytes)),
                        complete: true,
                    });
                }
            }
        }
        passed
    }

    fn request(&mut self) -> Option<Passed> {
        let request = next(&mut self.requests, self.requests_ended, |_, fields| {
            request_framing(fields)
        })?;
        let head = String::from_utf8_lossy(&request.head).into_owned();
        let method = head.split(' ').next().unwrap_or_default().to_owned();
        self.asked.push_back(method);
        Some(Passed {
            towards: Towards::Server,
            ..request
        })
    }

    fn response(&mut self) -> Option<Passed> {
        let method = self.asked.front().cloned().unwrap_or_default();
        let response = next(
            &mut self.responses,
            self.responses_ended,
            |start, fields| response_framing(&method, status_of(start).unwrap_or(0), fields),
        )?;
        let status = status_of(&String::from_utf8_lossy(&response.head)).unwrap_or(0);
        if status >= 200 || status == 101 {
            self.asked.pop_front();
        }
        self.is_tunnel = status == 101;
        Some(response)
    }
}

/// Takes the next message out of `bytes`: a whole one, or what there is of one where
/// no more will come.
fn next(
    bytes: &mut Vec<u8>,
    ended: bool,
    framing: impl Fn(&str, &crate::Fields) -> Framing,
) -> Option<Passed> {
    let head_end = position(bytes, b"\r\n\r\n").map(|at| at + 4);
    let whole = head_end.and_then(|head_end| {
        let head = parse_head(&bytes[..head_end - 4]);
        let framing = framing(&head.start, &head.fields);
        let (body, used, complete) = body(&bytes[head_end..], framing, ended)?;
        Some((head_end, body, used, complete))
    });
    let (head_end, body, used, complete) = match whole {
        Some(whole) => whole,
        None if ended && !bytes.is_empty() => {
            let head_end = head_end.unwrap_or(bytes.len());
            let rest = Bytes::copy_from_slice(&bytes[head_end..]);
            (head_end, rest, bytes.len() - head_end, false)
        }
        None => return None,
    };
    let head = bytes[..head_end].to_vec();
    bytes.drain(..head_end + used);
    Some(Passed {
        towards: Towards::Client,
        head,
        body,
        complete,
    })
}

/// A body, the bytes it took on the wire, and whether it is whole; None where more of
/// it is to come.
fn body(bytes: &[u8], framing: Framing, ended: bool) -> Option<(Bytes, usize, bool)> {
    match framing {
        Framing::Length(length) => {
            let length = usize::try_from(length).unwrap_or(usize::MAX);
            let part = bytes.get(..length)?;
            Some((Bytes::copy_from_slice(part), length, true))
        }
        Framing::Close => ended.then(|| (Bytes::copy_from_slice(bytes), bytes.len(), true)),
        Framing::Chunked => {
            let mut whole = Vec::new();
            let mut at = 0;
            loop {
                let line_end = at + position(bytes.get(at..)?, b"\r\n")?;
                let line = String::from_utf8_lossy(&bytes[at..line_end]).into_owned();
                let digits = line.split(';').next().unwrap_or_default().trim();
                let Ok(length) = usize::from_str_radix(digits, 16) else {
                    // Not chunks: told as it is.
                    return ended.then(|| (Bytes::copy_from_slice(bytes), bytes.len(), false));
                };
                at = line_end + 2;
                if length == 0 {
                    // Trailers, up to the empty line.
                    loop {
                        let end = at + position(bytes.get(at..)?, b"\r\n")?;
                        let trailer = &bytes[at..end];
                        at = end + 2;
                        if trailer.is_empty() {
                            return Some((Bytes::from(whole), at, true));
                        }
                        whole.extend_from_slice(b"\r\ntrailer: ");
                        whole.extend_from_slice(trailer);
                    }
                }
                whole.extend_from_slice(bytes.get(at..at + length)?);
                at += length + 2;
            }
        }
    }
}

fn position(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack
        .windows(needle.len())
        .position(|window| window == needle)
}

/// Connections belong to this task, so that they end with it.
async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    loop {
        let Ok((client, _)) = listener.accept().await else {
            return;
        };
        while connections.try_join_next().is_some() {}
        let target = *shared.target.lock().expect("nobody panics");
        if target == listener.local_addr().unwrap_or(target) {
            continue;
        }
        let connection = Arc::new(Mutex::new(Connection::default()));
        let mut all = shared.connections.lock().expect("nobody panics");
        // What has ended and was told is of no more use.
        all.retain(|one| {
            let one = one.lock().expect("nobody panics");
            let ended = one.requests_ended && one.responses_ended;
            !(ended && one.requests.is_empty() && one.responses.is_empty())
        });
        all.push(Arc::clone(&connection));
        drop(all);
        connections.spawn(pass(client, target, connection));
    }
}

async fn pass(client: TcpStream, target: SocketAddr, connection: Arc<Mutex<Connection>>) {
    if let Ok(server) = TcpStream::connect(target).await {
        let _ = client.set_nodelay(true);
        let _ = server.set_nodelay(true);
        let (from_client, to_client) = client.into_split();
        let (from_server, to_server) = server.into_split();
        let requests = one_way(from_client, to_server, |bytes| {
            let mut connection = connection.lock().expect("nobody panics");
            connection.requests.extend_from_slice(bytes);
            connection.requests_ended |= bytes.is_empty();
        });
        let responses = one_way(from_server, to_client, |bytes| {
            let mut connection = connection.lock().expect("nobody panics");
            connection.responses.extend_from_slice(bytes);
            connection.responses_ended |= bytes.is_empty();
        });
        // A connection that breaks one way is broken.
        let _ = tokio::try_join!(requests, responses);
    }
    let mut connection = connection.lock().expect("nobody panics");
    connection.requests_ended = true;
    connection.responses_ended = true;
}

/// Keeps before it passes on: whoever has the bytes finds them told.
async fn one_way(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    keep: impl Fn(&[u8]),
) -> std::io::Result<()> {
    let mut buffer = vec![0; 64 << 10];
    loop {
        let bytes = from.read(&mut buffer).await?;
        keep(&buffer[..bytes]);
        if bytes == 0 {
            return to.shutdown().await;
        }
        to.write_all(&buffer[..bytes]).await?;
    }
}
