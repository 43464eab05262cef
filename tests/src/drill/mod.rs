//! A topology under steady load, while the hop between its tiers does what no hop
//! should.
//!
//! The [`pages`] say what every URL must hold at every moment, the [`DrillOrigin`]
//! serves them and counts, the [`Load`] asks for them as visitors do and checks every
//! byte, and [`Watch`] looks at what the nodes say of it. `make drill` runs them
//! against real processes, and a scenario, shortly, against nodes in its own process.

mod load;
mod origin;
pub mod pages;
mod sink;
mod watch;

pub use load::{Load, Pace, Tally};
pub use origin::{Counts, DrillOrigin};
pub use sink::Sink;
pub use watch::{Line, Lines, Watch, faults_named, upstream_failures};

/// `sites.toml` of a drill: one site, which falls back to both that there is, with
/// room for `direct_in_flight_max` at once.
#[must_use]
pub fn sites(origin: std::net::SocketAddr, direct_in_flight_max: usize) -> String {
    format!(
        "[pools.shop]\nservers = [\"{origin}\"]\n\n\
         [sites.shop]\nhosts = [\"{host}\"]\npool = \"shop\"\n\
         fallback = [\"direct\", \"stale\"]\n\
         direct_in_flight_max = {direct_in_flight_max}\n",
        host = crate::HOST
    )
}
