use super::*;
use crate::record::{Protocol, samples};
use crate::worker::PANIC;
use crate::{Level, Method, OtlpProtocol, Outcome, Side};

const PATIENCE: Duration = Duration::from_secs(10);

fn settings() -> Settings {
    Settings {
        node: "edge-1".into(),
        access_log: true,
        queue_records_max: 16,
        ..Settings::default()
    }
}

fn collector(endpoint: &str) -> Otlp {
    Otlp {
        endpoint: endpoint.into(),
        protocol: OtlpProtocol::HttpProtobuf,
        ca_pem: None,
        headers: Vec::new(),
        traces: true,
        logs: false,
        metrics: false,
        metrics_interval_ms: 60_000,
    }
}

fn done(outcome: Outcome, status: u16) -> Done {
    Done {
        outcome,
        status,
        body_bytes: 5,
        duration_us: 1,
        protocol: Protocol::H1,
        method: Method::Get,
        https: false,
    }
}

fn rejected() -> Event {
    Event::ControlRejected {
        side: Side::Request,
        reason: "expired",
        peer: "edge-2".into(),
        detail: String::new(),
        remedy: String::new(),
    }
}

fn shows(observer: &Observer, line: &str) -> bool {
    observer.render().lines().any(|shown| shown == line)
}

#[test]
fn which_requests_are_told_in_full() {
    let none = Settings {
        access_log: false,
        ..settings()
    };
    let all_hits = Settings {
        hit_log_ratio: 1.0,
        ..settings()
    };
    // Nobody listens there; what matters is that there is a collector to tell.
    let traced = Settings {
        otlp: Some(collector("http://127.0.0.1:9")),
        ..none.clone()
    };
    for (settings, outcome, status, sampled, wanted) in [
        (settings(), Outcome::Miss, 200, false, true),
        (settings(), Outcome::Revalidated, 200, false, true),
        (settings(), Outcome::Refused, 421, false, true),
        (settings(), Outcome::Hit, 200, false, false),
        (settings(), Outcome::StaleHit, 200, false, false),
        (settings(), Outcome::Hit, 404, false, false),
        (settings(), Outcome::Hit, 500, false, true),
        // Sampled, but there is no collector.
        (settings(), Outcome::Hit, 200, true, false),
        (all_hits, Outcome::Hit, 200, false, true),
        (none.clone(), Outcome::Error, 502, false, false),
        (none, Outcome::Error, 502, true, false),
        (traced.clone(), Outcome::Hit, 200, true, true),
        (traced.clone(), Outcome::Miss, 200, false, false),
        // Not sampled, but worth keeping.
        (traced.clone(), Outcome::Miss, 499, false, false),
        (traced, Outcome::Miss, 500, false, true),
    ] {
        let (observer, _worker) = Observer::prepare(settings.clone());
        assert_eq!(
            observer.wants(&done(outcome, status), sampled, false),
            wanted,
            "{} {status} sampled: {sampled}, {settings:?}",
            outcome.as_str()
        );
    }
}

#[test]
fn what_failed_or_was_slow_is_kept_though_not_sampled() {
    let (observer, _worker) = Observer::prepare(Settings {
        access_log: false,
        otlp: Some(collector("http://127.0.0.1:9")),
        slow_ms: 200,
        ..settings()
    });
    for (duration_us, has_failed_attempt, wanted) in [
        (199_999, false, false),
        (200_000, false, true),
        (1, true, true),
    ] {
        let done = Done {
            duration_us,
            ..done(Outcome::Hit, 200)
        };
        let wants = observer.wants(&done, false, has_failed_attempt);
        assert_eq!(wants, wanted, "{duration_us} {has_failed_attempt}");
    }
}

#[test]
fn what_finds_no_room_is_not_even_built_and_counted() {
    let (observer, _worker) = Observer::prepare(settings());
    let miss = done(Outcome::Miss, 200);
    for _ in 0..16 {
        assert!(observer.wants(&miss, false, false));
        observer.record(samples::miss());
    }
    assert!(!observer.wants(&miss, false, false));
    assert!(shows(
        &observer,
        r#"headwater_telemetry_dropped_total{what="record"} 1"#
    ));
    // A hit that nobody wanted to tell of is no loss.
    assert!(!observer.wants(&done(Outcome::Hit, 200), false, false));
    assert!(shows(
        &observer,
        r#"headwater_telemetry_dropped_total{what="record"} 1"#
    ));
}

#[test]
fn head_sampling_goes_by_the_ratio() {
    for (trace_ratio, random, sampled) in [
        (0.0, 0, false),
        (1.0, u64::MAX, true),
        (0.5, 1, true),
        (0.5, u64::MAX, false),
    ] {
        let (observer, _worker) = Observer::prepare(Settings {
            trace_ratio,
            ..settings()
        });
        assert_eq!(observer.head_sample(random), sampled);
    }
}

#[test]
fn a_full_queue_drops_and_counts_and_never_waits() {
    let (observer, worker) = Observer::prepare(settings());
    for _ in 0..20 {
        observer.record(samples::miss());
    }
    assert!(shows(
        &observer,
        r#"headwater_telemetry_dropped_total{what="record"} 4"#
    ));
    // The counters do not care.
    observer.count(&done(Outcome::Hit, 200));
    assert!(shows(&observer, "headwater_response_bytes_total 5"));
    assert_eq!(worker.records.len(), 16);
}

#[test]
fn an_event_is_counted_before_anything_can_lose_its_line() {
    let (observer, worker) = Observer::prepare(settings());
    for _ in 0..1_000 {
        observer.event(rejected(), 7_000);
    }
    assert!(shows(
        &observer,
        r#"headwater_tier_control_rejected_total{side="request",reason="expired",peer="edge-2"} 1000"#
    ));
    assert!(shows(&observer, "headwater_tier_control_alert 1"));
    assert_eq!(
        worker.events.len(),
        crate::limit::EVENTS_PER_SECOND_MAX as usize
    );
    observer.event(rejected(), 8_000);
    assert_eq!(worker.events.try_iter().last().unwrap().suppressed, 995);
    // Suppressed is not dropped.
    assert!(shows(
        &observer,
        r#"headwater_telemetry_dropped_total{what="event"} 0"#
    ));
}

#[test]
fn a_full_event_queue_drops_and_counts() {
    let (observer, _worker) = Observer::prepare(settings());
    for second in 0..=EVENTS_QUEUED_MAX as u64 {
        observer.event(
            Event::Note {
                level: Level::Info,
                message: "x".into(),
            },
            second * 1000,
        );
    }
    assert!(shows(
        &observer,
        r#"headwater_telemetry_dropped_total{what="event"} 1"#
    ));
}

#[test]
fn other_events_move_their_metrics_too() {
    let (observer, _worker) = Observer::prepare(settings());
    observer.event(
        Event::UpperTierUp {
            peer: "upper-1".into(),
        },
        1,
    );
    observer.event(
        Event::UpperTierDown {
            peer: "upper-2".into(),
            why: "refused".into(),
        },
        1,
    );
    observer.event(
        Event::TierRefused {
            reason: "missing",
            peer: "upper-1".into(),
        },
        1,
    );
    observer.event(
        Event::Reloaded {
            what: "sites.toml".into(),
        },
        1,
    );
    observer.event(
        Event::ReloadFailed {
            why: "line 3".into(),
        },
        1,
    );
    for line in [
        r#"headwater_upper_tier_up{peer="upper-1"} 1"#,
        r#"headwater_upper_tier_up{peer="upper-2"} 0"#,
        r#"headwater_tier_refused_total{reason="missing",peer="upper-1"} 1"#,
        r#"headwater_config_reloads_total{result="ok"} 1"#,
        r#"headwater_config_reloads_total{result="failed"} 1"#,
    ] {
        assert!(shows(&observer, line), "{line}");
    }
}

#[test]
fn a_panic_is_counted_and_the_thread_goes_on() {
    let observer = Observer::start(settings());
    let mut bad = samples::miss();
    bad.detail = PANIC.into();
    observer.record(bad.clone());
    observer.record(bad);
    assert!(observer.shutdown(PATIENCE), "the thread is gone");
    assert!(shows(&observer, "headwater_telemetry_panics_total 2"));
    // The next record is taken: it is what tells the observer the time.
    let later = Record {
        started_ms: 1_800_000_000_000,
        ..samples::miss()
    };
    observer.record(later);
    assert!(observer.shutdown(PATIENCE));
    assert!(observer.inner.metrics.latest_ms() >= 1_800_000_000_000);
}

#[test]
fn without_a_thread_all_is_dropped_and_counted() {
    let (observer, worker) = Observer::prepare(settings());
    drop(worker);
    observer.record(samples::miss());
    observer.event(rejected(), 0);
    assert!(shows(
        &observer,
        r#"headwater_telemetry_dropped_total{what="record"} 1"#
    ));
    assert!(shows(
        &observer,
        r#"headwater_telemetry_dropped_total{what="event"} 1"#
    ));
    assert!(!observer.shutdown(Duration::from_millis(1)));
}

#[test]
fn the_thread_does_what_is_left_and_ends_with_the_last_handle() {
    let (observer, worker) = Observer::prepare(settings());
    let metrics = Arc::clone(&observer.inner.metrics);
    let clone = observer.clone();
    observer.record(samples::miss());
    drop(observer);
    drop(clone);
    // Returns, or the test hangs.
    worker.run();
    assert!(metrics.latest_ms() >= samples::miss().started_ms);
}

#[test]
fn in_flight_is_counted_in_the_metrics() {
    let (observer, _worker) = Observer::prepare(settings());
    let guard = observer.enter(InFlight {
        started_ms: 1_000,
        method: "GET".into(),
        host: "a.example".into(),
        path: "/slow".into(),
        phase: "fill",
        client: "192.0.2.7".into(),
    });
    assert!(shows(&observer, "headwater_requests_in_flight 1"));
    assert_eq!(observer.in_flight(3_000)[0].age_ms, 2_000);
    drop(guard);
    assert!(shows(&observer, "headwater_requests_in_flight 0"));
}

#[test]
fn an_observer_that_is_to_panic_does_so_at_everything_it_takes() {
    let observer = Observer::start(Settings {
        fault: Some(Fault::PanicOnEveryRecord),
        ..settings()
    });
    observer.record(samples::miss());
    observer.event(rejected(), 0);
    assert!(observer.shutdown(PATIENCE), "the thread is gone");
    assert!(shows(&observer, "headwater_telemetry_panics_total 2"));
}

#[test]
fn an_observer_that_is_to_stall_takes_nothing_and_ends_with_its_last_handle() {
    let (observer, worker) = Observer::prepare(Settings {
        fault: Some(Fault::Stall),
        queue_records_max: 2,
        ..settings()
    });
    let thread = thread::spawn(move || worker.run());
    for _ in 0..5 {
        observer.record(samples::miss());
    }
    assert!(shows(
        &observer,
        r#"headwater_telemetry_dropped_total{what="record"} 3"#
    ));
    assert!(!observer.shutdown(Duration::from_millis(1)));
    drop(observer);
    thread.join().expect("the thread ends like any other");
}
