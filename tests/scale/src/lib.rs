//! How misses travel when there are thousands of edges: a simulation over the very
//! code that decides it.
//!
//! `topology` is asked for every way; around it stand visitors, stores, failures and
//! joins, the same in every run. `docs/scale.md` shows what comes of it.
#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod draw;
pub mod run;
pub mod world;

pub use run::{Outcome, Plan, Size, moved, run};
