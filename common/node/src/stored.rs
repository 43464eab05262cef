//! What a node has stored, as plain values: for a test that compares nodes.

use bytes::Bytes;

use crate::start::Running;

/// One key and what is stored under it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredKey {
    /// The primary key.
    pub key: Vec<u8>,
    /// Until when requests for it do not wait for one another, Unix ms; 0 for never.
    pub pass_until_ms: u64,
    /// Its variants, newest first.
    pub variants: Vec<StoredVariant>,
}

/// One stored response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredVariant {
    /// Its status.
    pub status: u16,
    /// Its fields, by name and in order.
    pub fields: Vec<(String, Vec<u8>)>,
    /// The lines that are sent ahead of it, as they are prepared.
    pub head: Bytes,
    /// Its body.
    pub body: Bytes,
    /// What is known about its freshness, in the words of the code.
    pub facts: String,
    /// The request fields that select it, and their values, in the words of the code.
    pub selected_by: String,
    /// `Cache-Status` as it came from the tiers behind.
    pub upstream_cache_status: Option<Vec<u8>>,
    /// When it was stored or last freshened, Unix ms.
    pub stored_ms: u64,
}

impl Running {
    /// Everything that is stored here, by key. Looks at every object, so it is nothing
    /// to be asked while visitors wait.
    #[must_use]
    pub fn stored(&self) -> Vec<StoredKey> {
        let store = &self.node().store;
        let mut keys = store.keys_beginning(b"");
        keys.sort_unstable();
        keys.iter()
            .filter_map(|key| {
                let entry = store.get(key.as_bytes())?;
                Some(StoredKey {
                    key: key.as_bytes().to_vec(),
                    pass_until_ms: entry.pass_until_ms,
                    variants: entry
                        .variants
                        .iter()
                        .map(|object| variant(object))
                        .collect(),
                })
            })
            .collect()
    }
}

fn variant(object: &store::Object) -> StoredVariant {
    let fields = object.fields.iter();
    StoredVariant {
        status: object.status.as_u16(),
        fields: fields
            .map(|(name, value)| (name.to_string(), value.as_bytes().to_vec()))
            .collect(),
        head: object.head.clone(),
        body: object.body.clone(),
        facts: format!("{:?}", object.facts),
        selected_by: format!("{:?} {:?}", object.vary, object.selector),
        upstream_cache_status: object
            .upstream_cache_status
            .as_ref()
            .map(|value| value.as_bytes().to_vec()),
        stored_ms: object.stored_ms,
    }
}
