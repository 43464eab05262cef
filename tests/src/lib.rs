//! The harness of the scenarios: everything around the nodes, scripted.
//!
//! A scenario starts an [`Origin`] that does as it is told, a [`Topology`] of real
//! nodes in this process, and clients that speak HTTP as bytes. It then tells a
//! short story and looks at what came out at each end.
//!
//! Invariants:
//!
//! * Order comes from gates and awaited conditions. Nothing sleeps, and every wait
//!   is bounded by [`within`], so a scenario fails instead of hanging.
//! * The system picks every port.
//! * The clients and the origin share no code with the nodes: they would agree on
//!   a mistake.
//! * A harness that meets what it did not expect panics, because that fails the
//!   scenario it serves.

mod ask;
mod client;
pub mod clock;
mod fault;
mod files;
mod fleet;
mod forge;
mod gate;
mod grpc;
mod h2_client;
mod intermediary;
mod load;
mod metrics;
mod name_server;
mod origin;
mod process;
mod relay;
mod reply;
mod tap;
mod tls;
mod tls_front;
mod topology;
pub mod under_load;
mod wait;
mod wire;

pub use ask::{Ask, HOST, ask, get};
pub use client::{Client, Response};
pub use fault::{Fault, Kind, Share, Side};
pub use files::signing_key;
pub use fleet::{Fleet, Ports};
pub use forge::Forge;
pub use gate::Gate;
pub use grpc::{Call, GrpcCollector};
pub use h2_client::H2Client;
pub use intermediary::Intermediary;
pub use load::Load;
pub use metrics::Metrics;
pub use name_server::NameServer;
pub use origin::{Origin, Recorded};
pub use process::{Ended, Process, run};
pub use relay::{Exchange, Relay};
pub use reply::Reply;
pub use tap::{Passed, Tap, Towards};
pub use tls::{Authority, Issued};
pub use tls_front::TlsFront;
pub use topology::{Builder, Hop, TestNode, Topology, Tracing};
pub use wait::{until, within};
pub use wire::{Fields, Message, Stream, field, set_field};
