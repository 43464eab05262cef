//! The PROXY protocol's header, which comes before anything else.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| node::fuzzing::proxy_header(input));
