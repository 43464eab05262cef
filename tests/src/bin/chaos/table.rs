//! The figures, for people.

use std::io;
use std::path::Path;

use ::tests::under_load::figures;

use crate::Options;
use crate::row::Row;
use crate::setting::Kind;

/// What the figures in a page stand between.
const BEGIN: &str = "<!-- The figures: `make chaos` writes them. -->\n";
const END: &str = "<!-- End of the figures. -->\n";

/// Titles and widths of the columns.
const COLUMNS: [(&str, usize); 13] = [
    ("fault", 38),
    ("setting", 10),
    ("requests", 8),
    ("visitor errors", 14),
    ("wrong bodies", 12),
    ("refused", 7),
    ("broken off", 10),
    ("asked again", 11),
    ("orders taken, failed", 20),
    ("back", 7),
    ("p99 before/during/after ms", 26),
    ("origin requests", 15),
    ("expected", 8),
];

/// A row, as it is shown.
pub(crate) type Cells = [String; COLUMNS.len()];

/// The line above the rows.
pub(crate) fn heading() -> String {
    figures::padded(&figures::titles(&COLUMNS), &COLUMNS)
}

/// A row as a line.
pub(crate) fn line(cells: &Cells) -> String {
    figures::padded(cells, &COLUMNS)
}

/// A row's cells.
pub(crate) fn cells(row: &Row, kind: Kind) -> Cells {
    let [before, during, after] = row.p99_ms;
    let met = if row.missed.is_empty() {
        ""
    } else {
        "MISSED; "
    };
    [
        row.name.to_owned(),
        kind.as_str().to_owned(),
        row.requests.to_string(),
        row.errors.to_string(),
        row.wrong.to_string(),
        row.refused.to_string(),
        row.broken.to_string(),
        row.again.to_string(),
        format!("{}, {}", row.orders_taken, row.orders_failed),
        format!("{} ms", row.back_ms),
        format!("{before:.1} / {during:.1} / {after:.1}"),
        row.origin.requests.to_string(),
        format!("{met}{}", row.expected),
    ]
}

/// Rows as text, from one process to another.
pub(crate) fn lines_of(rows: &[Cells]) -> String {
    let lines = rows.iter().map(|cells| cells.join("\t") + "\n");
    lines.collect()
}

/// The rows of such a text.
pub(crate) fn cells_from(text: &str) -> Vec<Cells> {
    let cells = text.lines().map(|line| {
        let cells: Vec<_> = line.split('\t').map(str::to_owned).collect();
        cells.try_into()
    });
    cells.filter_map(Result::ok).collect()
}

/// What is to be said below the rows.
pub(crate) fn summary(rows: &[Cells], all_well: bool) -> String {
    let sum = |column: usize| -> u64 {
        let numbers = rows.iter().map(|cells| cells[column].parse().unwrap_or(0));
        numbers.sum()
    };
    let said = format!(
        "{} faults, {} requests meanwhile, {} visitor errors, {} wrong bodies; {} refused where \
         no way was left.",
        rows.len(),
        sum(2),
        sum(3),
        sum(4),
        sum(5)
    );
    let end = if all_well && !rows.is_empty() {
        "Everything was as it must be."
    } else {
        "Not everything was as it must be."
    };
    format!("{said}\n{end}")
}

/// Replaces the figures in a page.
pub(crate) fn into_page(
    page: &Path,
    rows: &[Cells],
    all_well: bool,
    options: &Options,
) -> io::Result<()> {
    let mut text = format!(
        "`make chaos` with {} requests a row, {} a second, on {}, {}:\n\n",
        options.requests,
        options.per_second,
        figures::machine(),
        ::tests::clock::http_date(0)
    );
    text += &figures::row(&figures::titles(&COLUMNS));
    text += &figures::rule(COLUMNS.len());
    for cells in rows {
        text += &figures::row(cells);
    }
    text += &format!("\n{}\n", summary(rows, all_well));
    figures::into_page(page, BEGIN, END, &text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_come_through_as_they_were() {
        let cells: Cells = std::array::from_fn(|column| format!("{column} of it"));
        let rows = vec![cells.clone(), cells];
        assert_eq!(cells_from(&lines_of(&rows)), rows);
        assert_eq!(cells_from("half of\ta row\n"), Vec::<Cells>::new());
    }

    #[test]
    fn nothing_played_is_nothing_shown() {
        assert!(summary(&[], true).contains("Not everything"));
    }
}
