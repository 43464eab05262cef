//! What an upper tier tells the node below about its answer: `Tier-Result`.

use http::HeaderValue;
use sfv::{DictSerializer, key_ref};

use crate::block::{check_version, understood};
use crate::error::SealError;
use crate::sf::{self, Members};
use crate::{Rejection, VERSION};

/// What the answering node says about its answer, in the dictionary keys of
/// `Tier-Result`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TierResult {
    /// `v`: the version spoken, [`VERSION`].
    pub version: u8,
    /// `node`: the answering node. With an ed25519 key it is proven; with an
    /// hmac key it is as good as the set of nodes that hold the edge's key.
    pub node: String,
    /// `outcome`: a token, such as `hit`, `stale` or `miss`, or one of [`NoAnswer`]. Where
    /// the answering node missed and asked a further tier, it is what that one said: a
    /// miss is a fetch from the origin.
    pub outcome: String,
    /// `age_ms`: the answer's age when it was sent, in milliseconds; absent when
    /// the answer did not come through a cache.
    pub age_ms: Option<u64>,
    /// `date`: the origin's `Date` in Unix seconds. It rides here because
    /// pingora's sessions rewrite the `Date` field, which is why that field is
    /// not signed.
    pub date_s: Option<u64>,
    /// `epoch`: the purge epoch that the answering node has seen.
    pub epoch: u64,
}

/// What an upper tier says as its outcome where no origin server answered it. An edge
/// of before that knows neither word takes the answer for an origin's error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoAnswer {
    /// `unreached`: none could be connected to, so that nothing of the request was sent.
    Unreached,
    /// `unanswered`: something was sent, and no head of an answer came back.
    Unanswered,
}

impl NoAnswer {
    /// The token.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unreached => "unreached",
            Self::Unanswered => "unanswered",
        }
    }

    /// What an outcome says of it, if it does.
    #[must_use]
    pub fn of(outcome: &str) -> Option<Self> {
        let all = [Self::Unreached, Self::Unanswered];
        all.into_iter().find(|said| said.as_str() == outcome)
    }
}

impl TierResult {
    /// The value of `Tier-Result`.
    ///
    /// # Errors
    /// [`SealError::Unencodable`] for a node that is not printable ASCII, an
    /// outcome that is no token, a number of more than fifteen digits, or a
    /// version this build does not speak.
    pub fn encode(&self) -> Result<HeaderValue, SealError> {
        if !understood(self.version) {
            return Err(SealError::Unencodable {
                what: "v",
                why: "this build does not speak that version",
            });
        }
        let mut text = String::with_capacity(128);
        let mut out = DictSerializer::with_buffer(&mut text);
        let _ = out.bare_item(key_ref("v"), self.version);
        let _ = out.bare_item(key_ref("node"), sf::string("node", &self.node)?);
        let _ = out.bare_item(key_ref("outcome"), sf::token("outcome", &self.outcome)?);
        if let Some(age_ms) = self.age_ms {
            let _ = out.bare_item(key_ref("age_ms"), sf::integer("age_ms", age_ms)?);
        }
        if let Some(date_s) = self.date_s {
            let _ = out.bare_item(key_ref("date"), sf::integer("date", date_s)?);
        }
        let _ = out.bare_item(key_ref("epoch"), sf::integer("epoch", self.epoch)?);
        Ok(HeaderValue::try_from(text).expect("a serialized dictionary is visible ASCII"))
    }

    /// Reads the value of `Tier-Result`. Keys we do not know are ignored.
    ///
    /// # Errors
    /// `Malformed`, with what is missing or wrong.
    pub fn decode(value: &HeaderValue) -> Result<Self, Rejection> {
        let text = value
            .to_str()
            .map_err(|_| Rejection::malformed("Tier-Result is not visible ASCII"))?;
        Self::read(text).map_err(|what| Rejection::malformed(format!("Tier-Result {what}")))
    }

    fn read(text: &str) -> Result<Self, String> {
        let members = Members::parse(text)?;
        let version = members.integer("v")?;
        check_version(version)?;
        let optional = |key: &str| {
            members
                .contains(key)
                .then(|| members.integer(key))
                .transpose()
        };
        Ok(Self {
            version,
            node: members.string("node")?.to_owned(),
            outcome: members.token("outcome")?.to_owned(),
            age_ms: optional("age_ms")?,
            date_s: optional("date")?,
            epoch: members.integer("epoch")?,
        })
    }
}

const _: () = assert!(VERSION >= 1, "VERSION - 1 must exist");
