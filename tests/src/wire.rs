//! HTTP/1.1 as bytes, read as simply as a test can afford.
//!
//! Both sides of every scenario use it: clients for responses, the origin for
//! requests, the relay for both. It accepts what is well formed and panics on
//! nothing: what is not well formed is an error that the caller judges.

use std::io;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

/// Room for one read: large bodies should not take a thousand times as many reads.
const READ_BYTES: usize = 64 << 10;

/// A head larger than this is no head that a scenario sends or expects.
const HEAD_BYTES_MAX: usize = 1 << 20;

/// Anything that bytes go through both ways.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// Fields in the order they came, names as they were written.
pub type Fields = Vec<(String, String)>;

/// All values of a field, joined as a list; None where there is none.
#[must_use]
pub fn field(fields: &Fields, name: &str) -> Option<String> {
    let values: Vec<&str> = fields
        .iter()
        .filter(|(have, _)| have.eq_ignore_ascii_case(name))
        .map(|(_, value)| value.as_str())
        .collect();
    (!values.is_empty()).then(|| values.join(", "))
}

/// Replaces every line of a field by one, or by none.
pub fn set_field(fields: &mut Fields, name: &str, value: Option<&str>) {
    fields.retain(|(have, _)| !have.eq_ignore_ascii_case(name));
    if let Some(value) = value {
        fields.push((name.to_owned(), value.to_owned()));
    }
}

/// A start line and fields.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) start: String,
    pub(crate) fields: Fields,
}

/// A whole message.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Message {
    /// Request line or status line.
    pub start: String,
    /// Its fields.
    pub fields: Fields,
    /// Its body, without framing.
    pub body: Bytes,
    /// Whether the body came to the end that its framing promised.
    pub complete: bool,
}

impl Message {
    /// All values of a field, joined.
    #[must_use]
    pub fn field(&self, name: &str) -> Option<String> {
        field(&self.fields, name)
    }

    /// The message as bytes: with its own `Content-Length` where it has one or
    /// none is needed, in one chunk where it was chunked.
    #[must_use]
    pub fn bytes(&self, bodyless: bool) -> Vec<u8> {
        let mut out = head_bytes(&self.start, &self.fields);
        if bodyless {
            return out;
        }
        if is_chunked(&self.fields) {
            if !self.body.is_empty() {
                out.extend_from_slice(format!("{:x}\r\n", self.body.len()).as_bytes());
                out.extend_from_slice(&self.body);
                out.extend_from_slice(b"\r\n");
            }
            if self.complete {
                out.extend_from_slice(b"0\r\n\r\n");
            }
        } else {
            out.extend_from_slice(&self.body);
        }
        out
    }
}

/// A head as bytes, its empty line included.
pub(crate) fn head_bytes(start: &str, fields: &Fields) -> Vec<u8> {
    let mut out = format!("{start}\r\n").into_bytes();
    for (name, value) in fields {
        out.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
    }
    out.extend_from_slice(b"\r\n");
    out
}

/// How a body ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Framing {
    Length(u64),
    Chunked,
    /// With the connection.
    Close,
}

fn is_chunked(fields: &Fields) -> bool {
    field(fields, "transfer-encoding").is_some_and(|codings| codings.contains("chunked"))
}

/// The framing of a request (RFC 9112 §6.3).
pub(crate) fn request_framing(fields: &Fields) -> Framing {
    if is_chunked(fields) {
        return Framing::Chunked;
    }
    Framing::Length(content_length(fields).unwrap_or(0))
}

/// The framing of a response to `method`.
pub(crate) fn response_framing(method: &str, status: u16, fields: &Fields) -> Framing {
    if method == "HEAD" || status < 200 || status == 204 || status == 304 {
        return Framing::Length(0);
    }
    if is_chunked(fields) {
        return Framing::Chunked;
    }
    content_length(fields).map_or(Framing::Close, Framing::Length)
}

fn content_length(fields: &Fields) -> Option<u64> {
    field(fields, "content-length")?.parse().ok()
}

/// The status of a status line.
pub(crate) fn status_of(start: &str) -> Option<u16> {
    start.split(' ').nth(1)?.parse().ok()
}

/// One connection, read message by message.
pub(crate) struct Wire {
    stream: Box<dyn Stream>,
    buffer: BytesMut,
    body: Body,
}

/// Where in a body we are.
#[derive(Clone, Copy, Debug)]
enum Body {
    Done,
    Length(u64),
    ChunkHead,
    Chunk(u64),
    ChunkEnd,
    Close,
}

impl std::fmt::Debug for Wire {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Wire")
            .field("buffered", &self.buffer.len())
            .field("body", &self.body)
            .finish_non_exhaustive()
    }
}

impl Wire {
    pub(crate) fn new(stream: Box<dyn Stream>) -> Self {
        Self {
            stream,
            buffer: BytesMut::new(),
            body: Body::Done,
        }
    }

    pub(crate) async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes).await?;
        self.stream.flush().await
    }

    /// Says that nothing more will be written.
    pub(crate) async fn finish_writing(&mut self) -> io::Result<()> {
        self.stream.shutdown().await
    }

    /// The stream, and what was read of it and not used.
    pub(crate) fn into_parts(self) -> (Box<dyn Stream>, Bytes) {
        (self.stream, self.buffer.freeze())
    }

    /// Reads once. False at the end of the stream.
    async fn more(&mut self) -> io::Result<bool> {
        self.buffer.reserve(READ_BYTES);
        Ok(self.stream.read_buf(&mut self.buffer).await? > 0)
    }

    /// Waits for a byte, and whether the stream ends without one. A connection
    /// that is reset has ended too.
    pub(crate) async fn is_at_end(&mut self) -> bool {
        self.buffer.is_empty() && !self.more().await.unwrap_or(false)
    }

    /// The next head. None where the connection ends before one begins.
    pub(crate) async fn head(&mut self) -> io::Result<Option<Head>> {
        loop {
            if let Some(end) = position(&self.buffer, b"\r\n\r\n") {
                let head = self.buffer.split_to(end + 4);
                return Ok(Some(parse_head(&head[..end])));
            }
            if self.buffer.len() > HEAD_BYTES_MAX {
                return Err(io::Error::other("a head without an end"));
            }
            if !self.more().await? {
                return match self.buffer.is_empty() {
                    true => Ok(None),
                    false => Err(io::Error::other(format!(
                        "the connection ended within a head: {:?}",
                        String::from_utf8_lossy(&self.buffer)
                    ))),
                };
            }
        }
    }

    /// Says how the body after the last head is framed.
    pub(crate) fn begin_body(&mut self, framing: Framing) {
        self.body = match framing {
            Framing::Length(0) => Body::Done,
            Framing::Length(bytes) => Body::Length(bytes),
            Framing::Chunked => Body::ChunkHead,
            Framing::Close => Body::Close,
        };
    }

    /// The next part of the body; None at its proper end.
    pub(crate) async fn part(&mut self) -> io::Result<Option<Bytes>> {
        loop {
            match self.body {
                Body::Done => return Ok(None),
                Body::ChunkHead => self.chunk_head().await?,
                Body::ChunkEnd => {
                    self.line().await?;
                    self.body = Body::ChunkHead;
                }
                Body::Length(left) => {
                    let part = self.at_most(left).await?;
                    let left = left - part.len() as u64;
                    self.body = if left == 0 {
                        Body::Done
                    } else {
                        Body::Length(left)
                    };
                    return Ok(Some(part));
                }
                Body::Chunk(left) => {
                    let part = self.at_most(left).await?;
                    let left = left - part.len() as u64;
                    // The line end behind a chunk may come with the next one.
                    self.body = match left {
                        0 => Body::ChunkEnd,
                        _ => Body::Chunk(left),
                    };
                    return Ok(Some(part));
                }
                Body::Close => {
                    if self.buffer.is_empty() && !self.more().await? {
                        self.body = Body::Done;
                        return Ok(None);
                    }
                    return Ok(Some(self.buffer.split().freeze()));
                }
            }
        }
    }

    /// The rest of the body, and whether it came to its end.
    pub(crate) async fn rest(&mut self) -> (Bytes, bool) {
        let mut body = BytesMut::new();
        loop {
            match self.part().await {
                Ok(Some(part)) => body.extend_from_slice(&part),
                Ok(None) => return (body.freeze(), true),
                Err(_) => return (body.freeze(), false),
            }
        }
    }

    /// At least one and at most `most` bytes.
    async fn at_most(&mut self, most: u64) -> io::Result<Bytes> {
        if self.buffer.is_empty() && !self.more().await? {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let bytes = usize::try_from(most).unwrap_or(usize::MAX);
        let bytes = bytes.min(self.buffer.len());
        Ok(self.buffer.split_to(bytes).freeze())
    }

    async fn line(&mut self) -> io::Result<String> {
        loop {
            if let Some(end) = position(&self.buffer, b"\r\n") {
                let line = self.buffer.split_to(end + 2);
                return Ok(String::from_utf8_lossy(&line[..end]).into_owned());
            }
            if !self.more().await? {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }

    async fn chunk_head(&mut self) -> io::Result<()> {
        let line = self.line().await?;
        let digits = line.split(';').next().unwrap_or_default().trim();
        let bytes = u64::from_str_radix(digits, 16)
            .map_err(|_| io::Error::other(format!("no chunk size: {line:?}")))?;
        if bytes > 0 {
            self.body = Body::Chunk(bytes);
            return Ok(());
        }
        // Trailers, up to the empty line.
        while !self.line().await?.is_empty() {}
        self.body = Body::Done;
        Ok(())
    }

    /// The next bytes, whatever they are; empty at the end of the stream.
    pub(crate) async fn raw(&mut self) -> io::Result<Bytes> {
        if self.buffer.is_empty() {
            self.more().await?;
        }
        Ok(self.buffer.split().freeze())
    }
}

fn position(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack
        .windows(needle.len())
        .position(|window| window == needle)
}

pub(crate) fn parse_head(bytes: &[u8]) -> Head {
    let text = String::from_utf8_lossy(bytes);
    let mut lines = text.split("\r\n");
    let start = lines.next().unwrap_or_default().to_owned();
    let fields = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_owned(), value.trim().to_owned()))
        .collect();
    Head { start, fields }
}
