//! The protocol between the tiers as a state model, for a checker that looks at
//! every order in which things can happen.
//!
//! Two edges, two upper tiers, an origin, and a hop between the tiers that loses,
//! alters, records and repeats messages. What decides is not described here once
//! more: a step of the model calls `topology` (ways, walk, health) and `control`
//! (seal, verify, sign, nonces, epochs), the functions the nodes call, over real
//! heads with real keys. What the nodes do around them, wait and store, is the
//! model's own and kept small.
//!
//! * `state` is what a moment consists of, `steps` how one follows another, `edge` and
//!   `upper` what the nodes do, `wire` what goes over the hop, `bounds` how far a run
//!   goes.
//! * `tests/protocol.rs` runs it; `docs/model.md` says what is shown and what is not.

#![cfg_attr(test, allow(clippy::unwrap_used))]

mod bounds;
mod edge;
mod state;
mod steps;
mod upper;
mod wire;

pub use bounds::{Bounds, Hostility, Rotation};
pub use state::{
    Answer, Ask, Edge, Errand, Hop, KEYS, Left, NODES, Object, Ring, Shown, Site, State, Upper,
    Walk,
};
pub use steps::Action;
pub use wire::{AnswerHarm, BEGIN_MS, Distrust, EDGES, Learned, RequestHarm, UPPERS, Wire};

use stateright::{Model, Property};
use topology::Candidates;

/// How much time passes at once: what was fresh is stale after it, one step lies
/// within a signature's validity and two lie beyond, and health has forgotten.
pub const STEP_MS: u32 = 20_000;

/// How long an object is fresh.
pub const FRESH_MS: u32 = 10_000;

/// How far a purge lies from what comes before and after it.
pub const PURGE_MS: u32 = 100;

/// How long it takes at least to start again after a crash.
pub const START_MS: u32 = 1_000;

/// The model: bounds, and a wire.
#[derive(Debug)]
pub struct Tiers {
    bounds: Bounds,
    wire: Wire,
    candidates: Candidates,
}

impl Tiers {
    /// A model within these bounds.
    #[must_use]
    pub fn new(bounds: Bounds) -> Self {
        Self {
            bounds,
            wire: Wire::new(bounds.skew_ms),
            candidates: Candidates::new(UPPERS),
        }
    }

    fn begin(&self, site: Site) -> State {
        let mut edges = [Edge::started(), Edge::started()];
        if self.bounds.stored {
            // Fetched so long ago that it is stale.
            edges[0].stored[0] = Some(Object {
                key: 0,
                version: 1,
                fetched_ms: 0,
            });
        }
        State {
            now_ms: STEP_MS,
            site,
            uppers: std::array::from_fn(|_| Upper::started(0, Ring::Old)),
            edges,
            origin_up: true,
            versions: [1; KEYS],
            executed: vec![0; self.bounds.left.orders.into()],
            serial: 0,
            requests: Vec::new(),
            answers: Vec::new(),
            left: self.bounds.left,
            just: Shown::default(),
        }
    }
}

impl Model for Tiers {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        let sites = self.bounds.sites.iter();
        sites.map(|site| self.begin(*site)).collect()
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        self.possible(state, actions);
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        let mut state = last.clone();
        state.just = Shown::default();
        self.step(&mut state, action);
        Some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        let mut properties = vec![
            never::<{ Shown::BELIEVED_FALSE }>("no false answer believed"),
            never::<{ Shown::ACTED_UPON_FALSE }>("no false request acted upon"),
            never::<{ Shown::ACTED_FOR_ANOTHER }>("no other node's request acted upon"),
            never::<{ Shown::STORED_UNDER_ANOTHERS_KEY }>("nothing stored under another's key"),
            never::<{ Shown::STORED_PRIVATE }>("nothing private stored for everybody"),
            never::<{ Shown::SERVED_PURGED }>("nothing purged served"),
            never::<{ Shown::STORED_PURGED }>("nothing purged stored again"),
            Property::always("no order executed twice", |_, state: &State| {
                state.executed.iter().all(|times| *times <= 1)
            }),
            never::<{ Shown::ERROR_WITH_A_WAY }>("no error while a permitted way is up"),
        ];
        if self.bounds.exchanges_hold() {
            properties.push(never::<{ Shown::FAILED_UNHARMED }>(
                "no exchange fails unharmed",
            ));
        }
        self.sights(&mut properties);
        properties
    }
}

impl Tiers {
    /// What has to be seen, or the run would show nothing.
    fn sights(&self, properties: &mut Vec<Property<Self>>) {
        let Bounds {
            left,
            hostility,
            rotation,
            ..
        } = self.bounds;
        let has = |site| self.bounds.sites.contains(&site);
        let faults = left.faults > 0;
        let (harm, replay) = (faults && hostility.harm, faults && hostility.replay);
        let direct = has(Site::Direct) || has(Site::StaleDirect);
        let stale = self.bounds.stored && (has(Site::Stale) || has(Site::StaleDirect));
        let unusable = (faults && (hostility.lose || harm)) || left.crashes > 0 || left.cuts > 0;
        let all_unusable = left.faults >= 2 || left.crashes + left.cuts >= 2;
        let mut wanted = vec![(
            true,
            sometimes::<{ Shown::ANSWERED }>("an answer is believed"),
        )];
        wanted.extend([
            (harm, sometimes::<{ Shown::REFUSED }>("a block is refused")),
            (
                harm,
                sometimes::<{ Shown::UNVERIFIED }>("an answer is not believed"),
            ),
            (left.reads > 1, sometimes::<{ Shown::HIT }>("an edge hits")),
            (
                left.reads > 1,
                sometimes::<{ Shown::TIER_HIT }>("an upper tier hits"),
            ),
            (
                direct && unusable && all_unusable && left.reads + left.orders > 0,
                sometimes::<{ Shown::DIRECT }>("an edge goes direct"),
            ),
            (
                stale && (left.outages > 0 || (unusable && all_unusable)),
                sometimes::<{ Shown::STALE }>("a stale object stands in"),
            ),
            (
                replay && left.orders > 0,
                sometimes::<{ Shown::REPLAY_REFUSED }>("a replay is refused"),
            ),
            (
                replay && left.steps > 1,
                sometimes::<{ Shown::EXPIRED }>("an old request is refused"),
            ),
            (
                left.cut_offs > 0,
                sometimes::<{ Shown::PAST_CUT_OFF }>("a way leads past one that is cut off"),
            ),
            (
                left.orders > 0 && faults,
                sometimes::<{ Shown::NOT_REPEATED }>("an order is not repeated"),
            ),
            (
                left.purges > 0 && left.reads > 1,
                sometimes::<{ Shown::EPOCH_HEEDED }>("an epoch is heeded"),
            ),
            (
                left.purges > 0,
                sometimes::<{ Shown::LATE_NOT_STORED }>("what comes too late is not stored"),
            ),
            (
                left.crashes > 0 && left.steps > 0 && left.reads > 1,
                sometimes::<{ Shown::CAME_BACK }>("an upper tier comes back"),
            ),
            (
                rotation == Rotation::Careless,
                sometimes::<{ Shown::REFUSED }>("a careless rotation is noticed"),
            ),
            (
                rotation != Rotation::None,
                Property::sometimes("a rotation completes", |_, state: &State| {
                    let uppers = state.uppers.iter().map(|upper| upper.ring);
                    uppers
                        .chain([state.edges[0].ring])
                        .all(|ring| ring == Ring::New)
                }),
            ),
        ]);
        properties.extend(
            wanted
                .into_iter()
                .filter_map(|(wanted, property)| wanted.then_some(property)),
        );
    }
}

fn never<const WHAT: u32>(name: &'static str) -> Property<Tiers> {
    Property::always(name, |_, state: &State| !state.just.has(WHAT))
}

fn sometimes<const WHAT: u32>(name: &'static str) -> Property<Tiers> {
    Property::sometimes(name, |_, state: &State| state.just.has(WHAT))
}
