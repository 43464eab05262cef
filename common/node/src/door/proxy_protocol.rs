//! The PROXY protocol, versions 1 and 2, as a pure parser.
//!
//! A listener that asks for it must get it: a connection without a header is
//! closed, since guessing would let a visitor choose its own address.
//! Follows "The PROXY protocol, versions 1 & 2" (HAProxy, 2020).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// Longest version 1 line, CRLF included.
const V1_BYTES_MAX: usize = 107;
/// Longest version 2 header we read; TLVs beyond it are nobody's legitimate need.
const V2_BYTES_MAX: usize = 16 + 2048;
const V2_SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";

/// What stood in front of the connection's bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Parsed {
    /// More bytes are needed.
    Partial,
    /// A header of `len` bytes. `source` is None where the proxy speaks for
    /// itself (`LOCAL`, `UNKNOWN`), as its health checks do.
    Header {
        len: usize,
        source: Option<SocketAddr>,
    },
    /// Not a PROXY header.
    Malformed,
}

/// Parses the header at the front of `buf`.
pub(crate) fn parse(buf: &[u8]) -> Parsed {
    let seen = buf.len().min(V2_SIGNATURE.len());
    if buf.get(..seen) == V2_SIGNATURE.get(..seen) {
        return if buf.len() < 16 {
            Parsed::Partial
        } else {
            parse_v2(buf)
        };
    }
    parse_v1(buf)
}

fn parse_v1(buf: &[u8]) -> Parsed {
    let prefix = b"PROXY ";
    let seen = buf.len().min(prefix.len());
    if buf.get(..seen) != prefix.get(..seen) {
        return Parsed::Malformed;
    }
    let window = buf.get(..buf.len().min(V1_BYTES_MAX)).unwrap_or(buf);
    let Some(end) = window.windows(2).position(|pair| pair == b"\r\n") else {
        return if buf.len() >= V1_BYTES_MAX {
            Parsed::Malformed
        } else {
            Parsed::Partial
        };
    };
    let Some(line) = window
        .get(..end)
        .and_then(|line| std::str::from_utf8(line).ok())
    else {
        return Parsed::Malformed;
    };
    let mut words = line.split(' ').skip(1);
    let len = end + 2;
    let family = words.next();
    if family == Some("UNKNOWN") {
        return Parsed::Header { len, source: None };
    }
    let source: Option<IpAddr> = words.next().and_then(|word| word.parse().ok());
    let destination: Option<IpAddr> = words.next().and_then(|word| word.parse().ok());
    let source_port: Option<u16> = words.next().and_then(|word| word.parse().ok());
    let destination_port: Option<u16> = words.next().and_then(|word| word.parse().ok());
    let (Some(source), Some(_), Some(port), Some(_), None) = (
        source,
        destination,
        source_port,
        destination_port,
        words.next(),
    ) else {
        return Parsed::Malformed;
    };
    let agrees = match family {
        Some("TCP4") => source.is_ipv4(),
        Some("TCP6") => source.is_ipv6(),
        _ => false,
    };
    if !agrees {
        return Parsed::Malformed;
    }
    Parsed::Header {
        len,
        source: Some(SocketAddr::new(source, port)),
    }
}

fn parse_v2(buf: &[u8]) -> Parsed {
    let (Some(version_command), Some(family), Some(length)) =
        (buf.get(12), buf.get(13), array_at::<2>(buf, 14))
    else {
        return Parsed::Partial;
    };
    let len = 16 + usize::from(u16::from_be_bytes(length));
    if version_command >> 4 != 2 || len > V2_BYTES_MAX {
        return Parsed::Malformed;
    }
    if buf.len() < len {
        return Parsed::Partial;
    }
    let local = match version_command & 0x0f {
        0 => true,
        1 => false,
        _ => return Parsed::Malformed,
    };
    if local {
        return Parsed::Header { len, source: None };
    }
    let body = buf.get(16..len).unwrap_or_default();
    let source = match family >> 4 {
        1 => array_at::<4>(body, 0)
            .map(|ip| IpAddr::from(Ipv4Addr::from(ip)))
            .zip(array_at::<2>(body, 8)),
        2 => array_at::<16>(body, 0)
            .map(|ip| IpAddr::from(Ipv6Addr::from(ip)))
            .zip(array_at::<2>(body, 32)),
        // AF_UNSPEC and AF_UNIX: nothing a visitor's address could be read from.
        0 | 3 => return Parsed::Header { len, source: None },
        _ => return Parsed::Malformed,
    };
    match source {
        Some((ip, port)) => Parsed::Header {
            len,
            source: Some(SocketAddr::new(ip, u16::from_be_bytes(port))),
        },
        None => Parsed::Malformed,
    }
}

fn array_at<const N: usize>(buf: &[u8], at: usize) -> Option<[u8; N]> {
    buf.get(at..at.checked_add(N)?)?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn v2(command: u8, family: u8, body: &[u8]) -> Vec<u8> {
        let mut header = V2_SIGNATURE.to_vec();
        header.extend([0x20 | command, family]);
        header.extend((body.len() as u16).to_be_bytes());
        header.extend(body);
        header
    }

    #[test]
    fn version_1() {
        let source = Some("192.0.2.1:5000".parse().unwrap());
        let line = b"PROXY TCP4 192.0.2.1 192.0.2.2 5000 443\r\nGET";
        assert_eq!(parse(line), Parsed::Header { len: 41, source });
        assert_eq!(
            parse(b"PROXY UNKNOWN\r\n"),
            Parsed::Header {
                len: 15,
                source: None
            }
        );
        assert_eq!(parse(b"PRO"), Parsed::Partial);
        assert_eq!(parse(b"PROXY TCP4 192.0.2.1"), Parsed::Partial);
        for line in [
            &b"GET / HTTP/1.1\r\n"[..],
            b"PROXY TCP4 ::1 ::1 1 2\r\n",
            b"PROXY TCP4 192.0.2.1 192.0.2.2 70000 1\r\n",
            b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2 3\r\n",
            &[&b"PROXY TCP4 "[..], &[b'1'; 200]].concat(),
        ] {
            assert_eq!(parse(line), Parsed::Malformed);
        }
    }

    #[test]
    fn version_2() {
        let body = [192, 0, 2, 1, 192, 0, 2, 2, 0x13, 0x88, 1, 187];
        let header = v2(1, 0x11, &body);
        let source = Some("192.0.2.1:5000".parse().unwrap());
        assert_eq!(parse(&header), Parsed::Header { len: 28, source });
        assert_eq!(parse(&header[..20]), Parsed::Partial);
        assert_eq!(
            parse(&v2(0, 0, &[])),
            Parsed::Header {
                len: 16,
                source: None
            }
        );
        assert_eq!(parse(&v2(1, 0x11, &body[..8])), Parsed::Malformed);
        assert_eq!(parse(&v2(2, 0x11, &body)), Parsed::Malformed);
        assert_eq!(parse(&v2(1, 0x11, &[0; 4000])), Parsed::Malformed);
    }

    proptest! {
        #[test]
        fn nothing_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse(&bytes);
            let mut signed = V2_SIGNATURE.to_vec();
            signed.extend(&bytes);
            let _ = parse(&signed);
        }
    }
}
