//! What a simulation is made of: chance with a seed, visitors' taste, stores.

use std::collections::HashMap;

/// SplitMix64: the same numbers on every machine.
#[derive(Debug, Clone)]
pub struct Chance(u64);

impl Chance {
    /// Numbers that follow from a seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next number.
    pub fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let value = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        value ^ (value >> 31)
    }

    /// A number below `bound`, which is not 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        ((u128::from(self.draw()) * u128::from(bound)) >> 64) as u64
    }
}

/// Zipf's law: the object of rank n is wanted in proportion to n to the minus `exponent`.
#[derive(Debug)]
pub struct Taste {
    /// Up to which draw each rank reaches, of 2^53.
    reaches: Vec<u64>,
}

impl Taste {
    /// The taste for so many objects.
    #[must_use]
    pub fn new(objects: usize, exponent: f64) -> Self {
        let weight = |rank: usize| (rank as f64 + 1.0).powf(-exponent);
        let all: f64 = (0..objects).map(weight).sum();
        let mut sum = 0.0;
        let reaches = (0..objects).map(|rank| {
            sum += weight(rank);
            (sum / all * (1_u64 << 53) as f64) as u64
        });
        Self {
            reaches: reaches.collect(),
        }
    }

    /// What the next visitor wants.
    pub fn draw(&self, chance: &mut Chance) -> u32 {
        let draw = chance.draw() >> 11;
        let rank = self.reaches.partition_point(|reach| *reach <= draw);
        rank.min(self.reaches.len() - 1) as u32
    }
}

/// A store of so many objects: the one not asked for longest goes first.
#[derive(Debug)]
pub struct Store {
    capacity: usize,
    places: HashMap<u32, u32, Plain>,
    slots: Vec<Slot>,
    newest: u32,
    oldest: u32,
}

#[derive(Debug)]
struct Slot {
    object: u32,
    /// When its origin was asked for it.
    fetched: u64,
    newer: u32,
    older: u32,
}

const NONE: u32 = u32::MAX;

impl Store {
    /// An empty one.
    #[must_use]
    pub fn new(capacity: usize) -> Self {
        Self {
            capacity,
            places: HashMap::default(),
            slots: Vec::new(),
            newest: NONE,
            oldest: NONE,
        }
    }

    /// When the origin was asked for what is stored of an object.
    pub fn look_up(&mut self, object: u32) -> Option<u64> {
        let at = *self.places.get(&object)?;
        self.unlink(at);
        self.link(at);
        Some(self.slots[at as usize].fetched)
    }

    /// Stores an object.
    pub fn put(&mut self, object: u32, fetched: u64) {
        if let Some(at) = self.places.get(&object).copied() {
            self.slots[at as usize].fetched = fetched;
            return;
        }
        let at = if self.slots.len() < self.capacity {
            self.slots.push(Slot {
                object,
                fetched,
                newer: NONE,
                older: NONE,
            });
            self.slots.len() as u32 - 1
        } else {
            let at = self.oldest;
            self.unlink(at);
            let slot = &mut self.slots[at as usize];
            self.places.remove(&slot.object);
            (slot.object, slot.fetched) = (object, fetched);
            at
        };
        self.places.insert(object, at);
        self.link(at);
    }

    fn unlink(&mut self, at: u32) {
        let (newer, older) = {
            let slot = &self.slots[at as usize];
            (slot.newer, slot.older)
        };
        match newer {
            NONE => self.newest = older,
            newer => self.slots[newer as usize].older = older,
        }
        match older {
            NONE => self.oldest = newer,
            older => self.slots[older as usize].newer = newer,
        }
    }

    fn link(&mut self, at: u32) {
        let newest = self.newest;
        let slot = &mut self.slots[at as usize];
        (slot.newer, slot.older) = (NONE, newest);
        match newest {
            NONE => self.oldest = at,
            newest => self.slots[newest as usize].newer = at,
        }
        self.newest = at;
    }
}

/// Hashes the numbers of objects by one multiplication.
#[derive(Debug, Clone, Copy, Default)]
struct Plain;

impl std::hash::BuildHasher for Plain {
    type Hasher = Multiply;

    fn build_hasher(&self) -> Multiply {
        Multiply(0)
    }
}

#[derive(Debug)]
struct Multiply(u64);

impl std::hash::Hasher for Multiply {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u32(u32::from(*byte));
        }
    }

    fn write_u32(&mut self, value: u32) {
        self.0 = (self.0 ^ u64::from(value)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        self.0 ^= self.0 >> 32;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_object_not_asked_for_longest_goes_first() {
        let mut store = Store::new(2);
        store.put(1, 10);
        store.put(2, 20);
        assert_eq!(store.look_up(1), Some(10));
        store.put(3, 30);
        assert_eq!(store.look_up(2), None);
        assert_eq!((store.look_up(1), store.look_up(3)), (Some(10), Some(30)));
        store.put(1, 40);
        assert_eq!(store.look_up(1), Some(40));
        store.put(4, 50);
        assert_eq!((store.look_up(1), store.look_up(3)), (Some(40), None));
    }

    #[test]
    fn taste_follows_its_law() {
        let taste = Taste::new(1_000, 1.0);
        let mut chance = Chance::new(1);
        let mut wanted = vec![0_u32; 1_000];
        for _ in 0..200_000 {
            wanted[taste.draw(&mut chance) as usize] += 1;
        }
        // The first is wanted ten times as often as the tenth.
        let ratio = f64::from(wanted[0]) / f64::from(wanted[9]);
        assert!((8.5..11.5).contains(&ratio), "{ratio}");
    }
}
