use std::collections::{BTreeMap, HashSet};

use super::labels::PEERS_MAX;
use super::*;
use crate::record::{Method, Outcome, Protocol};

/// Text as a scraper reads it: samples by name and labels, families by name.
struct Scrape {
    samples: BTreeMap<String, f64>,
    families: HashSet<String>,
}

/// Reads the text format 0.0.4 strictly enough to notice a malformed line: every
/// family has one non-empty HELP and one TYPE, and every sample belongs to one.
fn scrape(text: &str) -> Scrape {
    let mut samples = BTreeMap::new();
    let mut families = HashSet::new();
    let mut helped = HashSet::new();
    assert!(text.ends_with('\n'));
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            let (name, help) = rest.split_once(' ').unwrap();
            assert!(help.len() > 10, "{name} has no help worth reading");
            assert!(!help.ends_with(".."), "{name} ends twice");
            assert!(helped.insert(name.to_owned()), "{name} has two HELP lines");
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').unwrap();
            assert!(["counter", "gauge", "histogram"].contains(&kind), "{line}");
            assert!(helped.contains(name), "{name} has no HELP");
            assert!(
                families.insert(name.to_owned()),
                "{name} has two TYPE lines"
            );
        } else {
            let (series, value) = line.rsplit_once(' ').unwrap();
            let name = series.split('{').next().unwrap();
            assert!(name.starts_with("headwater_"), "{line}");
            let family = ["_bucket", "_sum", "_count"]
                .iter()
                .filter_map(|suffix| name.strip_suffix(suffix))
                .find(|base| families.contains(*base))
                .unwrap_or(name);
            assert!(families.contains(family), "{line} belongs to no family");
            if let Some(labels) = series.strip_prefix(name).filter(|l| !l.is_empty()) {
                assert!(labels.starts_with('{') && labels.ends_with('}'), "{line}");
                assert_eq!(labels.matches('"').count() % 2, 0, "{line}");
            }
            let value = value.parse().unwrap();
            assert!(
                samples.insert(series.to_owned(), value).is_none(),
                "{line} is there twice"
            );
        }
    }
    Scrape { samples, families }
}

impl Scrape {
    fn of(&self, series: &str) -> f64 {
        *self
            .samples
            .get(series)
            .unwrap_or_else(|| panic!("no {series}"))
    }
}

fn touched() -> (Metrics, FillInFlight) {
    let metrics = Metrics::new();
    metrics.saw(1_000);
    for outcome in Outcome::ALL {
        metrics.count(&Done {
            outcome,
            status: 200,
            body_bytes: 10,
            duration_us: 300,
            protocol: Protocol::H1,
            method: Method::Get,
            https: false,
        });
    }
    metrics.tier_control_rejected(Side::Request, "expired", "edge-1");
    metrics.tier_refused("missing", "upper-1");
    metrics.stripped_tier_fields(StrippedFrom::Visitor, 3);
    metrics.upstream_request(
        "upper-1",
        AttemptKind::UpperTier,
        UpstreamResult::Unverified,
    );
    metrics.upstream_connection("127.0.0.1:8000", true);
    metrics.upper_tier_up("upper-1", true);
    metrics.upper_tier_up("upper-2", false);
    let running = metrics.fill_begins();
    drop(metrics.fill_begins());
    metrics.fill_ends(FillEnd::Broken);
    metrics.fill_bytes(4096);
    metrics.fill_bytes(-96);
    metrics.collapsed();
    metrics.hit_for_miss();
    metrics.laggards_cut(2);
    metrics.resumed();
    metrics.stale_served("error");
    metrics.direct();
    drop(metrics.direct_begins("shop"));
    metrics.direct_held("shop", "stale");
    drop(metrics.origin_begins("shop"));
    metrics.origin_held("shop", "refused");
    metrics.retry();
    metrics.retry_held("waited");
    metrics.shed();
    metrics.hedge("won");
    metrics.upper_tier_full("upper-1");
    metrics.upper_tier_unreached("upper-1");
    metrics.nearest("shop", "upper-1", false);
    metrics.nearest("shop", "upper-2", true);
    metrics.nearest_changed();
    metrics.purge("purged");
    metrics.store_sizes(u64::MAX, 7, 9);
    metrics.connection_opened();
    metrics.connection_opened();
    metrics.connection_closed();
    metrics.door_refused("unknown_host");
    metrics.config_reloaded("ok");
    metrics.handover("taken");
    metrics.dropped(Dropped::Span, 5);
    metrics.exported("metrics", 7);
    metrics.export_failed();
    metrics.panicked();
    (metrics, running)
}

#[test]
fn everything_told_is_shown_under_its_name() {
    let (metrics, _running) = touched();
    let scrape = scrape(&metrics.render(1_000, 4, 6));
    let expected = [
        (
            r#"headwater_requests_total{outcome="hit",protocol="h1",status_class="2xx"}"#,
            1.0,
        ),
        (
            r#"headwater_requests_total{outcome="refused",protocol="h1",status_class="2xx"}"#,
            1.0,
        ),
        ("headwater_response_bytes_total", 90.0),
        (
            r#"headwater_request_duration_seconds_bucket{outcome="hit",le="0.00025"}"#,
            0.0,
        ),
        (
            r#"headwater_request_duration_seconds_bucket{outcome="hit",le="0.0005"}"#,
            2.0,
        ),
        (
            r#"headwater_request_duration_seconds_bucket{outcome="other",le="+Inf"}"#,
            7.0,
        ),
        (
            r#"headwater_request_duration_seconds_count{outcome="other"}"#,
            7.0,
        ),
        (
            r#"headwater_request_duration_seconds_sum{outcome="hit"}"#,
            0.0006,
        ),
        (
            r#"headwater_tier_control_rejected_total{side="request",reason="expired",peer="edge-1"}"#,
            1.0,
        ),
        (
            r#"headwater_tier_refused_total{reason="missing",peer="upper-1"}"#,
            1.0,
        ),
        ("headwater_tier_control_alert", 1.0),
        (
            r#"headwater_stripped_tier_fields_total{from="visitor"}"#,
            3.0,
        ),
        (
            r#"headwater_stripped_tier_fields_total{from="origin"}"#,
            0.0,
        ),
        (
            r#"headwater_upstream_requests_total{peer="upper-1",kind="upper_tier",result="unverified"}"#,
            1.0,
        ),
        (
            r#"headwater_upstream_connections_total{peer="127.0.0.1:8000",reused="true"}"#,
            1.0,
        ),
        (r#"headwater_upper_tier_up{peer="upper-1"}"#, 1.0),
        (r#"headwater_upper_tier_up{peer="upper-2"}"#, 0.0),
        ("headwater_fills_in_flight", 1.0),
        ("headwater_fill_bytes_in_flight", 4000.0),
        (r#"headwater_fills_total{end="broken"}"#, 1.0),
        (r#"headwater_fills_total{end="stored"}"#, 0.0),
        ("headwater_collapsed_total", 1.0),
        ("headwater_hit_for_miss_total", 1.0),
        ("headwater_laggards_cut_total", 2.0),
        ("headwater_resumed_total", 1.0),
        (r#"headwater_stale_served_total{why="error"}"#, 1.0),
        ("headwater_direct_total", 1.0),
        (r#"headwater_direct_in_flight{site="shop"}"#, 0.0),
        (r#"headwater_origin_in_flight{pool="shop"}"#, 0.0),
        ("headwater_retries_total", 1.0),
        (r#"headwater_retries_held_total{then="waited"}"#, 1.0),
        ("headwater_shed_total", 1.0),
        (r#"headwater_hedges_total{end="won"}"#, 1.0),
        (r#"headwater_upper_tier_full_total{peer="upper-1"}"#, 1.0),
        (r#"headwater_nearest{pool="shop",peer="upper-1"}"#, 0.0),
        (r#"headwater_nearest{pool="shop",peer="upper-2"}"#, 1.0),
        ("headwater_nearest_changes_total", 1.0),
        (
            r#"headwater_upper_tier_unreached_total{peer="upper-1"}"#,
            1.0,
        ),
        (
            r#"headwater_origin_held_total{pool="shop",then="refused"}"#,
            1.0,
        ),
        (
            r#"headwater_direct_held_total{site="shop",then="stale"}"#,
            1.0,
        ),
        (r#"headwater_purges_total{result="purged"}"#, 1.0),
        ("headwater_store_bytes", i64::MAX as f64),
        ("headwater_store_objects", 7.0),
        ("headwater_store_evictions_total", 9.0),
        ("headwater_connections", 1.0),
        ("headwater_connections_total", 2.0),
        ("headwater_requests_in_flight", 4.0),
        (
            r#"headwater_door_refused_total{reason="unknown_host"}"#,
            1.0,
        ),
        (r#"headwater_config_reloads_total{result="ok"}"#, 1.0),
        (r#"headwater_handovers_total{result="taken"}"#, 1.0),
        (r#"headwater_telemetry_dropped_total{what="span"}"#, 5.0),
        (r#"headwater_telemetry_dropped_total{what="line"}"#, 6.0),
        (r#"headwater_telemetry_exported_total{what="metrics"}"#, 7.0),
        ("headwater_telemetry_export_failures_total", 1.0),
        ("headwater_telemetry_panics_total", 1.0),
        (
            concat!(
                "headwater_build_info{version=\"",
                env!("CARGO_PKG_VERSION"),
                "\"}"
            ),
            1.0,
        ),
    ];
    for (series, value) in expected {
        let seen = scrape.of(series);
        assert!((seen - value).abs() < 1e-9, "{series}: {seen}, not {value}");
    }
    for family in &scrape.families {
        let checked = expected
            .iter()
            .any(|(series, _)| series.starts_with(family));
        assert!(checked, "{family} is not in this table");
    }
}

#[test]
fn a_fresh_node_renders_too() {
    let scrape = scrape(&Metrics::new().render(0, 0, 0));
    assert_eq!(scrape.of("headwater_tier_control_alert"), 0.0);
    assert_eq!(
        scrape.of(r#"headwater_telemetry_dropped_total{what="record"}"#),
        0.0
    );
    assert_eq!(
        scrape.of(r#"headwater_request_duration_seconds_count{outcome="hit"}"#),
        0.0
    );
}

#[test]
fn the_alert_is_up_for_a_minute_after_the_last_fault() {
    type Fault = fn(&Metrics);
    let faults: [Fault; 2] = [
        |m| m.tier_control_rejected(Side::Response, "missing", "upper-1"),
        |m| m.tier_refused("expired", "upper-1"),
    ];
    for fault in faults {
        let metrics = Metrics::new();
        metrics.saw(500_000);
        fault(&metrics);
        // A clock set back by a little keeps it up as well.
        for (now_ms, alert) in [
            (500_000, 1.0),
            (559_999, 1.0),
            (560_000, 0.0),
            (499_000, 1.0),
            (0, 0.0),
        ] {
            let text = metrics.render(now_ms, 0, 0);
            assert_eq!(
                scrape(&text).of("headwater_tier_control_alert"),
                alert,
                "{now_ms}"
            );
        }
    }
}

#[test]
fn invented_peers_take_no_label_from_our_own() {
    let metrics = Metrics::new();
    metrics.declare_peers(["edge-1"]);
    for n in 0..1_000 {
        metrics.tier_control_rejected(Side::Request, "unknown_key", &format!("evil-{n}"));
    }
    metrics.tier_control_rejected(Side::Request, "expired", "edge-1");
    metrics.upstream_connection("origin-1", false);
    let scrape = scrape(&metrics.render(0, 0, 0));
    let rejected = scrape
        .samples
        .keys()
        .filter(|s| s.starts_with("headwater_tier_control_rejected_total"));
    // 63 invented ones, `other`, and edge-1, whose name was declared.
    assert_eq!(rejected.count(), PEERS_MAX + 1);
    scrape.of(
        r#"headwater_tier_control_rejected_total{side="request",reason="expired",peer="edge-1"}"#,
    );
    scrape.of(r#"headwater_upstream_connections_total{peer="origin-1",reused="false"}"#);
}

#[test]
fn an_upper_tier_is_up_until_it_is_seen_down() {
    let metrics = Metrics::new();
    metrics.declare_peers(["upper-1"]);
    let up = r#"headwater_upper_tier_up{peer="upper-1"}"#;
    assert_eq!(scrape(&metrics.render(0, 0, 0)).of(up), 1.0);
    metrics.upper_tier_up("upper-1", false);
    assert_eq!(scrape(&metrics.render(0, 0, 0)).of(up), 0.0);
}

#[test]
fn a_hostile_peer_name_stays_inside_its_quotes() {
    let metrics = Metrics::new();
    metrics.tier_control_rejected(Side::Request, "expired", "a\"} 1\nheadwater_evil 1\\");
    let text = metrics.render(0, 0, 0);
    assert!(
        text.contains(r#"peer="a\"} 1\nheadwater_evil 1\\""#),
        "{text}"
    );
    assert!(!text.lines().any(|line| line.starts_with("headwater_evil")));
}

#[test]
fn threads_count_together() {
    let metrics = Metrics::new();
    let done = Done {
        outcome: Outcome::Hit,
        status: 200,
        body_bytes: 1,
        duration_us: 1,
        protocol: Protocol::H2,
        method: Method::Get,
        https: false,
    };
    std::thread::scope(|scope| {
        for _ in 0..16 {
            scope.spawn(|| (0..1_000).for_each(|_| metrics.count(&done)));
        }
    });
    let scrape = scrape(&metrics.render(0, 0, 0));
    assert_eq!(scrape.of("headwater_response_bytes_total"), 16_000.0);
}
