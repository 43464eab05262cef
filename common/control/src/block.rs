//! What a node tells the upper tier about a request: `Tier-Control`.

use std::fmt;

use http::HeaderValue;
use sfv::{DictSerializer, key_ref, token_ref};

use crate::error::SealError;
use crate::sf::{self, Members};
use crate::trace::{TraceIds, push_hex};
use crate::{Rejection, VERSION};

/// The visitor's scheme: part of the key, and of what an origin is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Scheme {
    /// Cleartext.
    Http,
    /// TLS.
    Https,
}

impl Scheme {
    /// `http` or `https`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }

    /// The port that an authority of this scheme does not spell out.
    pub(crate) const fn default_port(self) -> &'static str {
        match self {
            Self::Http => ":80",
            Self::Https => ":443",
        }
    }
}

impl fmt::Display for Scheme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The first 128 bits of SHA-256 over the canonical primary key. Both tiers must
/// arrive at the same one.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct KeyDigest(pub [u8; 16]);

impl KeyDigest {
    /// Digests the canonical key's bytes.
    #[must_use]
    pub fn of(canonical_key: &[u8]) -> Self {
        let digest = ring::digest::digest(&ring::digest::SHA256, canonical_key);
        let half = digest
            .as_ref()
            .first_chunk::<16>()
            .expect("SHA-256 is 32 bytes");
        Self(*half)
    }
}

impl fmt::Display for KeyDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = String::with_capacity(32);
        push_hex(&mut text, &self.0);
        f.write_str(&text)
    }
}

impl fmt::Debug for KeyDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyDigest({self})")
    }
}

/// What the upper tier must know about a request, in the dictionary keys of
/// `Tier-Control`. Every field is named wherever one is made: a block that lost
/// something does not compile.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ControlBlock {
    /// `v`: the version spoken, [`VERSION`] unless a peer is older.
    pub version: u8,
    /// `to`: the node that the request is for, so that what was recorded on the way
    /// to one upper tier is worth nothing at another. A block of version 1 has none.
    pub to: Option<String>,
    /// `site`: the site's name in the configuration.
    pub site: String,
    /// `pool`: the origin pool's name in the configuration.
    pub pool: String,
    /// `rev`: revision of the site's configuration. It informs, never refuses.
    pub rev: String,
    /// `key`: digest of the primary cache key.
    pub key: KeyDigest,
    /// `hop`: how many tiers the request has passed.
    pub hop: u8,
    /// `node`: the sending node, which must own the signing key.
    pub node: String,
    /// `epoch`: 0 where the sender never purged this key, else one more than the
    /// milliseconds since it did.
    pub epoch: u64,
    /// `scheme`: the visitor's.
    pub scheme: Scheme,
    /// `trace`: the trace context the receiver continues.
    pub trace: TraceIds,
    /// `bg`: a refresh nobody waits for. The upper tier must revalidate and not
    /// answer with something stale.
    pub background: bool,
    /// `oic`: the visitor said `only-if-cached`; nothing may be fetched.
    pub only_if_cached: bool,
}

impl ControlBlock {
    /// The value of `Tier-Control`.
    ///
    /// # Errors
    /// [`SealError::Unencodable`] for a name that is not printable ASCII, an
    /// epoch of more than fifteen digits, all-zero trace ids, a version this build
    /// does not speak, or a receiver that is not there although the version asks
    /// for one, or the other way round.
    pub fn encode(&self) -> Result<HeaderValue, SealError> {
        if !understood(self.version) {
            return Err(SealError::Unencodable {
                what: "v",
                why: "this build does not speak that version",
            });
        }
        if !self.trace.is_valid() {
            return Err(SealError::Unencodable {
                what: "trace",
                why: "an all-zero id is not valid",
            });
        }
        if self.to.is_some() != names_receiver(self.version) {
            return Err(SealError::Unencodable {
                what: "to",
                why: "version 2 names the receiver and version 1 cannot",
            });
        }
        let trace = self.trace.to_traceparent();
        let mut text = String::with_capacity(256);
        let mut out = DictSerializer::with_buffer(&mut text);
        let _ = out.bare_item(key_ref("v"), self.version);
        if let Some(to) = &self.to {
            let _ = out.bare_item(key_ref("to"), sf::string("to", to)?);
        }
        let _ = out.bare_item(key_ref("site"), sf::string("site", &self.site)?);
        let _ = out.bare_item(key_ref("pool"), sf::string("pool", &self.pool)?);
        let _ = out.bare_item(key_ref("rev"), sf::string("rev", &self.rev)?);
        let _ = out.bare_item(key_ref("key"), self.key.0.as_slice());
        let _ = out.bare_item(key_ref("hop"), self.hop);
        let _ = out.bare_item(key_ref("node"), sf::string("node", &self.node)?);
        let _ = out.bare_item(key_ref("epoch"), sf::integer("epoch", self.epoch)?);
        let _ = out.bare_item(
            key_ref("scheme"),
            match self.scheme {
                Scheme::Http => token_ref("http"),
                Scheme::Https => token_ref("https"),
            },
        );
        let _ = out.bare_item(key_ref("trace"), sf::string("trace", &trace)?);
        for (key, set) in [("bg", self.background), ("oic", self.only_if_cached)] {
            if set {
                let _ = out.bare_item(key_ref(key), true);
            }
        }
        Ok(HeaderValue::try_from(text).expect("a serialized dictionary is visible ASCII"))
    }

    /// Reads the value of `Tier-Control`. Keys we do not know are ignored.
    ///
    /// # Errors
    /// `Malformed`, with what is missing or wrong.
    pub fn decode(value: &HeaderValue) -> Result<Self, Rejection> {
        let text = value
            .to_str()
            .map_err(|_| Rejection::malformed("Tier-Control is not visible ASCII"))?;
        Self::read(text).map_err(|what| Rejection::malformed(format!("Tier-Control {what}")))
    }

    fn read(text: &str) -> Result<Self, String> {
        let members = Members::parse(text)?;
        let version = members.integer("v")?;
        check_version(version)?;
        Ok(Self {
            version,
            to: names_receiver(version)
                .then(|| members.string("to").map(str::to_owned))
                .transpose()?,
            site: members.string("site")?.to_owned(),
            pool: members.string("pool")?.to_owned(),
            rev: members.string("rev")?.to_owned(),
            key: members
                .bytes("key")?
                .try_into()
                .map(KeyDigest)
                .map_err(|_| "has a `key` that is not 16 bytes long".to_owned())?,
            hop: members.integer("hop")?,
            node: members.string("node")?.to_owned(),
            epoch: members.integer("epoch")?,
            scheme: match members.token("scheme")? {
                "http" => Scheme::Http,
                "https" => Scheme::Https,
                _ => return Err("has a `scheme` other than http and https".to_owned()),
            },
            trace: members
                .string("trace")?
                .parse()
                .map_err(|e| format!("has a `trace` that is {e}"))?,
            background: members.flag("bg")?,
            only_if_cached: members.flag("oic")?,
        })
    }
}

/// Whether a block of this version says whom it is for.
fn names_receiver(version: u8) -> bool {
    version >= 2
}

/// Whether we can read a block of this version: ours, or the one before.
pub(crate) fn understood(version: u8) -> bool {
    (VERSION - 1..=VERSION).contains(&version)
}

/// The same question, with an answer for the operator.
pub(crate) fn check_version(version: u8) -> Result<(), String> {
    if understood(version) {
        return Ok(());
    }
    let mend = if version > VERSION {
        "upgrade this node first"
    } else {
        "upgrade the sender"
    };
    Err(format!(
        "speaks version {version} and this node understands {} and {VERSION}: {mend}",
        VERSION - 1
    ))
}
