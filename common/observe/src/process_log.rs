//! The process's log: one JSON object a line, through `tracing`.
//!
//! It is the only global thing in this crate, installed at most once, shared by
//! all nodes of a process; each line of ours says which node it is about. Three
//! things cap it at info, because other crates' lines below show whole requests: no
//! [`Level`] lets any through, the crates `tracing` and `log` are built without, and `RUST_LOG`
//! is not read. Lines that pingora writes through `log` come in by the same gate.
//!
//! Whoever logs only hands a finished line to a bounded queue (`sink`), so that a
//! log pipe that nobody reads cannot hold a request.

use std::fs::OpenOptions;
use std::io;
use std::path::PathBuf;

use parking_lot::Mutex;
use tracing::Subscriber;
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::fmt::MakeWriter;

use crate::sink;

/// Where log lines go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LogTarget {
    /// Nowhere.
    Off,
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
    /// Appended to this file, which is made where it does not exist.
    File(PathBuf),
}

/// How severe a line is, most severe first. What is below info are lines of our own
/// alone, which do not come this way (`detail`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Level {
    /// Something is broken and wants a person.
    Error,
    /// Something will be, or already is for a few.
    Warn,
    /// What happened. Access lines are of this level.
    Info,
    /// Each request that was sent upstream.
    Debug,
    /// Every request, and what its time went into.
    Trace,
}

crate::plain::plain!(
    enum Level {
        Error,
        Warn,
        Info,
        Debug,
        Trace,
    }
);

impl Level {
    /// The word in the log.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Level::Error => "error",
            Level::Warn => "warn",
            Level::Info => "info",
            Level::Debug => "debug",
            Level::Trace => "trace",
        }
    }

    /// The word in a line of the log.
    pub(crate) const fn shown(self) -> &'static str {
        match self {
            Level::Error => "ERROR",
            Level::Warn => "WARN",
            Level::Info => "INFO",
            Level::Debug => "DEBUG",
            Level::Trace => "TRACE",
        }
    }

    const fn filter(self) -> LevelFilter {
        match self {
            Level::Error => LevelFilter::ERROR,
            Level::Warn => LevelFilter::WARN,
            Level::Info | Level::Debug | Level::Trace => LevelFilter::INFO,
        }
    }

    const fn bridge(self) -> log::LevelFilter {
        match self {
            Level::Error => log::LevelFilter::Error,
            Level::Warn => log::LevelFilter::Warn,
            Level::Info | Level::Debug | Level::Trace => log::LevelFilter::Info,
        }
    }
}

/// Installs the process's log and says whether this call did. Only the first call
/// with a target other than `Off` does anything; later ones return `Ok(false)`.
/// Lines through `log` from the modules in `quiet` are left out.
///
/// # Errors
///
/// The file cannot be opened for appending, or the writer's thread not be started.
/// Nothing is installed then, and the call may be repeated.
pub fn install_log(target: &LogTarget, level: Level, quiet: &[&str]) -> io::Result<bool> {
    static INSTALLED: Mutex<bool> = Mutex::new(false);
    let mut installed = INSTALLED.lock();
    if *installed {
        return Ok(false);
    }
    let out: Box<dyn io::Write + Send> = match target {
        LogTarget::Off => return Ok(false),
        LogTarget::Stdout => Box::new(io::stdout()),
        LogTarget::Stderr => Box::new(io::stderr()),
        LogTarget::File(path) => Box::new(OpenOptions::new().create(true).append(true).open(path)?),
    };
    let lines = sink::start(out)?;
    *installed = true;
    if tracing::subscriber::set_global_default(subscriber(lines, level)).is_err() {
        // Someone else's subscriber is in place; that is the process's log then.
        return Ok(false);
    }
    // An error means that someone else bridges `log` already. Ours still works.
    let _bridged = tracing_log::LogTracer::builder()
        .with_max_level(level.bridge())
        .ignore_all(quiet.iter().copied())
        .init();
    Ok(true)
}

/// JSON lines with the fields at the top level.
pub(crate) fn subscriber<W>(writer: W, level: Level) -> impl Subscriber + Send + Sync
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    tracing_subscriber::fmt()
        .json()
        .flatten_event(true)
        .with_current_span(false)
        .with_span_list(false)
        // A line that cannot be written is counted, not complained about on stderr.
        .log_internal_errors(false)
        .with_max_level(level.filter())
        .with_writer(writer)
        .finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_below_info_is_built() {
        assert_eq!(tracing::level_filters::STATIC_MAX_LEVEL, LevelFilter::INFO);
        assert_eq!(log::STATIC_MAX_LEVEL, log::LevelFilter::Info);
    }

    #[test]
    fn off_installs_nothing_and_a_bad_file_says_why() {
        assert!(!install_log(&LogTarget::Off, Level::Info, &[]).unwrap());
        let nowhere = LogTarget::File("/nonexistent/dir/headwater.log".into());
        assert_eq!(
            install_log(&nowhere, Level::Info, &[]).unwrap_err().kind(),
            io::ErrorKind::NotFound
        );
    }
}
