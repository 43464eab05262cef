//! The binaries as processes, for what only a process has: signals, an exit
//! status, what it prints.
//!
//! Invariant: a process ends with its handle, so a scenario that fails leaves
//! nothing behind.

use std::env;
use std::ffi::OsStr;
use std::io::{BufRead as _, BufReader, Read};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, OnceLock};
use std::thread::{self, JoinHandle};

use tokio::sync::watch;

use crate::within;

/// Seconds that a process may take to say or do something: some share two cores
/// with a build.
const PATIENCE_S: u64 = 30;

/// One running binary. It is killed when this is dropped.
#[derive(Debug)]
pub struct Process {
    program: String,
    child: Child,
    out: Printed,
    err: Printed,
}

/// What a command that ended by itself left behind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ended {
    /// Its exit status; None where a signal ended it.
    pub code: Option<i32>,
    /// All of its standard output.
    pub out: String,
    /// All of its standard error.
    pub err: String,
}

/// The lines that came out of a pipe so far.
#[derive(Debug)]
struct Printed {
    lines: Arc<watch::Sender<Vec<String>>>,
    reading: Option<JoinHandle<()>>,
}

impl Process {
    /// Starts `edge`, `upper-tier` or `headwater`.
    ///
    /// # Panics
    /// When the binaries cannot be built or the system starts no process.
    pub fn start<A: AsRef<OsStr>>(program: &str, arguments: impl IntoIterator<Item = A>) -> Self {
        Self::spawn(program, command(program).args(arguments))
    }

    /// As [`Process::start`], with one more environment variable.
    ///
    /// # Panics
    /// As there.
    pub fn start_with<A: AsRef<OsStr>>(
        (name, value): (&str, &OsStr),
        program: &str,
        arguments: impl IntoIterator<Item = A>,
    ) -> Self {
        Self::spawn(program, command(program).args(arguments).env(name, value))
    }

    /// As [`Process::start`], by another command that becomes it, such as `nsenter`.
    ///
    /// # Panics
    /// As there, and when there is no such command.
    pub fn start_by<A: AsRef<OsStr>>(
        by: &[String],
        program: &str,
        arguments: impl IntoIterator<Item = A>,
    ) -> Self {
        let [first, rest @ ..] = by else {
            return Self::start(program, arguments);
        };
        let mut command = quiet(Command::new(first));
        command.args(rest).arg(binaries().join(program));
        Self::spawn(program, command.args(arguments))
    }

    /// Its number.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// As [`Process::start`], with a standard output that is a pipe nobody reads.
    ///
    /// # Panics
    /// As there.
    pub fn start_unread<A: AsRef<OsStr>>(
        program: &str,
        arguments: impl IntoIterator<Item = A>,
    ) -> Self {
        let mut process = Self::child(program, command(program).args(arguments));
        process.err = Printed::of(process.child.stderr.take());
        process
    }

    fn spawn(program: &str, command: &mut Command) -> Self {
        let mut process = Self::child(program, command);
        process.out = Printed::of(process.child.stdout.take());
        process.err = Printed::of(process.child.stderr.take());
        process
    }

    fn child(program: &str, command: &mut Command) -> Self {
        let child = command.spawn();
        Self {
            program: program.to_owned(),
            child: child.unwrap_or_else(|why| panic!("{program} does not start: {why}")),
            out: Printed::of(None::<&[u8]>),
            err: Printed::of(None::<&[u8]>),
        }
    }

    /// Standard output so far.
    #[must_use]
    pub fn out(&self) -> String {
        self.out.lines.borrow().join("\n")
    }

    /// Standard error so far.
    #[must_use]
    pub fn err(&self) -> String {
        self.err.lines.borrow().join("\n")
    }

    /// Lines of standard output so far.
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        self.out.lines.borrow().clone()
    }

    /// Waits for a line of standard output with these words and gives it.
    ///
    /// # Panics
    /// When the process ends or its output does without such a line.
    pub async fn says(&self, words: &str) -> String {
        let has = |lines: &Vec<String>| lines.iter().any(|line| line.contains(words));
        let mut lines = self.out.lines.subscribe();
        let waiting = async {
            // The end of the pipe is a line too: this handle keeps a sender, so the
            // channel itself never ends.
            let _ = lines
                .wait_for(|lines| has(lines) || lines.last().is_some_and(|line| line == END))
                .await;
        };
        within(PATIENCE_S, waiting).await;
        let lines = self.lines();
        let found = lines.into_iter().find(|line| line.contains(words));
        found.unwrap_or_else(|| {
            panic!(
                "{} ended without {words:?}:\n{}\n{}",
                self.program,
                self.out(),
                self.err()
            )
        })
    }

    /// Sends a signal, by its name without `SIG`.
    ///
    /// # Panics
    /// When it cannot be sent.
    pub fn signal(&self, name: &str) {
        // The shell's own `kill`: a bare system has no other.
        let kill = format!("kill -{name} {}", self.child.id());
        let sent = Command::new("sh").args(["-c", &kill]).status();
        assert!(sent.is_ok_and(|status| status.success()), "{kill}");
    }

    /// Ends it with SIGKILL.
    pub fn kill(&mut self) {
        // An error means that it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Whether it still runs.
    pub fn runs(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Waits until it ends by itself.
    ///
    /// # Panics
    /// When it does not.
    pub async fn ended(&mut self) -> Ended {
        let status = self.status().await;
        self.out.finish();
        self.err.finish();
        Ended {
            code: status.code(),
            out: self.out(),
            err: self.err(),
        }
    }

    async fn status(&mut self) -> ExitStatus {
        let mut looks = tokio::time::interval(std::time::Duration::from_millis(10));
        within(PATIENCE_S, async {
            loop {
                looks.tick().await;
                if let Ok(Some(status)) = self.child.try_wait() {
                    return status;
                }
            }
        })
        .await
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Runs a command that ends by itself.
///
/// # Panics
/// When it does not.
pub async fn run<A: AsRef<OsStr>>(program: &str, arguments: impl IntoIterator<Item = A>) -> Ended {
    Process::start(program, arguments).ended().await
}

/// The line that stands for the end of a pipe.
const END: &str = "(end of output)";

impl Printed {
    fn of(pipe: Option<impl Read + Send + 'static>) -> Self {
        let lines = Arc::new(watch::Sender::new(Vec::new()));
        let reading = pipe.map(|pipe| {
            let lines = Arc::clone(&lines);
            thread::spawn(move || {
                for line in BufReader::new(pipe).lines().map_while(Result::ok) {
                    lines.send_modify(|lines: &mut Vec<String>| lines.push(line));
                }
                lines.send_modify(|lines| lines.push(END.to_owned()));
            })
        });
        Self { lines, reading }
    }

    /// Waits for the end of the pipe and takes its mark away.
    fn finish(&mut self) {
        if let Some(reading) = self.reading.take() {
            let _ = reading.join();
            self.lines.send_modify(|lines| {
                lines.pop();
            });
        }
    }
}

fn command(program: &str) -> Command {
    quiet(Command::new(binaries().join(program)))
}

fn quiet(mut command: Command) -> Command {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

/// The folder with the binaries, built once per run of the tests.
fn binaries() -> &'static PathBuf {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(build)
}

/// Cargo tells no package where the binaries of another one are: they lie next to
/// the folder of this test's own binary, or beside a program's, once they are built. The command is that of `make test`, so that nothing is built twice.
fn build() -> PathBuf {
    let own = env::current_exe().expect("a test has a path");
    let beside = own.parent().expect("a file lies in a folder");
    let folder = match beside.file_name() {
        Some(name) if name == "deps" => beside.parent(),
        _ => Some(beside),
    };
    let folder = folder.expect("cargo puts tests into TARGET/PROFILE/deps");
    let target = folder.parent().expect("TARGET holds PROFILE");
    let mut build = Command::new(env!("CARGO"));
    build
        .args([
            "build",
            "--quiet",
            "--workspace",
            "--bins",
            "--manifest-path",
        ])
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/../Cargo.toml"))
        .arg("--target-dir")
        .arg(target);
    if folder.ends_with("release") {
        build.arg("--release");
    }
    // What cargo says about this package is not true of the ones to be built, and
    // build scripts that read it would run again each time.
    for (name, _) in env::vars_os() {
        let name = name.to_string_lossy();
        if name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_") {
            build.env_remove(name.as_ref());
        }
    }
    let built = build.status();
    assert!(
        built.is_ok_and(|status| status.success()),
        "the binaries cannot be built: {build:?}"
    );
    folder.to_owned()
}
