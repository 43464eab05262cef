//! A body that grows while it is read.
//!
//! One writer (the fill) appends; any number of readers follow, each at its own
//! pace. Invariants:
//!
//! - While the body is **kept**, every byte stays until the fill ends, so a reader
//!   may join late and a slow one holds nobody up.
//! - Once it is **passing** (too large to keep, or not to be kept at all), only a
//!   window is held. The writer waits when the window is full, and after a named
//!   while cuts off the readers that hold it back: visibly, as a broken body.
//! - A body ends once, whole or broken. A broken body never looks whole.
//! - A passing body without readers tells its writer to stop.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use parking_lot::Mutex;
use tokio::sync::Notify;

/// Why a body ended before it was whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Broken {
    /// The upstream stopped in the middle, and no other way could resume.
    Upstream,
    /// This reader held the fill back for too long.
    Laggard,
    /// The fill was abandoned: nobody read it and nobody would keep it.
    Abandoned,
}

/// What the writer learns when it appends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Appended {
    /// Go on.
    Taken { laggards_cut: usize },
    /// Nobody reads and nothing is kept.
    Unwanted,
}

/// The shared body.
#[derive(Debug)]
pub(crate) struct Growing {
    state: Mutex<State>,
    /// Wakes readers: bytes were added, or the body ended.
    grown: Notify,
    /// Wakes the writer: a reader moved on, or left.
    moved: Notify,
}

#[derive(Debug)]
struct State {
    chunks: VecDeque<Bytes>,
    /// Offset of the first byte still held.
    begin: u64,
    /// Offset behind the last byte appended.
    end: u64,
    kept: bool,
    finished: Option<Result<(), Broken>>,
    /// Live readers: id and position.
    readers: Vec<(u64, u64)>,
    next_reader: u64,
}

impl Growing {
    /// An empty body that is kept until told otherwise.
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            state: Mutex::new(State {
                chunks: VecDeque::new(),
                begin: 0,
                end: 0,
                kept: true,
                finished: None,
                readers: Vec::new(),
                next_reader: 0,
            }),
            grown: Notify::new(),
            moved: Notify::new(),
        })
    }

    /// A reader at the first byte; None once the first byte is gone.
    pub(crate) fn reader(self: &Arc<Self>) -> Option<Reader> {
        let mut state = self.state.lock();
        if state.begin > 0 {
            return None;
        }
        let id = state.next_reader;
        state.next_reader += 1;
        state.readers.push((id, 0));
        Some(Reader {
            body: Arc::clone(self),
            id,
            at: 0,
        })
    }

    /// From now on only a window is held.
    pub(crate) fn pass_through(&self) {
        let mut state = self.state.lock();
        state.kept = false;
        state.drop_read_chunks();
    }

    /// Whether every byte is still held for keeping.
    pub(crate) fn is_kept(&self) -> bool {
        self.state.lock().kept
    }

    /// Bytes appended so far.
    pub(crate) fn len(&self) -> u64 {
        self.state.lock().end
    }

    /// Appends a chunk. While the body passes through, waits until the slowest
    /// reader is at most `window_bytes` behind, and cuts off readers that keep
    /// it waiting longer than `patience`.
    pub(crate) async fn append(
        &self,
        chunk: Bytes,
        window_bytes: u64,
        patience: Duration,
    ) -> Appended {
        {
            let mut state = self.state.lock();
            if !state.kept && state.slowest().is_none() {
                return Appended::Unwanted;
            }
            state.end += chunk.len() as u64;
            if !chunk.is_empty() {
                state.chunks.push_back(chunk);
            }
        }
        self.grown.notify_waiters();
        let mut laggards_cut = 0;
        while let Some(slowest) = self.over_window(window_bytes) {
            let moved = self.moved.notified();
            tokio::pin!(moved);
            moved.as_mut().enable();
            if self.over_window(window_bytes).is_none() {
                break;
            }
            if pingora_timeout::timeout(patience, moved).await.is_err() {
                laggards_cut += self.cut_laggards(slowest);
            }
        }
        let state = self.state.lock();
        if !state.kept && state.slowest().is_none() {
            return Appended::Unwanted;
        }
        Appended::Taken { laggards_cut }
    }

    /// Ends the body.
    pub(crate) fn finish(&self, end: Result<(), Broken>) {
        let mut state = self.state.lock();
        if state.finished.is_none() {
            state.finished = Some(end);
        }
        drop(state);
        self.grown.notify_waiters();
    }

    /// The whole body in one piece, `last` at its end, if every byte of it was
    /// kept. The caller knows that it is whole; `last` need not be appended yet.
    pub(crate) fn assembled(&self, last: &Bytes) -> Option<Bytes> {
        let state = self.state.lock();
        if !state.kept || matches!(state.finished, Some(Err(_))) {
            return None;
        }
        match (state.chunks.len(), last.is_empty()) {
            (0, _) => return Some(last.clone()),
            (1, true) => return state.chunks.front().cloned(),
            _ => {}
        }
        let mut whole = BytesMut::with_capacity(state.end as usize + last.len());
        for chunk in &state.chunks {
            whole.extend_from_slice(chunk);
        }
        whole.extend_from_slice(last);
        Some(whole.freeze())
    }

    /// The slowest position, when the window is over-full.
    fn over_window(&self, window_bytes: u64) -> Option<u64> {
        let state = self.state.lock();
        if state.kept {
            return None;
        }
        let slowest = state.slowest()?;
        (state.end - slowest > window_bytes).then_some(slowest)
    }

    /// Cuts off every reader that still stands at `at` or before.
    fn cut_laggards(&self, at: u64) -> usize {
        let mut state = self.state.lock();
        let before = state.readers.len();
        state.readers.retain(|(_, position)| *position > at);
        let cut = before - state.readers.len();
        state.drop_read_chunks();
        drop(state);
        self.grown.notify_waiters();
        cut
    }
}

impl State {
    fn slowest(&self) -> Option<u64> {
        self.readers.iter().map(|(_, position)| *position).min()
    }

    /// Lets go of what every reader has behind it.
    fn drop_read_chunks(&mut self) {
        if self.kept {
            return;
        }
        let slowest = self.slowest().unwrap_or(self.end);
        while let Some(chunk) = self.chunks.front() {
            let chunk_end = self.begin + chunk.len() as u64;
            if chunk_end > slowest {
                break;
            }
            self.begin = chunk_end;
            self.chunks.pop_front();
        }
    }

    /// The bytes from `at` to the end of the chunk that holds it.
    fn chunk_at(&self, at: u64) -> Option<Bytes> {
        let mut begin = self.begin;
        // Readers near the end are the common case in a long body.
        if self.end.saturating_sub(at) < at.saturating_sub(begin) {
            let mut end = self.end;
            for chunk in self.chunks.iter().rev() {
                let chunk_begin = end - chunk.len() as u64;
                if chunk_begin <= at && at < end {
                    return Some(chunk.slice((at - chunk_begin) as usize..));
                }
                end = chunk_begin;
            }
            return None;
        }
        for chunk in &self.chunks {
            let end = begin + chunk.len() as u64;
            if begin <= at && at < end {
                return Some(chunk.slice((at - begin) as usize..));
            }
            begin = end;
        }
        None
    }
}

/// One reader's place in a growing body.
#[derive(Debug)]
pub(crate) struct Reader {
    body: Arc<Growing>,
    id: u64,
    at: u64,
}

impl Reader {
    /// The next bytes, `None` at the end of a whole body.
    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>, Broken> {
        loop {
            let body = Arc::clone(&self.body);
            let grown = body.grown.notified();
            tokio::pin!(grown);
            grown.as_mut().enable();
            if let Some(ready) = self.poll_now() {
                return ready;
            }
            grown.await;
        }
    }

    /// The next bytes, if they are there already.
    pub(crate) fn ready(&mut self) -> Option<Result<Option<Bytes>, Broken>> {
        self.poll_now()
    }

    /// What can be said without waiting.
    fn poll_now(&mut self) -> Option<Result<Option<Bytes>, Broken>> {
        let mut state = self.body.state.lock();
        let Some(place) = state.readers.iter().position(|(id, _)| *id == self.id) else {
            return Some(Err(Broken::Laggard));
        };
        if let Some(chunk) = state.chunk_at(self.at) {
            self.at += chunk.len() as u64;
            if let Some((_, position)) = state.readers.get_mut(place) {
                *position = self.at;
            }
            let passing = !state.kept;
            if passing {
                state.drop_read_chunks();
            }
            drop(state);
            if passing {
                self.body.moved.notify_one();
            }
            return Some(Ok(Some(chunk)));
        }
        match state.finished {
            Some(Ok(())) => Some(Ok(None)),
            Some(Err(broken)) => Some(Err(broken)),
            None => None,
        }
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        let mut state = self.body.state.lock();
        state.readers.retain(|(id, _)| *id != self.id);
        state.drop_read_chunks();
        drop(state);
        self.body.moved.notify_one();
    }
}

/// The part of a body that one answer sends.
#[derive(Debug)]
pub(crate) struct Cut {
    skip: u64,
    /// Bytes still to send, where that is known.
    left: Option<u64>,
}

impl Cut {
    /// `length` bytes, or all, behind the first `skip`.
    pub(crate) fn new(skip: u64, length: Option<u64>) -> Self {
        Self { skip, left: length }
    }

    /// What of the next chunk belongs to the part.
    pub(crate) fn wanted(&mut self, mut chunk: Bytes) -> Bytes {
        let skipped = self.skip.min(chunk.len() as u64);
        self.skip -= skipped;
        let mut chunk = chunk.split_off(skipped as usize);
        if let Some(left) = &mut self.left {
            let bytes = (*left).min(chunk.len() as u64);
            *left -= bytes;
            chunk.truncate(bytes as usize);
        }
        chunk
    }

    /// Nothing more belongs to the part.
    pub(crate) fn is_over(&self) -> bool {
        self.left == Some(0)
    }

    /// The body ended before the part did.
    pub(crate) fn misses_something(&self) -> bool {
        self.left.is_some_and(|left| left > 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(60);
    const SHORT: Duration = Duration::from_millis(20);

    async fn read_all(mut reader: Reader) -> Result<Vec<u8>, Broken> {
        let mut all = Vec::new();
        while let Some(chunk) = reader.next().await? {
            all.extend_from_slice(&chunk);
        }
        Ok(all)
    }

    #[tokio::test]
    async fn late_and_early_readers_see_the_same_bytes() {
        let body = Growing::new();
        let early = tokio::spawn(read_all(body.reader().unwrap()));
        for part in ["ab", "cd", "ef"] {
            let taken = body.append(Bytes::from(part), 1, LONG).await;
            assert_eq!(taken, Appended::Taken { laggards_cut: 0 });
        }
        let late = tokio::spawn(read_all(body.reader().unwrap()));
        body.finish(Ok(()));
        assert_eq!(early.await.unwrap().unwrap(), b"abcdef");
        assert_eq!(late.await.unwrap().unwrap(), b"abcdef");
        assert_eq!(body.assembled(&Bytes::from("g")).unwrap(), "abcdefg");
    }

    #[tokio::test]
    async fn a_broken_body_never_looks_whole() {
        let body = Growing::new();
        let reader = body.reader().unwrap();
        body.append(Bytes::from("ab"), 1, LONG).await;
        body.finish(Err(Broken::Upstream));
        assert_eq!(read_all(reader).await, Err(Broken::Upstream));
        assert!(body.assembled(&Bytes::new()).is_none());
    }

    #[tokio::test]
    async fn passing_bodies_hold_a_window_and_follow_the_reader() {
        let body = Growing::new();
        let mut reader = body.reader().unwrap();
        body.pass_through();
        let writer = tokio::spawn({
            let body = Arc::clone(&body);
            async move {
                for _ in 0..100 {
                    body.append(Bytes::from(vec![7; 1000]), 2000, LONG).await;
                    assert!(body.state.lock().chunks.len() <= 4);
                }
                body.finish(Ok(()));
            }
        });
        let mut seen = 0;
        while let Some(chunk) = reader.next().await.unwrap() {
            seen += chunk.len();
        }
        writer.await.unwrap();
        assert_eq!(seen, 100_000);
        assert!(body.assembled(&Bytes::new()).is_none());
        assert!(body.reader().is_none());
    }

    #[tokio::test]
    async fn laggards_are_cut_and_the_rest_goes_on() {
        let body = Growing::new();
        let mut laggard = body.reader().unwrap();
        let quick = tokio::spawn(read_all(body.reader().unwrap()));
        body.pass_through();
        let mut cut = 0;
        for _ in 0..5 {
            match body.append(Bytes::from(vec![1; 100]), 150, SHORT).await {
                Appended::Taken { laggards_cut } => cut += laggards_cut,
                Appended::Unwanted => panic!("a reader is left"),
            }
        }
        body.finish(Ok(()));
        assert_eq!(cut, 1);
        assert_eq!(quick.await.unwrap().unwrap().len(), 500);
        assert_eq!(laggard.next().await, Err(Broken::Laggard));
    }

    #[tokio::test]
    async fn nobody_reading_a_passing_body_stops_it() {
        let body = Growing::new();
        drop(body.reader());
        assert_eq!(
            body.append(Bytes::from("kept"), 1, LONG).await,
            Appended::Taken { laggards_cut: 0 }
        );
        body.pass_through();
        assert_eq!(
            body.append(Bytes::from("x"), 1, LONG).await,
            Appended::Unwanted
        );
    }
}
