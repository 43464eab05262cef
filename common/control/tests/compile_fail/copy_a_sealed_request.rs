//! A copy is a second request under one signature and one nonce.

use control::SealedRequest;

fn twice(sealed: &SealedRequest) -> (SealedRequest, SealedRequest) {
    (sealed.clone(), sealed.clone())
}

fn main() {}
