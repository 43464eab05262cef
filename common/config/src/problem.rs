//! What is wrong with a file, said so that an operator can mend it.

use std::error::Error;
use std::fmt;
use std::path::{Path, PathBuf};

/// One thing to mend, or, as a warning, to look at.
///
/// Displays as `FILE:LINE: KEY: WHAT; MEND`, without the parts that are unknown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The file that must be changed.
    pub file: PathBuf,
    /// The line of the key, counted from 1. None: the file as a whole.
    pub line: Option<usize>,
    /// The key with its tables: `sites.shop.cache.ttl_max_s`, `listen[0].address`.
    /// Empty: the file as a whole.
    pub key: String,
    /// What is wrong with it.
    pub what: String,
    /// What to do about it.
    pub mend: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.file.display())?;
        if let Some(line) = self.line {
            write!(f, ":{line}")?;
        }
        if !self.key.is_empty() {
            write!(f, ": {}", self.key)?;
        }
        write!(f, ": {}; {}", self.what, self.mend)
    }
}

/// Everything that is wrong with a file and the files it names; never empty as
/// an error. Displays one problem a line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problems(pub Vec<Problem>);

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, problem) in self.0.iter().enumerate() {
            if at > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{problem}")?;
        }
        Ok(())
    }
}

impl Error for Problems {}

/// Where something was written.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    pub(crate) file: PathBuf,
    pub(crate) line: Option<usize>,
    pub(crate) key: String,
}

impl Place {
    /// A file as a whole.
    pub(crate) fn file(file: &Path) -> Self {
        Self {
            file: file.to_owned(),
            line: None,
            key: String::new(),
        }
    }

    pub(crate) fn problem(&self, what: impl Into<String>, mend: impl Into<String>) -> Problem {
        Problem {
            file: self.file.clone(),
            line: self.line,
            key: self.key.clone(),
            what: what.into(),
            mend: mend.into(),
        }
    }

    /// ` (line 7)`, to point at the other one of two places in the same file.
    pub(crate) fn line_note(&self) -> String {
        self.line
            .map(|line| format!(" (line {line})"))
            .unwrap_or_default()
    }
}

/// What reading has found so far. A problem refuses the file, a warning does not.
#[derive(Debug, Default)]
pub(crate) struct Notes {
    pub(crate) problems: Vec<Problem>,
    pub(crate) warnings: Vec<Problem>,
}

impl Notes {
    /// Sorts into reading order: files as they were first met, lines ascending.
    pub(crate) fn sorted(mut self) -> Self {
        sort(&mut self.problems);
        sort(&mut self.warnings);
        self
    }
}

fn sort(problems: &mut [Problem]) {
    let mut files: Vec<PathBuf> = Vec::new();
    for problem in problems.iter() {
        if !files.contains(&problem.file) {
            files.push(problem.file.clone());
        }
    }
    problems.sort_by_key(|problem| {
        let file = files.iter().position(|file| *file == problem.file);
        (file, problem.line)
    });
}
