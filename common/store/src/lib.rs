//! Where objects live.
//!
//! A [`Store`] maps primary keys to entries. An [`Entry`] holds the variants that
//! share a key, newest first, and perhaps a mark that this key's answers cannot be
//! cached. Objects are shared, never copied: a hit clones one pointer, and a reader
//! keeps its object for as long as it needs it, whatever happens in the store.
//!
//! What must stay true:
//!
//! * A fill that began before a purge that reaches it stores nothing: not before one
//!   of its key, of all keys that begin alike, or of a cache group its response
//!   belongs to. A [`Ticket`], taken when the fill begins, remembers the moment.
//! * What a purge reached answers nobody who looks it up afterwards, except, stale,
//!   after a soft purge. Objects in groups are asked for with [`Store::stands`].
//! * Fills of one key that end together lose nothing of each other.
//! * What the store holds stays within [`Bounds`], the heads and the bookkeeping
//!   included. Bytes that only readers still hold are not the store's.
//! * An error never takes the place of a good object that could still be served
//!   instead of it (RFC 5861 §4).
//!
//! Freshness is not known here: `http-cache` decides about what [`Entry::select`]
//! finds.

#![cfg_attr(test, allow(clippy::unwrap_used))]

mod key;
mod memory;
mod object;
mod purges;
#[cfg(test)]
mod samples;

pub use key::Key;
pub use memory::{Bounds, Glance, NotKept, Store, Ticket};
pub use object::{Entry, Object};
pub use purges::Groups;
