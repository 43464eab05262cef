//! What a moment of the system consists of.

use topology::{Ended, Health, HealthRules, Way};

/// Edges, and upper tiers.
pub const NODES: usize = 2;

/// Objects that visitors read.
pub const KEYS: usize = 2;

/// Which of edge-1's keys a node holds. Rotation takes a node through them in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Ring {
    /// The old key alone.
    Old,
    /// Signs with the old, accepts both.
    Both,
    /// Signs with the new, accepts both.
    Turned,
    /// The new key alone.
    New,
}

impl Ring {
    /// In the order of a rotation.
    pub const ALL: [Self; 4] = [Self::Old, Self::Both, Self::Turned, Self::New];

    /// The next step of a rotation.
    #[must_use]
    pub fn next(self) -> Option<Self> {
        Self::ALL.get(self as usize + 1).copied()
    }
}

/// What a visitor wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Errand {
    /// To read the object with this key: a safe request.
    Read(u8),
    /// To place the order with this number: an unsafe one.
    Order(u8),
}

impl Errand {
    /// Whether the method is safe.
    #[must_use]
    pub fn is_safe(self) -> bool {
        matches!(self, Self::Read(_))
    }
}

/// A request that an edge sealed for an upper tier.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Ask {
    /// Who sealed it.
    pub edge: u8,
    /// Whom it is for.
    pub to: u8,
    /// What is asked for.
    pub errand: Errand,
    /// What the edge says about its last purge.
    pub epoch: u32,
    /// No two attempts of a run have the same: it makes span id and nonce.
    pub serial: u8,
    /// The keys the edge held.
    pub ring: Ring,
    /// When it was sealed, milliseconds since the beginning.
    pub at_ms: u32,
}

/// What an upper tier answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Answer {
    /// A signed one.
    Signed {
        /// The request it answers.
        ask: Ask,
        /// Who answers.
        by: u8,
        /// Whether it is what was wanted; else it says that the origin was not reached.
        good: bool,
        /// Whether it came from what was stored.
        stored: bool,
        /// Key and version of the content; None for an error, and for an order.
        content: Option<(u8, u8)>,
        /// Whether everybody may have it.
        public: bool,
        /// When it was signed, milliseconds since the beginning.
        at_ms: u32,
    },
    /// A refusal of the control block, which nobody can sign.
    Refusal {
        /// Because it was seen before.
        replayed: bool,
    },
}

/// What is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Object {
    /// The object it is, whatever it is stored under.
    pub key: u8,
    /// Its version.
    pub version: u8,
    /// When the origin was asked for it, milliseconds since the beginning.
    pub fetched_ms: u32,
}

/// An upper tier.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Upper {
    /// Whether it runs.
    pub up: bool,
    /// Whether nobody reaches it.
    pub cut: bool,
    /// Whether it does not reach the origin.
    pub cut_off: bool,
    /// When it was started, milliseconds since the beginning.
    pub started_ms: u32,
    /// The keys it holds.
    pub ring: Ring,
    /// What it stores, by key.
    pub stored: [Option<Object>; KEYS],
    /// When each key was last purged, as far as it has heard; 0: never.
    pub purged_ms: [u64; KEYS],
    /// The unsafe requests it admitted, and when.
    pub admitted: Vec<(Ask, u32)>,
}

/// An exchange that is under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Hop {
    /// The request is on its way.
    Going(Ask),
    /// The answer is on its way back.
    Coming(Ask, Answer),
}

/// What an edge does for one visitor.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Walk {
    /// What is wanted.
    pub errand: Errand,
    /// The ways not taken yet.
    pub ways: Vec<Way>,
    /// How the last attempt ended.
    pub ended: Option<Ended>,
    /// The exchange under way.
    pub hop: Option<Hop>,
    /// The oldest version this visitor may be given: the one the origin had when the
    /// key was last purged here before the visitor came.
    pub floor: u8,
    /// Ways, as bits, that were asked or of which it is known that they were not up.
    pub excused: u8,
}

/// An edge.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Edge {
    /// The keys it holds.
    pub ring: Ring,
    /// What it knows of the upper tiers.
    pub health: [Health; NODES],
    /// What it knows of their ways to the origin.
    pub reaches: [Health; NODES],
    /// What it stores, by key.
    pub stored: [Option<Object>; KEYS],
    /// When each key was last purged here, milliseconds since the beginning; 0: never.
    pub purged_ms: [u32; KEYS],
    /// The origin's version when the key was last purged here.
    pub floor: [u8; KEYS],
    /// The visitor who waits.
    pub walk: Option<Walk>,
    /// When it began to sign with the new key.
    pub turned_ms: u32,
}

/// What may still happen. Every run is bounded by what it begins with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Left {
    /// Visitors who read.
    pub reads: u8,
    /// Visitors who order.
    pub orders: u8,
    /// Things a hop does to a message.
    pub faults: u8,
    /// Crashes of an upper tier.
    pub crashes: u8,
    /// Times that nobody reaches an upper tier, which goes on running.
    pub cuts: u8,
    /// Times that an upper tier alone does not reach the origin.
    pub cut_offs: u8,
    /// Times that [`crate::STEP_MS`] pass.
    pub steps: u8,
    /// Changes of the object with key 0 at the origin, each with a purge at an edge.
    pub purges: u8,
    /// Times that the origin goes down.
    pub outages: u8,
}

/// A moment.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct State {
    /// Milliseconds since the beginning.
    pub now_ms: u32,
    /// What the site falls back to.
    pub site: Site,
    /// The upper tiers.
    pub uppers: [Upper; NODES],
    /// The edges.
    pub edges: [Edge; NODES],
    /// Whether the origin answers.
    pub origin_up: bool,
    /// The origin's versions, by key.
    pub versions: [u8; KEYS],
    /// How often each order was executed.
    pub executed: Vec<u8>,
    /// Attempts so far.
    pub serial: u8,
    /// Requests that the hop recorded.
    pub requests: Vec<Ask>,
    /// Answers that the hop recorded.
    pub answers: Vec<Answer>,
    /// What may still happen.
    pub left: Left,
    /// What the last step showed.
    pub just: Shown,
}

/// What a site falls back to when no upper tier gives a verified answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Site {
    /// Nothing.
    Strict,
    /// What is stale.
    Stale,
    /// The origin itself.
    Direct,
    /// What is stale; the origin itself where nothing is.
    StaleDirect,
}

impl Site {
    /// Its fallbacks, in order.
    #[must_use]
    pub(crate) fn fallbacks(self) -> &'static [topology::Fallback] {
        use topology::Fallback::{Direct, Stale};
        match self {
            Self::Strict => &[],
            Self::Stale => &[Stale],
            Self::Direct => &[Direct],
            Self::StaleDirect => &[Stale, Direct],
        }
    }

    /// Whether something stale may stand in for an error.
    pub(crate) fn serves_stale(self) -> bool {
        self.fallbacks().contains(&topology::Fallback::Stale)
    }
}

/// What one step showed, as bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Shown(pub u32);

impl Shown {
    // What must never be seen.
    /// A visitor got an error although a permitted way was up and not asked.
    pub const ERROR_WITH_A_WAY: u32 = 1;
    /// Something was stored under another's key.
    pub const STORED_UNDER_ANOTHERS_KEY: u32 = 1 << 1;
    /// One visitor's answer was stored for everybody.
    pub const STORED_PRIVATE: u32 = 1 << 2;
    /// An answer was believed that no upper tier gave to this request.
    pub const BELIEVED_FALSE: u32 = 1 << 3;
    /// An upper tier acted upon a request that no edge sealed so.
    pub const ACTED_UPON_FALSE: u32 = 1 << 4;
    /// An upper tier acted upon a request that was sealed for another.
    pub const ACTED_FOR_ANOTHER: u32 = 1 << 5;
    /// An exchange failed that nothing had happened to.
    pub const FAILED_UNHARMED: u32 = 1 << 6;
    /// A visitor was given what was purged before the visitor came.
    pub const SERVED_PURGED: u32 = 1 << 7;
    /// Something was stored that was purged while it was fetched.
    pub const STORED_PURGED: u32 = 1 << 8;

    // What shows that a run is not empty.
    /// An upper tier answered and was believed.
    pub const ANSWERED: u32 = 1 << 16;
    /// A visitor was served from the edge's store.
    pub const HIT: u32 = 1 << 17;
    /// A stale object stood in.
    pub const STALE: u32 = 1 << 18;
    /// An edge went to the origin itself.
    pub const DIRECT: u32 = 1 << 19;
    /// An upper tier refused a control block.
    pub const REFUSED: u32 = 1 << 20;
    /// An upper tier refused one because it was seen before.
    pub const REPLAY_REFUSED: u32 = 1 << 21;
    /// An upper tier refused one because its time was over.
    pub const EXPIRED: u32 = 1 << 22;
    /// An edge did not believe an answer.
    pub const UNVERIFIED: u32 = 1 << 23;
    /// A visitor got an error.
    pub const ERROR: u32 = 1 << 24;
    /// An unsafe request was given up, with ways left.
    pub const NOT_REPEATED: u32 = 1 << 25;
    /// An upper tier did not use what an edge had purged.
    pub const EPOCH_HEEDED: u32 = 1 << 26;
    /// An upper tier that was down came up again by its trial.
    pub const CAME_BACK: u32 = 1 << 27;
    /// An upper tier answered from its store.
    pub const TIER_HIT: u32 = 1 << 28;
    /// An edge did not store what was purged while it was fetched.
    pub const LATE_NOT_STORED: u32 = 1 << 29;

    /// A way was taken past an upper tier that does not reach the origin.
    pub const PAST_CUT_OFF: u32 = 1 << 30;

    /// Adds what was seen.
    pub fn see(&mut self, what: u32) {
        self.0 |= what;
    }

    /// Whether it was seen.
    #[must_use]
    pub fn has(self, what: u32) -> bool {
        self.0 & what != 0
    }
}

impl Upper {
    /// Whether it can be connected to.
    #[must_use]
    pub fn answers(&self) -> bool {
        self.up && !self.cut
    }

    /// One that was just started.
    #[must_use]
    pub fn started(now_ms: u32, ring: Ring) -> Self {
        Self {
            up: true,
            cut: false,
            cut_off: false,
            started_ms: now_ms,
            ring,
            stored: [None; KEYS],
            purged_ms: [0; KEYS],
            admitted: Vec::new(),
        }
    }
}

/// The rules of a real edge, but for two that would multiply the states: what answered
/// badly now and then, and how warm one is, decide nothing but who is asked first.
const RULES: HealthRules = HealthRules {
    failures_to_down: 3,
    recent: 1,
    recent_failures_to_down: 0,
    out_permille_max: 500,
    down_ms: 1_000,
    trial_ms: 1_000,
    warm_ms: 0,
};

impl Edge {
    /// One that was just started.
    #[must_use]
    pub fn started() -> Self {
        Self {
            ring: Ring::Old,
            health: std::array::from_fn(|_| Health::new(RULES)),
            reaches: std::array::from_fn(|_| Health::new(RULES)),
            stored: [None; KEYS],
            purged_ms: [0; KEYS],
            floor: [0; KEYS],
            walk: None,
            turned_ms: 0,
        }
    }
}

impl Shown {
    /// Adds what was seen, if it was.
    pub(crate) fn see_if(&mut self, seen: bool, what: u32) {
        if seen {
            self.see(what);
        }
    }
}

impl State {
    pub(crate) fn upper(&self, at: u8) -> &Upper {
        &self.uppers[usize::from(at)]
    }

    pub(crate) fn edge(&self, at: u8) -> &Edge {
        &self.edges[usize::from(at)]
    }

    /// What an edge stores for what is wanted.
    pub(crate) fn stored(&self, edge: u8, errand: Errand) -> Option<Object> {
        match errand {
            Errand::Read(key) => self.edge(edge).stored[usize::from(key)],
            Errand::Order(_) => None,
        }
    }

    /// The exchange under way for an edge.
    pub(crate) fn hop(&self, edge: u8) -> Option<Hop> {
        self.edge(edge).walk.as_ref().and_then(|walk| walk.hop)
    }

    pub(crate) fn set_hop(&mut self, edge: u8, hop: Hop) {
        if let Some(walk) = &mut self.edges[usize::from(edge)].walk {
            walk.hop = Some(hop);
        }
    }

    /// Counts what the hop did.
    pub(crate) fn fault_if(&mut self, fault: bool) {
        self.left.faults -= u8::from(fault);
    }

    /// Ways that were not up while a visitor waited need not have been asked.
    pub(crate) fn excuse(&mut self, ways: u8) {
        for walk in self.edges.iter_mut().filter_map(|edge| edge.walk.as_mut()) {
            walk.excused |= ways;
        }
    }

    /// Gives a version to a visitor who may have none older than `floor`.
    pub(crate) fn give(&mut self, version: u8, floor: u8) {
        self.just.see_if(version < floor, Shown::SERVED_PURGED);
    }
}
