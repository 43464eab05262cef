//! What an operator asks to have purged, from its text to what came of it.
//!
//! | query | purges |
//! |---|---|
//! | `url=URL` | one URL, in every variant |
//! | `prefix=URL` | every URL that begins so |
//! | `site=NAME` | all of a site |
//! | `group=NAME&url=URL` | a cache group (RFC 9875) of that URL's origin |
//!
//! Each with `soft=1`: stale, not gone.

use std::fmt;

use control::Scheme;
use http::Uri;

use super::{Force, purge_beginning, purge_resource};
use crate::key::{self, Resource};
use crate::live::{Live, Site};
use crate::state::Node;

/// Longest parameter that is taken.
const VALUE_BYTES_MAX: usize = 16 * 1024;

/// A purge, as it was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Order {
    what: What,
    force: Force,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum What {
    Url(String),
    Prefix(String),
    Site(String),
    Group { name: String, url: String },
}

/// What came of a purge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Outcome {
    order: Order,
    /// Keys, or objects of a group, that were there. None of them: fills under way
    /// will not be kept either.
    count: u64,
}

/// Why something cannot be purged: a sentence for whoever asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct BadOrder(pub(crate) String);

impl Order {
    /// Reads the query of `POST /purge`.
    pub(crate) fn parse(query: Option<&str>) -> Result<Self, BadOrder> {
        let (mut url, mut prefix, mut site, mut group) = (None, None, None, None);
        let mut force = Force::Hard;
        for pair in query
            .unwrap_or("")
            .split('&')
            .filter(|pair| !pair.is_empty())
        {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let value = Some(value)
                .filter(|value| value.len() <= VALUE_BYTES_MAX)
                .and_then(decode)
                .filter(|value| !value.is_empty())
                .ok_or_else(|| BadOrder(format!("{name} has no value that can be read; {HOW}")))?;
            let slot = match name {
                "url" => &mut url,
                "prefix" => &mut prefix,
                "site" => &mut site,
                "group" => &mut group,
                "soft" => {
                    force = match value.as_str() {
                        "1" => Force::Soft,
                        "0" => Force::Hard,
                        _ => return Err(BadOrder(format!("soft is 1 or 0; {HOW}"))),
                    };
                    continue;
                }
                // A purge that is misunderstood may reach far more than was meant.
                _ => {
                    return Err(BadOrder(format!(
                        "{name:?} is no parameter of a purge; {HOW}"
                    )));
                }
            };
            if slot.replace(value).is_some() {
                return Err(BadOrder(format!("{name} is there twice; {HOW}")));
            }
        }
        let what = match (url, prefix, site, group) {
            (Some(url), None, None, None) => What::Url(url),
            (None, Some(prefix), None, None) => What::Prefix(prefix),
            (None, None, Some(site), None) => What::Site(site),
            (Some(url), None, None, Some(name)) => What::Group { name, url },
            _ => return Err(BadOrder(HOW.to_owned())),
        };
        Ok(Self { what, force })
    }

    /// Purges. All but a URL whose key has no fields or cookies take a walk over every
    /// stored key, so call it where that holds up nobody.
    pub(crate) fn carry_out(self, node: &Node, now_ms: u64) -> Result<Outcome, BadOrder> {
        let live = node.live.load();
        let count = match &self.what {
            What::Url(url) => {
                let named = Named::of(&live, url)?;
                let rules = &named.site.config.key;
                purge_resource(node, named.resource(), rules, self.force, now_ms) as u64
            }
            What::Prefix(url) => {
                let prefix = Named::of(&live, url)?.prefix()?;
                purge_beginning(node, &prefix, self.force, now_ms) as u64
            }
            What::Site(name) => {
                if live.named(name).is_none() {
                    return Err(BadOrder(format!("there is no site {name:?}")));
                }
                let prefix = [name.as_bytes(), b"\0"].concat();
                purge_beginning(node, &prefix, self.force, now_ms) as u64
            }
            What::Group { name, url } => {
                let key = Named::of(&live, url)?.key();
                let origin = key::origin(&key);
                match self.force {
                    Force::Hard => node.store.purge_group(origin, name, now_ms),
                    Force::Soft => node.store.soften_group(origin, name, now_ms),
                }
            }
        };
        Ok(Outcome { order: self, count })
    }
}

/// How to ask, for whoever asked otherwise.
const HOW: &str = "say what, percent-encoded: POST /purge?url=URL, ?prefix=URL, ?site=NAME or \
                   ?group=NAME&url=URL, and &soft=1 for stale instead of gone";

impl Outcome {
    /// One word for metrics.
    pub(crate) fn as_str(&self) -> &'static str {
        match (self.count, self.order.force) {
            (0, _) => "not_stored",
            (_, Force::Hard) => "purged",
            (_, Force::Soft) => "stale",
        }
    }
}

/// One line: what came of it, of what, and where more than one can be, of how many.
impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.as_str() {
            "not_stored" => "not stored",
            word => word,
        })?;
        let (count, plural) = (self.count, if self.count == 1 { "" } else { "s" });
        match &self.order.what {
            What::Url(url) => return write!(f, " {url}"),
            What::Prefix(url) => write!(f, " {url}*")?,
            What::Site(name) => write!(f, " site {name}")?,
            What::Group { name, url } => {
                write!(f, " group {name:?} of {url}")?;
                return if count > 0 {
                    write!(f, ": {count} object{plural}")
                } else {
                    Ok(())
                };
            }
        }
        if count > 0 {
            write!(f, ": {count} key{plural}")
        } else {
            Ok(())
        }
    }
}

/// A URL as a visitor would name it, and the site that serves it.
struct Named<'a> {
    site: &'a Site,
    scheme: Scheme,
    host: String,
    uri: Uri,
}

impl<'a> Named<'a> {
    fn of(live: &'a Live, url: &str) -> Result<Self, BadOrder> {
        let uri: Uri = url
            .parse()
            .map_err(|error| BadOrder(format!("{url:?} is not a URL: {error}")))?;
        let scheme = match uri.scheme_str() {
            Some("http") => Scheme::Http,
            Some("https") => Scheme::Https,
            _ => {
                return Err(BadOrder(format!(
                    "{url:?} has no http or https scheme; name the URL as a visitor would"
                )));
            }
        };
        let host = uri
            .host()
            .map(|host| host.trim_end_matches('.').to_ascii_lowercase())
            .filter(|host| !host.is_empty())
            .ok_or_else(|| BadOrder(format!("{url:?} names no host")))?;
        let site = live
            .serving(&host)
            .ok_or_else(|| BadOrder(format!("no site serves the host {host:?}")))?;
        Ok(Self {
            site,
            scheme,
            host,
            uri,
        })
    }

    fn resource(&self) -> Resource<'_> {
        Resource {
            site: &self.site.config.name,
            scheme: self.scheme,
            host: &self.host,
            path_and_query: self.uri.path_and_query().map_or("/", |path| path.as_str()),
        }
    }

    fn key(&self) -> Vec<u8> {
        let mut key = Vec::with_capacity(128);
        key::write_resource(&mut key, self.resource(), &self.site.config.key);
        key
    }

    /// What the keys of all URLs that begin with this one begin with.
    fn prefix(&self) -> Result<Vec<u8>, BadOrder> {
        if self.uri.query().is_some() {
            // Its parameters may be sorted or left out of keys.
            let why = "a prefix has no query: what keys hold of it depends on the site's rules";
            return Err(BadOrder(why.to_owned()));
        }
        let mut key = self.key();
        // The end of a path is where a longer one goes on.
        key.pop();
        Ok(key)
    }
}

/// Percent-decodes a query value. None where it is not UTF-8 text.
fn decode(value: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(value.len());
    let mut rest = value.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        if byte == b'%' {
            let digits = after.get(..2)?;
            let text = std::str::from_utf8(digits).ok()?;
            bytes.push(u8::from_str_radix(text, 16).ok()?);
            rest = after.get(2..)?;
        } else {
            bytes.push(if byte == b'+' { b' ' } else { byte });
            rest = after;
        }
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn query_values_are_decoded_or_refused() {
        for (value, decoded) in [
            ("http%3A%2F%2Fa%2Fb", Some("http://a/b")),
            ("http://a/b", Some("http://a/b")),
            ("%", None),
            ("%zz", None),
            ("%ff", None),
        ] {
            assert_eq!(decode(value).as_deref(), decoded, "{value}");
        }
    }

    #[test]
    fn an_order_names_one_thing() {
        let url = || What::Url("http://a/b".to_owned());
        let group = || What::Group {
            name: "news".to_owned(),
            url: "http://a/".to_owned(),
        };
        for (query, expected) in [
            ("url=http://a/b", Some((url(), Force::Hard))),
            ("url=http%3A%2F%2Fa%2Fb&soft=1", Some((url(), Force::Soft))),
            ("soft=0&url=http://a/b", Some((url(), Force::Hard))),
            (
                "prefix=http://a/",
                Some((What::Prefix("http://a/".to_owned()), Force::Hard)),
            ),
            (
                "site=shop&soft=1",
                Some((What::Site("shop".to_owned()), Force::Soft)),
            ),
            ("group=news&url=http://a/", Some((group(), Force::Hard))),
            ("", None),
            ("url", None),
            ("url=", None),
            ("url=%", None),
            ("group=news", None),
            ("url=http://a/b&url=http://a/c", None),
            ("url=http://a/b&site=shop", None),
            ("site=shop&prefix=http://a/", None),
            ("group=news&site=shop", None),
            ("url=http://a/b&soft=yes", None),
            ("url=http://a/b&sotf=1", None),
        ] {
            let order = Order::parse(Some(query)).ok();
            let wanted = expected.map(|(what, force)| Order { what, force });
            assert_eq!(order, wanted, "{query}");
        }
        assert_eq!(Order::parse(None), Err(BadOrder(HOW.to_owned())));
        let long = format!("site={}", "s".repeat(VALUE_BYTES_MAX + 1));
        assert!(Order::parse(Some(&long)).is_err());
    }

    #[test]
    fn an_outcome_says_what_and_how_many() {
        let site = || What::Site("shop".to_owned());
        for (what, force, count, line, word) in [
            (
                What::Url("http://a/".into()),
                Force::Hard,
                1,
                "purged http://a/",
                "purged",
            ),
            (
                What::Url("http://a/".into()),
                Force::Soft,
                1,
                "stale http://a/",
                "stale",
            ),
            (
                What::Url("http://a/".into()),
                Force::Soft,
                0,
                "not stored http://a/",
                "not_stored",
            ),
            (
                What::Prefix("http://a/".into()),
                Force::Hard,
                2,
                "purged http://a/*: 2 keys",
                "purged",
            ),
            (site(), Force::Soft, 1, "stale site shop: 1 key", "stale"),
            (site(), Force::Hard, 0, "not stored site shop", "not_stored"),
        ] {
            let order = Order { what, force };
            let outcome = Outcome { order, count };
            assert_eq!(
                (outcome.to_string().as_str(), outcome.as_str()),
                (line, word)
            );
        }
    }
}
