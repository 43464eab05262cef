//! Whatever arrives, nothing panics; whatever is well made comes through whole.

use control::{
    ControlBlock, KeyDigest, Keyring, Outgoing, ReplayGuard, Scheme, TierResult, TraceIds, seal,
    sign_response, strip, verify_response,
};
use http::header::{HeaderName, HeaderValue};
use http::{HeaderMap, Method, StatusCode};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

use crate::bed::{NOW_MS, Wire, edge_ring, sealed, signing_key};

/// Text that structured fields can carry as strings.
fn sf_string() -> impl Strategy<Value = String> {
    "[ -~]{0,20}"
}

const INTEGER_MAX: u64 = 999_999_999_999_999;

prop_compose! {
    fn trace_ids()(
        trace_id in any::<[u8; 16]>(),
        span_id in any::<[u8; 8]>(),
        sampled in any::<bool>(),
    ) -> TraceIds {
        let mut ids = TraceIds { trace_id, span_id, sampled };
        ids.trace_id[0] |= 1;
        ids.span_id[0] |= 1;
        ids
    }
}

prop_compose! {
    fn any_block()(
        names in [sf_string(), sf_string(), sf_string()],
        key in any::<[u8; 16]>(),
        hop in any::<u8>(),
        epoch in 0..=INTEGER_MAX,
        https in any::<bool>(),
        trace in trace_ids(),
        flags in any::<[bool; 2]>(),
    ) -> ControlBlock {
        let [site, pool, rev] = names;
        let [background, only_if_cached] = flags;
        ControlBlock {
            version: control::VERSION,
            to: Some("upper-1".into()),
            site, pool, rev,
            key: KeyDigest(key),
            hop,
            node: "edge-1".into(),
            epoch,
            scheme: if https { Scheme::Https } else { Scheme::Http },
            trace,
            background,
            only_if_cached,
        }
    }
}

prop_compose! {
    fn any_result()(
        node in sf_string(),
        outcome in "[a-z*][a-z_:/]{0,9}",
        age_ms in option::of(0..=INTEGER_MAX),
        date_s in option::of(0..=INTEGER_MAX),
        epoch in 0..=INTEGER_MAX,
    ) -> TierResult {
        TierResult { version: control::VERSION, node, outcome, age_ms, date_s, epoch }
    }
}

/// A few fields, drawn so that names collide and special ones turn up.
fn any_fields() -> impl Strategy<Value = HeaderMap> {
    let name = prop_oneof![
        "[a-z]{1,3}".prop_map(|name| HeaderName::try_from(name).unwrap()),
        prop::sample::select(vec![
            "tier-control",
            "tier-result",
            "tier-x",
            "signature",
            "signature-input",
            "connection",
            "set-cookie",
            "host",
            "date",
            "traceparent",
            "content-length",
        ])
        .prop_map(HeaderName::from_static),
    ];
    let value = prop_oneof![
        vec(any::<u8>(), 0..12).prop_filter_map("a field value", |bytes| {
            HeaderValue::from_bytes(&bytes).ok()
        }),
        near_dictionary().prop_map(|text| HeaderValue::try_from(text).unwrap()),
    ];
    vec((name, value), 0..12).prop_map(|lines| {
        let mut fields = HeaderMap::new();
        for (name, value) in lines {
            fields.append(name, value);
        }
        fields
    })
}

/// Text made of the pieces that signature fields are made of.
fn near_dictionary() -> impl Strategy<Value = String> {
    let piece = prop::sample::select(vec![
        "tier",
        "sig1",
        "=",
        "(",
        ")",
        ":",
        "\"",
        " ",
        ", ",
        ";",
        "\"@path\"",
        "\"accept\"",
        "bs",
        "req",
        "key",
        "=\"tier\"",
        "created=1800000000",
        "expires=1800000010",
        "keyid=\"edge-1-a\"",
        "alg=\"hmac-sha256\"",
        "tag=\"headwater-request\"",
        "AAAA",
        "v=1",
        "%\"",
        "@1",
        "?1",
        "1.5",
        "\\",
        "*",
    ]);
    vec(piece, 0..16).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn blocks_come_through_whole(block in any_block()) {
        prop_assert_eq!(ControlBlock::decode(&block.encode().unwrap()).unwrap(), block);
    }

    #[test]
    fn results_come_through_whole(result in any_result()) {
        prop_assert_eq!(TierResult::decode(&result.encode().unwrap()).unwrap(), result);
    }

    #[test]
    fn trace_ids_come_through_whole(ids in trace_ids()) {
        prop_assert_eq!(TraceIds::from_traceparent(&ids.to_traceparent()), Some(ids));
    }

    #[test]
    fn an_exchange_of_any_fields_verifies(
        block in any_block(),
        result in any_result(),
        up in any_fields(),
        down in any_fields(),
        path in "/[!-~]{0,20}",
        nonce in option::of(any::<[u8; 16]>()),
    ) {
        let ring = edge_ring();
        let outgoing = Outgoing {
            method: Method::GET,
            authority: "shop.example".into(),
            path_and_query: path,
            fields: up,
        };
        let mut sent = outgoing;
        // Nominating a signed field away is for the connection to refuse.
        sent.fields.remove("connection");
        let sealed = seal(sent, &block, &signing_key(&ring, "edge-1"), nonce, NOW_MS).unwrap();
        let verified = Wire::of(&sealed).verify(&ring, NOW_MS).unwrap();
        prop_assert_eq!(verified.block(), &block);
        prop_assert!(ReplayGuard::new(1, NOW_MS).admit(&verified, NOW_MS).is_ok());

        let mut answer = down;
        answer.remove("connection");
        let status = StatusCode::OK;
        // Whoever is asked answers.
        let result = TierResult { node: "upper-1".into(), ..result };
        sign_response(status, &mut answer, &result, &verified, None, NOW_MS).unwrap();
        let receipt = sealed.receipt().unwrap();
        let read = verify_response(status, &answer, receipt, &ring, NOW_MS).unwrap();
        prop_assert_eq!(read, result);
        strip(&mut answer);
        prop_assert!(!answer.keys().any(control::is_tier_field));
    }

    #[test]
    fn nothing_that_arrives_panics_or_is_believed(
        mut fields in any_fields(),
        path in any::<String>(),
        host in any::<String>(),
        now_ms in any::<u64>(),
        keep in any::<[bool; 3]>(),
    ) {
        let sealed = sealed();
        // Some of the real fields, so that the deeper questions are reached.
        for (name, keep) in ["tier-control", "signature", "signature-input"].iter().zip(keep) {
            if keep {
                fields.insert(*name, sealed.fields()[*name].clone());
            }
        }
        let wire = Wire {
            method: Method::GET,
            authority: host,
            path_and_query: path,
            fields,
        };
        prop_assert!(wire.verify(&edge_ring(), now_ms).is_err());
        prop_assert!(wire.verify(&edge_ring(), NOW_MS).is_err());
        let receipt = sealed.receipt().unwrap();
        prop_assert!(
            verify_response(StatusCode::OK, &wire.fields, receipt, &edge_ring(), NOW_MS).is_err()
        );
        let mut fields = wire.fields;
        strip(&mut fields);
        prop_assert_eq!(strip(&mut fields), 0);
    }

    #[test]
    fn dictionaries_of_any_text_do_not_panic(text in "\\PC{0,60}", near in near_dictionary()) {
        for text in [text, near] {
            if let Ok(value) = HeaderValue::try_from(text.as_str()) {
                let _ = ControlBlock::decode(&value);
                let _ = TierResult::decode(&value);
            }
            let _ = TraceIds::from_traceparent(&text);
        }
    }

    #[test]
    fn key_files_of_any_text_do_not_panic(text in "\\PC{0,60}(\n(ed25519|hmac-sha256|ed25519-public) n k [A-Za-z0-9+/=]{0,99}){0,2}") {
        let _ = Keyring::parse([("f", text.as_str())]);
    }
}
