//! Scenarios: short stories across the tiers, each named after what must be true.
//!
//! One room a file. Nodes are real and run in this process; origins, visitors and
//! what stands between are the harness's. `fill` is the life of a body, `chain`
//! what comes out of two tiers, `tiers` what happens when a hop fails or lies,
//! `doors` what visitors may throw at an edge, `admin` what operators do, and
//! `observe` what they see.

// All of this is a test, its helpers too.
#![allow(clippy::unwrap_used)]

mod bodies;
mod chain;
mod fill;
mod hop;
mod tiers;
