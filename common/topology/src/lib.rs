//! Which node is asked next, and why.
//!
//! A miss at an edge has several ways to content: the upper tiers, in an order
//! that every edge agrees on, and the origin. [`ways`] lists them for one
//! request and [`next_step`] walks them; [`Candidates`] holds the order; [`Health`]
//! remembers, for each upper tier, whether asking it is worth a visitor's time.
//!
//! What must stay true:
//!
//! * Everything here is arithmetic. No sockets, no locks, no clock: the caller
//!   passes `now_ms` (Unix time in milliseconds) and decides when to ask.
//! * The order for a key is the same at every node, in every build and whatever
//!   the order in the file, or two edges would fill the same object at two upper
//!   tiers. No seed is drawn, no floating point takes part.
//! * An upper tier that joins or leaves moves its own share of the keys and no
//!   other key.
//! * No upper tier is given up for good, whatever the clock does.

#![cfg_attr(test, allow(clippy::unwrap_used))]

mod auto;
mod bound;
mod health;
mod latency;
mod rendezvous;
mod retry;
mod walk;
mod ways;
mod weight;

pub use auto::{Auto, AutoRules};
pub use bound::Load;
pub use health::{Failure, Health, HealthRules, Pool, State, Transition};
pub use latency::Latency;
pub use rendezvous::{Candidates, Order, Tier, draw, rendezvous};
pub use retry::{RetryRules, takes_from_budget};
pub use walk::{Ended, Fallback, Progress, Step, direct_comes_next, next_step};
pub use ways::{Question, Topology, Way, Ways, ways, ways_with_trial};
