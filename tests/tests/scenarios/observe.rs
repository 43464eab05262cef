//! What operators see of a request: its trace across the tiers.

use std::collections::HashSet;

use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use tests::{Gate, Hop, Origin, Reply, Response, Topology, Tracing, ask, get};

use crate::exports::{hex, one, spans, spans_of};

#[tokio::test(flavor = "multi_thread")]
async fn one_request_is_one_trace_from_the_visitor_to_the_origin() {
    // A miss is fetched by a fill, a form passes through pingora's proxy.
    for (asked, outcome) in [
        (get("/a?b=c").with("User-Agent", "scripted"), "miss"),
        (ask("POST", "/a?b=c").body("words"), "pass"),
    ] {
        let origin = Origin::start().await;
        origin.always("/a", Reply::fresh("content"));
        let topology = Topology::new(&origin).start().await;
        assert_eq!(topology.edge(1).ask(&asked).await.status, 200);
        let seen = spans_of(&topology, [("edge-1", 1), ("upper-1", 1)]).await;

        let at_edge = one(&seen, "edge-1", SpanKind::Server);
        let to_upper = one(&seen, "edge-1", SpanKind::Client);
        let at_upper = one(&seen, "upper-1", SpanKind::Server);
        let to_origin = one(&seen, "upper-1", SpanKind::Client);
        let trace = &at_edge.span.trace_id;
        assert!(seen.iter().all(|one| one.span.trace_id == *trace));

        assert!(at_edge.span.parent_span_id.is_empty(), "{outcome}");
        for (child, parent) in [
            (&to_upper, &at_edge),
            (&at_upper, &to_upper),
            (&to_origin, &at_upper),
        ] {
            assert_eq!(child.span.parent_span_id, parent.span.span_id, "{outcome}");
        }
        // The id the origin was told is that of the span that tells of it.
        let told = origin.requests("/a")[0].says("traceparent");
        let fetch = format!("00-{}-{}-01", hex(trace), hex(&to_origin.span.span_id));
        assert_eq!(told, fetch, "{outcome}");

        // Phases lie within their request, and so do the requests to others.
        for one in &seen {
            let server = if one.node == "edge-1" {
                &at_edge
            } else {
                &at_upper
            };
            assert!(server.contains(one), "{outcome}: {one:?} in {server:?}");
            if one.is(SpanKind::Internal) {
                assert_eq!(one.span.parent_span_id, server.span.span_id);
            }
        }
        let ids: HashSet<_> = seen.iter().map(|one| &one.span.span_id).collect();
        assert_eq!(ids.len(), seen.len(), "every span has an id of its own");

        for server in [&at_edge, &at_upper] {
            assert_eq!(server.says("headwater.outcome"), outcome);
            assert_eq!(server.says("headwater.site"), "shop");
            assert_eq!(server.says("url.path"), "/a");
            assert_eq!(server.says("url.query"), "b=c");
            assert_eq!(server.says("http.response.status_code"), "200");
        }
        assert_eq!(at_upper.says("headwater.hop_from"), "edge-1");
        assert_eq!(to_upper.says("headwater.upstream_kind"), "upper_tier");
        assert_eq!(to_origin.says("headwater.upstream_kind"), "origin");
        let port = origin.address().port().to_string();
        assert_eq!(to_origin.says("server.port"), port);
        topology.finish().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hit_asks_nobody_and_its_trace_says_so() {
    let origin = Origin::start().await;
    origin.always("/a", Reply::fresh("content"));
    let topology = Topology::new(&origin).start().await;
    topology.edge(1).get("/a").await;
    topology.edge(1).get("/a").await;
    let seen = spans_of(&topology, [("edge-1", 2), ("upper-1", 1)]).await;
    let hit = seen
        .iter()
        .find(|one| one.says("headwater.outcome") == "hit");
    let trace = &hit.unwrap().span.trace_id;
    let all: Vec<_> = seen
        .iter()
        .filter(|one| one.span.trace_id == *trace)
        .collect();
    assert!(all.iter().all(|one| one.node == "edge-1"));
    assert!(all.iter().all(|one| !one.is(SpanKind::Client)), "{all:?}");
    topology.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_waits_for_another_ones_fill_says_so() {
    let origin = Origin::start().await;
    let gate = Gate::new();
    origin.always("/a", Reply::fresh("content").held_at(&gate));
    let topology = Topology::new(&origin).start().await;
    let edge = topology.edge(1);
    let (mut first, mut second) = (edge.client().await, edge.client().await);
    first.send(get("/a").bytes()).await;
    gate.arrivals(1).await;
    second.send(get("/a").bytes()).await;
    edge.wait_for_metric("requests_in_flight", &[], 2).await;
    gate.open();
    assert_eq!(first.response().await.text(), "content");
    assert_eq!(second.response().await.text(), "content");
    let seen = spans_of(&topology, [("edge-1", 2), ("upper-1", 1)]).await;
    let outcome = |name: &str| {
        let found = seen
            .iter()
            .find(|one| one.node == "edge-1" && one.says("headwater.outcome") == name);
        found
            .unwrap_or_else(|| panic!("{name} in {seen:?}"))
            .clone()
    };
    let (miss, collapsed) = (outcome("miss"), outcome("collapsed"));
    assert_ne!(miss.span.trace_id, collapsed.span.trace_id);
    let fetch = one(&seen, "edge-1", SpanKind::Client);
    assert_eq!(fetch.span.parent_span_id, miss.span.span_id);
    assert_eq!(edge.metrics().await.sum("collapsed_total", &[]), 1);
    topology.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_way_that_was_tried_is_in_the_trace() {
    let origin = Origin::start().await;
    origin.always("/a", Reply::fresh("content"));
    let topology = Topology::new(&origin)
        .hop(Hop::Bytes)
        .site("fallback = [\"direct\"]")
        .start()
        .await;
    topology.relay(1).cut().await;
    let answer = topology.edge(1).get("/a").await;
    assert_eq!((answer.status, answer.text().as_str()), (200, "content"));
    let seen = spans_of(&topology, [("edge-1", 1)]).await;
    let server = one(&seen, "edge-1", SpanKind::Server);
    let ways: Vec<_> = seen.iter().filter(|one| one.is(SpanKind::Client)).collect();
    let tried: Vec<_> = ways
        .iter()
        .map(|way| (way.says("headwater.upstream_kind"), way.says("error.type")))
        .collect();
    let (failed, took) = (&tried[0], &tried[1]);
    assert_eq!(
        (failed.0.as_str(), failed.1.is_empty()),
        ("upper_tier", false)
    );
    assert_eq!((took.0.as_str(), took.1.as_str()), ("origin", ""));
    assert_eq!(tried.len(), 2);
    for way in ways {
        assert_eq!(way.span.parent_span_id, server.span.span_id);
    }
    topology.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refresh_behind_a_visitors_back_hangs_together() {
    let origin = Origin::start().await;
    let stale = Reply::stale("old", ", stale-while-revalidate=600");
    origin.in_turn("/a", [stale, Reply::fresh("new")]);
    let topology = Topology::new(&origin).start().await;
    topology.edge(1).get("/a").await;
    assert_eq!(topology.edge(1).get("/a").await.text(), "old");
    origin.wait_for_requests("/a", 2).await;
    let seen = tests::until(
        "both fetches have come, and whoever began them",
        async || {
            let seen = spans(&topology);
            let fetched = seen
                .iter()
                .filter(|one| one.says("headwater.hop_from") == "edge-1");
            let ids: HashSet<_> = seen.iter().map(|one| &one.span.span_id).collect();
            let hangs_together = seen.iter().all(|one| {
                let parent = &one.span.parent_span_id;
                parent.is_empty() || ids.contains(parent)
            });
            (fetched.count() == 2 && hangs_together).then_some(seen.clone())
        },
    )
    .await;
    let named = |key: &str, value: &str| {
        let found = seen.iter().find(|one| one.says(key) == value);
        found
            .unwrap_or_else(|| panic!("{value} in {seen:?}"))
            .clone()
    };
    // The visitor's own span ended with its answer; the refresh has one below it.
    let visit = named("headwater.outcome", "stale_hit");
    let refresh = named("headwater.detail", "refresh");
    assert!(visit.is(SpanKind::Server) && refresh.is(SpanKind::Internal));
    assert_eq!(refresh.span.parent_span_id, visit.span.span_id);
    topology.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_visitors_trace_goes_on_only_where_the_site_trusts_it() {
    let parent = "00-0123456789abcdef0123456789abcdef-0123456789abcdef-01";
    for (site, goes_on) in [("trust_traceparent = true", true), ("", false)] {
        let origin = Origin::start().await;
        origin.always("/a", Reply::fresh("content"));
        let topology = Topology::new(&origin).site(site).start().await;
        let asked = get("/a").with("traceparent", parent);
        topology.edge(1).ask(&asked).await;
        let seen = spans_of(&topology, [("edge-1", 1), ("upper-1", 1)]).await;
        let server = one(&seen, "edge-1", SpanKind::Server);
        let trace = hex(&server.span.trace_id);
        assert_eq!(trace == "0123456789abcdef0123456789abcdef", goes_on);
        let above = hex(&server.span.parent_span_id);
        assert_eq!(above == "0123456789abcdef", goes_on, "{above}");
        let told = origin.requests("/a")[0].says("traceparent");
        assert!(told.contains(&trace), "{told}");
        assert!(!told.contains("-0123456789abcdef-"), "{told}");
        topology.finish().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_edge_decides_for_both_tiers_whether_a_request_is_traced() {
    const REQUESTS: usize = 40;
    for ratio in [0.0, 0.5] {
        let origin = Origin::start().await;
        origin.always("/a", Reply::fresh("content"));
        let mut topology = Topology::new(&origin)
            .tracing(Tracing::Sampled(ratio))
            .start()
            .await;
        for number in 0..REQUESTS {
            topology.edge(1).get(&format!("/a?{number}")).await;
        }
        // Told with or without being traced.
        let mut traced = HashSet::new();
        for asked in origin.requests("/a") {
            let told = asked.says("traceparent");
            let [_, trace, _, flags] = told.split('-').collect::<Vec<_>>()[..] else {
                panic!("no traceparent: {told:?}");
            };
            if flags == "01" {
                traced.insert(trace.to_owned());
            } else {
                assert_eq!(flags, "00");
            }
        }
        assert!(traced.len() < REQUESTS, "not all of them at {ratio}");
        assert_eq!(traced.is_empty(), ratio == 0.0, "{ratio}");

        // A drain exports what is left.
        topology.take_edge(1).into_running().drain().await;
        let least = traced.len();
        let seen = spans_of(&topology, [("edge-1", least), ("upper-1", least)]).await;
        for node in ["edge-1", "upper-1"] {
            let own = seen.iter().filter(|one| one.node == node);
            let own: HashSet<_> = own.map(|one| hex(&one.span.trace_id)).collect();
            assert_eq!(own, traced, "{node} at {ratio}");
        }
        topology.finish().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_collector_changes_an_answer() {
    let origin = Origin::start().await;
    let mut told = Vec::new();
    for (name, tracing, reply) in [
        ("none", Tracing::Off, None),
        ("one that works", Tracing::On, None),
        ("one that is not there", Tracing::Absent, None),
        ("one that hangs", Tracing::Hanging, None),
        ("one that refuses", Tracing::On, Some(Reply::new(503))),
        ("one that hangs up", Tracing::On, Some(Reply::hang_up())),
        (
            "nonsense",
            Tracing::On,
            Some(Reply::raw("what is this\r\n\r\n")),
        ),
    ] {
        let topology = Topology::new(&origin)
            .edges(2)
            .tracing(tracing)
            .start()
            .await;
        let is_sound = reply.is_none() && matches!(tracing, Tracing::On | Tracing::Off);
        if let Some(reply) = reply {
            topology.collector().always("/v1/traces", reply);
        }
        told.push((name, a_day(&topology, &origin).await));
        if !is_sound {
            let edge = topology.edge(1);
            edge.wait_for_metric("telemetry_export_failures_total", &[], 1)
                .await;
            let dropped = [("what", "span")];
            edge.wait_for_metric("telemetry_dropped_total", &dropped, 1)
                .await;
        }
        topology.finish().await;
    }
    let (_, plain) = &told[0];
    for (name, answers) in &told[1..] {
        assert_eq!(answers, plain, "{name}");
    }
}

/// A miss, hits, a form, an error and a turned-away visitor, and what came of them.
async fn a_day(topology: &Topology, origin: &Origin) -> Vec<(u16, Vec<(String, String)>, String)> {
    let fixed = |reply: Reply| reply.set("Date", "Tue, 01 Oct 2024 10:00:00 GMT");
    origin.always("/a", fixed(Reply::fresh("content")));
    origin.always("/form", fixed(Reply::new(201).body("made")));
    origin.always("/gone", Reply::hang_up());
    let mut answers = Vec::new();
    for (edge, asked) in [
        (1, get("/a")),
        (1, get("/a")),
        (2, get("/a")),
        (1, ask("HEAD", "/a")),
        (1, ask("POST", "/form").body("words")),
        (1, get("/gone")),
        (1, get("/a").host("other.example")),
    ] {
        let answer = topology.edge(edge).ask(&asked).await;
        answers.push(without_time(answer));
    }
    answers
}

/// What is the same at any time: `Age` and a lifetime left are not.
fn without_time(answer: Response) -> (u16, Vec<(String, String)>, String) {
    let text = answer.text();
    let mut fields = answer.fields;
    fields.retain(|(name, _)| !["date", "age"].contains(&name.to_ascii_lowercase().as_str()));
    for (name, value) in &mut fields {
        if name.eq_ignore_ascii_case("cache-status") {
            let members = value.split(", ").map(|member| {
                let parts = member.split("; ");
                let lasting = parts.filter(|part| !part.starts_with("ttl="));
                lasting.collect::<Vec<_>>().join("; ")
            });
            *value = members.collect::<Vec<_>>().join(", ");
        }
    }
    (answer.status, fields, text)
}
