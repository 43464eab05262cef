//! No default stands in for what was forgotten.

use control::ControlBlock;

fn block() -> ControlBlock {
    ControlBlock {
        site: "shop".to_owned(),
        ..ControlBlock::default()
    }
}

fn main() {}
