//! One simulation: visitors come to edges, misses travel, upper tiers fail and join.

use topology::{Candidates, Load, Question, State, Tier, Topology, Way, ways};

use crate::world::{Chance, Store, Taste};

/// How large the world is.
#[derive(Debug, Clone, Copy)]
pub struct Size {
    /// Edges.
    pub edges: usize,
    /// Upper tiers at the beginning.
    pub uppers: usize,
    /// Upper tiers that fail in the middle, and come back empty.
    pub failing: usize,
    /// Upper tiers that join towards the end.
    pub joining: usize,
    /// Regions, and regional tiers in each.
    pub regions: usize,
    /// Regional tiers in each region.
    pub regionals: usize,
    /// Objects.
    pub objects: usize,
    /// Origins that they belong to.
    pub origins: usize,
    /// Requests.
    pub requests: u64,
    /// Objects that an edge stores.
    pub edge_store: usize,
    /// Objects that an upper tier or a regional one stores.
    pub tier_store: usize,
    /// How long objects are fresh on average, in requests.
    pub fresh: u64,
    /// Zipf's exponent.
    pub exponent: f64,
}

impl Size {
    /// How long one object is fresh: each by its own lifetime, or all that were fetched
    /// in the beginning would be stale in the same moment.
    fn lasts(&self, object: u32) -> u64 {
        let draw = Chance::new(1 << 41 | u64::from(object)).below(self.fresh);
        self.fresh / 2 + draw
    }
}

/// How misses travel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Plan {
    /// From the edge to the origin.
    OneTier,
    /// To the upper tier that the key's number names, modulo their count.
    Modulo,
    /// `single`.
    Single,
    /// `hash`.
    Hash,
    /// `hash` with bounded load, in percent.
    Bounded(u32),
    /// `regional`.
    Regional,
}

impl Plan {
    /// In the order of the page.
    pub const ALL: [Self; 6] = [
        Self::OneTier,
        Self::Modulo,
        Self::Single,
        Self::Hash,
        Self::Bounded(125),
        Self::Regional,
    ];

    /// Its name on the page.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::OneTier => "one tier",
            Self::Modulo => "modulo",
            Self::Single => "single",
            Self::Hash => "hash",
            Self::Bounded(_) => "hash, load bounded",
            Self::Regional => "regional",
        }
    }
}

/// Parts of the run that are told apart on the page.
pub const PARTS: usize = 100;

/// When, in parts, upper tiers fail, when they come back, and when others join.
pub const FAIL: usize = 50;
/// When those that failed come back.
pub const RETURN: usize = 60;
/// When others join.
pub const JOIN: usize = 80;
/// Figures of the steady state begin here and end at [`FAIL`].
pub const STEADY: usize = 30;

/// What came of one.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// Fetches from origins, by part.
    pub fetches: Vec<u64>,
    /// Requests of the steady state.
    pub requests: u64,
    /// Of these, answered by edges.
    pub edge_hits: u64,
    /// Asked of regional tiers, and answered by them.
    pub regional: (u64, u64),
    /// Asked of upper tiers, and answered by them.
    pub upper: (u64, u64),
    /// Requests of the steady state at each upper tier.
    pub loads: Vec<u64>,
}

impl Outcome {
    /// Fetches of the steady state for a thousand requests.
    #[must_use]
    pub fn fetches_per_1000(&self) -> f64 {
        let fetches: u64 = self.fetches[STEADY..FAIL].iter().sum();
        fetches as f64 * 1000.0 / self.requests as f64
    }

    /// The worst part from one on, against the steady state.
    #[must_use]
    pub fn worst_after(&self, part: usize, parts: usize) -> f64 {
        let steady: u64 = self.fetches[STEADY..FAIL].iter().sum();
        let steady = steady as f64 / (FAIL - STEADY) as f64;
        let worst = self.fetches[part..part + parts].iter().max();
        worst.map_or(0.0, |worst| *worst as f64 / steady)
    }

    /// The load of the upper tier that has most, against the mean.
    #[must_use]
    pub fn peak_to_mean(&self) -> Option<f64> {
        let sum: u64 = self.loads.iter().sum();
        let most = self.loads.iter().max()?;
        (sum > 0).then(|| *most as f64 * self.loads.len() as f64 / sum as f64)
    }
}

/// The digest of an object's key, or of an origin's name.
#[must_use]
pub fn digest(number: u64) -> [u8; 16] {
    let mut chance = Chance::new(number);
    let (low, high) = (u128::from(chance.draw()), u128::from(chance.draw()));
    (low | high << 64).to_le_bytes()
}

struct World {
    size: Size,
    plan: Plan,
    /// Regional tiers of a region first, then upper tiers.
    candidates: Vec<Candidates>,
    upper_names: Vec<String>,
    up: Vec<bool>,
    edges: Vec<Store>,
    regionals: Vec<Store>,
    uppers: Vec<Store>,
    /// Which upper tier is first for an object, while nothing changes.
    known: Vec<u16>,
    /// Which regional tier is, in each region. They neither fail nor join.
    known_regional: Vec<Vec<u16>>,
    recent: Vec<u32>,
    origin_of: Vec<[u8; 16]>,
}

const UNKNOWN: u16 = u16::MAX;

/// Requests after which what an upper tier had to do counts half.
const LOAD_WINDOW: u64 = 20_000;

/// Simulates one plan.
#[must_use]
pub fn run(size: Size, plan: Plan) -> Outcome {
    let mut world = World::new(size, plan);
    let taste = Taste::new(size.objects, size.exponent);
    let mut chance = Chance::new(7);
    let mut outcome = Outcome {
        fetches: vec![0; PARTS],
        requests: 0,
        edge_hits: 0,
        regional: (0, 0),
        upper: (0, 0),
        loads: vec![0; size.uppers],
    };
    let part_requests = size.requests / PARTS as u64;
    for now in 0..part_requests * PARTS as u64 {
        let part = (now / part_requests) as usize;
        if now % part_requests == 0 {
            world.change(part);
        }
        if now % LOAD_WINDOW == 0 {
            world.recent.iter_mut().for_each(|load| *load /= 2);
        }
        let edge = chance.below(size.edges as u64) as usize;
        let object = taste.draw(&mut chance);
        let steady = (STEADY..FAIL).contains(&part);
        let seen = world.visit(edge, object, now);
        outcome.fetches[part] += u64::from(seen.fetched);
        if steady {
            outcome.requests += 1;
            outcome.edge_hits += u64::from(seen.edge_hit);
            let count = |of: &mut (u64, u64), hit: Option<bool>| {
                of.0 += u64::from(hit.is_some());
                of.1 += u64::from(hit == Some(true));
            };
            count(&mut outcome.regional, seen.regional);
            count(&mut outcome.upper, seen.upper.map(|(_, hit)| hit));
            if let Some((at, _)) = seen.upper {
                outcome.loads[at] += 1;
            }
        }
    }
    outcome
}

/// The way of one request.
#[derive(Debug, Default)]
struct Seen {
    edge_hit: bool,
    regional: Option<bool>,
    upper: Option<(usize, bool)>,
    fetched: bool,
}

impl World {
    fn new(size: Size, plan: Plan) -> Self {
        let all = size.uppers + size.joining;
        let upper_names = (1..=all).map(|n| format!("upper-{n}")).collect();
        let regions = if plan == Plan::Regional {
            size.regions
        } else {
            1
        };
        let stores = |count, capacity| (0..count).map(|_| Store::new(capacity)).collect();
        let mut world = Self {
            size,
            plan,
            candidates: Vec::new(),
            upper_names,
            up: (0..all).map(|at| at < size.uppers).collect(),
            edges: stores(size.edges, size.edge_store),
            regionals: stores(size.regions * size.regionals, size.tier_store),
            uppers: stores(all, size.tier_store),
            known: vec![UNKNOWN; size.objects],
            known_regional: vec![vec![UNKNOWN; size.objects]; regions],
            recent: vec![0; all],
            origin_of: (0..size.objects)
                .map(|object| digest(1 << 40 | (object % size.origins) as u64))
                .collect(),
        };
        world.learn(size.uppers);
        world
    }

    /// Every node reads a file that names so many upper tiers.
    fn learn(&mut self, uppers: usize) {
        let regional =
            |region: usize| (0..self.size.regionals).map(move |n| format!("regional-{region}-{n}"));
        let regions = self.known_regional.len();
        self.candidates = (0..regions)
            .map(|region| {
                let count = if regions > 1 { self.size.regionals } else { 0 };
                let regionals: Vec<String> = regional(region).take(count).collect();
                let middle = regionals
                    .iter()
                    .map(|name| (name.as_str(), 1, Tier::Regional));
                let upper = self.upper_names[..uppers].iter();
                let upper = upper.map(|name| (name.as_str(), 1, Tier::Upper));
                Candidates::of(middle.chain(upper))
            })
            .collect();
        self.known.fill(UNKNOWN);
    }

    fn change(&mut self, part: usize) {
        match part {
            FAIL => {
                for at in 0..self.size.failing {
                    self.up[at] = false;
                    self.uppers[at] = Store::new(self.size.tier_store);
                }
                self.known.fill(UNKNOWN);
            }
            RETURN => {
                self.up[..self.size.failing].fill(true);
                self.known.fill(UNKNOWN);
            }
            JOIN => {
                self.up.fill(true);
                self.learn(self.size.uppers + self.size.joining);
            }
            _ => {}
        }
    }

    fn visit(&mut self, edge: usize, object: u32, now: u64) -> Seen {
        let mut seen = Seen::default();
        let lasts = self.size.lasts(object);
        let fresh = |fetched: &u64| now < fetched + lasts;
        if self.edges[edge].look_up(object).filter(fresh).is_some() {
            seen.edge_hit = true;
            return seen;
        }
        let fetched = self.fill(edge, object, now, &mut seen);
        self.edges[edge].put(object, fetched);
        seen
    }

    fn fill(&mut self, edge: usize, object: u32, now: u64, seen: &mut Seen) -> u64 {
        if self.plan != Plan::Regional {
            return self.ask_upper(0, object, now, seen);
        }
        let region = edge % self.size.regions;
        let known = self.known_regional[region][object as usize];
        let at = if known == UNKNOWN {
            let first = self.first(region, object, None);
            self.known_regional[region][object as usize] = first as u16;
            first
        } else {
            known.into()
        };
        let store = region * self.size.regionals + at;
        let lasts = self.size.lasts(object);
        let fresh = |fetched: &u64| now < fetched + lasts;
        if let Some(fetched) = self.regionals[store].look_up(object).filter(fresh) {
            seen.regional = Some(true);
            return fetched;
        }
        seen.regional = Some(false);
        let fetched = self.ask_upper(region, object, now, seen);
        self.regionals[store].put(object, fetched);
        fetched
    }

    fn ask_upper(&mut self, region: usize, object: u32, now: u64, seen: &mut Seen) -> u64 {
        let upper = match self.plan {
            Plan::OneTier => None,
            Plan::Modulo => Some(self.modulo(object)),
            Plan::Bounded(percent) => Some(self.first_with_room(object, percent)),
            _ => Some(self.known_first(region, object)),
        };
        let Some(at) = upper else {
            seen.fetched = true;
            return now;
        };
        self.recent[at] += 1;
        let lasts = self.size.lasts(object);
        let fresh = |fetched: &u64| now < fetched + lasts;
        let stored = self.uppers[at].look_up(object).filter(fresh);
        seen.upper = Some((at, stored.is_some()));
        stored.unwrap_or_else(|| {
            seen.fetched = true;
            self.uppers[at].put(object, now);
            now
        })
    }

    fn modulo(&self, object: u32) -> usize {
        let known = self.candidates[0].len();
        let up: Vec<usize> = (0..known).filter(|at| self.up[*at]).collect();
        let draw = Chance::new(object.into()).draw();
        up[(draw % up.len() as u64) as usize]
    }

    fn known_first(&mut self, region: usize, object: u32) -> usize {
        let known = self.known[object as usize];
        if known != UNKNOWN {
            return known.into();
        }
        let asker = (self.plan == Plan::Regional).then_some(Tier::Regional);
        let first = self.first(region, object, asker);
        self.known[object as usize] = first as u16;
        first
    }

    /// The first way of a node: of an upper tier its number among them, of a regional
    /// one its number in the region.
    fn first(&self, region: usize, object: u32, asker: Option<Tier>) -> usize {
        let topology = match self.plan {
            Plan::Single => Topology::Single {
                origin: &self.origin_of[object as usize],
            },
            Plan::Regional => Topology::Regional { asker, load: None },
            _ => Topology::Hash,
        };
        self.ask(region, object, topology)
    }

    fn first_with_room(&self, object: u32, percent: u32) -> usize {
        let known = self.candidates[0].len();
        let load = Load {
            requests: &self.recent[..known],
            percent,
            free: 0,
        };
        self.ask(0, object, Topology::Bounded(load))
    }

    fn ask(&self, region: usize, object: u32, topology: Topology<'_>) -> usize {
        let candidates = &self.candidates[region];
        let middle = candidates.len() - self.candidates_upper(region);
        let states: Vec<State> = (0..candidates.len())
            .map(|at| match at.checked_sub(middle) {
                Some(upper) if !self.up[upper] => State::Down { until_ms: 1 },
                _ => State::Up,
            })
            .collect();
        let ways = ways(&Question {
            topology,
            key: &digest(object.into()),
            candidates,
            states: &states,
            reaches: &[],
            direct_allowed: false,
            stale_may_serve: false,
        });
        match ways.first() {
            Some(Way::Upper(at)) if *at >= middle => at - middle,
            Some(Way::Upper(at)) => *at,
            _ => 0,
        }
    }

    fn candidates_upper(&self, region: usize) -> usize {
        let candidates = &self.candidates[region];
        let tiers = (0..candidates.len()).filter_map(|at| candidates.tier(at));
        tiers.filter(|tier| *tier == Tier::Upper).count()
    }
}

/// Of so many keys, in percent: how many another upper tier answers for after one of
/// `uppers` leaves, and after one more joins; by modulo and by hashing.
#[must_use]
pub fn moved(uppers: usize, keys: u64) -> [(f64, f64); 2] {
    let names: Vec<String> = (1..=uppers + 1).map(|n| format!("upper-{n}")).collect();
    let of = |count: usize| Candidates::new(names[..count].iter().map(String::as_str));
    let (less, all, more) = (of(uppers - 1), of(uppers), of(uppers + 1));
    let percent = |count: u64| count as f64 * 100.0 / keys as f64;
    let count =
        |moves: &dyn Fn(u64) -> bool| percent((0..keys).filter(|key| moves(*key)).count() as u64);
    let number = |key: u64, count: usize| Chance::new(key).draw() % count as u64;
    let modulo = |other: usize| count(&|key| number(key, uppers) != number(key, other));
    let hash = |other: &Candidates| {
        count(&|key| all.order(&digest(key))[0] != other.order(&digest(key))[0])
    };
    [
        (modulo(uppers - 1), modulo(uppers + 1)),
        (hash(&less), hash(&more)),
    ]
}
