//! Verifying: nothing that was altered is believed, and nothing that was made up.
#![no_main]

use std::sync::LazyLock;

use control::{
    ControlBlock, KeyDigest, Keyring, Outgoing, Received, Scheme, TraceIds, seal, verify_request,
};
use headwater_fuzz::{NOW_MS, free_fields};
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use libfuzzer_sys::fuzz_target;

const AUTHORITY: &str = "shop.example";
const TARGET: &str = "/a?b";

static RING: LazyLock<Keyring> = LazyLock::new(|| {
    let line = "hmac-sha256 edge-1 edge-1-a AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=\n";
    Keyring::parse([("here", line)]).expect("a key of 32 bytes")
});

/// The fields of a request that is true.
static SEALED: LazyLock<HeaderMap> = LazyLock::new(|| {
    let key = RING.signing("edge-1").expect("the ring has its key");
    let outgoing = Outgoing {
        method: Method::GET,
        authority: AUTHORITY.to_owned(),
        path_and_query: TARGET.to_owned(),
        fields: HeaderMap::from_iter([(
            HeaderName::from_static("accept"),
            HeaderValue::from_static("text/html"),
        )]),
    };
    let block = ControlBlock {
        version: control::VERSION,
        to: Some("upper-1".into()),
        site: "shop".into(),
        pool: "main".into(),
        rev: "r7".into(),
        key: KeyDigest::of(b"a key"),
        hop: 1,
        node: "edge-1".into(),
        epoch: 42,
        scheme: Scheme::Https,
        trace: TraceIds {
            trace_id: [0xab; 16],
            span_id: [0xcd; 8],
            sampled: true,
        },
        background: false,
        only_if_cached: false,
    };
    let sealed = seal(outgoing, &block, key, None, NOW_MS).expect("it can be sealed");
    sealed.fields().clone()
});

/// Whether these fields make the request true.
fn believed(fields: &HeaderMap) -> bool {
    let received = Received {
        method: &Method::GET,
        authority: AUTHORITY,
        path_and_query: TARGET,
        fields,
    };
    verify_request(received, &RING, "upper-1", NOW_MS).is_ok()
}

fuzz_target!(|input: &[u8]| {
    // Made up: nobody without the key can.
    let fields = free_fields(input);
    assert!(!believed(&fields) || fields.get("signature") == SEALED.get("signature"));

    // Altered: one value, at one place, by one byte.
    let [which, place, byte, ..] = *input else {
        return;
    };
    let mut fields = SEALED.clone();
    assert!(believed(&fields));
    let names: Vec<_> = fields.keys().cloned().collect();
    let name = &names[usize::from(which) % names.len()];
    let mut value = fields[name].as_bytes().to_vec();
    let at = usize::from(place) % value.len();
    if value[at] == byte {
        return;
    }
    value[at] = byte;
    let Ok(value) = HeaderValue::from_bytes(&value) else {
        return;
    };
    // Space around a value is no part of it (RFC 9421 §2.1).
    if value.as_bytes().trim_ascii() == fields[name].as_bytes().trim_ascii() {
        return;
    }
    fields.insert(name, value);
    assert!(!believed(&fields), "{name} was altered: {fields:?}");
});
