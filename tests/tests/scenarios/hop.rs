//! Between the tiers: a hop that loses or alters what tiers tell each other. On the
//! day that this project began with, that looked like a fault of DNS, and visitors
//! paid for it.

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
        if fault.side == "request" {
            topology.expects_refused(fault.reason);
        } else {
            topology.expects_rejected(fault.side, fault.reason);
        }
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
    topology.expects_rejected("response", "bad_signature");
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
    topology.expects_rejected("response", "missing");
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
    topology.expects_rejected("response", "bad_signature");
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
    topology.expects_rejected("response", "missing");
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
async fn an_answer_to_another_order_is_not_believed_and_nothing_is_ordered_again() {
    let origin = Origin::start().await;
    origin.on("/order", |asked| Reply::new(201).body(asked.body.clone()));
    let mut topology = Topology::new(&origin)
        .hop(Hop::Messages)
        .site("fallback = [\"direct\"]")
        .start()
        .await;
    topology.expects_rejected("response", "bad_signature");
    let edge = topology.edge(1);
    let order = |what: &str| ask("POST", "/order").body(what.to_owned());
    assert_eq!(edge.ask(&order("one")).await.text(), "one");
    // Signed for the very same request, but for another nonce.
    let first = topology.relay(1).exchanges()[0].response.clone();
    topology
        .relay(1)
        .on_response(move |_, response| *response = first.clone());
    assert_eq!(edge.ask(&order("two")).await.status, 502);
    let ordered: Vec<_> = origin
        .requests("/order")
        .into_iter()
        .map(|one| one.body)
        .collect();
    assert_eq!(ordered, ["one", "two"], "each once");
    topology.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn fills_and_passes_leave_under_the_same_seal() {
    let origin = Origin::start().await;
    origin.always("/a", Reply::ok("content").with("Cache-Control", "no-store"));
    let topology = Topology::new(&origin).hop(Hop::Messages).start().await;
    // The same request leaves twice: the fill's way, and, since it has a body, the
    // way of pingora's proxy.
    let asked = get("/a?b=c")
        .with("Authorization", "Basic eA==")
        .with("Cookie", "one=1; two=2")
        .with("Accept", "text/plain")
        .with("Accept", "*/*")
        .with("X-Own", "yes")
        .with("Connection", "X-Hop")
        .with("X-Hop", "no")
        .with("TE", "trailers");
    topology.edge(1).ask(&asked).await;
    topology.edge(1).ask(&asked.clone().body("x")).await;

    let own = [
        "content-length",
        "signature",
        "signature-input",
        "tier-control",
        "traceparent",
    ];
    let sorted = |fields: &tests::Fields| {
        let lower = |(name, value): &(String, String)| (name.to_ascii_lowercase(), value.clone());
        let mut fields: Vec<_> = fields.iter().map(lower).collect();
        fields.retain(|(name, _)| !own.contains(&name.as_str()));
        fields.sort();
        fields
    };
    let sent = topology.relay(1).exchanges();
    assert_eq!(sent.len(), 2);
    assert_eq!(sent[0].request.start, sent[1].request.start);
    assert_eq!(
        sorted(&sent[0].request.fields),
        sorted(&sent[1].request.fields)
    );
    // What is signed is the same too, in name and order of its components.
    let covered = |message: &Message| {
        let input = message.field("signature-input").unwrap();
        let list = input.split_once(')').unwrap().0.to_owned();
        let mut names: Vec<_> = list
            .split('"')
            .skip(1)
            .step_by(2)
            .map(str::to_owned)
            .collect();
        names.sort();
        names
    };
    assert_eq!(covered(&sent[0].request), covered(&sent[1].request));
    let at_origin = origin.requests("/a");
    assert_eq!(sorted(&at_origin[0].fields), sorted(&at_origin[1].fields));
    for seen in &at_origin {
        for gone in [
            "X-Hop",
            "TE",
            "Tier-Control",
            "Signature",
            "Signature-Input",
        ] {
            assert_eq!(seen.field(gone), None, "{gone}");
        }
    }
    topology.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_scenario_ends_badly_where_a_rejection_was_not_declared_or_did_not_happen() {
    let origin = Origin::start().await;
    origin.always("/a", Reply::ok("content").with("Cache-Control", "no-store"));
    // What is declared, and the words with which the scenario has to fail.
    type Told = (fn(&mut Topology), &'static [&'static str]);
    let told: [Told; 4] = [
        (
            |_| {},
            &["upper-1 counts 1 in tier_control_rejected_total", "edge-1"],
        ),
        (
            |topology| topology.expects_rejected("request", "missing"),
            &["edge-1 counts 1 in tier_refused_total"],
        ),
        (
            |topology| {
                topology.expects_refused("missing");
                topology.expects_rejected("response", "missing");
            },
            &["side: Some(\"response\")", "no node counts it"],
        ),
        (|topology| topology.expects_refused("missing"), &[]),
    ];
    for (declare, words) in told {
        let mut topology = Topology::new(&origin)
            .hop(Hop::Messages)
            .site("fallback = [\"direct\"]")
            .start()
            .await;
        declare(&mut topology);
        on_request(topology.relay(1), |request| {
            set(request, "tier-control", None);
        });
        assert_eq!(topology.edge(1).get("/a").await.status, 200);
        let ended = tokio::spawn(topology.finish()).await;
        let said = match ended {
            Ok(()) => String::new(),
            Err(error) => *error.into_panic().downcast::<String>().unwrap(),
        };
        assert_eq!(said.is_empty(), words.is_empty(), "{said}");
        for word in words {
            assert!(said.contains(word), "{word}: {said}");
        }
    }
}
