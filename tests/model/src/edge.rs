//! What an edge does.

use control::epoch;
use topology::{
    Ended, Failure, Progress, Question, State as Health, Step, Topology, Transition, Way,
    direct_comes_next, next_step, ways_with_trial,
};

use crate::state::{Answer, Ask, Errand, Hop, Object, Shown, State, Walk};
use crate::wire::{AnswerHarm, BEGIN_MS, Distrust, digest};
use crate::{FRESH_MS, Tiers};

/// The bit of the origin among the ways that were asked.
const ORIGIN: u8 = 1 << 7;

impl Tiers {
    pub(crate) fn visit(&self, state: &mut State, edge: u8, errand: Errand) {
        let now_ms = state.now_ms;
        match errand {
            Errand::Read(_) => state.left.reads -= 1,
            Errand::Order(_) => state.left.orders -= 1,
        }
        let stored = state.stored(edge, errand);
        let floor = match errand {
            Errand::Read(key) => state.edge(edge).floor[usize::from(key)],
            Errand::Order(_) => 0,
        };
        if let Some(object) = stored.filter(|object| now_ms < object.fetched_ms + FRESH_MS) {
            state.just.see(Shown::HIT);
            state.give(object.version, floor);
            return;
        }
        let direct_allowed = self.direct_allowed(state, stored);
        let at_ms = BEGIN_MS + u64::from(now_ms);
        let from = &mut state.edges[usize::from(edge)];
        let (health, reaches) = (&mut from.health, &mut from.reaches);
        let states = health.each_ref().map(|health| health.state(at_ms));
        let ways_on = reaches.each_ref().map(|reach| reach.state(at_ms));
        let question = Question {
            topology: Topology::Hash,
            key: &digest(errand).0,
            candidates: &self.candidates,
            states: &states,
            reaches: &ways_on,
            direct_allowed,
            stale_may_serve: stored.is_some() && state.site.serves_stale(),
        };
        let ways = ways_with_trial(&question, |upper| {
            (states[upper] != Health::Trial || health[upper].begin_trial(at_ms))
                && (ways_on[upper] != Health::Trial || reaches[upper].begin_trial(at_ms))
        });
        let down = (0..)
            .zip(&state.uppers)
            .filter(|(_, upper)| !upper.answers());
        let mut excused = down.fold(0, |bits, (at, _)| bits | bit(Way::Upper(at)));
        if !state.origin_up {
            excused = u8::MAX;
        }
        state.edges[usize::from(edge)].walk = Some(Walk {
            errand,
            ways: ways.to_vec(),
            ended: None,
            hop: None,
            floor,
            excused,
        });
        self.walk_on(state, edge);
    }

    fn direct_allowed(&self, state: &State, stored: Option<Object>) -> bool {
        let fallbacks = state.site.fallbacks().iter().copied();
        direct_comes_next(fallbacks, stored.is_some())
    }

    /// Goes on after an attempt, until something is on its way or the visitor is gone.
    fn walk_on(&self, state: &mut State, edge: u8) {
        loop {
            let Some(walk) = &mut state.edges[usize::from(edge)].walk else {
                return;
            };
            let step = next_step(Progress {
                safe: walk.errand.is_safe(),
                ended: walk.ended,
                another: !walk.ways.is_empty(),
                in_time: true,
            });
            if step != Step::Ask {
                if !walk.errand.is_safe() && !walk.ways.is_empty() {
                    state.just.see(Shown::NOT_REPEATED);
                }
                self.fail(state, edge);
                return;
            }
            let (way, errand) = (walk.ways.remove(0), walk.errand);
            walk.excused |= bit(way);
            let asked = match way {
                Way::Upper(at) => self.ask(state, edge, at, errand),
                Way::Origin => self.go_direct(state, edge, errand),
            };
            if asked {
                return;
            }
            let walk = state.edges[usize::from(edge)].walk.as_mut();
            walk.expect("nobody was asked, so the visitor waits").ended = Some(Ended::NothingSent);
        }
    }

    /// Sends the request to an upper tier. False: it cannot be connected to.
    fn ask(&self, state: &mut State, edge: u8, at: usize, errand: Errand) -> bool {
        let now_ms = BEGIN_MS + u64::from(state.now_ms);
        if !state.uppers[at].answers() {
            state.edges[usize::from(edge)].health[at].on_failure(now_ms, Failure::Connect);
            return false;
        }
        let to = u8::try_from(at).expect("there are two");
        let from = state.edge(edge);
        let epoch = match errand {
            Errand::Read(key) => match from.purged_ms[usize::from(key)] {
                0 => 0,
                purged_ms => epoch::told(purged_ms.into(), state.now_ms.into()),
            },
            Errand::Order(_) => 0,
        };
        let ask = Ask {
            edge,
            to,
            errand,
            epoch: u32::try_from(epoch).expect("runs are short"),
            serial: state.serial,
            ring: from.ring,
            at_ms: state.now_ms,
        };
        state.serial += 1;
        state.set_hop(edge, Hop::Going(ask));
        true
    }

    /// Asks the origin from the edge. False: it cannot be connected to.
    fn go_direct(&self, state: &mut State, edge: u8, errand: Errand) -> bool {
        state.just.see(Shown::DIRECT);
        if !state.origin_up {
            return false;
        }
        match errand {
            Errand::Read(key) => {
                let version = state.versions[usize::from(key)];
                let fetched_ms = state.now_ms;
                let object = Object {
                    key,
                    version,
                    fetched_ms,
                };
                self.deliver(state, edge, key, object, self.is_public(key));
            }
            Errand::Order(number) => {
                state.executed[usize::from(number)] += 1;
                state.edges[usize::from(edge)].walk = None;
            }
        }
        true
    }

    pub(crate) fn is_public(&self, key: u8) -> bool {
        key == 0 || !self.bounds.private
    }

    /// What an edge does with what comes back.
    pub(crate) fn believe(
        &self,
        state: &mut State,
        edge: u8,
        ask: &Ask,
        answer: &Answer,
        harm: AnswerHarm,
    ) {
        let now_ms = BEGIN_MS + u64::from(state.now_ms);
        let ring = state.edge(edge).ring;
        let seen = self.wire.come_back(answer, harm, ask, ring, state.now_ms);
        let genuine = harm == AnswerHarm::None
            && matches!(answer, Answer::Signed { ask: of, .. } if of == ask);
        let from = &mut state.edges[usize::from(edge)];
        let health = &mut from.health[usize::from(ask.to)];
        let learned = match seen {
            Ok(learned) => {
                let back = health.on_success(now_ms) == Transition::CameUp;
                state.just.see_if(back, Shown::CAME_BACK);
                state.just.see_if(!genuine, Shown::BELIEVED_FALSE);
                let reach = &mut from.reaches[usize::from(ask.to)];
                if learned.no_answer {
                    reach.on_failure(now_ms, Failure::Connect);
                    self.ended(state, edge, Ended::Unreached);
                    return;
                }
                if !learned.stored {
                    reach.on_success(now_ms);
                }
                let walk = from.walk.as_ref();
                let past = walk.is_some_and(|walk| walk.ended == Some(Ended::Unreached));
                state.just.see_if(past, Shown::PAST_CUT_OFF);
                state.just.see(Shown::ANSWERED);
                learned
            }
            Err(distrust) => {
                let (ended, failure) = match distrust {
                    Distrust::Unverified => (Ended::Unverified, Some(Failure::Unverified)),
                    Distrust::Refused => (Ended::Refused, Some(Failure::Refused)),
                    Distrust::Declined => (Ended::Declined, None),
                };
                if let Some(failure) = failure {
                    health.on_failure(now_ms, failure);
                }
                state.just.see(Shown::UNVERIFIED);
                state.just.see_if(genuine, Shown::FAILED_UNHARMED);
                self.ended(state, edge, ended);
                return;
            }
        };
        match (ask.errand, learned.content) {
            (Errand::Read(key), Some((content, version))) if learned.good => {
                let fetched_ms = ask.at_ms;
                let object = Object {
                    key: content,
                    version,
                    fetched_ms,
                };
                self.deliver(state, edge, key, object, learned.public);
            }
            // What is no content is final, and so is the answer to an order.
            (Errand::Read(_), _) => self.fail(state, edge),
            (Errand::Order(_), _) => state.edges[usize::from(edge)].walk = None,
        }
    }

    /// Stores at an edge what was fetched, and gives it to the visitor.
    fn deliver(&self, state: &mut State, edge: u8, key: u8, object: Object, public: bool) {
        let from = &mut state.edges[usize::from(edge)];
        let walk = from.walk.take().expect("somebody asked");
        let floor = from.floor[usize::from(key)];
        // The node's tickets: a fill from before a purge is not stored.
        let late = floor != walk.floor;
        if public && !late {
            from.stored[usize::from(key)] = Some(object);
            state
                .just
                .see_if(object.key != key, Shown::STORED_UNDER_ANOTHERS_KEY);
            let private = !self.is_public(object.key);
            state.just.see_if(private, Shown::STORED_PRIVATE);
            state
                .just
                .see_if(object.version < floor, Shown::STORED_PURGED);
        }
        state.just.see_if(public && late, Shown::LATE_NOT_STORED);
        state.give(object.version, walk.floor);
    }

    /// No answer: what is stale stands in where it may, or the visitor gets an error.
    fn fail(&self, state: &mut State, edge: u8) {
        let walk = state.edges[usize::from(edge)].walk.take();
        let walk = walk.expect("somebody asked");
        let stored = state.stored(edge, walk.errand);
        if let Some(object) = stored.filter(|_| state.site.serves_stale()) {
            state.just.see(Shown::STALE);
            state.give(object.version, walk.floor);
            return;
        }
        state.just.see(Shown::ERROR);
        let mut permitted = bit(Way::Upper(0)) | bit(Way::Upper(1));
        if self.direct_allowed(state, stored) {
            permitted |= ORIGIN;
        }
        let missed = walk.errand.is_safe() && permitted & !walk.excused != 0;
        state.just.see_if(missed, Shown::ERROR_WITH_A_WAY);
    }

    fn ended(&self, state: &mut State, edge: u8, ended: Ended) {
        if let Some(walk) = &mut state.edges[usize::from(edge)].walk {
            walk.ended = Some(ended);
            walk.hop = None;
        }
        self.walk_on(state, edge);
    }

    pub(crate) fn unanswered(&self, state: &mut State, edge: u8, failure: Failure) {
        let Some(Hop::Going(ask) | Hop::Coming(ask, _)) = state.hop(edge) else {
            return;
        };
        let now_ms = BEGIN_MS + u64::from(state.now_ms);
        let health = &mut state.edges[usize::from(edge)].health[usize::from(ask.to)];
        health.on_failure(now_ms, failure);
        self.ended(state, edge, Ended::Unanswered);
    }
}

/// The bit of a way among those that were asked.
pub(crate) fn bit(way: Way) -> u8 {
    match way {
        Way::Upper(at) => 1 << at,
        Way::Origin => ORIGIN,
    }
}
