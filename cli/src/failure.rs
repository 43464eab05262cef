//! Why a command failed, in words for the person at the terminal.

use std::fmt::Display;
use std::io::{self, Write as _};
use std::process::ExitCode;

/// A command did not do what it was asked. Ends the process with status 1.
#[derive(Debug)]
pub(crate) struct Failure {
    /// None where the command has already printed what is wrong.
    words: Option<String>,
}

impl Failure {
    /// A failure with the reason that is still to be printed.
    pub(crate) fn because(words: impl Display) -> Self {
        Self {
            words: Some(words.to_string()),
        }
    }

    /// A failure that the command's own output explains.
    pub(crate) fn told() -> Self {
        Self { words: None }
    }

    /// Prints what is still to be said, and names the exit status.
    pub(crate) fn report(self) -> ExitCode {
        if let Some(words) = self.words {
            // With standard error gone there is nobody left to tell.
            let _ = writeln!(io::stderr(), "headwater: {words}");
        }
        ExitCode::FAILURE
    }

    #[cfg(test)]
    pub(crate) fn words(&self) -> &str {
        self.words.as_deref().unwrap_or_default()
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::because(error)
    }
}
