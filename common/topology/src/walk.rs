//! The walk over the ways: after an attempt ended so, what next.
//!
//! What must stay true:
//!
//! * A verified answer is final, an origin's error included. One in which an upper tier
//!   says that no origin answered it is none of an origin's: it is a word about that
//!   upper tier, and the walk goes on.
//! * A request that is not safe and that somebody may have acted upon is never sent
//!   again, by no way and for no reason: a second order is worse than an error.
//! * A safe request takes every way there is, as long as there is time.

/// How an attempt by one way ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Ended {
    /// Nothing was sent: no address, no connection, no TLS, or no request built.
    NothingSent,
    /// A verified answer says that nothing was sent on: no origin server could be
    /// connected to from there.
    Unreached,
    /// Something was sent and no whole head of an answer came back, to us or, as a
    /// verified answer says, to whom we asked. Nobody knows whether the origin acted
    /// on it.
    Unanswered,
    /// An answer came whose signature is missing or wrong. Who wrote it is unknown,
    /// and what happened behind it too.
    Unverified,
    /// Something calls itself an upper tier that refuses our control block. It cannot
    /// sign that, so anybody on the hop could have said it.
    Refused,
    /// The same for a refusal of this request alone, such as a head too large.
    Declined,
    /// An origin's answer that may be acted upon: its own, or a verified one.
    Verified,
}

impl Ended {
    /// Every ending, for tables.
    pub const ALL: [Self; 7] = [
        Self::NothingSent,
        Self::Unreached,
        Self::Unanswered,
        Self::Unverified,
        Self::Refused,
        Self::Declined,
        Self::Verified,
    ];
}

/// What [`next_step`] is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Progress {
    /// Whether the method is safe (RFC 9110 §9.2.1).
    pub safe: bool,
    /// How the last attempt ended; None before the first.
    pub ended: Option<Ended>,
    /// Whether there is a way that was not asked yet.
    pub another: bool,
    /// Whether there is time left for an answer.
    pub in_time: bool,
}

/// What to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Step {
    /// Ask by the next way.
    Ask,
    /// Take the answer.
    Take,
    /// Ask nobody else. What is stale stands in where it may; else it is an error.
    GiveUp,
}

/// Decides what follows the last attempt at a request.
#[must_use]
pub fn next_step(progress: Progress) -> Step {
    let may_go_on = match progress.ended {
        Some(Ended::Verified) => return Step::Take,
        None | Some(Ended::NothingSent | Ended::Unreached) => true,
        Some(Ended::Unanswered | Ended::Unverified | Ended::Refused | Ended::Declined) => {
            progress.safe
        }
    };
    if may_go_on && progress.another && progress.in_time {
        Step::Ask
    } else {
        Step::GiveUp
    }
}

/// What a site falls back to when no upper tier gives a verified answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Fallback {
    /// What is stored, though stale.
    Stale,
    /// The origin itself.
    Direct,
}

/// Whether the origin itself is asked after the upper tiers: the site allows it, and
/// nothing stale goes first.
#[must_use]
pub fn direct_comes_next(
    fallbacks: impl IntoIterator<Item = Fallback>,
    stale_may_serve: bool,
) -> bool {
    for fallback in fallbacks {
        match fallback {
            Fallback::Direct => return true,
            Fallback::Stale if stale_may_serve => return false,
            Fallback::Stale => {}
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_have_been_executed_is_repeated_only_if_it_is_safe() {
        use Ended::{Declined, NothingSent, Refused, Unanswered, Unreached, Unverified, Verified};
        use Step::{Ask, GiveUp, Take};
        // How it ended; then with a safe method, and with one that is not.
        let cases = [
            (None, Ask, Ask),
            (Some(NothingSent), Ask, Ask),
            (Some(Unreached), Ask, Ask),
            (Some(Unanswered), Ask, GiveUp),
            (Some(Unverified), Ask, GiveUp),
            (Some(Refused), Ask, GiveUp),
            (Some(Declined), Ask, GiveUp),
            (Some(Verified), Take, Take),
        ];
        assert_eq!(cases.len(), 1 + Ended::ALL.len());
        for (ended, if_safe, if_unsafe) in cases {
            for (safe, want) in [(true, if_safe), (false, if_unsafe)] {
                let step = |another, in_time| {
                    next_step(Progress {
                        safe,
                        ended,
                        another,
                        in_time,
                    })
                };
                assert_eq!(step(true, true), want, "{ended:?}, safe {safe}");
                // Without a way or without time nobody is asked; an answer is an answer.
                let last = if want == Take { Take } else { GiveUp };
                for (another, in_time) in [(false, true), (true, false), (false, false)] {
                    assert_eq!(step(another, in_time), last, "{ended:?}, safe {safe}");
                }
            }
        }
    }

    #[test]
    fn the_order_of_fallbacks_says_whether_the_origin_is_asked() {
        use Fallback::{Direct, Stale};
        // Fallbacks; then where nothing stale may serve, and where something may.
        let cases: [(&[Fallback], bool, bool); 5] = [
            (&[], false, false),
            (&[Stale], false, false),
            (&[Direct], true, true),
            (&[Stale, Direct], true, false),
            (&[Direct, Stale], true, true),
        ];
        for (fallbacks, without, with) in cases {
            for (stale_may_serve, want) in [(false, without), (true, with)] {
                let got = direct_comes_next(fallbacks.iter().copied(), stale_may_serve);
                assert_eq!(got, want, "{fallbacks:?}, stale {stale_may_serve}");
            }
        }
    }
}
