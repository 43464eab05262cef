//! Whatever stands between an edge and its upper tier.
//!
//! A relay of bytes passes them on and can be cut, as if the upper tier had been
//! killed. A relay of messages reads each one whole and may alter it, as the hop
//! did on the day that this project began with.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, copy_bidirectional};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::{AbortHandle, JoinSet};

use crate::wire::{Framing, Message, Wire, request_framing, response_framing, status_of};

/// A request that went through, and the answer that came back, both as they were
/// before anybody altered them.
#[derive(Clone, Debug)]
pub struct Exchange {
    /// What the edge sent.
    pub request: Message,
    /// What the upper tier answered.
    pub response: Message,
}

type AlterRequest = Box<dyn FnMut(&mut Message) + Send>;
type AlterResponse = Box<dyn FnMut(&Message, &mut Message) + Send>;

/// A relay in front of one upper tier.
#[derive(Debug)]
pub struct Relay {
    address: SocketAddr,
    shared: Arc<Shared>,
    accepting: Mutex<Option<AbortHandle>>,
}

struct Shared {
    target: SocketAddr,
    messages: bool,
    delay: Duration,
    alter_request: Mutex<Option<AlterRequest>>,
    alter_response: Mutex<Option<AlterResponse>>,
    exchanges: watch::Sender<Vec<Exchange>>,
    swallows: AtomicBool,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared")
            .field("target", &self.target)
            .field("messages", &self.messages)
            .finish_non_exhaustive()
    }
}

impl Relay {
    /// Passes bytes on.
    pub async fn of_bytes(target: SocketAddr) -> Self {
        Self::start(Ipv4Addr::LOCALHOST.into(), target, false, Duration::ZERO).await
    }

    /// Passes bytes on, from a port at `address`, and so much later in each direction.
    pub async fn of_late_bytes(address: IpAddr, target: SocketAddr, delay: Duration) -> Self {
        Self::start(address, target, false, delay).await
    }

    /// Passes whole messages on.
    pub async fn of_messages(target: SocketAddr) -> Self {
        Self::start(Ipv4Addr::LOCALHOST.into(), target, true, Duration::ZERO).await
    }

    async fn start(address: IpAddr, target: SocketAddr, messages: bool, delay: Duration) -> Self {
        let listener = TcpListener::bind((address, 0)).await;
        let listener = listener.expect("the system has a port");
        let address = listener
            .local_addr()
            .expect("a bound socket has an address");
        let shared = Arc::new(Shared {
            target,
            messages,
            delay,
            alter_request: Mutex::default(),
            alter_response: Mutex::default(),
            exchanges: watch::Sender::default(),
            swallows: AtomicBool::new(false),
        });
        let accepting = tokio::spawn(accept(listener, Arc::clone(&shared)));
        Self {
            address,
            shared,
            accepting: Mutex::new(Some(accepting.abort_handle())),
        }
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Lets `alter` have every request from now on, before it is passed on.
    pub fn on_request(&self, alter: impl FnMut(&mut Message) + Send + 'static) {
        *self.shared.alter_request.lock().expect("nobody panics") = Some(Box::new(alter));
    }

    /// Lets `alter` have every response from now on, with the request it answers.
    pub fn on_response(&self, alter: impl FnMut(&Message, &mut Message) + Send + 'static) {
        *self.shared.alter_response.lock().expect("nobody panics") = Some(Box::new(alter));
    }

    /// Takes requests from now on, and passes none on.
    pub fn swallow(&self) {
        self.shared.swallows.store(true, Ordering::Relaxed);
    }

    /// Alters nothing any more.
    pub fn leave_alone(&self) {
        *self.shared.alter_request.lock().expect("nobody panics") = None;
        *self.shared.alter_response.lock().expect("nobody panics") = None;
    }

    /// What went through a relay of messages.
    #[must_use]
    pub fn exchanges(&self) -> Vec<Exchange> {
        self.shared.exchanges.borrow().clone()
    }

    /// Ends every connection at once and refuses new ones.
    pub async fn cut(&self) {
        let accepting = self.accepting.lock().expect("nobody panics").take();
        if let Some(accepting) = accepting {
            accepting.abort();
        }
        // The task lets go of its socket when it is dropped, which is soon.
        crate::until("a cut relay refuses connections", async || {
            TcpStream::connect(self.address).await.err()
        })
        .await;
    }

    /// Listens again, on the same port.
    ///
    /// # Panics
    /// When somebody else took the port meanwhile.
    pub fn restore(&self) {
        let socket = TcpSocket::new_v4().expect("the system has a socket");
        socket.set_reuseaddr(true).expect("it is a TCP socket");
        socket.bind(self.address).expect("the port is still free");
        let listener = socket.listen(128).expect("it is bound");
        let accepting = tokio::spawn(accept(listener, Arc::clone(&self.shared)));
        let accepting = Some(accepting.abort_handle());
        *self.accepting.lock().expect("nobody panics") = accepting;
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        if let Ok(mut accepting) = self.accepting.lock()
            && let Some(accepting) = accepting.take()
        {
            accepting.abort();
        }
    }
}

/// Connections belong to this task, so that they end with it.
async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    loop {
        let Ok((edge, _)) = listener.accept().await else {
            return;
        };
        let shared = Arc::clone(&shared);
        connections.spawn(async move {
            let Ok(upper) = TcpStream::connect(shared.target).await else {
                return;
            };
            let _ = edge.set_nodelay(true);
            let _ = upper.set_nodelay(true);
            // A connection that breaks is the nodes' story.
            let _ = if shared.messages {
                pass_messages(edge, upper, &shared).await
            } else if shared.delay.is_zero() {
                pass_bytes(edge, upper).await
            } else {
                pass_late_bytes(edge, upper, shared.delay).await
            };
        });
    }
}

async fn pass_bytes(mut edge: TcpStream, mut upper: TcpStream) -> io::Result<()> {
    copy_bidirectional(&mut edge, &mut upper).await.map(drop)
}

async fn pass_late_bytes(edge: TcpStream, upper: TcpStream, delay: Duration) -> io::Result<()> {
    let (from_edge, to_edge) = edge.into_split();
    let (from_upper, to_upper) = upper.into_split();
    // The first direction that breaks takes the other along.
    tokio::try_join!(
        late(from_edge, to_upper, delay),
        late(from_upper, to_edge, delay)
    )?;
    Ok(())
}

/// Chunks that a relay holds back in each direction. It reads no further beyond.
const LATE_CHUNKS_MAX: usize = 1024;

/// Passes bytes on as they come, each so much later.
async fn late(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    delay: Duration,
) -> io::Result<()> {
    let (sender, mut receiver) = mpsc::channel(LATE_CHUNKS_MAX);
    let reading = async {
        loop {
            let mut chunk = BytesMut::with_capacity(16 << 10);
            let length = from.read_buf(&mut chunk).await?;
            let due = Box::pin(tokio::time::sleep(delay));
            if length == 0 || sender.send((due, chunk)).await.is_err() {
                drop(sender);
                return io::Result::Ok(());
            }
        }
    };
    let writing = async {
        while let Some((due, chunk)) = receiver.recv().await {
            due.await;
            to.write_all(&chunk).await?;
        }
        to.shutdown().await
    };
    tokio::try_join!(reading, writing)?;
    Ok(())
}

async fn pass_messages(edge: TcpStream, upper: TcpStream, shared: &Shared) -> io::Result<()> {
    let mut edge = Wire::new(Box::new(edge));
    let mut upper = Wire::new(Box::new(upper));
    while let Some(request) = read(&mut edge, request_framing).await? {
        if shared.swallows.load(Ordering::Relaxed) {
            std::future::pending::<()>().await;
        }
        let mut altered = request.clone();
        if let Some(alter) = &mut *shared.alter_request.lock().expect("nobody panics") {
            alter(&mut altered);
        }
        upper.write(&altered.bytes(false)).await?;

        let method = request
            .start
            .split(' ')
            .next()
            .unwrap_or_default()
            .to_owned();
        let response = loop {
            let framing = |start: &str, fields: &_| {
                response_framing(&method, status_of(start).unwrap_or(0), fields)
            };
            let Some(response) = read_response(&mut upper, framing).await? else {
                return Ok(());
            };
            match status_of(&response.start) {
                Some(101) => {
                    edge.write(&response.bytes(true)).await?;
                    return join(edge, upper).await;
                }
                Some(100..200) => edge.write(&response.bytes(true)).await?,
                _ => break response,
            }
        };
        let mut altered = response.clone();
        if let Some(alter) = &mut *shared.alter_response.lock().expect("nobody panics") {
            alter(&request, &mut altered);
        }
        let status = status_of(&altered.start).unwrap_or(0);
        let bodyless = response_framing(&method, status, &altered.fields) == Framing::Length(0);
        shared
            .exchanges
            .send_modify(|all| all.push(Exchange { request, response }));
        edge.write(&altered.bytes(bodyless)).await?;
        if !altered.complete {
            return Ok(());
        }
    }
    Ok(())
}

/// After 101 the bytes mean nothing to us.
async fn join(edge: Wire, upper: Wire) -> io::Result<()> {
    let (mut edge, from_edge) = edge.into_parts();
    let (mut upper, from_upper) = upper.into_parts();
    upper.write_all(&from_edge).await?;
    edge.write_all(&from_upper).await?;
    copy_bidirectional(&mut edge, &mut upper).await.map(drop)
}

async fn read(
    wire: &mut Wire,
    framing: impl Fn(&crate::Fields) -> Framing,
) -> io::Result<Option<Message>> {
    read_response(wire, |_, fields| framing(fields)).await
}

async fn read_response(
    wire: &mut Wire,
    framing: impl Fn(&str, &crate::Fields) -> Framing,
) -> io::Result<Option<Message>> {
    let Some(head) = wire.head().await? else {
        return Ok(None);
    };
    wire.begin_body(framing(&head.start, &head.fields));
    let (body, complete) = wire.rest().await;
    Ok(Some(Message {
        start: head.start,
        fields: head.fields,
        body,
        complete,
    }))
}
