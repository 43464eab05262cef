//! How long a node waits, and how the tiers of a chain share one wait.

/// Bounds on how long we wait. Each is one wait, by its name.
#[derive(Debug, Clone)]
pub struct Timeouts {
    /// From accepting a connection, or from its first byte, to a whole head.
    pub head_ms: u64,
    /// Between two requests on one visitor connection.
    pub keepalive_ms: u64,
    /// A visitor that takes no byte of its response for this long is cut off.
    pub write_ms: u64,
    /// Between two reads of a request body.
    pub request_body_ms: u64,
    /// Connecting to an upstream, TLS included.
    pub connect_ms: u64,
    /// From a request sent to an origin to the response head.
    pub first_byte_ms: u64,
    /// From a request sent to an upper tier to the response head. An upper tier
    /// gives up earlier, see [`Timeouts::budget_ms`].
    pub tier_answer_ms: u64,
    /// Between two reads of a response body.
    pub between_bytes_ms: u64,
    /// How long a follower waits for somebody else's fill to have a head. Longer
    /// than that fill may take, or followers of a slow object all go alone.
    pub collapse_ms: u64,
    /// How long an idle upstream connection is kept. Shorter than the peer's
    /// `keepalive_ms`, so that we drop it first.
    pub pool_idle_ms: u64,
    /// How long a reader may hold back a fill that is not kept.
    pub laggard_ms: u64,
    /// The whole wait for an answer from all ways together.
    pub answer_ms: u64,
    /// How long a drain lets connections that wait for nothing ask once more.
    pub drain_idle_ms: u64,
    /// How long a drain waits for the last request before it cuts what is left.
    pub drain_ms: u64,
}

/// No node spares more of its time than half, however many tiers were before it.
const SPARED_TENTHS_MAX: u8 = 5;

impl Timeouts {
    /// The time a node has for all its ways to an answer together, milliseconds, to a
    /// request that passed `hop` tiers before it: none at an edge.
    ///
    /// An edge waits for an upper tier while that waits for an origin. Where both
    /// gave up at the same moment, the upper tier's signed word would always come
    /// just too late, and a slow origin would look like a dead upper tier. So an
    /// upper tier stops after nine tenths of what an edge waits for it, and the one
    /// behind a regional tier after eight.
    #[must_use]
    pub fn budget_ms(&self, hop: u8) -> u64 {
        if hop == 0 {
            return self.answer_ms;
        }
        let tenths = u64::from(hop.min(SPARED_TENTHS_MAX));
        let spared_ms = self.tier_answer_ms / 10 * tenths;
        self.answer_ms
            .min(self.tier_answer_ms.saturating_sub(spared_ms))
    }

    /// What of [`Timeouts::budget_ms`] no upper tier gets while the origin itself may
    /// still be asked after them, milliseconds.
    ///
    /// Upper tiers that answer too slowly would otherwise use up all of it, each and in
    /// waiting for a turn at the next one, and a way that is open would never be taken.
    /// It is half of what a node has beyond the budget of the tier that it asks, so that
    /// one that is asked at once still is waited for until it must have given up itself.
    #[must_use]
    pub fn kept_for_origin_ms(&self, hop: u8) -> u64 {
        let asked_ms = self.budget_ms(hop.saturating_add(1));
        let beyond_ms = self.budget_ms(hop).saturating_sub(asked_ms);
        self.first_byte_ms.min(beyond_ms / 2)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_tier_gives_up_before_the_one_that_asks_it() {
        let timeouts = Timeouts {
            answer_ms: 30_000,
            tier_answer_ms: 22_000,
            ..Timeouts::default()
        };
        let budgets = [0, 1, 2].map(|hop| timeouts.budget_ms(hop));
        assert_eq!(budgets, [30_000, 19_800, 17_600]);
    }

    #[test]
    fn what_is_kept_for_the_origin_leaves_the_first_upper_tier_its_time() {
        // What is waited for an answer, for an upper tier, and for an origin; what is kept
        // at an edge, and at a regional tier.
        for (answer_ms, tier_answer_ms, first_byte_ms, at_edge, at_regional) in [
            (30_000, 22_000, 15_000, 5_100, 1_100),
            (5_000, 2_000, 2_000, 1_600, 100),
            (22_000, 22_000, 15_000, 1_100, 1_100),
            (100_000, 20_000, 15_000, 15_000, 1_000),
            (100_000, 20_000, 100, 100, 100),
            (1, 1, 1, 0, 0),
        ] {
            let timeouts = Timeouts {
                answer_ms,
                tier_answer_ms,
                first_byte_ms,
                ..Timeouts::default()
            };
            let kept = [0, 1].map(|hop| timeouts.kept_for_origin_ms(hop));
            assert_eq!(kept, [at_edge, at_regional], "{timeouts:?}");
            for hop in [0, 1] {
                let first_ms = timeouts.budget_ms(hop) - timeouts.kept_for_origin_ms(hop);
                assert!(
                    first_ms >= timeouts.budget_ms(hop + 1),
                    "{hop} {timeouts:?}"
                );
            }
        }
    }
}
