//! Our own HTTP/1 writer: head and body in one write, `Date` passed on unchanged.

use std::io::{self, IoSlice};
use std::time::Duration;

use bytes::{BufMut, BytesMut};
use http::header::{CONTENT_LENGTH, TRANSFER_ENCODING};
use pingora_core::protocols::Stream;
use pingora_timeout::timeout;
use tokio::io::AsyncWriteExt;

use crate::answer::{self, Answer, Body, Head};
use crate::fill::body::{Broken, Cut, Reader};
use crate::fill::interim::Interim;

/// Buffers of one connection, used again from answer to answer.
#[derive(Debug, Default)]
pub(crate) struct Writer {
    head: BytesMut,
    scratch: Vec<u8>,
}

/// How the connection goes on after an answer.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Manner {
    /// Minor version of the request.
    pub(crate) minor: u8,
    /// Another request may follow.
    pub(crate) keep_alive: bool,
    /// A visitor that takes no byte for this long is cut off.
    pub(crate) patience: Duration,
}

/// What was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Sent {
    pub(crate) body_bytes: u64,
    /// Another request may follow.
    pub(crate) keep_alive: bool,
    /// All of it went out. If not, the connection must be closed at once: that is
    /// how the client sees that the answer is not whole.
    pub(crate) whole: bool,
}

impl Writer {
    /// Writes an answer.
    pub(crate) async fn write(
        &mut self,
        stream: &mut Stream,
        node: &str,
        answer: &mut Answer,
        manner: Manner,
    ) -> Sent {
        let framing = Framing::of(answer, manner);
        let keep_alive = manner.keep_alive && framing != Framing::Close;
        self.write_head(node, answer, framing, manner.minor, keep_alive);
        let mut sent = Sent {
            body_bytes: 0,
            keep_alive,
            whole: false,
        };
        let result = match &mut answer.body {
            Body::Absent => write_all(stream, [&self.head, &[], &[]], manner.patience).await,
            Body::Whole(body) => {
                let result = write_all(stream, [&self.head, body, &[]], manner.patience).await;
                if result.is_ok() {
                    sent.body_bytes = body.len() as u64;
                }
                result
            }
            Body::Growing {
                reader,
                skip,
                length,
            } => {
                let mut growing = GrowingBody {
                    reader,
                    cut: Cut::new(*skip, *length),
                    chunked: framing == Framing::Chunked,
                };
                growing
                    .write(
                        stream,
                        &mut self.head,
                        manner.patience,
                        &mut sent.body_bytes,
                    )
                    .await
            }
        };
        sent.whole = result.is_ok();
        sent.keep_alive &= sent.whole;
        sent
    }

    /// Writes an interim answer. False: the client is gone.
    pub(crate) async fn write_interim(
        &mut self,
        stream: &mut Stream,
        interim: &Interim,
        patience: Duration,
    ) -> bool {
        self.head.clear();
        answer::write_status_line(&mut self.head, interim.status);
        answer::write_fields(&mut self.head, &interim.fields);
        self.head.put_slice(b"\r\n");
        write_all(stream, [&self.head, &[], &[]], patience)
            .await
            .is_ok()
    }

    fn write_head(
        &mut self,
        node: &str,
        answer: &Answer,
        framing: Framing,
        minor: u8,
        keep_alive: bool,
    ) {
        self.head.clear();
        match &answer.head {
            Head::Stored {
                object,
                age_s,
                cache_status,
            } => {
                self.head.put_slice(&object.head);
                answer::write_hit_lines(
                    &mut self.head,
                    &mut self.scratch,
                    node,
                    *age_s,
                    cache_status,
                );
            }
            Head::Built { status, fields } => {
                answer::write_status_line(&mut self.head, *status);
                answer::write_fields(&mut self.head, fields);
            }
        }
        if framing == Framing::Chunked {
            self.head.put_slice(b"transfer-encoding: chunked\r\n");
        }
        if !keep_alive {
            self.head.put_slice(b"connection: close\r\n");
        } else if minor == 0 {
            self.head.put_slice(b"connection: keep-alive\r\n");
        }
        self.head.put_slice(b"\r\n");
    }
}

/// How the body's end is told (RFC 9112 §6.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Framing {
    /// By its length, or there is none.
    Length,
    Chunked,
    /// By closing: HTTP/1.0 knows no other way for an unknown length.
    Close,
}

impl Framing {
    fn of(answer: &mut Answer, manner: Manner) -> Self {
        let Body::Growing { length, .. } = &answer.body else {
            return Self::Length;
        };
        if length.is_some() {
            return Self::Length;
        }
        if let Head::Built { fields, .. } = &mut answer.head {
            fields.remove(CONTENT_LENGTH);
            fields.remove(TRANSFER_ENCODING);
        }
        if manner.minor >= 1 {
            Self::Chunked
        } else {
            Self::Close
        }
    }
}

struct GrowingBody<'a> {
    reader: &'a mut Reader,
    cut: Cut,
    chunked: bool,
}

impl GrowingBody<'_> {
    async fn write(
        &mut self,
        stream: &mut Stream,
        head: &mut BytesMut,
        patience: Duration,
        body_bytes: &mut u64,
    ) -> io::Result<()> {
        // The head goes out with the first bytes where these are there already,
        // and at once where they are not.
        let mut first = match self.reader.ready() {
            Some(first) => Some(first),
            None => {
                write_all(stream, [head, &[], &[]], patience).await?;
                head.clear();
                None
            }
        };
        loop {
            if self.cut.is_over() {
                return write_all(stream, [head, &[], &[]], patience).await;
            }
            let next = match first.take() {
                Some(next) => next,
                None => self.reader.next().await,
            };
            match next {
                Ok(Some(chunk)) => {
                    let chunk = self.cut.wanted(chunk);
                    if chunk.is_empty() {
                        continue;
                    }
                    let end: &[u8] = if self.chunked {
                        head.put_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
                        b"\r\n"
                    } else {
                        b""
                    };
                    write_all(stream, [head, &chunk, end], patience).await?;
                    head.clear();
                    *body_bytes += chunk.len() as u64;
                }
                Ok(None) if self.chunked => {
                    head.put_slice(b"0\r\n\r\n");
                    return write_all(stream, [head, &[], &[]], patience).await;
                }
                Ok(None) if self.cut.misses_something() => {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                Ok(None) => return write_all(stream, [head, &[], &[]], patience).await,
                Err(Broken::Upstream | Broken::Laggard | Broken::Abandoned) => {
                    return Err(io::ErrorKind::BrokenPipe.into());
                }
            }
        }
    }
}

/// Writes the parts as one, however often the socket takes only some of it.
async fn write_all(
    stream: &mut Stream,
    mut parts: [&[u8]; 3],
    patience: Duration,
) -> io::Result<()> {
    loop {
        let mut slices = [IoSlice::new(&[]); 3];
        let mut count = 0;
        for (slice, part) in slices
            .iter_mut()
            .zip(parts.iter().filter(|part| !part.is_empty()))
        {
            *slice = IoSlice::new(part);
            count += 1;
        }
        let Some(slices) = slices.get(..count).filter(|slices| !slices.is_empty()) else {
            break;
        };
        let mut written = timeout(patience, stream.write_vectored(slices))
            .await
            .map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
        if written == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        for part in &mut parts {
            let taken = written.min(part.len());
            *part = part.get(taken..).unwrap_or_default();
            written -= taken;
        }
    }
    timeout(patience, stream.flush())
        .await
        .map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
}
