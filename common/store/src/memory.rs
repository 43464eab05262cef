//! The store in memory, on moka.
//!
//! Readers take no lock of ours. Whoever changes something holds one lock, for two
//! reasons.
//!
//! Under it a put reads the entry, checks its ticket and writes the new entry, and
//! a purge counts itself and removes the entry, so that neither can fall between
//! two steps of the other.
//!
//! And moka 0.12 queues what its eviction policy has to know of each change. When
//! an entry is evicted while a change of its weight is still queued, the policy
//! subtracts a weight that it never added, and its sum drifts from the truth: a
//! store whose entries gain and lose variants came to hold a third of what it may.
//! So each change is settled before the next begins; the policy then never meets
//! an entry with news in the queue, and the store is within its bound after every
//! change. That takes microseconds of work which moka does one at a time anyway.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use moka::notification::RemovalCause;
use moka::sync::Cache;
use parking_lot::Mutex;
use smallvec::SmallVec;

use crate::purges::WidePurges;
use crate::{Entry, Key, Object};

mod wide;

/// How many counters of purges there are. Keys share them by their hash: with ten
/// purges a second, one in four hundred of the fills that take a second is not kept
/// for a neighbour's sake. They take 32 KiB.
const GENERATIONS: usize = 4096;

/// moka weighs an entry in 32 bits. In units of this many bytes that reaches
/// 256 GiB, far beyond the largest entry, and rounding up by less than one unit
/// is small beside what any entry costs.
const UNIT_BYTES: u64 = 64;

/// How much a store may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// Bytes of all entries together, heads and bookkeeping included.
    pub bytes_max: u64,
    /// Variants under one key; 0 counts as 1. The oldest goes.
    pub variants_max: usize,
}

/// The begin of a fill: which key it is for, how often that had been purged, and the
/// moment in the count of wider purges.
#[derive(Debug, Clone)]
pub struct Ticket {
    key: Key,
    generation: u64,
    as_of: u64,
}

/// How often a key had been purged at one moment, and the moment in the count of
/// wider purges.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Glance {
    generation: u64,
    as_of: u64,
}

impl Ticket {
    /// The key the fill is for.
    #[must_use]
    pub fn key(&self) -> &Key {
        &self.key
    }
}

/// Why a filled object was not kept. The response itself is none the worse.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum NotKept {
    /// The key, or a group of the response's, was purged while the fill was under way.
    Purged,
    /// It would take the whole store, or more.
    TooLarge,
    /// It would take the place of something better: it is an error, and a good object is
    /// there that may be served instead; or a part, or older than what came meanwhile.
    WouldDisplace,
}

impl NotKept {
    /// One word for metrics and logs.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Purged => "purged",
            Self::TooLarge => "too_large",
            Self::WouldDisplace => "would_displace",
        }
    }
}

impl fmt::Display for NotKept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl std::error::Error for NotKept {}

/// Objects in memory, bounded by bytes.
///
/// When it is full, keys asked for more often are kept (TinyLFU): one crawl over
/// everything does not wash out what visitors want.
pub struct Store {
    cache: Cache<Key, Arc<Entry>, ahash::RandomState>,
    /// Held by whoever changes the cache; see the module's head.
    changes: Mutex<()>,
    /// Purges so far, by [`Store::generation`]. Written under `changes`.
    generations: Box<[AtomicU64]>,
    wide: WidePurges,
    hasher: ahash::RandomState,
    tally: Arc<Tally>,
    bounds: Bounds,
}

/// What the store holds and what it gave up. Additions are made before an entry
/// goes in, subtractions when moka tells of its going, so that none is negative.
#[derive(Debug, Default)]
struct Tally {
    bytes: AtomicU64,
    objects: AtomicU64,
    evictions: AtomicU64,
    variants_dropped: AtomicU64,
}

impl Store {
    /// An empty store.
    #[must_use]
    pub fn new(bounds: Bounds) -> Self {
        let tally = Arc::new(Tally::default());
        let hasher = ahash::RandomState::new();
        let listener = {
            let tally = Arc::clone(&tally);
            move |key: Arc<Key>, entry: Arc<Entry>, cause| tally.left(&key, &entry, cause)
        };
        let cache = Cache::builder()
            .max_capacity(bounds.bytes_max / UNIT_BYTES)
            .weigher(|key: &Key, entry: &Arc<Entry>| {
                u32::try_from(units(key, entry)).unwrap_or(u32::MAX)
            })
            .eviction_listener(listener)
            .build_with_hasher(hasher.clone());
        Self {
            cache,
            changes: Mutex::new(()),
            generations: (0..GENERATIONS).map(|_| AtomicU64::new(0)).collect(),
            wide: WidePurges::default(),
            hasher,
            tally,
            bounds,
        }
    }

    /// What is stored under a key now. Allocates nothing.
    #[must_use]
    pub fn get(&self, key: &[u8]) -> Option<Arc<Entry>> {
        self.cache.get(key)
    }

    /// Every stored key that begins with `prefix`. Looks at all of them: for
    /// purging where a key has parts that a URL does not tell.
    #[must_use]
    pub fn keys_beginning(&self, prefix: &[u8]) -> Vec<Key> {
        self.cache
            .iter()
            .filter(|(key, _)| key.as_bytes().starts_with(prefix))
            .map(|(key, _)| Key::clone(&key))
            .collect()
    }

    /// How often the key was purged so far. Take it before [`Store::get`], so that
    /// a purge between the two, or after them, is noticed by whoever stores what
    /// was looked up. Allocates nothing.
    #[must_use]
    pub fn glance(&self, key: &[u8]) -> Glance {
        Glance {
            generation: self.generation(key).load(Ordering::Acquire),
            as_of: self.wide.moment(),
        }
    }

    /// Begins a fill as of a [`Glance`] taken earlier.
    #[must_use]
    pub fn ticket_since(&self, key: &Key, glance: Glance) -> Ticket {
        Ticket {
            key: key.clone(),
            generation: glance.generation,
            as_of: glance.as_of,
        }
    }

    /// Whether the key was not purged since the glance, alone or with all that begin
    /// alike. Of groups an object tells; see [`Store::stands`].
    #[must_use]
    pub fn still_counts(&self, key: &[u8], glance: Glance) -> bool {
        self.generation(key).load(Ordering::Acquire) == glance.generation
            && !self.wide.reached_key(key, glance.as_of)
    }

    /// Begins a fill. Take it before anything is asked of an upstream.
    #[must_use]
    pub fn ticket(&self, key: &Key) -> Ticket {
        self.ticket_since(key, self.glance(key.as_bytes()))
    }

    /// Stores what a fill brought, or a stored object freshened by a 304.
    ///
    /// It replaces the variant with the same `Vary` and selector, and comes first
    /// among the others. A hit-for-miss mark on the key is removed: the key has
    /// shown that it can be cached.
    ///
    /// # Errors
    /// [`NotKept`] says why nothing was changed.
    pub fn put(&self, ticket: &Ticket, object: Arc<Object>) -> Result<(), NotKept> {
        let _changing = self.changes.lock();
        let stored = self.current(ticket)?;
        if !self.stands(&object.groups) {
            return Err(NotKept::Purged);
        }
        let entry = self.with_variant(&ticket.key, stored.as_deref(), object)?;
        self.insert(&ticket.key, entry);
        Ok(())
    }

    /// Marks the key as one whose answers cannot be cached, so that until that time
    /// (Unix milliseconds) requests for it need not wait for one another. What is
    /// stored stays. A fill from before a purge marks nothing.
    pub fn mark_pass(&self, ticket: &Ticket, until_ms: u64) {
        let _changing = self.changes.lock();
        let Ok(stored) = self.current(ticket) else {
            return;
        };
        let variants = stored.map_or_else(Default::default, |entry| entry.variants.clone());
        let entry = Entry {
            variants,
            pass_until_ms: until_ms,
        };
        self.insert(&ticket.key, entry);
    }

    /// Removes everything under a key, and makes sure that no fill under way brings
    /// it back. True if an object was there.
    pub fn purge(&self, key: &[u8]) -> bool {
        let _changing = self.changes.lock();
        self.generation(key).fetch_add(1, Ordering::Release);
        let removed = self.cache.remove(key);
        self.cache.run_pending_tasks();
        removed.is_some_and(|entry| !entry.variants.is_empty())
    }

    /// Makes sure that no fill of that key under way is stored.
    fn count_purge(&self, key: &[u8]) {
        let _changing = self.changes.lock();
        self.generation(key).fetch_add(1, Ordering::Release);
    }

    /// Bytes held now, in the measure of [`Bounds::bytes_max`].
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.tally.bytes.load(Ordering::Relaxed)
    }

    /// Objects held now; each variant is one.
    #[must_use]
    pub fn objects(&self) -> u64 {
        self.tally.objects.load(Ordering::Relaxed)
    }

    /// Objects that had to leave, or were not let in, because the store was full.
    /// Many of them against few hits ask for more memory.
    #[must_use]
    pub fn evictions(&self) -> u64 {
        self.tally.evictions.load(Ordering::Relaxed)
    }

    /// Objects that had to leave because their key had too many variants. Many of
    /// them mean that a site varies on something nearly every visitor differs in.
    #[must_use]
    pub fn variants_dropped(&self) -> u64 {
        self.tally.variants_dropped.load(Ordering::Relaxed)
    }

    /// The entry that a put leaves behind.
    fn with_variant(
        &self,
        key: &Key,
        stored: Option<&Entry>,
        object: Arc<Object>,
    ) -> Result<Entry, NotKept> {
        let variants = stored.map_or(&[][..], |entry| &entry.variants);
        let standing = || variants.iter().filter(|other| self.stands(&other.groups));
        if standing().any(|other| object.would_displace(other)) {
            return Err(NotKept::WouldDisplace);
        }
        let others = standing().filter(|other| !object.succeeds(other));
        let mut variants: SmallVec<_> = others.cloned().collect();
        variants.insert(0, object);
        let mut entry = Entry {
            variants,
            pass_until_ms: 0,
        };
        let mut dropped = 0;
        while entry.variants.len() > self.bounds.variants_max.max(1)
            || (entry.variants.len() > 1 && self.too_large(key, &entry))
        {
            entry.variants.pop();
            dropped += 1;
        }
        if self.too_large(key, &entry) {
            return Err(NotKept::TooLarge);
        }
        self.tally
            .variants_dropped
            .fetch_add(dropped, Ordering::Relaxed);
        Ok(entry)
    }

    fn too_large(&self, key: &Key, entry: &Entry) -> bool {
        units(key, entry) > self.bounds.bytes_max / UNIT_BYTES
    }

    /// What is under the ticket's key, if the ticket still counts. Under `changes`.
    fn current(&self, ticket: &Ticket) -> Result<Option<Arc<Entry>>, NotKept> {
        let key = ticket.key.as_bytes();
        let glance = Glance {
            generation: ticket.generation,
            as_of: ticket.as_of,
        };
        if !self.still_counts(key, glance) {
            return Err(NotKept::Purged);
        }
        Ok(self.cache.get(key))
    }

    /// Writes an entry and lets moka settle it. Under `changes`.
    fn insert(&self, key: &Key, entry: Entry) {
        self.tally.joins(key, &entry);
        self.cache.insert(key.clone(), Arc::new(entry));
        self.cache.run_pending_tasks();
    }

    /// How often the key, or another that shares its counter, was purged.
    fn generation(&self, key: &[u8]) -> &AtomicU64 {
        &self.generations[self.generation_of(key)]
    }

    /// Which counter is the key's; below [`GENERATIONS`].
    fn generation_of(&self, key: &[u8]) -> usize {
        self.hasher.hash_one(key) as usize % GENERATIONS
    }
}

impl Tally {
    fn joins(&self, key: &Key, entry: &Entry) {
        self.bytes
            .fetch_add(units(key, entry) * UNIT_BYTES, Ordering::Relaxed);
        self.objects
            .fetch_add(entry.variants.len() as u64, Ordering::Relaxed);
    }

    fn left(&self, key: &Key, entry: &Entry, cause: RemovalCause) {
        let objects = entry.variants.len() as u64;
        self.bytes
            .fetch_sub(units(key, entry) * UNIT_BYTES, Ordering::Relaxed);
        self.objects.fetch_sub(objects, Ordering::Relaxed);
        if cause == RemovalCause::Size {
            self.evictions.fetch_add(objects, Ordering::Relaxed);
        }
    }
}

/// An entry's weight in units.
fn units(key: &Key, entry: &Entry) -> u64 {
    entry.weight(key.as_bytes().len()).div_ceil(UNIT_BYTES)
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store")
            .field("bounds", &self.bounds)
            .field("tally", &self.tally)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
