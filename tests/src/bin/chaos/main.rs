//! `make chaos`: what may go wrong around a topology of real processes, in network
//! namespaces and in containers, under load.
//!
//! Three edges, two upper tiers, an origin, a name server, and visitors at a steady pace
//! who check every byte. For each fault: a quiet stretch, the fault, and what comes
//! after. It prints a table, and ends with 1 where anything is not as it must be.
//! `docs/chaos.md` says what each row means.
// It is a program for people: it prints.
#![allow(clippy::print_stdout, clippy::print_stderr)]

mod containers;
mod deeds;
mod faults;
mod namespaces;
mod row;
mod setting;
mod shell;
mod stage;
mod table;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use tokio::signal::unix::{SignalKind, signal};

use row::Row;
use setting::Kind;
use stage::Stage;

/// Plays faults against a topology under load.
#[derive(Parser)]
struct Options {
    /// Visitor requests during each fault, at least; of a thousand, three are POSTs, which
    /// the table counts by themselves.
    #[arg(long, default_value_t = 101_000)]
    requests: u64,

    /// Visitor requests a second.
    #[arg(long, default_value_t = 6_000)]
    per_second: usize,

    /// Only faults whose name contains this.
    #[arg(long)]
    only: Option<String>,

    /// Only in this setting.
    #[arg(long)]
    setting: Option<Kind>,

    /// Replaces the figures in this page by those of this run.
    #[arg(long, value_name = "FILE")]
    markdown: Option<PathBuf>,

    /// Lists the faults and ends.
    #[arg(long)]
    list: bool,

    /// The one setting of a run within namespaces of its own, and where its rows go.
    #[arg(long, hide = true, value_name = "FILE")]
    inside: Option<PathBuf>,
}

fn main() -> ExitCode {
    let options = Options::parse();
    if options.list {
        for fault in faults::all() {
            println!("{:38} {}", fault.name, fault.settings());
        }
        return ExitCode::SUCCESS;
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build();
    match runtime {
        Ok(runtime) => runtime.block_on(chaos(&options)),
        Err(why) => {
            eprintln!("chaos: {why}");
            ExitCode::FAILURE
        }
    }
}

async fn chaos(options: &Options) -> ExitCode {
    let playing = async {
        match &options.inside {
            Some(file) => inside(options, file).await,
            None => outside(options).await,
        }
    };
    // Whoever interrupts this wants everything gone that it made: dropping it does that.
    let (Ok(mut interrupt), Ok(mut terminate)) = (
        signal(SignalKind::interrupt()),
        signal(SignalKind::terminate()),
    ) else {
        eprintln!("chaos: the system takes no signals");
        return ExitCode::FAILURE;
    };
    tokio::select! {
        code = playing => code,
        _ = interrupt.recv() => ExitCode::from(130),
        _ = terminate.recv() => ExitCode::from(143),
    }
}

/// Plays everything, the namespaces in a process that has its own.
async fn outside(options: &Options) -> ExitCode {
    if options.setting != Some(Kind::Containers)
        && let Err(missing) = namespaces::possible()
    {
        eprintln!("chaos: no namespaces here: {missing}");
        return ExitCode::FAILURE;
    }
    if options.setting != Some(Kind::Namespaces)
        && let Err(missing) = containers::possible()
    {
        eprintln!("chaos: no containers here: {missing}");
        return ExitCode::FAILURE;
    }
    println!("{}", table::heading());
    let mut cells = Vec::new();
    let mut all_well = true;
    if options.setting != Some(Kind::Containers) {
        match namespaces::play(options).await {
            Ok((rows, is_well)) => {
                cells.extend(rows);
                all_well &= is_well;
            }
            Err(why) => {
                eprintln!("chaos: {why}");
                all_well = false;
            }
        }
    }
    if options.setting != Some(Kind::Namespaces) {
        let (rows, is_well) = play(options, Kind::Containers).await;
        cells.extend(rows);
        all_well &= is_well;
    }
    println!("\n{}", table::summary(&cells, all_well));
    if let Some(page) = &options.markdown
        && let Err(why) = table::into_page(page, &cells, all_well, options)
    {
        eprintln!("chaos: {}: {why}", page.display());
        return ExitCode::FAILURE;
    }
    if all_well {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// Plays the faults of the namespaces, and leaves the rows in a file.
async fn inside(options: &Options, file: &std::path::Path) -> ExitCode {
    let (rows, all_well) = play(options, Kind::Namespaces).await;
    if let Err(why) = std::fs::write(file, table::lines_of(&rows)) {
        eprintln!("chaos: {}: {why}", file.display());
        return ExitCode::FAILURE;
    }
    if all_well {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// Plays the faults in one setting: their rows, and whether all was as it must be.
async fn play(options: &Options, kind: Kind) -> (Vec<table::Cells>, bool) {
    let only = options.only.as_deref().unwrap_or_default();
    let faults = faults::all().into_iter();
    let faults: Vec<_> = faults
        .filter(|fault| fault.is_made_in(kind) && fault.name.contains(only))
        .collect();
    let mut rows = Vec::new();
    let mut all_well = true;
    if faults.is_empty() {
        return (rows, all_well);
    }
    let mut stage = Stage::set(kind, options.per_second).await;
    for fault in &faults {
        let row = Row::play(&mut stage, fault, options.requests).await;
        let cells = table::cells(&row, kind);
        println!("{}", table::line(&cells));
        for missed in &row.missed {
            println!("    missed: {missed}");
        }
        all_well &= row.missed.is_empty();
        rows.push(cells);
    }
    stage.strike().await;
    (rows, all_well)
}
