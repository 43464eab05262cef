//! A topology under steady load, while something goes wrong in it or around it.
//!
//! The [`pages`] say what every URL must hold at every moment, the [`CountingOrigin`]
//! serves them and counts, the [`Load`] asks for them as visitors do and checks every
//! byte, and [`Watch`] looks at what the nodes say of it. `make drill` and `make chaos`
//! run them against real processes, and a scenario, shortly, against nodes in its own
//! process.

pub mod figures;
mod load;
mod origin;
pub mod pages;
mod sink;
mod tally;
mod verdict;
mod watch;

pub use load::{Load, Pace};
pub use origin::{CountingOrigin, Counts, Mood};
pub use sink::Sink;
pub use tally::Tally;
pub use verdict::Allowance;
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
