//! The binary `upper-tier`: one node from one file.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;

/// An upper tier: serves edges from its cache and asks origins for the rest.
#[derive(Debug, Parser)]
#[command(version, about)]
struct Arguments {
    /// The node's configuration; see docs/operations/configuration.md.
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    node::run(node::Role::UpperTier, &arguments.config)
}
