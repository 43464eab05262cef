//! The counters of every response: a few relaxed additions to plain atomics.
//!
//! Each thread adds to its own stripe; rendering sums over the stripes. Sums may
//! be a response apart from each other, and nothing is ever lost.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, MetricEncoder};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;

use crate::record::{Done, Outcome, Protocol};
use crate::stripe::{STRIPES, stripe};

const OUTCOMES: usize = Outcome::ALL.len();
const PROTOCOLS: usize = Protocol::ALL.len();
const CLASSES: [&str; 6] = ["1xx", "2xx", "3xx", "4xx", "5xx", "other"];

/// Upper bounds of the duration buckets in microseconds. From a hit out of memory
/// to a fetch that is about to run into its timeout.
const BUCKETS_US: [u64; 17] = [
    100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000,
    1_000_000, 2_500_000, 5_000_000, 10_000_000, 30_000_000,
];

/// The two kinds of durations that are worth telling apart at this price.
const DURATION_OUTCOMES: [&str; 2] = ["hit", "other"];

const REQUESTS_HELP: &str = "Finished requests. A growing share of outcome error or status \
     5xx is visitors being hurt; a growing share of miss is load on the origins.";
const BYTES_HELP: &str =
    "Body bytes sent to clients. Compare with the capacity of the node's network.";
const DURATION_HELP: &str = "Time from the request head to the last byte sent. Slow hits \
     point at this node or slow clients, slow others at its upstreams.";

/// All stripes.
#[derive(Debug, Default)]
pub(super) struct Hot {
    stripes: [Stripe; STRIPES],
}

// Two cache lines: adjacent lines are fetched in pairs on common processors.
#[derive(Default)]
#[repr(align(128))]
struct Stripe {
    requests: [[[AtomicU64; CLASSES.len()]; PROTOCOLS]; OUTCOMES],
    body_bytes: AtomicU64,
    durations: [Durations; DURATION_OUTCOMES.len()],
}

#[derive(Default)]
struct Durations {
    // One more than the bounds: what is beyond the last.
    buckets: [AtomicU64; BUCKETS_US.len() + 1],
    sum_us: AtomicU64,
}

impl fmt::Debug for Stripe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stripe").finish_non_exhaustive()
    }
}

impl Hot {
    pub(super) fn count(&self, done: &Done) {
        // In bounds by construction: `stripe()` is below STRIPES, the enums index
        // arrays of their own length, and the other two functions say their range.
        let stripe = &self.stripes[stripe()];
        stripe.requests[done.outcome as usize][done.protocol as usize][class(done.status)]
            .fetch_add(1, Relaxed);
        stripe.body_bytes.fetch_add(done.body_bytes, Relaxed);
        let durations = &stripe.durations[usize::from(!done.outcome.is_hit())];
        durations.buckets[bucket(done.duration_us)].fetch_add(1, Relaxed);
        durations.sum_us.fetch_add(done.duration_us, Relaxed);
    }

    fn sum(&self, of: impl Fn(&Stripe) -> &AtomicU64) -> u64 {
        self.stripes.iter().fold(0, |sum: u64, stripe| {
            sum.wrapping_add(of(stripe).load(Relaxed))
        })
    }

    fn encode_requests(&self, mut encoder: MetricEncoder<'_>) -> fmt::Result {
        for outcome in Outcome::ALL {
            for protocol in Protocol::ALL {
                for (class, name) in CLASSES.iter().enumerate() {
                    let count =
                        self.sum(|s| &s.requests[outcome as usize][protocol as usize][class]);
                    // Most of the combinations never happen; they are left out.
                    if count > 0 {
                        let labels = [
                            ("outcome", outcome.as_str()),
                            ("protocol", protocol.as_str()),
                            ("status_class", *name),
                        ];
                        ConstCounter::new(count).encode(encoder.encode_family(&labels)?)?;
                    }
                }
            }
        }
        Ok(())
    }

    fn encode_durations(&self, mut encoder: MetricEncoder<'_>) -> fmt::Result {
        for (kind, outcome) in DURATION_OUTCOMES.into_iter().enumerate() {
            let bounds = BUCKETS_US
                .iter()
                .map(|us| *us as f64 / 1e6)
                .chain([f64::INFINITY]);
            let buckets: Vec<(f64, u64)> = bounds
                .enumerate()
                .map(|(index, bound)| (bound, self.sum(|s| &s.durations[kind].buckets[index])))
                .collect();
            // The count is the sum of what was read: cumulative buckets and count
            // agree even while others are counting.
            let count = buckets.iter().map(|(_, count)| count).sum();
            let sum = self.sum(|s| &s.durations[kind].sum_us) as f64 / 1e6;
            encoder
                .encode_family(&[("outcome", outcome)])?
                .encode_histogram::<prometheus_client::encoding::NoLabelSet>(
                sum, count, &buckets, None,
            )?;
        }
        Ok(())
    }
}

/// Hands the stripes to the registry at each scrape.
#[derive(Debug)]
pub(super) struct HotCollector(pub(super) Arc<Hot>);

impl Collector for HotCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let hot = &self.0;
        let requests =
            encoder.encode_descriptor("requests", REQUESTS_HELP, None, MetricType::Counter)?;
        hot.encode_requests(requests)?;
        let bytes =
            encoder.encode_descriptor("response_bytes", BYTES_HELP, None, MetricType::Counter)?;
        ConstCounter::new(hot.sum(|s| &s.body_bytes)).encode(bytes)?;
        let durations = encoder.encode_descriptor(
            "request_duration_seconds",
            DURATION_HELP,
            None,
            MetricType::Histogram,
        )?;
        hot.encode_durations(durations)
    }
}

/// Index into [`CLASSES`].
const fn class(status: u16) -> usize {
    match status / 100 {
        class @ 1..=5 => class as usize - 1,
        _ => CLASSES.len() - 1,
    }
}

/// Index into [`Durations::buckets`]; a bound belongs to its own bucket.
fn bucket(duration_us: u64) -> usize {
    BUCKETS_US.partition_point(|bound| *bound < duration_us)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes() {
        for (status, name) in [
            (99, "other"),
            (100, "1xx"),
            (200, "2xx"),
            (304, "3xx"),
            (499, "4xx"),
            (599, "5xx"),
            (600, "other"),
            (0, "other"),
            (u16::MAX, "other"),
        ] {
            assert_eq!(CLASSES[class(status)], name, "{status}");
        }
    }

    #[test]
    fn buckets_take_their_own_bound() {
        for (duration_us, index) in [
            (0, 0),
            (100, 0),
            (101, 1),
            (30_000_000, 16),
            (30_000_001, 17),
            (u64::MAX, 17),
        ] {
            assert_eq!(bucket(duration_us), index, "{duration_us}");
        }
    }
}
