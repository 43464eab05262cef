//! How long an upstream takes to answer, and after what time an answer is late.
//!
//! A histogram with four buckets an octave, so that a quantile is at most a quarter too
//! high and never too low. What is counted is halved now and then: an upstream that
//! became faster or slower is known by it within a thousand answers.

/// Buckets an octave.
const PARTS: usize = 4;

/// Octaves of microseconds that are told apart: the last begins at 67 seconds.
const OCTAVES: usize = 27;

/// Below this many answers there is no quantile to speak of.
const SAMPLES_MIN: u32 = 32;

/// At this many, all counts are halved.
const SAMPLES_MAX: u32 = 1_024;

/// The latency of one upstream.
#[derive(Debug, Clone)]
pub struct Latency {
    counts: [u32; OCTAVES * PARTS],
    total: u32,
}

impl Default for Latency {
    fn default() -> Self {
        Self {
            counts: [0; OCTAVES * PARTS],
            total: 0,
        }
    }
}

impl Latency {
    /// Takes note of an answer that took so many microseconds.
    pub fn observe(&mut self, us: u64) {
        if let Some(count) = self.counts.get_mut(bucket(us)) {
            *count += 1;
            self.total += 1;
        }
        if self.total >= SAMPLES_MAX {
            for count in &mut self.counts {
                *count /= 2;
            }
            self.total = self.counts.iter().sum();
        }
    }

    /// Microseconds within which so many of a hundred answers came. None: too few came
    /// to say.
    #[must_use]
    pub fn quantile_us(&self, percent: u32) -> Option<u64> {
        if self.total < SAMPLES_MIN {
            return None;
        }
        let wanted = (u64::from(self.total) * u64::from(percent.min(100))).div_ceil(100);
        let mut seen = 0;
        let at = self.counts.iter().position(|count| {
            seen += u64::from(*count);
            seen >= wanted
        });
        at.map(end_of)
    }
}

/// The bucket of a time.
fn bucket(us: u64) -> usize {
    let us = us.max(1);
    let octave = us.ilog2() as usize;
    let part = match octave {
        0 | 1 => 0,
        // The two bits below the highest.
        _ => (us >> (octave - 2)) as usize % PARTS,
    };
    (octave * PARTS + part).min(OCTAVES * PARTS - 1)
}

/// The longest time of a bucket.
fn end_of(bucket: usize) -> u64 {
    let (octave, part) = (bucket / PARTS, bucket % PARTS);
    if octave < 2 {
        return (2 << octave) - 1;
    }
    ((PARTS + part + 1) as u64) << (octave - 2)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_quantile_needs_enough_answers() {
        let mut latency = Latency::default();
        for _ in 1..SAMPLES_MIN {
            latency.observe(1_000);
        }
        assert_eq!(latency.quantile_us(95), None);
        latency.observe(1_000);
        let within = latency.quantile_us(95).unwrap();
        assert!((1_000..=1_250).contains(&within), "{within}");
    }

    #[test]
    fn a_few_late_answers_do_not_move_it_and_a_change_does() {
        let mut latency = Latency::default();
        for number in 0..1_000 {
            latency.observe(if number % 50 == 0 { 900_000 } else { 2_000 });
        }
        assert!(latency.quantile_us(95).unwrap() < 3_000);
        assert!(latency.quantile_us(99).unwrap() >= 900_000);
        for _ in 0..1_024 {
            latency.observe(80_000);
        }
        assert!(latency.quantile_us(50).unwrap() >= 80_000);
    }

    proptest! {
        #[test]
        fn it_is_what_sorting_says_or_a_quarter_more(
            times in prop::collection::vec(4_u64..60_000_000, 32..1_000),
            percent in 1_u32..=100,
        ) {
            let mut latency = Latency::default();
            for us in &times {
                latency.observe(*us);
            }
            let mut sorted = times.clone();
            sorted.sort_unstable();
            let rank = (sorted.len() * percent as usize).div_ceil(100).max(1);
            let exact = sorted[rank - 1];
            let within = latency.quantile_us(percent).unwrap();
            prop_assert!(within >= exact, "{} < {}", within, exact);
            prop_assert!(within <= exact + exact / 4 + 1, "{} > {}", within, exact);
        }

        #[test]
        fn any_time_has_its_bucket(us: u64) {
            let bucket = bucket(us);
            prop_assert!(bucket < OCTAVES * PARTS);
            prop_assert!(us <= end_of(bucket) || bucket == OCTAVES * PARTS - 1);
        }
    }
}
