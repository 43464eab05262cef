//! A header is added behind the signature's back.

use control::SealedRequest;
use http::HeaderValue;

fn trace(sealed: &mut SealedRequest) {
    sealed.fields().insert("x-trace", HeaderValue::from_static("1"));
}

fn main() {}
