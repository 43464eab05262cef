//! Two edges, an upper tier, their keys, and messages that a test can damage.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use control::{
    Algorithm, ControlBlock, Key, KeyDigest, Keyring, Outgoing, Received, Rejection, Scheme,
    SealedRequest, TierResult, TraceIds, Verified, generate, seal, verify_request,
};
use http::header::{HeaderName, HeaderValue};
use http::{HeaderMap, Method};

/// A moment, in Unix milliseconds.
pub(crate) const NOW_MS: u64 = 1_800_000_000_000;

/// A line for an hmac key whose 32 bytes are all `byte`.
pub(crate) fn hmac_line(node: &str, keyid: &str, byte: u8) -> String {
    format!(
        "hmac-sha256 {node} {keyid} {}\n",
        STANDARD.encode([byte; 32])
    )
}

pub(crate) fn ring(text: &str) -> Keyring {
    Keyring::parse([("test", text)]).unwrap()
}

/// What `edge-1` signs with in every test that does not say otherwise.
pub(crate) fn edge_ring() -> Keyring {
    ring(&hmac_line("edge-1", "edge-1-a", 1))
}

/// Edge and upper tier with ed25519 keys: each side's ring.
pub(crate) fn ed25519_rings() -> (Keyring, Keyring) {
    let edge = generate(Algorithm::Ed25519, "edge-1", "edge-1-e").unwrap();
    let upper = generate(Algorithm::Ed25519, "upper-1", "upper-1-e").unwrap();
    (
        ring(&format!(
            "{}\n{}",
            edge.private_line,
            upper.public_line.unwrap()
        )),
        ring(&format!(
            "{}\n{}",
            upper.private_line,
            edge.public_line.unwrap()
        )),
    )
}

pub(crate) fn signing_key(ring: &Keyring, node: &str) -> Arc<Key> {
    Arc::clone(ring.signing(node).unwrap())
}

pub(crate) fn block() -> ControlBlock {
    ControlBlock {
        version: control::VERSION,
        to: Some("upper-1".into()),
        site: "shop".into(),
        pool: "main".into(),
        rev: "r7".into(),
        key: KeyDigest::of(b"a canonical key"),
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
    }
}

pub(crate) fn result() -> TierResult {
    TierResult {
        version: control::VERSION,
        node: "upper-1".into(),
        outcome: "hit".into(),
        age_ms: Some(1500),
        date_s: Some(1_799_999_990),
        epoch: 42,
    }
}

pub(crate) fn fields(lines: &[(&'static str, &[u8])]) -> HeaderMap {
    let mut fields = HeaderMap::new();
    for (name, value) in lines {
        fields.append(
            HeaderName::from_static(name),
            HeaderValue::from_bytes(value).unwrap(),
        );
    }
    fields
}

pub(crate) fn outgoing() -> Outgoing {
    Outgoing {
        method: Method::GET,
        authority: "Shop.Example:8443".into(),
        path_and_query: "/a/b?c=d&e".into(),
        fields: fields(&[
            ("accept", b"text/html"),
            ("accept", b" */*;q=0.1 "),
            ("accept-language", b"de"),
            ("if-none-match", b"\"abc\""),
            ("x-empty", b""),
            ("x-latin", b"caf\xe9"),
            ("upgrade", b"websocket"),
        ]),
    }
}

/// A request on the wire, open to damage.
#[derive(Clone, Debug)]
pub(crate) struct Wire {
    pub(crate) method: Method,
    pub(crate) authority: String,
    pub(crate) path_and_query: String,
    pub(crate) fields: HeaderMap,
}

impl Wire {
    pub(crate) fn of(sealed: &SealedRequest) -> Self {
        let mut fields = sealed.fields().clone();
        // What the connection adds after sealing.
        fields.insert("host", sealed.authority().parse().unwrap());
        fields.insert("connection", "keep-alive".parse().unwrap());
        Self {
            method: sealed.method().clone(),
            authority: sealed.authority().to_owned(),
            path_and_query: sealed.path_and_query().to_owned(),
            fields,
        }
    }

    pub(crate) fn verify(&self, ring: &Keyring, now_ms: u64) -> Result<Verified, Rejection> {
        self.verify_at("upper-1", ring, now_ms)
    }

    pub(crate) fn verify_at(
        &self,
        node: &str,
        ring: &Keyring,
        now_ms: u64,
    ) -> Result<Verified, Rejection> {
        verify_request(
            Received {
                method: &self.method,
                authority: &self.authority,
                path_and_query: &self.path_and_query,
                fields: &self.fields,
            },
            ring,
            node,
            now_ms,
        )
    }

    /// Replaces text in a field that has one line.
    pub(crate) fn rewrite(&mut self, name: &str, from: &str, to: &str) {
        let value = self.fields[name].to_str().unwrap();
        assert!(value.contains(from), "{name}: {value}");
        let value = value.replacen(from, to, 1);
        self.fields.insert(
            HeaderName::try_from(name).unwrap(),
            value.try_into().unwrap(),
        );
    }
}

/// The usual request, sealed by `edge-1`.
pub(crate) fn sealed() -> SealedRequest {
    let key = signing_key(&edge_ring(), "edge-1");
    seal(outgoing(), &block(), &key, None, NOW_MS).unwrap()
}
