//! A real HTTP intermediary between edges and one upper tier.
//!
//! It reads whole messages, writes them anew, and keeps connections to the upper tier
//! in a pool that all edges share, as a proxy on the way would. A [`Fault`] is what
//! it does to them besides. It remembers no more than two exchanges, so that it can
//! stand in a drill of millions.

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::{AbortHandle, JoinSet};

use crate::clock::Stopwatch;
use crate::fault::{self, Fault, Kind, Side};
use crate::wire::{
    Framing, Message, Wire, head_bytes, request_framing, response_framing, status_of,
};

/// How long a connection may lie in the pool. The upper tier keeps it far longer.
const IDLE_MS: u64 = 5_000;

/// How long a message waits for another to change places with.
const PARTNER: Duration = Duration::from_millis(50);

/// An intermediary in front of one upper tier. It ends when it is dropped.
#[derive(Debug)]
pub struct Intermediary {
    address: SocketAddr,
    shared: Arc<Shared>,
    accepting: AbortHandle,
}

struct Shared {
    target: SocketAddr,
    delay: Duration,
    idle: Mutex<Vec<(Wire, Stopwatch)>>,
    fault: Mutex<Option<Fault>>,
    /// Messages that the fault could have hit, and those that it did.
    met: AtomicUsize,
    hit: AtomicUsize,
    requests: Memory,
    answers: Memory,
}

/// What it knows of earlier messages of one side.
#[derive(Default)]
struct Memory {
    first: Mutex<Option<Message>>,
    last: Mutex<Option<Message>>,
    waiting: Mutex<Option<Waiting>>,
}

/// A message that waits for another, and where to send that.
struct Waiting {
    message: Message,
    other: oneshot::Sender<Message>,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared")
            .field("target", &self.target)
            .field("fault", &self.fault)
            .finish_non_exhaustive()
    }
}

/// What a fault leaves of a message.
enum Passed {
    Whole(Message),
    /// Half of its head.
    Broken(Message),
}

impl Intermediary {
    /// Starts one; what [`Kind::Delay`] delays comes after `delay`.
    ///
    /// # Panics
    /// When the system has no port to give.
    pub async fn start(target: SocketAddr, delay: Duration) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await;
        let listener = listener.expect("the system has a port");
        let address = listener
            .local_addr()
            .expect("a bound socket has an address");
        let shared = Arc::new(Shared {
            target,
            delay,
            idle: Mutex::default(),
            fault: Mutex::default(),
            met: AtomicUsize::new(0),
            hit: AtomicUsize::new(0),
            requests: Memory::default(),
            answers: Memory::default(),
        });
        let accepting = tokio::spawn(accept(listener, Arc::clone(&shared))).abort_handle();
        Self {
            address,
            shared,
            accepting,
        }
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Does this to messages from now on; None: nothing any more.
    pub fn set(&self, fault: Option<Fault>) {
        *lock(&self.shared.fault) = fault;
    }

    /// How many messages were hit by a fault so far.
    #[must_use]
    pub fn hit(&self) -> usize {
        self.shared.hit.load(Ordering::Relaxed)
    }
}

impl Drop for Intermediary {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

/// Nobody panics while holding one of these.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Connections belong to this task, so that they end with it.
async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let Ok((edge, _)) = accepted else { return };
                let shared = Arc::clone(&shared);
                // A connection that breaks is the nodes' story.
                connections.spawn(async move { drop(serve(edge, &shared).await) });
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn serve(edge: TcpStream, shared: &Shared) -> io::Result<()> {
    edge.set_nodelay(true)?;
    let mut edge = Wire::new(Box::new(edge));
    while let Some(request) = read(&mut edge, |_, fields| request_framing(fields)).await? {
        let method = request.start.split(' ').next().unwrap_or_default();
        let method = method.to_owned();
        let request = match shared.pass(Side::Request, request).await {
            Passed::Whole(request) => request,
            Passed::Broken(request) => {
                let mut upper = shared.connect().await?;
                return write_half(&mut upper, &request).await;
            }
        };
        let answer = shared.exchange(&method, &request, &mut edge).await?;
        let answer = match shared.pass(Side::Answer, answer).await {
            Passed::Whole(answer) => answer,
            Passed::Broken(answer) => return write_half(&mut edge, &answer).await,
        };
        let status = status_of(&answer.start).unwrap_or(0);
        let bodyless = response_framing(&method, status, &answer.fields) == Framing::Length(0);
        edge.write(&answer.bytes(bodyless)).await?;
        if !answer.complete {
            return Ok(());
        }
    }
    Ok(())
}

impl Shared {
    /// Sends a request on and reads its answer. A pooled connection that has died is
    /// replaced where asking again does no harm.
    async fn exchange(
        &self,
        method: &str,
        request: &Message,
        edge: &mut Wire,
    ) -> io::Result<Message> {
        let safe = method == "GET" || method == "HEAD";
        if let Some(upper) = self.pooled().filter(|_| safe)
            && let Ok(answer) = self.ask(upper, method, request, edge).await
        {
            return Ok(answer);
        }
        let upper = self.connect().await?;
        self.ask(upper, method, request, edge).await
    }

    async fn ask(
        &self,
        mut upper: Wire,
        method: &str,
        request: &Message,
        edge: &mut Wire,
    ) -> io::Result<Message> {
        upper.write(&request.bytes(false)).await?;
        loop {
            let framing = |start: &str, fields: &_| {
                response_framing(method, status_of(start).unwrap_or(0), fields)
            };
            let answer = read(&mut upper, framing).await?;
            let answer = answer.ok_or(io::ErrorKind::UnexpectedEof)?;
            if matches!(status_of(&answer.start), Some(100..200)) {
                edge.write(&answer.bytes(true)).await?;
                continue;
            }
            let closes = answer
                .field("connection")
                .is_some_and(|options| options.contains("close"));
            if answer.complete && !closes {
                lock(&self.idle).push((upper, Stopwatch::start()));
            }
            return Ok(answer);
        }
    }

    async fn connect(&self) -> io::Result<Wire> {
        let upper = TcpStream::connect(self.target).await?;
        upper.set_nodelay(true)?;
        Ok(Wire::new(Box::new(upper)))
    }

    fn pooled(&self) -> Option<Wire> {
        let mut idle = lock(&self.idle);
        idle.retain(|(_, since)| since.elapsed_us() / 1000 < IDLE_MS);
        idle.pop().map(|(upper, _)| upper)
    }

    /// Lets the fault at a message, where there is one for it.
    async fn pass(&self, side: Side, message: Message) -> Passed {
        let memory = match side {
            Side::Request => &self.requests,
            Side::Answer => &self.answers,
        };
        lock(&memory.first).get_or_insert_with(|| message.clone());
        let fault = (*lock(&self.fault)).filter(|fault| fault.side == side);
        let Some(fault) = fault else {
            *lock(&memory.last) = Some(message.clone());
            return Passed::Whole(message);
        };
        let number = self.met.fetch_add(1, Ordering::Relaxed);
        if !fault.share.picks(number) {
            return Passed::Whole(message);
        }
        let hit = self.hit.fetch_add(1, Ordering::Relaxed);
        let mut message = message;
        match fault.kind {
            Kind::Clear => fault::clear(side, &mut message),
            Kind::Garble => fault::garble(side, &mut message, hit),
            Kind::CutField => fault::cut_field(side, &mut message, hit),
            Kind::CutHead => return Passed::Broken(message),
            Kind::Swap => {
                if let Some(other) = memory.change_places(&message).await {
                    become_like(side, &mut message, other);
                }
            }
            Kind::Replay => {
                let earlier = lock(&memory.last).replace(message.clone());
                if let Some(earlier) = earlier {
                    become_like(side, &mut message, earlier);
                }
            }
            Kind::ReplayFirst => {
                let first = lock(&memory.first).clone();
                if let Some(first) = first {
                    become_like(side, &mut message, first);
                }
            }
            // Not to put things in order: being late is the fault itself.
            Kind::Delay => tokio::time::sleep(self.delay).await,
        }
        Passed::Whole(message)
    }
}

/// A request takes another's control fields and asks for what it did before; an
/// answer becomes the other one.
fn become_like(side: Side, message: &mut Message, other: Message) {
    match side {
        Side::Request => fault::take_control(side, message, &other),
        Side::Answer => *message = other,
    }
}

impl Memory {
    /// Exchanges a message for one that comes at the same time; None: none came.
    async fn change_places(&self, message: &Message) -> Option<Message> {
        let other = lock(&self.waiting).take();
        if let Some(waiting) = other {
            // Who waited in vain has left with its receiver.
            waiting.other.send(message.clone()).ok()?;
            return Some(waiting.message);
        }
        let (sender, receiver) = oneshot::channel();
        *lock(&self.waiting) = Some(Waiting {
            message: message.clone(),
            other: sender,
        });
        tokio::time::timeout(PARTNER, receiver).await.ok()?.ok()
    }
}

/// Half of a head, and then nothing more.
async fn write_half(wire: &mut Wire, message: &Message) -> io::Result<()> {
    let head = head_bytes(&message.start, &message.fields);
    wire.write(head.get(..head.len() / 2).unwrap_or_default())
        .await?;
    wire.finish_writing().await
}

async fn read(
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
