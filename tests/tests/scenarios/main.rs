//! Scenarios: short stories across the tiers, each named after what must be true.
//!
//! One room a file. Nodes are real and run in this process; origins, visitors and
//! what stands between are the harness's.

// All of this is a test, its helpers too.
#![allow(clippy::unwrap_used)]

mod admin;
mod alerts;
mod auto;
mod bodies;
mod bounds;
mod budgets;
mod certificates;
mod chain;
mod claims;
mod commands;
mod compression;
mod counters;
mod cut_off;
mod demo;
mod direct;
mod doors;
mod drill;
mod dying;
mod exports;
mod fill;
mod freshness;
mod groups;
mod hand_over;
mod hedges;
mod hop;
mod killed;
mod lines;
mod methods;
mod names;
mod no_way;
mod observe;
mod oddities;
mod otlp;
mod partial;
mod privacy;
mod probes;
mod protection;
mod protocols;
mod refreshes;
mod regional;
mod reload;
mod restarts;
mod rolling;
mod rules;
mod shares;
mod signals;
mod signatures;
mod slices;
mod tiers;
mod too_slow;
mod trace_context;
mod upstreams;
mod ways;
