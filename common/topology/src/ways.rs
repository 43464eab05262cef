//! The ways to content for one request, in the order in which they are tried.

use smallvec::SmallVec;

use crate::{Auto, Candidates, Load, Order, State, Tier};

/// One way to content.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Way {
    /// The upper tier at this position among the candidates.
    Upper(usize),
    /// The origin itself.
    Origin,
}

/// Ways, first choice first.
pub type Ways = SmallVec<[Way; 8]>;

/// How a site's misses travel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Topology<'a> {
    /// Straight to the origin.
    Off,
    /// Over one upper tier for everything of an origin, by rendezvous hashing of the
    /// origin. The others stand by.
    Single {
        /// Digest of the origin's name.
        origin: &'a [u8; 16],
    },
    /// Over the upper tiers, by rendezvous hashing of the primary key.
    Hash,
    /// The same, and none is given more than its share of requests by a factor.
    Bounded(Load<'a>),
    /// From an edge over the regional tiers, by rendezvous hashing of the primary key,
    /// and from these over the upper tiers in the same way. An edge goes straight to
    /// the upper tiers where no regional one is up.
    Regional {
        /// The tier of the node that asks; None: it is an edge.
        asker: Option<Tier>,
        /// Bounds what one is given, within its tier.
        load: Option<Load<'a>>,
    },
    /// Over the upper tier that is nearest to the origin, as measured; until somebody
    /// was measured, as over a single one.
    Auto {
        /// What was measured for the origin.
        auto: &'a Auto,
        /// Digest of the origin's name.
        origin: &'a [u8; 16],
    },
}

impl Topology<'_> {
    /// Whom a node of that tier may ask, best first, whatever their states. Who is of
    /// another tier than the site goes over stands by, behind all others.
    fn order(&self, key: &[u8; 16], candidates: &Candidates) -> Order {
        let of = |tier, load: Option<&Load<'_>>| {
            let mut order = candidates.order(key);
            order.retain(|position| candidates.tier(*position) == Some(tier));
            match load {
                Some(load) => load.bound(candidates, order),
                None => order,
            }
        };
        let both = |first, second, load| {
            let mut order = of(first, load);
            order.append(&mut of(second, load));
            order
        };
        match self {
            Self::Off => Order::new(),
            Self::Single { origin } => candidates.first_of(Tier::Upper, candidates.order(origin)),
            Self::Hash => candidates.first_of(Tier::Upper, candidates.order(key)),
            Self::Bounded(load) => both(Tier::Upper, Tier::Regional, Some(load)),
            Self::Regional { asker, load } => match asker {
                None => both(Tier::Regional, Tier::Upper, load.as_ref()),
                Some(Tier::Regional) => of(Tier::Upper, load.as_ref()),
                Some(Tier::Upper) => Order::new(),
            },
            Self::Auto { auto, origin } => {
                candidates.first_of(Tier::Upper, auto.rank(candidates.order(origin)))
            }
        }
    }
}

/// What [`ways`] is asked.
#[derive(Debug, Clone, Copy)]
pub struct Question<'a> {
    /// How the site's misses travel.
    pub topology: Topology<'a>,
    /// Digest of the primary key.
    pub key: &'a [u8; 16],
    /// The upper tiers this node may ask.
    pub candidates: &'a Candidates,
    /// Their states now, position by position. A candidate without one is up.
    pub states: &'a [State],
    /// How each of them gets to the site's origin now, as it says itself, position by
    /// position: down, it is cut off from there. A candidate without one reaches it.
    pub reaches: &'a [State],
    /// Whether the site lets this node go to the origin itself.
    pub direct_allowed: bool,
    /// Whether something stale stands in if nobody answers.
    pub stale_may_serve: bool,
}

/// Lists the ways for one request.
///
/// Without upper tiers the origin is the only way, whatever `direct_allowed` says:
/// it speaks of going around upper tiers, and there are none to go around.
///
/// With them come those that are up, in the key's order, among them those that came
/// up a moment ago and take this key already; then the others of these; then those in
/// trial, for which the caller must hold [`crate::Health::begin_trial`]; then those
/// that are cut off from the origin, for they may have it in store; then, where
/// the origin may not be asked, those that are down: they may have come back since, and
/// a small chance is better than a certain error. Where something stale stands in, that
/// is no error, and they are asked only if nobody is up. Then comes the origin, where
/// allowed. Where it is and all are cut off, one of them is enough: what the others
/// hold is not this key's.
///
/// While any upper tier is up no request reaches one in trial, so that no visitor
/// waits for a node that was down a moment ago. Whoever keeps the states therefore
/// has to probe what is in trial, or it would stay there.
///
/// Never empty.
#[must_use]
pub fn ways(question: &Question<'_>) -> Ways {
    let order = question.topology.order(question.key, question.candidates);
    if order.is_empty() {
        return SmallVec::from_slice(&[Way::Origin]);
    }
    let mut up = Ways::new();
    let mut warming = Ways::new();
    let mut trial = Ways::new();
    let mut cut_off = Ways::new();
    let mut down = Ways::new();
    for position in order {
        let is_cut_off = matches!(question.reaches.get(position), Some(State::Down { .. }));
        let class = match question.states.get(position) {
            Some(State::Down { .. }) => &mut down,
            _ if is_cut_off => &mut cut_off,
            Some(State::Up) | None => &mut up,
            Some(State::Warming { permille }) if place(question.key) < *permille => &mut up,
            Some(State::Warming { .. }) => &mut warming,
            Some(State::Trial) => &mut trial,
        };
        class.push(Way::Upper(position));
    }
    up.append(&mut warming);
    let nobody_is_up = up.is_empty() && cut_off.is_empty();
    let only_hope = !question.direct_allowed && (nobody_is_up || !question.stale_may_serve);
    let mut ways = up;
    ways.append(&mut trial);
    if question.direct_allowed && ways.is_empty() {
        cut_off.truncate(1);
    }
    ways.append(&mut cut_off);
    if only_hope {
        ways.append(&mut down);
    }
    if question.direct_allowed {
        ways.push(Way::Origin);
    }
    ways
}

/// Where a key stands among those that come back to an upper tier, of a thousand: the
/// same at every node, so that edges disagree as little as their clocks do.
fn place(key: &[u8; 16]) -> u16 {
    let [.., high, low] = *key;
    u16::from_be_bytes([high, low]) % 1000
}

/// Lists the ways for one request, the trial of an upper tier included.
///
/// One whose time down is over is tried by the next request it is the first choice
/// of, one at a time; nobody else has to find out. `begin_trial` claims the trial of
/// the upper tier at a position, as [`crate::Health::begin_trial`] does, of its way to
/// the origin likewise, or of both, and is asked
/// only where this request would be the one. Elsewhere an upper tier in trial counts
/// as one that is up: if this request's first choice fails, it may be the way out.
#[must_use]
pub fn ways_with_trial(question: &Question<'_>, begin_trial: impl FnOnce(usize) -> bool) -> Ways {
    let untried = |states: &[State]| -> SmallVec<[State; 8]> {
        let state = |state: &State| match state {
            State::Trial => State::Up,
            other => *other,
        };
        states.iter().map(state).collect()
    };
    let mut states = untried(question.states);
    let mut reaches = untried(question.reaches);
    let ask = |states: &[State], reaches: &[State]| {
        ways(&Question {
            states,
            reaches,
            ..*question
        })
    };
    let chosen = ask(&states, &reaches);
    let Some(Way::Upper(first)) = chosen.first().copied() else {
        return chosen;
    };
    let in_trial = |states: &[State]| states.get(first) == Some(&State::Trial);
    let (tier, reach) = (in_trial(question.states), in_trial(question.reaches));
    if !(tier || reach) || begin_trial(first) {
        return chosen;
    }
    // Somebody else was faster.
    let taken = if tier { &mut states } else { &mut reaches };
    if let Some(state) = taken.get_mut(first) {
        *state = State::Down { until_ms: 0 };
    }
    ask(&states, &reaches)
}

#[cfg(test)]
mod tests;
