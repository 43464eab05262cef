//! Requests: sealed by an edge, verified by an upper tier.

use control::{Reason, SealError, TIER_CONTROL, seal, seal_for_origin};
use http::HeaderValue;

use crate::bed::{
    NOW_MS, Wire, block, ed25519_rings, edge_ring, fields, hmac_line, outgoing, ring, sealed,
    signing_key,
};
use crate::damaged_requests::{Damage, add};

#[test]
fn what_is_sealed_is_read_on_the_other_side() {
    let (edge, upper) = ed25519_rings();
    for (edge, upper) in [(edge_ring(), edge_ring()), (edge, upper)] {
        let key = signing_key(&edge, "edge-1");
        let sealed = seal(outgoing(), &block(), &key, None, NOW_MS).unwrap();
        let verified = Wire::of(&sealed).verify(&upper, NOW_MS).unwrap();
        assert_eq!(verified.block(), &block());
        assert_eq!(verified.keyid(), key.keyid());
        assert_eq!(verified.nonce(), None);
        assert!(verified.is_safe());
    }
}

#[test]
fn sealing_writes_traceparent_from_the_block_and_leaves_host_to_the_authority() {
    let key = signing_key(&edge_ring(), "edge-1");
    let mut before = outgoing();
    before
        .fields
        .insert("host", "evil.example".parse().unwrap());
    before.fields.insert("traceparent", "old".parse().unwrap());
    before.fields.insert("tier-control", "v=9".parse().unwrap());
    before.fields.insert("tier-anything", "x".parse().unwrap());
    before
        .fields
        .insert("signature", "tier=:AAAA:".parse().unwrap());
    let sealed = seal(before, &block(), &key, None, NOW_MS).unwrap();
    assert_eq!(
        sealed.fields()["traceparent"],
        block().trace.to_traceparent().as_str()
    );
    assert!(!sealed.fields().contains_key("host"));
    assert!(!sealed.fields().contains_key("tier-anything"));
    assert_eq!(sealed.fields().get_all("signature").iter().count(), 1);
    Wire::of(&sealed).verify(&edge_ring(), NOW_MS).unwrap();
}

#[test]
fn nothing_between_tiers_reaches_an_origin() {
    let mut before = outgoing();
    let sealed = sealed();
    for name in ["tier-control", "signature", "signature-input"] {
        before.fields.insert(name, sealed.fields()[name].clone());
    }
    let to_origin = seal_for_origin(before);
    assert_eq!(to_origin.fields(), &outgoing().fields);
    assert!(to_origin.receipt().is_none());
}

#[test]
fn what_the_connection_owns_may_change() {
    let harmless: [(&str, Damage); 6] = [
        ("connection", add("connection", "close, upgrade")),
        ("framing", add("content-length", "5")),
        ("chunks", add("transfer-encoding", "chunked")),
        ("trailers", add("te", "trailers")),
        ("expectation", add("expect", "100-continue")),
        (
            "case of the host",
            Box::new(|wire| wire.authority = "shop.example:8443".into()),
        ),
    ];
    for (story, change) in harmless {
        let mut wire = Wire::of(&sealed());
        change(&mut wire);
        assert!(wire.verify(&edge_ring(), NOW_MS).is_ok(), "{story}");
    }
}

#[test]
fn the_port_that_the_scheme_implies_is_not_part_of_the_authority() {
    let key = signing_key(&edge_ring(), "edge-1");
    for (sent, arrived, same) in [
        ("a.example:443", "a.example", true),
        ("a.example", "A.example:443", true),
        ("a.example:80", "a.example", false),
        ("[::1]:443", "[::1]", true),
        ("a.example:8443", "a.example", false),
    ] {
        let mut before = outgoing();
        before.authority = sent.into();
        let sealed = seal(before, &block(), &key, None, NOW_MS).unwrap();
        let mut wire = Wire::of(&sealed);
        wire.authority = arrived.into();
        assert_eq!(
            wire.verify(&edge_ring(), NOW_MS).is_ok(),
            same,
            "{sent} {arrived}"
        );
    }
}

#[test]
fn the_clock_is_tested_on_both_sides_of_each_bound() {
    // Created at NOW, valid for 30 s, with 10 s of grace for a clock behind.
    let cases: [(i64, bool); 6] = [
        (0, true),
        (30_000, true),
        (30_001, false),
        (-10_000, true),
        (-10_001, false),
        (-(NOW_MS as i64), false),
    ];
    let wire = Wire::of(&sealed());
    for (shift_ms, good) in cases {
        let now_ms = NOW_MS.checked_add_signed(shift_ms).unwrap();
        match wire.verify(&edge_ring(), now_ms) {
            Ok(_) => assert!(good, "{shift_ms}"),
            Err(rejection) => {
                assert!(!good, "{shift_ms}");
                assert_eq!(rejection.reason, Reason::Expired);
            }
        }
    }
    assert_eq!(
        wire.verify(&edge_ring(), u64::MAX).unwrap_err().reason,
        Reason::Expired
    );
}

#[test]
fn one_edge_cannot_speak_as_another() {
    let upper = ring(&(hmac_line("edge-1", "edge-1-a", 1) + &hmac_line("edge-2", "edge-2-a", 2)));
    // Edge 2 holds its own secret and writes whatever it likes beside it.
    let table = [
        ("its own name", "edge-2", "edge-2-a", None),
        (
            "edge 1's name",
            "edge-1",
            "edge-2-a",
            Some(Reason::Mismatch),
        ),
        (
            "edge 1's key id",
            "edge-1",
            "edge-1-a",
            Some(Reason::BadSignature),
        ),
        (
            "an id nobody knows",
            "edge-1",
            "edge-1-b",
            Some(Reason::UnknownKey),
        ),
    ];
    for (story, node, keyid, reason) in table {
        let forged = ring(&hmac_line(node, keyid, 2));
        let mut block = block();
        block.node = node.into();
        let sealed = seal(
            outgoing(),
            &block,
            &signing_key(&forged, node),
            None,
            NOW_MS,
        )
        .unwrap();
        let answer = Wire::of(&sealed).verify(&upper, NOW_MS);
        assert_eq!(answer.err().map(|r| r.reason), reason, "{story}");
    }
}

#[test]
fn a_key_of_another_algorithm_under_the_same_id_is_a_mismatch() {
    let ed25519 = control::generate(control::Algorithm::Ed25519, "edge-1", "edge-1-a").unwrap();
    let upper = ring(&ed25519.public_line.unwrap());
    let rejection = Wire::of(&sealed()).verify(&upper, NOW_MS).unwrap_err();
    assert_eq!(rejection.reason, Reason::Mismatch);
}

#[test]
fn keys_rotate_without_a_refused_request() {
    let (old, new) = (
        hmac_line("edge-1", "edge-1-old", 1),
        hmac_line("edge-1", "edge-1-new", 2),
    );
    // Each step changes one side; the other is still where it was.
    let steps = [
        (old.clone(), old.clone()),
        (old.clone(), format!("{old}{new}")),
        (format!("{new}{old}"), format!("{old}{new}")),
        (new.clone(), format!("{new}{old}")),
        (new.clone(), new),
    ];
    for (edge, upper) in steps {
        let key = signing_key(&ring(&edge), "edge-1");
        let sealed = seal(outgoing(), &block(), &key, None, NOW_MS).unwrap();
        Wire::of(&sealed).verify(&ring(&upper), NOW_MS).unwrap();
    }
}

#[test]
fn the_version_before_ours_is_understood() {
    let mut older = block();
    older.version = control::VERSION - 1;
    older.to = None;
    let key = signing_key(&edge_ring(), "edge-1");
    let sealed = seal(outgoing(), &older, &key, None, NOW_MS).unwrap();
    let verified = Wire::of(&sealed).verify(&edge_ring(), NOW_MS).unwrap();
    assert_eq!(verified.block().version, control::VERSION - 1);
    assert_eq!(verified.block().to, None);
}

#[test]
fn a_request_is_good_at_the_node_it_names_alone() {
    let wire = Wire::of(&sealed());
    wire.verify(&edge_ring(), NOW_MS).unwrap();
    let elsewhere = wire.verify_at("upper-2", &edge_ring(), NOW_MS).unwrap_err();
    assert_eq!(elsewhere.reason, Reason::Mismatch);
    for words in [
        "is for \"upper-1\"",
        "this node is \"upper-2\"",
        "compare `name`",
    ] {
        assert!(elsewhere.detail.contains(words), "{elsewhere}");
    }
    // Nobody can turn a block into one that names nobody.
    let mut bent = Wire::of(&sealed());
    bent.rewrite("tier-control", "v=2, to=\"upper-1\"", "v=1");
    let bent = bent.verify_at("upper-2", &edge_ring(), NOW_MS).unwrap_err();
    assert_eq!(bent.reason, Reason::BadSignature);
    let mut open = Wire::of(&sealed());
    open.rewrite("tier-control", "to=", "tu=");
    let open = open.verify(&edge_ring(), NOW_MS).unwrap_err();
    assert_eq!(open.reason, Reason::Malformed);
}

#[test]
fn a_later_version_says_which_node_to_upgrade() {
    let mut wire = Wire::of(&sealed());
    wire.rewrite("tier-control", "v=2", "v=3");
    let rejection = wire.verify(&edge_ring(), NOW_MS).unwrap_err();
    assert!(
        rejection.detail.contains("upgrade this node"),
        "{rejection}"
    );
}

#[test]
fn what_cannot_be_sealed_says_why() {
    let ring = ring(&(hmac_line("edge-1", "edge-1-a", 1) + &hmac_line("edge-2", "edge-2-a", 2)));
    let key = signing_key(&ring, "edge-1");
    let seal_block = |change: fn(&mut control::ControlBlock)| {
        let mut block = block();
        change(&mut block);
        seal(outgoing(), &block, &key, None, NOW_MS).map(drop)
    };
    assert!(matches!(
        seal_block(|b| b.node = "edge-2".into()),
        Err(SealError::KeyOfAnotherNode { .. })
    ));
    type Change = fn(&mut control::ControlBlock);
    let unencodable: [(&str, Change); 6] = [
        ("site", |b| b.site = "größe".into()),
        ("rev", |b| b.rev = "a\nb".into()),
        ("epoch", |b| b.epoch = 1_000_000_000_000_000),
        ("trace", |b| b.trace.span_id = [0; 8]),
        ("v", |b| b.version = 3),
        ("to", |b| b.to = None),
    ];
    for (key, change) in unencodable {
        match seal_block(change) {
            Err(SealError::Unencodable { what, .. }) => assert_eq!(what, key),
            other => panic!("{key}: {other:?}"),
        }
    }
    for (authority, path) in [
        ("a b", "/"),
        ("a", "/\r\nx: y"),
        ("a", "/ b"),
        ("a\u{7f}", "/"),
    ] {
        let mut before = outgoing();
        before.authority = authority.into();
        before.path_and_query = path.into();
        let error = seal(before, &block(), &key, None, NOW_MS).unwrap_err();
        assert!(matches!(
            error,
            SealError::Unencodable { what: "target", .. }
        ));
    }
}

#[test]
fn a_signature_covers_so_many_components_and_no_more() {
    let key = signing_key(&edge_ring(), "edge-1");
    // Five that are always there, and traceparent.
    for (extra, good) in [
        (control::COMPONENTS_MAX - 6, true),
        (control::COMPONENTS_MAX - 5, false),
    ] {
        let mut before = outgoing();
        before.fields = fields(&[]);
        for n in 0..extra {
            let name = http::header::HeaderName::try_from(format!("x-{n}")).unwrap();
            before.fields.insert(name, HeaderValue::from_static("v"));
        }
        match seal(before, &block(), &key, None, NOW_MS) {
            Ok(sealed) => {
                assert!(good);
                Wire::of(&sealed).verify(&edge_ring(), NOW_MS).unwrap();
            }
            Err(error) => {
                assert!(!good);
                assert_eq!(error, SealError::TooManyFields);
            }
        }
    }
}

#[test]
fn no_debug_output_shows_fields_or_keys() {
    let sealed = sealed();
    let verified = Wire::of(&sealed).verify(&edge_ring(), NOW_MS).unwrap();
    let shown = format!(
        "{sealed:?} {:?} {verified:?} {:?} {:?}",
        sealed.receipt(),
        edge_ring(),
        outgoing()
    );
    assert!(shown.contains("edge-1-a"), "{shown}");
    for secret in ["AQEBAQ", "1, 1, 1, 1", "if-none-match"] {
        assert!(!shown.contains(secret), "{shown}");
    }
    assert!(sealed.fields().contains_key(TIER_CONTROL));
}
