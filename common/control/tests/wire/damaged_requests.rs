//! Everything that can be done to a sealed request, and the name it goes by.

use control::Reason;
use http::HeaderValue;

use crate::bed::{NOW_MS, Wire, edge_ring, sealed};

/// The request line of `outgoing()`.
const HOST: &str = "Shop.Example:8443";
const TARGET: &str = "/a/b?c=d&e";

/// What edges cover besides the five that stand in every signature.
const COVERED: [&str; 7] = [
    "accept",
    "accept-language",
    "if-none-match",
    "x-empty",
    "x-latin",
    "upgrade",
    "traceparent",
];

pub(crate) type Damage = Box<dyn Fn(&mut Wire)>;

fn rewrite(name: &'static str, from: &'static str, to: &'static str) -> Damage {
    Box::new(move |wire| wire.rewrite(name, from, to))
}

pub(crate) fn add(name: &'static str, value: &'static str) -> Damage {
    Box::new(move |wire| {
        wire.fields.append(name, HeaderValue::from_static(value));
    })
}

#[test]
fn every_damage_is_noticed_under_its_own_name() {
    let remove =
        |name: &'static str| -> Damage { Box::new(move |wire| drop(wire.fields.remove(name))) };
    let mut cases: Vec<(String, Damage, Reason)> = vec![];
    for name in ["tier-control", "signature", "signature-input"] {
        cases.push((format!("no {name}"), remove(name), Reason::Missing));
        cases.push((
            format!("{name} of bytes that are not ASCII"),
            Box::new(move |wire| {
                wire.fields
                    .insert(name, HeaderValue::from_bytes(b"tier=\xff").unwrap());
            }),
            Reason::Malformed,
        ));
        let garbage = Box::new(move |wire: &mut Wire| {
            wire.fields.insert(name, HeaderValue::from_static("=?!"));
        });
        cases.push((format!("{name} is garbage"), garbage, Reason::Malformed));
    }
    for name in COVERED {
        cases.push((format!("no {name}"), remove(name), Reason::Mismatch));
        let alter = Box::new(move |wire: &mut Wire| {
            wire.fields.insert(name, HeaderValue::from_static("other"));
        });
        cases.push((format!("another {name}"), alter, Reason::BadSignature));
        cases.push((
            format!("one more {name}"),
            add(name, "more"),
            Reason::BadSignature,
        ));
    }
    for (story, method, authority, path_and_query) in [
        ("another method", "HEAD", HOST, TARGET),
        ("another host", "GET", "shop.example", TARGET),
        ("another path", "GET", HOST, "/a/c?c=d&e"),
        ("another query", "GET", HOST, "/a/b?c=d"),
        ("no query", "GET", HOST, "/a/b"),
        ("another case", "GET", HOST, "/A/b?c=d&e"),
    ] {
        let damage = Box::new(move |wire: &mut Wire| {
            wire.method = method.parse().unwrap();
            wire.authority = authority.into();
            wire.path_and_query = path_and_query.into();
        });
        cases.push((story.into(), damage, Reason::BadSignature));
    }
    cases.push((
        "a line break in the path".into(),
        Box::new(|wire| wire.path_and_query = "/a\n\"accept\": x".into()),
        Reason::Malformed,
    ));
    let tier_control = "tier-control";
    let input = "signature-input";
    let more: Vec<(&str, Damage, Reason)> = vec![
        (
            "a field more",
            add("x-forwarded-host", "evil"),
            Reason::Mismatch,
        ),
        ("a cookie more", add("cookie", "a=b"), Reason::Mismatch),
        (
            "a tier field more",
            add("tier-other", "x"),
            Reason::Mismatch,
        ),
        (
            "two Tier-Control",
            add(tier_control, "v=1"),
            Reason::Malformed,
        ),
        (
            "another site",
            rewrite(tier_control, "shop", "bank"),
            Reason::BadSignature,
        ),
        (
            "another node",
            rewrite(tier_control, "edge-1", "edge-2"),
            Reason::BadSignature,
        ),
        (
            "a background refresh",
            rewrite(tier_control, "v=2", "v=2, bg"),
            Reason::BadSignature,
        ),
        (
            "a key of three bytes",
            rewrite(tier_control, "key=:", "key=:AAAA:, old=:"),
            Reason::Malformed,
        ),
        (
            "no pool",
            rewrite(tier_control, "pool=", "tool="),
            Reason::Malformed,
        ),
        (
            "a later version",
            rewrite(tier_control, "v=2", "v=3"),
            Reason::Malformed,
        ),
        (
            "an unknown scheme",
            rewrite(tier_control, "https", "gopher"),
            Reason::Malformed,
        ),
        (
            "hop out of range",
            rewrite(tier_control, "hop=1", "hop=256"),
            Reason::Malformed,
        ),
        (
            "a trace of zeros",
            rewrite(tier_control, A_TRACE, ZEROS),
            Reason::Malformed,
        ),
        (
            "another key",
            rewrite(input, "edge-1-a", "edge-9-a"),
            Reason::UnknownKey,
        ),
        (
            "another algorithm",
            rewrite(input, "hmac-sha256", "ed25519"),
            Reason::Mismatch,
        ),
        (
            "another direction",
            rewrite(input, "r-request", "r-response"),
            Reason::Mismatch,
        ),
        (
            "method left open",
            rewrite(input, "\"@method\" ", ""),
            Reason::Mismatch,
        ),
        (
            "host left open",
            rewrite(input, "\"@authority\" ", ""),
            Reason::Mismatch,
        ),
        (
            "path left open",
            rewrite(input, "\"@path\" ", ""),
            Reason::Mismatch,
        ),
        (
            "query left open",
            rewrite(input, "\"@query\" ", ""),
            Reason::Mismatch,
        ),
        (
            "control left open",
            rewrite(input, " \"tier-control\"", ""),
            Reason::Mismatch,
        ),
        (
            "a field left open",
            rewrite(input, " \"accept\"", ""),
            Reason::Mismatch,
        ),
        (
            "covered twice",
            rewrite(input, " \"accept\"", " \"accept\" \"accept\""),
            Reason::Malformed,
        ),
        (
            "covers what we cannot derive",
            rewrite(input, "\"@path\"", "\"@path\" \"@scheme\""),
            Reason::Malformed,
        ),
        (
            "covers with `sf`",
            rewrite(input, "\"accept\"", "\"accept\";sf"),
            Reason::Malformed,
        ),
        (
            "covers the request's request",
            rewrite(input, "\"accept\"", "\"accept\";req"),
            Reason::Mismatch,
        ),
        (
            "covers bytes as text",
            rewrite(input, "\"x-latin\";bs", "\"x-latin\""),
            Reason::Malformed,
        ),
        (
            "covers text as bytes",
            rewrite(input, "\"accept\"", "\"accept\";bs"),
            Reason::BadSignature,
        ),
        (
            "no created",
            rewrite(input, ";created=1800000000", ""),
            Reason::Malformed,
        ),
        (
            "no expires",
            rewrite(input, ";expires=1800000030", ""),
            Reason::Malformed,
        ),
        (
            "no alg",
            rewrite(input, ";alg=\"hmac-sha256\"", ""),
            Reason::Malformed,
        ),
        (
            "no tag",
            rewrite(input, ";tag=\"headwater-request\"", ""),
            Reason::Malformed,
        ),
        (
            "valid for longer",
            rewrite(input, "expires=1800000030", "expires=1800000031"),
            Reason::Malformed,
        ),
        (
            "valid backwards",
            rewrite(input, "expires=1800000030", "expires=1799999999"),
            Reason::Malformed,
        ),
        (
            "expires sooner",
            rewrite(input, "expires=1800000030", "expires=1800000029"),
            Reason::BadSignature,
        ),
        (
            "a nonce more",
            rewrite(input, ";tag=", ";nonce=\"x\";tag="),
            Reason::BadSignature,
        ),
        (
            "an unknown parameter",
            rewrite(input, ";tag=", ";new=\"x\";tag="),
            Reason::BadSignature,
        ),
        (
            "another label",
            rewrite(input, "tier=", "sig1="),
            Reason::Missing,
        ),
        (
            "another signature",
            rewrite("signature", "tier=:", "tier=:AAAA"),
            Reason::BadSignature,
        ),
        (
            "an empty signature",
            Box::new(|wire| {
                wire.fields
                    .insert("signature", HeaderValue::from_static("tier=::"));
            }),
            Reason::BadSignature,
        ),
        (
            "a signed field nominated away",
            Box::new(|wire| {
                wire.fields.insert(
                    "connection",
                    HeaderValue::from_static("close, Accept-Language"),
                );
            }),
            Reason::Mismatch,
        ),
    ];
    cases.extend(
        more.into_iter()
            .map(|(story, damage, reason)| (story.to_owned(), damage, reason)),
    );

    for (story, damage, reason) in cases {
        let mut wire = Wire::of(&sealed());
        damage(&mut wire);
        let rejection = wire.verify(&edge_ring(), NOW_MS).expect_err(&story);
        assert_eq!(rejection.reason, reason, "{story}: {rejection}");
        assert!(
            rejection.detail.bytes().all(|b| (b' '..0x7f).contains(&b)),
            "{story}: {rejection}"
        );
    }
}

const A_TRACE: &str = "abababababababababababababababab";
const ZEROS: &str = "00000000000000000000000000000000";
