//! An origin that does as it is told, and remembers what it was asked.
//!
//! It stands on a raw socket, so that it can also do what no server would: break
//! off, stall, speak garbage. Every request is recorded when all of it has come,
//! before the answer begins.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::AbortHandle;

use crate::reply::{Reply, ReplyFraming, Special, Turn};
use crate::wire::{Fields, Stream, Wire, field, request_framing};
use crate::{Gate, within};

/// Seconds that a scenario waits for a request.
const PATIENCE_S: u64 = 15;

/// A request as the origin received it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recorded {
    /// Its method.
    pub method: String,
    /// Its target, as it was sent.
    pub target: String,
    /// Its fields, in order.
    pub fields: Fields,
    /// Its body, without framing.
    pub body: Bytes,
    /// Which of the origin's connections it came over, counted from 0.
    pub connection: usize,
}

impl Recorded {
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

    /// The target without its query.
    #[must_use]
    pub fn path(&self) -> &str {
        let end = self.target.find('?').unwrap_or(self.target.len());
        &self.target[..end]
    }
}

type Script = Arc<dyn Fn(&Recorded) -> Reply + Send + Sync>;

/// A scripted origin. It ends when it is dropped.
#[derive(Debug)]
pub struct Origin {
    address: SocketAddr,
    shared: Arc<Shared>,
    accepting: AbortHandle,
}

struct Shared {
    scripts: Mutex<HashMap<String, Script>>,
    /// For paths that have no script of their own.
    other: Mutex<Option<Script>>,
    seen: watch::Sender<Vec<Recorded>>,
    /// Body bytes that the sockets have taken.
    sent_bytes: watch::Sender<u64>,
    /// Answers whose reader left before their end.
    abandoned: watch::Sender<usize>,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").finish_non_exhaustive()
    }
}

impl Origin {
    /// Starts one; it answers 404 to everything until told otherwise.
    ///
    /// # Panics
    /// When the system has no port to give.
    pub async fn start() -> Self {
        Self::start_at(SocketAddr::from(([127, 0, 0, 1], 0))).await
    }

    /// As [`Origin::start`], at a certain address.
    ///
    /// # Panics
    /// When somebody else has it.
    pub async fn start_at(address: SocketAddr) -> Self {
        let listener = TcpListener::bind(address).await;
        let listener = listener.expect("the address is free");
        let address = listener
            .local_addr()
            .expect("a bound socket has an address");
        let shared = Arc::new(Shared {
            scripts: Mutex::default(),
            other: Mutex::default(),
            seen: watch::Sender::default(),
            sent_bytes: watch::Sender::default(),
            abandoned: watch::Sender::default(),
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

    /// Answers requests for a path by asking `script` each time.
    pub fn on(&self, path: &str, script: impl Fn(&Recorded) -> Reply + Send + Sync + 'static) {
        let mut scripts = self.shared.scripts.lock().expect("no script panics");
        scripts.insert(path.to_owned(), Arc::new(script));
    }

    /// Answers requests for paths that were not spoken of, by asking `script`.
    pub fn on_others(&self, script: impl Fn(&Recorded) -> Reply + Send + Sync + 'static) {
        *self.shared.other.lock().expect("no script panics") = Some(Arc::new(script));
    }

    /// Answers every request for a path alike.
    pub fn always(&self, path: &str, reply: Reply) {
        self.on(path, move |_| reply.clone());
    }

    /// Answers the first request for a path with the first reply, and so on; the
    /// last one stays.
    pub fn in_turn(&self, path: &str, replies: impl IntoIterator<Item = Reply>) {
        let mut replies: Vec<Reply> = replies.into_iter().collect();
        replies.reverse();
        let left = Mutex::new(replies);
        self.on(path, move |_| {
            let mut left = left.lock().expect("nobody panics in here");
            match &left[..] {
                [] => Reply::new(500),
                [last] => last.clone(),
                _ => left.pop().expect("there is more than one"),
            }
        });
    }

    /// Every request for a path (or target, where `path` has a query), in order.
    #[must_use]
    pub fn requests(&self, path: &str) -> Vec<Recorded> {
        let seen = self.shared.seen.borrow();
        seen.iter()
            .filter(|one| is_for(one, path))
            .cloned()
            .collect()
    }

    /// Every request there was, in order.
    #[must_use]
    pub fn all_requests(&self) -> Vec<Recorded> {
        self.shared.seen.borrow().clone()
    }

    /// Waits until so many requests for a path have come, and gives them.
    pub async fn wait_for_requests(&self, path: &str, count: usize) -> Vec<Recorded> {
        let mut seen = self.shared.seen.subscribe();
        within(PATIENCE_S, async {
            let enough =
                |seen: &Vec<Recorded>| seen.iter().filter(|one| is_for(one, path)).count() >= count;
            // The sender lives in `self`.
            let _ = seen.wait_for(enough).await;
        })
        .await;
        self.requests(path)
    }

    /// Body bytes that its sockets have taken so far.
    #[must_use]
    pub fn sent_bytes(&self) -> u64 {
        *self.shared.sent_bytes.borrow()
    }

    /// Waits until its sockets have taken more than `bytes` in all.
    pub async fn wait_for_sent(&self, bytes: u64) {
        let mut sent = self.shared.sent_bytes.subscribe();
        let _ = sent.wait_for(|sent| *sent > bytes).await;
    }

    /// Waits until so many answers lost their reader before their end.
    pub async fn wait_for_abandoned(&self, count: usize) {
        let mut abandoned = self.shared.abandoned.subscribe();
        within(PATIENCE_S, async {
            let _ = abandoned.wait_for(|abandoned| *abandoned >= count).await;
        })
        .await;
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

fn is_for(recorded: &Recorded, path: &str) -> bool {
    recorded.target == path || recorded.path() == path
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    let mut connections = tokio::task::JoinSet::new();
    for connection in 0.. {
        let Ok((stream, _)) = listener.accept().await else {
            return;
        };
        let shared = Arc::clone(&shared);
        connections.spawn(async move {
            // A connection that breaks is the other side's story.
            let _ = serve(stream, connection, &shared).await;
        });
    }
}

async fn serve(stream: TcpStream, connection: usize, shared: &Shared) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut wire = Wire::new(Box::new(stream));
    while let Some(recorded) = read_request(&mut wire, connection).await? {
        let script = {
            let scripts = shared.scripts.lock().expect("no script panics");
            let other = || shared.other.lock().expect("no script panics").clone();
            scripts.get(recorded.path()).cloned().or_else(other)
        };
        let reply = script.map_or_else(|| Reply::new(404), |script| script(&recorded));
        let is_head = recorded.method == "HEAD";
        shared.seen.send_modify(|seen| seen.push(recorded));
        let (next, answered) = answer(wire, &reply, is_head, shared).await;
        match answered {
            Ok(()) if reply.framing != ReplyFraming::Close => match next {
                Some(next) => wire = next,
                None => return Ok(()),
            },
            Ok(()) => return Ok(()),
            Err(error) => {
                shared.abandoned.send_modify(|count| *count += 1);
                return Err(error);
            }
        }
    }
    Ok(())
}

async fn read_request(wire: &mut Wire, connection: usize) -> io::Result<Option<Recorded>> {
    let Some(head) = wire.head().await? else {
        return Ok(None);
    };
    if field(&head.fields, "expect").is_some_and(|expect| expect == "100-continue") {
        wire.write(b"HTTP/1.1 100 Continue\r\n\r\n").await?;
    }
    wire.begin_body(request_framing(&head.fields));
    let (body, complete) = wire.rest().await;
    if !complete {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    let mut words = head.start.split(' ').map(str::to_owned);
    Ok(Some(Recorded {
        method: words.next().unwrap_or_default(),
        target: words.next().unwrap_or_default(),
        fields: head.fields,
        body,
        connection,
    }))
}

/// Sends a reply. The connection comes back where another request may follow; an
/// error says that the reader left.
async fn answer(
    mut wire: Wire,
    reply: &Reply,
    is_head: bool,
    shared: &Shared,
) -> (Option<Wire>, io::Result<()>) {
    if let Some(gate) = &reply.gate
        && let Err(error) = wait_at(&mut wire, gate).await
    {
        return (None, Err(error));
    }
    if !reply.takes.is_zero() {
        tokio::time::sleep(reply.takes).await;
    }
    match &reply.special {
        Some(Special::HangUp) => return (None, Ok(())),
        Some(Special::Silence) => return (None, stall(&mut wire).await),
        Some(Special::Raw(bytes)) => return (None, wire.write(bytes).await),
        Some(Special::Echo) => {
            let echoed = match wire.write(&reply.head()).await {
                Ok(()) => echo(wire).await,
                Err(error) => Err(error),
            };
            return (None, echoed);
        }
        None => {}
    }
    match send(&mut wire, reply, is_head, shared).await {
        Ok(true) => (Some(wire), Ok(())),
        Ok(false) => (None, Ok(())),
        Err(error) => (None, Err(error)),
    }
}

/// False where the reply breaks off.
async fn send(wire: &mut Wire, reply: &Reply, is_head: bool, shared: &Shared) -> io::Result<bool> {
    for status in &reply.interim {
        let interim = format!("HTTP/1.1 {status} Interim\r\n\r\n");
        wire.write(interim.as_bytes()).await?;
    }
    wire.write(&reply.head()).await?;
    if is_head || reply.status == 204 || reply.status == 304 {
        return Ok(true);
    }
    let chunked = reply.framing == ReplyFraming::Chunked;
    let mut turns = reply.turns.iter().peekable();
    let mut at = 0;
    for part in &reply.parts {
        let mut part = part.clone();
        loop {
            // What comes before the next turn, then the turn.
            let before = turns.peek().map(|(offset, _)| offset.saturating_sub(at));
            let bytes = match before {
                Some(before) if before <= part.len() as u64 => {
                    usize::try_from(before).unwrap_or(usize::MAX)
                }
                _ => part.len(),
            };
            let piece = part.split_to(bytes);
            at += piece.len() as u64;
            send_piece(wire, &piece, chunked).await?;
            shared
                .sent_bytes
                .send_modify(|sent| *sent += piece.len() as u64);
            match turns.next_if(|(offset, _)| *offset == at) {
                Some((_, Turn::Wait(gate))) => wait_at(wire, gate).await?,
                Some((_, Turn::Break)) => return Ok(false),
                Some((_, Turn::Stall)) => {
                    stall(wire).await?;
                    return Ok(false);
                }
                None if part.is_empty() => break,
                None => {}
            }
        }
    }
    if chunked {
        wire.write(b"0\r\n\r\n").await?;
    }
    Ok(true)
}

async fn send_piece(wire: &mut Wire, piece: &Bytes, chunked: bool) -> io::Result<()> {
    if piece.is_empty() {
        return Ok(());
    }
    if !chunked {
        return wire.write(piece).await;
    }
    let mut out = format!("{:x}\r\n", piece.len()).into_bytes();
    out.extend_from_slice(piece);
    out.extend_from_slice(b"\r\n");
    wire.write(&out).await
}

/// Waits at a gate, unless the reader leaves first.
async fn wait_at(wire: &mut Wire, gate: &Gate) -> io::Result<()> {
    tokio::select! {
        () = gate.pass() => Ok(()),
        left = stall(wire) => left,
    }
}

/// Waits for the reader to leave; always an error.
async fn stall(wire: &mut Wire) -> io::Result<()> {
    loop {
        if wire.raw().await?.is_empty() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
}

async fn echo(wire: Wire) -> io::Result<()> {
    let (mut stream, ahead): (Box<dyn Stream>, Bytes) = wire.into_parts();
    stream.write_all(&ahead).await?;
    let mut chunk = vec![0; 4096];
    loop {
        let bytes = stream.read(&mut chunk).await?;
        if bytes == 0 {
            return stream.shutdown().await;
        }
        stream.write_all(&chunk[..bytes]).await?;
        stream.flush().await?;
    }
}
