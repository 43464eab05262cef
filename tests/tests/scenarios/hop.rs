//! Between the tiers: an upper tier that dies, and a hop that loses or alters what
//! tiers tell each other. On the day that this project began with, the second
//! looked like a fault of DNS, and visitors paid for it.

use tests::{Hop, Message, Origin, Relay, Reply, TestNode, Topology, ask, get, set_field};

/// What a hop does to messages, and how both sides must call it.
struct Fault {
    what: &'static str,
    breaks: fn(&Relay),
    /// `request`: the upper tier refuses; `response`: the edge does not believe.
    side: &'static str,
    reason: &'static str,
}

fn on_request(relay: &Relay, alter: impl FnMut(&mut Message) + Send + 'static) {
    relay.on_request(alter);
}

fn response(relay: &Relay, mut alter: impl FnMut(&mut Message) + Send + 'static) {
    relay.on_response(move |_, response| alter(response));
}

fn set(message: &mut Message, name: &str, value: Option<&str>) {
    set_field(&mut message.fields, name, value);
}

fn change(message: &mut Message, name: &str, from: &str, to: &str) {
    let value = message.field(name).unwrap_or_default();
    set(message, name, Some(&value.replacen(from, to, 1)));
}

fn faults() -> Vec<Fault> {
    let fault = |what, side, reason, breaks: fn(&Relay)| Fault {
        what,
        breaks,
        side,
        reason,
    };
    vec![
        fault("Tier-Control is cleared", "request", "missing", |relay| {
            on_request(relay, |request| set(request, "tier-control", None));
        }),
        fault(
            "every control header is cleared",
            "request",
            "missing",
            |relay| {
                on_request(relay, |request| {
                    for name in ["tier-control", "signature", "signature-input"] {
                        set(request, name, None);
                    }
                });
            },
        ),
        fault("Tier-Control is garbled", "request", "malformed", |relay| {
            on_request(relay, |request| set(request, "tier-control", Some("]v=1")));
        }),
        fault(
            "another site is named",
            "request",
            "bad_signature",
            |relay| {
                on_request(relay, |request| {
                    change(request, "tier-control", "site=\"shop\"", "site=\"shoq\"");
                });
            },
        ),
        fault("a Cookie is added", "request", "mismatch", |relay| {
            on_request(relay, |request| set(request, "cookie", Some("a=b")));
        }),
        fault("Tier-Result is cleared", "response", "missing", |relay| {
            response(relay, |response| set(response, "tier-result", None));
        }),
        fault("the signature is cleared", "response", "missing", |relay| {
            response(relay, |response| set(response, "signature", None));
        }),
        fault("Tier-Result is garbled", "response", "malformed", |relay| {
            response(relay, |response| set(response, "tier-result", Some("]")));
        }),
        fault(
            "Tier-Result is altered",
            "response",
            "bad_signature",
            |relay| {
                response(relay, |response| {
                    change(response, "tier-result", "outcome=miss", "outcome=hit");
                });
            },
        ),
        fault(
            "private becomes public",
            "response",
            "bad_signature",
            |relay| {
                response(relay, |response| {
                    set(response, "cache-control", Some("public, max-age=99999"));
                });
            },
        ),
        fault(
            "the status is altered",
            "response",
            "bad_signature",
            |relay| {
                response(relay, |response| {
                    response.start = "HTTP/1.1 410 Gone".to_owned();
                });
            },
        ),
        fault("a Set-Cookie is added", "response", "mismatch", |relay| {
            response(relay, |response| set(response, "set-cookie", Some("a=b")));
        }),
        fault(
            "an error page of the hop's own",
            "response",
            "missing",
            |relay| {
                response(relay, |response| {
                    response.start = "HTTP/1.1 503 Service Unavailable".to_owned();
                    response.fields = vec![("Content-Length".to_owned(), "4".to_owned())];
                    response.body = "hop!".into();
                });
            },
        ),
    ]
}

/// Both sides name the fault: who found it, and who was refused.
async fn named_by_both(fault: &Fault, edge: &TestNode, upper: &TestNode) {
    let rejected = [("side", fault.side), ("reason", fault.reason)];
    let what = fault.what;
    if fault.side == "request" {
        let upper = upper.metrics().await;
        assert!(
            upper.sum("tier_control_rejected_total", &rejected) >= 1,
            "{what}"
        );
        let edge = edge.metrics().await;
        let refused = [("reason", fault.reason), ("peer", "upper-1")];
        assert!(edge.sum("tier_refused_total", &refused) >= 1, "{what}");
        assert_eq!(edge.sum("tier_control_alert", &[]), 1, "{what}");
    } else {
        let edge = edge.metrics().await;
        let rejected = [rejected[0], rejected[1], ("peer", "upper-1")];
        assert!(
            edge.sum("tier_control_rejected_total", &rejected) >= 1,
            "{what}"
        );
        assert_eq!(edge.sum("tier_control_alert", &[]), 1, "{what}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hop_that_loses_or_alters_control_fields_costs_no_visitor_anything() {
    for fault in faults() {
        let origin = Origin::start().await;
        let private = Reply::ok("content").with("Cache-Control", "private");
        origin.always("/a", private);
        let mut topology = Topology::new(&origin)
            .hop(Hop::Messages)
            .site("fallback = [\"direct\"]")
            .start()
            .await;
        topology.expects_rejections();
        (fault.breaks)(topology.relay(1));

        let what = fault.what;
        let answer = topology.edge(1).get("/a").await;
        assert_eq!(
            (answer.status, answer.text().as_str()),
            (200, "content"),
            "{what}"
        );
        assert_eq!(answer.says("Cache-Control"), "private", "{what}");
        assert!(!answer.leaks_control(), "{what}: {:?}", answer.fields);
        named_by_both(&fault, topology.edge(1), topology.upper(1)).await;
        let direct = topology.edge(1).metrics().await.sum("direct_total", &[]);
        assert!(direct >= 1, "{what}");
        for node in [topology.edge(1), topology.upper(1)] {
            let ready = node.admin(&get("/readyz")).await.status;
            assert_eq!(ready, 200, "{what}: {} is not ready", node.name());
        }
        topology.finish().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_to_another_request_is_not_believed() {
    let origin = Origin::start().await;
    origin.always("/a", Reply::ok("a's"));
    origin.always("/b", Reply::ok("b's"));
    let mut topology = Topology::new(&origin)
        .hop(Hop::Messages)
        .site("fallback = [\"direct\"]")
        .start()
        .await;
    topology.expects_rejections();
    let edge = topology.edge(1);
    assert_eq!(edge.get("/a").await.text(), "a's");
    // Signed in every field, but by an answer to somebody else's question.
    let other = topology.relay(1).exchanges()[0].response.clone();
    topology
        .relay(1)
        .on_response(move |_, response| *response = other.clone());
    assert_eq!(edge.get("/b").await.text(), "b's");
    let labels = [("side", "response"), ("reason", "bad_signature")];
    let rejected = edge
        .metrics()
        .await
        .sum("tier_control_rejected_total", &labels);
    assert_eq!(rejected, 1);
    topology.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_lying_hop_is_passed_over_for_another() {
    let origin = Origin::start().await;
    for path in 0..20 {
        origin.always(&format!("/{path}"), Reply::fresh("content"));
    }
    let mut topology = Topology::new(&origin)
        .uppers(2)
        .hop(Hop::Messages)
        .start()
        .await;
    topology.expects_rejections();
    response(topology.relay(1), |response| {
        set(response, "tier-result", None);
    });
    for path in 0..20 {
        let answer = topology.edge(1).get(&format!("/{path}")).await;
        assert_eq!(answer.status, 200, "/{path}: {answer:?}");
        assert!(answer.says("Cache-Status").contains("upper-2"), "/{path}");
    }
    topology.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_not_believed_is_not_stored() {
    let origin = Origin::start().await;
    origin.always("/a", Reply::ok("content").with("Cache-Control", "no-store"));
    let mut topology = Topology::new(&origin)
        .hop(Hop::Messages)
        .site("fallback = []")
        .start()
        .await;
    topology.expects_rejections();
    response(topology.relay(1), |response| {
        set(response, "cache-control", Some("public, max-age=9999"));
    });
    let answer = topology.edge(1).get("/a").await;
    assert_eq!(answer.status, 502);
    assert!(
        answer.says("Proxy-Status").starts_with("edge-1; error="),
        "{answer:?}"
    );
    topology.relay(1).leave_alone();
    let answer = topology.edge(1).get("/a").await;
    assert_eq!(
        (answer.status, answer.says("Cache-Control").as_str()),
        (200, "no-store")
    );
    topology.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unsafe_request_is_never_sent_twice() {
    let origin = Origin::start().await;
    origin.always("/order", Reply::new(201).body("ordered"));
    let mut topology = Topology::new(&origin)
        .uppers(2)
        .hop(Hop::Messages)
        .site("fallback = [\"direct\"]")
        .start()
        .await;
    topology.expects_rejections();
    for relay in topology.relays() {
        response(relay, |response| set(response, "tier-result", None));
    }
    let answer = topology
        .edge(1)
        .ask(&ask("POST", "/order").body("one"))
        .await;
    assert_eq!(answer.status, 502);
    assert!(
        answer.says("Proxy-Status").starts_with("edge-1; error="),
        "{answer:?}"
    );
    assert_eq!(origin.requests("/order").len(), 1, "ordered once");
    topology.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unsafe_request_takes_the_next_way_while_none_was_connected_to() {
    let origin = Origin::start().await;
    origin.always("/order", Reply::new(201).body("ordered"));
    let topology = Topology::new(&origin)
        .hop(Hop::Bytes)
        .site("fallback = [\"direct\"]")
        .start()
        .await;
    topology.relay(1).cut().await;
    let answer = topology
        .edge(1)
        .ask(&ask("POST", "/order").body("one"))
        .await;
    assert_eq!((answer.status, answer.text().as_str()), (201, "ordered"));
    assert_eq!(origin.requests("/order")[0].body, "one");
    topology.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_upper_tier_costs_no_visitor_an_error_and_is_used_again() {
    let origin = Origin::start().await;
    let paths: Vec<String> = (0..200).map(|path| format!("/{path}")).collect();
    for path in &paths {
        origin.always(path, Reply::fresh("content"));
    }
    let topology = Topology::new(&origin)
        .uppers(2)
        .hop(Hop::Bytes)
        .start()
        .await;
    let edge = topology.edge(1);
    let mut visitors = tokio::task::JoinSet::new();
    for part in paths.chunks(50) {
        let (part, address) = (part.to_vec(), edge.address());
        visitors.spawn(async move {
            let mut client = tests::Client::connect(address).await;
            for path in part {
                let answer = client.ask(&get(&path)).await;
                assert_eq!((answer.status, answer.complete), (200, true), "{path}");
            }
        });
    }
    // In the middle of it, one of the two goes.
    let half_way = async || (origin.all_requests().len() >= 60).then_some(());
    tests::until("the visitors are under way", half_way).await;
    topology.relay(1).cut().await;
    while let Some(visitor) = visitors.join_next().await {
        visitor.unwrap();
    }
    let edge_metrics = edge.metrics().await;
    assert_eq!(
        edge_metrics.sum("requests_total", &[("status_class", "5xx")]),
        0
    );

    topology.relay(1).restore();
    let mut next = 0;
    tests::until("the first upper tier is asked again", async || {
        next += 1;
        let answer = edge.get(&format!("/later-{next}")).await;
        answer.says("Via").contains("upper-1").then_some(())
    })
    .await;
    topology.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_any_upper_tier_the_site_decides() {
    for (fallback, status, body) in [
        ("[\"direct\"]", 200, "new"),
        ("[\"stale\"]", 200, "old"),
        ("[\"stale\", \"direct\"]", 200, "old"),
        ("[\"direct\", \"stale\"]", 200, "new"),
        ("[]", 502, ""),
    ] {
        let origin = Origin::start().await;
        origin.in_turn(
            "/a",
            [
                Reply::stale("old", ", stale-if-error=600"),
                Reply::fresh("new"),
            ],
        );
        let topology = Topology::new(&origin)
            .uppers(2)
            .hop(Hop::Bytes)
            .site(&format!("fallback = {fallback}"))
            .start()
            .await;
        assert_eq!(topology.edge(1).get("/a").await.text(), "old", "{fallback}");
        for relay in topology.relays() {
            relay.cut().await;
        }
        let answer = topology.edge(1).get("/a").await;
        assert_eq!(answer.status, status, "{fallback}");
        if status == 200 {
            assert_eq!(answer.text(), body, "{fallback}");
        } else {
            let named = answer.says("Proxy-Status");
            assert!(named.starts_with("edge-1; error="), "{fallback}: {named}");
        }
        topology.finish().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upper_tier_that_does_not_answer_is_a_504() {
    let origin = Origin::start().await;
    let topology = Topology::new(&origin)
        .hop(Hop::Messages)
        .site("fallback = []")
        .edge_extra("[timeouts]\nfirst_byte_ms = 300")
        .start()
        .await;
    topology.relay(1).swallow();
    let answer = topology.edge(1).get("/a").await;
    assert_eq!(answer.status, 504);
    let named = answer.says("Proxy-Status");
    assert!(named.contains("upper-1"), "{named}");
    topology.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_goes_on_from_another_upper_tier_when_its_own_dies() {
    let origin = Origin::start().await;
    let gate = tests::Gate::new();
    let whole = Reply::fresh("first half, second half").with("ETag", "\"v1\"");
    origin.in_turn("/a", [whole.clone().pausing_after(10, &gate), whole]);
    let topology = Topology::new(&origin)
        .uppers(2)
        .hop(Hop::Bytes)
        .start()
        .await;
    let mut client = topology.edge(1).client().await;
    client.send(get("/a").bytes()).await;
    client.head().await;
    assert_eq!(client.at_least(10).await, "first half");
    for (relay, upper) in topology.relays().iter().zip(topology.uppers()) {
        if upper.metrics().await.sum("fills_in_flight", &[]) > 0 {
            relay.cut().await;
        }
    }
    let (rest, complete) = client.rest().await;
    assert_eq!((&rest[..], complete), (&b", second half"[..], true));
    assert_eq!(
        topology.edge(1).metrics().await.sum("resumed_total", &[]),
        1
    );
    gate.open();
    topology.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edge_is_ready_whatever_its_upper_tiers_do_while_it_may_go_around_them() {
    let origin = Origin::start().await;
    origin.always("/a", Reply::fresh("content"));
    let topology = Topology::new(&origin)
        .hop(Hop::Bytes)
        .site("fallback = [\"direct\"]")
        .start()
        .await;
    // Before it was ever asked, and after it was found dead.
    topology.relay(1).cut().await;
    let edge = topology.edge(1);
    assert_eq!(edge.admin(&get("/readyz")).await.status, 200);
    assert_eq!(edge.get("/a").await.text(), "content");
    assert_eq!(edge.admin(&get("/readyz")).await.status, 200);
    let up = edge
        .metrics()
        .await
        .sum("upper_tier_up", &[("peer", "upper-1")]);
    assert_eq!(up, 0);
    topology.finish().await;
}
