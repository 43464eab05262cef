//! Nor is there a way to what it is made of.

use control::Key;

fn log(key: &Key) {
    let _ = &key.material;
}

fn main() {}
