//! What reads the network behind the doors, opened for the targets in `fuzz/`.
//!
//! The feature `fuzzing` opens it, which no crate of the workspace asks for: nothing
//! here is an interface.

use config::KeyRules;
use control::Scheme;
use http::HeaderMap;

use crate::door::head::{HeadLimits, parse};
use crate::door::proxy_protocol;
use crate::key::{Resource, path_and_query, write_key};

/// As the defaults of the configuration have it.
const LIMITS: HeadLimits = HeadLimits {
    bytes_max: 32 * 1024,
    fields_max: 100,
    body_bytes_max: u64::MAX,
};

/// What became of a request's head.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Read {
    /// More bytes are needed.
    Partial,
    /// It is refused; the short name of why.
    Refused(&'static str),
    /// It has one meaning.
    Whole {
        /// Its length on the wire, in bytes.
        wire_len: usize,
        /// Its host, as sites are found by.
        host: String,
        /// Its path and query.
        path_and_query: String,
        /// Its fields.
        fields: HeaderMap,
    },
}

/// Reads the head of an HTTP/1 request at the front of `bytes`.
#[must_use]
pub fn request_head(bytes: &[u8]) -> Read {
    match parse(bytes, LIMITS) {
        Ok(None) => Read::Partial,
        Err(refusal) => Read::Refused(refusal.reason),
        Ok(Some(head)) => Read::Whole {
            wire_len: head.wire_len,
            host: head.checked.host,
            path_and_query: head.checked.path_and_query,
            fields: head.fields,
        },
    }
}

/// Reads the header of the PROXY protocol at the front of `bytes`.
pub fn proxy_header(bytes: &[u8]) {
    let _ = proxy_protocol::parse(bytes);
}

/// The primary key of a request over https, as the site `s` would have it.
#[must_use]
pub fn key(host: &str, target: &str, fields: &HeaderMap, rules: &KeyRules) -> Vec<u8> {
    let mut key = Vec::new();
    let resource = Resource {
        site: "s",
        scheme: Scheme::Https,
        host,
        path_and_query: target,
    };
    write_key(&mut key, resource, fields, rules);
    key
}

/// Path and query as that key holds them.
#[must_use]
pub fn target_in(key: &[u8]) -> Option<&str> {
    path_and_query(key)
}
