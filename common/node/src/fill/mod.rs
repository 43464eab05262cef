//! Filling a miss.
//!
//! One fill for each key and node, in a task of its own (`run`). Everyone who
//! waits for the key boards the same flight (`flight`) and reads the same growing
//! body (`body`). No visitor can cancel or slow a fill that will be stored.

pub(crate) mod body;
pub(crate) mod budget;
mod carry;
mod complete;
mod direct;
pub(crate) mod flight;
mod freshen;
mod hedge;
pub(crate) mod interim;
pub(crate) mod patience;
pub(crate) mod place;
pub(crate) mod reach;
pub(crate) mod retries;
pub(crate) mod run;
pub(crate) mod tiers;
