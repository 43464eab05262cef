//! The values that hold where an operator writes none.
//!
//! `docs/operations/configuration.md` lists them; `tests/documented.rs` holds
//! that page and these functions together.

use http::HeaderName;

use crate::model::{
    AccessLog, Cache, Health, Limits, LogLevel, OtlpProtocol, OtlpSignal, Places, SetCookie, Store,
    Telemetry, Timeouts,
};

const KIB: u64 = 1024;
const MIB: u64 = 1024 * KIB;
const GIB: u64 = 1024 * MIB;

impl Default for Store {
    /// 256 MiB of memory, objects up to 128 MiB, 32 variants a key.
    fn default() -> Self {
        Self {
            bytes_max: 256 * MIB,
            object_bytes_max: 128 * MIB,
            variants_max: 32,
        }
    }
}

impl Default for Limits {
    /// Heads of 32 KiB and 100 fields, request bodies of 1 GiB, 10,000
    /// connections, 8,192 fetches, a fifth of them (or 16) on a further attempt,
    /// 256 MiB being filled at once, 1 MiB of window, 4 hops.
    fn default() -> Self {
        Self {
            head_bytes_max: 32 * 1024,
            fields_max: 100,
            request_body_bytes_max: GIB,
            connections_max: 10_000,
            fetches_max: 8_192,
            retry_percent: 20,
            retries_min: 16,
            upper_load_percent_max: None,
            fill_bytes_in_flight_max: 256 * MIB,
            fill_window_bytes: 1024 * 1024,
            hops_max: 4,
        }
    }
}

impl Default for Timeouts {
    /// A second to connect, 15 seconds for an origin's next byte, 22 for an upper
    /// tier's answer (which gives up before 20), 25 for somebody else's fill,
    /// 30 for a whole answer, half an hour for a drain and a second of it for idle
    /// connections, 75 seconds of keep-alive for visitors and 30 for
    /// our own idle connections.
    fn default() -> Self {
        Self {
            head_ms: 10_000,
            keepalive_ms: 75_000,
            write_ms: 30_000,
            request_body_ms: 30_000,
            connect_ms: 1_000,
            first_byte_ms: 15_000,
            tier_answer_ms: 22_000,
            between_bytes_ms: 15_000,
            collapse_ms: 28_000,
            pool_idle_ms: 30_000,
            laggard_ms: 10_000,
            answer_ms: 30_000,
            drain_idle_ms: 1_000,
            drain_ms: 30 * 60 * 1000,
        }
    }
}

impl Default for Health {
    /// Down after three failures in a row or ten of twenty, half of a pool at most;
    /// asked again after a second and warm after another: with a probe between, an
    /// upper tier that comes back has all its keys within three seconds.
    fn default() -> Self {
        Self {
            probe_ms: 1_000,
            failures_to_down: 3,
            recent: 20,
            recent_failures_to_down: 10,
            out_ratio_max: 0.5,
            down_ms: 1_000,
            warm_ms: 1_000,
        }
    }
}

impl Places {
    /// Past the upper tiers: 64 at once, which is a thousand a second from an origin
    /// that takes 60 ms; 256 that wait, each for at most 5 seconds.
    #[must_use]
    pub const fn direct() -> Self {
        Self {
            in_flight_max: 64,
            queue_max: 256,
            wait_ms: 5_000,
        }
    }

    /// At the origin of a pool: 1,024 at once, which is ten thousand a second from an
    /// origin that takes 100 ms; 4,096 that wait, each for at most 5 seconds.
    #[must_use]
    pub const fn pool() -> Self {
        Self {
            in_flight_max: 1_024,
            queue_max: 4_096,
            wait_ms: 5_000,
        }
    }
}

impl Default for Telemetry {
    /// Access log on standard output with one hit in a hundred, every request
    /// traced but nothing exported, 8,192 records in the queue.
    fn default() -> Self {
        Self {
            access_log: AccessLog::Stdout,
            hit_log_ratio: 0.01,
            otlp_endpoint: None,
            otlp_protocol: OtlpProtocol::HttpProtobuf,
            otlp_signals: vec![OtlpSignal::Traces],
            otlp_ca: None,
            otlp_headers: Vec::new(),
            metrics_interval_ms: 60_000,
            trace_ratio: 1.0,
            slow_ms: 1_000,
            queue_records_max: 8_192,
            log_level: LogLevel::Info,
        }
    }
}

impl Default for Cache {
    /// What the origin's fields and RFC 9111's heuristics allow, and no more.
    fn default() -> Self {
        Self {
            default_ttl_ms: None,
            ttl_max_ms: None,
            negative_ttl_ms: None,
            heuristic: true,
            stale_while_revalidate_ms: 0,
            stale_if_error_ms: 0,
            set_cookie: SetCookie::Bypass,
            bypass_cookies: Vec::new(),
            honour_origin_fields: true,
            targeted: vec![HeaderName::from_static("cdn-cache-control")],
            honour_request_directives: true,
            compress: false,
            slice_bytes: None,
            refresh_ahead: true,
            tell_key: false,
            normalise_accept_encoding: true,
            normalise_accept_language: false,
        }
    }
}
