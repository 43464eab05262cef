//! `[store]`, `[limits]`, `[timeouts]` and `[telemetry]` of a node's file.

use std::ops::RangeInclusive;
use std::path::Path;

use super::disk::{Named, Use};
use super::reader::{Item, Table};
use super::values::{self, Fault, shown};
use crate::model::{
    AccessLog, Health, Limits, LogLevel, OtlpProtocol, OtlpSignal, Store, Telemetry, Timeouts,
};

/// More than any machine has; it only catches a slip of the unit.
const BYTES_MAX: u64 = 1 << 50;

/// Nodes read at most 256 fields and about 1 MiB of a head, whatever is written
/// here, and an upper tier leaves room for what an edge adds: 16 fields, the
/// same bytes once more and 4 KiB.
const FIELDS_MAX: u64 = 256 - 16;
const HEAD_BYTES_MAX: u64 = 256 * 1024;

/// A day. A longer wait is a slip of the unit.
pub(crate) const WAIT_MS: RangeInclusive<u64> = 1..=86_400_000;

pub(crate) fn store(table: &mut Table<'_>) -> Option<Store> {
    let default = Store::default();
    let bytes_max = table.bytes("bytes_max", default.bytes_max, 1..=BYTES_MAX);
    let object_bytes_max = bytes_within(
        table,
        "object_bytes_max",
        default.object_bytes_max,
        1..=BYTES_MAX,
        ("bytes_max", bytes_max),
    );
    Some(Store {
        bytes_max,
        object_bytes_max,
        variants_max: table.whole("variants_max", default.variants_max, 1..=100_000),
    })
}

/// A size that makes no sense beyond another one. Where none is written, a
/// small `most` lowers the default: that contradicts nothing.
fn bytes_within(
    table: &mut Table<'_>,
    key: &'static str,
    default: u64,
    range: RangeInclusive<u64>,
    (most_key, most): (&str, u64),
) -> u64 {
    let Some(item) = table.take(key) else {
        return default.min(most);
    };
    let Some(bytes) = item.bytes(range) else {
        return default.min(most);
    };
    if bytes > most {
        let most = values::size_text(most);
        item.problem(
            format!("is more than `{most_key}`, which is {most}"),
            format!("lower it, or raise `{most_key}`"),
        );
    }
    bytes
}

/// Fetches at once. More would be no bound.
pub(crate) const FETCHES_MAX: u64 = 1_000_000;

pub(crate) fn limits(table: &mut Table<'_>) -> Option<Limits> {
    let default = Limits::default();
    let in_flight_max = table.bytes(
        "fill_bytes_in_flight_max",
        default.fill_bytes_in_flight_max,
        1024..=BYTES_MAX,
    );
    let window = bytes_within(
        table,
        "fill_window_bytes",
        default.fill_window_bytes as u64,
        1024..=1 << 30,
        ("fill_bytes_in_flight_max", in_flight_max),
    );
    Some(Limits {
        head_bytes_max: table.bytes(
            "head_bytes_max",
            default.head_bytes_max,
            512..=HEAD_BYTES_MAX,
        ),
        fields_max: table.whole("fields_max", default.fields_max, 1..=FIELDS_MAX),
        request_body_bytes_max: table.bytes(
            "request_body_bytes_max",
            default.request_body_bytes_max,
            0..=BYTES_MAX,
        ),
        connections_max: table.whole("connections_max", default.connections_max, 1..=10_000_000),
        fetches_max: table.whole("fetches_max", default.fetches_max, 1..=FETCHES_MAX),
        retry_percent: table.whole("retry_percent", default.retry_percent, 0..=100),
        retries_min: table.whole("retries_min", default.retries_min, 1..=FETCHES_MAX),
        upper_load_percent_max: upper_load_percent_max(table),
        fill_bytes_in_flight_max: in_flight_max,
        fill_window_bytes: usize::try_from(window).unwrap_or(default.fill_window_bytes),
        hops_max: table.whole("hops_max", default.hops_max, 1..=255),
    })
}

/// A bound on the load of one upper tier; 0: there is none.
fn upper_load_percent_max(table: &mut Table<'_>) -> Option<u32> {
    let item = table.take("upper_load_percent_max")?;
    let percent: u32 = item.whole(0..=10_000)?;
    if (1..=100).contains(&percent) {
        item.problem(
            "is no more than its share, so that every upper tier would always be full",
            "write what one may have in percent of its share, such as 125, or 0 for no bound",
        );
    }
    (percent > 0).then_some(percent)
}

pub(crate) fn timeouts(table: &mut Table<'_>) -> Option<Timeouts> {
    let default = Timeouts::default();
    let answer_ms = table.whole("answer_ms", default.answer_ms, WAIT_MS);
    let tier_answer_ms = tier_answer_ms(table, default.tier_answer_ms, answer_ms);
    let mut wait = |key, default| table.whole(key, default, WAIT_MS);
    let timeouts = Timeouts {
        head_ms: wait("head_ms", default.head_ms),
        keepalive_ms: wait("keepalive_ms", default.keepalive_ms),
        write_ms: wait("write_ms", default.write_ms),
        request_body_ms: wait("request_body_ms", default.request_body_ms),
        connect_ms: wait("connect_ms", default.connect_ms),
        first_byte_ms: wait("first_byte_ms", default.first_byte_ms),
        tier_answer_ms,
        between_bytes_ms: wait("between_bytes_ms", default.between_bytes_ms),
        collapse_ms: wait("collapse_ms", default.collapse_ms),
        pool_idle_ms: wait("pool_idle_ms", default.pool_idle_ms),
        laggard_ms: wait("laggard_ms", default.laggard_ms),
        answer_ms,
        drain_idle_ms: wait("drain_idle_ms", default.drain_idle_ms),
        drain_ms: wait("drain_ms", default.drain_ms),
    };
    if timeouts.pool_idle_ms >= timeouts.keepalive_ms {
        table.problem(
            format!(
                "`pool_idle_ms` ({}) is not below `keepalive_ms` ({}): a peer with the same \
                 settings may close a connection just as a request goes out on it",
                timeouts.pool_idle_ms, timeouts.keepalive_ms
            ),
            "lower `pool_idle_ms`, so that this side closes an idle connection first",
        );
    }
    Some(timeouts)
}

pub(crate) fn health(table: &mut Table<'_>) -> Option<Health> {
    let default = Health::default();
    let recent = table.whole("recent", default.recent, 1..=64);
    let too_many = default.recent_failures_to_down.min(recent);
    Some(Health {
        probe_ms: table.whole("probe_ms", default.probe_ms, 0..=*WAIT_MS.end()),
        failures_to_down: table.whole("failures_to_down", default.failures_to_down, 1..=1000),
        recent,
        recent_failures_to_down: table.whole("recent_failures_to_down", too_many, 0..=64),
        out_ratio_max: table.ratio("out_ratio_max", default.out_ratio_max),
        down_ms: table.whole("down_ms", default.down_ms, WAIT_MS),
        warm_ms: table.whole("warm_ms", default.warm_ms, 0..=*WAIT_MS.end()),
    })
}

/// One upper tier's share of the whole wait. Where none is written, a small
/// `answer_ms` lowers the default: that contradicts nothing.
fn tier_answer_ms(table: &mut Table<'_>, default: u64, answer_ms: u64) -> u64 {
    let Some(item) = table.take("tier_answer_ms") else {
        return default.min(answer_ms);
    };
    let Some(written) = item.whole(WAIT_MS) else {
        return default.min(answer_ms);
    };
    if written > answer_ms {
        item.problem(
            format!("is more than `answer_ms`, which is {answer_ms}"),
            "lower it, or raise `answer_ms`",
        );
    }
    written
}

const LEVELS: [(&str, LogLevel); 5] = [
    ("error", LogLevel::Error),
    ("warn", LogLevel::Warn),
    ("info", LogLevel::Info),
    ("debug", LogLevel::Debug),
    ("trace", LogLevel::Trace),
];

const PROTOCOLS: [(&str, OtlpProtocol); 2] = [
    ("http/protobuf", OtlpProtocol::HttpProtobuf),
    ("grpc", OtlpProtocol::Grpc),
];

const SIGNALS: [(&str, OtlpSignal); 3] = [
    ("traces", OtlpSignal::Traces),
    ("metrics", OtlpSignal::Metrics),
    ("logs", OtlpSignal::Logs),
];

pub(crate) fn telemetry(
    table: &mut Table<'_>,
    file: &Path,
    files: &mut Vec<Named>,
) -> Option<Telemetry> {
    let default = Telemetry::default();
    let access_log = table.take("access_log");
    let hit_log_ratio = table.ratio("hit_log_ratio", default.hit_log_ratio);
    let otlp_endpoint = table.take("otlp_endpoint");
    let otlp_protocol = table.choice("otlp_protocol", default.otlp_protocol, &PROTOCOLS);
    let otlp_signals = match table.take("otlp_signals") {
        Some(signals) => {
            let signals = signals.list().unwrap_or_default();
            let known = signals.iter().filter_map(|one| one.choice(&SIGNALS));
            known.collect()
        }
        None => default.otlp_signals,
    };
    collector_files(table, files);
    let metrics_interval_ms =
        table.whole("metrics_interval_ms", default.metrics_interval_ms, WAIT_MS);
    let trace_ratio = table.ratio("trace_ratio", default.trace_ratio);
    let slow_ms = table.whole("slow_ms", default.slow_ms, WAIT_MS);
    let queue_records_max =
        table.whole("queue_records_max", default.queue_records_max, 1..=1 << 24);
    let log_level = table.choice("log_level", default.log_level, &LEVELS);

    let access_log = match access_log {
        Some(item) => log(&item, file, files),
        None => Some(default.access_log),
    };
    Some(Telemetry {
        access_log: access_log?,
        hit_log_ratio,
        otlp_endpoint: otlp_endpoint.and_then(|item| item.parse(values::endpoint)),
        otlp_protocol,
        otlp_signals,
        // `load` puts these two in, once it has read their files.
        otlp_ca: None,
        otlp_headers: Vec::new(),
        metrics_interval_ms,
        trace_ratio,
        slow_ms,
        queue_records_max,
        log_level,
    })
}

fn collector_files(table: &mut Table<'_>, files: &mut Vec<Named>) {
    for (key, what) in [
        ("otlp_ca", Use::CollectorCa),
        ("otlp_headers_file", Use::CollectorHeaders),
    ] {
        if let Some(item) = table.take(key)
            && let Some(path) = item.path()
        {
            files.push(Named {
                path,
                place: item.place().clone(),
                what,
            });
        }
    }
}

fn log(item: &Item<'_>, file: &Path, files: &mut Vec<Named>) -> Option<AccessLog> {
    let folder = file.parent().unwrap_or(Path::new(""));
    let log = item.parse(|text| match text {
        "off" => Ok(AccessLog::Off),
        "stdout" => Ok(AccessLog::Stdout),
        "stderr" => Ok(AccessLog::Stderr),
        _ => match text.strip_prefix("file:").filter(|path| !path.is_empty()) {
            Some(path) => Ok(AccessLog::File(folder.join(path))),
            None => Err(Fault {
                what: format!("{} is no place for a log", shown(text)),
                mend: "write \"stdout\", \"stderr\", \"off\" or \"file:PATH\"".to_owned(),
            }),
        },
    })?;
    if let AccessLog::File(path) = &log {
        files.push(Named {
            path: path.clone(),
            place: item.place().clone(),
            what: Use::Log,
        });
    }
    Some(log)
}
