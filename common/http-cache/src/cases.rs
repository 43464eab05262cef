//! What the tables of this crate's tests are written in.

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};

use crate::policy::Policy;
use crate::response::{Arrival, ResponseFacts};

/// Names and values of field lines, in their order.
pub(crate) type Lines<'a> = &'a [(&'a str, &'a str)];

pub(crate) fn fields(lines: Lines<'_>) -> HeaderMap {
    let mut fields = HeaderMap::new();
    for (name, value) in lines {
        let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
        fields.append(name, HeaderValue::from_str(value).unwrap());
    }
    fields
}

/// A response that came at once, forty seconds after the epoch.
pub(crate) fn stored(status: u16, lines: Lines<'_>) -> ResponseFacts {
    let arrival = Arrival {
        request_ms: 40_000,
        response_ms: 40_000,
        age_ms: None,
    };
    ResponseFacts::of(
        StatusCode::from_u16(status).unwrap(),
        &fields(lines),
        arrival,
        &Policy::default(),
    )
}
