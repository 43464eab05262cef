//! HTTP caching (RFC 9111) as plain functions.
//!
//! The idea: a request's head and a response's head are each read once into a
//! small value of facts ([`RequestFacts`], [`ResponseFacts`]). Everything after
//! that is a decision over facts, a site's [`Policy`] and the time: may this be
//! stored ([`storable`]), may it be used now ([`decide`]), does a condition hold
//! ([`precondition`]), which bytes are asked for ([`range()`]), what does a 304
//! change ([`freshen`]).
//!
//! Invariants:
//!
//! - Nothing here waits, reads a clock, or keeps state. The time is an argument,
//!   `now_ms`, in milliseconds since the Unix epoch; clocks that step backwards
//!   make an age smaller, never negative.
//! - Nothing panics on what a peer sent. Arithmetic saturates, and a field that
//!   cannot be read is ignored where that is the stricter reading and is taken
//!   for "stale" where it is not.
//! - A fresh hit allocates nothing: [`RequestFacts`] is `Copy`, [`decide`] returns
//!   a `Copy` value, and [`Vary::matches`] works on the stack.
//! - Doubt is settled against reuse. A needless request to the origin costs
//!   milliseconds; a response shown to the wrong visitor cannot be taken back.
//!
//! This is a shared cache throughout: `private` forbids, `s-maxage` governs.

#![cfg_attr(test, allow(clippy::unwrap_used))]

mod ahead;
#[cfg(test)]
mod cases;
mod decide;
mod directives;
mod entity_tag;
mod fields;
mod groups;
mod invalidate;
mod lifetime;
mod list;
mod part;
mod policy;
mod precondition;
mod range;
mod request;
mod response;
mod storable;
mod vary;

pub mod date;

pub use ahead::refresh_is_due;
pub use decide::{Bypass, Decision, StaleUse, decide, is_error_for_stale, may_serve_on_error};
pub use fields::{fields_for_304, freshen, remove_hop_by_hop, stored_fields};
pub use groups::{GROUPS_MAX, TooManyGroups, cache_groups, invalidated_groups};
pub use invalidate::{describes_target, invalidates, invalidation_targets};
pub use part::{PartBounds, Rest, asks_for_the_end, same_representation};
pub use policy::{CookieName, Policy, SetCookie, StatusTimes, Times};
pub use precondition::{
    HeadEffect, Precondition, ValidationFields, answers_validator, head_effect, precondition,
    validation_fields,
};
pub use range::{
    RANGES_MAX, RangeOutcome, Ranges, content_range, content_range_unsatisfied, range,
};
pub use request::RequestFacts;
pub use response::{Arrival, ResponseFacts};
pub use storable::{NotStored, storable, storable_from_post, storable_part};
pub use vary::{Selector, Vary};
