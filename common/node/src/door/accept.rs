//! Accepting connections: bounds, PROXY protocol, TLS, and which door.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use observe::{Event, Level};
use pingora_core::listeners::tls::Acceptor;
use pingora_core::protocols::ALPN;
use pingora_core::protocols::Stream;
use pingora_core::protocols::l4::stream::Stream as L4Stream;
use pingora_core::server::ShutdownWatch;
use tokio::io::AsyncReadExt;
use tokio::net::{TcpListener, TcpStream};

use super::h1::Door;
use super::proxy_protocol::{self, Parsed};
use super::{Conn, h2};
use crate::certificates::Kept;
use crate::drain::{Drain, time_to_go};
use crate::pass::Proxy;
use crate::state::Node;
use crate::upstream::millis;

/// How long to wait before accepting again when the system has no room.
pub(crate) const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// How a listening socket is spoken to.
pub(crate) struct Listening {
    pub(crate) tls: Option<Arc<Kept<Acceptor>>>,
    pub(crate) proxy_protocol: bool,
    pub(crate) http2: bool,
}

/// Accepts until the node drains. The socket is this task's alone, but for a process
/// that takes it over, and closes with it: one that a connection kept open would go on
/// taking visitors in, whom nobody answers.
pub(crate) async fn accept(
    node: Arc<Node>,
    proxy: Arc<Proxy>,
    socket: TcpListener,
    listening: Arc<Listening>,
    drain: Arc<Drain>,
) {
    // What a connection gets has not seen the drain begin, however late it comes.
    let draining = node.draining.clone();
    let mut told = draining.clone();
    loop {
        let accepted = tokio::select! {
            accepted = socket.accept() => accepted,
            _ = told.wait_for(|draining| *draining) => break,
        };
        match accepted {
            Ok((socket, peer)) => {
                begin(&node, &proxy, &listening, socket, peer, draining.clone());
            }
            Err(error) => {
                // Out of file descriptors, or a connection gone before it was taken.
                let event = Event::Note {
                    level: Level::Warn,
                    message: format!(
                        "accepting failed: {error}; raise the limit of open files if this lasts"
                    ),
                };
                node.observer.event(event, node.now_ms());
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    if drain.is_handed_over() {
        return;
    }
    // Who stands in the system's queue is connected already, and would be reset with it.
    let Ok(socket) = socket.into_std() else {
        return;
    };
    while let Ok((socket, peer)) = socket.accept() {
        let nonblocking = socket.set_nonblocking(true);
        if let Ok(socket) = nonblocking.and_then(|()| TcpStream::from_std(socket)) {
            begin(&node, &proxy, &listening, socket, peer, draining.clone());
        }
    }
}

/// Serves a connection in a task of its own, if there is room for it.
fn begin(
    node: &Arc<Node>,
    proxy: &Arc<Proxy>,
    listening: &Arc<Listening>,
    socket: TcpStream,
    peer: SocketAddr,
    draining: ShutdownWatch,
) {
    if node.connections.count() >= node.config.limits.connections_max {
        node.observer.metrics().door_refused("connections_max");
        return;
    }
    let busy = (node.connections.begin(), node.work.begin());
    let (node, proxy) = (Arc::clone(node), Arc::clone(proxy));
    let listening = Arc::clone(listening);
    tokio::spawn(async move {
        node.observer.metrics().connection_opened();
        let serving = connection(&node, proxy, &listening, socket, peer, draining);
        busy.1.run(Box::pin(serving)).await;
        node.observer.metrics().connection_closed();
        drop(busy);
    });
}

async fn connection(
    node: &Arc<Node>,
    proxy: Arc<Proxy>,
    listening: &Listening,
    socket: TcpStream,
    peer: SocketAddr,
    draining: ShutdownWatch,
) {
    let _ = socket.set_nodelay(true);
    let opened = tokio::select! {
        opened = open(node, listening, socket, peer) => opened,
        // Nobody has asked for anything yet.
        () = time_to_go(node, &draining) => return,
    };
    let Some((stream, peer)) = opened else {
        return;
    };
    let conn = Arc::new(Conn {
        peer,
        tls: listening.tls.is_some(),
        http2: listening.http2,
    });
    if matches!(stream.selected_alpn_proto(), Some(ALPN::H2)) {
        let bounds = h2::Bounds::of(node);
        h2::serve(&proxy, stream, &conn, bounds, &draining).await;
        return;
    }
    let door = Door {
        node: Arc::clone(node),
        proxy,
        conn,
        draining,
    };
    door.serve(stream).await;
}

/// What comes before the first request: the PROXY header and the TLS handshake.
/// None where they fail, which is counted.
async fn open(
    node: &Node,
    listening: &Listening,
    socket: TcpStream,
    peer: SocketAddr,
) -> Option<(Stream, SocketAddr)> {
    let mut socket = L4Stream::from(socket);
    let patience = millis(node.config.timeouts.head_ms);
    let peer = if listening.proxy_protocol {
        match pingora_timeout::timeout(patience, read_proxy_header(&mut socket)).await {
            Ok(Some(source)) => source.unwrap_or(peer),
            Ok(None) | Err(_) => {
                node.observer.metrics().door_refused("proxy_protocol");
                return None;
            }
        }
    } else {
        peer
    };
    let stream: Stream = match &listening.tls {
        None => Box::new(socket),
        Some(acceptor) => {
            let acceptor = acceptor.now();
            match pingora_timeout::timeout(patience, acceptor.tls_handshake(socket)).await {
                Ok(Ok(stream)) => Box::new(stream),
                Ok(Err(_)) | Err(_) => {
                    node.observer.metrics().door_refused("tls_handshake");
                    return None;
                }
            }
        }
    };
    Some((stream, peer))
}

/// The address a PROXY header names: `Some(None)` where it names none, `None`
/// where there is no such header.
async fn read_proxy_header(socket: &mut L4Stream) -> Option<Option<SocketAddr>> {
    let mut buf = BytesMut::with_capacity(256);
    loop {
        match proxy_protocol::parse(&buf) {
            Parsed::Header { len, source } => {
                socket.rewind(buf.get(len..).unwrap_or_default());
                return Some(source);
            }
            Parsed::Malformed => return None,
            Parsed::Partial => {
                if socket.read_buf(&mut buf).await.ok()? == 0 {
                    return None;
                }
            }
        }
    }
}
