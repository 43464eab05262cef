//! Purges of many keys, and purges that leave what they reach stale.
//!
//! Both look at every stored key, and take the lock of changes key by key, so that
//! fills go on meanwhile. What may be stored from before is settled first, by a note
//! or the key's counter; what is stored already is found by walking.

use std::sync::Arc;

use super::{Store, Ticket};
use crate::{Entry, Groups, Key, Object};

/// What becomes of one object.
enum Fate {
    Stays,
    Goes,
    Becomes(Arc<Object>),
}

impl Store {
    /// The cache groups `names` of an origin, as of the begin of a fill. `origin` is
    /// whatever bytes tell one origin from another.
    #[must_use]
    pub fn groups(&self, ticket: &Ticket, origin: &[u8], names: &[String]) -> Groups {
        let ids = names.iter().map(|name| self.wide.id(origin, name));
        Groups::new(ids, ticket.as_of)
    }

    /// Whether none of the groups was invalidated since the fill began that brought
    /// them. One comparison where there are none, or nothing was purged since.
    #[must_use]
    pub fn stands(&self, groups: &Groups) -> bool {
        self.wide.invalidated_ms(groups).is_none()
    }

    /// When one of the groups was last invalidated since the fill began that brought
    /// them, Unix milliseconds; None where they stand.
    #[must_use]
    pub fn invalidated_ms(&self, groups: &Groups) -> Option<u64> {
        self.wide.invalidated_ms(groups)
    }

    /// When one of these groups was last invalidated, Unix milliseconds; 0 for never,
    /// or longer ago than is remembered.
    #[must_use]
    pub fn last_invalidated_ms(&self, origin: &[u8], names: &[String]) -> u64 {
        let ids = names.iter().map(|name| self.wide.id(origin, name));
        self.wide.last_ms(ids)
    }

    /// Invalidates whatever belongs to a group, stored or on its way (RFC 9875 §3).
    /// The same work however many objects that are; their room is taken by others as
    /// they are asked for, or not, like any that nobody can use.
    pub fn invalidate_group(&self, origin: &[u8], name: &str, now_ms: u64) {
        let id = self.wide.id(origin, name);
        self.wide.note_group(id, self.wide.begin(), now_ms);
    }

    /// As [`Store::invalidate_group`], and gives back the room, which takes a walk
    /// over all keys. Returns how many objects went.
    pub fn purge_group(&self, origin: &[u8], name: &str, now_ms: u64) -> u64 {
        self.invalidate_group(origin, name, now_ms);
        let id = self.wide.id(origin, name);
        let of_group = |object: &Object| object.groups.contains(id);
        self.rewrite_where(of_group, |object| {
            if of_group(object) && !self.stands(&object.groups) {
                Fate::Goes
            } else {
                Fate::Stays
            }
        })
    }

    /// Makes everything in a group stale from `now_ms` on. Fills under way whose
    /// response belongs to it are not stored. Returns how many objects are stale now.
    pub fn soften_group(&self, origin: &[u8], name: &str, now_ms: u64) -> u64 {
        let id = self.wide.id(origin, name);
        // The objects are made to be of this moment before it is noted, so that none
        // is gone in between. Later purges have later moments, and reach them.
        let moment = self.wide.begin();
        let of_group = |object: &Object| object.groups.contains(id);
        let softened = self.rewrite_where(of_group, |object| {
            if !of_group(object) {
                Fate::Stays
            } else if self.stands(&object.groups) {
                Fate::Becomes(Arc::new(object.softened(now_ms, moment)))
            } else {
                Fate::Goes
            }
        });
        // Without a time: what is merely stale is no reason to ask another tier again.
        self.wide.note_group(id, moment, 0);
        softened
    }

    /// Removes everything under the keys that begin with `prefix`, and makes sure
    /// that no fill under way brings it back. Returns the keys that had objects.
    pub fn purge_beginning(&self, prefix: &[u8]) -> Vec<Key> {
        self.reach(prefix);
        let mut gone = self.keys_beginning(prefix);
        gone.retain(|key| self.purge(key.as_bytes()));
        gone
    }

    /// Makes everything under the keys that begin with `prefix` stale from `now_ms`
    /// on. Fills under way are not stored. Returns the keys that had objects.
    pub fn soften_beginning(&self, prefix: &[u8], now_ms: u64) -> Vec<Key> {
        self.reach(prefix);
        let mut stale = self.keys_beginning(prefix);
        stale.retain(|key| self.rewrite(key, |object| self.soft(object, now_ms)) > 0);
        stale
    }

    /// Makes everything under a key stale from `now_ms` on. Fills under way are not
    /// stored. True if an object was there.
    pub fn soften(&self, key: &Key, now_ms: u64) -> bool {
        self.count_purge(key.as_bytes());
        self.rewrite(key, |object| self.soft(object, now_ms)) > 0
    }

    /// What a soft purge of its key makes of an object.
    fn soft(&self, object: &Object, now_ms: u64) -> Fate {
        if self.stands(&object.groups) {
            Fate::Becomes(Arc::new(object.softened(now_ms, 0)))
        } else {
            Fate::Goes
        }
    }

    /// Notes a purge of all keys with that beginning. Under the lock, so that every
    /// put is either before it, and seen by the walk that follows, or refused.
    fn reach(&self, prefix: &[u8]) {
        let _changing = self.changes.lock();
        self.wide.note_prefix(prefix, self.wide.begin());
    }

    /// Rewrites every entry in which an object is one of those meant.
    fn rewrite_where(
        &self,
        meant: impl Fn(&Object) -> bool,
        fate: impl Fn(&Object) -> Fate,
    ) -> u64 {
        let has_one = |entry: &Entry| entry.variants.iter().any(|object| meant(object));
        let entries = self.cache.iter().filter(|(_, entry)| has_one(entry));
        let keys: Vec<Key> = entries.map(|(key, _)| Key::clone(&key)).collect();
        keys.iter().map(|key| self.rewrite(key, &fate)).sum()
    }

    /// Decides anew about every object under a key. Returns how many did not stay.
    fn rewrite(&self, key: &Key, fate: impl Fn(&Object) -> Fate) -> u64 {
        let _changing = self.changes.lock();
        let Some(stored) = self.cache.get(key) else {
            return 0;
        };
        let mut changed = 0;
        let mut variants = stored.variants.clone();
        variants.retain(|object| match fate(object) {
            Fate::Stays => true,
            Fate::Goes => {
                changed += 1;
                false
            }
            Fate::Becomes(other) => {
                changed += 1;
                *object = other;
                true
            }
        });
        if changed == 0 {
            return 0;
        }
        if variants.is_empty() && stored.pass_until_ms == 0 {
            self.cache.remove(key);
            self.cache.run_pending_tasks();
        } else {
            let entry = Entry {
                variants,
                pass_until_ms: stored.pass_until_ms,
            };
            self.insert(key, entry);
        }
        changed
    }
}
