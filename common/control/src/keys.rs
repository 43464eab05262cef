//! Keys and the files they come from.
//!
//! One key a line; `#` begins a comment, blank lines mean nothing:
//!
//! ```text
//! hmac-sha256    <node> <keyid> <base64 secret, at least 32 bytes>
//! ed25519        <node> <keyid> <base64 PKCS#8 private key>
//! ed25519-public <node> <keyid> <base64 public key, 32 bytes>
//! ```
//!
//! A key belongs to one node and speaks for that node alone. The first line of a
//! node that can sign is the one the node signs with, and every line is accepted:
//! to rotate, add the new key below the old one everywhere, then above it, then
//! take the old one away.
//!
//! Invariants: a key id is unique in a ring; neither an error nor `Debug` repeats
//! what stands in the fourth column.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fmt;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::signature::{self, Ed25519KeyPair, KeyPair as _};
use ring::{hmac, signature::UnparsedPublicKey};

/// Shortest secret an `hmac-sha256` line may hold, in bytes: the length of the
/// digest (RFC 2104 §3).
pub const HMAC_SECRET_BYTES_MIN: usize = 32;

/// How a key signs: the `alg` values of RFC 9421 §6.2.2 that we speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Algorithm {
    /// A secret that both sides hold. Fast; one secret per edge.
    HmacSha256,
    /// A private key for the signer, a public one for the verifiers.
    Ed25519,
}

impl Algorithm {
    /// The name in `alg`, in key files and on command lines.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::HmacSha256 => "hmac-sha256",
            Self::Ed25519 => "ed25519",
        }
    }

    /// The algorithm of that name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        [Self::HmacSha256, Self::Ed25519]
            .into_iter()
            .find(|algorithm| algorithm.as_str() == name)
    }
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One node's key. `Debug` shows whose it is and never what it is.
pub struct Key {
    node: String,
    keyid: String,
    material: Material,
}

enum Material {
    Hmac(hmac::Key),
    Pair(Ed25519KeyPair),
    Public([u8; 32]),
}

impl Key {
    /// The node this key speaks for.
    #[must_use]
    pub fn node(&self) -> &str {
        &self.node
    }

    /// The id that `keyid` names it by.
    #[must_use]
    pub fn keyid(&self) -> &str {
        &self.keyid
    }

    /// How it signs.
    #[must_use]
    pub fn algorithm(&self) -> Algorithm {
        match self.material {
            Material::Hmac(_) => Algorithm::HmacSha256,
            Material::Pair(_) | Material::Public(_) => Algorithm::Ed25519,
        }
    }

    /// Whether it can sign, and not only verify.
    #[must_use]
    pub fn can_sign(&self) -> bool {
        !matches!(self.material, Material::Public(_))
    }

    /// Signs the base; `None` for a public key.
    pub(crate) fn sign(&self, base: &[u8]) -> Option<Box<[u8]>> {
        match &self.material {
            Material::Hmac(key) => Some(hmac::sign(key, base).as_ref().into()),
            Material::Pair(pair) => Some(pair.sign(base).as_ref().into()),
            Material::Public(_) => None,
        }
    }

    /// Whether `signature` is this key's over `base`. Comparison takes constant
    /// time in both algorithms.
    pub(crate) fn verifies(&self, base: &[u8], signature: &[u8]) -> bool {
        let public = |bytes: &[u8]| {
            UnparsedPublicKey::new(&signature::ED25519, bytes)
                .verify(base, signature)
                .is_ok()
        };
        match &self.material {
            Material::Hmac(key) => hmac::verify(key, base, signature).is_ok(),
            Material::Pair(pair) => public(pair.public_key().as_ref()),
            Material::Public(bytes) => public(bytes),
        }
    }

    /// Reads one line that is neither blank nor a comment.
    fn parse(line: &str) -> Result<Self, Fault> {
        let mut words = line.split_ascii_whitespace();
        let (Some(kind), Some(node), Some(keyid), Some(encoded), None) = (
            words.next(),
            words.next(),
            words.next(),
            words.next(),
            words.next(),
        ) else {
            return Err(Fault::new(
                "a key line has four words",
                "write `<algorithm> <node> <keyid> <base64>`",
            ));
        };
        for (what, name) in [("node", node), ("keyid", keyid)] {
            if !is_name(name) {
                return Err(Fault::new(
                    format!("the {what} is not a name"),
                    "use printable ASCII without quotes, backslashes and spaces, 128 at most",
                ));
            }
        }
        // The bytes go no further than the constructors below, and no error says
        // more of them than their number.
        let material = match kind {
            "hmac-sha256" => hmac_secret(&decode(encoded)?)?,
            "ed25519" => ed25519_pair(&decode(encoded)?)?,
            "ed25519-public" => ed25519_public(&decode(encoded)?)?,
            _ => {
                return Err(Fault::new(
                    "the algorithm is not one of ours",
                    "use hmac-sha256, ed25519 or ed25519-public",
                ));
            }
        };
        Ok(Self {
            node: node.to_owned(),
            keyid: keyid.to_owned(),
            material,
        })
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Key")
            .field("node", &self.node)
            .field("keyid", &self.keyid)
            .field("algorithm", &self.algorithm())
            .field("can_sign", &self.can_sign())
            .finish_non_exhaustive()
    }
}

/// Every key a node holds: its own and those of its neighbours.
#[derive(Clone, Debug, Default)]
pub struct Keyring {
    by_keyid: HashMap<String, Arc<Key>>,
    signing: HashMap<String, Arc<Key>>,
}

impl Keyring {
    /// Reads key texts, each with the name of the file or variable it came from.
    ///
    /// # Errors
    /// Everything that is wrong in all of them, not the first alone. A text
    /// without a single key is an error: an empty file is a deployment that
    /// failed, and a node that starts without keys refuses every request.
    pub fn parse<'a>(
        texts: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> Result<Self, Vec<KeyError>> {
        let mut ring = Self::default();
        let mut errors = Vec::new();
        for (source, text) in texts {
            let mut lines = text
                .lines()
                .enumerate()
                .map(|(index, line)| (index + 1, line.trim()))
                .filter(|(_, line)| !line.is_empty() && !line.starts_with('#'))
                .peekable();
            if lines.peek().is_none() {
                errors.push(KeyError::new(
                    source,
                    None,
                    Fault::new(
                        "it holds no key",
                        "write one with `headwater keygen`, or take it out of the configuration",
                    ),
                ));
            }
            for (number, line) in lines {
                if let Err(fault) = Key::parse(line).and_then(|key| ring.add(key)) {
                    errors.push(KeyError::new(source, Some(number), fault));
                }
            }
        }
        if errors.is_empty() {
            Ok(ring)
        } else {
            Err(errors)
        }
    }

    fn add(&mut self, key: Key) -> Result<(), Fault> {
        let Entry::Vacant(place) = self.by_keyid.entry(key.keyid.clone()) else {
            return Err(Fault::new(
                format!("the keyid `{}` is there already", key.keyid),
                "give every key an id of its own",
            ));
        };
        let key = Arc::new(key);
        place.insert(Arc::clone(&key));
        if key.can_sign() {
            self.signing.entry(key.node.clone()).or_insert(key);
        }
        Ok(())
    }

    /// The key that `node` signs with: its first that can.
    #[must_use]
    pub fn signing(&self, node: &str) -> Option<&Arc<Key>> {
        self.signing.get(node)
    }

    /// The key with that id.
    #[must_use]
    pub fn find(&self, keyid: &str) -> Option<&Arc<Key>> {
        self.by_keyid.get(keyid)
    }

    /// Whether there is no key at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.by_keyid.is_empty()
    }
}

/// One thing wrong with a key text. It never repeats key material.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyError {
    /// The file or variable, as the caller named it.
    pub source: String,
    /// The line, counted from 1; `None` when it is about the whole text.
    pub line: Option<usize>,
    /// What is wrong.
    pub what: String,
    /// What to do about it.
    pub mend: String,
}

impl KeyError {
    fn new(source: &str, line: Option<usize>, fault: Fault) -> Self {
        Self {
            source: source.to_owned(),
            line,
            what: fault.what,
            mend: fault.mend.to_owned(),
        }
    }
}

impl fmt::Display for KeyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.source)?;
        if let Some(line) = self.line {
            write!(f, ":{line}")?;
        }
        write!(f, ": {}: {}", self.what, self.mend)
    }
}

impl std::error::Error for KeyError {}

/// A [`KeyError`] before anyone knows where it stands.
struct Fault {
    what: String,
    mend: &'static str,
}

impl Fault {
    fn new(what: impl Into<String>, mend: &'static str) -> Self {
        Self {
            what: what.into(),
            mend,
        }
    }
}

/// Names travel inside quotes in `Signature-Input` and `Tier-Control`; without
/// quotes and backslashes nothing there ever needs an escape.
pub(crate) fn is_name(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= 128
        && !text.starts_with('#')
        && text
            .bytes()
            .all(|b| b.is_ascii_graphic() && b != b'"' && b != b'\\')
}

fn decode(encoded: &str) -> Result<Vec<u8>, Fault> {
    // The decoder's own error would quote a byte of the key.
    STANDARD.decode(encoded).map_err(|_| {
        Fault::new(
            "the key is not base64",
            "copy the line whole, with its padding, as `headwater keygen` printed it",
        )
    })
}

fn hmac_secret(bytes: &[u8]) -> Result<Material, Fault> {
    if bytes.len() < HMAC_SECRET_BYTES_MIN {
        return Err(Fault::new(
            format!(
                "the secret has {} bytes of at least {HMAC_SECRET_BYTES_MIN}",
                bytes.len()
            ),
            "make one with `headwater keygen`",
        ));
    }
    Ok(Material::Hmac(hmac::Key::new(hmac::HMAC_SHA256, bytes)))
}

fn ed25519_pair(bytes: &[u8]) -> Result<Material, Fault> {
    // `maybe_unchecked` also reads PKCS#8 version 1, which is what
    // `openssl genpkey -algorithm ED25519` writes.
    Ed25519KeyPair::from_pkcs8_maybe_unchecked(bytes)
        .map(Material::Pair)
        .map_err(|_| {
            Fault::new(
                "the key is not an ed25519 private key in PKCS#8",
                "make one with `headwater keygen`; a public key's line begins with ed25519-public",
            )
        })
}

fn ed25519_public(bytes: &[u8]) -> Result<Material, Fault> {
    bytes.try_into().map(Material::Public).map_err(|_| {
        Fault::new(
            format!("the public key has {} bytes instead of 32", bytes.len()),
            "use the `ed25519-public` line that `headwater keygen` printed",
        )
    })
}
