//! A collector that takes everything and keeps nothing.

use std::io;
use std::net::SocketAddr;

use tokio::net::{TcpListener, TcpStream};
use tokio::task::{AbortHandle, JoinSet};

use crate::wire::{Wire, request_framing};

/// Answers 200 to whatever is posted. It ends when it is dropped.
#[derive(Debug)]
pub struct Sink {
    address: SocketAddr,
    accepting: AbortHandle,
}

impl Sink {
    /// Starts one.
    ///
    /// # Panics
    /// When the system has no port to give.
    pub async fn start() -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await;
        let listener = listener.expect("the system has a port");
        let address = listener
            .local_addr()
            .expect("a bound socket has an address");
        Self {
            address,
            accepting: tokio::spawn(accept(listener)).abort_handle(),
        }
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn accept(listener: TcpListener) {
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        connections.spawn(serve(stream));
    }
}

async fn serve(stream: TcpStream) -> io::Result<()> {
    let mut wire = Wire::new(Box::new(stream));
    while let Some(head) = wire.head().await? {
        wire.begin_body(request_framing(&head.fields));
        while wire.part().await?.is_some() {}
        wire.write(
            b"HTTP/1.1 200 OK\r\nContent-Type: application/x-protobuf\r\nContent-Length: 0\r\n\r\n",
        )
        .await?;
    }
    Ok(())
}
