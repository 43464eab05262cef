//! `make drill`: the outage of 25 October 2022, and its relatives, against real
//! processes under load.
//!
//! Three edges, two upper tiers, an intermediary on the hop before each upper tier, an
//! origin that counts, a collector of spans, and visitors at a steady pace who check
//! every byte. For each fault: a quiet stretch, the fault, and what comes after. It
//! prints a table, and ends with 1 where anything is not as it must be.
// It is a program for people: it prints.
#![allow(clippy::print_stdout, clippy::print_stderr)]

mod row;
mod stage;
mod table;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use tests::{Fault, Kind, Share, Side};

use row::Row;
use stage::Stage;

/// Replays faults of the hop between tiers against a topology under load.
#[derive(Parser)]
struct Options {
    /// Visitor requests during each fault, at least.
    #[arg(long, default_value_t = 26_000)]
    requests: u64,

    /// Visitor requests a second.
    #[arg(long, default_value_t = 3_000)]
    per_second: usize,

    /// Only faults whose name contains this.
    #[arg(long)]
    only: Option<String>,

    /// Replaces the figures in this page by those of this run.
    #[arg(long, value_name = "FILE")]
    markdown: Option<PathBuf>,
}

fn main() -> ExitCode {
    let options = Options::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build();
    match runtime {
        Ok(runtime) => runtime.block_on(drill(&options)),
        Err(why) => {
            eprintln!("drill: {why}");
            ExitCode::FAILURE
        }
    }
}

async fn drill(options: &Options) -> ExitCode {
    let faults = faults(options.only.as_deref());
    let mut stage = Stage::set(options.per_second).await;
    println!("{}", table::heading());
    let mut rows = Vec::new();
    for fault in faults {
        let row = Row::play(&mut stage, fault, options.requests).await;
        println!("{}", table::line(&row));
        for missed in &row.missed {
            println!("    missed: {missed}");
        }
        rows.push(row);
    }
    let end = stage.strike().await;
    println!("\n{}", table::summary(&rows, &end));
    if let Some(page) = &options.markdown
        && let Err(why) = table::into_page(page, &rows, &end, options.requests)
    {
        eprintln!("drill: {}: {why}", page.display());
        return ExitCode::FAILURE;
    }
    let all_well = end.missed.is_empty() && rows.iter().all(|row| row.missed.is_empty());
    if all_well {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// The faults in their order. Those that nobody can name come last, so that the alert
/// has time to go out again before the end.
fn faults(only: Option<&str>) -> Vec<Fault> {
    let mut kinds = Kind::ALL.to_vec();
    kinds.sort_by_key(|kind| !kind.is_judged());
    let mut faults = Vec::new();
    for kind in kinds {
        if only.is_some_and(|only| !kind.as_str().contains(only)) {
            continue;
        }
        for side in [Side::Request, Side::Answer] {
            for share in [Share::Third, Share::All] {
                faults.push(Fault { kind, side, share });
            }
        }
    }
    faults
}
