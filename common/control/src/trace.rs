//! Trace ids as plain values, in the words of W3C Trace Context.

use std::fmt;
use std::str::FromStr;

/// The ids of one trace context: what `traceparent` says, as values.
///
/// All-zero ids are invalid (W3C Trace Context §3.2.2.3, §3.2.2.4): parsing
/// refuses them and so does writing a control block.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TraceIds {
    /// The trace, shared by every span of one visitor's request.
    pub trace_id: [u8; 16],
    /// The span that the next hop is a child of.
    pub span_id: [u8; 8],
    /// Whether the spans of this trace are kept.
    pub sampled: bool,
}

impl TraceIds {
    /// Reads a `traceparent` value. Versions above 00 are read by their first
    /// four parts, as W3C Trace Context §3.2.4 asks; `None` is anything else,
    /// all-zero ids and upper-case hex included.
    #[must_use]
    pub fn from_traceparent(text: &str) -> Option<Self> {
        let mut parts = text.splitn(5, '-');
        let [version] = hex::<1>(parts.next()?)?;
        let trace_id = hex::<16>(parts.next()?)?;
        let span_id = hex::<8>(parts.next()?)?;
        let [flags] = hex::<1>(parts.next()?)?;
        let more = parts.next().is_some();
        if version == 0xff || (version == 0 && more) {
            return None;
        }
        let ids = Self {
            trace_id,
            span_id,
            sampled: flags & 1 == 1,
        };
        ids.is_valid().then_some(ids)
    }

    /// The value for `traceparent`, version 00: 55 ASCII characters.
    #[must_use]
    pub fn to_traceparent(&self) -> String {
        let mut text = String::with_capacity(55);
        text.push_str("00-");
        push_hex(&mut text, &self.trace_id);
        text.push('-');
        push_hex(&mut text, &self.span_id);
        text.push_str(if self.sampled { "-01" } else { "-00" });
        text
    }

    /// Whether neither id is all zero.
    #[must_use]
    pub fn is_valid(&self) -> bool {
        self.trace_id != [0; 16] && self.span_id != [0; 8]
    }
}

impl fmt::Display for TraceIds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.to_traceparent())
    }
}

/// The text is not a `traceparent`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a traceparent: 00-<32 lower-case hex>-<16 lower-case hex>-<2 hex>, no id all zero")]
pub struct NotATraceparent;

impl FromStr for TraceIds {
    type Err = NotATraceparent;

    fn from_str(text: &str) -> Result<Self, NotATraceparent> {
        Self::from_traceparent(text).ok_or(NotATraceparent)
    }
}

/// Appends `bytes` as lower-case hex.
pub(crate) fn push_hex(text: &mut String, bytes: &[u8]) {
    for byte in bytes {
        for nibble in [byte >> 4, byte & 0xf] {
            text.push(char::from_digit(u32::from(nibble), 16).expect("a nibble is below 16"));
        }
    }
}

/// Exactly `N` bytes of lower-case hex.
fn hex<const N: usize>(text: &str) -> Option<[u8; N]> {
    if text.len() != 2 * N {
        return None;
    }
    let mut out = [0; N];
    for (byte, pair) in out.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
        for digit in pair {
            let nibble = match digit {
                b'0'..=b'9' => digit - b'0',
                b'a'..=b'f' => digit - b'a' + 10,
                _ => return None,
            };
            *byte = (*byte << 4) | nibble;
        }
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn reads_and_writes_the_same_text() {
        let ids: TraceIds = GOOD.parse().unwrap();
        assert!(ids.sampled);
        assert_eq!(ids.to_string(), GOOD);
        let unsampled = TraceIds {
            sampled: false,
            ..ids
        };
        assert_eq!(
            TraceIds::from_traceparent(&unsampled.to_traceparent()),
            Some(unsampled)
        );
    }

    #[test]
    fn table_of_traceparents() {
        let cases = [
            (GOOD.to_string(), true),
            // Other flags than `sampled` are ignored; a later version may be longer.
            (GOOD.replace("-01", "-fe"), true),
            (GOOD.replacen("00-", "01-", 1) + "-more-to-come", true),
            (GOOD.replacen("00-", "01-", 1), true),
            (GOOD.replacen("00-", "ff-", 1), false),
            (format!("{GOOD}-more"), false),
            (GOOD.to_uppercase(), false),
            (
                GOOD.replace("4bf92f3577b34da6a3ce929d0e0e4736", &"0".repeat(32)),
                false,
            ),
            (GOOD.replace("00f067aa0ba902b7", &"0".repeat(16)), false),
            (GOOD.replace('-', "_"), false),
            (GOOD.get(..54).unwrap().to_string(), false),
            ("é".repeat(16), false),
            (String::new(), false),
        ];
        for (text, good) in cases {
            assert_eq!(TraceIds::from_traceparent(&text).is_some(), good, "{text}");
        }
    }
}
