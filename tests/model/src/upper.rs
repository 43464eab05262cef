//! What an upper tier does.

use std::sync::Arc;

use control::{Reason, ReplayGuard, Verified};

use crate::state::{Answer, Ask, Errand, Object, Shown, State};
use crate::wire::{BEGIN_MS, RequestHarm};
use crate::{FRESH_MS, Tiers};

/// Nonces that an upper tier of the model remembers; more than there ever are.
const NONCES: usize = 64;

/// Who sent what arrives at an upper tier.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sender {
    /// The edge whose request it is, and nobody did anything to it.
    Edge,
    /// The hop.
    Hop,
}

impl Tiers {
    /// What an upper tier does with what arrives.
    pub(crate) fn serve(
        &self,
        state: &mut State,
        ask: &Ask,
        harm: RequestHarm,
        at: u8,
        from: Sender,
    ) -> Answer {
        let now_ms = state.now_ms;
        let arrived = self
            .wire
            .arrive(ask, harm, at, state.upper(at).ring, now_ms);
        let verified = arrived.and_then(|verified| self.admit(state, ask, &verified, at));
        let verified = match verified {
            Ok(verified) => verified,
            Err(reason) => {
                state.just.see(Shown::REFUSED);
                let replayed = reason == Reason::Replayed;
                state.just.see_if(replayed, Shown::REPLAY_REFUSED);
                state.just.see_if(reason == Reason::Expired, Shown::EXPIRED);
                state
                    .just
                    .see_if(from == Sender::Edge, Shown::FAILED_UNHARMED);
                return Answer::Refusal { replayed };
            }
        };
        state
            .just
            .see_if(harm != RequestHarm::None, Shown::ACTED_UPON_FALSE);
        state.just.see_if(ask.to != at, Shown::ACTED_FOR_ANOTHER);
        let (good, content) = match ask.errand {
            Errand::Read(key) => {
                let content = self.look_up(state, &verified, key, at);
                (content.is_some(), content)
            }
            Errand::Order(number) => {
                let reached = state.origin_up && !state.upper(at).cut_off;
                if reached {
                    state.executed[usize::from(number)] += 1;
                }
                (reached, None)
            }
        };
        let stored = state.just.has(Shown::TIER_HIT);
        Answer::Signed {
            ask: *ask,
            by: at,
            good,
            stored,
            content,
            public: matches!(ask.errand, Errand::Read(key) if self.is_public(key)),
            at_ms: now_ms,
        }
    }

    /// Lets an unsafe request in once. The guard is made anew from what it admitted,
    /// so that a state holds plain values.
    fn admit(
        &self,
        state: &mut State,
        ask: &Ask,
        verified: &Arc<Verified>,
        at: u8,
    ) -> Result<Arc<Verified>, Reason> {
        if verified.is_safe() {
            return Ok(Arc::clone(verified));
        }
        let upper = state.upper(at);
        let mut guard = ReplayGuard::new(NONCES, BEGIN_MS + u64::from(upper.started_ms));
        for (admitted, at_ms) in &upper.admitted {
            let known = self.wire.verified(admitted);
            let again = guard.admit(&known, BEGIN_MS + u64::from(*at_ms));
            again.expect("what was admitted once is admitted by a guard like that");
        }
        guard
            .admit(verified, BEGIN_MS + u64::from(state.now_ms))
            .map_err(|rejection| rejection.reason)?;
        let now_ms = state.now_ms;
        state.uppers[usize::from(at)].admitted.push((*ask, now_ms));
        Ok(Arc::clone(verified))
    }

    /// What an upper tier has for a key, or fetches. None: it does not reach
    /// the origin.
    fn look_up(&self, state: &mut State, verified: &Verified, key: u8, at: u8) -> Option<(u8, u8)> {
        let now_ms = state.now_ms;
        let public = self.is_public(key);
        let (version, origin_up) = (state.versions[usize::from(key)], state.origin_up);
        let upper = &mut state.uppers[usize::from(at)];
        let reached = origin_up && !upper.cut_off;
        let known_ms = &mut upper.purged_ms[usize::from(key)];
        let epoch = verified.block().epoch;
        let purged_ms = control::epoch::heard(epoch, now_ms.into(), *known_ms);
        *known_ms = purged_ms.max(*known_ms);
        let stored = &mut upper.stored[usize::from(key)];
        let fresh = stored.filter(|object| now_ms < object.fetched_ms + FRESH_MS);
        let usable =
            fresh.filter(|object| control::epoch::stands(object.fetched_ms.into(), purged_ms));
        if let Some(object) = usable {
            state.just.see(Shown::TIER_HIT);
            return Some((object.key, object.version));
        }
        state.just.see_if(fresh.is_some(), Shown::EPOCH_HEEDED);
        if !reached {
            return None;
        }
        if public {
            *stored = Some(Object {
                key,
                version,
                fetched_ms: now_ms,
            });
        }
        Some((key, version))
    }
}
