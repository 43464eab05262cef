//! Control blocks made by hand: right in everything, until a scenario bends one
//! thing.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use control::{ControlBlock, Key, KeyDigest, Keyring, Outgoing, Scheme, SealedRequest, TraceIds};
use http::{HeaderMap, Method};

use crate::ask::HOST;
use crate::clock;

/// A request to an upper tier, before it is sealed.
#[derive(Clone, Debug)]
pub struct Forge {
    /// What the control block will say.
    pub block: ControlBlock,
    /// The method.
    pub method: Method,
    /// The authority.
    pub authority: String,
    /// The target.
    pub path_and_query: String,
    /// Further fields.
    pub fields: HeaderMap,
    /// The key it will be signed with.
    pub key: Arc<Key>,
    /// The nonce of an unsafe request.
    pub nonce: Option<[u8; 16]>,
    /// When it will have been signed, Unix milliseconds.
    pub now_ms: u64,
}

impl Forge {
    /// What `edge` would send to an upper tier of the topology in `folder`.
    ///
    /// # Panics
    /// When the edge has no key there.
    #[must_use]
    pub fn new(folder: &Path, edge: &str, method: &str, path_and_query: &str) -> Self {
        let method = Method::from_bytes(method.as_bytes()).expect("the method is a token");
        let text = fs::read_to_string(folder.join(format!("{edge}.key")));
        let key = key(edge, &text.expect("the edge has a key"));
        let sites = config::load_sites(&folder.join("sites.toml"));
        // The canonical key, spelled out: nodes of two versions must agree on it.
        let canonical = format!("shop\0http\0{HOST}\0{path_and_query}\0");
        Self {
            block: ControlBlock {
                version: control::VERSION,
                to: Some("upper-1".to_owned()),
                site: "shop".to_owned(),
                pool: "shop".to_owned(),
                rev: sites.expect("the sites file is good").revision,
                key: KeyDigest::of(canonical.as_bytes()),
                hop: 1,
                node: edge.to_owned(),
                epoch: 0,
                scheme: Scheme::Http,
                trace: TraceIds {
                    trace_id: [7; 16],
                    span_id: [7; 8],
                    sampled: false,
                },
                background: false,
                only_if_cached: false,
            },
            nonce: (!method.is_safe()).then_some([9; 16]),
            method,
            authority: HOST.to_owned(),
            path_and_query: path_and_query.to_owned(),
            fields: HeaderMap::new(),
            key,
            now_ms: clock::now_ms(),
        }
    }

    /// Signs with the key in this line of a key file.
    ///
    /// # Panics
    /// When the line is no key of the node that the block speaks for.
    #[must_use]
    pub fn signed_by(mut self, line: &str) -> Self {
        self.key = key(&self.block.node, line);
        self
    }

    /// Seals it.
    ///
    /// # Panics
    /// When `control` will not.
    #[must_use]
    pub fn seal(self) -> SealedRequest {
        let outgoing = Outgoing {
            method: self.method,
            authority: self.authority,
            path_and_query: self.path_and_query,
            fields: self.fields,
        };
        control::seal(outgoing, &self.block, &self.key, self.nonce, self.now_ms)
            .expect("the forged block can be sealed")
    }

    /// Seals it and writes it as bytes, without a body.
    #[must_use]
    pub fn bytes(self) -> Vec<u8> {
        let sealed = self.seal();
        let target = sealed.path_and_query().to_owned();
        wire(&sealed, &target)
    }

    /// Seals it and sends it to another path than it was sealed for.
    #[must_use]
    pub fn bytes_to(self, target: &str) -> Vec<u8> {
        wire(&self.seal(), target)
    }
}

/// The key in a key file's text.
fn key(node: &str, text: &str) -> Arc<Key> {
    let ring = Keyring::parse([("key", text)]).expect("the key file is good");
    Arc::clone(ring.signing(node).expect("the key signs for the node"))
}

fn wire(sealed: &SealedRequest, target: &str) -> Vec<u8> {
    let mut out = format!(
        "{} {target} HTTP/1.1\r\nHost: {}\r\n",
        sealed.method(),
        sealed.authority()
    )
    .into_bytes();
    for (name, value) in sealed.fields() {
        out.extend_from_slice(name.as_str().as_bytes());
        out.extend_from_slice(b": ");
        out.extend_from_slice(value.as_bytes());
        out.extend_from_slice(b"\r\n");
    }
    if !sealed.method().is_safe() {
        out.extend_from_slice(b"Content-Length: 0\r\n");
    }
    out.extend_from_slice(b"\r\n");
    out
}
