//! What a node says about a finished request: plain values that it gives away.
//!
//! Everything here is owned data without interior mutability, moved into the
//! observer by value. Nothing in it leads back to the request it describes, so
//! nothing that is done with a record can reach a visitor.

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
}

/// One finished request, told in full. Made only where [`wants`] says so.
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
    pub client: String,
    /// Request method.
    pub method: String,
    /// The visitor's scheme, `http` or `https`.
    pub scheme: &'static str,
    /// Host asked for, with its port where it has one.
    pub host: String,
    /// Path with the query string, as asked for.
    pub path: String,
    /// Site that the host belongs to; empty where there is none.
    pub site: String,
    /// Status sent to the client.
    pub status: u16,
    /// How it was answered.
    pub outcome: Outcome,
    /// Why: the bypass reason, the error's type. Empty where there is nothing to add.
    pub detail: String,
    /// Body bytes sent to the client.
    pub body_bytes: u64,
    /// Protocol between client and node.
    pub protocol: Protocol,
    /// The client's `User-Agent`.
    pub user_agent: Option<String>,
    /// At an upper tier, the edge that asked.
    pub hop_from: Option<String>,
    /// What the time went into, in the order it happened.
    pub phases: Vec<Phase>,
    /// Every request sent upstream for it, in the order they were sent.
    pub upstream_attempts: Vec<Attempt>,
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
    /// What it is.
    pub kind: AttemptKind,
    /// Offset from the record's `started_ms`, microseconds.
    pub start_us: u64,
    /// Until its answer was complete or it failed, microseconds.
    pub duration_us: u64,
    /// Status of the answer, if one came.
    pub status: Option<u16>,
    /// What went wrong, in a word or a few: `connect_timeout`, `unverified`.
    pub error: Option<String>,
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
    }
);
plain!(
    struct Record {
        trace,
        started_ms,
        duration_us,
        client,
        method,
        scheme,
        host,
        path,
        site,
        status,
        outcome,
        detail,
        body_bytes,
        protocol,
        user_agent,
        hop_from,
        phases,
        upstream_attempts,
    }
);
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
        kind,
        start_us,
        duration_us,
        status,
        error,
        reused_connection,
    }
);

#[cfg(test)]
pub(crate) mod samples {
    use super::*;

    /// A miss at an edge that asked one upper tier, with every field filled.
    pub(crate) fn miss() -> Record {
        Record {
            trace: Some(TraceRecord {
                trace_id: [0x11; 16],
                span_id: [0x22; 8],
                parent_span_id: None,
                parent_is_remote: false,
                sampled: true,
            }),
            started_ms: 1_700_000_000_000,
            duration_us: 12_500,
            client: "192.0.2.7".into(),
            method: "GET".into(),
            scheme: "https",
            host: "shop.example:8443".into(),
            path: "/a?b=c".into(),
            site: "shop".into(),
            status: 200,
            outcome: Outcome::Miss,
            detail: String::new(),
            body_bytes: 1024,
            protocol: Protocol::H2,
            user_agent: Some("curl/8".into()),
            hop_from: None,
            phases: vec![Phase {
                name: "fill",
                span_id: [0x33; 8],
                start_us: 100,
                duration_us: 12_000,
            }],
            upstream_attempts: vec![Attempt {
                span_id: [0x44; 8],
                target: "upper-1".into(),
                kind: AttemptKind::UpperTier,
                start_us: 200,
                duration_us: 11_000,
                status: Some(200),
                error: None,
                reused_connection: true,
            }],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_is_in_declaration_order() {
        for (index, outcome) in Outcome::ALL.into_iter().enumerate() {
            assert_eq!(outcome as usize, index, "{}", outcome.as_str());
        }
        for (index, protocol) in Protocol::ALL.into_iter().enumerate() {
            assert_eq!(protocol as usize, index, "{}", protocol.as_str());
        }
    }
}
