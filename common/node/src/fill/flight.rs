//! Flights: fills in the air, and how to board one.
//!
//! Invariants:
//! - At most one flight for a `FlightKey` is registered at a time.
//! - Everyone aboard holds a place in the body from the moment of boarding, so the
//!   window of a passing body never closes before somebody who boarded in time.
//! - A flight always lands: its pilot, when dropped for whatever reason, publishes
//!   a failure if nothing was published, ends the body and leaves the registry.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use control::NoAnswer;
use http::{HeaderMap, HeaderValue, StatusCode};
use http_cache::{Policy, ResponseFacts, Selector, Vary};
use observe::Attempt;
use parking_lot::Mutex;
use store::{Groups, Key, Object};
use tokio::sync::watch;

use super::body::{Broken, Growing, Reader};
use crate::fields::ProxyError;

/// What tells one flight from another.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct FlightKey {
    /// The primary key.
    pub(crate) key: Vec<u8>,
    /// The variant, where it is known.
    pub(crate) selector: Option<Selector>,
    /// The `Range` that is asked for, where it is not the whole.
    pub(crate) range: Option<HeaderValue>,
    /// The visitor demanded validation: it must not be content with a fill that
    /// somebody less demanding began.
    pub(crate) reload: bool,
    /// Where it goes from here.
    pub(crate) onward: Onward,
    /// Revision of the sites' configuration, whose rules the fill follows.
    pub(crate) rev: String,
}

/// Where a fill goes from here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Onward {
    /// To the origin. A fill that upper tiers ask for must not wait for one that asks them.
    Origin,
    /// Over upper tiers.
    Tiers {
        /// The last purge of the key that an edge told of, Unix milliseconds; 0: none.
        /// What took off without knowing of it may bring what was stored before.
        told_ms: u64,
    },
}

/// All flights of a node.
#[derive(Debug, Default)]
pub(crate) struct Flights {
    registered: Mutex<HashMap<FlightKey, Arc<Flight>, ahash::RandomState>>,
    bytes_in_flight: AtomicU64,
}

/// One fill in the air.
#[derive(Debug)]
pub(crate) struct Flight {
    /// When it took off, Unix milliseconds.
    began_ms: u64,
    head: watch::Sender<Option<Published>>,
    pub(crate) body: Arc<Growing>,
    /// What was asked of whom, for the record of whoever began the fill.
    pub(crate) attempts: Mutex<Vec<Attempt>>,
}

/// What a fill has to say, once.
#[derive(Debug, Clone)]
pub(crate) enum Published {
    /// A response, its body to follow.
    Response(Arc<Fetched>),
    /// What was stored is confirmed; here it is, freshened.
    Revalidated {
        object: Arc<Object>,
        /// Others than the one who began the fill may have it.
        shared: bool,
    },
    /// Nothing was asked of anybody: what another flight brought had just been stored.
    Landed(Arc<Object>),
    /// No way gave a verified answer.
    Failed(Arc<Failure>),
}

/// A response head, ready to be delivered.
#[derive(Debug)]
pub(crate) struct Fetched {
    pub(crate) status: StatusCode,
    /// End-to-end fields, without `Age` and `Cache-Status`.
    pub(crate) fields: HeaderMap,
    /// `Age` as the next hop gave it.
    pub(crate) age_s: Option<u64>,
    pub(crate) facts: ResponseFacts,
    pub(crate) vary: Vary,
    pub(crate) selector: Selector,
    /// The cache groups it belongs to.
    pub(crate) groups: Groups,
    pub(crate) upstream_cache_status: Option<HeaderValue>,
    /// How the upper tier that was asked came by it, where one was.
    pub(crate) outcome_behind: Option<Box<str>>,
    /// Length of the body, where it is known.
    pub(crate) length: Option<u64>,
    /// Others than the one who began the fill may read it.
    pub(crate) shared: bool,
    /// It will be stored when it is whole.
    pub(crate) kept: bool,
    /// The upstream sent the rest of a stored part, and this is both.
    pub(crate) completed: bool,
    /// A stored response that may stand in for an error goes before this one.
    pub(crate) yields_to_stale: bool,
    /// Why it is not stored, for `Cache-Status`.
    pub(crate) detail: Option<&'static str>,
    /// The next tier says with it that no origin server answered.
    pub(crate) no_answer: Option<NoAnswer>,
}

impl Fetched {
    /// Whether it answers a request with those fields.
    pub(crate) fn matches(&self, request_fields: &HeaderMap, policy: &Policy) -> bool {
        self.vary.matches(&self.selector, request_fields, policy)
    }
}

/// Why a fill has no response to give.
#[derive(Debug, Clone)]
pub(crate) struct Failure {
    /// 502 or 504, or what a rule of ours says.
    pub(crate) status: StatusCode,
    pub(crate) error: ProxyError,
    /// No origin server answered, and another node might find one that does.
    pub(crate) no_answer: Option<NoAnswer>,
}

/// A place on a flight.
#[derive(Debug)]
pub(crate) struct Passenger {
    pub(crate) flight: Arc<Flight>,
    head: watch::Receiver<Option<Published>>,
    /// The place in the body.
    pub(crate) reader: Option<Reader>,
}

/// Whoever flies it. Dropping it lands the flight.
#[derive(Debug)]
pub(crate) struct Pilot {
    pub(crate) flight: Arc<Flight>,
    registered: Option<(FlightKey, Arc<crate::state::Node>)>,
}

impl Flight {
    fn new(began_ms: u64) -> Arc<Self> {
        Arc::new(Self {
            began_ms,
            head: watch::Sender::new(None),
            body: Growing::new(),
            attempts: Mutex::default(),
        })
    }

    /// Whether what it brings was fresh for a shorter time than its body takes. To whoever
    /// comes now it is a stale response (RFC 9111 §4.2); who is aboard asked before.
    fn has_grown_stale(&self, now_ms: u64) -> bool {
        match self.head.borrow().as_ref() {
            Some(Published::Response(fetched)) => {
                fetched.facts.age_ms(now_ms) >= fetched.facts.lifetime_ms()
            }
            _ => false,
        }
    }

    fn passenger(self: &Arc<Self>) -> Passenger {
        Passenger {
            head: self.head.subscribe(),
            reader: self.body.reader(),
            flight: Arc::clone(self),
        }
    }
}

impl Flights {
    /// Boards the flight for `key`; the first aboard gets the pilot too, and must
    /// see that it flies. One that took off before the key was purged, at
    /// `purged_ms`, or whose response is stale by now is boarded no more: a new one
    /// takes its place.
    pub(crate) fn board(
        node: &Arc<crate::state::Node>,
        key: FlightKey,
        purged_ms: u64,
    ) -> (Passenger, Option<Pilot>) {
        let now_ms = node.now_ms();
        let mut registered = node.flights.registered.lock();
        if let Some(flight) = registered.get(&key)
            && flight.began_ms > purged_ms
            && !flight.has_grown_stale(now_ms)
        {
            return (flight.passenger(), None);
        }
        let flight = Flight::new(now_ms);
        registered.insert(key.clone(), Arc::clone(&flight));
        drop(registered);
        let pilot = Pilot {
            flight: Arc::clone(&flight),
            registered: Some((key, Arc::clone(node))),
        };
        (flight.passenger(), Some(pilot))
    }

    /// A flight for one, which nobody else can board.
    pub(crate) fn alone(now_ms: u64) -> (Passenger, Pilot) {
        let flight = Flight::new(now_ms);
        let pilot = Pilot {
            flight: Arc::clone(&flight),
            registered: None,
        };
        (flight.passenger(), pilot)
    }

    /// Every key with a flight that begins with `prefix`.
    pub(crate) fn keys_beginning(&self, prefix: &[u8]) -> Vec<Key> {
        let registered = self.registered.lock();
        let keys = registered.keys().map(|flight| flight.key.as_slice());
        keys.filter(|key| key.starts_with(prefix))
            .map(Key::new)
            .collect()
    }

    /// Reserves room for `bytes` of bodies in flight; false where there is none.
    pub(crate) fn reserve(&self, bytes: u64, bytes_max: u64) -> bool {
        self.bytes_in_flight
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |held| {
                held.checked_add(bytes).filter(|held| *held <= bytes_max)
            })
            .is_ok()
    }

    /// Gives room back.
    pub(crate) fn release(&self, bytes: u64) {
        self.bytes_in_flight.fetch_sub(bytes, Ordering::Relaxed);
    }
}

impl Passenger {
    /// Waits for what the fill has to say.
    pub(crate) async fn published(&mut self) -> Published {
        let published = self.head.wait_for(Option::is_some).await;
        match published.as_deref() {
            Ok(Some(published)) => published.clone(),
            // The sender lives in the flight we hold, so this is the pilot's drop.
            _ => Published::Failed(Arc::new(abandoned())),
        }
    }
}

impl Pilot {
    /// Publishes, once.
    pub(crate) fn publish(&self, published: Published) {
        self.flight.head.send_if_modified(|head| {
            let first = head.is_none();
            if first {
                *head = Some(published);
            }
            first
        });
    }

    /// Whether another flight for the same key took its place, which asked later.
    pub(crate) fn was_replaced(&self) -> bool {
        self.registered.as_ref().is_some_and(|(key, node)| {
            let registered = node.flights.registered.lock();
            let there = registered.get(key);
            there.is_none_or(|flight| !Arc::ptr_eq(flight, &self.flight))
        })
    }

    /// Leaves the registry: nobody can board from now on.
    pub(crate) fn close_doors(&mut self) {
        if let Some((key, node)) = self.registered.take() {
            let mut registered = node.flights.registered.lock();
            if registered
                .get(&key)
                .is_some_and(|flight| Arc::ptr_eq(flight, &self.flight))
            {
                registered.remove(&key);
            }
        }
    }
}

impl Drop for Pilot {
    fn drop(&mut self) {
        self.publish(Published::Failed(Arc::new(abandoned())));
        self.flight.body.finish(Err(Broken::Abandoned));
        self.close_doors();
    }
}

fn abandoned() -> Failure {
    Failure {
        status: StatusCode::BAD_GATEWAY,
        error: ProxyError::new("proxy_internal_error", "the fill ended without an answer"),
        no_answer: None,
    }
}
