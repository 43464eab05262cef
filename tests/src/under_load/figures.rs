//! Figures for people: rows of a table on a terminal, and the same in a page.

use std::fs;
use std::io;
use std::path::Path;

/// Replaces what stands between two lines of a page.
///
/// # Errors
/// When the page cannot be read or written, or lacks one of the lines.
pub fn into_page(page: &Path, begin: &str, end: &str, figures: &str) -> io::Result<()> {
    let text = fs::read_to_string(page)?;
    let (before, rest) = text.split_once(begin).ok_or_else(|| no_place(begin))?;
    let (_, after) = rest.split_once(end).ok_or_else(|| no_place(end))?;
    fs::write(page, format!("{before}{begin}{figures}{end}{after}"))
}

fn no_place(mark: &str) -> io::Error {
    io::Error::other(format!("there is no line {:?}", mark.trim()))
}

/// A line on a terminal, each cell as wide as its column.
#[must_use]
pub fn padded<const N: usize>(cells: &[String; N], columns: &[(&str, usize); N]) -> String {
    let mut line = String::new();
    for (cell, (_, width)) in cells.iter().zip(columns) {
        line += &format!("{cell:width$}  ");
    }
    line.trim_end().to_owned()
}

/// The titles of columns, as cells.
#[must_use]
pub fn titles<const N: usize>(columns: &[(&str, usize); N]) -> [String; N] {
    columns.map(|(title, _)| title.to_owned())
}

/// A row of a table in a page.
#[must_use]
pub fn row<const N: usize>(cells: &[String; N]) -> String {
    format!("| {} |\n", cells.join(" | "))
}

/// What stands between the titles of such a table and its rows.
#[must_use]
pub fn rule(columns: usize) -> String {
    format!("{}\n", "|---".repeat(columns) + "|")
}

/// Cores and processor, as the system tells them.
#[must_use]
pub fn machine() -> String {
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let told = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = told
        .lines()
        .find(|line| line.starts_with("model name"))
        .and_then(|line| line.split(": ").nth(1))
        .unwrap_or("an unnamed processor");
    format!("{cores} cores of {model}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_gets_the_figures_and_keeps_the_rest() {
        let folder = tempfile::tempdir().unwrap();
        let page = folder.path().join("page.md");
        fs::write(&page, "before\nBEGIN\nold\nEND\nafter\n").unwrap();
        into_page(&page, "BEGIN\n", "END\n", "new\n").unwrap();
        let text = fs::read_to_string(&page).unwrap();
        assert_eq!(text, "before\nBEGIN\nnew\nEND\nafter\n");
        assert!(into_page(&page, "NOWHERE\n", "END\n", "").is_err());
    }
}
