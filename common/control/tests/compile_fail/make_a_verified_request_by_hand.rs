//! Only `verify_request` says that a block is true.

use std::sync::Arc;

use control::{ControlBlock, Key, Verified};

fn forge(block: ControlBlock, key: Arc<Key>) -> Verified {
    Verified {
        block,
        key,
        nonce: None,
        created_s: 0,
        safe: true,
        signature: Box::new([]),
    }
}

fn main() {}
