//! Responses: signed by an upper tier, verified by the edge that asked.

use std::sync::Arc;

use control::{
    Keyring, Reason, Receipt, Rejection, SealError, TierResult, Verified, seal, sign_response,
    verify_response,
};
use http::header::HeaderValue;
use http::{HeaderMap, StatusCode};

use crate::bed::{
    NOW_MS, Wire, block, ed25519_rings, edge_ring, fields, hmac_line, outgoing, result, ring,
    signing_key,
};

fn origin_fields() -> HeaderMap {
    fields(&[
        ("date", b"Tue, 20 Apr 2021 02:07:55 GMT"),
        ("cache-control", b"max-age=60"),
        ("cache-control", b"private"),
        ("content-type", b"text/html"),
        ("content-length", b"5"),
        ("etag", b"\"v1\""),
        ("age", b"3"),
        ("vary", b"accept-language"),
        ("set-cookie", b"a=b; Expires=Wed, 09 Jun 2027 10:18:14 GMT"),
        ("set-cookie", b"c=d"),
        ("x-latin", b"caf\xe9"),
    ])
}

/// One exchange, up to the answer on the wire.
struct Exchange {
    receipt: Receipt,
    verified: Verified,
    status: StatusCode,
    fields: HeaderMap,
    edge: Keyring,
}

impl Exchange {
    fn hmac() -> Self {
        Self::between(edge_ring(), &edge_ring(), "/a")
    }

    fn between(edge: Keyring, upper: &Keyring, path: &str) -> Self {
        let mut request = outgoing();
        request.path_and_query = path.into();
        let key = signing_key(&edge, "edge-1");
        let sealed = seal(request, &block(), &key, None, NOW_MS).unwrap();
        let verified = Wire::of(&sealed).verify(upper, NOW_MS).unwrap();
        let mut fields = origin_fields();
        let status = StatusCode::OK;
        let own = upper.signing("upper-1");
        sign_response(status, &mut fields, &result(), &verified, own, NOW_MS).unwrap();
        Self {
            receipt: sealed.receipt().unwrap().clone(),
            verified,
            status,
            fields,
            edge,
        }
    }

    fn verify(&self, now_ms: u64) -> Result<TierResult, Rejection> {
        verify_response(self.status, &self.fields, &self.receipt, &self.edge, now_ms)
    }

    fn rewrite(&mut self, name: &'static str, from: &str, to: &str) {
        let value = self.fields[name].to_str().unwrap();
        assert!(value.contains(from), "{name}: {value}");
        let value = value.replacen(from, to, 1);
        self.fields.insert(name, value.try_into().unwrap());
    }
}

#[test]
fn what_is_signed_is_read_on_the_other_side() {
    let (edge, upper) = ed25519_rings();
    for exchange in [Exchange::hmac(), Exchange::between(edge, &upper, "/a")] {
        assert_eq!(exchange.verify(NOW_MS).unwrap(), result());
    }
}

#[test]
fn a_result_without_a_cache_behind_it_has_neither_age_nor_date() {
    let mut exchange = Exchange::hmac();
    let bare = TierResult {
        age_ms: None,
        date_s: None,
        ..result()
    };
    let verified = &exchange.verified;
    sign_response(
        exchange.status,
        &mut exchange.fields,
        &bare,
        verified,
        None,
        NOW_MS,
    )
    .unwrap();
    assert_eq!(exchange.verify(NOW_MS).unwrap(), bare);
}

#[test]
fn nobody_answers_for_the_node_that_was_asked() {
    let (edge, upper) = ed25519_rings();
    for (edge, upper) in [(edge_ring(), edge_ring()), (edge, upper)] {
        let mut exchange = Exchange::between(edge, &upper, "/a");
        let other = TierResult {
            node: "upper-2".into(),
            ..result()
        };
        let twin = generate_for("upper-2");
        let (status, verified) = (exchange.status, &exchange.verified);
        let own = twin.signing("upper-2");
        sign_response(status, &mut exchange.fields, &other, verified, own, NOW_MS).unwrap();
        if upper.signing("upper-1").is_some() {
            exchange.edge = twin;
        }
        let rejection = exchange.verify(NOW_MS).unwrap_err();
        assert_eq!(rejection.reason, Reason::Mismatch);
        assert!(
            rejection.detail.contains("\"upper-2\" answers"),
            "{rejection}"
        );
    }
}

fn generate_for(node: &str) -> Keyring {
    let key = control::generate(control::Algorithm::Ed25519, node, "twin").unwrap();
    ring(&key.private_line)
}

#[test]
fn signing_again_replaces_what_was_there() {
    let mut exchange = Exchange::hmac();
    exchange
        .fields
        .insert("tier-old", HeaderValue::from_static("x"));
    let verified = &exchange.verified;
    sign_response(
        exchange.status,
        &mut exchange.fields,
        &result(),
        verified,
        None,
        NOW_MS,
    )
    .unwrap();
    assert!(!exchange.fields.contains_key("tier-old"));
    assert_eq!(exchange.fields.get_all("signature").iter().count(), 1);
    exchange.verify(NOW_MS).unwrap();
}

type Damage = Box<dyn Fn(&mut Exchange)>;

#[test]
fn every_damage_is_noticed_under_its_own_name() {
    let rewrite = |name: &'static str, from: &'static str, to: &'static str| -> Damage {
        Box::new(move |exchange| exchange.rewrite(name, from, to))
    };
    let add = |name: &'static str, value: &'static str| -> Damage {
        Box::new(move |exchange| {
            exchange
                .fields
                .append(name, HeaderValue::from_static(value));
        })
    };
    let remove = |name: &'static str| -> Damage {
        Box::new(move |exchange| drop(exchange.fields.remove(name)))
    };
    let mut cases: Vec<(String, Damage, Reason)> = vec![];
    for name in ["tier-result", "signature", "signature-input"] {
        cases.push((format!("no {name}"), remove(name), Reason::Missing));
        let garbage = Box::new(move |exchange: &mut Exchange| {
            exchange
                .fields
                .insert(name, HeaderValue::from_static("=?!"));
        });
        cases.push((format!("{name} is garbage"), garbage, Reason::Malformed));
    }
    for name in [
        "cache-control",
        "content-type",
        "etag",
        "age",
        "vary",
        "set-cookie",
        "x-latin",
    ] {
        cases.push((format!("no {name}"), remove(name), Reason::Mismatch));
        cases.push((
            format!("one more {name}"),
            add(name, "x"),
            Reason::BadSignature,
        ));
        let alter = Box::new(move |exchange: &mut Exchange| {
            exchange
                .fields
                .insert(name, HeaderValue::from_static("public"));
        });
        cases.push((format!("another {name}"), alter, Reason::BadSignature));
    }
    let input = "signature-input";
    let more: Vec<(&str, Damage, Reason)> = vec![
        (
            "another status",
            Box::new(|e| e.status = StatusCode::NOT_FOUND),
            Reason::BadSignature,
        ),
        (
            "two cookies made one",
            Box::new(|e| {
                e.fields.insert(
                    "set-cookie",
                    HeaderValue::from_static("a=b; Expires=Wed, 09 Jun 2027 10:18:14 GMT, c=d"),
                );
            }),
            Reason::BadSignature,
        ),
        ("a field more", add("expires", "0"), Reason::Mismatch),
        (
            "a tier field more",
            add("tier-control", "v=1"),
            Reason::Mismatch,
        ),
        (
            "another age",
            rewrite("tier-result", "age_ms=1500", "age_ms=0"),
            Reason::BadSignature,
        ),
        (
            "a later version",
            rewrite("tier-result", "v=2", "v=3"),
            Reason::Malformed,
        ),
        (
            "no node",
            rewrite("tier-result", "node=", "mode="),
            Reason::Malformed,
        ),
        (
            "a negative age",
            rewrite("tier-result", "age_ms=", "age_ms=-"),
            Reason::Malformed,
        ),
        (
            "the request's direction",
            rewrite(input, "r-response", "r-request"),
            Reason::Mismatch,
        ),
        (
            "another algorithm",
            rewrite(input, "hmac-sha256", "ed25519"),
            Reason::Mismatch,
        ),
        (
            "a key nobody has",
            rewrite(input, "edge-1-a", "edge-9-a"),
            Reason::UnknownKey,
        ),
        (
            "status left open",
            rewrite(input, "\"@status\" ", ""),
            Reason::Mismatch,
        ),
        (
            "result left open",
            rewrite(input, "\"tier-result\" ", ""),
            Reason::Mismatch,
        ),
        (
            "request left open",
            rewrite(input, " \"signature\";req;key=\"tier\"", ""),
            Reason::Mismatch,
        ),
        (
            "bound to itself",
            rewrite(input, "\"signature\";req;key", "\"signature\";key"),
            Reason::Mismatch,
        ),
        (
            "a request's component",
            rewrite(input, "\"etag\"", "\"etag\" \"@path\""),
            Reason::Malformed,
        ),
        (
            "a signed field nominated away",
            add("connection", "cache-control"),
            Reason::Mismatch,
        ),
    ];
    cases.extend(
        more.into_iter()
            .map(|(story, damage, reason)| (story.to_owned(), damage, reason)),
    );

    for (story, damage, reason) in cases {
        let mut exchange = Exchange::hmac();
        damage(&mut exchange);
        let rejection = exchange.verify(NOW_MS).expect_err(&story);
        assert_eq!(rejection.reason, reason, "{story}: {rejection}");
    }
}

#[test]
fn what_pingora_and_the_connection_own_may_change() {
    for name in [
        "date",
        "connection",
        "content-length",
        "transfer-encoding",
        "keep-alive",
    ] {
        for value in [None, Some("close")] {
            let mut exchange = Exchange::hmac();
            match value {
                None => drop(exchange.fields.remove(name)),
                Some(value) => drop(
                    exchange
                        .fields
                        .insert(name, HeaderValue::from_static(value)),
                ),
            }
            assert!(exchange.verify(NOW_MS).is_ok(), "{name} {value:?}");
        }
    }
}

#[test]
fn an_answer_cannot_be_given_to_another_request() {
    let (edge, upper) = ed25519_rings();
    let hmac = |path| Exchange::between(edge_ring(), &edge_ring(), path);
    let ed25519 = |path| Exchange::between(edge.clone(), &upper, path);
    for (mut one, other) in [(hmac("/a"), hmac("/b")), (ed25519("/a"), ed25519("/b"))] {
        one.fields = other.fields;
        let rejection = one.verify(NOW_MS).unwrap_err();
        assert_eq!(rejection.reason, Reason::BadSignature);
    }
}

#[test]
fn the_clock_is_tested_on_both_sides_of_each_bound() {
    let exchange = Exchange::hmac();
    for (shift_ms, good) in [
        (30_000, true),
        (30_001, false),
        (-10_000, true),
        (-10_001, false),
    ] {
        let now_ms = NOW_MS.checked_add_signed(shift_ms).unwrap();
        let reason = exchange.verify(now_ms).err().map(|r| r.reason);
        assert_eq!(reason, (!good).then_some(Reason::Expired), "{shift_ms}");
    }
}

#[test]
fn an_hmac_answer_must_use_the_key_of_its_request() {
    let both = ring(&(hmac_line("edge-1", "edge-1-a", 1) + &hmac_line("edge-1", "edge-1-b", 2)));
    let mut exchange = Exchange::between(both.clone(), &both, "/a");
    exchange.rewrite("signature-input", "edge-1-a", "edge-1-b");
    assert_eq!(
        exchange.verify(NOW_MS).unwrap_err().reason,
        Reason::Mismatch
    );
}

#[test]
fn an_ed25519_request_needs_an_own_key_to_answer() {
    let (edge, upper) = ed25519_rings();
    let exchange = Exchange::between(edge, &upper, "/a");
    let sign = |result: &TierResult, own| {
        let mut fields = origin_fields();
        sign_response(
            StatusCode::OK,
            &mut fields,
            result,
            &exchange.verified,
            own,
            NOW_MS,
        )
    };
    assert_eq!(sign(&result(), None), Err(SealError::NoKey));
    let own = signing_key(&upper, "upper-1");
    let stranger = TierResult {
        node: "upper-2".into(),
        ..result()
    };
    assert!(matches!(
        sign(&stranger, Some(&own)),
        Err(SealError::KeyOfAnotherNode { .. })
    ));
    // The edge's public key is in the upper tier's ring and can only verify.
    let public = Arc::clone(upper.find("edge-1-e").unwrap());
    let as_edge = TierResult {
        node: "edge-1".into(),
        ..result()
    };
    assert!(matches!(
        sign(&as_edge, Some(&public)),
        Err(SealError::CannotSign { .. })
    ));
}

#[test]
fn one_upper_tier_cannot_answer_as_another_with_ed25519() {
    let (edge, upper) = ed25519_rings();
    let mut exchange = Exchange::between(edge, &upper, "/a");
    // The same key under the name of another node, on the upper tier alone.
    let text = {
        let generated =
            control::generate(control::Algorithm::Ed25519, "upper-2", "upper-2-e").unwrap();
        (generated.private_line, generated.public_line.unwrap())
    };
    let posing = ring(&text.0.replace("upper-2 upper-2-e", "upper-1 upper-2-e"));
    let known = ring(&text.1);
    exchange.fields = origin_fields();
    let own = signing_key(&posing, "upper-1");
    sign_response(
        exchange.status,
        &mut exchange.fields,
        &result(),
        &exchange.verified,
        Some(&own),
        NOW_MS,
    )
    .unwrap();
    exchange.edge = known;
    assert_eq!(
        exchange.verify(NOW_MS).unwrap_err().reason,
        Reason::Mismatch
    );
}

#[test]
fn a_result_that_cannot_be_written_says_which_part() {
    let exchange = Exchange::hmac();
    type Change = fn(&mut TierResult);
    let table: [(&str, Change); 4] = [
        ("node", |r| r.node = "\u{1}".into()),
        ("outcome", |r| r.outcome = "two words".into()),
        ("age_ms", |r| r.age_ms = Some(u64::MAX)),
        ("v", |r| r.version = 3),
    ];
    for (key, change) in table {
        let mut result = result();
        change(&mut result);
        let mut fields = origin_fields();
        let error = sign_response(
            StatusCode::OK,
            &mut fields,
            &result,
            &exchange.verified,
            None,
            NOW_MS,
        )
        .unwrap_err();
        assert!(
            matches!(error, SealError::Unencodable { what, .. } if what == key),
            "{key}: {error}"
        );
        assert_eq!(fields, origin_fields(), "a refusal changes nothing");
    }
}
