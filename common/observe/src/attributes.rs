//! Attributes of the HTTP semantic conventions, as spans and log records share them.

use std::fmt::Write as _;
use std::net::IpAddr;

use crate::export::proto;
use crate::record::{Method, Record};
use crate::redact;

/// Attributes on their way into a message, under that message's field for them.
pub(crate) struct Attributes<'a> {
    out: &'a mut Vec<u8>,
    field: u32,
}

impl<'a> Attributes<'a> {
    pub(crate) fn new(out: &'a mut Vec<u8>, field: u32) -> Self {
        Self { out, field }
    }

    /// What is told of a request that this node answered.
    pub(crate) fn request(&mut self, record: &Record) {
        self.method(record);
        let (path, query) = split_query(record.words.path());
        self.text("url.path", path);
        if let Some(query) = query {
            self.text("url.query", &redact::query(query));
        }
        self.text("url.scheme", record.scheme);
        self.server_address(record.words.host());
        self.number("http.response.status_code", u64::from(record.status));
        self.address("client.address", record.client);
        self.address("network.peer.address", record.peer);
        self.text("network.protocol.version", record.protocol.version());
        self.some_text("user_agent.original", record.words.user_agent());
        self.text("headwater.outcome", record.outcome.as_str());
        self.some_text("headwater.site", record.words.site());
        self.some_text("headwater.hop_from", record.words.hop_from());
        self.some_text("headwater.detail", &record.detail);
    }

    pub(crate) fn method(&mut self, record: &Record) {
        self.text("http.request.method", record.method.as_str());
        if record.method == Method::Other {
            self.some_text("http.request.method_original", record.method());
        }
    }

    pub(crate) fn server_address(&mut self, authority: &str) {
        let (host, port) = split_port(authority);
        self.some_text("server.address", host);
        if let Some(port) = port {
            self.number("server.port", u64::from(port));
        }
    }

    pub(crate) fn text(&mut self, key: &str, value: &str) {
        proto::attribute(self.out, self.field, key, value);
    }

    /// The same, unless it is empty.
    pub(crate) fn some_text(&mut self, key: &str, value: &str) {
        if !value.is_empty() {
            self.text(key, value);
        }
    }

    pub(crate) fn number(&mut self, key: &str, value: u64) {
        proto::attribute_number(self.out, self.field, key, value);
    }

    pub(crate) fn flag(&mut self, key: &str, value: bool) {
        proto::attribute_flag(self.out, self.field, key, value);
    }

    fn address(&mut self, key: &str, address: IpAddr) {
        let mut text = String::with_capacity(45);
        let _infallible = write!(text, "{address}");
        self.text(key, &text);
    }
}

fn split_query(path: &str) -> (&str, Option<&str>) {
    match path.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (path, None),
    }
}

/// Host, without the brackets of an IPv6 address, and port, where what follows the
/// last colon is one. The colons of a bracketed address are none.
pub(crate) fn split_port(authority: &str) -> (&str, Option<u16>) {
    let (host, port) = authority
        .rsplit_once(':')
        .filter(|(host, _)| !host.contains(':') || host.ends_with(']'))
        .and_then(|(host, port)| Some((host, Some(port.parse().ok()?))))
        .unwrap_or((authority, None));
    let bare = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'));
    (bare.unwrap_or(host), port)
}
