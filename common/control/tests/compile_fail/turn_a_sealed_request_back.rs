//! No conversion leads back either.

use control::{Outgoing, SealedRequest};

fn reopen(sealed: SealedRequest) -> Outgoing {
    sealed.into()
}

fn main() {}
