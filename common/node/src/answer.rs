//! What is to be sent, described once and written by whichever door it came through.

use std::borrow::Cow;
use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};
use control::NoAnswer;
use http::header::{AGE, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE, DATE, RETRY_AFTER};
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use observe::Outcome;
use store::Object;

use crate::door::head::Refusal;
use crate::fields::{self, CACHE_STATUS, CacheStatus, PROXY_STATUS, ProxyError};
use crate::fill::body::Reader;
use crate::fill::flight::{Failure, Flight};
use crate::state::Node;

/// When to come again, to whom there was no room for: what is full empties within
/// milliseconds, and a second spreads those who come back.
const RETRY_AFTER_S: &str = "1";

/// A response to one request.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) head: Head,
    pub(crate) body: Body,
    pub(crate) story: Story,
}

/// Status and fields.
#[derive(Debug)]
pub(crate) enum Head {
    /// A stored object's prepared head, with what changes from hit to hit.
    Stored {
        object: Arc<Object>,
        age_s: u64,
        cache_status: CacheStatus,
    },
    /// Fields made for this answer.
    Built {
        status: StatusCode,
        fields: HeaderMap,
    },
}

/// What follows the head. Its framing agrees with the head's `Content-Length`.
#[derive(Debug)]
pub(crate) enum Body {
    /// No body: HEAD, 204, 304.
    Absent,
    /// All of it.
    Whole(Bytes),
    /// As it grows: `take` bytes after the first `skip`, or all of it.
    Growing {
        reader: Reader,
        skip: u64,
        /// Bytes to send, where that is known.
        length: Option<u64>,
    },
}

/// How the answer came about, for counters and records.
#[derive(Debug)]
pub(crate) struct Story {
    pub(crate) outcome: Outcome,
    pub(crate) detail: Cow<'static, str>,
    /// The flight this request began, whose attempts belong to its record.
    pub(crate) flight: Option<Arc<Flight>>,
    /// How old the response is, for the next tier, which then need not believe
    /// `Age` and `Date`. None for what is no response of an origin's.
    pub(crate) age_ms: Option<u64>,
    /// The next tier is told so in place of the outcome: no origin server answered.
    pub(crate) no_answer: Option<NoAnswer>,
    /// What a tier behind this one made of it, for the tier before: a miss here may have
    /// been stored there.
    pub(crate) outcome_behind: Option<Box<str>>,
}

impl Story {
    pub(crate) fn new(outcome: Outcome) -> Self {
        Self {
            outcome,
            detail: Cow::Borrowed(""),
            flight: None,
            age_ms: None,
            no_answer: None,
            outcome_behind: None,
        }
    }
}

impl Answer {
    pub(crate) fn status(&self) -> StatusCode {
        match &self.head {
            Head::Stored { object, .. } => object.status,
            Head::Built { status, .. } => *status,
        }
    }

    /// The answer as HEAD gets it (RFC 9110 §9.3.2): the fields tell of a body that
    /// does not come.
    pub(crate) fn leave_out_body(&mut self, method: &Method) {
        if *method == Method::HEAD {
            self.body = Body::Absent;
        }
    }

    /// Turns the head into plain fields, for whoever cannot write a prepared one.
    pub(crate) fn build(&mut self, node: &str) -> (StatusCode, &mut HeaderMap) {
        if let Head::Stored {
            object,
            age_s,
            cache_status,
        } = &self.head
        {
            let mut fields = object.fields.clone();
            fields.insert(AGE, HeaderValue::from(*age_s));
            fields.insert(CACHE_STATUS, cache_status.value(node));
            self.head = Head::Built {
                status: object.status,
                fields,
            };
        }
        match &mut self.head {
            Head::Built { status, fields } => (*status, fields),
            Head::Stored { .. } => unreachable!("the stored head was just replaced"),
        }
    }

    /// An error of ours, with a sentence for whoever reads it.
    pub(crate) fn error(node: &Node, status: StatusCode, error: &ProxyError) -> Self {
        let name = node.name();
        let text = format!(
            "{} {}\n{name}: {error}\n",
            status.as_u16(),
            status.canonical_reason().unwrap_or("Error"),
        );
        let mut fields = HeaderMap::with_capacity(6);
        fields.insert(DATE, http_cache::date::format(node.now_ms()));
        fields.insert(PROXY_STATUS, error.value(name));
        fields.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        fields.insert(
            CONTENT_TYPE,
            HeaderValue::from_static("text/plain; charset=utf-8"),
        );
        fields.insert(CONTENT_LENGTH, HeaderValue::from(text.len()));
        if status == StatusCode::SERVICE_UNAVAILABLE {
            fields.insert(RETRY_AFTER, HeaderValue::from_static(RETRY_AFTER_S));
        }
        let outcome = if status.is_client_error() {
            Outcome::Refused
        } else {
            Outcome::Error
        };
        Self {
            head: Head::Built { status, fields },
            body: Body::Whole(Bytes::from(text)),
            story: Story {
                detail: Cow::Owned(error.kind.to_owned()),
                ..Story::new(outcome)
            },
        }
    }

    /// What is left to say where no way gave an answer.
    pub(crate) fn failure(node: &Node, failure: &Failure) -> Self {
        let mut answer = Self::error(node, failure.status, &failure.error);
        answer.story.no_answer = failure.no_answer;
        answer
    }

    /// What the door says to a head it cannot accept.
    pub(crate) fn refusal(node: &Node, refusal: Refusal) -> Self {
        let error = ProxyError::new("http_request_error", refusal.message);
        Self::error(node, refusal.status, &error)
    }
}

/// Status line and fields as they go on the wire, without the final empty line.
pub(crate) fn prepared_head(status: StatusCode, fields: &HeaderMap) -> Bytes {
    let mut head = BytesMut::with_capacity(64 + fields.len() * 48);
    write_status_line(&mut head, status);
    write_fields(&mut head, fields);
    head.freeze()
}

/// `HTTP/1.1 200 OK` and its CRLF.
pub(crate) fn write_status_line(out: &mut BytesMut, status: StatusCode) {
    out.put_slice(b"HTTP/1.1 ");
    out.put_slice(status.as_str().as_bytes());
    out.put_u8(b' ');
    out.put_slice(status.canonical_reason().unwrap_or("").as_bytes());
    out.put_slice(b"\r\n");
}

/// Each field on a line of its own.
pub(crate) fn write_fields(out: &mut BytesMut, fields: &HeaderMap) {
    for (name, value) in fields {
        out.put_slice(name.as_str().as_bytes());
        out.put_slice(b": ");
        out.put_slice(value.as_bytes());
        out.put_slice(b"\r\n");
    }
}

/// The lines that change from hit to hit.
pub(crate) fn write_hit_lines(
    out: &mut BytesMut,
    scratch: &mut Vec<u8>,
    node: &str,
    age_s: u64,
    cache_status: &CacheStatus,
) {
    scratch.clear();
    scratch.extend_from_slice(b"age: ");
    fields::write_number(scratch, i64::try_from(age_s).unwrap_or(i64::MAX));
    scratch.extend_from_slice(b"\r\ncache-status: ");
    cache_status.write(scratch, node);
    scratch.extend_from_slice(b"\r\n");
    out.put_slice(scratch);
}
