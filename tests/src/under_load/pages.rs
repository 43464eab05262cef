//! What every URL must hold, as a function of its path and the time.
//!
//! Visitors and origin compute it each for themselves, so that a body that belongs to
//! another URL, to another version, or to nobody is seen by whoever gets it.

use bytes::{BufMut as _, Bytes, BytesMut};

/// Milliseconds that a version of a page lives that changes.
pub const VERSION_MS: u64 = 2_000;

/// Milliseconds by which an answer may be older than its freshness says, besides the
/// time that the request took: ages are counted in seconds here and there.
const SLACK_MS: u64 = 2_000;

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Stored and fresh at every edge.
    Hot,
    /// Never asked for before.
    Cold,
    /// Fresh for a second, then to be validated.
    Expiring,
    /// Fresh for a second, then usable while it is fetched anew or cannot be.
    Soft,
    /// A range of something large.
    Range,
    /// A POST, with an identity of its own.
    Order,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Self; 6] = [
        Self::Hot,
        Self::Cold,
        Self::Expiring,
        Self::Soft,
        Self::Range,
        Self::Order,
    ];

    /// The first segment of its paths.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Hot => "hot",
            Self::Cold => "cold",
            Self::Expiring => "expiring",
            Self::Soft => "soft",
            Self::Range => "large",
            Self::Order => "order",
        }
    }

    /// The kind of a path.
    #[must_use]
    pub fn of(path: &str) -> Option<Self> {
        let first = path.strip_prefix('/')?.split('/').next()?;
        Self::ALL.into_iter().find(|kind| kind.as_str() == first)
    }

    /// What its origin says of keeping it.
    #[must_use]
    pub const fn cache_control(self) -> &'static str {
        match self {
            Self::Hot | Self::Cold | Self::Range => "max-age=86400",
            Self::Expiring => "max-age=1",
            Self::Soft => "max-age=1, stale-while-revalidate=10, stale-if-error=60",
            Self::Order => "no-store",
        }
    }

    /// Whether its pages are for ever what they are.
    pub(super) const fn is_unchanging(self) -> bool {
        matches!(self, Self::Hot | Self::Cold | Self::Range)
    }

    /// How old an answer may be that a visitor gets, where it changes at all.
    const fn age_ms_max(self) -> Option<u64> {
        match self {
            Self::Expiring => Some(1_000 + SLACK_MS),
            Self::Soft => Some(61_000 + SLACK_MS),
            _ => None,
        }
    }

    const fn bytes(self) -> usize {
        match self {
            Self::Range => 64 << 10,
            _ => 1 << 10,
        }
    }

    /// The version at a moment, Unix milliseconds.
    #[must_use]
    pub const fn version_at(self, now_ms: u64) -> u64 {
        match self.age_ms_max() {
            Some(_) => now_ms / VERSION_MS,
            None => 0,
        }
    }

    /// Whether a version may be what a visitor gets who asked at the first of these
    /// moments and was answered at the second.
    #[must_use]
    pub const fn may_be(self, version: u64, asked_ms: u64, answered_ms: u64) -> bool {
        let Some(age_ms_max) = self.age_ms_max() else {
            return version == 0;
        };
        let oldest = asked_ms.saturating_sub(age_ms_max) / VERSION_MS;
        oldest <= version && version <= answered_ms / VERSION_MS
    }
}

/// All of a page in one version: its name, and bytes that nothing else has.
#[must_use]
pub fn body(kind: Kind, path: &str, version: u64) -> Bytes {
    let mut body = BytesMut::with_capacity(kind.bytes() + 128);
    body.put_slice(format!("{path} {version}\n").as_bytes());
    let mut state = seed(path) ^ version.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    while body.len() < kind.bytes() {
        // Xorshift: any sequence will do that differs from page to page.
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        body.put_u64(state);
    }
    body.freeze()
}

/// What the origin says instead of a page, while it fails.
#[must_use]
pub fn sorry(path: &str) -> Bytes {
    format!("the origin is sorry about {path}\n").into()
}

/// The entity tag of a page in one version.
#[must_use]
pub fn etag(path: &str, version: u64) -> String {
    format!("\"{:x}-{version}\"", seed(path))
}

/// The version that an entity tag of that page names.
#[must_use]
pub fn version_of(path: &str, tag: &str) -> Option<u64> {
    let inner = tag.trim().strip_prefix('"')?.strip_suffix('"')?;
    let (page, version) = inner.split_once('-')?;
    let is_ours = page == format!("{:x}", seed(path));
    version.parse().ok().filter(|_| is_ours)
}

/// FNV-1a.
fn seed(path: &str) -> u64 {
    path.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_told_from_every_other_and_from_its_own_past() {
        let page = body(Kind::Hot, "/hot/1", 0);
        assert_eq!(page, body(Kind::Hot, "/hot/1", 0));
        assert_ne!(page[10..], body(Kind::Hot, "/hot/2", 0)[10..]);
        assert_ne!(page[10..], body(Kind::Hot, "/hot/1", 1)[10..]);
        let tag = etag("/hot/1", 7);
        assert_eq!(version_of("/hot/1", &tag), Some(7));
        assert_eq!(version_of("/hot/2", &tag), None);
    }

    #[test]
    fn an_answer_is_neither_from_the_future_nor_too_old() {
        let version = |at_ms| Kind::Expiring.version_at(at_ms);
        for (made_ms, asked_ms, answered_ms, right) in [
            (100_000, 100_000, 100_000, true),
            (102_000, 100_000, 101_999, false),
            (102_000, 100_000, 102_000, true),
            (96_000, 100_999, 101_000, true),
            (96_000, 101_000, 101_000, false),
        ] {
            let found = Kind::Expiring.may_be(version(made_ms), asked_ms, answered_ms);
            assert_eq!(found, right, "made {made_ms} asked {asked_ms}");
        }
        assert!(Kind::Hot.may_be(0, 1, 1) && !Kind::Hot.may_be(1, 1, 1));
    }
}
