//! Epochs: what a node says about its last purge of a key, and what that means to
//! the tier behind it.
//!
//! An epoch is a duration, so that the two clocks need not agree: one more than the
//! milliseconds since the purge, and 0 where there was none. Times in here are Unix
//! milliseconds of the one clock or of the other, never of both.

/// Two requests may put one purge a little apart: each was on its way for a while.
const SAME_PURGE_MS: u64 = 50;

/// The epoch to send at `now_ms` for a key that was purged at `purged_ms`; 0 where it
/// never was.
#[must_use]
pub fn told(purged_ms: u64, now_ms: u64) -> u64 {
    match purged_ms {
        0 => 0,
        purged_ms => now_ms.saturating_sub(purged_ms).saturating_add(1),
    }
}

/// When, by the receiver's clock, whoever sent `epoch` purged the key; 0: never. The
/// request came at `received_ms`, and the last purge that was heard of until now was
/// at `known_ms` (0: none), which is the answer where the epoch tells of the same.
#[must_use]
pub fn heard(epoch: u64, received_ms: u64, known_ms: u64) -> u64 {
    let Some(ago_ms) = epoch.checked_sub(1) else {
        return 0;
    };
    let said_ms = received_ms.saturating_sub(ago_ms);
    if said_ms <= known_ms.saturating_add(SAME_PURGE_MS) {
        return known_ms;
    }
    said_ms
}

/// Whether something that was asked for at `asked_ms` is from after the purge.
#[must_use]
pub fn stands(asked_ms: u64, purged_ms: u64) -> bool {
    purged_ms == 0 || asked_ms > purged_ms
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_purge_is_told_as_a_duration() {
        for (purged_ms, now_ms, epoch) in [
            (0, 1_000, 0),
            (1_000, 1_000, 1),
            (1_000, 1_007, 8),
            // A clock that was set back.
            (1_000, 900, 1),
            (1, u64::MAX, u64::MAX),
        ] {
            assert_eq!(told(purged_ms, now_ms), epoch, "{purged_ms} at {now_ms}");
        }
    }

    #[test]
    fn what_is_heard_counts_unless_it_is_known() {
        for (epoch, received_ms, known_ms, purged_ms) in [
            (0, 1_000, 0, 0),
            (0, 1_000, 700, 0),
            (1, 1_000, 0, 1_000),
            (301, 1_000, 0, 700),
            // The same purge, told a little later, and another.
            (251, 1_000, 700, 700),
            (250, 1_000, 700, 751),
            // An older one than is known.
            (901, 1_000, 700, 700),
            (u64::MAX, 1_000, 0, 0),
        ] {
            let heard = heard(epoch, received_ms, known_ms);
            assert_eq!(heard, purged_ms, "{epoch} at {received_ms}, {known_ms}");
        }
    }

    #[test]
    fn what_was_asked_for_after_the_purge_stands() {
        for (asked_ms, purged_ms, stands_) in [
            (0, 0, true),
            (5, 0, true),
            (5, 5, false),
            (6, 5, true),
            (4, 5, false),
        ] {
            assert_eq!(
                stands(asked_ms, purged_ms),
                stands_,
                "{asked_ms}, {purged_ms}"
            );
        }
    }
}
