//! How far each run goes.

use crate::state::{Left, NODES, Site};

/// What a hop may do, besides passing on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Hostility {
    /// Lose messages.
    pub lose: bool,
    /// Alter heads.
    pub harm: bool,
    /// Record messages, and send them again or in place of others.
    pub replay: bool,
}

/// How edge-1's key is changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Rotation {
    /// Not at all.
    #[default]
    None,
    /// In the order that the operator's page asks for.
    Careful,
    /// Each node at any time.
    Careless,
}

/// The bounds of one run: everything within them is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// What may happen how often.
    pub left: Left,
    /// What the hop may do.
    pub hostility: Hostility,
    /// How keys change.
    pub rotation: Rotation,
    /// Whether the object with key 1 is one visitor's.
    pub private: bool,
    /// Whether edge-1 begins with a stale object with key 0.
    pub stored: bool,
    /// How far the edges' clocks are ahead of the upper tiers'.
    pub skew_ms: [i32; NODES],
    /// The sites that are tried.
    pub sites: &'static [Site],
}

impl Bounds {
    /// Nothing happens.
    pub const NOTHING: Self = Self {
        left: Left {
            reads: 0,
            orders: 0,
            faults: 0,
            crashes: 0,
            cuts: 0,
            cut_offs: 0,
            steps: 0,
            purges: 0,
            outages: 0,
        },
        hostility: Hostility {
            lose: false,
            harm: false,
            replay: false,
        },
        rotation: Rotation::None,
        private: false,
        stored: false,
        skew_ms: [0; NODES],
        sites: &[Site::Strict],
    };

    /// Whether an exchange between two nodes that run may fail only if the hop did
    /// something to it.
    #[must_use]
    pub fn exchanges_hold(&self) -> bool {
        let replays = self.hostility.replay && self.left.faults > 0;
        self.rotation != Rotation::Careless
            && !replays
            && self.left.crashes == 0
            && self.left.cuts == 0
    }
}
