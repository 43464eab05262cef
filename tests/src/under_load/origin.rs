//! An origin that serves its pages, takes orders, counts what reaches it, and fails when
//! it is told to.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinSet};

use super::pages::{self, Kind};
use crate::clock;
use crate::wire::{Fields, Wire, field, head_bytes, request_framing};

/// An origin that counts. It ends when it is dropped.
#[derive(Debug)]
pub struct CountingOrigin {
    address: SocketAddr,
    counts: Arc<Mutex<Counts>>,
    mood: watch::Sender<Mood>,
    accepting: AbortHandle,
}

/// What an origin does with requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mood {
    /// It answers them.
    Well,
    /// It answers 503.
    Fails,
    /// It takes them and does not answer.
    Hangs,
    /// It breaks off in the middle of a body and resets the connection: that of every
    /// answer, or only where a page is asked for whole that does not change, so that the
    /// rest of it can be had.
    BreaksOff {
        /// Nothing can be had to its end.
        always: bool,
    },
}

/// What reached an origin since it was last asked.
#[derive(Clone, Debug, Default)]
pub struct Counts {
    /// Requests of all kinds.
    pub requests: u64,
    /// Requests for each page that does not change.
    pub fetches: HashMap<String, u64>,
    /// How often each order came, by its identity. Never forgotten.
    pub orders: HashMap<String, u64>,
    /// Requests that came straight from an edge.
    pub direct: u64,
    /// Of those, the most that one edge had under way at once.
    pub direct_at_once_max: usize,
    direct_now: HashMap<String, usize>,
}

impl CountingOrigin {
    /// Starts one on loopback that thinks for so long before each answer.
    pub async fn start(thinks: Duration) -> Self {
        Self::start_at(Ipv4Addr::LOCALHOST.into(), thinks).await
    }

    /// The same at an address.
    ///
    /// # Panics
    /// When the system has no port to give there.
    pub async fn start_at(address: IpAddr, thinks: Duration) -> Self {
        let listener = TcpListener::bind((address, 0)).await;
        let listener = listener.expect("the system has a port");
        let address = listener
            .local_addr()
            .expect("a bound socket has an address");
        let counts = Arc::<Mutex<Counts>>::default();
        let mood = watch::Sender::new(Mood::Well);
        let serving = Serving {
            counts: Arc::clone(&counts),
            mood: mood.subscribe(),
            thinks,
        };
        Self {
            address,
            counts,
            mood,
            accepting: tokio::spawn(accept(listener, serving)).abort_handle(),
        }
    }

    /// It is in this mood from now on.
    pub fn is_now(&self, mood: Mood) {
        self.mood.send_replace(mood);
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What reached it since this was asked last. Orders are told from the beginning.
    #[must_use]
    pub fn take_counts(&self) -> Counts {
        let mut counts = lock(&self.counts);
        let taken = counts.clone();
        counts.requests = 0;
        counts.fetches.clear();
        counts.direct = 0;
        counts.direct_at_once_max = counts.direct_now.values().copied().max().unwrap_or(0);
        taken
    }
}

impl Drop for CountingOrigin {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

impl Counts {
    /// The most often that any page was fetched that does not change.
    #[must_use]
    pub fn fetches_max(&self) -> u64 {
        self.fetches.values().copied().max().unwrap_or(0)
    }

    /// Orders that came more than once.
    #[must_use]
    pub fn orders_repeated(&self) -> usize {
        self.orders.values().filter(|count| **count > 1).count()
    }

    fn begins(&mut self, path: &str, kind: Kind, edge: Option<&str>) {
        self.requests += 1;
        if kind.is_unchanging() {
            *self.fetches.entry(path.to_owned()).or_default() += 1;
        }
        if let Some(edge) = edge {
            let now = self.direct_now.entry(edge.to_owned()).or_default();
            *now += 1;
            self.direct += 1;
            self.direct_at_once_max = self.direct_at_once_max.max(*now);
        }
    }

    fn ends(&mut self, edge: Option<&str>) {
        if let Some(now) = edge.and_then(|edge| self.direct_now.get_mut(edge)) {
            *now -= 1;
        }
    }
}

/// Nobody panics while holding it.
fn lock(counts: &Mutex<Counts>) -> MutexGuard<'_, Counts> {
    counts.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What every connection has.
#[derive(Clone, Debug)]
struct Serving {
    counts: Arc<Mutex<Counts>>,
    mood: watch::Receiver<Mood>,
    thinks: Duration,
}

async fn accept(listener: TcpListener, serving: Serving) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let Ok((stream, _)) = accepted else { return };
                let serving = serving.clone();
                // A connection that breaks is the nodes' story.
                connections.spawn(async move { drop(serve(stream, serving).await) });
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn serve(stream: TcpStream, mut serving: Serving) -> io::Result<()> {
    stream.set_nodelay(true)?;
    // Whoever breaks off resets the connection; between answers it makes no difference.
    stream.set_zero_linger()?;
    let counts = Arc::clone(&serving.counts);
    let mut wire = Wire::new(Box::new(stream));
    while let Some(head) = wire.head().await? {
        wire.begin_body(request_framing(&head.fields));
        let (body, complete) = wire.rest().await;
        if !complete {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let path = head.start.split(' ').nth(1).unwrap_or_default().to_owned();
        let Some(kind) = Kind::of(&path) else {
            wire.write(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")
                .await?;
            continue;
        };
        let edge = came_straight_from(&head.fields);
        let busy = Busy::begin(&counts, &path, kind, edge);
        if kind == Kind::Order {
            let order = String::from_utf8_lossy(&body).into_owned();
            *lock(&counts).orders.entry(order).or_default() += 1;
        }
        tokio::time::sleep(serving.thinks).await;
        let mood = *serving.mood.borrow();
        if mood == Mood::Hangs {
            // Those who still wait by then get nothing either.
            let _ = serving.mood.wait_for(|mood| *mood != Mood::Hangs).await;
            return Ok(());
        }
        let answer = match mood {
            Mood::Fails => sorry(&path),
            _ => answer(&path, kind, &head.fields, &body),
        };
        drop(busy);
        let breaks_off = match mood {
            Mood::BreaksOff { always: true } => true,
            Mood::BreaksOff { always: false } => {
                kind.is_unchanging() && field(&head.fields, "range").is_none()
            }
            _ => false,
        };
        if breaks_off {
            let half = middle(&answer);
            wire.write(&answer[..half]).await?;
            // The reset must not overtake what was written.
            tokio::time::sleep(serving.thinks).await;
            return Ok(());
        }
        wire.write(&answer).await?;
    }
    Ok(())
}

/// The middle of a message's body, or its end where it has none.
fn middle(message: &[u8]) -> usize {
    let head = message.windows(4).position(|end| end == b"\r\n\r\n");
    let head = head.map_or(message.len(), |at| at + 4);
    head + (message.len() - head) / 2
}

/// A request that the origin works on.
struct Busy<'a> {
    counts: &'a Mutex<Counts>,
    edge: Option<String>,
}

impl<'a> Busy<'a> {
    fn begin(counts: &'a Mutex<Counts>, path: &str, kind: Kind, edge: Option<String>) -> Self {
        lock(counts).begins(path, kind, edge.as_deref());
        Self { counts, edge }
    }
}

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        lock(self.counts).ends(self.edge.as_deref());
    }
}

/// The edge that sent a request, unless it came through an upper tier.
fn came_straight_from(fields: &Fields) -> Option<String> {
    let via = field(fields, "via")?;
    let last = via.rsplit(' ').next()?;
    last.starts_with("edge").then(|| last.to_owned())
}

fn answer(path: &str, kind: Kind, asked: &Fields, order: &[u8]) -> Vec<u8> {
    if kind == Kind::Order {
        return message("201 Created", &[], kind, order);
    }
    let version = kind.version_at(clock::now_ms());
    let etag = pages::etag(path, version);
    if field(asked, "if-none-match").is_some_and(|known| known == etag) {
        return head_of("304 Not Modified", &[("ETag", &etag)], kind);
    }
    let body = pages::body(kind, path, version);
    let Some((first, last)) = range(asked, body.len()) else {
        return message("200 OK", &[("ETag", &etag)], kind, &body);
    };
    let said = format!("bytes {first}-{last}/{}", body.len());
    let fields = [("ETag", etag.as_str()), ("Content-Range", &said)];
    message(
        "206 Partial Content",
        &fields,
        kind,
        &body.slice(first..=last),
    )
}

/// An error that nobody may keep.
fn sorry(path: &str) -> Vec<u8> {
    let body = pages::sorry(path);
    let head = format!(
        "HTTP/1.1 503 Service Unavailable\r\nDate: {}\r\nCache-Control: no-store\r\n\
         Content-Length: {}\r\n\r\n",
        clock::http_date(0),
        body.len()
    );
    [head.as_bytes(), &body].concat()
}

/// `bytes=FIRST-LAST`, the one form that is asked for here.
fn range(asked: &Fields, length: usize) -> Option<(usize, usize)> {
    let range = field(asked, "range")?;
    let (first, last) = range.strip_prefix("bytes=")?.split_once('-')?;
    let first: usize = first.parse().ok()?;
    let last: usize = last.parse().unwrap_or(length - 1);
    let last = last.min(length - 1);
    (first <= last).then_some((first, last))
}

fn message(status: &str, more: &[(&str, &str)], kind: Kind, body: &[u8]) -> Vec<u8> {
    let length = body.len().to_string();
    let fields = [more, &[("Content-Length", length.as_str())]].concat();
    let mut out = head_of(status, &fields, kind);
    out.extend_from_slice(body);
    out
}

fn head_of(status: &str, more: &[(&str, &str)], kind: Kind) -> Vec<u8> {
    let date = clock::http_date(0);
    let fields = [
        more,
        &[
            ("Date", date.as_str()),
            ("Cache-Control", kind.cache_control()),
        ],
    ]
    .concat();
    let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    let fields = fields.iter().map(owned).collect();
    head_bytes(&format!("HTTP/1.1 {status}"), &fields)
}
