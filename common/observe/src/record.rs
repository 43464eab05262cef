//! What a node says about a finished request: plain values that it gives away.
//!
//! Everything here is owned data without interior mutability, moved into the
//! observer by value. Nothing in it leads back to the request it describes, so
//! nothing that is done with a record can reach a visitor.

use std::borrow::Cow;
use std::net::IpAddr;

use crate::plain::plain;

/// How a request was answered, seen from this node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// A fresh stored object.
    Hit,
    /// A stored object past its freshness, served because a rule allows it.
    StaleHit,
    /// A stored object that its upstream confirmed with a 304.
    Revalidated,
    /// Fetched from upstream for this request.
    Miss,
    /// Read from a fill that another request had begun.
    Collapsed,
    /// Forwarded through the proxy without looking into the cache.
    Pass,
    /// Could have been cached, but a rule of the site or the request forbids it.
    Bypass,
    /// Answered with an error that this node made.
    Error,
    /// Turned away by the door with a 4xx.
    Refused,
}

impl Outcome {
    /// Every outcome, in declaration order, which is also the order of counters.
    pub const ALL: [Outcome; 9] = [
        Outcome::Hit,
        Outcome::StaleHit,
        Outcome::Revalidated,
        Outcome::Miss,
        Outcome::Collapsed,
        Outcome::Pass,
        Outcome::Bypass,
        Outcome::Error,
        Outcome::Refused,
    ];

    /// The word used in metrics, log lines and spans.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Outcome::Hit => "hit",
            Outcome::StaleHit => "stale_hit",
            Outcome::Revalidated => "revalidated",
            Outcome::Miss => "miss",
            Outcome::Collapsed => "collapsed",
            Outcome::Pass => "pass",
            Outcome::Bypass => "bypass",
            Outcome::Error => "error",
            Outcome::Refused => "refused",
        }
    }

    /// Whether the answer came out of the store with no upstream involved.
    /// These are the many; their log lines are sampled.
    #[must_use]
    pub const fn is_hit(self) -> bool {
        matches!(self, Outcome::Hit | Outcome::StaleHit)
    }
}

/// The protocol between the client and this node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// HTTP/1.0 or HTTP/1.1.
    H1,
    /// HTTP/2.
    H2,
}

impl Protocol {
    /// Every protocol, in declaration order.
    pub const ALL: [Protocol; 2] = [Protocol::H1, Protocol::H2];

    /// The word used in metrics and log lines.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Protocol::H1 => "h1",
            Protocol::H2 => "h2",
        }
    }

    /// The value of `network.protocol.version` in the HTTP semantic conventions.
    #[must_use]
    pub const fn version(self) -> &'static str {
        match self {
            Protocol::H1 => "1.1",
            Protocol::H2 => "2",
        }
    }
}

/// A request's method, as far as it may become a name or a label: one for every
/// client's whim would have no end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Method {
    /// `GET`
    Get,
    /// `HEAD`
    Head,
    /// `POST`
    Post,
    /// `PUT`
    Put,
    /// `DELETE`
    Delete,
    /// `OPTIONS`
    Options,
    /// `PATCH`
    Patch,
    /// `TRACE`
    Trace,
    /// `CONNECT`
    Connect,
    /// Any other, or none that could be read.
    Other,
}

impl Method {
    /// Every method, in declaration order.
    pub const ALL: [Method; 10] = [
        Method::Get,
        Method::Head,
        Method::Post,
        Method::Put,
        Method::Delete,
        Method::Options,
        Method::Patch,
        Method::Trace,
        Method::Connect,
        Method::Other,
    ];

    /// The method of that name. They are case-sensitive (RFC 9110 §9.1).
    #[must_use]
    pub fn of(name: &str) -> Self {
        // By far the most come first.
        Self::ALL
            .into_iter()
            .find(|method| method.as_str() == name)
            .unwrap_or(Method::Other)
    }

    /// The value of `http.request.method` in the HTTP semantic conventions.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Method::Get => "GET",
            Method::Head => "HEAD",
            Method::Post => "POST",
            Method::Put => "PUT",
            Method::Delete => "DELETE",
            Method::Options => "OPTIONS",
            Method::Patch => "PATCH",
            Method::Trace => "TRACE",
            Method::Connect => "CONNECT",
            Method::Other => "_OTHER",
        }
    }
}

/// What the counters need of a finished response. Made for every response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Done {
    /// How it was answered.
    pub outcome: Outcome,
    /// Status sent to the client.
    pub status: u16,
    /// Body bytes sent to the client.
    pub body_bytes: u64,
    /// From the last byte of the request head to the last byte sent, microseconds.
    pub duration_us: u64,
    /// Protocol between client and node.
    pub protocol: Protocol,
    /// Request method.
    pub method: Method,
    /// Whether the visitor's scheme is `https`.
    pub https: bool,
}

/// One finished request, told in full. Made only where [`wants`] says so.
///
/// Where everything is traced there is one for every hit, so it is cheap to make:
/// its texts share one allocation ([`Words`]).
///
/// [`wants`]: crate::Observer::wants
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Its place in a trace, where it has one.
    pub trace: Option<TraceRecord>,
    /// When the request head was read, Unix milliseconds.
    pub started_ms: u64,
    /// From then to the last byte sent, microseconds.
    pub duration_us: u64,
    /// The client's address, as the trusted proxies tell it.
    pub client: IpAddr,
    /// The address at the other end of the connection.
    pub peer: IpAddr,
    /// Request method.
    pub method: Method,
    /// The visitor's scheme, `http` or `https`.
    pub scheme: &'static str,
    /// Host, path, site and whatever else came as text.
    pub words: Words,
    /// Status sent to the client.
    pub status: u16,
    /// How it was answered.
    pub outcome: Outcome,
    /// Why: the bypass reason, the error's type. Empty where there is nothing to add.
    pub detail: Cow<'static, str>,
    /// Body bytes sent to the client.
    pub body_bytes: u64,
    /// Protocol between client and node.
    pub protocol: Protocol,
    /// What the time went into, in the order it happened.
    pub phases: Vec<Phase>,
    /// Every request sent upstream for it, in the order they were sent.
    pub upstream_attempts: Vec<Attempt>,
}

impl Record {
    /// The method as it was sent.
    pub(crate) fn method(&self) -> &str {
        match self.method {
            Method::Other => self.words.method(),
            known => known.as_str(),
        }
    }
}

/// The texts a [`Record`] is made of, borrowed from wherever they are. An empty one
/// is one that there is not.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Said<'a> {
    /// Host asked for, with its port where it has one.
    pub host: &'a str,
    /// Path with the query string, as asked for.
    pub path: &'a str,
    /// Site that the host belongs to.
    pub site: &'a str,
    /// The client's `User-Agent`.
    pub user_agent: &'a str,
    /// At an upper tier, the edge that asked.
    pub hop_from: &'a str,
    /// The method, where it is [`Method::Other`].
    pub method: &'a str,
    /// `tracestate`, where the trace came with one.
    pub trace_state: &'a str,
}

/// The texts of a record, in one piece of memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Words {
    text: String,
    // Where each ends; each begins where the one before it ends.
    ends: [usize; 7],
}

impl From<Said<'_>> for Words {
    fn from(said: Said<'_>) -> Self {
        let parts = [
            said.host,
            said.path,
            said.site,
            said.user_agent,
            said.hop_from,
            said.method,
            said.trace_state,
        ];
        let mut text = String::with_capacity(parts.iter().map(|part| part.len()).sum());
        let ends = parts.map(|part| {
            // Most of them are, of most requests.
            if !part.is_empty() {
                text.push_str(part);
            }
            text.len()
        });
        Self { text, ends }
    }
}

impl Words {
    /// Host asked for, with its port where it has one.
    #[must_use]
    pub fn host(&self) -> &str {
        self.part(0)
    }

    /// Path with the query string, as asked for.
    #[must_use]
    pub fn path(&self) -> &str {
        self.part(1)
    }

    /// Site that the host belongs to; empty where there is none.
    #[must_use]
    pub fn site(&self) -> &str {
        self.part(2)
    }

    pub(crate) fn user_agent(&self) -> &str {
        self.part(3)
    }

    pub(crate) fn hop_from(&self) -> &str {
        self.part(4)
    }

    fn method(&self) -> &str {
        self.part(5)
    }

    pub(crate) fn trace_state(&self) -> &str {
        self.part(6)
    }

    /// How much memory they take.
    pub(crate) fn bytes(&self) -> usize {
        self.text.capacity()
    }

    fn part(&self, index: usize) -> &str {
        let start = index.checked_sub(1).map_or(0, |before| self.ends[before]);
        self.text
            .get(start..self.ends[index])
            .expect("ends ascend and lie between characters")
    }
}

/// A request's place in its trace (W3C Trace Context). The ids are values that
/// were drawn before anything was sent, whether or not anyone is tracing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TraceRecord {
    /// The trace.
    pub trace_id: [u8; 16],
    /// This node's server span, or that of work it sets itself below one.
    pub span_id: [u8; 8],
    /// The span it is a child of.
    pub parent_span_id: Option<[u8; 8]>,
    /// Whether that parent belongs to another node or to the client.
    pub parent_is_remote: bool,
    /// Whether the trace is exported.
    pub sampled: bool,
}

/// A part of the time a request took, on this node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Phase {
    /// `lookup`, `fill`, `wait`, `write`, …
    pub name: &'static str,
    /// Its span.
    pub span_id: [u8; 8],
    /// Offset from the record's `started_ms`, microseconds.
    pub start_us: u64,
    /// How long it took, microseconds.
    pub duration_us: u64,
}

/// One request sent upstream, answered or not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attempt {
    /// Its span: the id that was sent as the parent, so that the next tier's
    /// server span is a child of this one.
    pub span_id: [u8; 8],
    /// Who was asked: `upper-1`, `origin 127.0.0.1:8000`.
    pub target: String,
    /// Where that is: host and port, as the configuration names them.
    pub address: String,
    /// What it is.
    pub kind: AttemptKind,
    /// Offset from the record's `started_ms`, microseconds.
    pub start_us: u64,
    /// Until the head of its answer was here and verified, or it failed, microseconds.
    /// The body that follows is the record's own time.
    pub duration_us: u64,
    /// Status of the answer, if one came.
    pub status: Option<u16>,
    /// What went wrong, in a word or a few: `connect_timeout`, `unverified`.
    pub error: Option<&'static str>,
    /// Whether it went over a pooled connection.
    pub reused_connection: bool,
}

/// What kind of upstream was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum AttemptKind {
    /// A node of ours, one tier up.
    UpperTier,
    /// The customer's server.
    Origin,
}

impl AttemptKind {
    /// The word used in metrics, log lines and spans.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            AttemptKind::UpperTier => "upper_tier",
            AttemptKind::Origin => "origin",
        }
    }
}

// A record is a value and no handle: whoever adds a field here says so below, and a
// field through which a request could be reached does not compile.
plain!(
    enum Outcome {
        Hit,
        StaleHit,
        Revalidated,
        Miss,
        Collapsed,
        Pass,
        Bypass,
        Error,
        Refused,
    }
);
plain!(
    enum Protocol {
        H1,
        H2,
    }
);
plain!(
    enum Method {
        Get,
        Head,
        Post,
        Put,
        Delete,
        Options,
        Patch,
        Trace,
        Connect,
        Other,
    }
);
plain!(
    enum AttemptKind {
        UpperTier,
        Origin,
    }
);
plain!(
    struct Done {
        outcome,
        status,
        body_bytes,
        duration_us,
        protocol,
        method,
        https,
    }
);
plain!(
    struct Record {
        trace,
        started_ms,
        duration_us,
        client,
        peer,
        method,
        scheme,
        words,
        status,
        outcome,
        detail,
        body_bytes,
        protocol,
        phases,
        upstream_attempts,
    }
);
plain!(struct Words { text, ends });
plain!(
    struct TraceRecord {
        trace_id,
        span_id,
        parent_span_id,
        parent_is_remote,
        sampled,
    }
);
plain!(
    struct Phase {
        name,
        span_id,
        start_us,
        duration_us,
    }
);
plain!(
    struct Attempt {
        span_id,
        target,
        address,
        kind,
        start_us,
        duration_us,
        status,
        error,
        reused_connection,
    }
);

#[cfg(test)]
pub(crate) mod samples;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_is_in_declaration_order() {
        for (index, outcome) in Outcome::ALL.into_iter().enumerate() {
            assert_eq!(outcome as usize, index, "{}", outcome.as_str());
        }
        for (index, method) in Method::ALL.into_iter().enumerate() {
            assert_eq!(method as usize, index, "{}", method.as_str());
        }
        for (index, protocol) in Protocol::ALL.into_iter().enumerate() {
            assert_eq!(protocol as usize, index, "{}", protocol.as_str());
        }
    }

    #[test]
    fn methods_are_known_by_their_exact_name() {
        for method in Method::ALL {
            let again = Method::of(method.as_str());
            assert_eq!(again, method);
        }
        for other in ["get", "", "BREW", "_OTHER"] {
            assert_eq!(Method::of(other), Method::Other, "{other}");
        }
    }

    #[test]
    fn words_stay_apart() {
        let words = Words::from(Said {
            host: "ä",
            path: "/",
            method: "BREW",
            trace_state: "a=b",
            ..Said::default()
        });
        let parts: Vec<_> = (0..7).map(|index| words.part(index)).collect();
        assert_eq!(parts, ["ä", "/", "", "", "", "BREW", "a=b"]);
    }
}
