//! One control header is taken away.

use control::SealedRequest;

fn trace(sealed: &mut SealedRequest) {
    sealed.fields().remove("tier-control");
}

fn main() {}
