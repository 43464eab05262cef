//! What is stored: one response, and the variants that share a key.

use std::fmt;
use std::mem::size_of;
use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use http_cache::{Policy, RequestFacts, ResponseFacts, Selector, Vary};
use smallvec::SmallVec;

use crate::Groups;

/// What a field costs beside its name and value: the map's bucket and index, and
/// the two handles.
const FIELD_OVERHEAD_BYTES: u64 = 104;

/// What an object costs beside its contents: itself, its reference counts and the
/// allocator's share.
const OBJECT_OVERHEAD_BYTES: u64 = size_of::<Object>() as u64 + 48;

/// What a key costs beside its text and its variants: the entry, the map's bucket,
/// and two places in the eviction policy's queues.
const ENTRY_OVERHEAD_BYTES: u64 = 320;

/// One stored response, complete and immutable.
///
/// `head` and `body` should own what they point to: a slice of a larger buffer
/// keeps the whole buffer, which [`Object::weight`] cannot see.
pub struct Object {
    /// Final status.
    pub status: StatusCode,
    /// Fields as stored: no hop-by-hop fields, no `Age`.
    pub fields: HeaderMap,
    /// The HTTP/1.1 status line and field lines, ready to be sent. No blank line at
    /// the end, and no `Age` or `Cache-Status`, which differ with each answer.
    pub head: Bytes,
    /// The whole body.
    pub body: Bytes,
    /// What bears on freshness.
    pub facts: ResponseFacts,
    /// Which request fields select this variant.
    pub vary: Vary,
    /// The values those fields had in the request that filled it.
    pub selector: Selector,
    /// `Cache-Status` of the tiers behind us, as it came.
    pub upstream_cache_status: Option<HeaderValue>,
    /// When it was stored or last freshened, Unix milliseconds; behind a tier that had it
    /// stored already, when it was there.
    pub stored_ms: u64,
    /// The cache groups it belongs to (RFC 9875), as of when its fill began.
    pub groups: Groups,
}

impl Object {
    /// What the object takes in memory, bytes: body, heads and bookkeeping.
    #[must_use]
    pub fn weight(&self) -> u64 {
        let fields: u64 = self
            .fields
            .iter()
            .map(|(name, value)| FIELD_OVERHEAD_BYTES + (name.as_str().len() + value.len()) as u64)
            .sum();
        let status = self
            .upstream_cache_status
            .as_ref()
            .map_or(0, HeaderValue::len);
        let vary = match &self.vary {
            Vary::Fields(names) => size_of_val(names.as_slice()),
            Vary::None | Vary::Any => 0,
        };
        // The selector holds what a visitor sent, as long as a head may be.
        let beside = self.groups.heap_bytes() + status + vary + self.selector.heap_bytes();
        OBJECT_OVERHEAD_BYTES + fields + (self.head.len() + self.body.len() + beside) as u64
    }

    /// The same response, stale from `now_ms` on and its groups as of `moment`.
    pub(crate) fn softened(&self, now_ms: u64, moment: u64) -> Self {
        Self {
            status: self.status,
            fields: self.fields.clone(),
            head: self.head.clone(),
            body: self.body.clone(),
            facts: self.facts.expired(now_ms),
            vary: self.vary.clone(),
            selector: self.selector.clone(),
            upstream_cache_status: self.upstream_cache_status.clone(),
            stored_ms: self.stored_ms,
            groups: self.groups.renewed(moment),
        }
    }

    /// Whether a fill replaces `other` by `self`: they answer the same requests.
    pub(crate) fn succeeds(&self, other: &Self) -> bool {
        self.vary == other.vary && self.selector == other.selector
    }

    /// Whether storing `self` would hide `other` although `other` could be served
    /// in its stead: `self` is an error, `other` is not, and `other` is still good
    /// for when an upstream fails (RFC 5861 §4).
    ///
    /// Errors often come without the `Vary` of the good response, and the newest
    /// variant that matches is the one selected; so only variants that provably
    /// answer other requests are safe from an error.
    pub(crate) fn would_displace(&self, other: &Self) -> bool {
        if !self.status.is_server_error() || other.status.is_server_error() {
            return false;
        }
        let disjoint = self.vary == other.vary && self.selector != other.selector;
        !disjoint && serves_on_error(&other.facts, self.stored_ms)
    }
}

/// Whether a visitor who asks for nothing special would get the stored response
/// while its upstream fails.
fn serves_on_error(stored: &ResponseFacts, now_ms: u64) -> bool {
    let plain = RequestFacts::of(&Method::GET, &HeaderMap::new(), &Policy::default());
    http_cache::may_serve_on_error(&plain, stored, now_ms)
}

/// Leaves out the body, which may be large, and what only `http-cache` can read.
impl fmt::Debug for Object {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Object")
            .field("status", &self.status)
            .field("body_bytes", &self.body.len())
            .field("vary", &self.vary)
            .field("stored_ms", &self.stored_ms)
            .finish_non_exhaustive()
    }
}

/// Everything under one primary key, as it was at the moment of the lookup.
#[derive(Debug, Clone, Default)]
pub struct Entry {
    /// The variants, newest first.
    pub variants: SmallVec<[Arc<Object>; 2]>,
    /// Until when requests for this key do not wait for one another, because its
    /// last answer could not be cached (hit-for-miss); Unix milliseconds, 0 for
    /// never.
    pub pass_until_ms: u64,
}

impl Entry {
    /// The variant for a request: the newest that matches (RFC 9111 §4.1).
    #[must_use]
    pub fn select(&self, request_fields: &HeaderMap, policy: &Policy) -> Option<&Arc<Object>> {
        self.variants.iter().find(|object| {
            object
                .vary
                .matches(&object.selector, request_fields, policy)
        })
    }

    /// Whether the hit-for-miss mark holds.
    #[must_use]
    pub fn passes(&self, now_ms: u64) -> bool {
        now_ms < self.pass_until_ms
    }

    /// What the entry takes in memory under a key of that length, bytes.
    pub(crate) fn weight(&self, key_bytes: usize) -> u64 {
        let variants: u64 = self.variants.iter().map(|object| object.weight()).sum();
        ENTRY_OVERHEAD_BYTES + key_bytes as u64 + variants
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples::{fields, in_language, object, plain};

    #[test]
    fn weight_counts_everything_once() {
        let bare = object(200, &[], &[], "", 0);
        let bare_bytes = bare.weight();
        assert!(bare_bytes > (size_of::<Object>() + bare.head.len()) as u64);

        let with_body = object(200, &[], &[], vec![0; 1000], 0);
        assert_eq!(with_body.weight(), bare_bytes + 1000);

        let with_field = object(200, &[("etag", "\"1\"")], &[], "", 0);
        assert_eq!(
            with_field.weight(),
            bare_bytes + FIELD_OVERHEAD_BYTES + 4 + 3
        );

        let store = crate::Store::new(crate::Bounds {
            bytes_max: 0,
            variants_max: 1,
        });
        let ticket = store.ticket(&crate::Key::from("k"));
        let names = ["shop".to_owned(), "a".to_owned()];
        let grouped = Object {
            groups: store.groups(&ticket, b"origin", &names),
            upstream_cache_status: Some(HeaderValue::from_static("upper-1; hit")),
            ..Arc::try_unwrap(bare).unwrap()
        };
        let long = in_language(&"x".repeat(1000), "");
        let short = in_language("x", "");
        assert_eq!(long.weight(), short.weight() + 999);

        // However long a group's name is.
        assert_eq!(grouped.weight(), bare_bytes + 2 * 8 + 12);
    }

    #[test]
    fn the_newest_variant_that_matches_is_selected() {
        let english = in_language("en", "english");
        let german = in_language("de", "german");
        let any = plain("any");
        let en = fields(&[("accept-language", "en")]);
        let fr = fields(&[("accept-language", "fr")]);
        let none = HeaderMap::new();
        // Variants newest first; a request; the body it gets.
        type Case<'a> = (&'a [&'a Arc<Object>], &'a HeaderMap, Option<&'static str>);
        let cases: &[Case<'_>] = &[
            (&[], &en, None),
            (&[&german, &english], &en, Some("english")),
            (&[&german, &english], &fr, None),
            (&[&german, &english], &none, None),
            (&[&any, &english], &en, Some("any")),
            (&[&english, &any], &en, Some("english")),
            (&[&english, &any], &fr, Some("any")),
        ];
        for (variants, request, want) in cases {
            let entry = Entry {
                variants: variants.iter().map(|object| Arc::clone(object)).collect(),
                pass_until_ms: 0,
            };
            let got = entry.select(request, &Policy::default());
            assert_eq!(got.map(|object| &*object.body), want.map(str::as_bytes));
        }
    }

    #[test]
    fn a_hit_for_miss_mark_holds_until_its_time() {
        let entry = Entry {
            pass_until_ms: 10,
            ..Entry::default()
        };
        assert!(entry.passes(9));
        assert!(!entry.passes(10));
        assert!(!Entry::default().passes(0));
    }

    #[test]
    fn only_errors_are_held_back_and_only_for_what_may_stand_in_for_them() {
        const KEPT: (&str, &str) = ("cache-control", "max-age=0, stale-if-error=60");
        const UNKEPT: (&str, &str) = ("cache-control", "max-age=0");
        const BOUND: (&str, &str) = (
            "cache-control",
            "max-age=0, stale-if-error=60, must-revalidate",
        );
        const FRESH: (&str, &str) = ("cache-control", "max-age=60");
        const VARY: (&str, &str) = ("vary", "accept-language");
        const EN: (&str, &str) = ("accept-language", "en");
        const DE: (&str, &str) = ("accept-language", "de");
        type Fields = &'static [(&'static str, &'static str)];
        // New: status, fields, request, stored how long after the old was received.
        // Old: status, fields, request. Whether the new one is held back.
        type Case = (u16, Fields, Fields, u64, u16, Fields, Fields, bool);
        let cases: &[Case] = &[
            (503, &[FRESH], &[], 59_999, 200, &[KEPT], &[], true),
            (500, &[FRESH], &[], 59_999, 404, &[KEPT], &[], true),
            // Beyond stale-if-error the good object is of no more use.
            (503, &[FRESH], &[], 60_000, 200, &[KEPT], &[], false),
            (503, &[FRESH], &[], 10, 200, &[UNKEPT], &[], false),
            (503, &[FRESH], &[], 10, 200, &[BOUND], &[], false),
            // One error may follow another, and a good response anything.
            (503, &[FRESH], &[], 10, 502, &[KEPT], &[], false),
            (200, &[FRESH], &[], 10, 200, &[KEPT], &[], false),
            (404, &[FRESH], &[], 10, 200, &[KEPT], &[], false),
            // Without Vary an error would hide every variant.
            (503, &[FRESH], &[EN], 10, 200, &[KEPT, VARY], &[EN], true),
            (503, &[FRESH], &[EN], 10, 200, &[KEPT, VARY], &[DE], true),
            (503, &[FRESH, VARY], &[EN], 10, 200, &[KEPT], &[], true),
            // With the same Vary it is clear for whom each is.
            (
                503,
                &[FRESH, VARY],
                &[EN],
                10,
                200,
                &[KEPT, VARY],
                &[EN],
                true,
            ),
            (
                503,
                &[FRESH, VARY],
                &[EN],
                10,
                200,
                &[KEPT, VARY],
                &[DE],
                false,
            ),
        ];
        for case in cases {
            let (status, response, request, age_ms, old_status, old, old_request, want) = *case;
            let new = object(status, response, request, "", age_ms);
            let old = object(old_status, old, old_request, "", 0);
            assert_eq!(new.would_displace(&old), want, "{case:?}");
        }
    }
}
