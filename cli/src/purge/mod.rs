//! `headwater purge`: a URL, or more than one, out of every node of a topology.
//!
//! The order is the point. An edge that has dropped an object asks its upper tier
//! for it, so an upper tier that still holds the old copy would put it straight
//! back. Upper tiers are therefore purged first, all of them; only when none has
//! failed are the edges asked.
//!
//! Invariants: every node of the topology is named in the output with what became
//! of it; a node that was not purged, for whatever reason, makes the command fail.

mod client;
mod targets;
mod wanted;

use std::io::{self, Write};
use std::path::PathBuf;

use client::Outcome;
use targets::{Rank, Target};

use crate::failure::Failure;

/// Where the admin token is looked for when `--token` does not give it: other
/// users of a machine can read command lines, but not the environment.
const TOKEN_VARIABLE: &str = "HEADWATER_ADMIN_TOKEN";

/// Command line of `headwater purge`.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// The URL as visitors write it, scheme and host included.
    #[arg(value_name = "URL", required_unless_present = "site")]
    url: Option<String>,
    /// Purge everything whose URL begins with URL.
    #[arg(long, requires = "url")]
    prefix: bool,
    /// Purge the cache group of that name (RFC 9875), of URL's scheme and host.
    #[arg(long, value_name = "NAME", requires = "url", conflicts_with = "prefix")]
    group: Option<String>,
    /// Purge all of a site, by its name in sites.toml.
    #[arg(long, value_name = "NAME", conflicts_with_all = ["url", "prefix", "group"])]
    site: Option<String>,
    /// Make it stale, not gone: it may still stand in for an error, or be served while
    /// it is fetched anew, as far as its fields and the site allow.
    #[arg(long)]
    soft: bool,
    /// Admin addresses in the order to purge them: upper tiers first, then edges.
    #[arg(long, value_name = "ADDR", num_args = 1.., value_delimiter = ',', conflicts_with = "topology")]
    admin: Vec<String>,
    /// Read names, roles and admin addresses from the node files in this folder.
    #[arg(long, value_name = "DIR")]
    topology: Option<PathBuf>,
    /// Bearer token for admin listeners that want one (or set HEADWATER_ADMIN_TOKEN).
    #[arg(long, value_name = "TOKEN")]
    token: Option<String>,
    /// Purge edges even where an upper tier failed and may refill them with old content.
    #[arg(long)]
    force: bool,
}

/// `headwater purge`.
pub(crate) async fn run(options: Options) -> Result<(), Failure> {
    let query = wanted::query(&options).map_err(Failure::because)?;
    let ranks = match &options.topology {
        Some(folder) => targets::of_topology(folder)?,
        None if !options.admin.is_empty() => targets::in_order(&options.admin),
        None => targets::of_running_demo().await?,
    };
    let token = options.token.or_else(|| std::env::var(TOKEN_VARIABLE).ok());
    let job = Job {
        query,
        token,
        force: options.force,
    };
    job.run(ranks, &mut io::stdout()).await
}

/// What is to be done at every node.
#[derive(Debug, Clone)]
struct Job {
    /// Of `POST /purge`.
    query: String,
    token: Option<String>,
    force: bool,
}

impl Job {
    /// Purges rank after rank and writes one line a node to `out`.
    async fn run(&self, ranks: Vec<Rank>, out: &mut impl Write) -> Result<(), Failure> {
        let mut failed = false;
        let mut held_back = false;
        for rank in ranks {
            // Nobody is asked after a failure, for a later rank refills from an earlier one.
            let ask = !failed || self.force;
            for (target, outcome) in self.purge_rank(rank, ask).await {
                writeln!(out, "{target}: {outcome}")?;
                failed |= outcome.is_failure();
                held_back |= outcome == Outcome::NotAsked;
            }
        }
        if held_back {
            return Err(Failure::because(
                "nodes were left alone because one before them still has the old copy and would hand it \
                 straight back to them; mend that node and purge again, or use --force",
            ));
        }
        if failed { Err(Failure::told()) } else { Ok(()) }
    }

    /// One rank, all at once, and the outcomes in the rank's own order.
    async fn purge_rank(&self, rank: Rank, ask: bool) -> Vec<(Target, Outcome)> {
        if !ask {
            return rank
                .into_iter()
                .map(|target| (target, Outcome::NotAsked))
                .collect();
        }
        let asked: Vec<_> = rank
            .into_iter()
            .map(|target| {
                let (job, admin) = (self.clone(), target.admin.clone());
                let asked =
                    async move { client::purge(&admin, &job.query, job.token.as_deref()).await };
                (target, tokio::spawn(asked))
            })
            .collect();
        let mut outcomes = Vec::with_capacity(asked.len());
        for (target, asked) in asked {
            let outcome = match asked.await {
                Ok(outcome) => outcome,
                Err(error) => Outcome::Refused(format!("the question broke off: {error}")),
            };
            outcomes.push((target, outcome));
        }
        outcomes
    }
}

#[cfg(test)]
mod tests;
