//! Who is being served right now, so that a request that hangs can be seen.
//!
//! Only what leaves the fast path enters; a hit never does. A request takes one
//! short lock to enter and one to leave, in the shard its thread belongs to. The
//! listing copies handles under the locks and builds its rows outside them.
//!
//! The table is bounded: a request that finds its shard full is served as any
//! other, it is only not listed.

use std::sync::Arc;

use parking_lot::Mutex;
use serde::Serialize;

use crate::plain::plain;
use crate::stripe::{STRIPES, stripe};

/// Requests one shard lists at most.
const SHARD_ROWS_MAX: usize = 8192;

/// Bytes kept of a path or host; enough to recognise it.
const TEXT_BYTES_MAX: usize = 256;

/// A request that leaves the fast path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InFlight {
    /// When its head was read, Unix milliseconds.
    pub started_ms: u64,
    /// Request method.
    pub method: String,
    /// Host asked for.
    pub host: String,
    /// Path with the query string; what is beyond 256 bytes is cut.
    pub path: String,
    /// What it is in: `lookup`, `fill`, `wait`, `pass`, …
    pub phase: &'static str,
    /// The client's address.
    pub client: String,
}

/// One row of the admin listener's table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct InFlightRow {
    /// When its head was read, Unix milliseconds.
    pub started_ms: u64,
    /// For how long it has been served, milliseconds.
    pub age_ms: u64,
    /// Request method.
    pub method: String,
    /// Host asked for.
    pub host: String,
    /// Path with the query string, at most 256 bytes.
    pub path: String,
    /// What it is in.
    pub phase: &'static str,
    /// The client's address.
    pub client: String,
}

/// Takes its request out of the table when it is dropped.
#[derive(Debug)]
#[must_use = "the request leaves the table when the guard is dropped"]
pub struct InFlightGuard {
    // None: the shard was full and the request is not listed.
    place: Option<Place>,
}

#[derive(Debug)]
struct Place {
    table: Arc<Table>,
    entry: Arc<Entry>,
    shard: usize,
    slot: usize,
}

#[derive(Debug)]
struct Entry {
    request: InFlight,
    phase: Mutex<&'static str>,
}

/// The slots of all shards.
#[derive(Debug, Default)]
pub(crate) struct Table {
    shards: [Mutex<Shard>; STRIPES],
}

#[derive(Debug, Default)]
struct Shard {
    slots: Vec<Option<Arc<Entry>>>,
    free: Vec<usize>,
}

impl InFlightGuard {
    /// Says what the request is in now.
    pub fn phase(&self, phase: &'static str) {
        if let Some(place) = &self.place {
            *place.entry.phase.lock() = phase;
        }
    }
}

impl Drop for InFlightGuard {
    fn drop(&mut self) {
        if let Some(place) = self.place.take() {
            place.table.leave(place.shard, place.slot);
        }
    }
}

impl Table {
    pub(crate) fn enter(self: &Arc<Self>, mut request: InFlight) -> InFlightGuard {
        for text in [
            &mut request.method,
            &mut request.host,
            &mut request.path,
            &mut request.client,
        ] {
            cut(text);
        }
        let entry = Arc::new(Entry {
            phase: Mutex::new(request.phase),
            request,
        });
        let shard = stripe();
        let slot = self
            .shards
            .get(shard)
            .and_then(|shard| shard.lock().put(&entry));
        InFlightGuard {
            place: slot.map(|slot| Place {
                table: Arc::clone(self),
                entry,
                shard,
                slot,
            }),
        }
    }

    fn leave(&self, shard: usize, slot: usize) {
        if let Some(shard) = self.shards.get(shard) {
            // The entry is freed after the lock is: its strings need none.
            let _freed = shard.lock().take(slot);
        }
    }

    /// All rows, the oldest first.
    pub(crate) fn rows(&self, now_ms: u64) -> Vec<InFlightRow> {
        let mut entries = Vec::new();
        for shard in &self.shards {
            entries.extend(shard.lock().slots.iter().flatten().cloned());
        }
        let mut rows: Vec<_> = entries.iter().map(|entry| entry.row(now_ms)).collect();
        rows.sort_by_key(|row| row.started_ms);
        rows
    }

    pub(crate) fn len(&self) -> usize {
        self.shards.iter().map(|shard| shard.lock().len()).sum()
    }
}

impl Shard {
    fn put(&mut self, entry: &Arc<Entry>) -> Option<usize> {
        if let Some(slot) = self.free.pop() {
            *self.slots.get_mut(slot)? = Some(Arc::clone(entry));
            return Some(slot);
        }
        if self.slots.len() >= SHARD_ROWS_MAX {
            return None;
        }
        self.slots.push(Some(Arc::clone(entry)));
        Some(self.slots.len() - 1)
    }

    fn take(&mut self, slot: usize) -> Option<Arc<Entry>> {
        let entry = self.slots.get_mut(slot)?.take()?;
        self.free.push(slot);
        Some(entry)
    }

    fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }
}

impl Entry {
    fn row(&self, now_ms: u64) -> InFlightRow {
        let InFlight {
            started_ms,
            method,
            host,
            path,
            client,
            phase: _,
        } = &self.request;
        InFlightRow {
            started_ms: *started_ms,
            age_ms: now_ms.saturating_sub(*started_ms),
            method: method.clone(),
            host: host.clone(),
            path: path.clone(),
            phase: *self.phase.lock(),
            client: client.clone(),
        }
    }
}

fn cut(text: &mut String) {
    if text.len() > TEXT_BYTES_MAX {
        text.truncate(text.floor_char_boundary(TEXT_BYTES_MAX));
        text.shrink_to_fit();
    }
}

plain!(
    struct InFlight {
        started_ms,
        method,
        host,
        path,
        phase,
        client,
    }
);

#[cfg(test)]
mod tests {
    use super::*;

    fn request(started_ms: u64, path: &str) -> InFlight {
        InFlight {
            started_ms,
            method: "GET".into(),
            host: "shop.example".into(),
            path: path.into(),
            phase: "lookup",
            client: "192.0.2.7".into(),
        }
    }

    #[test]
    fn a_request_is_listed_from_enter_to_drop_with_its_phase() {
        let table = Arc::new(Table::default());
        let second = table.enter(request(2_000, "/second"));
        let first = table.enter(request(1_000, "/first"));
        second.phase("fill");
        let seen: Vec<_> = table
            .rows(3_000)
            .into_iter()
            .map(|row| (row.path, row.phase, row.age_ms))
            .collect();
        assert_eq!(
            seen,
            [
                ("/first".into(), "lookup", 2_000),
                ("/second".into(), "fill", 1_000)
            ]
        );

        drop(first);
        assert_eq!(table.len(), 1);
        // The freed slot is used again, and no guard frees another's.
        let third = table.enter(request(3_000, "/third"));
        drop(second);
        assert_eq!(table.rows(3_000).len(), 1);
        drop(third);
        assert_eq!(table.len(), 0);
    }

    #[test]
    fn long_text_is_cut_at_a_character() {
        let table = Arc::new(Table::default());
        let _guard = table.enter(request(0, &"ä".repeat(200)));
        let _odd = table.enter(request(1, &format!("/{}", "ä".repeat(200))));
        let rows = table.rows(0);
        assert_eq!(rows[0].path.len(), 256);
        assert_eq!(rows[1].path.len(), 255);
    }

    #[test]
    fn a_full_shard_lists_no_more_and_breaks_nothing() {
        let table = Arc::new(Table::default());
        let mut guards: Vec<_> = (0..=SHARD_ROWS_MAX)
            .map(|n| table.enter(request(n as u64, "/")))
            .collect();
        assert_eq!(table.len(), SHARD_ROWS_MAX);
        let unlisted = guards.pop().unwrap();
        unlisted.phase("fill");
        drop(unlisted);
        assert_eq!(table.len(), SHARD_ROWS_MAX);
        drop(guards);
        assert_eq!(table.len(), 0);
    }

    #[test]
    fn a_clock_behind_the_start_makes_no_age() {
        let table = Arc::new(Table::default());
        let _guard = table.enter(request(5_000, "/"));
        assert_eq!(table.rows(1_000)[0].age_ms, 0);
    }
}
