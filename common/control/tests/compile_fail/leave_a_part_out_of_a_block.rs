//! A block that lost a part does not build: here the pool and the receiver.

use control::{ControlBlock, KeyDigest, Scheme, TraceIds};

fn block(trace: TraceIds) -> ControlBlock {
    ControlBlock {
        version: control::VERSION,
        site: "shop".to_owned(),
        rev: "r1".to_owned(),
        key: KeyDigest::of(b"key"),
        hop: 1,
        node: "edge-1".to_owned(),
        epoch: 0,
        scheme: Scheme::Https,
        trace,
        background: false,
        only_if_cached: false,
    }
}

fn main() {}
