//! What may be told to an observer: owned plain data, and nothing that is a way back.
//!
//! A record that held an `Arc<Mutex<…>>`, an atomic, a cell or a reference would be
//! a handle: whoever traces could reach through it into the request that it tells
//! of. Bounds of the standard library do not keep those out (`Send`, `Sync` and
//! `RefUnwindSafe` hold for atomics and locks), so [`Plain`] is implemented for the
//! leaves listed here and, by `plain!`, for types all of whose fields are plain. It is
//! private, so nobody else can widen the list.

use std::borrow::Cow;
use std::net::IpAddr;

/// Owned, and without interior mutability. Only this module and `plain!` implement it.
pub(crate) trait Plain: Send + Sync + 'static {}

macro_rules! leaves {
    ($($leaf:ty),* $(,)?) => { $(impl Plain for $leaf {})* };
}

leaves!(
    bool,
    u8,
    u16,
    u32,
    u64,
    usize,
    i64,
    f64,
    char,
    String,
    &'static str,
    Cow<'static, str>,
    Box<str>,
    IpAddr,
);

impl<T: Plain> Plain for Option<T> {}
impl<T: Plain> Plain for Vec<T> {}
impl<T: Plain> Plain for Box<[T]> {}
impl<T: Plain, const N: usize> Plain for [T; N] {}

/// Fails to compile for a value that is not plain.
pub(crate) const fn is_plain<T: Plain>(_: &T) {}

/// Implements [`Plain`] for types whose parts are all named and all plain. The
/// patterns have no `..`, so a part that is added to a type and not here does not
/// compile, and neither does one of another kind.
macro_rules! plain {
    (struct $name:ident { $($field:ident),* $(,)? }) => {
        impl $crate::plain::Plain for $name {}
        const _: fn(&$name) = |value| {
            let $name { $($field),* } = value;
            $($crate::plain::is_plain($field);)*
        };
    };
    (enum $name:ident { $($variant:ident $({ $($field:ident),* $(,)? })?),* $(,)? }) => {
        impl $crate::plain::Plain for $name {}
        const _: fn(&$name) = |value| match value {
            $($name::$variant { $($($field),*)? } => {
                $($($crate::plain::is_plain($field);)*)?
            })*
        };
    };
}
pub(crate) use plain;
