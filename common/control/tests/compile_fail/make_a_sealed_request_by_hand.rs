//! Only `seal` and `seal_for_origin` make one.

use control::{Outgoing, SealedRequest};

fn forge(outgoing: Outgoing) -> SealedRequest {
    SealedRequest {
        outgoing,
        receipt: None,
    }
}

fn main() {}
