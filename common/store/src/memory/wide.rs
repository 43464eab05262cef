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
        self.wide.groups(origin, names, ticket.as_of)
    }

    /// Whether none of the groups was invalidated since the fill began that brought
    /// them. One comparison where there are none, or nothing was purged since.
    #[must_use]
    #[inline]
    pub fn stands(&self, groups: &Groups) -> bool {
        self.wide.invalidated_ms(groups).is_none()
    }

    /// When one of the groups was last invalidated since the fill began that brought
    /// them, Unix milliseconds; None where they stand.
    #[must_use]
    pub fn invalidated_ms(&self, groups: &Groups) -> Option<u64> {
        self.wide.invalidated_ms(groups)
    }

    /// When one of these groups was last invalidated, or may have been as far as is
    /// remembered, Unix milliseconds; 0 for never.
    #[must_use]
    pub fn last_invalidated_ms(&self, origin: &[u8], names: &[String]) -> u64 {
        let since_ever = self.wide.groups(origin, names, 0);
        self.wide.invalidated_ms(&since_ever).unwrap_or(0)
    }

    /// Invalidates whatever belongs to a group, stored or on its way (RFC 9875 §3).
    /// The same work however many objects that are; their room is taken by others as
    /// they are asked for, or not, like any that nobody can use.
    pub fn invalidate_group(&self, origin: &[u8], name: &str, now_ms: u64) {
        self.wide
            .note_group(origin, name, self.wide.begin(), now_ms);
    }

    /// Invalidates whatever belongs to any group of an origin.
    pub fn invalidate_groups_of(&self, origin: &[u8], now_ms: u64) {
        self.wide.note_origin(origin, self.wide.begin(), now_ms);
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
            if of_group(object) && self.stands(&object.groups) {
                Fate::Becomes(Arc::new(object.softened(now_ms, moment)))
            } else {
                Fate::Stays
            }
        });
        // Without a time: what is merely stale is no reason to ask another tier again.
        self.wide.note_group(origin, name, moment, 0);
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
            Fate::Stays
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

#[cfg(test)]
mod tests {
    use std::sync::Barrier;
    use std::thread;

    use http::HeaderMap;
    use http_cache::{Decision, Policy, RequestFacts};

    use super::*;
    use crate::samples::{RECEIVED_MS, in_language, plain};
    use crate::{Bounds, NotKept};

    fn roomy() -> Store {
        Store::new(Bounds {
            bytes_max: 1 << 30,
            variants_max: 8,
        })
    }

    /// An object like `like`, in these groups of the origin `shop` as of a ticket.
    fn in_groups(store: &Store, ticket: &Ticket, like: Arc<Object>, names: &[&str]) -> Arc<Object> {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        Arc::new(Object {
            groups: store.groups(ticket, b"shop", &names),
            ..Arc::into_inner(like).unwrap()
        })
    }

    fn fill(store: &Store, key: &str, like: Arc<Object>, names: &[&str]) {
        let ticket = store.ticket(&Key::from(key));
        let object = in_groups(store, &ticket, like, names);
        store.put(&ticket, object).unwrap();
    }

    /// Of each variant under a key: whether it stands, and is fresh a second later.
    fn seen(store: &Store, key: &str) -> Vec<(bool, bool)> {
        let entry = store.get(key.as_bytes()).unwrap_or_default();
        let plain = RequestFacts::of(&http::Method::GET, &HeaderMap::new(), &Policy::default());
        let objects = entry.variants.iter().map(|object| {
            let decision = http_cache::decide(&plain, Some(&object.facts), RECEIVED_MS + 1000);
            let fresh = matches!(decision, Decision::Fresh { .. });
            (store.stands(&object.groups), fresh)
        });
        objects.collect()
    }

    const GOOD: (bool, bool) = (true, true);
    const STALE: (bool, bool) = (true, false);
    const GONE: (bool, bool) = (false, true);

    #[test]
    fn an_invalidated_group_answers_nobody_and_gives_way() {
        let store = roomy();
        fill(&store, "a", in_language("en", "old"), &["x", "y"]);
        fill(&store, "a", in_language("de", "old"), &["z"]);
        fill(&store, "b", plain("old"), &["y"]);
        let early = store.ticket(&Key::from("a"));
        store.invalidate_group(b"shop", "x", 7);
        store.invalidate_group(b"other", "z", 8);
        assert_eq!(seen(&store, "a"), [GOOD, GONE]);
        assert_eq!(seen(&store, "b"), [GOOD]);
        let names = |name: &str| [name.to_owned()];
        assert_eq!(store.last_invalidated_ms(b"shop", &names("x")), 7);
        assert_eq!(store.last_invalidated_ms(b"shop", &names("z")), 0);

        // A fill from before brings nothing of the group, and all else.
        let of_x = in_groups(&store, &early, plain("new"), &["x"]);
        assert_eq!(store.put(&early, of_x), Err(NotKept::Purged));
        store.put(&early, in_language("fr", "new")).unwrap();
        // The next change of the entry leaves out what is gone.
        assert_eq!(seen(&store, "a"), [GOOD, GOOD]);
        fill(&store, "a", in_language("en", "new"), &["x"]);
        assert_eq!(seen(&store, "a"), [GOOD, GOOD, GOOD]);
    }

    #[test]
    fn what_is_gone_holds_back_no_error() {
        let store = roomy();
        let keep = [("cache-control", "max-age=0, stale-if-error=60")];
        let good = crate::samples::object(200, &keep, &[], "good", 0);
        fill(&store, "a", good, &["x"]);
        let fresh = [("cache-control", "max-age=60")];
        let error = || crate::samples::object(503, &fresh, &[], "sorry", 10);
        let ticket = store.ticket(&Key::from("a"));
        assert_eq!(store.put(&ticket, error()), Err(NotKept::WouldDisplace));
        store.invalidate_group(b"shop", "x", 7);
        store.put(&ticket, error()).unwrap();
        assert_eq!(store.get(b"a").unwrap().variants[0].body, "sorry");
    }

    #[test]
    fn a_purge_of_a_group_gives_back_the_room_of_its_objects_alone() {
        let store = roomy();
        fill(&store, "a", in_language("en", ""), &["x"]);
        fill(&store, "a", in_language("de", ""), &["y"]);
        fill(&store, "b", plain(""), &["x", "y"]);
        fill(&store, "c", plain(""), &[]);
        assert_eq!(store.purge_group(b"shop", "x", 7), 2);
        assert_eq!(store.purge_group(b"shop", "x", 8), 0);
        assert_eq!((seen(&store, "a"), seen(&store, "b")), (vec![GOOD], vec![]));
        assert_eq!((seen(&store, "c"), store.objects()), (vec![GOOD], 2));
    }

    #[test]
    fn a_soft_purge_makes_stale_and_a_hard_one_after_it_still_reaches() {
        let store = roomy();
        let now_ms = RECEIVED_MS + 500;
        fill(&store, "a", in_language("en", ""), &["x"]);
        fill(&store, "a", in_language("de", ""), &["y"]);
        let early = store.ticket(&Key::from("c"));
        assert_eq!(store.soften_group(b"shop", "x", now_ms), 1);
        assert_eq!(seen(&store, "a"), [GOOD, STALE]);
        // What was on its way is not known to be stale, and is not kept.
        let late = in_groups(&store, &early, plain(""), &["x"]);
        assert_eq!(store.put(&early, late), Err(NotKept::Purged));
        // It was no invalidation that another tier must hear of.
        assert_eq!(store.last_invalidated_ms(b"shop", &["x".to_owned()]), 0);
        store.invalidate_group(b"shop", "x", now_ms);
        assert_eq!(seen(&store, "a"), [GOOD, (false, false)]);
        // Softened again, it does not come back.
        assert_eq!(store.soften_group(b"shop", "x", now_ms), 0);
        assert_eq!(seen(&store, "a"), [GOOD, (false, false)]);

        fill(&store, "b", plain(""), &[]);
        let early = store.ticket(&Key::from("b"));
        assert!(store.soften(&Key::from("b"), now_ms));
        assert_eq!(seen(&store, "b"), [STALE]);
        assert_eq!(store.put(&early, plain("")), Err(NotKept::Purged));
        assert!(!store.soften(&Key::from("nothing"), now_ms));
        assert_eq!(store.objects(), 3);
    }

    #[test]
    fn a_beginning_takes_all_that_begins_so_stored_or_on_its_way() {
        let store = roomy();
        for key in ["shop/a", "shop/ab", "shop/b", "shops"] {
            fill(&store, key, plain(""), &[]);
        }
        store.mark_pass(&store.ticket(&Key::from("shop/a/marked")), u64::MAX);
        let glance = store.glance(b"shop/ac");
        let early = [
            store.ticket(&Key::from("shop/ac")),
            store.ticket(&Key::from("shop/c")),
        ];
        let mut gone = store.purge_beginning(b"shop/a");
        gone.sort();
        assert_eq!(gone, [Key::from("shop/a"), Key::from("shop/ab")]);
        assert!(store.get(b"shop/a/marked").is_none());
        assert!(!store.still_counts(b"shop/ac", glance));
        assert_eq!(store.put(&early[0], plain("")), Err(NotKept::Purged));
        store.put(&early[1], plain("")).unwrap();

        let stale = store.soften_beginning(b"shop/", RECEIVED_MS);
        assert_eq!(stale.len(), 2);
        assert_eq!(
            (seen(&store, "shop/b"), seen(&store, "shops")),
            (vec![STALE], vec![GOOD])
        );
    }

    #[test]
    fn no_fill_survives_a_wide_purge_that_it_races_with() {
        const FILLS: usize = 3;
        for round in 0..200 {
            let store = roomy();
            let barrier = Barrier::new(FILLS + 1);
            thread::scope(|scope| {
                for n in 0..FILLS {
                    let (store, barrier) = (&store, &barrier);
                    scope.spawn(move || {
                        let ticket = store.ticket(&Key::from(&*format!("k{n}")));
                        let object = in_groups(store, &ticket, plain("old"), &["x"]);
                        barrier.wait();
                        let _ = store.put(&ticket, object);
                    });
                }
                barrier.wait();
                if round % 2 == 0 {
                    store.purge_beginning(b"k");
                } else {
                    store.purge_group(b"shop", "x", 7);
                }
            });
            for n in 0..FILLS {
                let left = seen(&store, &format!("k{n}"));
                assert!(left.iter().all(|(stands, _)| !stands), "{round}: {left:?}");
                assert!(round % 2 == 1 || left.is_empty(), "{round}: {left:?}");
            }
        }
    }
}
