//! A receipt that fits any answer would make every answer true.

use std::sync::Arc;

use control::{Key, Receipt};

fn forge(key: Arc<Key>) -> Receipt {
    Receipt {
        signature: Arc::from([0; 32]),
        key,
        to: None,
    }
}

fn main() {}
