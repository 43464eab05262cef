//! `headwater check`: everything that is wrong with configuration files.

use std::io::{self, Write};
use std::path::PathBuf;

use config::{Kind, Report};

use crate::failure::Failure;

/// Command line of `headwater check`.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Sites files and node files, in any order; the content says which is which.
    #[arg(value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
}

/// `headwater check`: fails if any file has a problem; a warning is none.
pub(crate) fn run(options: &Options) -> Result<(), Failure> {
    let env = |name: &str| std::env::var(name).ok();
    let reports: Vec<_> = options
        .files
        .iter()
        .map(|path| (path.display().to_string(), config::check(path, &env)))
        .collect();
    print(&reports, &mut io::stdout().lock(), &mut io::stderr().lock())
}

/// Files without a problem go to `out`, one a line; problems and warnings to `err`.
fn print(
    reports: &[(String, Report)],
    out: &mut impl Write,
    err: &mut impl Write,
) -> Result<(), Failure> {
    let mut problems = 0;
    for (file, report) in reports {
        for problem in &report.problems {
            writeln!(err, "{problem}")?;
        }
        for warning in &report.warnings {
            writeln!(err, "warning: {warning}")?;
        }
        if report.problems.is_empty() {
            let kind = match report.kind {
                Kind::Sites => "sites",
                Kind::Edge => "edge",
                Kind::UpperTier => "upper tier",
            };
            writeln!(out, "{file}: ok ({kind})")?;
        }
        problems += report.problems.len();
    }
    if problems == 0 {
        Ok(())
    } else {
        Err(Failure::told())
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use config::Problem;

    use super::*;

    fn problem(file: &str, key: &str) -> Problem {
        Problem {
            file: Path::new(file).to_owned(),
            line: Some(3),
            key: key.to_owned(),
            what: "is wrong".to_owned(),
            mend: "mend it".to_owned(),
        }
    }

    #[test]
    fn every_problem_of_every_file_is_printed_and_warnings_do_not_fail() {
        let bad = Report {
            kind: Kind::Sites,
            problems: vec![problem("a.toml", "one"), problem("a.toml", "two")],
            warnings: vec![],
        };
        let good = Report {
            kind: Kind::Edge,
            problems: vec![],
            warnings: vec![problem("b.toml", "three")],
        };
        let cases = [
            (
                vec![
                    ("a.toml".to_owned(), bad.clone()),
                    ("b.toml".to_owned(), good.clone()),
                ],
                false,
                "b.toml: ok (edge)\n",
                "a.toml:3: one: is wrong; mend it\na.toml:3: two: is wrong; mend it\n\
                 warning: b.toml:3: three: is wrong; mend it\n",
            ),
            (
                vec![("b.toml".to_owned(), good)],
                true,
                "b.toml: ok (edge)\n",
                "warning: b.toml:3: three: is wrong; mend it\n",
            ),
        ];
        for (reports, succeeds, expected_out, expected_err) in cases {
            let (mut out, mut err) = (Vec::new(), Vec::new());
            assert_eq!(print(&reports, &mut out, &mut err).is_ok(), succeeds);
            assert_eq!(String::from_utf8(out).unwrap(), expected_out);
            assert_eq!(String::from_utf8(err).unwrap(), expected_err);
        }
    }
}
