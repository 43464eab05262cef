//! `headwater`: the command beside the nodes. It starts a demo topology, checks
//! files, makes keys, purges, and asks whether a node is ready.
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod admin;
mod check;
mod demo;
mod failure;
mod health;
mod keygen;
mod origin;
mod purge;
mod signals;

use std::future::Future;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use failure::Failure;

/// A tiered CDN cache: edges, upper tiers, and what surrounds them.
#[derive(Parser)]
#[command(name = "headwater", version, about)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Start edges, upper tiers and an origin on loopback, in one process.
    Demo(demo::Options),
    /// Serve the demo origin alone.
    Origin(origin::Options),
    /// Check configuration files and print everything that is wrong with them.
    Check(check::Options),
    /// Purge one URL in a whole topology, upper tiers first.
    Purge(purge::Options),
    /// Make a signing key for a node.
    Keygen(keygen::Options),
    /// Ask a node whether it is ready; exit status 0 if it is.
    Health(health::Options),
}

fn main() -> ExitCode {
    let outcome = match Cli::parse().command {
        Command::Demo(options) => demo::run(options),
        Command::Origin(options) => block_on(origin::run(options)),
        Command::Check(options) => check::run(&options),
        Command::Purge(options) => block_on(purge::run(options)),
        Command::Keygen(options) => keygen::run(&options),
        Command::Health(options) => block_on(health::run(options)),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}

/// Runs one command to its end on a runtime of its own.
fn block_on(command: impl Future<Output = Result<(), Failure>>) -> Result<(), Failure> {
    let runtime = tokio::runtime::Runtime::new()
        .map_err(|error| Failure::because(format!("no threads to run on: {error}")))?;
    runtime.block_on(command)
}
