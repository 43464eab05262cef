//! Reading members of an RFC 9651 dictionary, with errors that name the key.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::HeaderMap;
use http::header::HeaderName;
use sfv::{BareItem, Dictionary, ListEntry, Parser, StringRef, TokenRef};

use crate::error::SealError;

/// The largest integer a structured field can carry (RFC 9651 §3.3.1).
pub(crate) const INTEGER_MAX: u64 = 999_999_999_999_999;

/// A parsed dictionary whose members are asked for by name and type.
pub(crate) struct Members(Dictionary);

impl Members {
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        Parser::new(text)
            .parse::<Dictionary>()
            .map(Self)
            .map_err(|e| format!("is not an RFC 9651 dictionary ({e})"))
    }

    fn item(&self, key: &str) -> Option<&BareItem> {
        match self.0.get(key)? {
            ListEntry::Item(item) => Some(&item.bare_item),
            ListEntry::InnerList(_) => None,
        }
    }

    /// Whether the key is there at all, whatever its type.
    pub(crate) fn contains(&self, key: &str) -> bool {
        self.0.contains_key(key)
    }

    pub(crate) fn string(&self, key: &str) -> Result<&str, String> {
        self.item(key)
            .and_then(BareItem::as_string)
            .map(StringRef::as_str)
            .ok_or_else(|| self.lacks(key, "a string"))
    }

    pub(crate) fn token(&self, key: &str) -> Result<&str, String> {
        self.item(key)
            .and_then(BareItem::as_token)
            .map(TokenRef::as_str)
            .ok_or_else(|| self.lacks(key, "a token"))
    }

    pub(crate) fn bytes(&self, key: &str) -> Result<&[u8], String> {
        self.item(key)
            .and_then(BareItem::as_byte_sequence)
            .ok_or_else(|| self.lacks(key, "a byte sequence"))
    }

    /// A non-negative integer that fits `T`.
    pub(crate) fn integer<T: TryFrom<i64>>(&self, key: &str) -> Result<T, String> {
        self.item(key)
            .and_then(BareItem::as_integer)
            .and_then(|n| T::try_from(i64::from(n)).ok())
            .ok_or_else(|| self.lacks(key, "an integer in its range"))
    }

    /// A boolean that is false when it is not there.
    pub(crate) fn flag(&self, key: &str) -> Result<bool, String> {
        if !self.contains(key) {
            return Ok(false);
        }
        self.item(key)
            .and_then(BareItem::as_boolean)
            .ok_or_else(|| self.lacks(key, "a boolean"))
    }

    fn lacks(&self, key: &str, kind: &str) -> String {
        if self.contains(key) {
            format!("has a `{key}` that is not {kind}")
        } else {
            format!("has no `{key}`")
        }
    }
}

/// A string as the encoding can carry it: printable ASCII (RFC 9651 §3.3.3).
pub(crate) fn string<'a>(what: &'static str, text: &'a str) -> Result<&'a StringRef, SealError> {
    StringRef::from_str(text).map_err(|_| SealError::Unencodable {
        what,
        why: "it must be printable ASCII",
    })
}

/// A token (RFC 9651 §3.3.4).
pub(crate) fn token<'a>(what: &'static str, text: &'a str) -> Result<&'a TokenRef, SealError> {
    TokenRef::from_str(text).map_err(|_| SealError::Unencodable {
        what,
        why: "it must be a token, such as `hit`",
    })
}

/// A non-negative integer of at most fifteen digits.
pub(crate) fn integer(what: &'static str, value: u64) -> Result<sfv::Integer, SealError> {
    sfv::Integer::try_from(value).map_err(|_| SealError::Unencodable {
        what,
        why: "it must have at most fifteen digits",
    })
}

/// Appends a byte sequence, `:base64:` (RFC 9651 §4.1.8).
pub(crate) fn push_bytes(out: &mut String, bytes: &[u8]) {
    out.push(':');
    STANDARD.encode_string(bytes, out);
    out.push(':');
}

/// A field's lines as one text, joined as RFC 9110 §5.3 allows. `Ok(None)` when
/// the field is absent, `Err` when a line is not visible ASCII.
pub(crate) fn joined(fields: &HeaderMap, name: &HeaderName) -> Result<Option<String>, ()> {
    let mut lines = fields.get_all(name).iter();
    let Some(first) = lines.next() else {
        return Ok(None);
    };
    let mut text = first.to_str().map_err(|_| ())?.to_owned();
    for line in lines {
        text.push_str(", ");
        text.push_str(line.to_str().map_err(|_| ())?);
    }
    Ok(Some(text))
}

/// One dictionary member's value in its canonical text (RFC 9651 §4.1), which is
/// what RFC 9421 §2.1.2 puts into a signature base.
pub(crate) fn member_text(entry: &ListEntry) -> String {
    let mut out = sfv::ListSerializer::new();
    out.members([entry]);
    out.finish().unwrap_or_default()
}
