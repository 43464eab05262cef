//! A key has no form for people; its `Debug` shows whose it is, as a test holds.

use control::Key;

fn log(key: &Key) -> String {
    format!("{key}")
}

fn main() {}
