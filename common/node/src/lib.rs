//! The cache node: edge and upper tier alike.
//!
//! ```text
//!   door ─▶ admit ─▶ serve ─▶ store          a hit ends here
//!             │        └────▶ fill ─▶ seal ─▶ upstream
//!             └─▶ pass ──────────────▶ seal ─▶ pingora's proxy
//! ```
//!
//! What an edge and an upper tier do differently is little: the edge removes
//! control fields and finds the site by host, the upper tier verifies the control
//! block and signs its answers; the edge asks upper tiers, the upper tier asks
//! origins. Both run this crate.

#![cfg_attr(test, allow(clippy::unwrap_used))]

mod admin;
mod answer;
mod certificates;
mod clock;
mod coding;
mod door;
mod drain;
mod fields;
mod fill;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
mod groups;
mod handover;
mod ids;
mod key;
mod listen;
mod live;
mod pass;
mod policies;
mod purge;
mod report;
mod request;
mod run;
mod seal;
mod serve;
mod start;
mod state;
mod stored;
mod tier;
mod upstream;
mod work;

pub use clock::{Clock, MovedClock};
pub use config::Role;
pub use observe::Fault;
pub use run::run;
pub use start::{Options, Running, StartError, install_log, start};
pub use stored::{StoredKey, StoredVariant};
