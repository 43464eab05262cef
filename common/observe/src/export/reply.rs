//! What a collector says to a batch that it took: perhaps that it did not take all.
//!
//! `ExportTraceServiceResponse` and its two siblings have the same shape: a message
//! `partial_success` with the number of items that were rejected, and why. Whatever
//! else stands there, or does not parse, says nothing: the batch was taken.

const PARTIAL_SUCCESS: u64 = 1;
const REJECTED: u64 = 1;
const ERROR_MESSAGE: u64 = 2;

const VARINT: u64 = 0;
const FIXED64: u64 = 1;
const BYTES: u64 = 2;
const FIXED32: u64 = 5;

/// Of what a collector says, so much goes into the log.
const MESSAGE_CHARS_MAX: usize = 200;

/// A collector's answer to a batch.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Reply {
    /// Items it did not take.
    pub(super) rejected: u64,
    /// Why, or what it warns of; empty for neither.
    message: String,
}

impl Reply {
    pub(super) fn read(answer: &[u8]) -> Self {
        let mut reply = Self::default();
        for (number, partial) in Parts(answer) {
            let (PARTIAL_SUCCESS, Part::Bytes(partial)) = (number, partial) else {
                continue;
            };
            for part in Parts(partial) {
                match part {
                    // Signed, though no collector takes more than it was sent.
                    (REJECTED, Part::Number(rejected)) => {
                        reply.rejected = u64::try_from(rejected.cast_signed()).unwrap_or(0);
                    }
                    (ERROR_MESSAGE, Part::Bytes(text)) => {
                        let text = String::from_utf8_lossy(text);
                        reply.message = text.chars().take(MESSAGE_CHARS_MAX).collect();
                    }
                    _ => {}
                }
            }
        }
        reply
    }

    /// What is worth a line. A message without rejected items is a warning.
    pub(super) fn warning(&self) -> Option<String> {
        match (self.rejected, self.message.as_str()) {
            (0, "") => None,
            (0, message) => Some(format!("the collector warns: {message}")),
            (rejected, message) => Some(format!("the collector rejected {rejected}: {message}")),
        }
    }
}

enum Part<'a> {
    Number(u64),
    Bytes(&'a [u8]),
    Other,
}

/// The fields of a message, up to the first that is broken.
struct Parts<'a>(&'a [u8]);

impl<'a> Iterator for Parts<'a> {
    type Item = (u64, Part<'a>);

    fn next(&mut self) -> Option<Self::Item> {
        let key = self.varint()?;
        let part = match key & 7 {
            VARINT => Part::Number(self.varint()?),
            FIXED64 => self.take(8).map(|_| Part::Other)?,
            BYTES => {
                let length = usize::try_from(self.varint()?).ok()?;
                Part::Bytes(self.take(length)?)
            }
            FIXED32 => self.take(4).map(|_| Part::Other)?,
            _ => return None,
        };
        Some((key >> 3, part))
    }
}

impl<'a> Parts<'a> {
    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    fn varint(&mut self) -> Option<u64> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let byte = *self.take(1)?.first()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use opentelemetry_proto::tonic::collector::logs::v1::{
        ExportLogsPartialSuccess, ExportLogsServiceResponse,
    };
    use opentelemetry_proto::tonic::collector::trace::v1::{
        ExportTracePartialSuccess, ExportTraceServiceResponse,
    };
    use prost::Message as _;

    use super::*;

    fn traces(rejected_spans: i64, error_message: &str) -> Vec<u8> {
        let partial = ExportTracePartialSuccess {
            rejected_spans,
            error_message: error_message.to_owned(),
        };
        let answer = ExportTraceServiceResponse {
            partial_success: Some(partial),
        };
        answer.encode_to_vec()
    }

    #[test]
    fn what_a_collector_did_not_take() {
        let logs = ExportLogsServiceResponse {
            partial_success: Some(ExportLogsPartialSuccess {
                rejected_log_records: 300,
                error_message: String::new(),
            }),
        };
        let long = "x".repeat(MESSAGE_CHARS_MAX + 1);
        for (answer, rejected, warning) in [
            (vec![], 0, None),
            (traces(0, ""), 0, None),
            (
                traces(0, "soon full"),
                0,
                Some("the collector warns: soon full"),
            ),
            (traces(2, "full"), 2, Some("the collector rejected 2: full")),
            (traces(-1, ""), 0, None),
            (
                logs.encode_to_vec(),
                300,
                Some("the collector rejected 300: "),
            ),
            (b"what is this".to_vec(), 0, None),
        ] {
            let reply = Reply::read(&answer);
            assert_eq!(reply.rejected, rejected, "{answer:?}");
            assert_eq!(reply.warning().as_deref(), warning, "{answer:?}");
        }
        let shortened = Reply::read(&traces(1, &long));
        assert_eq!(shortened.message.len(), MESSAGE_CHARS_MAX);
    }

    #[test]
    fn an_answer_that_breaks_off_anywhere_is_read_up_to_there() {
        let whole = traces(2, "full");
        for end in 0..whole.len() {
            assert_eq!(Reply::read(&whole[..end]), Reply::default());
        }
        // Other fields, of every type, are passed over.
        let mut more = vec![0x78, 0xff, 0x01, 0x79, 1, 2, 3, 4, 5, 6, 7, 8];
        more.extend([0x7d, 1, 2, 3, 4, 0x7a, 1, 9]);
        more.extend(&whole);
        assert_eq!(Reply::read(&more), Reply::read(&whole));
        // A length and a number beyond what there is.
        let endless = [0x0a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff];
        assert_eq!(Reply::read(&endless), Reply::default());
        assert_eq!(Reply::read(&[0xff; 12]), Reply::default());
    }
}
