//! Metrics as OTLP: the very text that `/metrics` shows, and what the HTTP semantic
//! conventions ask for beside it.
//!
//! Reading our own text costs a little each minute, and buys that the two can never
//! differ. Field numbers are those of `opentelemetry.proto.metrics.v1`.

use super::{ITEM, proto};
use crate::metrics::{BOUNDS_US, HttpSeries};

const NAME: u32 = 1;
const DESCRIPTION: u32 = 2;
const UNIT: u32 = 3;
const GAUGE: u32 = 5;
const SUM: u32 = 7;
const HISTOGRAM: u32 = 9;

const DATA_POINTS: u32 = 1;
const TEMPORALITY: u32 = 2;
const CUMULATIVE: u64 = 2;
const IS_MONOTONIC: u32 = 3;

const START_TIME: u32 = 2;
const TIME: u32 = 3;
const AS_DOUBLE: u32 = 4;
const AS_INT: u32 = 6;
const NUMBER_ATTRIBUTES: u32 = 7;

const COUNT: u32 = 4;
const SUM_OF_VALUES: u32 = 5;
const BUCKET_COUNTS: u32 = 6;
const EXPLICIT_BOUNDS: u32 = 7;
const HISTOGRAM_ATTRIBUTES: u32 = 9;

/// Since when is counted, and up to when, both Unix milliseconds.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Span {
    pub(crate) start_ms: u64,
    pub(crate) now_ms: u64,
}

/// One family of the text.
#[derive(Debug, Default)]
struct Family<'a> {
    name: &'a str,
    help: &'a str,
    kind: &'a str,
    samples: Vec<Sample<'a>>,
}

#[derive(Debug, Clone)]
struct Sample<'a> {
    name: &'a str,
    labels: Vec<(&'a str, String)>,
    value: &'a str,
}

/// Writes every metric of the text and says how many.
pub(crate) fn write(out: &mut Vec<u8>, text: &str, span: Span) -> u64 {
    let families = families(text);
    for family in &families {
        let metric = proto::open(out, ITEM);
        let name = match family.kind {
            "counter" => family.name.strip_suffix("_total").unwrap_or(family.name),
            _ => family.name,
        };
        proto::text(out, NAME, name);
        proto::text(out, DESCRIPTION, family.help);
        match family.kind {
            "histogram" => histogram(out, family, span),
            "counter" => {
                let sum = proto::open(out, SUM);
                numbers(out, family, span);
                proto::number(out, TEMPORALITY, CUMULATIVE);
                proto::number(out, IS_MONOTONIC, 1);
                proto::close(out, sum);
            }
            _ => {
                let gauge = proto::open(out, GAUGE);
                numbers(out, family, span);
                proto::close(out, gauge);
            }
        }
        proto::close(out, metric);
    }
    families.len() as u64
}

/// Writes `http.server.request.duration`.
pub(crate) fn write_http(out: &mut Vec<u8>, series: &[HttpSeries], span: Span) -> u64 {
    let metric = proto::open(out, ITEM);
    proto::text(out, NAME, "http.server.request.duration");
    proto::text(out, DESCRIPTION, "Duration of HTTP server requests.");
    proto::text(out, UNIT, "s");
    let histogram = proto::open(out, HISTOGRAM);
    let bounds = BOUNDS_US.map(|us| us as f64 / 1e6);
    for one in series {
        let point = begin_point(out, span);
        match one.labels {
            Some(labels) => {
                let mut text = |key, value| {
                    proto::attribute(out, HISTOGRAM_ATTRIBUTES, key, value);
                };
                text("http.request.method", labels.method.as_str());
                text("url.scheme", if labels.https { "https" } else { "http" });
                text("network.protocol.version", labels.protocol.version());
                if labels.status >= 500 {
                    text("error.type", &labels.status.to_string());
                }
                proto::attribute_number(
                    out,
                    HISTOGRAM_ATTRIBUTES,
                    "http.response.status_code",
                    u64::from(labels.status),
                );
            }
            None => {
                let key = "otel.metric.overflow";
                proto::attribute_flag(out, HISTOGRAM_ATTRIBUTES, key, true);
            }
        }
        distribution(out, &one.buckets, &bounds, one.sum_us as f64 / 1e6);
        proto::close(out, point);
    }
    proto::number(out, TEMPORALITY, CUMULATIVE);
    proto::close(out, histogram);
    proto::close(out, metric);
    1
}

fn begin_point(out: &mut Vec<u8>, span: Span) -> proto::Open {
    let point = proto::open(out, DATA_POINTS);
    proto::fixed64(out, START_TIME, span.start_ms.saturating_mul(1_000_000));
    proto::fixed64(out, TIME, span.now_ms.saturating_mul(1_000_000));
    point
}

fn numbers(out: &mut Vec<u8>, family: &Family<'_>, span: Span) {
    for sample in &family.samples {
        let point = begin_point(out, span);
        for (key, value) in &sample.labels {
            proto::attribute(out, NUMBER_ATTRIBUTES, key, value);
        }
        match sample.value.parse::<i64>() {
            Ok(whole) => proto::fixed64(out, AS_INT, whole.cast_unsigned()),
            Err(_) => {
                let value: f64 = sample.value.parse().unwrap_or_default();
                proto::fixed64(out, AS_DOUBLE, value.to_bits());
            }
        }
        proto::close(out, point);
    }
}

fn histogram(out: &mut Vec<u8>, family: &Family<'_>, span: Span) {
    let histogram = proto::open(out, HISTOGRAM);
    let mut rest = family.samples.as_slice();
    while let Some(first) = rest.first() {
        // All samples of one series stand together, and its buckets first to last.
        let of_it = |sample: &&Sample<'_>| without_bound(sample).eq(without_bound(first));
        let series = rest.iter().take_while(of_it).count().max(1);
        let (samples, others) = rest.split_at(series);
        rest = others;
        let point = begin_point(out, span);
        for (key, value) in without_bound(first) {
            proto::attribute(out, HISTOGRAM_ATTRIBUTES, key, value);
        }
        let (mut bounds, mut counts, mut sum, mut below) = (vec![], vec![], 0.0, 0_u64);
        for sample in samples {
            let bound = sample.labels.iter().find(|(key, _)| *key == "le");
            match bound {
                Some((_, bound)) => {
                    let cumulative: u64 = sample.value.parse().unwrap_or_default();
                    counts.push(cumulative.saturating_sub(below));
                    below = cumulative;
                    bounds.extend(bound.parse::<f64>().ok().filter(|bound| bound.is_finite()));
                }
                None if sample.name.ends_with("_sum") => {
                    sum = sample.value.parse().unwrap_or_default();
                }
                None => {}
            }
        }
        distribution(out, &counts, &bounds, sum);
        proto::close(out, point);
    }
    proto::number(out, TEMPORALITY, CUMULATIVE);
    proto::close(out, histogram);
}

fn without_bound<'a>(sample: &'a Sample<'_>) -> impl Iterator<Item = (&'a str, &'a str)> {
    let labels = sample
        .labels
        .iter()
        .map(|(key, value)| (*key, value.as_str()));
    labels.filter(|(key, _)| *key != "le")
}

fn distribution(out: &mut Vec<u8>, counts: &[u64], bounds: &[f64], sum: f64) {
    proto::fixed64(out, COUNT, counts.iter().sum());
    proto::fixed64(out, SUM_OF_VALUES, sum.to_bits());
    let packed: Vec<u8> = counts
        .iter()
        .flat_map(|count| count.to_le_bytes())
        .collect();
    proto::bytes(out, BUCKET_COUNTS, &packed);
    let packed: Vec<u8> = bounds
        .iter()
        .flat_map(|bound| bound.to_le_bytes())
        .collect();
    proto::bytes(out, EXPLICIT_BOUNDS, &packed);
}

fn families(text: &str) -> Vec<Family<'_>> {
    let mut families: Vec<Family<'_>> = Vec::new();
    for line in text.lines() {
        if let Some(help) = line.strip_prefix("# HELP ") {
            let (name, help) = help.split_once(' ').unwrap_or((help, ""));
            families.push(Family {
                name,
                help,
                ..Family::default()
            });
        } else if let Some(kind) = line.strip_prefix("# TYPE ") {
            let (name, kind) = kind.split_once(' ').unwrap_or((kind, ""));
            if let Some(family) = families.last_mut().filter(|family| family.name == name) {
                family.kind = kind;
            }
        } else if !line.starts_with('#')
            && let Some(sample) = sample(line)
            && let Some(family) = families.last_mut()
        {
            family.samples.push(sample);
        }
    }
    // A family of labels that has counted nothing has nothing to tell.
    families.retain(|family| !family.samples.is_empty());
    families
}

/// `name{key="value",…} value`.
fn sample(line: &str) -> Option<Sample<'_>> {
    let (series, value) = line.rsplit_once(' ')?;
    let Some((name, labels)) = series.split_once('{') else {
        return Some(Sample {
            name: series,
            labels: Vec::new(),
            value,
        });
    };
    let mut rest = labels.strip_suffix('}')?;
    let mut labels = Vec::new();
    while let Some((key, after)) = rest.split_once("=\"") {
        let mut text = String::new();
        let mut chars = after.char_indices();
        let end = loop {
            match chars.next()? {
                (at, '"') => break at,
                (_, '\\') => match chars.next()?.1 {
                    'n' => text.push('\n'),
                    other => text.push(other),
                },
                (_, other) => text.push(other),
            }
        };
        labels.push((key.trim_start_matches(','), text));
        rest = after.get(end + 1..)?;
    }
    Some(Sample {
        name,
        labels,
        value,
    })
}

#[cfg(test)]
mod tests {
    use opentelemetry_proto::tonic::metrics::v1::metric::Data;
    use opentelemetry_proto::tonic::metrics::v1::number_data_point::Value;
    use opentelemetry_proto::tonic::metrics::v1::{Metric, ScopeMetrics};
    use prost::Message as _;

    use super::*;
    use crate::metrics::Metrics;
    use crate::record::{Done, Method, Outcome, Protocol};

    const SPAN: Span = Span {
        start_ms: 1,
        now_ms: 2,
    };

    fn decoded(write: impl FnOnce(&mut Vec<u8>) -> u64) -> Vec<Metric> {
        let mut out = Vec::new();
        let count = write(&mut out);
        let metrics = ScopeMetrics::decode(out.as_slice()).unwrap().metrics;
        assert_eq!(metrics.len() as u64, count);
        metrics
    }

    #[test]
    fn labels_are_read_as_they_were_written() {
        let line = r#"a_total{x="1",peer="a \"b\" \\ {c}, d=\"e\""} 3"#;
        let sample = sample(line).unwrap();
        assert_eq!((sample.name, sample.value), ("a_total", "3"));
        let labels = [
            ("x", "1".to_owned()),
            ("peer", r#"a "b" \ {c}, d="e""#.to_owned()),
        ];
        assert_eq!(sample.labels, labels);
    }

    #[test]
    fn the_text_becomes_sums_gauges_and_histograms_of_the_same_values() {
        let metrics = Metrics::new();
        for duration_us in [50, 300, 40_000_000] {
            metrics.count(&Done {
                outcome: Outcome::Hit,
                status: 200,
                body_bytes: 7,
                duration_us,
                protocol: Protocol::H1,
                method: Method::Get,
                https: false,
            });
        }
        metrics.tier_refused("missing", "upper-1");
        let text = metrics.render(5, 1, 0);
        let told = decoded(|out| write(out, &text, SPAN));
        let of = |name: &str| {
            let found = told.iter().find(|metric| metric.name == name);
            found
                .unwrap_or_else(|| panic!("{name} in {told:#?}"))
                .clone()
        };
        let Some(Data::Sum(requests)) = of("headwater_requests").data else {
            panic!("no sum")
        };
        assert!(requests.is_monotonic);
        assert_eq!(requests.aggregation_temporality, 2);
        assert_eq!(requests.data_points[0].value, Some(Value::AsInt(3)));
        assert_eq!(requests.data_points[0].attributes.len(), 3);
        assert_eq!(requests.data_points[0].start_time_unix_nano, 1_000_000);
        assert_eq!(requests.data_points[0].time_unix_nano, 2_000_000);
        let Some(Data::Gauge(in_flight)) = of("headwater_requests_in_flight").data else {
            panic!("no gauge")
        };
        assert_eq!(in_flight.data_points[0].value, Some(Value::AsInt(1)));
        let durations = of("headwater_request_duration_seconds");
        let Some(Data::Histogram(durations)) = durations.data else {
            panic!("no histogram")
        };
        let [hits, others] = durations.data_points.as_slice() else {
            panic!("{durations:?}")
        };
        assert_eq!((hits.count, others.count), (3, 0));
        assert_eq!(hits.bucket_counts.len(), hits.explicit_bounds.len() + 1);
        assert_eq!(hits.bucket_counts[..3], [1, 0, 1]);
        assert_eq!(hits.bucket_counts.last(), Some(&1));
        assert!(hits.sum.is_some_and(|sum| (sum - 40.000_35).abs() < 1e-9));
    }

    #[test]
    fn the_conventions_histogram_has_its_attributes() {
        let metrics = Metrics::new();
        metrics.count_http();
        for status in [200, 502] {
            metrics.count(&Done {
                outcome: Outcome::Miss,
                status,
                body_bytes: 0,
                duration_us: 6_000,
                protocol: Protocol::H2,
                method: Method::Post,
                https: true,
            });
        }
        let told = decoded(|out| write_http(out, &metrics.http_series(), SPAN));
        assert_eq!(told[0].name, "http.server.request.duration");
        assert_eq!(told[0].unit, "s");
        let Some(Data::Histogram(durations)) = &told[0].data else {
            panic!("{told:?}")
        };
        let keys = |point: usize| {
            let attributes = durations.data_points[point].attributes.iter();
            attributes.map(|one| one.key.as_str()).collect::<Vec<_>>()
        };
        let plain = [
            "http.request.method",
            "url.scheme",
            "network.protocol.version",
            "http.response.status_code",
        ];
        assert_eq!(keys(0), plain);
        assert!(keys(1).contains(&"error.type"));
        assert_eq!(durations.data_points[0].bucket_counts[1], 1);
    }
}
