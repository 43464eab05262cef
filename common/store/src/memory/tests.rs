use std::collections::HashMap;
use std::sync::Barrier;
use std::thread;

use http::HeaderMap;
use http_cache::Policy;
use proptest::prelude::*;

use super::*;
use crate::samples::{fields, in_language, object, plain};

const ROOMY: Bounds = Bounds {
    bytes_max: 1 << 30,
    variants_max: 8,
};

fn filled(store: &Store, key: &str, object: Arc<Object>) -> Result<(), NotKept> {
    store.put(&store.ticket(&Key::from(key)), object)
}

fn bodies(store: &Store, key: &str) -> Vec<String> {
    let entry = store.get(key.as_bytes()).unwrap_or_default();
    let bodies = entry.variants.iter();
    bodies
        .map(|object| String::from_utf8(object.body.to_vec()).unwrap())
        .collect()
}

#[test]
fn a_hit_shares_the_body() {
    let store = Store::new(ROOMY);
    let object = plain("body");
    filled(&store, "k", Arc::clone(&object)).unwrap();
    let entry = store.get(b"k").unwrap();
    let hit = entry.select(&HeaderMap::new(), &Policy::default()).unwrap();
    assert!(Arc::ptr_eq(hit, &object));
    assert!(store.get(b"other").is_none());
}

#[test]
fn a_reader_keeps_what_it_found() {
    let store = Store::new(ROOMY);
    filled(&store, "k", plain("old")).unwrap();
    let found = store.get(b"k").unwrap();
    filled(&store, "k", plain("new")).unwrap();
    store.purge(b"k");
    assert_eq!(found.variants[0].body, "old");
}

#[test]
fn variants_replace_their_like_and_come_first() {
    let store = Store::new(ROOMY);
    let steps = [
        (in_language("en", "en 1"), vec!["en 1"]),
        (in_language("de", "de 1"), vec!["de 1", "en 1"]),
        (in_language("en", "en 2"), vec!["en 2", "de 1"]),
        (plain("any 1"), vec!["any 1", "en 2", "de 1"]),
        (plain("any 2"), vec!["any 2", "en 2", "de 1"]),
        (in_language("de", "de 2"), vec!["de 2", "any 2", "en 2"]),
    ];
    for (object, want) in steps {
        filled(&store, "k", object).unwrap();
        assert_eq!(bodies(&store, "k"), want);
        assert_eq!(store.objects(), want.len() as u64);
    }
    assert_eq!((store.evictions(), store.variants_dropped()), (0, 0));
}

#[test]
fn the_oldest_variant_makes_room() {
    for (variants_max, kept) in [(0, 1), (1, 1), (2, 2), (5, 5), (6, 5)] {
        let store = Store::new(Bounds {
            variants_max,
            ..ROOMY
        });
        for language in ["a", "b", "c", "d", "e"] {
            filled(&store, "k", in_language(language, language)).unwrap();
        }
        let newest_first = ["e", "d", "c", "b", "a"];
        assert_eq!(bodies(&store, "k"), newest_first[..kept]);
        assert_eq!(store.variants_dropped(), 5 - kept as u64);
        assert_eq!(store.objects(), kept as u64);
    }
}

#[test]
fn a_fill_from_before_a_purge_stores_and_marks_nothing() {
    let store = Store::new(ROOMY);
    let key = Key::from("k");
    let early = store.ticket(&key);
    assert!(!store.purge(b"k"), "nothing was there");
    assert_eq!(store.put(&early, plain("old")), Err(NotKept::Purged));
    store.mark_pass(&early, 10);
    assert!(store.get(b"k").is_none());

    let late = store.ticket(&key);
    store.put(&late, plain("new")).unwrap();
    // One ticket serves for all that one fill brings.
    store.put(&late, plain("newer")).unwrap();
    assert_eq!(bodies(&store, "k"), ["newer"]);
    assert!(store.purge(b"k"));
    assert!(!store.purge(b"k"));
    assert_eq!(
        (store.objects(), store.bytes(), store.evictions()),
        (0, 0, 0)
    );
}

#[test]
fn a_mark_leaves_objects_and_an_object_lifts_the_mark() {
    let store = Store::new(ROOMY);
    let ticket = store.ticket(&Key::from("k"));
    store.mark_pass(&ticket, 10);
    assert_eq!(store.get(b"k").unwrap().pass_until_ms, 10);
    assert_eq!(store.objects(), 0);
    assert!(store.bytes() > 0, "a mark takes room too");

    store.put(&ticket, plain("body")).unwrap();
    assert_eq!(store.get(b"k").unwrap().pass_until_ms, 0);
    store.mark_pass(&ticket, 20);
    assert_eq!(store.get(b"k").unwrap().pass_until_ms, 20);
    assert_eq!(bodies(&store, "k"), ["body"]);
    // A mark alone is no object.
    store.purge(b"k");
    store.mark_pass(&store.ticket(&Key::from("k")), 30);
    assert!(!store.purge(b"k"));
}

#[test]
fn an_error_does_not_displace_what_can_stand_in_for_it() {
    let good = |body: &'static str| {
        let keep = [("cache-control", "max-age=0, stale-if-error=60")];
        object(200, &keep, &[], body, 0)
    };
    let error = |age_ms| {
        object(
            503,
            &[("cache-control", "max-age=60")],
            &[],
            "sorry",
            age_ms,
        )
    };
    let store = Store::new(ROOMY);
    filled(&store, "k", good("good")).unwrap();
    assert_eq!(
        filled(&store, "k", error(59_999)),
        Err(NotKept::WouldDisplace)
    );
    assert_eq!(bodies(&store, "k"), ["good"]);
    filled(&store, "k", error(60_000)).unwrap();
    assert_eq!(bodies(&store, "k"), ["sorry"]);
    filled(&store, "k", good("good again")).unwrap();
    assert_eq!(bodies(&store, "k"), ["good again"]);
}

#[test]
fn what_takes_the_whole_store_is_not_kept() {
    let bounds = Bounds {
        bytes_max: 64 * 1024,
        variants_max: 8,
    };
    let room = bounds.bytes_max;
    let key = Key::from("k");
    let around = |body_bytes: u64| {
        let entry = Entry {
            variants: std::iter::once(plain(vec![0; body_bytes as usize])).collect(),
            pass_until_ms: 0,
        };
        units(&key, &entry) * UNIT_BYTES
    };
    let overhead = around(64 * 100) - 64 * 100;
    let store = Store::new(bounds);
    filled(&store, "k", in_language("en", "small")).unwrap();
    assert_eq!(
        filled(
            &store,
            "k",
            plain(vec![0; (room - overhead + UNIT_BYTES) as usize])
        ),
        Err(NotKept::TooLarge)
    );
    assert_eq!(bodies(&store, "k"), ["small"], "nothing changed");
    // What just fits pushes out the key's older variants.
    filled(&store, "k", plain(vec![b'x'; (room - overhead) as usize])).unwrap();
    assert_eq!(store.get(b"k").unwrap().variants.len(), 1);
    assert_eq!(store.variants_dropped(), 1);

    let nothing = Store::new(Bounds {
        bytes_max: 0,
        variants_max: 8,
    });
    assert_eq!(filled(&nothing, "k", plain("")), Err(NotKept::TooLarge));
}

#[test]
fn bytes_stay_within_the_bound_with_large_objects() {
    let bounds = Bounds {
        bytes_max: 1 << 20,
        variants_max: 8,
    };
    let store = Store::new(bounds);
    for n in 0..200 {
        // Each key is asked for more and more often, so that some are let in.
        for _ in 0..n {
            let _ = store.get(format!("{n}").as_bytes());
        }
        filled(&store, &format!("{n}"), plain(vec![0; 100 << 10])).unwrap();
        assert!(store.bytes() <= bounds.bytes_max, "{n}: {}", store.bytes());
    }
    assert!(store.objects() >= 5, "{}", store.objects());
    assert_eq!(store.objects() + store.evictions(), 200);
    assert_eq!(store.bytes(), counted(&store).0);
}

/// Bytes and objects, by looking at every entry.
fn counted(store: &Store) -> (u64, u64) {
    store
        .cache
        .iter()
        .fold((0, 0), |(bytes, objects), (key, entry)| {
            (
                bytes + units(&key, &entry) * UNIT_BYTES,
                objects + entry.variants.len() as u64,
            )
        })
}

#[test]
fn fills_of_one_key_that_end_together_lose_nothing() {
    const FILLS: usize = 8;
    for _ in 0..100 {
        let store = Store::new(ROOMY);
        let barrier = Barrier::new(FILLS);
        thread::scope(|scope| {
            for n in 0..FILLS {
                let (store, barrier) = (&store, &barrier);
                scope.spawn(move || {
                    let object = in_language(&n.to_string(), n.to_string());
                    let ticket = store.ticket(&Key::from("k"));
                    barrier.wait();
                    store.put(&ticket, object).unwrap();
                });
            }
        });
        let mut bodies = bodies(&store, "k");
        bodies.sort();
        assert_eq!(bodies, ["0", "1", "2", "3", "4", "5", "6", "7"]);
        assert_eq!(counted(&store), (store.bytes(), store.objects()));
    }
}

#[test]
fn no_fill_survives_a_purge_that_it_races_with() {
    const FILLS: usize = 3;
    for _ in 0..300 {
        let store = Store::new(ROOMY);
        let barrier = Barrier::new(FILLS + 1);
        thread::scope(|scope| {
            for n in 0..FILLS {
                let (store, barrier) = (&store, &barrier);
                scope.spawn(move || {
                    let ticket = store.ticket(&Key::from("k"));
                    let object = in_language(&n.to_string(), "old");
                    barrier.wait();
                    // Stored before the purge or refused after it: either will do.
                    let _ = store.put(&ticket, object);
                    store.mark_pass(&ticket, 1);
                });
            }
            barrier.wait();
            store.purge(b"k");
        });
        assert!(store.get(b"k").is_none());
        assert_eq!((store.bytes(), store.objects()), (0, 0));
    }
}

#[test]
fn counts_hold_when_puts_purges_and_evictions_meet() {
    const WORKERS: u64 = 4;
    let bounds = Bounds {
        bytes_max: 256 << 10,
        variants_max: 3,
    };
    let store = Store::new(bounds);
    let barrier = Barrier::new(WORKERS as usize);
    thread::scope(|scope| {
        for worker in 0..WORKERS {
            let (store, barrier) = (&store, &barrier);
            scope.spawn(move || {
                barrier.wait();
                for n in 0..2_000_u64 {
                    // A walk over few keys that differs from worker to worker.
                    let draw = (n + worker).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40;
                    let key = format!("k{}", draw % 50);
                    let _ = store.get(key.as_bytes());
                    match draw % 11 {
                        0 => drop(store.purge(key.as_bytes())),
                        1 => store.mark_pass(&store.ticket(&Key::from(&*key)), n),
                        _ => {
                            let language = (draw % 5).to_string();
                            let body = vec![0; (draw % 20_000) as usize];
                            // Refused where another worker purged the key just now.
                            let _ = filled(store, &key, in_language(&language, body));
                        }
                    }
                }
            });
        }
    });
    assert_eq!(counted(&store), (store.bytes(), store.objects()));
    assert!(store.evictions() > 0);
    // The policy's own sum has to be the truth, or the store would slowly shrink, or
    // outgrow its bound.
    assert_eq!(store.cache.weighted_size() * UNIT_BYTES, store.bytes());
    assert!(store.bytes() <= bounds.bytes_max);
    assert!(store.bytes() >= bounds.bytes_max / 2, "{}", store.bytes());
}

/// What a fill may bring: which language (0: no `Vary`), whether it is an error, and
/// whether it may be served while an upstream fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Brought {
    language: u8,
    error: bool,
    stands_in: bool,
}

#[derive(Debug, Clone)]
enum Step {
    Ticket(u8),
    Put(prop::sample::Index, Brought),
    Mark(prop::sample::Index, u64),
    Purge(u8),
}

fn step() -> impl Strategy<Value = Step> {
    let brought =
        (0..4_u8, any::<bool>(), any::<bool>()).prop_map(|(language, error, stands_in)| Brought {
            language,
            error,
            stands_in,
        });
    prop_oneof![
        2 => (0..3_u8).prop_map(Step::Ticket),
        6 => (any::<prop::sample::Index>(), brought).prop_map(|(at, b)| Step::Put(at, b)),
        1 => (any::<prop::sample::Index>(), 1..9_u64).prop_map(|(at, t)| Step::Mark(at, t)),
        1 => (0..3_u8).prop_map(Step::Purge),
    ]
}

fn build(brought: Brought, serial: usize) -> Arc<Object> {
    let control = if brought.stands_in {
        "max-age=0, stale-if-error=60"
    } else {
        "max-age=0"
    };
    let language = brought.language.to_string();
    let vary: &[_] = &[("cache-control", control), ("vary", "accept-language")];
    let response = if brought.language == 0 {
        &vary[..1]
    } else {
        vary
    };
    let status = if brought.error { 503 } else { 200 };
    let request = [("accept-language", &*language)];
    object(status, response, &request, serial.to_string(), 10)
}

/// The store as one would write it for one thread and boundless memory.
#[derive(Default)]
struct Naive {
    entries: HashMap<u8, (Vec<(Brought, usize)>, u64)>,
    purges: HashMap<usize, u64>,
}

impl Naive {
    fn put(
        &mut self,
        key: u8,
        brought: Brought,
        serial: usize,
        variants_max: usize,
    ) -> Result<(), NotKept> {
        let (variants, pass_until_ms) = self.entries.entry(key).or_default();
        let held_back = variants.iter().any(|(old, _)| {
            let disjoint =
                old.language != brought.language && old.language != 0 && brought.language != 0;
            brought.error && !old.error && old.stands_in && !disjoint
        });
        if held_back {
            return Err(NotKept::WouldDisplace);
        }
        variants.retain(|(old, _)| old.language != brought.language);
        variants.insert(0, (brought, serial));
        variants.truncate(variants_max);
        *pass_until_ms = 0;
        Ok(())
    }
}

proptest! {
    #[test]
    fn behaves_like_a_naive_map(
        variants_max in 1_usize..4,
        steps in prop::collection::vec(step(), 0..60),
    ) {
        let store = Store::new(Bounds { variants_max, ..ROOMY });
        let mut naive = Naive::default();
        let mut tickets: Vec<(u8, u64, Ticket)> = Vec::new();
        let slot = |key: u8| store.generation_of(&[key]);
        for (serial, step) in steps.into_iter().enumerate() {
            match step {
                Step::Ticket(key) => {
                    let purges = naive.purges.get(&slot(key)).copied().unwrap_or(0);
                    tickets.push((key, purges, store.ticket(&Key::new(&[key]))));
                }
                Step::Purge(key) => {
                    *naive.purges.entry(slot(key)).or_default() += 1;
                    let gone = naive.entries.remove(&key);
                    let had_objects = gone.is_some_and(|(variants, _)| !variants.is_empty());
                    prop_assert_eq!(store.purge(&[key]), had_objects);
                }
                Step::Put(..) | Step::Mark(..) if tickets.is_empty() => {}
                Step::Put(at, brought) => {
                    let (key, purges, ticket) = at.get(&tickets);
                    let current = naive.purges.get(&slot(*key)).copied().unwrap_or(0);
                    let want = if current == *purges {
                        naive.put(*key, brought, serial, variants_max)
                    } else {
                        Err(NotKept::Purged)
                    };
                    prop_assert_eq!(store.put(ticket, build(brought, serial)), want);
                }
                Step::Mark(at, until_ms) => {
                    let (key, purges, ticket) = at.get(&tickets);
                    store.mark_pass(ticket, until_ms);
                    if naive.purges.get(&slot(*key)).copied().unwrap_or(0) == *purges {
                        naive.entries.entry(*key).or_default().1 = until_ms;
                    }
                }
            }
            for key in 0..3_u8 {
                let want = naive.entries.get(&key).cloned().unwrap_or_default();
                let got = store.get(&[key]).unwrap_or_default();
                let serials: Vec<String> =
                    want.0.iter().map(|(_, serial)| serial.to_string()).collect();
                let stored: Vec<&[u8]> = got.variants.iter().map(|o| &*o.body).collect();
                let serials: Vec<&[u8]> = serials.iter().map(String::as_bytes).collect();
                prop_assert_eq!(stored, serials);
                prop_assert_eq!(got.pass_until_ms, want.1);
                for language in 0..5_u8 {
                    let request = fields(&[("accept-language", &language.to_string())]);
                    let want = want.0.iter().find(|(brought, _)| {
                        brought.language == 0 || brought.language == language
                    });
                    let found = got.select(&request, &Policy::default());
                    prop_assert_eq!(
                        found.map(|object| object.body.to_vec()),
                        want.map(|(_, serial)| serial.to_string().into_bytes())
                    );
                }
            }
            let objects: usize = naive.entries.values().map(|(variants, _)| variants.len()).sum();
            prop_assert_eq!(store.objects(), objects as u64);
            prop_assert_eq!(counted(&store).0, store.bytes());
        }
    }
}
