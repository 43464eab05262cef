//! Finished log lines on their way out.
//!
//! A thread of its own writes them, because writing can take as long as it likes:
//! a full disk, a pipe whose reader has stopped. Lines that find the queue full
//! are lost and counted. The queue belongs to the process, as the log does.

use std::io::{self, Write};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::thread;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded};
use tracing_subscriber::fmt::MakeWriter;

/// Lines that wait to be written. At a few hundred bytes each about a megabyte.
const LINES_QUEUED_MAX: usize = 4096;

/// How long a flush waits for room behind lines that are stuck.
const FLUSH_PATIENCE: Duration = Duration::from_secs(1);

static QUEUE: OnceLock<Sender<Item>> = OnceLock::new();
static LOST: AtomicU64 = AtomicU64::new(0);

enum Item {
    Line(Vec<u8>),
    Flush(Sender<()>),
}

/// Starts the writer and gives the place where lines are handed in.
pub(crate) fn start(out: Box<dyn Write + Send>) -> io::Result<Lines> {
    let lines = spawn(out)?;
    // `install_log` gets here once at most; a second queue would only be unflushed.
    let _first = QUEUE.set(lines.0.clone());
    Ok(lines)
}

fn spawn(out: Box<dyn Write + Send>) -> io::Result<Lines> {
    let (sender, receiver) = bounded(LINES_QUEUED_MAX);
    thread::Builder::new()
        .name("observe-log".into())
        .spawn(move || write(out, &receiver))?;
    Ok(Lines(sender))
}

/// Lines lost since the process began.
pub(crate) fn lines_lost() -> u64 {
    LOST.load(Relaxed)
}

/// Hands in one finished line of our own; lost where there is no log.
pub(crate) fn line(line: Vec<u8>) {
    if let Some(queue) = QUEUE.get()
        && queue.try_send(Item::Line(line)).is_err()
    {
        LOST.fetch_add(1, Relaxed);
    }
}

/// Passes a flush on behind every line handed in before. `done` is dropped when it
/// is through, or at once where there is no log.
pub(crate) fn flush(done: Sender<()>) {
    if let Some(queue) = QUEUE.get() {
        // Failing drops `done`, which is what the waiting side waits for.
        let _stuck = queue.send_timeout(Item::Flush(done), FLUSH_PATIENCE);
    }
}

fn write(mut out: Box<dyn Write + Send>, items: &Receiver<Item>) {
    for item in items {
        match item {
            Item::Line(line) => {
                if out.write_all(&line).is_err() {
                    LOST.fetch_add(1, Relaxed);
                }
            }
            Item::Flush(done) => {
                let _unwritten = out.flush();
                drop(done);
            }
        }
    }
}

/// Where the subscriber writes to: each line becomes one item of the queue.
#[derive(Debug, Clone)]
pub(crate) struct Lines(Sender<Item>);

impl std::fmt::Debug for Item {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Item::Line(_) => "Line",
            Item::Flush(_) => "Flush",
        })
    }
}

impl<'w> MakeWriter<'w> for Lines {
    type Writer = &'w Lines;

    fn make_writer(&'w self) -> Self::Writer {
        self
    }
}

impl Write for &Lines {
    // The subscriber formats a line whole and writes it in one call.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if self.0.try_send(Item::Line(line.to_vec())).is_err() {
            LOST.fetch_add(1, Relaxed);
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A pipe that nobody reads until the test says so.
    struct Stuck(Receiver<()>);

    impl Write for Stuck {
        fn write(&mut self, line: &[u8]) -> io::Result<usize> {
            // Closed, it is stuck no more.
            let _read = self.0.recv();
            Ok(line.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    struct Full;

    impl Write for Full {
        fn write(&mut self, _line: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::StorageFull.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    // One test for both: they share the count of lost lines.
    #[test]
    fn a_log_that_cannot_be_written_loses_lines_and_holds_up_nobody() {
        let (reader, pipe) = bounded(0);
        let stuck = spawn(Box::new(Stuck(pipe))).unwrap();
        // The queue's fill, one that may be in the writer's hands, and ten more.
        for _ in 0..=LINES_QUEUED_MAX + 10 {
            (&stuck).write_all(b"line\n").unwrap();
        }
        let lost = lines_lost();
        assert!((10..=11).contains(&lost), "{lost}");
        drop(reader);

        let full = spawn(Box::new(Full)).unwrap();
        (&full).write_all(b"line\n").unwrap();
        let (done, waiting) = bounded::<()>(1);
        full.0.send(Item::Flush(done)).unwrap();
        assert!(waiting.recv().is_err(), "the flush is through");
        assert_eq!(lines_lost(), lost + 1);
    }
}
