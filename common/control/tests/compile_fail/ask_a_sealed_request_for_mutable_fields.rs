//! There is no mutable view of what is sealed.

use control::SealedRequest;

fn trace(sealed: &mut SealedRequest) {
    sealed.fields_mut().clear();
}

fn main() {}
