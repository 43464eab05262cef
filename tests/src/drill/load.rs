//! Visitors at a steady pace, who look at every byte they get.

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::pages::{self, Kind};
use crate::HOST;
use crate::clock::{self, Stopwatch};
use crate::wire::{Fields, Wire, field, response_framing, status_of};

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

/// Errors that are told in words.
const TOLD_MAX: usize = 5;

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
    tally: Mutex<Tally>,
    requests: watch::Sender<u64>,
    cold: AtomicU64,
    orders: AtomicU64,
}

/// What visitors got since it was last asked.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// Requests that were answered or failed, orders apart.
    pub requests: u64,
    /// Answers with a status of 500 or more, wrong or short bodies, connections that
    /// closed under a request.
    pub errors: u64,
    /// The first few of them in words.
    pub told: Vec<String>,
    /// Orders that were taken.
    pub orders_taken: u64,
    /// Orders that were answered with an error.
    pub orders_failed: u64,
    /// Cold pages that an edge got through an upper tier.
    pub by_tiers: u64,
    /// Cold pages that an edge got past them.
    pub by_detours: u64,
    /// When the last of those was asked for, Unix milliseconds.
    pub last_detour_ms: u64,
    times: Times,
}

impl Tally {
    /// The time below which so many in a hundred requests were answered, milliseconds.
    #[must_use]
    pub fn percentile_ms(&self, percent: f64) -> f64 {
        self.times.percentile_us(percent) as f64 / 1000.0
    }

    fn note(&mut self, asked: &Asked, outcome: Result<Answered, String>) {
        if asked.kind == Kind::Order {
            match outcome {
                Ok(_) => self.orders_taken += 1,
                Err(_) => self.orders_failed += 1,
            }
            return;
        }
        self.requests += 1;
        match outcome {
            Ok(answered) => {
                self.times.note(answered.took_us);
                match answered.way {
                    Way::Stored => {}
                    Way::Tiers => self.by_tiers += 1,
                    Way::Detour => {
                        self.by_detours += 1;
                        self.last_detour_ms = self.last_detour_ms.max(asked.at_ms);
                    }
                }
            }
            Err(why) => {
                self.errors += 1;
                if self.told.len() < TOLD_MAX {
                    self.told.push(format!("{}: {why}", asked.path));
                }
            }
        }
    }
}

impl Load {
    /// Sends visitors to these edges.
    #[must_use]
    pub fn start(edges: &[SocketAddr], pace: Pace) -> Self {
        let shared = Arc::new(Shared {
            tally: Mutex::default(),
            requests: watch::Sender::new(0),
            cold: AtomicU64::new(0),
            orders: AtomicU64::new(0),
        });
        let every = Duration::from_secs(1) * u32::try_from(pace.connections).unwrap_or(1)
            / u32::try_from(pace.per_second).unwrap_or(1);
        let mut visitors = JoinSet::new();
        for (number, edge) in edges.iter().cycle().take(pace.connections).enumerate() {
            let visitor = Visitor {
                edge: *edge,
                wire: None,
                random: number as u64 + 1,
                shared: Arc::clone(&shared),
            };
            visitors.spawn(visitor.visit(every));
        }
        Self { shared, visitors }
    }

    /// What visitors got since this was asked last.
    #[must_use]
    pub fn take(&self) -> Tally {
        std::mem::take(&mut *lock(&self.shared.tally))
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
fn lock(tally: &Mutex<Tally>) -> MutexGuard<'_, Tally> {
    tally.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One request.
#[derive(Debug)]
struct Asked {
    kind: Kind,
    path: String,
    range: Option<(usize, usize)>,
    order: String,
    at_ms: u64,
}

/// A right answer.
#[derive(Debug)]
struct Answered {
    took_us: u64,
    way: Way,
}

/// Which way the edge went for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Stored,
    Tiers,
    Detour,
}

/// One visitor, on one connection as long as that lasts.
struct Visitor {
    edge: SocketAddr,
    wire: Option<Wire>,
    random: u64,
    shared: Arc<Shared>,
}

impl Visitor {
    async fn visit(mut self, every: Duration) {
        let mut turns = tokio::time::interval(every);
        loop {
            turns.tick().await;
            let asked = self.choose();
            let watch = Stopwatch::start();
            let outcome = tokio::time::timeout(PATIENCE, self.ask(&asked)).await;
            let outcome = match outcome {
                Ok(Ok(got)) => check(&asked, &got, clock::now_ms()).map(|()| Answered {
                    took_us: watch.elapsed_us(),
                    way: way(asked.kind, &got.fields),
                }),
                Ok(Err(why)) => Err(why.to_string()),
                Err(_) => Err("no answer".to_owned()),
            };
            if outcome.is_err() {
                self.wire = None;
            }
            lock(&self.shared.tally).note(&asked, outcome);
            self.shared.requests.send_modify(|requests| *requests += 1);
        }
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
        let range = (kind == Kind::Range).then(|| {
            let first = usize::try_from(self.random() % 60_000).unwrap_or(0);
            (first, first + 1023)
        });
        let path = match kind {
            Kind::Order => "/order".to_owned(),
            kind => format!("/{}/{number}", kind.as_str()),
        };
        Asked {
            kind,
            path,
            range,
            order: format!("order {number}"),
            at_ms: clock::now_ms(),
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
        let mut wire = match self.wire.take() {
            Some(wire) => wire,
            None => {
                let stream = TcpStream::connect(self.edge).await?;
                stream.set_nodelay(true)?;
                Wire::new(Box::new(stream))
            }
        };
        wire.write(&request(asked)).await?;
        let head = wire.head().await?.ok_or(io::ErrorKind::UnexpectedEof)?;
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

/// What came back.
#[derive(Debug)]
struct Got {
    status: u16,
    fields: Fields,
    body: Bytes,
    complete: bool,
}

fn request(asked: &Asked) -> Vec<u8> {
    let path = &asked.path;
    let text = match (asked.kind, asked.range) {
        (Kind::Order, _) => format!(
            "POST {path} HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: {}\r\n\r\n{}",
            asked.order.len(),
            asked.order
        ),
        (_, Some((first, last))) => {
            format!("GET {path} HTTP/1.1\r\nHost: {HOST}\r\nRange: bytes={first}-{last}\r\n\r\n")
        }
        (_, None) => format!("GET {path} HTTP/1.1\r\nHost: {HOST}\r\n\r\n"),
    };
    text.into_bytes()
}

/// Whether an answer is what that URL must hold, to the byte.
fn check(asked: &Asked, got: &Got, answered_ms: u64) -> Result<(), String> {
    let Got { status, body, .. } = got;
    if !got.complete {
        return Err(format!("{status}, and the body breaks off"));
    }
    if asked.kind == Kind::Order {
        let right = *status == 201 && *body == asked.order.as_bytes();
        return if right {
            Ok(())
        } else {
            Err(status.to_string())
        };
    }
    let expected_status = if asked.range.is_some() { 206 } else { 200 };
    if *status != expected_status {
        let why = field(&got.fields, "proxy-status").unwrap_or_default();
        return Err(format!("{status}: {why}"));
    }
    let tag = field(&got.fields, "etag").unwrap_or_default();
    let version = pages::version_of(&asked.path, &tag);
    let version = version.ok_or_else(|| format!("the tag of another page: {tag}"))?;
    if !asked.kind.may_be(version, asked.at_ms, answered_ms) {
        return Err(format!("version {version} at {answered_ms} ms"));
    }
    let mut expected = pages::body(asked.kind, &asked.path, version);
    if let Some((first, last)) = asked.range {
        expected = expected.slice(first..=last.min(expected.len() - 1));
    }
    if *body != expected {
        return Err(format!("{} bytes that are not its own", body.len()));
    }
    let leaked = got.fields.iter().find(|(name, _)| {
        let name = name.to_ascii_lowercase();
        name.starts_with("tier-") || name.starts_with("signature")
    });
    match leaked {
        Some((name, _)) => Err(format!("a visitor gets {name}")),
        None => Ok(()),
    }
}

/// Which way an edge went for a page, by what the tiers say (RFC 9211). Only of cold
/// ones, since what is stored tells where it came from once.
fn way(kind: Kind, fields: &Fields) -> Way {
    let said = field(fields, "cache-status").unwrap_or_default();
    let at_edge = said.rsplit(',').next().unwrap_or_default();
    if kind != Kind::Cold || !at_edge.contains("fwd=") {
        Way::Stored
    } else if said.contains("upper-") {
        Way::Tiers
    } else {
        Way::Detour
    }
}

/// Times by magnitude, each within a sixteenth of what it was.
#[derive(Clone, Debug, Default)]
struct Times {
    counts: Vec<u64>,
}

impl Times {
    fn note(&mut self, us: u64) {
        let slot = slot(us);
        if self.counts.len() <= slot {
            self.counts.resize(slot + 1, 0);
        }
        self.counts[slot] += 1;
    }

    fn percentile_us(&self, percent: f64) -> u64 {
        let total: u64 = self.counts.iter().sum();
        let rank = (total as f64 * percent / 100.0).ceil() as u64;
        let mut seen = 0;
        let slot = self.counts.iter().position(|count| {
            seen += count;
            seen >= rank
        });
        slot.map_or(0, largest_of)
    }
}

const SUB: u64 = 16;

fn slot(us: u64) -> usize {
    let magnitude = u64::from(us.max(1).ilog2());
    let slot = if us < SUB {
        us
    } else {
        (magnitude - 3) * SUB + ((us >> (magnitude - 4)) - SUB)
    };
    usize::try_from(slot).unwrap_or(usize::MAX)
}

fn largest_of(slot: usize) -> u64 {
    let slot = slot as u64;
    if slot < SUB {
        return slot;
    }
    let magnitude = slot / SUB + 3;
    ((slot % SUB + SUB + 1) << (magnitude - 4)) - 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_told_within_a_sixteenth() {
        for us in [0, 1, 15, 16, 17, 31, 32, 100, 1_000, 123_456, 30_000_000] {
            let largest = largest_of(slot(us));
            assert!(largest >= us && largest <= us + us / 16, "{us}: {largest}");
        }
        let mut times = Times::default();
        for us in 1..=100 {
            times.note(us * 10);
        }
        assert_eq!(times.percentile_us(99.0), largest_of(slot(990)));
        assert_eq!(Times::default().percentile_us(99.0), 0);
    }

    #[test]
    fn a_wrong_byte_is_an_error() {
        let asked = Asked {
            kind: Kind::Hot,
            path: "/hot/1".to_owned(),
            range: None,
            order: String::new(),
            at_ms: 5,
        };
        let right = || Got {
            status: 200,
            fields: vec![("ETag".to_owned(), pages::etag("/hot/1", 0))],
            body: pages::body(Kind::Hot, "/hot/1", 0),
            complete: true,
        };
        assert_eq!(check(&asked, &right(), 6), Ok(()));
        type Damage = fn(&mut Got);
        let damages: [Damage; 6] = [
            |got| got.status = 503,
            |got| got.complete = false,
            |got| got.body = got.body.slice(1..),
            |got| got.body = pages::body(Kind::Hot, "/hot/2", 0),
            |got| got.fields[0].1 = pages::etag("/hot/2", 0),
            |got| {
                let leak = ("Tier-Result".to_owned(), "v=1".to_owned());
                got.fields.push(leak);
            },
        ];
        for (number, damage) in damages.iter().enumerate() {
            let mut got = right();
            damage(&mut got);
            assert!(check(&asked, &got, 6).is_err(), "damage {number}");
        }
    }

    #[test]
    fn the_way_is_told_from_what_the_tiers_say() {
        for (said, expected) in [
            ("upper-1; hit, edge-1; fwd=uri-miss", Way::Tiers),
            ("edge-1; fwd=uri-miss", Way::Detour),
            ("upper-1; hit, edge-1; hit; ttl=3", Way::Stored),
        ] {
            let fields = vec![("Cache-Status".to_owned(), said.to_owned())];
            assert_eq!(way(Kind::Cold, &fields), expected, "{said}");
            assert_eq!(way(Kind::Soft, &fields), Way::Stored);
        }
    }
}
