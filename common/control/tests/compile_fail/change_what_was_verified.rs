//! A verified block is read and not bent.

use control::Verified;

fn elsewhere(verified: &mut Verified) {
    verified.block().site = "another".to_owned();
}

fn main() {}
