//! What the targets share: fields out of arbitrary bytes, and facts out of fields.

use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use http_cache::{Arrival, Policy, RequestFacts, ResponseFacts};

/// A moment, in Unix milliseconds: 6 November 1994, 08:49:37 GMT.
pub const NOW_MS: u64 = 784_111_777_000;

/// The input's lines, as many as are asked for; empty where there are none left.
pub fn lines<const N: usize>(input: &[u8]) -> [&[u8]; N] {
    let mut lines = input.splitn(N, |byte| *byte == b'\n');
    std::array::from_fn(|_| lines.next().unwrap_or_default())
}

/// A map with one line for each pair whose value can be one.
pub fn fields(lines: &[(&'static str, &[u8])]) -> HeaderMap {
    let mut fields = HeaderMap::new();
    for (name, value) in lines {
        append(&mut fields, name, value);
    }
    fields
}

/// Adds a line where the value can be one.
pub fn append(fields: &mut HeaderMap, name: &'static str, value: &[u8]) {
    if let Ok(value) = HeaderValue::from_bytes(value) {
        fields.append(HeaderName::from_static(name), value);
    }
}

/// Fields from lines of `name: value`; other lines are left out.
pub fn free_fields(input: &[u8]) -> HeaderMap {
    let mut fields = HeaderMap::new();
    for line in input.split(|byte| *byte == b'\n').take(64) {
        let Some(at) = line.iter().position(|byte| *byte == b':') else {
            continue;
        };
        let (name, value) = line.split_at(at);
        let name = HeaderName::from_bytes(name);
        let value = HeaderValue::from_bytes(value.get(1..).unwrap_or_default());
        if let (Ok(name), Ok(value)) = (name, value) {
            fields.append(name, value);
        }
    }
    fields
}

/// A 200 with these fields that arrives at [`NOW_MS`].
pub fn response(fields: &HeaderMap, policy: &Policy) -> ResponseFacts {
    let arrival = Arrival {
        request_ms: NOW_MS,
        response_ms: NOW_MS,
        age_ms: None,
    };
    ResponseFacts::of(StatusCode::OK, fields, arrival, policy)
}

/// A GET with these fields.
pub fn get(fields: &HeaderMap, policy: &Policy) -> RequestFacts {
    RequestFacts::of(&Method::GET, fields, policy)
}
