//! Where a chunked body ends (RFC 9112 §7.1), found without reading it.
//!
//! The scanner is stricter than whoever reads the body afterwards: at the first
//! byte that it does not expect it gives up, and from then on nothing is known.
//! It decides nothing about the body. It only says which bytes stand behind it,
//! and a body whose reader disagrees ends the connection.

/// Digits of a chunk's size: more than sixteen hold no number of ours.
const SIZE_DIGITS_MAX: u8 = 16;

/// Finds the end of one chunked body, however its bytes arrive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ChunkedEnd {
    at: At,
}

/// What the next byte belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum At {
    Size {
        size: u64,
        digits: u8,
    },
    Extension {
        size: u64,
    },
    SizeLf {
        size: u64,
    },
    Data {
        left: u64,
    },
    DataCr,
    DataLf,
    /// The beginning of a trailer line, or of the empty one.
    Trailer,
    TrailerText,
    TrailerLf,
    LastLf,
    End,
    /// Something unexpected: whoever reads the body will say what.
    Lost,
}

impl Default for ChunkedEnd {
    fn default() -> Self {
        Self { at: At::SIZE }
    }
}

impl ChunkedEnd {
    /// Takes the next bytes of the stream. Says how many of them belong to the
    /// body where it ends among them, and None where it goes on or nothing is known.
    pub(crate) fn scan(&mut self, bytes: &[u8]) -> Option<usize> {
        let mut rest = bytes;
        loop {
            if let At::Data { left } = self.at {
                let data = rest.len().min(usize::try_from(left).unwrap_or(usize::MAX));
                rest = rest.get(data..).unwrap_or_default();
                self.at = match left - data as u64 {
                    0 => At::DataCr,
                    left => At::Data { left },
                };
            }
            if self.at == At::Lost {
                return None;
            }
            let (byte, behind) = rest.split_first()?;
            self.at = self.at.after(*byte);
            rest = behind;
            if self.at == At::End {
                return Some(bytes.len() - rest.len());
            }
        }
    }
}

impl At {
    const SIZE: Self = Self::Size { size: 0, digits: 0 };

    fn after(self, byte: u8) -> Self {
        match (self, byte) {
            (Self::Size { size, digits }, _) if byte.is_ascii_hexdigit() => {
                if digits == SIZE_DIGITS_MAX {
                    return Self::Lost;
                }
                let digit = char::from(byte).to_digit(16).unwrap_or_default();
                Self::Size {
                    size: size << 4 | u64::from(digit),
                    digits: digits + 1,
                }
            }
            (Self::Size { digits: 0, .. }, _) => Self::Lost,
            (Self::Size { size, .. } | Self::Extension { size }, b'\r') => Self::SizeLf { size },
            (Self::Size { size, .. }, b';') => Self::Extension { size },
            (Self::Extension { size }, byte) if byte != b'\n' => Self::Extension { size },
            (Self::SizeLf { size: 0 }, b'\n') => Self::Trailer,
            (Self::SizeLf { size }, b'\n') => Self::Data { left: size },
            (Self::DataCr, b'\r') => Self::DataLf,
            (Self::DataLf, b'\n') => Self::SIZE,
            (Self::Trailer, b'\r') => Self::LastLf,
            (Self::TrailerText, b'\r') => Self::TrailerLf,
            (Self::Trailer | Self::TrailerText, byte) if byte != b'\n' => Self::TrailerText,
            (Self::TrailerLf, b'\n') => Self::Trailer,
            (Self::LastLf, b'\n') => Self::End,
            _ => Self::Lost,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_body_ends_behind_its_last_chunk_and_trailers() {
        for body in [
            "0\r\n\r\n",
            "000\r\n\r\n",
            "3\r\nabc\r\n0\r\n\r\n",
            "A\r\n0\r\n\r\n67890\r\n1\r\n\n\r\n0\r\n\r\n",
            "3;name=value;\"x\"\r\nabc\r\n0;last\r\n\r\n",
            "0\r\nX: a\r\nY: b\r\n\r\n",
        ] {
            let whole = format!("{body}GET / HTTP/1.1\r\n");
            // In one piece, and cut anywhere.
            for cut in 0..=body.len() {
                let (first, second) = whole.as_bytes().split_at(cut);
                let mut end = ChunkedEnd::default();
                let found = match end.scan(first) {
                    Some(found) => Some(found),
                    None => end.scan(second).map(|found| cut + found),
                };
                assert_eq!(found, Some(body.len()), "{body:?} cut at {cut}");
            }
        }
    }

    #[test]
    fn what_is_not_strictly_chunked_has_no_known_end() {
        for body in [
            "\r\n",
            "zz\r\n\r\n",
            "-1\r\n\r\n",
            "+0\r\n\r\n",
            "0x0\r\n\r\n",
            " 0\r\n\r\n",
            "0 \r\n\r\n",
            "0\n\n",
            "0\r\n\n",
            "0\r\nX: a\n\r\n\r\n",
            "0;a\n\r\n\r\n",
            "1\r\nab\r\n0\r\n\r\n",
            "1\r\na\n0\r\n\r\n",
            "0\rx\r\n\r\n",
            "00000000000000000\r\n\r\n",
        ] {
            let mut end = ChunkedEnd::default();
            assert_eq!(end.scan(body.as_bytes()), None, "{body:?}");
            assert_eq!(end.scan(b"0\r\n\r\n0\r\n\r\n"), None, "{body:?}");
        }
        let mut end = ChunkedEnd::default();
        assert_eq!(end.scan(b"ffffffffffffffff\r\nabc"), None);
        assert_eq!(end.scan(b"0\r\n\r\n"), None, "all of this is data");
    }

    proptest! {
        #[test]
        fn what_was_chunked_is_found_and_nothing_panics(
            chunks in proptest::collection::vec(
                proptest::collection::vec(any::<u8>(), 1..40), 0..5),
            behind in proptest::collection::vec(any::<u8>(), 0..40),
        ) {
            let mut body = Vec::new();
            for chunk in &chunks {
                body.extend(format!("{:x}\r\n", chunk.len()).into_bytes());
                body.extend(chunk);
                body.extend(b"\r\n");
            }
            body.extend(b"0\r\n\r\n");
            let length = body.len();
            body.extend(&behind);
            prop_assert_eq!(ChunkedEnd::default().scan(&body), Some(length));
            let _ = ChunkedEnd::default().scan(&behind);
        }
    }
}
