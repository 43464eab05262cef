//! How one moment follows another.

use control::VALIDITY_S;
use topology::{Failure, Way};

use crate::bounds::Rotation;
use crate::edge::bit;
use crate::state::{Answer, Ask, Errand, Hop, Ring, State, Upper};
use crate::upper::Sender;
use crate::wire::{AnswerHarm, RequestHarm};
use crate::{PURGE_MS, START_MS, STEP_MS, Tiers};

/// Something that happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Action {
    /// A visitor comes to an edge.
    Visit(u8, Errand),
    /// The request of an edge arrives, as the hop makes it arrive.
    Arrive(u8, RequestHarm),
    /// The answer to an edge arrives, as the hop makes it arrive.
    Return(u8, AnswerHarm),
    /// The hop loses what is on its way for an edge.
    Lose(u8),
    /// The hop records what is on its way for an edge, and passes it on.
    Record(u8),
    /// In place of an edge's request or answer, one arrives that was recorded.
    Substitute(u8, usize),
    /// What is on its way for the two edges changes places.
    Swap,
    /// A recorded request arrives at an upper tier.
    Replay(usize, u8),
    /// An upper tier crashes, and forgets everything.
    Crash(u8),
    /// It is started again.
    Start(u8),
    /// Nobody reaches an upper tier any more.
    Cut(u8),
    /// It is reached again.
    Mend(u8),
    /// An upper tier does not reach the origin any more.
    CutOff(u8),
    /// It does again.
    Reach(u8),
    /// Time passes while nobody waits.
    Pass,
    /// The object with key 0 changes at the origin, and is then purged at an edge.
    Purge(u8),
    /// The origin goes down.
    OriginDown,
    /// The origin comes back.
    OriginUp,
    /// An upper tier reads its next key file.
    TurnUpper(u8),
    /// edge-1 reads its next key file.
    TurnEdge,
}

impl Tiers {
    /// Lists what can happen now.
    pub(crate) fn possible(&self, state: &State, actions: &mut Vec<Action>) {
        for edge in [0, 1] {
            self.possible_at(state, edge, actions);
        }
        let faults = state.left.faults > 0;
        if faults && self.bounds.hostility.replay {
            let pair = state
                .edges
                .each_ref()
                .map(|edge| edge.walk.as_ref().and_then(|w| w.hop));
            let both = matches!(
                pair,
                [Some(Hop::Going(_)), Some(Hop::Going(_))]
                    | [Some(Hop::Coming(..)), Some(Hop::Coming(..))]
            );
            if both {
                actions.push(Action::Swap);
            }
            for at in 0..state.requests.len() {
                for upper in [0, 1] {
                    if state.upper(upper).answers() {
                        actions.push(Action::Replay(at, upper));
                    }
                }
            }
        }
        for upper in [0, 1] {
            let up = state.upper(upper).up;
            if up && state.left.crashes > 0 {
                actions.push(Action::Crash(upper));
            }
            if !up {
                actions.push(Action::Start(upper));
            }
            let cut = state.upper(upper).cut;
            if up && !cut && state.left.cuts > 0 {
                actions.push(Action::Cut(upper));
            }
            if cut {
                actions.push(Action::Mend(upper));
            }
            let cut_off = state.upper(upper).cut_off;
            if !cut_off && state.left.cut_offs > 0 {
                actions.push(Action::CutOff(upper));
            }
            if cut_off {
                actions.push(Action::Reach(upper));
            }
        }
        let waiting = state.edges.iter().any(|edge| edge.walk.is_some());
        if !waiting && state.left.steps > 0 {
            actions.push(Action::Pass);
        }
        if state.left.purges > 0 {
            actions.extend([Action::Purge(0), Action::Purge(1)]);
        }
        if state.origin_up && state.left.outages > 0 {
            actions.push(Action::OriginDown);
        }
        if !state.origin_up {
            actions.push(Action::OriginUp);
        }
        self.possible_turns(state, actions);
    }

    fn possible_at(&self, state: &State, edge: u8, actions: &mut Vec<Action>) {
        let Some(walk) = &state.edge(edge).walk else {
            if state.left.reads > 0 {
                actions.extend([0, 1].map(|key| Action::Visit(edge, Errand::Read(key))));
            }
            if state.left.orders > 0 {
                let number = self.bounds.left.orders - state.left.orders;
                actions.push(Action::Visit(edge, Errand::Order(number)));
            }
            return;
        };
        let hostility = self.bounds.hostility;
        let faults = state.left.faults > 0;
        if faults && hostility.lose {
            actions.push(Action::Lose(edge));
        }
        let (recorded, others) = match walk.hop {
            Some(Hop::Going(ask)) => {
                actions.push(Action::Arrive(edge, RequestHarm::None));
                if faults && hostility.harm {
                    let harms = RequestHarm::ALL.iter();
                    actions.extend(harms.map(|harm| Action::Arrive(edge, *harm)));
                }
                let same = |other: &Ask| *other == ask;
                places(&state.requests, same)
            }
            Some(Hop::Coming(_, answer)) => {
                actions.push(Action::Return(edge, AnswerHarm::None));
                if faults && hostility.harm {
                    let harms = AnswerHarm::ALL.iter();
                    actions.extend(harms.map(|harm| Action::Return(edge, *harm)));
                }
                let same = |other: &Answer| *other == answer;
                places(&state.answers, same)
            }
            None => return,
        };
        if faults && hostility.replay {
            if !recorded {
                actions.push(Action::Record(edge));
            }
            actions.extend(others.into_iter().map(|at| Action::Substitute(edge, at)));
        }
    }

    /// The order of a careful rotation: every upper tier accepts the new key before
    /// the edge signs with it, and none gives up the old one before what was signed
    /// with it has expired.
    fn possible_turns(&self, state: &State, actions: &mut Vec<Action>) {
        if self.bounds.rotation == Rotation::None {
            return;
        }
        let careless = self.bounds.rotation == Rotation::Careless;
        let edge = state.edge(0);
        let accepted = state.uppers.iter().all(|upper| upper.ring >= Ring::Both);
        let valid_ms = u32::try_from(VALIDITY_S * 1000).expect("half a minute");
        let expired = edge.ring >= Ring::Turned && state.now_ms > edge.turned_ms + valid_ms;
        if edge.ring < Ring::New && (careless || accepted) {
            actions.push(Action::TurnEdge);
        }
        for (at, upper) in [0, 1].into_iter().zip(&state.uppers) {
            let may = match upper.ring {
                Ring::Old => true,
                Ring::Both | Ring::Turned => careless || expired,
                Ring::New => false,
            };
            if may {
                actions.push(Action::TurnUpper(at));
            }
        }
    }

    /// Does what happens.
    pub(crate) fn step(&self, state: &mut State, action: Action) {
        match action {
            Action::Visit(edge, errand) => self.visit(state, edge, errand),
            Action::Arrive(edge, harm) => {
                let Some(Hop::Going(ask)) = state.hop(edge) else {
                    return;
                };
                state.fault_if(harm != RequestHarm::None);
                let from = if harm == RequestHarm::None {
                    Sender::Edge
                } else {
                    Sender::Hop
                };
                let answer = self.serve(state, &ask, harm, ask.to, from);
                state.set_hop(edge, Hop::Coming(ask, answer));
            }
            Action::Return(edge, harm) => {
                let Some(Hop::Coming(ask, answer)) = state.hop(edge) else {
                    return;
                };
                state.fault_if(harm != AnswerHarm::None);
                self.believe(state, edge, &ask, &answer, harm);
            }
            Action::Lose(edge) => {
                state.fault_if(true);
                self.unanswered(state, edge, Failure::Timeout);
            }
            Action::Record(edge) => {
                state.fault_if(true);
                match state.hop(edge) {
                    Some(Hop::Going(ask)) => state.requests.push(ask),
                    Some(Hop::Coming(_, answer)) => state.answers.push(answer),
                    None => {}
                }
            }
            Action::Substitute(edge, at) => {
                state.fault_if(true);
                match state.hop(edge) {
                    Some(Hop::Going(ask)) => {
                        let other = state.requests[at];
                        let none = RequestHarm::None;
                        let answer = self.serve(state, &other, none, ask.to, Sender::Hop);
                        state.set_hop(edge, Hop::Coming(ask, answer));
                    }
                    Some(Hop::Coming(ask, _)) => {
                        let other = state.answers[at];
                        self.believe(state, edge, &ask, &other, AnswerHarm::None);
                    }
                    None => {}
                }
            }
            Action::Swap => self.swap(state),
            Action::Replay(at, upper) => {
                state.fault_if(true);
                let ask = state.requests[at];
                self.serve(state, &ask, RequestHarm::None, upper, Sender::Hop);
            }
            Action::Crash(at) => self.crash(state, at),
            Action::Start(at) => {
                state.now_ms += START_MS;
                let Upper { ring, cut, .. } = *state.upper(at);
                state.uppers[usize::from(at)] = Upper {
                    cut,
                    ..Upper::started(state.now_ms, ring)
                };
            }
            Action::Cut(at) => {
                state.left.cuts -= 1;
                state.uppers[usize::from(at)].cut = true;
                self.lost(state, at);
            }
            Action::Mend(at) => state.uppers[usize::from(at)].cut = false,
            Action::Pass => {
                state.left.steps -= 1;
                state.now_ms += STEP_MS;
            }
            Action::Purge(edge) => {
                state.left.purges -= 1;
                state.now_ms += PURGE_MS;
                state.versions[0] += 1;
                let (now_ms, version) = (state.now_ms, state.versions[0]);
                let edge = &mut state.edges[usize::from(edge)];
                edge.stored[0] = None;
                edge.purged_ms[0] = now_ms;
                edge.floor[0] = version;
                state.now_ms += PURGE_MS;
            }
            Action::OriginDown => {
                state.left.outages -= 1;
                state.origin_up = false;
                state.excuse(u8::MAX);
            }
            Action::OriginUp => state.origin_up = true,
            Action::CutOff(at) => {
                state.left.cut_offs -= 1;
                state.uppers[usize::from(at)].cut_off = true;
            }
            Action::Reach(at) => state.uppers[usize::from(at)].cut_off = false,
            Action::TurnUpper(at) => {
                let upper = &mut state.uppers[usize::from(at)];
                upper.ring = match upper.ring {
                    Ring::Old => Ring::Both,
                    _ => Ring::New,
                };
            }
            Action::TurnEdge => {
                let edge = &mut state.edges[0];
                edge.ring = match edge.ring {
                    Ring::Old => Ring::Turned,
                    _ => Ring::New,
                };
                edge.turned_ms = state.now_ms;
            }
        }
    }

    fn crash(&self, state: &mut State, at: u8) {
        state.left.crashes -= 1;
        let Upper {
            ring, cut, cut_off, ..
        } = *state.upper(at);
        state.uppers[usize::from(at)] = Upper {
            up: false,
            cut,
            cut_off,
            ..Upper::started(0, ring)
        };
        self.lost(state, at);
    }

    /// What was on its way to an upper tier, or from it, is lost.
    fn lost(&self, state: &mut State, at: u8) {
        state.excuse(bit(Way::Upper(at.into())));
        for edge in [0, 1] {
            let hop = state.hop(edge);
            if matches!(hop, Some(Hop::Going(ask) | Hop::Coming(ask, _)) if ask.to == at) {
                self.unanswered(state, edge, Failure::Broken);
            }
        }
    }

    /// Each of the two gets the other's.
    fn swap(&self, state: &mut State) {
        state.fault_if(true);
        match (state.hop(0), state.hop(1)) {
            (Some(Hop::Going(first)), Some(Hop::Going(second))) => {
                let none = RequestHarm::None;
                let to_first = self.serve(state, &second, none, first.to, Sender::Hop);
                let to_second = self.serve(state, &first, none, second.to, Sender::Hop);
                state.set_hop(0, Hop::Coming(first, to_first));
                state.set_hop(1, Hop::Coming(second, to_second));
            }
            (Some(Hop::Coming(first, to_first)), Some(Hop::Coming(second, to_second))) => {
                self.believe(state, 0, &first, &to_second, AnswerHarm::None);
                self.believe(state, 1, &second, &to_first, AnswerHarm::None);
            }
            _ => {}
        }
    }
}

/// Whether it is among what was recorded, and where everything else is.
fn places<T>(recorded: &[T], same: impl Fn(&T) -> bool) -> (bool, Vec<usize>) {
    let others = recorded
        .iter()
        .enumerate()
        .filter(|(_, other)| !same(other));
    let others: Vec<usize> = others.map(|(at, _)| at).collect();
    (others.len() < recorded.len(), others)
}
