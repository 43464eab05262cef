//! Visitors at a steady pace, who look at every byte they get.

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::pages::Kind;
use super::tally::Tally;
use super::verdict::{Allowance, Asked, Got, Verdict, judge};
use crate::HOST;
use crate::clock::{self, Stopwatch};
use crate::wire::{Wire, field, response_framing, status_of};

/// What visitors ask for, in a thousand requests.
const MIX: [(Kind, u64); 6] = [
    (Kind::Hot, 800),
    (Kind::Cold, 60),
    (Kind::Range, 50),
    (Kind::Expiring, 45),
    (Kind::Soft, 42),
    (Kind::Order, 3),
];

/// Pages of each kind but the cold ones.
const PAGES: u64 = 40;

/// How often a cold page is asked for, one time after the other, at all edges.
const COLD_TIMES: u64 = 6;

/// A visitor who waits for longer than this has an error.
const PATIENCE: Duration = Duration::from_secs(30);

/// How many visitors there are, and how often they ask.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// Connections over all edges together.
    pub connections: usize,
    /// Requests a second over all connections together.
    pub per_second: usize,
}

/// Visitors under way. They leave when this is dropped.
#[derive(Debug)]
pub struct Load {
    shared: Arc<Shared>,
    visitors: JoinSet<()>,
}

#[derive(Debug)]
struct Shared {
    edges: Vec<SocketAddr>,
    terms: Mutex<Terms>,
    tally: Mutex<Tally>,
    requests: watch::Sender<u64>,
    cold: AtomicU64,
    orders: AtomicU64,
}

/// Whom visitors ask for, and what they put up with, from now on.
#[derive(Clone, Copy, Debug)]
struct Terms {
    host: &'static str,
    allowed: Allowance,
}

impl Load {
    /// Sends visitors to these edges. They ask for [`HOST`] and put up with nothing.
    #[must_use]
    pub fn start(edges: &[SocketAddr], pace: Pace) -> Self {
        let shared = Arc::new(Shared {
            edges: edges.to_vec(),
            terms: Mutex::new(Terms {
                host: HOST,
                allowed: Allowance::default(),
            }),
            tally: Mutex::default(),
            requests: watch::Sender::new(0),
            cold: AtomicU64::new(0),
            orders: AtomicU64::new(0),
        });
        let every = Duration::from_secs(1) * u32::try_from(pace.connections).unwrap_or(1)
            / u32::try_from(pace.per_second).unwrap_or(1);
        let mut visitors = JoinSet::new();
        for number in 0..pace.connections {
            let first = every * u32::try_from(number).unwrap_or(0)
                / u32::try_from(pace.connections).unwrap_or(1);
            visitors.spawn(Visitor::new(number, &shared).visit(first, every));
        }
        Self { shared, visitors }
    }

    /// Visitors ask for this host from now on.
    pub fn asks_for(&self, host: &'static str) {
        lock(&self.shared.terms).host = host;
    }

    /// Visitors put up with this from now on, and with nothing else.
    pub fn allows(&self, allowed: Allowance) {
        lock(&self.shared.terms).allowed = allowed;
    }

    /// Asks for every page that is there for long, at every edge, so that it is stored.
    pub async fn warm(&self) {
        let kinds = [Kind::Hot, Kind::Range, Kind::Expiring, Kind::Soft];
        let mut tours = JoinSet::new();
        for edge in 0..self.shared.edges.len() {
            for kind in kinds {
                let mut visitor = Visitor::new(edge, &self.shared);
                tours.spawn(async move {
                    for number in 0..PAGES {
                        let asked = visitor.asked(kind, number);
                        visitor.ask_and_judge(asked).await;
                    }
                });
            }
        }
        tours.join_all().await;
    }

    /// What visitors got since this was asked last.
    #[must_use]
    pub fn take(&self) -> Tally {
        std::mem::take(&mut *lock(&self.shared.tally))
    }

    /// Requests that were answered or failed so far.
    #[must_use]
    pub fn total(&self) -> u64 {
        *self.shared.requests.borrow()
    }

    /// Waits until so many more requests were answered.
    pub async fn answered(&self, more: u64) {
        let mut requests = self.shared.requests.subscribe();
        let enough = *requests.borrow() + more;
        // The sender lives in `self`.
        let _ = requests.wait_for(|requests| *requests >= enough).await;
    }

    /// Lets the visitors leave.
    pub async fn stop(mut self) {
        self.visitors.shutdown().await;
    }
}

/// Nobody panics while holding it.
fn lock<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One visitor, on one connection as long as that lasts.
struct Visitor {
    /// Which of the edges is asked.
    edge: usize,
    wire: Option<Wire>,
    random: u64,
    shared: Arc<Shared>,
}

impl Visitor {
    fn new(number: usize, shared: &Arc<Shared>) -> Self {
        Self {
            edge: number,
            wire: None,
            random: number as u64 + 1,
            shared: Arc::clone(shared),
        }
    }

    /// Asks over and over, each visitor at another moment.
    async fn visit(mut self, first: Duration, every: Duration) {
        tokio::time::sleep(first).await;
        let mut turns = tokio::time::interval(every);
        loop {
            turns.tick().await;
            let asked = self.choose();
            self.ask_and_judge(asked).await;
        }
    }

    async fn ask_and_judge(&mut self, mut asked: Asked) {
        let watch = Stopwatch::start();
        let outcome = tokio::time::timeout(PATIENCE, self.ask(&asked)).await;
        if asked.allowed.is_none() {
            // Who was under way when a fault began has met it as well.
            asked.allowed = lock(&self.shared.terms).allowed;
        }
        let verdict = match outcome {
            Ok(Ok(got)) => judge(&asked, &got, clock::now_ms()),
            Ok(Err(why)) => Verdict::Error(why.to_string()),
            Err(_) => Verdict::Error("no answer".to_owned()),
        };
        if !matches!(verdict, Verdict::Right(_) | Verdict::Refused) {
            self.wire = None;
        }
        lock(&self.shared.tally).note(&asked, verdict, watch.elapsed_us());
        self.shared.requests.send_modify(|requests| *requests += 1);
    }

    fn choose(&mut self) -> Asked {
        let mut left = self.random() % 1000;
        let chosen = MIX.into_iter().find(|(_, share)| {
            let is_it = left < *share;
            left = left.saturating_sub(*share);
            is_it
        });
        let kind = chosen.map_or(Kind::Hot, |(kind, _)| kind);
        let number = match kind {
            Kind::Cold => self.shared.cold.fetch_add(1, Ordering::Relaxed) / COLD_TIMES,
            Kind::Order => self.shared.orders.fetch_add(1, Ordering::Relaxed),
            _ => self.random() % PAGES,
        };
        self.asked(kind, number)
    }

    fn asked(&mut self, kind: Kind, number: u64) -> Asked {
        let range = (kind == Kind::Range).then(|| {
            let first = usize::try_from(self.random() % 60_000).unwrap_or(0);
            (first, first + 1023)
        });
        let path = match kind {
            Kind::Order => "/order".to_owned(),
            kind => format!("/{}/{number}", kind.as_str()),
        };
        let Terms { host, allowed } = *lock(&self.shared.terms);
        Asked {
            kind,
            host,
            path,
            range,
            order: format!("order {number}"),
            at_ms: clock::now_ms(),
            allowed,
        }
    }

    fn random(&mut self) -> u64 {
        // Splitmix: neighbours in a row of seeds have nothing in common.
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.random;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    async fn ask(&mut self, asked: &Asked) -> io::Result<Got> {
        let kept = self.wire.take();
        let again = asked.allowed.again && asked.kind != Kind::Order && kept.is_some();
        let wire = match kept {
            Some(wire) => wire,
            None => self.connect(asked).await?,
        };
        match self.exchange(wire, asked).await {
            // RFC 9110 §9.2.2: its end and the request may have crossed.
            Err(Ended::WithoutAWord(_)) if again => {
                lock(&self.shared.tally).again += 1;
                let wire = self.connect(asked).await?;
                self.exchange(wire, asked).await.map_err(Ended::into)
            }
            outcome => outcome.map_err(Ended::into),
        }
    }

    /// Connects to the visitor's edge, or to another one where that is allowed.
    async fn connect(&mut self, asked: &Asked) -> io::Result<Wire> {
        let edges = self.shared.edges.len();
        let mut tried = 1;
        let stream = loop {
            match TcpStream::connect(self.shared.edges[self.edge % edges]).await {
                Err(_) if asked.allowed.again && tried < edges => {
                    lock(&self.shared.tally).again += 1;
                    tried += 1;
                    self.edge += 1;
                }
                connected => break connected?,
            }
        };
        stream.set_nodelay(true)?;
        Ok(Wire::new(Box::new(stream)))
    }

    async fn exchange(&mut self, mut wire: Wire, asked: &Asked) -> Result<Got, Ended> {
        let written = wire.write(&request(asked)).await;
        written.map_err(Ended::WithoutAWord)?;
        let head = match wire.head().await {
            Ok(Some(head)) => head,
            Ok(None) => return Err(Ended::WithoutAWord(io::ErrorKind::UnexpectedEof.into())),
            Err(why) if why.kind() == io::ErrorKind::ConnectionReset => {
                return Err(Ended::WithoutAWord(why));
            }
            Err(why) => return Err(Ended::Within(why)),
        };
        let status = status_of(&head.start).unwrap_or(0);
        wire.begin_body(response_framing("GET", status, &head.fields));
        let (body, complete) = wire.rest().await;
        let closes = field(&head.fields, "connection").is_some_and(|say| say.contains("close"));
        if complete && !closes {
            self.wire = Some(wire);
        }
        Ok(Got {
            status,
            fields: head.fields,
            body,
            complete,
        })
    }
}

/// How a connection ended under a request.
enum Ended {
    /// Before anything of the answer came.
    WithoutAWord(io::Error),
    Within(io::Error),
}

impl From<Ended> for io::Error {
    fn from(ended: Ended) -> Self {
        match ended {
            Ended::WithoutAWord(why) | Ended::Within(why) => why,
        }
    }
}

fn request(asked: &Asked) -> Vec<u8> {
    let Asked { host, path, .. } = asked;
    let text = match (asked.kind, asked.range) {
        (Kind::Order, _) => format!(
            "POST {path} HTTP/1.1\r\nHost: {host}\r\nContent-Length: {}\r\n\r\n{}",
            asked.order.len(),
            asked.order
        ),
        (_, Some((first, last))) => {
            format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nRange: bytes={first}-{last}\r\n\r\n")
        }
        (_, None) => format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n"),
    };
    text.into_bytes()
}
