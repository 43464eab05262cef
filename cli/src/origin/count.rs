//! How often the origin was asked, by path: the proof that a cache collapsed.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Paths counted apart. A crawl of more must not grow the table for ever; what
/// comes later is counted together under [`OTHER`].
const PATHS_MAX: usize = 10_000;

/// Stands for all paths beyond [`PATHS_MAX`]. No path begins this way.
const OTHER: &str = "(other paths)";

/// The counts. Requests are numbered from 1 in the order of their arrival.
#[derive(Debug, Default)]
pub(super) struct Counts(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    total: u64,
    paths: BTreeMap<String, u64>,
}

impl Counts {
    /// Counts one request for `path` and returns its number.
    pub(super) fn add(&self, path: &str) -> u64 {
        let mut inner = self.lock();
        inner.total += 1;
        if let Some(count) = inner.paths.get_mut(path) {
            *count += 1;
        } else {
            let name = if inner.paths.len() < PATHS_MAX {
                path
            } else {
                OTHER
            };
            *inner.paths.entry(name.to_owned()).or_default() += 1;
        }
        inner.total
    }

    /// `{"total": 3, "paths": {"/": 2, "/slow": 1}}`, paths in order.
    pub(super) fn json(&self) -> String {
        let inner = self.lock();
        let counts = serde_json::json!({ "total": inner.total, "paths": inner.paths });
        format!("{counts:#}\n")
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Counts stay sensible whatever a panicking holder did, so poison is no reason to stop.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_counted_apart_up_to_the_bound() {
        let counts = Counts::default();
        for number in 1..=PATHS_MAX as u64 + 5 {
            assert_eq!(counts.add(&format!("/{number}")), number);
        }
        assert_eq!(counts.add("/1"), PATHS_MAX as u64 + 6);
        let inner = counts.lock();
        assert_eq!(inner.paths.len(), PATHS_MAX + 1);
        assert_eq!(inner.paths["/1"], 2);
        assert_eq!(inner.paths[OTHER], 5);
    }
}
