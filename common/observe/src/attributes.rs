//! Attributes of the HTTP semantic conventions, as spans and log records share them.
//!
//! Most of what is told of a request is told of the next one too: who asked, for which
//! host, how it ended. [`Common`] keeps that as it was written last, to be copied.

mod common;

use std::net::IpAddr;

pub(crate) use common::Common;

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

    /// What is told of a request that this node answered: what it has in `common` with
    /// others, and what is its own.
    pub(crate) fn request(&mut self, record: &Record, common: &mut Common) {
        common.end(self.out, self.field, record);
        common.asker(self.out, self.field, record);
        let (path, query) = split_query(record.words.path());
        self.text("url.path", path);
        if let Some(query) = query {
            self.text("url.query", &redact::query(query));
        }
        if record.method == Method::Other {
            self.some_text("http.request.method_original", record.method());
        }
        self.some_text("headwater.detail", &record.detail);
    }

    /// For whom a request was, and how it ended.
    fn end(&mut self, record: &Record) {
        self.text("http.request.method", record.method.as_str());
        self.text("url.scheme", record.scheme);
        self.server_address(record.words.host());
        self.number("http.response.status_code", u64::from(record.status));
        self.text("network.protocol.version", record.protocol.version());
        self.text("headwater.outcome", record.outcome.as_str());
        self.some_text("headwater.site", record.words.site());
        self.some_text("headwater.hop_from", record.words.hop_from());
    }

    /// Who sent it.
    fn asker(&mut self, record: &Record) {
        self.text("client.address", Address::of(record.client).as_str());
        self.text("network.peer.address", Address::of(record.peer).as_str());
        self.some_text("user_agent.original", record.words.user_agent());
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
}

/// An IP address as text. Every span has two, and the formatter of the standard library
/// takes longer for them than all else that is written.
enum Address {
    V4 { text: [u8; 15], len: usize },
    V6(String),
}

impl Address {
    fn of(address: IpAddr) -> Self {
        let IpAddr::V4(address) = address else {
            return Self::V6(address.to_string());
        };
        let mut text = [b'.'; 15];
        let mut len = 0;
        for (at, octet) in address.octets().into_iter().enumerate() {
            // Past the dot, which is there already.
            len += usize::from(at > 0);
            let digits = [octet / 100, octet / 10 % 10, octet % 10];
            let zeros = usize::from(octet < 100) + usize::from(octet < 10);
            for digit in digits.into_iter().skip(zeros) {
                if let Some(place) = text.get_mut(len) {
                    *place = b'0' + digit;
                }
                len += 1;
            }
        }
        Self::V4 { text, len }
    }

    fn as_str(&self) -> &str {
        match self {
            Self::V4 { text, len } => {
                let text = text.get(..*len).unwrap_or_default();
                str::from_utf8(text).unwrap_or_default()
            }
            Self::V6(text) => text,
        }
    }
}

fn split_query(path: &str) -> (&str, Option<&str>) {
    match path.bytes().position(|byte| byte == b'?') {
        Some(at) => (&path[..at], Some(&path[at + 1..])),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_read_as_everywhere() {
        let octets = [0, 1, 9, 10, 99, 100, 109, 200, 255];
        for (at, octet) in octets.into_iter().enumerate() {
            let other = octets[octets.len() - 1 - at];
            let address = IpAddr::from([octet, other, octet, other]);
            assert_eq!(Address::of(address).as_str(), address.to_string());
        }
        let address: IpAddr = "2001:db8::1".parse().unwrap();
        assert_eq!(Address::of(address).as_str(), "2001:db8::1");
    }
}
