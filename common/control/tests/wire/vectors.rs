//! One exchange with every byte spelled out, so that another implementation can
//! be held against it and a change of the wire format cannot go unnoticed.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use control::{ControlBlock, Outgoing, TierResult, seal, sign_response};
use http::{Method, StatusCode};
use ring::hmac;

use crate::bed::{NOW_MS, Wire, block, edge_ring, fields, result, signing_key};

const CONTROL: &str = r#"v=2, to="upper-1", site="shop", pool="main", rev="r7", key=:W/jQURAFpGqj54jqQWcxfw==:, hop=1, node="edge-1", epoch=42, scheme=https, trace="00-abababababababababababababababab-cdcdcdcdcdcdcdcd-01", bg, oic"#;

const REQUEST_PARAMS: &str = r#"("@method" "@authority" "@path" "@query" "tier-control" "accept" "traceparent");created=1800000000;expires=1800000030;keyid="edge-1-a";alg="hmac-sha256";nonce="BwcHBwcHBwcHBwcHBwcHBw==";tag="headwater-request""#;

const REQUEST_BASE: &str = r#""@method": POST
"@authority": shop.example
"@path": /a/b
"@query": ?c=d&e
"tier-control": CONTROL
"accept": text/html, */*;q=0.1
"traceparent": 00-abababababababababababababababab-cdcdcdcdcdcdcdcd-01
"@signature-params": PARAMS"#;

const RESULT: &str = r#"v=2, node="upper-1", outcome=hit, age_ms=1500, date=1799999990, epoch=42"#;

const RESPONSE_PARAMS: &str = r#"("@status" "tier-result" "cache-control" "set-cookie";bs "signature";req;key="tier");created=1800000000;expires=1800000030;keyid="edge-1-a";alg="hmac-sha256";tag="headwater-response""#;

const RESPONSE_BASE: &str = r#""@status": 200
"tier-result": RESULT
"cache-control": max-age=60, private
"set-cookie";bs: :YT1i:, :Yz1k:
"signature";req;key="tier": :REQUEST_SIGNATURE:
"@signature-params": PARAMS"#;

/// The secret of `edge-1-a`: 32 bytes of 1.
fn mac(base: &str) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, &[1; 32]);
    STANDARD.encode(hmac::sign(&key, base.as_bytes()))
}

#[test]
fn the_signature_bases_are_these_texts() {
    let spelled = ControlBlock {
        background: true,
        only_if_cached: true,
        ..block()
    };
    let request = Outgoing {
        method: Method::POST,
        authority: "Shop.Example:443".into(),
        path_and_query: "/a/b?c=d&e".into(),
        fields: fields(&[
            ("accept", b"text/html"),
            ("accept", b" */*;q=0.1\t"),
            ("content-length", b"3"),
        ]),
    };
    let key = signing_key(&edge_ring(), "edge-1");
    let sealed = seal(request, &spelled, &key, Some([7; 16]), NOW_MS + 999).unwrap();
    let request_signature = mac(&REQUEST_BASE
        .replace("CONTROL", CONTROL)
        .replace("PARAMS", REQUEST_PARAMS));
    assert_eq!(sealed.fields()["tier-control"], CONTROL);
    assert_eq!(
        sealed.fields()["signature-input"],
        format!("tier={REQUEST_PARAMS}").as_str()
    );
    assert_eq!(
        sealed.fields()["signature"],
        format!("tier=:{request_signature}:").as_str()
    );

    let verified = Wire::of(&sealed).verify(&edge_ring(), NOW_MS).unwrap();
    assert_eq!(verified.block(), &spelled);
    assert_eq!(verified.nonce(), Some("BwcHBwcHBwcHBwcHBwcHBw=="));
    let mut answer = fields(&[
        ("cache-control", b"max-age=60"),
        ("cache-control", b"private"),
        ("date", b"Tue, 20 Apr 2021 02:07:55 GMT"),
        ("set-cookie", b"a=b"),
        ("set-cookie", b"c=d"),
    ]);
    let ok = StatusCode::OK;
    sign_response(ok, &mut answer, &result(), &verified, None, NOW_MS).unwrap();
    let response_signature = mac(&RESPONSE_BASE
        .replace("RESULT", RESULT)
        .replace("REQUEST_SIGNATURE", &request_signature)
        .replace("PARAMS", RESPONSE_PARAMS));
    assert_eq!(answer["tier-result"], RESULT);
    assert_eq!(
        answer["signature-input"],
        format!("tier={RESPONSE_PARAMS}").as_str()
    );
    assert_eq!(
        answer["signature"],
        format!("tier=:{response_signature}:").as_str()
    );
    let read = TierResult::decode(&answer["tier-result"]).unwrap();
    assert_eq!(read, result());
}

#[test]
fn unknown_keys_and_flags_that_are_false_are_read_past() {
    let value = CONTROL
        .replace(", bg, oic", ", bg=?0, later=(1 2);x, oic=?0")
        .try_into()
        .unwrap();
    assert_eq!(ControlBlock::decode(&value).unwrap(), block());
}
