//! Refreshing what is fresh a little ahead of its end.
//!
//! An object has the same age at every node, so it ends at the same moment everywhere:
//! all nodes would come back in step, and in each a visitor would wait. Instead, what is
//! asked for in the last part of its lifetime is refreshed in the background, at a moment
//! that differs from node to node and from key to key.
//!
//! What must stay true: freshness and age are what they are. Nothing is called fresh for
//! longer, and what is fresh is served meanwhile; the refresh only comes earlier.

/// Shorter lifetimes are left alone: a twentieth of them is no time to spread over.
const LIFETIME_MIN_MS: u64 = 60_000;

/// The last part of a lifetime, as a share of it…
const WINDOW_SHARE: u64 = 20;

/// …and at most so long, since a longer one spreads no better.
const WINDOW_MAX_MS: u64 = 30_000;

/// The last part of a lifetime, in which a refresh may come ahead; 0 for one too short.
fn refresh_window_ms(lifetime_ms: u64) -> u64 {
    if lifetime_ms < LIFETIME_MIN_MS {
        return 0;
    }
    (lifetime_ms / WINDOW_SHARE).min(WINDOW_MAX_MS)
}

/// Whether a fresh response is to be refreshed now. `ttl_ms` is what is left of its
/// lifetime and `held_ms` how long it is stored here; `place` is where in the window this
/// node's moment for it lies, 0 (at its end) to `u64::MAX` (at its beginning).
///
/// One that was near its end already when it came is left alone: whoever gave it would
/// give it again, and every hit would ask.
#[must_use]
pub fn refresh_is_due(lifetime_ms: u64, ttl_ms: u64, held_ms: u64, place: u64) -> bool {
    let window_ms = refresh_window_ms(lifetime_ms);
    let came_early = ttl_ms.saturating_add(held_ms) >= 2 * window_ms;
    let moment_ms = (u128::from(window_ms) * u128::from(place)) >> 64;
    window_ms > 0 && came_early && u128::from(ttl_ms) <= moment_ms
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_window_is_a_share_of_a_long_lifetime() {
        for (lifetime_ms, window_ms) in [
            (0, 0),
            (59_999, 0),
            (60_000, 3_000),
            (600_000, 30_000),
            (3_600_000, 30_000),
            (u64::MAX, 30_000),
        ] {
            assert_eq!(refresh_window_ms(lifetime_ms), window_ms, "{lifetime_ms}");
        }
    }

    #[test]
    fn a_refresh_is_due_from_a_moment_of_the_window_on() {
        const HALF: u64 = u64::MAX / 2 + 1;
        // Lifetime, what is left, how long it is here, the place; then whether.
        for (lifetime_ms, ttl_ms, held_ms, place, is_due) in [
            (100_000, 5_000, 95_000, u64::MAX, false),
            (100_000, 4_999, 95_001, u64::MAX, true),
            (100_000, 2_501, 97_499, HALF, false),
            (100_000, 2_500, 97_500, HALF, true),
            (100_000, 1, 99_999, 0, false),
            // It came with little left, and would again.
            (100_000, 2_500, 7_499, HALF, false),
            (100_000, 2_500, 7_500, HALF, true),
            // Too short to matter.
            (59_999, 1, 59_998, u64::MAX, false),
        ] {
            assert_eq!(
                refresh_is_due(lifetime_ms, ttl_ms, held_ms, place),
                is_due,
                "{ttl_ms} of {lifetime_ms} after {held_ms} at {place}"
            );
        }
    }
}
