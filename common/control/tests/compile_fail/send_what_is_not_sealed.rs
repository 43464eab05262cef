//! What sends takes a sealed request, as the node's `upstream::send` does.

use control::{Outgoing, SealedRequest};

fn send(_sealed: &SealedRequest) {}

fn fill(outgoing: &Outgoing) {
    send(outgoing);
}

fn main() {}
