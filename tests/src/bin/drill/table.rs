//! The drill's figures, for people.

use std::io;
use std::path::Path;

use tests::under_load::figures;

use crate::row::Row;
use crate::stage::End;

/// What the figures in a page stand between.
const BEGIN: &str = "<!-- The figures: `make drill` writes them. -->\n";
const END: &str = "<!-- End of the figures. -->\n";

/// Titles and widths of the columns.
const COLUMNS: [(&str, usize); 14] = [
    ("fault", 17),
    ("on", 8),
    ("share", 7),
    ("hit", 7),
    ("requests", 8),
    ("errors", 6),
    ("counted", 8),
    ("logged", 8),
    ("as", 26),
    ("alerts", 6),
    ("back", 8),
    ("fetches", 7),
    ("direct", 11),
    ("p99 before/during/after ms", 26),
];

/// The line above the rows.
pub(crate) fn heading() -> String {
    figures::padded(&figures::titles(&COLUMNS), &COLUMNS)
}

/// A row as a line.
pub(crate) fn line(row: &Row) -> String {
    figures::padded(&cells(row), &COLUMNS)
}

/// What is to be said below the rows.
pub(crate) fn summary(rows: &[Row], end: &End) -> String {
    let sum = |of: fn(&Row) -> u64| rows.iter().map(of).sum::<u64>();
    let mut said = format!(
        "{} faults, {} requests meanwhile, {} visitor errors; {} orders taken, {} refused, none \
         taken twice unless told below.",
        rows.len(),
        sum(|row| row.requests),
        sum(|row| row.errors),
        sum(|row| row.orders_taken),
        sum(|row| row.orders_failed),
    );
    let missed = rows.iter().map(|row| row.missed.len()).sum::<usize>() + end.missed.len();
    for what in &end.missed {
        said += &format!("\nmissed: {what}");
    }
    said += &if missed == 0 {
        "\nEverything was as it must be.".to_owned()
    } else {
        format!("\n{missed} things were not as they must be.")
    };
    said
}

/// Replaces the figures in a page.
pub(crate) fn into_page(page: &Path, rows: &[Row], end: &End, requests: u64) -> io::Result<()> {
    let mut text = format!(
        "`make drill` with {requests} requests a row, on {}, {}:\n\n",
        figures::machine(),
        tests::clock::http_date(0)
    );
    text += &figures::row(&figures::titles(&COLUMNS));
    text += &figures::rule(COLUMNS.len());
    for row in rows {
        text += &figures::row(&cells(row));
    }
    text += &format!("\n{}\n", summary(rows, end));
    figures::into_page(page, BEGIN, END, &text)
}

fn cells(row: &Row) -> [String; 14] {
    let ms = |ms: Option<u64>| ms.map_or_else(|| "never".to_owned(), |ms| format!("{ms} ms"));
    let judged = row.fault.kind.is_judged();
    let named = row.line.as_ref();
    let named = named.map(|line| format!("{} by {}", line.reason, line.peer));
    let [before, during, after] = row.p99_ms;
    [
        row.fault.kind.as_str().to_owned(),
        row.fault.side.as_str().to_owned(),
        row.fault.share.as_str().to_owned(),
        row.hit.to_string(),
        row.requests.to_string(),
        row.errors.to_string(),
        ms(row.counted_ms),
        if judged {
            ms(row.logged_ms)
        } else {
            "-".to_owned()
        },
        if judged {
            named.unwrap_or_default()
        } else {
            "an upstream failure".to_owned()
        },
        if judged {
            row.alerts.to_string()
        } else {
            "-".to_owned()
        },
        format!("{} ms", row.back_ms),
        row.origin.fetches_max().to_string(),
        format!(
            "{} of {}",
            row.origin.direct_at_once_max,
            crate::stage::DIRECT_MAX
        ),
        format!("{before:.1} / {during:.1} / {after:.1}"),
    ]
}
