//! Runs the simulation, prints its tables, and with `--write` brings `docs/scale.md`
//! and its charts up to them.
#![allow(clippy::print_stdout)]

use std::fmt::Write;
use std::path::Path;
use std::{fs, io};

use scale::draw::{Frame, Line, lines};
use scale::run::{FAIL, JOIN, PARTS, RETURN};
use scale::{Outcome, Plan, Size, moved, run};

const SIZE: Size = Size {
    edges: 2_000,
    uppers: 200,
    failing: 10,
    joining: 20,
    regions: 20,
    regionals: 5,
    objects: 200_000,
    origins: 200,
    requests: 6_000_000,
    edge_store: 300,
    tier_store: 2_000,
    fresh: 1_500_000,
    exponent: 1.0,
};

const BEGIN: &str = "<!-- written by make scale -->";
const END: &str = "<!-- the end of what is written -->";

fn main() -> io::Result<()> {
    let outcomes: Vec<(Plan, Outcome)> = std::thread::scope(|scope| {
        let runs = Plan::ALL.map(|plan| (plan, scope.spawn(move || run(SIZE, plan))));
        let ends = runs
            .into_iter()
            .filter_map(|(plan, run)| Some((plan, run.join().ok()?)));
        ends.collect()
    });
    let tables = format!("{}\n{}", hits(&outcomes), keys());
    println!("{tables}");
    if std::env::args().any(|argument| argument == "--write") {
        write(&outcomes, &tables)?;
    }
    Ok(())
}

fn hits(outcomes: &[(Plan, Outcome)]) -> String {
    let mut text = String::from(
        "| | edge hits | regional hits | upper-tier hits | origin offload | fetches per 1,000 | \
         peak to mean | worst after a failure | worst after a join |\n\
         |---|---|---|---|---|---|---|---|---|\n",
    );
    let percent = |(asked, hit): (u64, u64)| {
        if asked == 0 {
            return "–".to_owned();
        }
        format!("{:.1} %", hit as f64 * 100.0 / asked as f64)
    };
    for (plan, outcome) in outcomes {
        let fetches = outcome.fetches_per_1000();
        let peak = outcome.peak_to_mean().map(|peak| format!("{peak:.2}"));
        let _ = writeln!(
            text,
            "| {} | {} | {} | {} | {:.1} % | {fetches:.1} | {} | ×{:.2} | ×{:.2} |",
            plan.name(),
            percent((outcome.requests, outcome.edge_hits)),
            percent(outcome.regional),
            percent(outcome.upper),
            100.0 - fetches / 10.0,
            peak.unwrap_or_else(|| "–".to_owned()),
            outcome.worst_after(FAIL, RETURN - FAIL),
            outcome.worst_after(JOIN, 10),
        );
    }
    text
}

fn keys() -> String {
    let [modulo, hash] = moved(SIZE.uppers, 100_000);
    let least = (
        100.0 / SIZE.uppers as f64,
        100.0 / (SIZE.uppers as f64 + 1.0),
    );
    let mut text = String::from(
        "| keys that another upper tier answers for | one of 200 leaves | one joins |\n|---|---|---|\n",
    );
    for (name, (leave, join)) in [
        ("modulo", modulo),
        ("hash", hash),
        ("the least possible", least),
    ] {
        let _ = writeln!(text, "| {name} | {leave:.2} % | {join:.2} % |");
    }
    text
}

fn write(outcomes: &[(Plan, Outcome)], tables: &str) -> io::Result<()> {
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs");
    let page = docs.join("scale.md");
    let text = fs::read_to_string(&page)?;
    let (before, rest) = text.split_once(BEGIN).ok_or(io::ErrorKind::InvalidData)?;
    let (_, after) = rest.split_once(END).ok_or(io::ErrorKind::InvalidData)?;
    fs::write(&page, format!("{before}{BEGIN}\n\n{tables}\n{END}{after}"))?;

    let part = |at: usize| at as f64 / PARTS as f64;
    let marks = [
        (part(FAIL), "10 fail"),
        (part(RETURN), "back, empty"),
        (part(JOIN), "20 join"),
    ];
    let per_1000 = |outcome: &Outcome| {
        let requests = SIZE.requests as f64 / PARTS as f64;
        let fetches = outcome.fetches.iter();
        fetches
            .map(|fetches| *fetches as f64 * 1000.0 / requests)
            .collect()
    };
    let drawn = outcomes
        .iter()
        .enumerate()
        .map(|(colour, (plan, outcome))| Line {
            name: plan.name().to_owned(),
            colour,
            values: per_1000(outcome),
        });
    let frame = Frame {
        title: "Fetches from origins per 1,000 requests of visitors",
        right: "requests, 0 to 6 million",
        most: 1000.0,
        logarithmic: true,
        marks: &marks,
    };
    fs::write(
        docs.join("scale/origin.svg"),
        lines(frame, &drawn.collect::<Vec<_>>()),
    )?;

    let loads = outcomes
        .iter()
        .enumerate()
        .filter(|(_, (plan, _))| *plan != Plan::OneTier);
    let loads = loads.map(|(colour, (plan, outcome))| {
        let mut loads = outcome.loads.clone();
        loads.sort_unstable_by(|a, b| b.cmp(a));
        let mean = loads.iter().sum::<u64>() as f64 / loads.len() as f64;
        Line {
            name: plan.name().to_owned(),
            colour,
            values: loads.into_iter().map(|load| load as f64 / mean).collect(),
        }
    });
    let frame = Frame {
        title: "Requests at each upper tier, against the mean",
        right: "200 upper tiers, the busiest first",
        most: 6.0,
        logarithmic: false,
        marks: &[],
    };
    fs::write(
        docs.join("scale/load.svg"),
        lines(frame, &loads.collect::<Vec<_>>()),
    )
}
