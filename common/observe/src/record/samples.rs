//! Records to test with.

use super::*;

pub(crate) fn said() -> Said<'static> {
    Said {
        host: "shop.example:8443",
        path: "/a?b=c",
        site: "shop",
        user_agent: "curl/8",
        ..Said::default()
    }
}

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
        client: [192, 0, 2, 7].into(),
        peer: [198, 51, 100, 1].into(),
        method: Method::Get,
        scheme: "https",
        words: said().into(),
        status: 200,
        outcome: Outcome::Miss,
        detail: "".into(),
        body_bytes: 1024,
        protocol: Protocol::H2,
        phases: vec![Phase {
            name: "fill",
            span_id: [0x33; 8],
            start_us: 100,
            duration_us: 12_000,
        }],
        upstream_attempts: vec![Attempt {
            span_id: [0x44; 8],
            target: "upper-1".into(),
            address: "192.0.2.9:8091".into(),
            kind: AttemptKind::UpperTier,
            start_us: 200,
            duration_us: 11_000,
            status: Some(200),
            error: None,
            reused_connection: true,
        }],
    }
}
