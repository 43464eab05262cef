//! The primary key as the store holds it.

use std::borrow::Borrow;
use std::fmt;
use std::sync::Arc;

/// A primary key's canonical text. Cloning shares the text.
///
/// The text has an allocation of its own rather than being a slice of the request
/// it came from, which a stored key would otherwise keep in memory.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(Arc<[u8]>);

impl Key {
    /// Copies the text.
    #[must_use]
    pub fn new(text: &[u8]) -> Self {
        Self(text.into())
    }

    /// The text.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl From<&[u8]> for Key {
    fn from(text: &[u8]) -> Self {
        Self::new(text)
    }
}

impl From<&str> for Key {
    fn from(text: &str) -> Self {
        Self::new(text.as_bytes())
    }
}

impl From<Vec<u8>> for Key {
    fn from(text: Vec<u8>) -> Self {
        Self(text.into())
    }
}

/// Lookups are made with borrowed text and allocate nothing. `Hash` and `Eq` are
/// those of the bytes, as `Borrow` demands.
impl Borrow<[u8]> for Key {
    fn borrow(&self) -> &[u8] {
        &self.0
    }
}

impl AsRef<[u8]> for Key {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({})", self.0.escape_ascii())
    }
}
