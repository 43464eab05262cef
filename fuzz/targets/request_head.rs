//! The head of a request: it has one meaning, however its bytes arrive.
#![no_main]

use libfuzzer_sys::fuzz_target;
use node::fuzzing::{Read, request_head};

fuzz_target!(|input: &[u8]| {
    let read = request_head(input);
    let Read::Whole {
        wire_len,
        host,
        path_and_query,
        ..
    } = &read
    else {
        return;
    };
    assert!(*wire_len <= input.len());
    // What follows the head is no part of it…
    assert_eq!(request_head(&input[..*wire_len]), read);
    // …and a head that is cut short is never a shorter head.
    for end in [wire_len / 2, wire_len - 1] {
        assert!(!matches!(request_head(&input[..end]), Read::Whole { .. }));
    }
    // Whoever reads after us finds nothing to read in another way.
    let head = &input[..*wire_len];
    let bare = |at: usize| head[at] == b'\n' && (at == 0 || head[at - 1] != b'\r');
    assert!(!(0..head.len()).any(bare), "a bare line feed");
    assert!(!host.is_empty() && !host.bytes().any(|byte| byte.is_ascii_uppercase()));
    let visible = |byte| (0x21..=0x7e).contains(&byte);
    assert!(path_and_query.bytes().all(visible));
    assert!(path_and_query.starts_with('/') || path_and_query == "*");
});
