//! Objects for tests.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use http_cache::{Arrival, Policy, ResponseFacts, Vary};

use crate::{Groups, Object};

/// When every sample was received, Unix milliseconds.
pub(crate) const RECEIVED_MS: u64 = 1_700_000_000_000;

/// Fields from pairs.
pub(crate) fn fields(pairs: &[(&'static str, &str)]) -> HeaderMap {
    pairs
        .iter()
        .map(|(name, value)| {
            (
                HeaderName::from_static(name),
                HeaderValue::from_str(value).unwrap(),
            )
        })
        .collect()
}

/// A response as a fill would store it. `request` is what selected it, `age_ms`
/// how long after its reception it is stored.
pub(crate) fn object(
    status: u16,
    response: &[(&'static str, &str)],
    request: &[(&'static str, &str)],
    body: impl Into<Bytes>,
    age_ms: u64,
) -> Arc<Object> {
    let (status, policy) = (StatusCode::from_u16(status).unwrap(), Policy::default());
    let stored = fields(response);
    let arrival = Arrival {
        request_ms: RECEIVED_MS,
        response_ms: RECEIVED_MS,
        age_ms: None,
    };
    let vary = Vary::of(&stored);
    Arc::new(Object {
        status,
        facts: ResponseFacts::of(status, &stored, arrival, &policy),
        selector: vary.selector(&fields(request), &policy),
        vary,
        fields: stored,
        head: Bytes::from_static(b"HTTP/1.1 200 OK\r\n"),
        body: body.into(),
        upstream_cache_status: None,
        stored_ms: RECEIVED_MS + age_ms,
        groups: Groups::default(),
    })
}

/// A good response that varies on nothing.
pub(crate) fn plain(body: impl Into<Bytes>) -> Arc<Object> {
    object(200, &[("cache-control", "max-age=60")], &[], body, 0)
}

/// A good response for one language.
pub(crate) fn in_language(language: &str, body: impl Into<Bytes>) -> Arc<Object> {
    object(
        200,
        &[("cache-control", "max-age=60"), ("vary", "accept-language")],
        &[("accept-language", language)],
        body,
        0,
    )
}
