//! Purges that reach further than one key: of a cache group (RFC 9875), and of
//! everything whose key begins alike.
//!
//! There is no index from groups to objects. An object knows the groups it belongs
//! to and the moment its fill began; here is noted, for each group that was ever
//! invalidated, the moment of the last time. An object stands while none of its
//! groups was invalidated since. So an invalidation takes one note however many
//! objects it reaches, and reaches those too that are still being filled; an object
//! without groups, and any object while nothing was purged since its fill began,
//! costs a lookup one comparison.
//!
//! Invariants:
//!
//! - Moments are counted, not read from a clock: a clock that steps back could let
//!   an object outlive its purge.
//! - The notes are bounded. When the oldest is dropped, everything of its origin that
//!   is in groups and from before its moment counts as invalidated: forgetting costs a
//!   fetch, never brings old content back, and is no other origin's affair.
//! - A moment is taken before its note is written, and never noted as later than it
//!   was taken.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::RwLock;

/// Groups whose last invalidation is remembered: about 6 MiB at most. At ten
/// invalidations of ever new groups a second that reaches back almost two hours.
const GROUPS_MAX: usize = 65_536;

/// Origins of which notes were dropped that are told apart; beyond them they are not.
const ORIGINS_MAX: usize = 4096;

/// Beginnings of keys whose purge is remembered, for fills that were under way. A
/// fill older than all of them is not kept.
const PREFIXES_MAX: usize = 128;

/// One group of one origin, in little room. The hash is keyed by a secret of the
/// process, so that nobody can make groups meet; if two ever do, an object of one is
/// fetched once more for the other's sake.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct GroupId(u64);

/// An origin, as [`GroupId`] is a group.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub(crate) struct OriginId(u64);

/// The cache groups a response belongs to, as of the moment its fill began.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Groups {
    origin: OriginId,
    ids: Box<[GroupId]>,
    as_of: u64,
}

impl Groups {
    /// Whether the response belongs to no group.
    #[must_use]
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }

    /// What they take on the heap, bytes.
    pub(crate) fn heap_bytes(&self) -> usize {
        size_of_val::<[GroupId]>(&self.ids)
    }

    /// Whether that group is among them.
    pub(crate) fn contains(&self, id: GroupId) -> bool {
        self.ids.contains(&id)
    }

    /// The same groups, as of a later moment.
    pub(crate) fn renewed(&self, as_of: u64) -> Self {
        Self {
            origin: self.origin,
            ids: self.ids.clone(),
            as_of: self.as_of.max(as_of),
        }
    }
}

/// What was purged beyond single keys, and when.
#[derive(Debug)]
pub(crate) struct WidePurges {
    /// Purges so far, those of which no note is left included.
    moment: AtomicU64,
    notes: RwLock<Notes>,
    hasher: ahash::RandomState,
    groups_max: usize,
}

#[derive(Debug, Default)]
struct Notes {
    groups: HashMap<GroupId, Note, ahash::RandomState>,
    /// The same groups by moment, oldest first.
    by_moment: BTreeMap<u64, GroupId>,
    /// The latest note that was dropped of each origin.
    origins: HashMap<OriginId, Note, ahash::RandomState>,
    /// The latest note of an origin's that was dropped in turn.
    dropped: Note,
    prefixes: VecDeque<(u64, Box<[u8]>)>,
    /// The latest moment of a beginning that was dropped.
    prefixes_dropped: u64,
}

/// When something was purged: the moment, and by the clock.
#[derive(Debug, Clone, Copy, Default)]
struct Note {
    origin: OriginId,
    moment: u64,
    at_ms: u64,
}

impl Default for WidePurges {
    fn default() -> Self {
        Self::remembering(GROUPS_MAX)
    }
}

impl WidePurges {
    fn remembering(groups_max: usize) -> Self {
        Self {
            moment: AtomicU64::new(0),
            notes: RwLock::default(),
            hasher: ahash::RandomState::new(),
            groups_max,
        }
    }

    /// The moment now: what begins from here on is untouched by purges so far.
    pub(crate) fn moment(&self) -> u64 {
        self.moment.load(Ordering::Acquire)
    }

    /// A new moment, for a purge that begins now.
    pub(crate) fn begin(&self) -> u64 {
        self.moment.fetch_add(1, Ordering::AcqRel) + 1
    }

    /// A group's identity. `origin` is whatever tells one origin from another.
    pub(crate) fn id(&self, origin: &[u8], name: &str) -> GroupId {
        GroupId(self.hasher.hash_one((origin, name)))
    }

    /// Groups of an origin, as of a moment.
    pub(crate) fn groups(&self, origin: &[u8], names: &[String], as_of: u64) -> Groups {
        Groups {
            origin: self.origin(origin),
            ids: names.iter().map(|name| self.id(origin, name)).collect(),
            as_of,
        }
    }

    fn origin(&self, origin: &[u8]) -> OriginId {
        OriginId(self.hasher.hash_one(origin))
    }

    /// Notes that a group was invalidated at a moment of [`Self::begin`]; `at_ms` is 0
    /// where only the moment matters.
    pub(crate) fn note_group(&self, origin: &[u8], name: &str, moment: u64, at_ms: u64) {
        let (id, origin) = (self.id(origin, name), self.origin(origin));
        let mut notes = self.notes.write();
        let known = notes.groups.get(&id).copied();
        if known.is_some_and(|known| known.moment >= moment) {
            return;
        }
        if let Some(known) = known {
            notes.by_moment.remove(&known.moment);
        }
        let note = Note {
            origin,
            moment,
            at_ms: at_ms.max(known.map_or(0, |known| known.at_ms)),
        };
        notes.groups.insert(id, note);
        notes.by_moment.insert(moment, id);
        while notes.groups.len() > self.groups_max {
            let Some((_, oldest)) = notes.by_moment.pop_first() else {
                break;
            };
            if let Some(dropped) = notes.groups.remove(&oldest) {
                notes.note_origin(dropped);
            }
        }
    }

    /// Notes that every group of an origin was invalidated.
    pub(crate) fn note_origin(&self, origin: &[u8], moment: u64, at_ms: u64) {
        let origin = self.origin(origin);
        self.notes.write().note_origin(Note {
            origin,
            moment,
            at_ms,
        });
    }

    /// Notes that every key that begins like this was purged at a moment of
    /// [`Self::begin`].
    pub(crate) fn note_prefix(&self, prefix: &[u8], moment: u64) {
        let mut notes = self.notes.write();
        notes.prefixes.push_back((moment, prefix.into()));
        while notes.prefixes.len() > PREFIXES_MAX {
            if let Some((dropped, _)) = notes.prefixes.pop_front() {
                notes.prefixes_dropped = notes.prefixes_dropped.max(dropped);
            }
        }
    }

    /// When, by the clock, one of these groups was last invalidated since the moment
    /// they are of; None where they stand.
    #[inline]
    pub(crate) fn invalidated_ms(&self, groups: &Groups) -> Option<u64> {
        if groups.is_empty() || groups.as_of >= self.moment() {
            return None;
        }
        self.noted_ms(groups)
    }

    fn noted_ms(&self, groups: &Groups) -> Option<u64> {
        let notes = self.notes.read();
        let own = groups.ids.iter().filter_map(|id| notes.groups.get(id));
        own.chain(notes.origins.get(&groups.origin))
            .chain([&notes.dropped])
            .filter(|note| note.moment > groups.as_of)
            .map(|note| note.at_ms)
            .max()
    }

    /// Whether the key was purged with all that begins alike since a moment.
    pub(crate) fn reached_key(&self, key: &[u8], as_of: u64) -> bool {
        if as_of >= self.moment() {
            return false;
        }
        let notes = self.notes.read();
        as_of < notes.prefixes_dropped
            || notes
                .prefixes
                .iter()
                .any(|(moment, prefix)| *moment > as_of && key.starts_with(prefix))
    }
}

impl Notes {
    /// Notes something of a whole origin, in place of its groups.
    fn note_origin(&mut self, note: Note) {
        if self.origins.len() >= ORIGINS_MAX && !self.origins.contains_key(&note.origin) {
            let all = self.origins.drain().map(|(_, note)| note);
            let latest = all.max_by_key(|note| note.moment).unwrap_or_default();
            if latest.moment > self.dropped.moment {
                self.dropped = latest;
            }
        }
        let known = self.origins.entry(note.origin).or_default();
        *known = Note {
            origin: note.origin,
            moment: note.moment.max(known.moment),
            at_ms: note.at_ms.max(known.at_ms),
        };
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(purges: &WidePurges, origin: &str, names: &[&str]) -> Groups {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        purges.groups(origin.as_bytes(), &names, purges.moment())
    }

    fn groups(purges: &WidePurges, names: &[&str]) -> Groups {
        of(purges, "shop", names)
    }

    fn invalidate(purges: &WidePurges, name: &str, at_ms: u64) {
        purges.note_group(b"shop", name, purges.begin(), at_ms);
    }

    #[test]
    fn a_group_falls_with_what_began_before() {
        let purges = WidePurges::default();
        let (none, a, ab) = (
            groups(&purges, &[]),
            groups(&purges, &["a"]),
            groups(&purges, &["a", "b"]),
        );
        invalidate(&purges, "b", 10);
        let later = groups(&purges, &["a", "b"]);
        let fallen = |groups: &Groups| purges.invalidated_ms(groups);
        assert_eq!(
            [&none, &a, &ab, &later].map(fallen),
            [None, None, Some(10), None]
        );
        invalidate(&purges, "a", 20);
        let newest = groups(&purges, &["a"]);
        let all = [&none, &a, &ab, &later, &newest];
        assert_eq!(all.map(fallen), [None, Some(20), Some(20), Some(20), None]);
        assert_eq!(fallen(&later.renewed(purges.moment())), None);
        // Names mean something within one origin only.
        purges.note_group(b"other", "a", purges.begin(), 30);
        assert_eq!(fallen(&newest), None);
        // All groups of an origin, and of no other.
        let others = of(&purges, "other", &["a"]);
        purges.note_origin(b"shop", purges.begin(), 40);
        assert_eq!(
            [&none, &newest, &others].map(fallen),
            [None, Some(40), None]
        );
        assert_eq!(fallen(&groups(&purges, &["a"])), None);
    }

    #[test]
    fn what_is_forgotten_counts_as_purged() {
        let purges = WidePurges::remembering(2);
        let early = groups(&purges, &["x"]);
        let (none, others) = (groups(&purges, &[]), of(&purges, "other", &["x"]));
        for (at_ms, name) in [(1, "a"), (2, "b"), (3, "a")] {
            invalidate(&purges, name, at_ms);
        }
        let middle = groups(&purges, &["x"]);
        assert_eq!(purges.invalidated_ms(&early), None, "two are remembered");
        // Of the three the second is the oldest now, and goes.
        invalidate(&purges, "c", 4);
        assert_eq!(purges.invalidated_ms(&early), Some(2));
        assert_eq!(purges.invalidated_ms(&middle), None);
        assert_eq!(purges.invalidated_ms(&none), None);
        assert_eq!(purges.invalidated_ms(&others), None, "another origin's");
        assert_eq!(purges.notes.read().groups.len(), 2);
        assert_eq!(purges.notes.read().by_moment.len(), 2);
    }

    #[test]
    fn a_beginning_reaches_keys_that_are_being_filled() {
        let purges = WidePurges::default();
        let before = purges.moment();
        purges.note_prefix(b"shop\0http\0a\0/x", purges.begin());
        let after = purges.moment();
        for (key, as_of, reached) in [
            (&b"shop\0http\0a\0/x"[..], before, true),
            (b"shop\0http\0a\0/xy", before, true),
            (b"shop\0http\0a\0/", before, false),
            (b"shop\0http\0b\0/x", before, false),
            (b"shop\0http\0a\0/x", after, false),
        ] {
            assert_eq!(purges.reached_key(key, as_of), reached, "{key:?}");
        }
        for n in 0..PREFIXES_MAX {
            purges.note_prefix(format!("other{n}").as_bytes(), purges.begin());
        }
        assert!(purges.reached_key(b"any", before), "older than all notes");
        assert!(!purges.reached_key(b"any", purges.moment()));
        assert_eq!(purges.notes.read().prefixes.len(), PREFIXES_MAX);
    }

    #[test]
    fn origins_are_told_apart_within_a_bound() {
        let purges = WidePurges::default();
        let early = of(&purges, "quiet", &["x"]);
        for n in 0..ORIGINS_MAX {
            purges.note_origin(n.to_string().as_bytes(), purges.begin(), 7);
        }
        let late = of(&purges, "quiet", &["x"]);
        assert_eq!(purges.invalidated_ms(&early), None);
        purges.note_origin(b"one more", purges.begin(), 8);
        assert_eq!(purges.invalidated_ms(&early), Some(7));
        assert_eq!(purges.invalidated_ms(&late), None);
        assert!(purges.notes.read().origins.len() <= ORIGINS_MAX);
    }

    proptest! {
        /// Against a list of all that ever happened: nothing that was invalidated
        /// stands, and with room enough nothing else falls.
        #[test]
        fn nothing_invalidated_stands(
            groups_max in 1_usize..5,
            steps in prop::collection::vec((any::<bool>(), 0_u8..6, 0_u8..6), 0..60),
        ) {
            let purges = WidePurges::remembering(groups_max);
            let mut objects: Vec<([u8; 2], bool, Groups)> = Vec::new();
            for (stores, one, two) in steps {
                if stores {
                    let names = [one.to_string(), two.to_string()];
                    objects.push(([one, two], true, groups(&purges, &names.each_ref().map(String::as_str))));
                } else {
                    invalidate(&purges, &one.to_string(), 1);
                    for (names, stands, _) in &mut objects {
                        *stands &= !names.contains(&one);
                    }
                }
            }
            for (names, stands, groups) in &objects {
                let found = purges.invalidated_ms(groups).is_none();
                prop_assert!(*stands || !found, "{names:?}");
            }
            prop_assert!(purges.notes.read().groups.len() <= groups_max);
        }
    }
}
