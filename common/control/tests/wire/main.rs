//! The control block as it crosses the wire: what is sealed on one side is read,
//! or refused under the right name, on the other.
#![allow(clippy::unwrap_used)]

mod bed;
mod damaged_requests;
mod independent;
mod keys;
mod parsers;
mod replay;
mod requests;
mod responses;
mod signatures_of_others;
mod strip;
mod vectors;
