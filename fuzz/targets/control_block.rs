//! `Tier-Control` and `Tier-Result`: what can be read is written as the same.
#![no_main]

use control::{ControlBlock, TierResult};
use http::HeaderValue;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let Ok(value) = HeaderValue::from_bytes(input) else {
        return;
    };
    if let Ok(block) = ControlBlock::decode(&value)
        && let Ok(written) = block.encode()
    {
        let again = ControlBlock::decode(&written).expect("ours can be read");
        assert_eq!(again.encode().expect("as before"), written);
        assert_eq!((&again.site, &again.pool), (&block.site, &block.pool));
    }
    if let Ok(result) = TierResult::decode(&value)
        && let Ok(written) = result.encode()
    {
        let again = TierResult::decode(&written).expect("ours can be read");
        assert_eq!(again.encode().expect("as before"), written);
    }
});
