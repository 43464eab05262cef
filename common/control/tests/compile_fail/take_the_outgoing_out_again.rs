//! What went into the seal does not come out of it.

use control::{Outgoing, SealedRequest};

fn reopen(sealed: SealedRequest) -> Outgoing {
    sealed.outgoing
}

fn main() {}
