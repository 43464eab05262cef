//! Memory of records that are done with, for those to come.
//!
//! A record is made by a thread that serves requests and done with by the observer's.
//! Memory that goes from one to the other for each costs both more in the allocator than
//! all that is done with it. So it goes back, and a record travels as a pointer.

use std::sync::Arc;

use crossbeam_queue::ArrayQueue;

use crate::record::Record;

/// Records whose memory waits to be used again: of a look of the observer's thread at a
/// hundred thousand a second, and as many again.
const SPARES_MAX: usize = 1024;

/// Records with longer texts are not kept for it: paths of all lengths are sent, and what
/// waits here is not to add up to more than 2 MiB.
const TEXT_BYTES_MAX: usize = 2048;

/// Memory that nobody uses.
#[derive(Debug, Clone)]
pub(crate) struct Spares(Arc<ArrayQueue<Box<Record>>>);

impl Spares {
    pub(crate) fn new() -> Self {
        Self(Arc::new(ArrayQueue::new(SPARES_MAX)))
    }

    /// Puts a record into memory that is there, or else into new.
    pub(crate) fn boxed(&self, record: Record) -> Box<Record> {
        match self.0.pop() {
            Some(mut spare) => {
                // What it held is freed here, by a thread that asked for such as this.
                *spare = record;
                spare
            }
            None => Box::new(record),
        }
    }

    /// Takes back what is done with.
    pub(crate) fn take_back(&self, done: Box<Record>) {
        if done.words.bytes() <= TEXT_BYTES_MAX {
            // Where there is enough it is freed.
            let _enough = self.0.push(done);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{Said, samples};

    #[test]
    fn memory_goes_round_and_what_was_in_it_does_not() {
        let spares = Spares::new();
        let first = spares.boxed(samples::miss());
        let place: *const Record = &*first;
        spares.take_back(first);
        let mut other = samples::miss();
        other.status = 418;
        let second = spares.boxed(other.clone());
        assert!(std::ptr::eq(place, &*second));
        assert_eq!(*second, other);
        let third = spares.boxed(samples::miss());
        assert!(!std::ptr::eq(place, &*third), "it is in use");
    }

    #[test]
    fn no_more_is_kept_than_a_bound() {
        let spares = Spares::new();
        for (bytes, kept) in [(TEXT_BYTES_MAX, 1), (TEXT_BYTES_MAX + 1, 0)] {
            let mut long = samples::miss();
            long.words = Said {
                path: &"/".repeat(bytes),
                ..Said::default()
            }
            .into();
            spares.take_back(Box::new(long));
            assert_eq!(spares.0.len(), kept, "{bytes}");
            spares.0.pop();
        }
        let many = (0..=SPARES_MAX).map(|_| spares.boxed(samples::miss()));
        for done in many.collect::<Vec<_>>() {
            spares.take_back(done);
        }
        assert_eq!(spares.0.len(), SPARES_MAX);
    }
}
