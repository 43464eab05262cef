//! Bounded load: a candidate that has more than its share steps behind.
//!
//! Rendezvous hashing spreads keys evenly, not requests: one key may be asked for more
//! than all others. With a bound (Mirrokni, Thorup and Zadimoghaddam, 2018) none takes
//! more than its share by weight times a factor; what is beyond goes to the next in
//! the key's order, so that the same few candidates get to hold it.

use crate::{Candidates, Order};

/// How many requests each candidate has now, and how unequal they may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Load<'a> {
    /// Requests under way, position by position. A candidate without a number has none.
    pub requests: &'a [u32],
    /// What one may have, in percent of its share by weight. Below 100 counts as 100:
    /// then somebody always has room.
    pub percent: u32,
    /// So many anyone may have, whatever its share: of few requests chance alone brings
    /// one more than its share, and a key that moves is fetched once more.
    pub free: u32,
}

impl Load<'_> {
    /// The most requests the candidate at `position` may have, one more than now being
    /// under way at those of `order` together.
    #[must_use]
    pub fn most(&self, candidates: &Candidates, order: &Order, position: usize) -> u64 {
        let share = self.share(candidates, order);
        self.most_of(&share, candidates.weight(position))
    }

    /// The same order with those that have room in front.
    #[must_use]
    pub(crate) fn bound(&self, candidates: &Candidates, order: Order) -> Order {
        let share = self.share(candidates, &order);
        let (mut room, mut full) = (Order::new(), Order::new());
        for position in order {
            let has = u64::from(self.requests_at(position));
            if has < self.most_of(&share, candidates.weight(position)) {
                room.push(position);
            } else {
                full.push(position);
            }
        }
        room.append(&mut full);
        room
    }

    fn requests_at(&self, position: usize) -> u32 {
        self.requests.get(position).copied().unwrap_or(0)
    }

    fn most_of(&self, share: &Share, weight: u32) -> u64 {
        // One without a weight takes what the others have no room for.
        let free = if weight == 0 { 0 } else { self.free.into() };
        share.of(weight).max(free)
    }

    /// The share by weight of each of `order`.
    fn share(&self, candidates: &Candidates, order: &Order) -> Share {
        let all = order.iter().map(|at| u128::from(self.requests_at(*at)));
        let weights = order.iter().map(|at| u128::from(candidates.weight(*at)));
        Share {
            all_percent: (all.sum::<u128>() + 1) * u128::from(self.percent.max(100)),
            weights_percent: weights.sum::<u128>() * 100,
        }
    }
}

/// What one unit of weight may have, as a fraction.
struct Share {
    all_percent: u128,
    weights_percent: u128,
}

impl Share {
    fn of(&self, weight: u32) -> u64 {
        if self.weights_percent == 0 {
            return u64::MAX;
        }
        let most = (self.all_percent * u128::from(weight)).div_ceil(self.weights_percent);
        u64::try_from(most).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn who_has_its_share_steps_behind() {
        let three = Candidates::new(["a", "b", "c"]);
        let key = [7; 16];
        let order = three.order(&key);
        let first = order[0];
        // Requests at the first choice, of others at each of the two others; percent;
        // whether the first choice keeps its place. Four of ten are the most at 110 %
        // of a third of eleven, which is 4.03, rounded up.
        for (at_first, at_others, percent, keeps) in [
            (0, 0, 125, true),
            (1, 0, 125, false),
            (1, 1, 125, true),
            (4, 3, 110, true),
            (5, 3, 110, false),
            (5, 3, 50, false),
            (5, 3, 1_000, true),
        ] {
            let mut requests = [at_others; 3];
            requests[first] = at_first;
            let load = Load {
                requests: &requests,
                percent,
                free: 0,
            };
            let bounded = load.bound(&three, order.clone());
            assert_eq!(
                bounded[0] == first,
                keeps,
                "{at_first} {at_others} {percent}"
            );
            if !keeps {
                assert_eq!(bounded.as_slice(), [order[1], order[2], first]);
            }
        }
    }

    #[test]
    fn few_requests_move_nobody() {
        let three = Candidates::new(["a", "b", "c"]);
        let order = three.order(&[7; 16]);
        for (at_first, free, keeps) in [(0, 16, true), (15, 16, true), (16, 16, false)] {
            let mut requests = [0; 3];
            requests[order[0]] = at_first;
            let load = Load {
                requests: &requests,
                percent: 125,
                free,
            };
            let bounded = load.bound(&three, order.clone());
            assert_eq!(bounded[0] == order[0], keeps, "{at_first}");
        }
    }

    #[test]
    fn only_who_may_be_asked_has_a_share() {
        let three = Candidates::new(["a", "b", "c"]);
        // Two of three: each may have half of what the two have, and a tenth more.
        let order: Order = [0, 1].into_iter().collect();
        for (requests, first) in [([5, 4, 90], 0), ([7, 4, 90], 1)] {
            let load = Load {
                requests: &requests,
                percent: 110,
                free: 0,
            };
            assert_eq!(load.bound(&three, order.clone())[0], first, "{requests:?}");
        }
    }

    proptest! {
        /// Requests come and go; whoever is chosen had room, and nobody ever has more
        /// than the bound allowed when it was chosen.
        #[test]
        fn nobody_is_given_more_than_the_bound(
            weights in prop::collection::vec(1_u32..5, 1..8),
            percent in 100_u32..300,
            free in 0_u32..3,
            keys in prop::collection::vec((0_u8..4, any::<bool>()), 1..200),
        ) {
            let names: Vec<String> = (0..weights.len()).map(|at| at.to_string()).collect();
            let named = names.iter().map(String::as_str).zip(weights.iter().copied());
            let candidates = Candidates::weighted(named);
            let mut requests = vec![0_u32; weights.len()];
            let mut under_way = Vec::new();
            for (key, ends) in keys {
                if ends && let Some(position) = under_way.pop() {
                    let position: usize = position;
                    requests[position] -= 1;
                    continue;
                }
                let load = Load { requests: &requests, percent, free };
                let order = candidates.order(&[key; 16]);
                let bounded = load.bound(&candidates, order.clone());
                let chosen = bounded[0];
                let most = load.most(&candidates, &order, chosen);
                prop_assert!(u64::from(requests[chosen]) < most);
                // The naive model: the first in the key's order that has room.
                let naive = order.iter().find(|position| {
                    u64::from(requests[**position]) < load.most(&candidates, &order, **position)
                });
                prop_assert_eq!(Some(&chosen), naive);
                let mut sorted = bounded.to_vec();
                sorted.sort_unstable();
                prop_assert_eq!(sorted, (0..weights.len()).collect::<Vec<_>>());
                requests[chosen] += 1;
                under_way.push(chosen);
            }
        }
    }
}
