//! Rendezvous hashing: every candidate draws a score for the key, and the
//! highest score is asked first.
//!
//! A candidate's score depends on its own name and the key alone. That is the
//! whole reason why a join or a leave moves no other candidate's keys, and why
//! nodes with differently sorted files agree.

use smallvec::SmallVec;

use crate::weight::compare;

/// Positions in the list of candidates, best first.
pub type Order = SmallVec<[usize; 8]>;

/// The nodes that may be asked, with their names hashed once so that a request
/// hashes no text.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Candidates {
    all: Vec<Candidate>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Candidate {
    name: Box<str>,
    seed: u64,
    weight: u32,
    tier: Tier,
}

/// What a candidate is, seen from an edge.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Tier {
    /// It talks to origins.
    #[default]
    Upper,
    /// It stands between the edges of a region and the upper tiers.
    Regional,
}

impl Candidates {
    /// Takes the names in the order by which the caller counts: the positions in
    /// every [`Order`] and [`crate::Way::Upper`] are positions in this list.
    ///
    /// Names should be distinct; of two equal names the earlier always wins.
    #[must_use]
    pub fn new<'a>(names: impl IntoIterator<Item = &'a str>) -> Self {
        Self::weighted(names.into_iter().map(|name| (name, 1)))
    }

    /// The same with weights: one of twice the weight is the first choice of twice as
    /// many keys. One of weight 0 is asked last.
    #[must_use]
    pub fn weighted<'a>(named: impl IntoIterator<Item = (&'a str, u32)>) -> Self {
        let all = named.into_iter();
        Self::of(all.map(|(name, weight)| (name, weight, Tier::Upper)))
    }

    /// The same of several tiers.
    #[must_use]
    pub fn of<'a>(members: impl IntoIterator<Item = (&'a str, u32, Tier)>) -> Self {
        let all = members.into_iter().map(|(name, weight, tier)| Candidate {
            name: name.into(),
            seed: mix(fnv1a(name.as_bytes())),
            weight,
            tier,
        });
        Self { all: all.collect() }
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.all.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// The name at a position, None beyond the end.
    #[must_use]
    pub fn name(&self, position: usize) -> Option<&str> {
        self.all.get(position).map(|candidate| &*candidate.name)
    }

    /// The weight of the one at a position, 0 beyond the end.
    #[must_use]
    pub fn weight(&self, position: usize) -> u32 {
        self.all
            .get(position)
            .map_or(0, |candidate| candidate.weight)
    }

    /// The tier of the one at a position.
    #[must_use]
    pub fn tier(&self, position: usize) -> Option<Tier> {
        self.all.get(position).map(|candidate| candidate.tier)
    }

    /// The same order with those of that tier in front: the others stand by.
    pub(crate) fn first_of(&self, tier: Tier, order: Order) -> Order {
        let (mut meant, mut others): (Order, Order) = order
            .into_iter()
            .partition(|position| self.tier(*position) == Some(tier));
        meant.append(&mut others);
        meant
    }

    /// Whether the one at a position stands by for sites that go over upper tiers
    /// alone: it is a regional one, and there are others.
    #[must_use]
    pub fn stands_by(&self, position: usize) -> bool {
        self.tier(position) == Some(Tier::Regional)
            && self.all.iter().any(|one| one.tier == Tier::Upper)
    }

    /// The order for one key, the digest of a primary key. Best first; every
    /// position occurs once.
    #[must_use]
    pub fn order(&self, key: &[u8; 16]) -> Order {
        let mut scored: SmallVec<[(u64, usize, &Candidate); 8]> = self
            .all
            .iter()
            .enumerate()
            .map(|(position, candidate)| (score(key, candidate.seed), position, candidate))
            .collect();
        // The score is one to one in the seed, so equal scores mean that two names
        // collided in 64 bits; the name then keeps the order equal on every node.
        scored.sort_unstable_by(|(a, a_at, a_is), (b, b_at, b_is)| {
            compare((*b, b_is.weight), (*a, a_is.weight))
                .then_with(|| a_is.name.cmp(&b_is.name))
                .then(a_at.cmp(b_at))
        });
        scored
            .into_iter()
            .map(|(_, position, _)| position)
            .collect()
    }
}

/// Rendezvous (highest random weight) order of `names` for a key, the digest of a
/// primary key. Best first, as positions in `names`.
///
/// Hashes every name; where the same names are asked about often, keep
/// [`Candidates`] and call [`Candidates::order`], which answers the same.
#[must_use]
pub fn rendezvous<'a>(key: &[u8; 16], names: impl ExactSizeIterator<Item = &'a str>) -> Order {
    Candidates::new(names).order(key)
}

/// A number drawn for a name and a key: the same at every node and in every build, and
/// as good as random over names and keys.
#[must_use]
pub fn draw(name: &str, key: &[u8; 16]) -> u64 {
    score(key, fnv1a(name.as_bytes()))
}

/// One candidate's draw for a key.
fn score(key: &[u8; 16], seed: u64) -> u64 {
    let key = u128::from_le_bytes(*key);
    let (low, high) = (key as u64, (key >> 64) as u64);
    mix(mix(seed ^ low) ^ high)
}

/// FNV-1a over 64 bits: short, published and the same everywhere. Its weak high
/// bits do not matter, [`mix`] follows.
fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

/// The output function of SplitMix64: one to one, and every input bit moves about
/// half of the output bits.
fn mix(value: u64) -> u64 {
    let value = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const KEYS: u64 = 10_000;

    /// Keys that differ in few bits, so that a weak mix would show.
    fn key(n: u64) -> [u8; 16] {
        u128::from(n).to_le_bytes()
    }

    fn names(count: usize) -> Vec<String> {
        (1..=count).map(|n| format!("upper-{n}")).collect()
    }

    fn candidates(names: &[String]) -> Candidates {
        Candidates::new(names.iter().map(String::as_str))
    }

    #[test]
    fn golden_orders_never_change() {
        // Worked out apart from this code. If this fails, edges of the old build and
        // of the new one send the same key to different upper tiers.
        let five = candidates(&names(5));
        let counting = std::array::from_fn(|at| at as u8);
        let cases: [([u8; 16], [usize; 5]); 4] = [
            ([0; 16], [2, 0, 4, 1, 3]),
            ([255; 16], [4, 3, 0, 1, 2]),
            (counting, [4, 0, 1, 2, 3]),
            (*b"headwater-golden", [3, 4, 1, 2, 0]),
        ];
        for (key, want) in cases {
            assert_eq!(five.order(&key).as_slice(), want, "{key:?}");
        }
    }

    #[test]
    fn every_candidate_gets_its_share() {
        for count in 1..=8 {
            let candidates = candidates(&names(count));
            let mut shares = vec![0_u64; count];
            for n in 0..KEYS {
                shares[candidates.order(&key(n))[0]] += 1;
            }
            let fair = KEYS / count as u64;
            for share in &shares {
                assert!(
                    share.abs_diff(fair) <= fair / 10,
                    "{count} candidates: {shares:?}"
                );
            }
        }
    }

    #[test]
    fn weights_are_shares() {
        let weights = [1, 2, 4, 0, 1];
        let names = names(weights.len());
        let named = || names.iter().map(String::as_str);
        let weighted = Candidates::weighted(named().zip(weights));
        let mut shares = [0_u64; 5];
        for n in 0..KEYS {
            let order = weighted.order(&key(n));
            shares[order[0]] += 1;
            assert_eq!(order.last(), Some(&3), "who has no weight is asked last");
        }
        for (share, weight) in shares.iter().zip(weights) {
            let fair = KEYS * u64::from(weight) / 8;
            assert!(share.abs_diff(fair) <= KEYS / 100, "{shares:?}");
        }
    }

    #[test]
    fn a_weight_that_grows_takes_keys_and_moves_no_other() {
        let names = names(6);
        let with = |weight| {
            let weights = [1, 3, weight, 1, 2, 1];
            Candidates::weighted(names.iter().map(String::as_str).zip(weights))
        };
        let (before, after) = (with(1), with(3));
        let mut moved = 0_u64;
        for n in 0..KEYS {
            let (mut old, mut new) = (before.order(&key(n)), after.order(&key(n)));
            if old[0] != new[0] {
                assert_eq!(new[0], 2, "only the one that grew takes a key");
                moved += 1;
            }
            // The others keep their order among themselves.
            old.retain(|position| *position != 2);
            new.retain(|position| *position != 2);
            assert_eq!(old, new, "key {n}");
        }
        // From a ninth to three elevenths.
        let fair = KEYS * 3 / 11 - KEYS / 9;
        assert!(moved.abs_diff(fair) <= KEYS / 100, "{moved} of {fair}");
    }

    #[test]
    fn the_keys_of_one_that_leaves_spread_over_all_others() {
        let all = candidates(&names(5));
        let mut seconds = [0_u64; 5];
        let mut moved = 0;
        for n in 0..KEYS {
            let order = all.order(&key(n));
            if order[0] == 2 {
                moved += 1;
                seconds[order[1]] += 1;
            }
        }
        for (position, share) in seconds.iter().enumerate().filter(|(at, _)| *at != 2) {
            assert!(
                share.abs_diff(moved / 4) < moved / 20,
                "{position}: {share} of {moved}"
            );
        }
    }

    #[test]
    fn a_join_or_leave_moves_one_share_and_no_other_key() {
        for count in 1..=6 {
            let few = candidates(&names(count));
            let more = candidates(&names(count + 1));
            let newcomer = count;
            let mut moved = 0_u64;
            for n in 0..KEYS {
                let mut with = more.order(&key(n));
                moved += u64::from(with[0] == newcomer);
                // The others keep their order among themselves, all the way down.
                with.retain(|position| *position != newcomer);
                assert_eq!(with, few.order(&key(n)), "key {n}");
            }
            let fair = KEYS / (count as u64 + 1);
            assert!(moved.abs_diff(fair) <= fair / 10, "{moved} of {fair}");
        }
    }

    #[test]
    fn the_order_of_the_file_does_not_matter() {
        let forward = names(6);
        let backward: Vec<String> = forward.iter().rev().cloned().collect();
        let (one, other) = (candidates(&forward), candidates(&backward));
        for n in 0..1000 {
            let name_of = |candidates: &Candidates| -> Vec<String> {
                let order = candidates.order(&key(n));
                let named = order.iter().map(|at| candidates.name(*at).unwrap().into());
                named.collect()
            };
            assert_eq!(name_of(&one), name_of(&other));
        }
    }

    #[test]
    fn all_sixteen_bytes_of_the_key_count() {
        let candidates = candidates(&names(8));
        for byte in 0..16 {
            let differs = (1..=255).any(|value| {
                let mut key = [0; 16];
                key[byte] = value;
                candidates.order(&key) != candidates.order(&[0; 16])
            });
            assert!(differs, "byte {byte}");
        }
    }

    #[test]
    fn none_one_and_equal_names() {
        assert!(rendezvous(&[7; 16], [].into_iter()).is_empty());
        assert!(Candidates::default().is_empty());
        assert_eq!(
            rendezvous(&[7; 16], ["only"].into_iter()).as_slice(),
            [0_usize]
        );
        assert_eq!(
            rendezvous(&[7; 16], ["same", "same"].into_iter()).as_slice(),
            [0_usize, 1]
        );
        assert_eq!(Candidates::new(["a"]).name(1), None);
    }

    proptest! {
        #[test]
        fn an_order_is_a_permutation(
            key: [u8; 16],
            names in prop::collection::vec(".{0,20}", 0..20),
        ) {
            let candidates = candidates(&names);
            let order = candidates.order(&key);
            prop_assert_eq!(
                &order,
                &rendezvous(&key, names.iter().map(String::as_str))
            );
            let mut sorted = order.to_vec();
            sorted.sort_unstable();
            prop_assert_eq!(sorted, (0..names.len()).collect::<Vec<_>>());
        }
    }
}
