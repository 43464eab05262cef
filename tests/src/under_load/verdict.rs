//! Whether an answer is what it must be, to the byte.

use bytes::Bytes;

use super::pages::{self, Kind};
use crate::wire::{Fields, field};

/// What visitors have to put up with for a while, since no permitted way to it is left.
#[derive(Clone, Copy, Debug, Default)]
pub struct Allowance {
    /// Pages that may be refused: with 502, 503 or 504 that says why in `Proxy-Status`,
    /// or with the origin's own error, and within `within_ms`.
    pub refused: &'static [Kind],
    /// Pages whose bodies may break off, so that everybody sees it.
    pub broken: &'static [Kind],
    /// How long a refusal may take, milliseconds.
    pub within_ms: u64,
    /// Visitors ask again what is safe where a kept connection ends without a word, and
    /// another edge where a connection is refused, as a balancer with a pool does.
    pub again: bool,
}

impl Allowance {
    /// Whether there is nothing that visitors have to put up with.
    pub(super) const fn is_none(&self) -> bool {
        self.refused.is_empty() && self.broken.is_empty()
    }
}

/// One request.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) kind: Kind,
    pub(super) host: &'static str,
    pub(super) path: String,
    pub(super) range: Option<(usize, usize)>,
    pub(super) order: String,
    pub(super) at_ms: u64,
    pub(super) allowed: Allowance,
}

/// What came back.
#[derive(Debug)]
pub(super) struct Got {
    pub(super) status: u16,
    pub(super) fields: Fields,
    pub(super) body: Bytes,
    pub(super) complete: bool,
}

/// Which way the edge went for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    Stored,
    Tiers,
    Detour,
}

/// What is to be said of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Right(Way),
    /// An error that was allowed, and as it must be.
    Refused,
    /// A body that broke off visibly, as was allowed.
    Broken,
    /// Anything that a visitor sees is amiss.
    Error(String),
    /// Something that looks right and is not.
    Wrong(String),
}

/// Judges an answer that came at that moment, Unix milliseconds.
pub(super) fn judge(asked: &Asked, got: &Got, answered_ms: u64) -> Verdict {
    let Got { status, body, .. } = got;
    let expected_status = match (asked.kind, asked.range) {
        (Kind::Order, _) => 201,
        (_, Some(_)) => 206,
        (_, None) => 200,
    };
    if *status != expected_status {
        return refusal(asked, got, answered_ms);
    }
    if asked.kind == Kind::Order {
        return match (got.complete, *body == asked.order.as_bytes()) {
            (true, true) => Verdict::Right(Way::Stored),
            (true, false) => Verdict::Wrong("another order is confirmed".to_owned()),
            (false, _) => Verdict::Error("the confirmation breaks off".to_owned()),
        };
    }
    let tag = field(&got.fields, "etag").unwrap_or_default();
    let Some(version) = pages::version_of(&asked.path, &tag) else {
        return Verdict::Wrong(format!("the tag of another page: {tag}"));
    };
    if !asked.kind.may_be(version, asked.at_ms, answered_ms) {
        return Verdict::Wrong(format!(
            "version {version}, asked for at {} ms and answered at {answered_ms} ms; {}",
            asked.at_ms,
            field(&got.fields, "cache-status").unwrap_or_default()
        ));
    }
    let mut expected = pages::body(asked.kind, &asked.path, version);
    if let Some((first, last)) = asked.range {
        expected = expected.slice(first..=last.min(expected.len() - 1));
    }
    if !expected.starts_with(body) || got.complete && *body != expected {
        return Verdict::Wrong(format!("{} bytes that are not its own", body.len()));
    }
    if !got.complete {
        return if asked.allowed.broken.contains(&asked.kind) {
            Verdict::Broken
        } else {
            Verdict::Error(format!("{status}, and the body breaks off"))
        };
    }
    let leaked = got.fields.iter().find(|(name, _)| {
        let name = name.to_ascii_lowercase();
        name.starts_with("tier-") || name.starts_with("signature")
    });
    match leaked {
        Some((name, _)) => Verdict::Error(format!("a visitor gets {name}")),
        None => Verdict::Right(way(asked.kind, &got.fields)),
    }
}

/// An answer that is not what was asked for: one that is allowed has a status that says
/// who failed, and is ours, with its reason, or the origin's own.
fn refusal(asked: &Asked, got: &Got, answered_ms: u64) -> Verdict {
    let status = got.status;
    let why = field(&got.fields, "proxy-status");
    let is_ours = why.as_ref().is_some_and(|why| why.contains("error="));
    let is_origins = got.body == pages::sorry(&asked.path);
    let took_ms = answered_ms.saturating_sub(asked.at_ms);
    let told = why.unwrap_or_default();
    if !matches!(status, 502..=504) || !got.complete || !(is_ours || is_origins) {
        return Verdict::Error(format!("{status}, which is no refusal: {told}"));
    }
    if !asked.allowed.refused.contains(&asked.kind) {
        return Verdict::Error(format!("{status}: {told}"));
    }
    if took_ms > asked.allowed.within_ms {
        return Verdict::Error(format!("{status} after {took_ms} ms: {told}"));
    }
    Verdict::Refused
}

/// Which way an edge went for a page, by what the tiers say (RFC 9211). Only of cold
/// ones, since what is stored tells where it came from once.
fn way(kind: Kind, fields: &Fields) -> Way {
    let said = field(fields, "cache-status").unwrap_or_default();
    let at_edge = said.rsplit(',').next().unwrap_or_default();
    if kind != Kind::Cold || !at_edge.contains("fwd=") {
        Way::Stored
    } else if said.contains("upper-") {
        Way::Tiers
    } else {
        Way::Detour
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(kind: Kind, path: &str, allowed: Allowance) -> Asked {
        Asked {
            kind,
            host: crate::HOST,
            path: path.to_owned(),
            range: None,
            order: String::new(),
            at_ms: 5,
            allowed,
        }
    }

    fn right() -> Got {
        Got {
            status: 200,
            fields: vec![("ETag".to_owned(), pages::etag("/hot/1", 0))],
            body: pages::body(Kind::Hot, "/hot/1", 0),
            complete: true,
        }
    }

    #[test]
    fn a_wrong_byte_is_an_error() {
        let asked = asked(Kind::Hot, "/hot/1", Allowance::default());
        assert_eq!(judge(&asked, &right(), 6), Verdict::Right(Way::Stored));
        type Damage = fn(&mut Got);
        let damages: [(Damage, bool); 7] = [
            (|got| got.status = 503, false),
            (|got| got.complete = false, false),
            (|got| got.body = got.body.slice(1..), true),
            (|got| got.body = got.body.slice(..9), true),
            (|got| got.body = pages::body(Kind::Hot, "/hot/2", 0), true),
            (|got| got.fields[0].1 = pages::etag("/hot/2", 0), true),
            (
                |got| {
                    let leak = ("Tier-Result".to_owned(), "v=1".to_owned());
                    got.fields.push(leak);
                },
                false,
            ),
        ];
        for (number, (damage, is_wrong)) in damages.iter().enumerate() {
            let mut got = right();
            damage(&mut got);
            match judge(&asked, &got, 6) {
                Verdict::Wrong(_) => assert!(is_wrong, "damage {number}"),
                Verdict::Error(_) => assert!(!is_wrong, "damage {number}"),
                verdict => panic!("damage {number}: {verdict:?}"),
            }
        }
    }

    #[test]
    fn what_is_allowed_is_clean_and_in_time() {
        const WITHIN_MS: u64 = 100;
        let allowed = Allowance {
            refused: &[Kind::Cold],
            broken: &[Kind::Hot],
            within_ms: WITHIN_MS,
            again: false,
        };
        let ours = "edge-1; error=connection_timeout";
        for (kind, status, said, complete, took_ms, is_clean) in [
            (Kind::Cold, 504, ours, true, WITHIN_MS, true),
            (Kind::Cold, 503, ours, true, 0, true),
            (Kind::Cold, 504, ours, true, WITHIN_MS + 1, false),
            (Kind::Cold, 504, "", true, 0, false),
            (Kind::Cold, 504, "edge-1", true, 0, false),
            (Kind::Cold, 504, ours, false, 0, false),
            (Kind::Cold, 500, ours, true, 0, false),
            (Kind::Cold, 404, ours, true, 0, false),
            (Kind::Hot, 504, ours, true, 0, false),
        ] {
            let asked = asked(kind, "/any/1", allowed);
            let got = Got {
                status,
                fields: vec![("Proxy-Status".to_owned(), said.to_owned())],
                body: Bytes::new(),
                complete,
            };
            let verdict = judge(&asked, &got, asked.at_ms + took_ms);
            let expected = verdict == Verdict::Refused;
            assert_eq!(expected, is_clean, "{kind:?} {status} {said} {took_ms}");
        }
        let asked = asked(Kind::Hot, "/hot/1", allowed);
        let mut short = right();
        short.complete = false;
        short.body = short.body.slice(..9);
        assert_eq!(judge(&asked, &short, 6), Verdict::Broken);
        short.body = short.body.slice(1..);
        assert!(matches!(judge(&asked, &short, 6), Verdict::Wrong(_)));
    }

    #[test]
    fn the_origins_own_error_is_known_by_its_body() {
        let allowed = Allowance {
            refused: &[Kind::Cold],
            within_ms: 1,
            ..Allowance::default()
        };
        for (path, is_clean) in [("/cold/1", true), ("/cold/2", false)] {
            let got = Got {
                status: 503,
                fields: Fields::new(),
                body: pages::sorry("/cold/1"),
                complete: true,
            };
            let verdict = judge(&asked(Kind::Cold, path, allowed), &got, 5);
            assert_eq!(verdict == Verdict::Refused, is_clean, "{path}");
        }
    }

    #[test]
    fn the_way_is_told_from_what_the_tiers_say() {
        for (said, expected) in [
            ("upper-1; hit, edge-1; fwd=uri-miss", Way::Tiers),
            ("edge-1; fwd=uri-miss", Way::Detour),
            ("upper-1; hit, edge-1; hit; ttl=3", Way::Stored),
        ] {
            let fields = vec![("Cache-Status".to_owned(), said.to_owned())];
            assert_eq!(way(Kind::Cold, &fields), expected, "{said}");
            assert_eq!(way(Kind::Soft, &fields), Way::Stored);
        }
    }
}
