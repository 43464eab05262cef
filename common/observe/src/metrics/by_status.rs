//! `http.server.request.duration` of the HTTP semantic conventions.
//!
//! It tells method, scheme, status and protocol apart, of which a client can invent
//! many, so the series are bounded: what comes when the table is full is counted
//! together, marked as the OpenTelemetry specification says. Looking up a series is a
//! comparison or two, adding to it two relaxed additions; each thread has a stripe.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};

use crate::record::{Done, Method, Protocol};
use crate::stripe::{STRIPES, stripe};

/// Upper bounds in microseconds, those that the conventions advise.
pub(crate) const BOUNDS_US: [u64; 14] = [
    5_000, 10_000, 25_000, 50_000, 75_000, 100_000, 250_000, 500_000, 750_000, 1_000_000,
    2_500_000, 5_000_000, 7_500_000, 10_000_000,
];

/// Series that one stripe tells apart.
const SERIES_MAX: usize = 128;

/// The key of whatever finds no place. No request has it.
const OVERFLOW: u32 = u32::MAX;

#[derive(Debug)]
pub(super) struct HttpDurations {
    stripes: Box<[Table]>,
}

#[derive(Debug)]
struct Table {
    slots: [Slot; SERIES_MAX],
    overflow: Slot,
}

#[derive(Debug, Default)]
#[repr(align(128))]
struct Slot {
    // 0 is free.
    key: AtomicU32,
    buckets: [AtomicU64; BOUNDS_US.len() + 1],
    sum_us: AtomicU64,
}

/// One series as it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct HttpSeries {
    /// None for those counted together.
    pub(crate) labels: Option<HttpLabels>,
    /// One more than the bounds: what is beyond the last.
    pub(crate) buckets: [u64; BOUNDS_US.len() + 1],
    pub(crate) sum_us: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct HttpLabels {
    pub(crate) method: Method,
    pub(crate) https: bool,
    pub(crate) protocol: Protocol,
    pub(crate) status: u16,
}

impl Default for HttpDurations {
    fn default() -> Self {
        let table = || Table {
            slots: std::array::from_fn(|_| Slot::default()),
            overflow: Slot::default(),
        };
        HttpDurations {
            stripes: (0..STRIPES).map(|_| table()).collect(),
        }
    }
}

impl HttpDurations {
    pub(super) fn count(&self, done: &Done) {
        let table = &self.stripes[stripe()];
        let slot = table.slot(key(done));
        let bucket = BOUNDS_US.partition_point(|bound| *bound < done.duration_us);
        slot.buckets[bucket].fetch_add(1, Relaxed);
        slot.sum_us.fetch_add(done.duration_us, Relaxed);
    }

    /// Every series that has counted anything, over all stripes.
    pub(crate) fn series(&self) -> Vec<HttpSeries> {
        let mut sums: BTreeMap<u32, HttpSeries> = BTreeMap::new();
        for table in &self.stripes {
            let slots = table
                .slots
                .iter()
                .map(|slot| (slot.key.load(Relaxed), slot));
            for (key, slot) in slots.chain([(OVERFLOW, &table.overflow)]) {
                let buckets = slot.buckets.each_ref().map(|bucket| bucket.load(Relaxed));
                if key == 0 || buckets.iter().all(|count| *count == 0) {
                    continue;
                }
                let sum = sums.entry(key).or_insert_with(|| HttpSeries {
                    labels: labels(key),
                    buckets: Default::default(),
                    sum_us: 0,
                });
                for (total, count) in sum.buckets.iter_mut().zip(buckets) {
                    *total += count;
                }
                sum.sum_us = sum.sum_us.wrapping_add(slot.sum_us.load(Relaxed));
            }
        }
        sums.into_values().collect()
    }
}

impl Table {
    fn slot(&self, key: u32) -> &Slot {
        // Multiplying by the golden ratio spreads keys that differ in a few bits.
        let start = (key.wrapping_mul(0x9E37_79B9) >> 25) as usize;
        for step in 0..SERIES_MAX {
            let slot = &self.slots[(start + step) % SERIES_MAX];
            let held = slot.key.load(Relaxed);
            if held == key {
                return slot;
            }
            if held == 0 {
                match slot.key.compare_exchange(0, key, Relaxed, Relaxed) {
                    Ok(_) => return slot,
                    // Another thread of this stripe was faster, perhaps with the same.
                    Err(taken) if taken == key => return slot,
                    Err(_) => {}
                }
            }
        }
        &self.overflow
    }
}

/// Never 0, so that 0 can mean free.
fn key(done: &Done) -> u32 {
    1 << 20
        | (done.method as u32) << 12
        | u32::from(done.https) << 11
        | (done.protocol as u32) << 10
        | u32::from(done.status.min(1023))
}

fn labels(key: u32) -> Option<HttpLabels> {
    (key != OVERFLOW).then(|| HttpLabels {
        method: Method::ALL
            .get((key >> 12 & 0xf) as usize)
            .copied()
            .unwrap_or(Method::Other),
        https: key >> 11 & 1 == 1,
        protocol: Protocol::ALL[(key >> 10 & 1) as usize],
        status: (key & 1023) as u16,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::Outcome;

    fn done(method: Method, status: u16, duration_us: u64) -> Done {
        Done {
            outcome: Outcome::Hit,
            status,
            body_bytes: 0,
            duration_us,
            protocol: Protocol::H2,
            method,
            https: true,
        }
    }

    #[test]
    fn series_keep_what_was_counted_apart() {
        let durations = HttpDurations::default();
        durations.count(&done(Method::Get, 200, 5_000));
        durations.count(&done(Method::Get, 200, 5_001));
        durations.count(&done(Method::Other, 599, u64::MAX / 2));
        let series = durations.series();
        assert_eq!(series.len(), 2);
        let labels = HttpLabels {
            method: Method::Get,
            https: true,
            protocol: Protocol::H2,
            status: 200,
        };
        assert_eq!(series[0].labels, Some(labels));
        assert_eq!(series[0].buckets[..3], [1, 1, 0]);
        assert_eq!(series[0].sum_us, 10_001);
        let other = HttpLabels {
            method: Method::Other,
            status: 599,
            ..labels
        };
        assert_eq!(series[1].labels, Some(other));
        assert_eq!(series[1].buckets[14], 1);
    }

    #[test]
    fn what_finds_no_place_is_counted_together() {
        let durations = HttpDurations::default();
        for status in 0..=SERIES_MAX as u16 {
            durations.count(&done(Method::Get, status, 1));
        }
        let series = durations.series();
        assert_eq!(series.len(), SERIES_MAX + 1);
        let together: Vec<_> = series.iter().filter(|one| one.labels.is_none()).collect();
        assert_eq!(together.len(), 1);
        assert_eq!(together[0].buckets[0], 1);
    }
}
