//! A record as OpenTelemetry spans, after the fact.
//!
//! One server span for the request, a child for each phase, and a client span for
//! each request sent upstream, under the very id that was sent: the next tier's
//! server span is its child. Names and attributes follow the OpenTelemetry
//! semantic conventions for HTTP spans; what they have no word for begins with
//! `headwater.`.
//!
//! Spans are written as protobuf at once, since there may be one for every hit
//! ([`proto`](crate::export::proto)); the field numbers are those of
//! `opentelemetry.proto.trace.v1.Span`.

use crate::attributes::{Attributes, Common};
use crate::export::ITEM;
use crate::export::proto;
use crate::record::{Attempt, AttemptKind, Method, Outcome, Phase, Record, TraceRecord};
use crate::redact;

const TRACE_ID: u32 = 1;
const SPAN_ID: u32 = 2;
const TRACE_STATE: u32 = 3;
const PARENT_SPAN_ID: u32 = 4;
const NAME: u32 = 5;
const KIND: u32 = 6;
const START_TIME: u32 = 7;
const END_TIME: u32 = 8;
const ATTRIBUTES: u32 = 9;
const STATUS: u32 = 15;
const FLAGS: u32 = 16;

/// Fields of `Span.Status`, and its code for an error.
const STATUS_MESSAGE: u32 = 2;
const STATUS_CODE: u32 = 3;
const STATUS_ERROR: u64 = 2;

/// Bits of `flags`: the W3C sampled flag, and whether the parent is elsewhere, which
/// we always know.
const SAMPLED: u32 = 0x1;
const KNOWS_REMOTE: u32 = 0x100;
const IS_REMOTE: u32 = 0x200;

#[derive(Debug, Clone, Copy)]
enum Kind {
    Internal = 1,
    Server = 2,
    Client = 3,
}

/// Why spans are told of a request whose trace is not sampled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kept {
    /// It failed, or a request sent upstream for it did.
    Error,
    /// It took longer than the configured time.
    Slow,
}

impl Kept {
    /// Whether a request is kept, and why.
    pub(crate) fn because(
        status: u16,
        duration_us: u64,
        has_failed_attempt: bool,
        slow_us: u64,
    ) -> Option<Self> {
        if status >= 500 || has_failed_attempt {
            Some(Kept::Error)
        } else if duration_us >= slow_us {
            Some(Kept::Slow)
        } else {
            None
        }
    }

    const fn as_str(self) -> &'static str {
        match self {
            Kept::Error => "error",
            Kept::Slow => "slow",
        }
    }
}

impl Record {
    /// Whether a request sent upstream for it failed, or was answered with an error
    /// of the server's.
    pub(crate) fn has_failed_attempt(&self) -> bool {
        self.upstream_attempts.iter().any(Attempt::has_failed)
    }
}

/// Writes all spans of a record, the server span first, and says how many. None
/// unless it is sampled or slow (`slow_us` microseconds and more) or failed.
pub(crate) fn write(out: &mut Vec<u8>, record: &Record, common: &mut Common, slow_us: u64) -> u64 {
    let Some(trace) = record.trace.as_ref() else {
        return 0;
    };
    let kept = if trace.sampled {
        None
    } else {
        let failed = record.has_failed_attempt();
        match Kept::because(record.status, record.duration_us, failed, slow_us) {
            None => return 0,
            kept => kept,
        }
    };
    let mut maker = Maker {
        out,
        record,
        trace,
        kept,
    };
    maker.server(common);
    for phase in &record.phases {
        maker.phase(phase);
    }
    for (number, attempt) in record.upstream_attempts.iter().enumerate() {
        maker.attempt(attempt, number);
    }
    1 + record.phases.len() as u64 + record.upstream_attempts.len() as u64
}

struct Maker<'a> {
    out: &'a mut Vec<u8>,
    record: &'a Record,
    trace: &'a TraceRecord,
    kept: Option<Kept>,
}

/// What the three kinds of spans have in common.
struct Frame {
    id: [u8; 8],
    parent: Option<[u8; 8]>,
    parent_is_remote: bool,
    kind: Kind,
    name: &'static str,
    start_us: u64,
    duration_us: u64,
}

impl Maker<'_> {
    fn server(&mut self, common: &mut Common) {
        let record = self.record;
        // Below a span of this node there is work that nobody asked this node for.
        let is_own = self.trace.parent_span_id.is_some() && !self.trace.parent_is_remote;
        let span = self.begin(&Frame {
            id: self.trace.span_id,
            parent: self.trace.parent_span_id,
            parent_is_remote: self.trace.parent_is_remote,
            kind: if is_own { Kind::Internal } else { Kind::Server },
            name: span_name(record.method),
            start_us: 0,
            duration_us: record.duration_us,
        });
        self.attributes().request(record, common);
        if let Some(kept) = self.kept {
            self.text("headwater.kept", kept.as_str());
            self.gap_above();
        }

        // A server span is an error when the server was at fault: a 4xx is not.
        if record.status >= 500 || record.outcome == Outcome::Error {
            // What our own errors and failed passes say is a word of the code.
            let is_ours = matches!(record.outcome, Outcome::Error | Outcome::Pass);
            match record.detail.as_ref() {
                "" => self.failed_with(record.status),
                word if is_ours && is_code_word(word) => self.failed(word, word),
                _ => self.failed_with(record.status),
            }
        }
        proto::close(self.out, span);
    }

    /// What of an unsampled trace may be missing above this node's spans.
    fn gap_above(&mut self) {
        if self.trace.parent_is_remote {
            let above = match self.record.words.hop_from() {
                "" => "client",
                _ => "edge",
            };
            self.text("headwater.incomplete", above);
        }
    }

    fn phase(&mut self, phase: &Phase) {
        let span = self.begin(&Frame {
            id: phase.span_id,
            parent: Some(self.trace.span_id),
            parent_is_remote: false,
            kind: Kind::Internal,
            name: phase.name,
            start_us: phase.start_us,
            duration_us: phase.duration_us,
        });
        proto::close(self.out, span);
    }

    fn attempt(&mut self, attempt: &Attempt, number: usize) {
        let record = self.record;
        let span = self.begin(&Frame {
            id: attempt.span_id,
            parent: Some(self.trace.span_id),
            parent_is_remote: false,
            kind: Kind::Client,
            name: span_name(record.method),
            start_us: attempt.start_us,
            duration_us: attempt.duration_us,
        });
        let url = format!(
            "{}://{}{}",
            record.scheme,
            record.words.host(),
            redact::path_and_query(record.words.path())
        );
        let mut attributes = self.attributes();
        attributes.method(record);
        attributes.text("url.full", &url);
        attributes.server_address(&attempt.address);
        attributes.text("headwater.upstream", &attempt.target);
        attributes.text("headwater.upstream_kind", attempt.kind.as_str());
        attributes.flag("headwater.connection_reused", attempt.reused_connection);
        if number > 0 {
            attributes.number("http.request.resend_count", number as u64);
        }
        if let Some(status) = attempt.status {
            attributes.number("http.response.status_code", u64::from(status));
        }
        // What the next tier did is exported there only if it found it worth keeping.
        if self.kept.is_some() && attempt.kind == AttemptKind::UpperTier {
            self.text("headwater.incomplete", AttemptKind::UpperTier.as_str());
        }
        match (attempt.error, attempt.status) {
            (Some(error), _) => self.failed(error, error),
            // A client span is an error for any answer of 400 and above as well.
            (None, Some(status)) if status >= 400 => self.failed_with(status),
            (None, _) => {}
        }
        proto::close(self.out, span);
    }

    /// Starts a span with what every one has.
    fn begin(&mut self, frame: &Frame) -> proto::Open {
        let out = &mut *self.out;
        let span = proto::open(out, ITEM);
        proto::array(out, TRACE_ID, &self.trace.trace_id);
        proto::array(out, SPAN_ID, &frame.id);
        let trace_state = self.record.words.trace_state();
        if !trace_state.is_empty() {
            proto::text(out, TRACE_STATE, trace_state);
        }
        if let Some(parent) = &frame.parent {
            proto::array(out, PARENT_SPAN_ID, parent);
        }
        proto::text(out, NAME, frame.name);
        proto::number(out, KIND, frame.kind as u64);
        let start_us = frame
            .start_us
            .saturating_add(self.record.started_ms.saturating_mul(1000));
        let end_us = start_us.saturating_add(frame.duration_us);
        proto::fixed64(out, START_TIME, start_us.saturating_mul(1000));
        proto::fixed64(out, END_TIME, end_us.saturating_mul(1000));
        let mut flags = KNOWS_REMOTE;
        if self.trace.sampled {
            flags |= SAMPLED;
        }
        if frame.parent.is_some() && frame.parent_is_remote {
            flags |= IS_REMOTE;
        }
        proto::fixed32(out, FLAGS, flags);
        span
    }

    fn attributes(&mut self) -> Attributes<'_> {
        Attributes::new(self.out, ATTRIBUTES)
    }

    /// The span's status is that of an error. `message` may say more than `kind`,
    /// which takes few values.
    fn failed(&mut self, kind: &str, message: &str) {
        self.text("error.type", kind);
        let status = proto::open(self.out, STATUS);
        if !message.is_empty() {
            proto::text(self.out, STATUS_MESSAGE, message);
        }
        proto::number(self.out, STATUS_CODE, STATUS_ERROR);
        proto::close(self.out, status);
    }

    /// The same, where the status code says it all.
    fn failed_with(&mut self, status: u16) {
        self.failed(&status.to_string(), "");
    }

    fn text(&mut self, key: &str, value: &str) {
        self.attributes().text(key, value);
    }
}

impl Attempt {
    /// Whether it failed, or was answered with an error of the server's.
    #[must_use]
    pub fn has_failed(&self) -> bool {
        self.error.is_some() || self.status.is_some_and(|status| status >= 500)
    }
}

/// With no route, a span's name is its method alone.
const fn span_name(method: Method) -> &'static str {
    match method {
        Method::Other => "HTTP",
        known => known.as_str(),
    }
}

/// `error.type` takes few values: words of our own code, never a sentence.
fn is_code_word(text: &str) -> bool {
    text.len() <= 64
        && text
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
}

#[cfg(test)]
mod tests;
