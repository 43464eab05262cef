//! What operators write, and what the rest of the system trusts.
//!
//! An operator writes two kinds of TOML file: one `sites.toml` that all nodes
//! share, and one file per node. This crate reads them, says everything that is
//! wrong with them, and hands out values that cannot be wrong any more.
//!
//! Invariants:
//!
//! - A file is accepted whole or not at all, and all its problems are reported
//!   together, each with its line, its key and the mend. (A file that is not
//!   TOML is reported for that alone: guesses about the rest would mislead.)
//! - A key that nobody reads is a problem. A misspelt limit must not silently
//!   leave the default in force.
//! - `parse_…` functions are pure: they touch no disk. `load…` and [`check`] also
//!   look at the files that are named.
//! - No problem or warning ever quotes the contents of a key or token.
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod defaults;
mod file;
pub mod model;
mod problem;

pub use file::{Kind, NodeFile, Report, check, load, load_sites, parse_node, parse_sites};
pub use model::*;
pub use problem::{Problem, Problems};
