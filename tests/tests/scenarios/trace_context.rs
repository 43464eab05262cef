//! W3C Trace Context on the wire: from the visitor through both tiers to the origin.

use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use tests::{Ask, Gate, Hop, Origin, Reply, Topology, Tracing, ask, field, get};

use crate::exports::{hex, one, servers_among, spans, spans_of};

const TRACE: &str = "0123456789abcdef0123456789abcdef";
const PARENT: &str = "00-0123456789abcdef0123456789abcdef-0123456789abcdef-01";

/// A topology whose site trusts what visitors say of traces.
async fn trusting(origin: &Origin) -> Topology {
    let topology = Topology::new(origin).hop(Hop::Messages);
    topology.site("trust_traceparent = true").start().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trace_state_travels_with_its_trace_to_the_origin_and_the_collector() {
    let fill = get("/a").with("traceparent", PARENT);
    let pass = ask("POST", "/a").body("x").with("traceparent", PARENT);
    let (one_line, joined) = ("v@endor=t61, other=00f0", "v@endor=t61,other=00f0");
    let two_lines = fill.clone().with("tracestate", "v@endor=t61");
    tokio::join!(
        a_state_travels(fill.with("tracestate", one_line), one_line),
        a_state_travels(two_lines.with("tracestate", "other=00f0"), joined),
        a_state_travels(pass.with("tracestate", one_line), one_line)
    );
}

async fn a_state_travels(asked: Ask, state: &str) {
    let origin = Origin::start().await;
    origin.always("/a", Reply::fresh("content"));
    let topology = trusting(&origin).await;
    assert_eq!(topology.edge(1).ask(&asked).await.status, 200);

    let seen = spans_of(&topology, [("edge-1", 1), ("upper-1", 1)]).await;
    for one in &seen {
        assert_eq!(hex(&one.span.trace_id), TRACE);
        assert_eq!(one.span.trace_state, state, "{one:?}");
    }
    // Each hop is told the span that asks it, and the state as it was.
    let between = topology.relay(1).exchanges()[0].request.fields.clone();
    let fetched = origin.requests("/a")[0].fields.clone();
    for (node, fields) in [("edge-1", between), ("upper-1", fetched)] {
        let span = one(&seen, node, SpanKind::Client).span;
        let parent = format!("00-{TRACE}-{}-01", hex(&span.span_id));
        assert_eq!(field(&fields, "traceparent"), Some(parent), "{node}");
        assert_eq!(
            field(&fields, "tracestate").as_deref(),
            Some(state),
            "{node}"
        );
    }
    topology.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trace_state_of_nobody_trusted_goes_nowhere() {
    let origin = Origin::start().await;
    origin.always("/a", Reply::fresh("content"));
    let topology = Topology::new(&origin).hop(Hop::Messages).start().await;
    for asked in [get("/a"), ask("POST", "/a").body("x")] {
        let asked = asked.with("traceparent", PARENT).with("tracestate", "a=b");
        topology.edge(1).ask(&asked).await;
    }
    let seen = spans_of(&topology, [("edge-1", 2), ("upper-1", 2)]).await;
    for one in &seen {
        assert_ne!(hex(&one.span.trace_id), TRACE);
        assert_eq!(one.span.trace_state, "", "{one:?}");
    }
    for exchange in topology.relay(1).exchanges() {
        assert_eq!(exchange.request.field("tracestate"), None);
    }
    for fetched in origin.requests("/a") {
        assert_eq!(fetched.field("tracestate"), None);
    }
    topology.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_traceparent_that_means_nothing_starts_a_new_trace() {
    let no_trace = PARENT.replace(TRACE, &"0".repeat(32));
    let no_span = PARENT.replace("-0123456789abcdef-", "-0000000000000000-");
    let origin = Origin::start().await;
    origin.on_others(|_| Reply::fresh("content"));
    let topology = trusting(&origin).await;
    let parents = |number: usize, parents: &[&str]| {
        let asked = get(&format!("/{number}")).with("tracestate", "a=b");
        let add = |asked: Ask, parent: &&str| asked.with("traceparent", parent);
        parents.iter().fold(asked, add)
    };
    for (number, (told, goes_on)) in [
        (vec![PARENT], true),
        (vec![], false),
        (vec![PARENT, PARENT], false),
        (vec![&PARENT[..54]], false),
        (vec![&PARENT.to_uppercase()], false),
        (vec![&no_trace], false),
        (vec![&no_span], false),
        (vec![&PARENT.replacen("00", "ff", 1)], false),
        // Version 00 ends with its flags; a later one may say more.
        (vec![&format!("{PARENT}-more")], false),
        (vec![&PARENT.replacen("00", "01", 1)], true),
        (
            vec![&format!("{}-more", PARENT.replacen("00", "01", 1))],
            true,
        ),
        (
            vec![&format!("{}more", PARENT.replacen("00", "01", 1))],
            false,
        ),
    ]
    .into_iter()
    .enumerate()
    {
        let asked = parents(number, &told);
        assert_eq!(topology.edge(1).ask(&asked).await.status, 200);
        let fetched = origin.requests(&format!("/{number}"))[0].clone();
        let parent = fetched.says("traceparent");
        let parts: Vec<_> = parent.split('-').collect();
        // We speak version 00, whatever we were told.
        assert_eq!((parts.len(), parts[0]), (4, "00"), "{told:?}: {parent}");
        assert_eq!(parts[1] == TRACE, goes_on, "{told:?}: {parent}");
        assert_ne!(parts[1], "0".repeat(32), "{told:?}");
        assert_ne!(parts[2], "0".repeat(16), "{told:?}");
        let state = fetched.field("tracestate");
        assert_eq!(state.as_deref(), goes_on.then_some("a=b"), "{told:?}");
    }
    topology.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_failed_or_was_slow_is_told_though_nothing_is_sampled() {
    const SLOW_MS: u64 = 1000;
    let origin = Origin::start().await;
    let gate = Gate::new();
    origin.always("/plain", Reply::fresh("content"));
    origin.always("/gone", Reply::hang_up());
    origin.always("/slow", Reply::fresh("content").held_at(&gate));
    let topology = Topology::new(&origin)
        .tracing(Tracing::Sampled(0.0))
        .telemetry(&format!("slow_ms = {SLOW_MS}"))
        .hop(Hop::Messages)
        .start()
        .await;
    let edge = topology.edge(1);
    assert_eq!(edge.get("/plain").await.status, 200);
    assert_eq!(edge.get("/gone").await.status, 502);
    let mut patient = edge.client().await;
    patient.send(get("/slow").bytes()).await;
    gate.arrivals(1).await;
    for node in [edge, topology.upper(1)] {
        tests::until("it has taken long enough", async || {
            let rows = node.admin(&get("/requests")).await.text();
            let rows: Vec<serde_json::Value> = serde_json::from_str(&rows).unwrap();
            let age_ms = rows.first()?["age_ms"].as_u64()?;
            (age_ms > SLOW_MS).then_some(())
        })
        .await;
    }
    gate.open();
    assert_eq!(patient.response().await.text(), "content");

    let servers = [("edge-1", 2), ("upper-1", 2)];
    let seen = servers_among(servers, || spans(&topology)).await;
    // In the order of the requests: what was ordinary would have come first.
    assert!(seen.iter().all(|one| one.says("url.path") != "/plain"));
    for (path, kept) in [("/gone", "error"), ("/slow", "slow")] {
        let of = |node: &str| {
            let mut own = seen.iter().filter(|one| one.node == node);
            let found = own.find(|one| one.says("url.path") == path);
            found.unwrap_or_else(|| panic!("{path} at {node}")).clone()
        };
        let (at_edge, at_upper) = (of("edge-1"), of("upper-1"));
        assert_eq!(at_edge.says("headwater.kept"), kept);
        assert_eq!(at_upper.says("headwater.kept"), kept);
        // Nobody is above the edge; above the upper tier the edge may have kept nothing.
        assert_eq!(at_edge.says("headwater.incomplete"), "");
        assert_eq!(at_upper.says("headwater.incomplete"), "edge");
        assert_eq!(at_edge.span.trace_id, at_upper.span.trace_id);
        let below = |server: &crate::exports::Seen| {
            let mut asked = seen.iter().filter(|one| one.is(SpanKind::Client));
            let found = asked.find(|one| one.span.parent_span_id == server.span.span_id);
            found.unwrap_or_else(|| panic!("below {server:?}")).clone()
        };
        let (to_upper, to_origin) = (below(&at_edge), below(&at_upper));
        assert_eq!(to_upper.says("headwater.incomplete"), "upper_tier");
        assert_eq!(to_origin.says("headwater.incomplete"), "");
        assert_eq!(at_upper.span.parent_span_id, to_upper.span.span_id);
    }
    for one in &seen {
        assert_eq!(one.span.flags & 1, 0, "not sampled: {one:?}");
    }
    // Whether something is kept is known only when it is over: the wire says no.
    let between = topology.relay(1).exchanges();
    let between = between.iter().map(|one| one.request.field("traceparent"));
    let fetched = origin.all_requests();
    let fetched = fetched.iter().map(|one| one.field("traceparent"));
    for told in between.chain(fetched) {
        assert!(told.as_ref().unwrap().ends_with("-00"), "{told:?}");
    }
    topology.finish().await;
}
