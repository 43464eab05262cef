//! Bodies the demo origin sends: short ones whole, long ones from a pattern.
//!
//! A long body is never built. It is cut, without copying, out of one block that
//! repeats. The block's length is a prime, so that a cache which resumes or slices
//! at the wrong place shows other bytes, whatever power of two it is off by.

use std::convert::Infallible;
use std::ops::RangeInclusive;
use std::pin::Pin;
use std::sync::LazyLock;
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};

/// The largest prime below 64 KiB.
const PERIOD: usize = 65_521;

/// The body of a response.
#[derive(Debug)]
pub(crate) enum OriginBody {
    /// Held whole, and sent in one frame.
    Whole(Option<Bytes>),
    /// Part of the endless pattern.
    Pattern {
        /// Offset of the next byte.
        at: u64,
        /// Bytes still to send.
        left: u64,
        /// Whether the length is told beforehand.
        sized: bool,
    },
}

impl OriginBody {
    /// A body held whole.
    pub(super) fn whole(bytes: impl Into<Bytes>) -> Self {
        let bytes = bytes.into();
        Self::Whole((!bytes.is_empty()).then_some(bytes))
    }

    /// `length` bytes of the pattern from `start`, with their length told.
    pub(super) fn pattern(start: u64, length: u64) -> Self {
        Self::Pattern {
            at: start,
            left: length,
            sized: true,
        }
    }

    /// The first `length` bytes of the pattern, with no length told.
    pub(super) fn unsized_pattern(length: u64) -> Self {
        Self::Pattern {
            at: 0,
            left: length,
            sized: false,
        }
    }

    /// The bytes of `range`, which must lie inside a body with a length.
    pub(super) fn part(self, range: RangeInclusive<u64>) -> Self {
        let (first, length) = (*range.start(), range.end() - range.start() + 1);
        match self {
            Self::Pattern { at, sized, .. } => Self::Pattern {
                at: at + first,
                left: length,
                sized,
            },
            Self::Whole(bytes) => {
                let inside = |offset| usize::try_from(offset).expect("a held body fits in memory");
                let bytes = bytes.unwrap_or_default();
                Self::whole(bytes.slice(inside(first)..inside(first + length)))
            }
        }
    }
}

impl Body for OriginBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let bytes = match self.get_mut() {
            Self::Whole(bytes) => bytes.take(),
            Self::Pattern { at, left, .. } => next(at, left),
        };
        Poll::Ready(bytes.map(|bytes| Ok(Frame::data(bytes))))
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Whole(bytes) => bytes.is_none(),
            Self::Pattern { left, .. } => *left == 0,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(bytes) => {
                SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64))
            }
            Self::Pattern {
                left, sized: true, ..
            } => SizeHint::with_exact(*left),
            Self::Pattern { sized: false, .. } => SizeHint::default(),
        }
    }
}

/// The next piece of the pattern: up to the end of the block, no further than `left`.
fn next(at: &mut u64, left: &mut u64) -> Option<Bytes> {
    if *left == 0 {
        return None;
    }
    let from = (*at % PERIOD as u64) as usize;
    let length = (PERIOD - from).min(usize::try_from(*left).unwrap_or(usize::MAX));
    *at = at.wrapping_add(length as u64);
    *left -= length as u64;
    Some(block().slice(from..from + length))
}

/// One period of the pattern: a fixed xorshift sequence.
fn block() -> &'static Bytes {
    static BLOCK: LazyLock<Bytes> = LazyLock::new(|| {
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let bytes = std::iter::repeat_with(|| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 32) as u8
        });
        bytes.take(PERIOD).collect::<Vec<_>>().into()
    });
    &BLOCK
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drain(start: u64, length: u64) -> Vec<u8> {
        let (mut at, mut left) = (start, length);
        std::iter::from_fn(|| next(&mut at, &mut left))
            .flatten()
            .collect()
    }

    #[test]
    fn any_piece_is_that_piece_of_the_whole() {
        let whole = drain(0, 200_000);
        assert_eq!(whole.len(), 200_000);
        let period = PERIOD as u64;
        for (start, length) in [
            (0, 0),
            (0, 1),
            (1, 70_000),
            (period - 1, 2),
            (period, 10),
            (199_999, 1),
        ] {
            let piece = &whole[start as usize..(start + length) as usize];
            assert_eq!(drain(start, length), piece, "{length} bytes from {start}");
        }
    }

    #[test]
    fn a_piece_off_by_a_power_of_two_is_noticed() {
        for shift in 0..24 {
            assert_ne!(drain(0, 64), drain(1 << shift, 64), "off by 2^{shift}");
        }
    }
}
