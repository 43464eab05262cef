//! A stream that gives back what was already read of it.
//!
//! Our own door reads ahead; when it hands a request to pingora's session, the
//! bytes it holds are replayed first, unchanged. Where the request's end is known
//! or can be found, not a byte beyond it is delivered: what a pipelining client
//! sent behind it stays here, and our own door goes on with it afterwards.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use async_trait::async_trait;
use bytes::{Buf, Bytes, BytesMut};
use pingora_core::protocols::raw_connect::ProxyDigest;
use pingora_core::protocols::tls::{SslDigest, TlsRef};
use pingora_core::protocols::{
    ALPN, GetProxyDigest, GetSocketDigest, GetTimingDigest, Peek, Shutdown, SocketDigest, Ssl,
    Stream, TimingDigest, UniqueID, UniqueIDType,
};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};

use super::chunks::ChunkedEnd;

/// Bytes taken off the socket behind a request's end while waiting for its
/// answer; the rest waits in the kernel.
const BEHIND_BYTES_MAX: usize = 16 * 1024;

/// How far a request reaches on its stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Extent {
    /// So many bytes, its head included.
    Bytes(u64),
    /// A head of so many bytes, and chunks behind it.
    Chunks { head: usize },
    /// To the end of the stream, or nobody knows.
    Open,
}

/// The stream, with what was read ahead.
#[derive(Debug)]
pub(crate) struct Replay {
    inner: Stream,
    /// Read already, and to be read again.
    ahead: Bytes,
    /// Bytes still to deliver; None where the end is not known in advance.
    left: Option<u64>,
    /// Finds the end of a chunked request; None where there is nothing to find.
    chunks: Option<ChunkedEnd>,
    /// Arrived behind the request's end.
    behind: BytesMut,
}

impl Replay {
    /// Replays `ahead` and what then follows on the stream, as far as the request
    /// reaches.
    pub(crate) fn new(inner: Stream, mut ahead: Bytes, extent: Extent) -> Self {
        let mut chunks = None;
        let length = match extent {
            Extent::Bytes(length) => Some(length),
            Extent::Open => None,
            Extent::Chunks { head } => {
                let mut end = ChunkedEnd::default();
                let found = end.scan(ahead.get(head..).unwrap_or_default());
                chunks = found.is_none().then_some(end);
                found.map(|body| head as u64 + body as u64)
            }
        };
        let behind = match length.map(usize::try_from) {
            Some(Ok(length)) if length < ahead.len() => {
                BytesMut::from(&ahead.split_off(length)[..])
            }
            _ => BytesMut::new(),
        };
        Self {
            inner,
            ahead,
            left: length,
            chunks,
            behind,
        }
    }

    /// The stream, and what belongs to the next request. None where not all that
    /// was read ahead was taken: nobody knows then where the next request begins.
    pub(crate) fn into_parts(self) -> Option<(Stream, BytesMut)> {
        self.ahead.is_empty().then_some((self.inner, self.behind))
    }

    /// Takes back what of `buf`, from `before` on, stands behind the last chunk.
    fn end_at_last_chunk(&mut self, buf: &mut ReadBuf<'_>, before: usize) {
        let Some(chunks) = &mut self.chunks else {
            return;
        };
        let fresh = buf.filled().get(before..).unwrap_or_default();
        if let Some(body) = chunks.scan(fresh) {
            self.behind
                .extend_from_slice(fresh.get(body..).unwrap_or_default());
            buf.set_filled(before + body);
            self.chunks = None;
            self.left = Some(0);
        }
    }

    fn delivered(&mut self, bytes: usize) {
        if let Some(left) = &mut self.left {
            *left = left.saturating_sub(bytes as u64);
        }
    }

    /// The request is over; all that is left to see is whether the client leaves.
    fn poll_behind(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            if self.behind.len() >= BEHIND_BYTES_MAX {
                return Poll::Pending;
            }
            let mut chunk = [0; 4096];
            let mut chunk = ReadBuf::new(&mut chunk);
            match Pin::new(&mut self.inner).poll_read(context, &mut chunk) {
                Poll::Ready(Ok(())) if !chunk.filled().is_empty() => {
                    self.behind.extend_from_slice(chunk.filled());
                }
                // End of stream, an error, or nothing yet.
                other => return other,
            }
        }
    }
}

impl AsyncRead for Replay {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if !self.ahead.is_empty() {
            let bytes = self.ahead.len().min(buf.remaining());
            buf.put_slice(self.ahead.get(..bytes).unwrap_or_default());
            self.ahead.advance(bytes);
            self.delivered(bytes);
            return Poll::Ready(Ok(()));
        }
        let left = match self.left {
            Some(0) => return self.poll_behind(context),
            Some(left) => usize::try_from(left).unwrap_or(usize::MAX),
            None => usize::MAX,
        };
        if left >= buf.remaining() {
            let before = buf.filled().len();
            let polled = Pin::new(&mut self.inner).poll_read(context, buf);
            let bytes = buf.filled().len() - before;
            self.delivered(bytes);
            self.end_at_last_chunk(buf, before);
            return polled;
        }
        let mut last = vec![0; left];
        let mut last = ReadBuf::new(&mut last);
        let polled = Pin::new(&mut self.inner).poll_read(context, &mut last);
        buf.put_slice(last.filled());
        let bytes = last.filled().len();
        self.delivered(bytes);
        polled
    }
}

impl AsyncWrite for Replay {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(context, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write_vectored(context, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }
}

#[async_trait]
impl Shutdown for Replay {
    async fn shutdown(&mut self) {
        self.inner.shutdown().await;
    }
}

impl UniqueID for Replay {
    fn id(&self) -> UniqueIDType {
        self.inner.id()
    }
}

impl Ssl for Replay {
    fn get_ssl(&self) -> Option<&TlsRef> {
        self.inner.get_ssl()
    }

    fn get_ssl_digest(&self) -> Option<Arc<SslDigest>> {
        self.inner.get_ssl_digest()
    }

    fn selected_alpn_proto(&self) -> Option<ALPN> {
        self.inner.selected_alpn_proto()
    }
}

#[async_trait]
impl Peek for Replay {
    /// Peeks at the first bytes; used by pingora to see HTTP/2's preface.
    async fn try_peek(&mut self, buf: &mut [u8]) -> io::Result<bool> {
        let mut ahead = BytesMut::from(&self.ahead[..]);
        while ahead.len() < buf.len() {
            if self.inner.read_buf(&mut ahead).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        self.ahead = ahead.freeze();
        let length = buf.len();
        buf.copy_from_slice(self.ahead.get(..length).unwrap_or_default());
        Ok(true)
    }
}

impl GetTimingDigest for Replay {
    fn get_timing_digest(&self) -> Vec<Option<TimingDigest>> {
        self.inner.get_timing_digest()
    }
}

impl GetProxyDigest for Replay {
    fn get_proxy_digest(&self) -> Option<Arc<ProxyDigest>> {
        self.inner.get_proxy_digest()
    }
}

impl GetSocketDigest for Replay {
    fn get_socket_digest(&self) -> Option<Arc<SocketDigest>> {
        self.inner.get_socket_digest()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::AsyncWriteExt;

    #[tokio::test]
    async fn a_request_ends_where_it_ends() {
        let (ours, mut client) = tokio::io::duplex(64);
        client.write_all(b"cdNEXT").await.unwrap();
        let mut replay = Replay::new(Box::new(ours), Bytes::from_static(b"ab"), Extent::Bytes(4));
        let mut read = [0; 4];
        replay.read_exact(&mut read).await.unwrap();
        assert_eq!(&read, b"abcd");
        let mut rest = [0; 4];
        // Nothing of the next request is delivered, but the client's leaving is seen.
        tokio::select! {
            biased;
            _ = replay.read(&mut rest) => panic!("delivered beyond the end"),
            () = tokio::task::yield_now() => {}
        }
        drop(client);
        assert_eq!(replay.read(&mut rest).await.unwrap(), 0);
        assert_eq!(&replay.into_parts().unwrap().1[..], b"NEXT");
    }

    #[tokio::test]
    async fn what_was_read_too_far_stays_behind() {
        let (ours, _client) = tokio::io::duplex(64);
        let ahead = Bytes::from_static(b"abNEXT");
        let mut replay = Replay::new(Box::new(ours), ahead, Extent::Bytes(2));
        let mut read = [0; 8];
        assert_eq!(replay.read(&mut read).await.unwrap(), 2);
        assert_eq!(&replay.into_parts().unwrap().1[..], b"NEXT");
    }

    #[tokio::test]
    async fn chunks_end_where_the_last_one_does() {
        for (ahead, later) in [
            ("HEAD", "1\r\na\r\n0\r\n\r\nNEXT"),
            ("HEAD1\r\na", "\r\n0\r\n\r\nNEXT"),
            ("HEAD1\r\na\r\n0\r\n\r\nNEXT", ""),
        ] {
            let (ours, mut client) = tokio::io::duplex(64);
            client.write_all(later.as_bytes()).await.unwrap();
            let ahead = Bytes::from_static(ahead.as_bytes());
            let mut replay = Replay::new(Box::new(ours), ahead, Extent::Chunks { head: 4 });
            let mut read = [0; 15];
            replay.read_exact(&mut read).await.unwrap();
            assert_eq!(&read, b"HEAD1\r\na\r\n0\r\n\r\n");
            drop(client);
            assert_eq!(replay.read(&mut read).await.unwrap(), 0);
            assert_eq!(&replay.into_parts().unwrap().1[..], b"NEXT");
        }
    }

    #[tokio::test]
    async fn without_a_known_end_everything_is_delivered() {
        let (ours, mut client) = tokio::io::duplex(64);
        client.write_all(b"cd").await.unwrap();
        drop(client);
        let mut replay = Replay::new(Box::new(ours), Bytes::from_static(b"ab"), Extent::Open);
        let mut all = Vec::new();
        replay.read_to_end(&mut all).await.unwrap();
        assert_eq!(all, b"abcd");
    }

    #[tokio::test]
    async fn peeking_takes_nothing_away() {
        let (ours, mut client) = tokio::io::duplex(64);
        client.write_all(b"cd").await.unwrap();
        drop(client);
        let mut replay = Replay::new(Box::new(ours), Bytes::from_static(b"ab"), Extent::Open);
        let mut peeked = [0; 3];
        assert!(replay.try_peek(&mut peeked).await.unwrap());
        assert_eq!(&peeked, b"abc");
        let mut all = Vec::new();
        replay.read_to_end(&mut all).await.unwrap();
        assert_eq!(all, b"abcd");
    }
}
