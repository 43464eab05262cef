//! What visitors got, in numbers.

use super::pages::Kind;
use super::verdict::{Asked, Verdict, Way};

/// Errors that are told in words.
const TOLD_MAX: usize = 5;

/// What visitors got since it was last asked.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// Requests that were answered or failed, orders apart.
    pub requests: u64,
    /// What no visitor should get: answers with a status of 500 or more, wrong or short
    /// bodies, connections that closed under a request; but for what they were told to
    /// put up with.
    pub errors: u64,
    /// Of those, bodies that look whole and are not what belongs there.
    pub wrong: u64,
    /// The first few of them in words.
    pub told: Vec<String>,
    /// Refusals that they were told to put up with.
    pub refused: u64,
    /// Bodies that broke off visibly, as they were told to put up with.
    pub broken: u64,
    /// Safe requests that were sent again, since a kept connection had closed without
    /// a word or a new one was refused.
    pub again: u64,
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

    pub(super) fn note(&mut self, asked: &Asked, verdict: Verdict, took_us: u64) {
        let is_order = asked.kind == Kind::Order;
        if !is_order {
            self.requests += 1;
        }
        let why = match verdict {
            Verdict::Right(way) => {
                self.right(asked, way, took_us);
                return;
            }
            Verdict::Refused | Verdict::Broken | Verdict::Error(_) if is_order => {
                self.orders_failed += 1;
                return;
            }
            Verdict::Refused => {
                self.refused += 1;
                self.times.note(took_us);
                return;
            }
            Verdict::Broken => {
                self.broken += 1;
                return;
            }
            Verdict::Error(why) => why,
            Verdict::Wrong(why) => {
                self.wrong += 1;
                why
            }
        };
        self.errors += 1;
        if self.told.len() < TOLD_MAX {
            let took_ms = took_us / 1000;
            self.told
                .push(format!("{}: {why} ({took_ms} ms)", asked.path));
        }
    }

    fn right(&mut self, asked: &Asked, way: Way, took_us: u64) {
        if asked.kind == Kind::Order {
            self.orders_taken += 1;
            return;
        }
        self.times.note(took_us);
        match way {
            Way::Stored => {}
            Way::Tiers => self.by_tiers += 1,
            Way::Detour => {
                self.by_detours += 1;
                self.last_detour_ms = self.last_detour_ms.max(asked.at_ms);
            }
        }
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
}
