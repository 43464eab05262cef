//! Cache directives of responses (RFC 9111 §5.2.2, RFC 5861, RFC 8246) and which
//! field they are taken from (RFC 9213). Those of requests are in `request.rs`.
//!
//! A directive given twice counts by its stricter value: of two lifetimes the
//! shorter, never longer than the first occurrence that RFC 9111 §4.2.1 asks for.
//! A directive whose argument makes no sense counts in its strictest meaning.
//! Unknown directives are ignored (RFC 9111 §5.2.3).

use http::header::CACHE_CONTROL;
use http::{HeaderMap, HeaderName, StatusCode};
use sfv::{BareItem, Dictionary, ListEntry, Parser};
use smallvec::SmallVec;

use crate::list::{Argument, delta_ms, directive, members, members_of};
use crate::policy::Policy;

/// Addressed to content delivery networks alone (RFC 9213 §3.1).
pub(crate) const CDN_CACHE_CONTROL: HeaderName = HeaderName::from_static("cdn-cache-control");

/// What a response's directives say to a shared cache. Times are milliseconds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct ResponseDirectives {
    pub(crate) no_store: bool,
    /// Without field names; with names they are in `withheld`.
    pub(crate) no_cache: bool,
    /// Without field names; with names they are in `withheld`.
    pub(crate) private: bool,
    pub(crate) public: bool,
    pub(crate) must_revalidate: bool,
    pub(crate) proxy_revalidate: bool,
    pub(crate) must_understand: bool,
    pub(crate) immutable: bool,
    pub(crate) max_age_ms: Option<u64>,
    pub(crate) s_maxage_ms: Option<u64>,
    pub(crate) stale_while_revalidate_ms: Option<u64>,
    pub(crate) stale_if_error_ms: Option<u64>,
    /// Fields that `private="…"` or `no-cache="…"` keep out of the store.
    pub(crate) withheld: SmallVec<[HeaderName; 2]>,
    /// The directives came in a targeted field, or the site ignores what the origin
    /// says: then `Expires` says nothing either.
    pub(crate) silences_expires: bool,
}

impl ResponseDirectives {
    /// The directives that govern us. Where the site ignores what the origin says
    /// they are none, but fields that are meant for one visitor stay withheld.
    pub(crate) fn of(fields: &HeaderMap, status: StatusCode, policy: &Policy) -> Self {
        let said = Self::said(fields, policy);
        if policy.obeys_directives(status) {
            return said;
        }
        Self {
            withheld: said.withheld,
            silences_expires: true,
            ..Self::default()
        }
    }

    /// The directives of the field that governs.
    // RFC 9213 §2.2: the first valid and non-empty field of the target list is used,
    // and then Cache-Control and Expires are ignored.
    pub(crate) fn said(fields: &HeaderMap, policy: &Policy) -> Self {
        let mut targeted = policy.targeted.iter();
        if let Some(directives) = targeted.find_map(|name| Self::targeted(fields, name)) {
            return directives;
        }
        let mut directives = Self::default();
        for member in members_of(fields, CACHE_CONTROL) {
            let (name, argument) = directive(member);
            directives.add(name, argument);
        }
        directives
    }

    /// The directives of a targeted field, unless it is absent, empty or invalid.
    // RFC 9213 §2.1: its grammar is a Dictionary (RFC 9651), and nothing laxer.
    fn targeted(fields: &HeaderMap, name: &HeaderName) -> Option<Self> {
        let mut lines = fields.get_all(name).into_iter();
        let mut whole = lines.next()?.as_bytes().to_vec();
        for line in lines {
            whole.extend_from_slice(b", ");
            whole.extend_from_slice(line.as_bytes());
        }
        let dictionary: Dictionary = Parser::new(&whole).parse().ok()?;
        if dictionary.is_empty() {
            return None;
        }
        let mut directives = Self {
            silences_expires: true,
            ..Self::default()
        };
        for (key, entry) in &dictionary {
            // Parameters are ignored (RFC 9213 §2.1).
            let ListEntry::Item(item) = entry else {
                continue;
            };
            directives.add_targeted(key.as_str(), &item.bare_item)?;
        }
        Some(directives)
    }

    /// One member of the dictionary; `None` when a directive that we know has a
    /// value of a type it cannot have, which makes the whole field invalid.
    fn add_targeted(&mut self, name: &str, value: &BareItem) -> Option<()> {
        let is_age = AGES.contains(&name);
        match value {
            BareItem::Integer(number) if is_age => {
                let text = i64::from(*number).to_string();
                self.add(name.as_bytes(), Argument::Value(text.as_bytes()));
            }
            _ if is_age => return None,
            BareItem::Boolean(true) => self.add(name.as_bytes(), Argument::Absent),
            BareItem::Boolean(false) => {}
            BareItem::String(text) => {
                self.add(name.as_bytes(), Argument::Value(text.as_str().as_bytes()));
            }
            BareItem::Token(token) => {
                self.add(name.as_bytes(), Argument::Value(token.as_str().as_bytes()));
            }
            _ if FLAGS.contains(&name) => return None,
            _ => {}
        }
        Some(())
    }

    fn add(&mut self, name: &[u8], argument: Argument<'_>) {
        // RFC 9111 §5.2: directives are identified case-insensitively.
        let is = |known: &str| name.eq_ignore_ascii_case(known.as_bytes());
        if is("max-age") {
            shorten(&mut self.max_age_ms, argument);
        } else if is("s-maxage") {
            shorten(&mut self.s_maxage_ms, argument);
        } else if is("no-store") {
            self.no_store = true;
        } else if is("no-cache") {
            self.no_cache |= !self.withhold(argument);
        } else if is("private") {
            self.private |= !self.withhold(argument);
        } else if is("public") {
            self.public = true;
        } else if is("must-revalidate") {
            self.must_revalidate = true;
        } else if is("proxy-revalidate") {
            self.proxy_revalidate = true;
        } else if is("must-understand") {
            self.must_understand = true;
        } else if is("immutable") {
            self.immutable = true;
        } else if is("stale-while-revalidate") {
            shorten(&mut self.stale_while_revalidate_ms, argument);
        } else if is("stale-if-error") {
            shorten(&mut self.stale_if_error_ms, argument);
        }
    }

    /// Notes the field names of a qualified `private` or `no-cache`. False when the
    /// directive is not qualified, or not by names that can be read.
    // RFC 9111 §5.2.2.4 and §5.2.2.7: many caches take the qualified form for the
    // unqualified one, so that the unqualified meaning is always a safe reading.
    fn withhold(&mut self, argument: Argument<'_>) -> bool {
        let Argument::Value(names) = argument else {
            return false;
        };
        let mut read = SmallVec::<[HeaderName; 2]>::new();
        for name in members(names) {
            match HeaderName::from_bytes(name) {
                Ok(name) => read.push(name),
                Err(_) => return false,
            }
        }
        let qualified = !read.is_empty();
        self.withheld.append(&mut read);
        qualified
    }
}

/// Directives whose argument is delta-seconds.
const AGES: [&str; 4] = [
    "max-age",
    "s-maxage",
    "stale-while-revalidate",
    "stale-if-error",
];
/// Directives that take no number.
const FLAGS: [&str; 8] = [
    "no-store",
    "no-cache",
    "private",
    "public",
    "must-revalidate",
    "proxy-revalidate",
    "must-understand",
    "immutable",
];

/// Of two values of one directive the shorter counts.
pub(crate) fn shorten(slot: &mut Option<u64>, argument: Argument<'_>) {
    let value_ms = argument.delta_ms();
    *slot = Some(slot.map_or(value_ms, |before_ms| before_ms.min(value_ms)));
}

/// The value of the first `Age` line, in milliseconds; 0 when it cannot be read.
// RFC 9111 §5.1: with several values the first is used, and an invalid one ignored.
pub(crate) fn age_field_ms(fields: &HeaderMap) -> u64 {
    let Some(line) = fields.get(http::header::AGE) else {
        return 0;
    };
    let first = line
        .as_bytes()
        .split(|b| matches!(b, b',' | b';'))
        .next()
        .unwrap_or_default();
    delta_ms(crate::list::trim(first)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cases::fields;

    fn read(fields: &HeaderMap) -> ResponseDirectives {
        ResponseDirectives::of(fields, StatusCode::OK, &Policy::default())
    }

    fn of(cache_control: &str) -> ResponseDirectives {
        read(&fields(&[("cache-control", cache_control)]))
    }

    #[test]
    fn reads_every_directive() {
        let none = ResponseDirectives::default;
        let names =
            |list: &[&'static str]| list.iter().map(|n| HeaderName::from_static(n)).collect();
        let table: &[(&str, ResponseDirectives)] = &[
            ("", none()),
            ("foobar, x=y", none()),
            (
                "No-StOrE",
                ResponseDirectives {
                    no_store: true,
                    ..none()
                },
            ),
            (
                "no-store=x",
                ResponseDirectives {
                    no_store: true,
                    ..none()
                },
            ),
            (
                "no-cache",
                ResponseDirectives {
                    no_cache: true,
                    ..none()
                },
            ),
            (
                "no-cache=\"\"",
                ResponseDirectives {
                    no_cache: true,
                    ..none()
                },
            ),
            (
                "no-cache=\"@\"",
                ResponseDirectives {
                    no_cache: true,
                    ..none()
                },
            ),
            (
                "no-cache =\"a\"",
                ResponseDirectives {
                    no_cache: true,
                    ..none()
                },
            ),
            (
                "no-cache=a",
                ResponseDirectives {
                    withheld: names(&["a"]),
                    ..none()
                },
            ),
            (
                "no-cache=\"A, b\"",
                ResponseDirectives {
                    withheld: names(&["a", "b"]),
                    ..none()
                },
            ),
            (
                "private",
                ResponseDirectives {
                    private: true,
                    ..none()
                },
            ),
            (
                "private=\"x\"",
                ResponseDirectives {
                    withheld: names(&["x"]),
                    ..none()
                },
            ),
            (
                "private, private=\"x\"",
                ResponseDirectives {
                    private: true,
                    withheld: names(&["x"]),
                    ..none()
                },
            ),
            (
                "public",
                ResponseDirectives {
                    public: true,
                    ..none()
                },
            ),
            (
                "must-revalidate",
                ResponseDirectives {
                    must_revalidate: true,
                    ..none()
                },
            ),
            (
                "proxy-revalidate",
                ResponseDirectives {
                    proxy_revalidate: true,
                    ..none()
                },
            ),
            (
                "must-understand",
                ResponseDirectives {
                    must_understand: true,
                    ..none()
                },
            ),
            (
                "immutable",
                ResponseDirectives {
                    immutable: true,
                    ..none()
                },
            ),
            (
                "stale-while-revalidate=1",
                ResponseDirectives {
                    stale_while_revalidate_ms: Some(1000),
                    ..none()
                },
            ),
            (
                "stale-if-error=2",
                ResponseDirectives {
                    stale_if_error_ms: Some(2000),
                    ..none()
                },
            ),
            (
                "s-maxage=3",
                ResponseDirectives {
                    s_maxage_ms: Some(3000),
                    ..none()
                },
            ),
        ];
        for (value, expected) in table {
            assert_eq!(of(value), *expected, "{value}");
        }
    }

    #[test]
    fn reads_max_age_strictly_where_it_would_lengthen() {
        let table = [
            ("max-age=60", Some(60_000)),
            ("MaX-aGe=60", Some(60_000)),
            ("max-age=\"60\"", Some(60_000)),
            ("max-age=0060", Some(60_000)),
            ("max-age=99999999999", Some(2_147_483_648_000)),
            ("max-age", Some(0)),
            ("max-age=", Some(0)),
            ("max-age=-60", Some(0)),
            ("max-age=60.0", Some(0)),
            ("max-age=60a", Some(0)),
            ("max-age='60'", Some(0)),
            ("max-age =60", Some(0)),
            ("max-age= 60", Some(0)),
            ("max-age=60, max-age=1", Some(1_000)),
            ("max-age=1, max-age=60", Some(1_000)),
            ("max-age=60, max-age=x", Some(0)),
            ("ext=\"max-age=60\", max-age=1", Some(1_000)),
            ("max-age=1, ext=\"max-age=60\"", Some(1_000)),
            ("ext=\"max-age=60\"", None),
            ("x-max-age=60", None),
        ];
        for (value, expected) in table {
            assert_eq!(of(value).max_age_ms, expected, "{value}");
        }
        let two_lines = fields(&[
            ("cache-control", "max-age=60"),
            ("cache-control", "max-age=1"),
        ]);
        assert_eq!(read(&two_lines).max_age_ms, Some(1_000));
    }

    #[test]
    fn a_valid_targeted_field_governs() {
        let table: &[(&str, &str, Option<u64>, bool)] = &[
            // CDN-Cache-Control, Cache-Control, max-age in ms, no-store
            ("max-age=60", "no-store", Some(60_000), false),
            ("max-age=60;x=y", "no-store", Some(60_000), false),
            ("foobar, max-age=60", "no-store", Some(60_000), false),
            (
                "max-age=99999999999",
                "no-store",
                Some(2_147_483_648_000),
                false,
            ),
            ("max-age=1, max-age=60", "no-store", Some(60_000), false),
            ("max-age=-1", "max-age=60", Some(0), false),
            ("no-store", "max-age=60", None, true),
            ("foo=(a b)", "max-age=60", None, false),
            // Invalid or empty: as if it were absent.
            ("", "no-store", None, true),
            ("max-age=60, &&&&&", "no-store", None, true),
            ("max-age=\"60\"", "no-store", None, true),
            ("max-age=6.5", "no-store", None, true),
            ("max-age", "no-store", None, true),
            ("no-store=1", "max-age=60", Some(60_000), false),
            ("MaX-aGe=60", "no-store", None, true),
        ];
        for (targeted, general, max_age_ms, no_store) in table {
            let fields = fields(&[("cdn-cache-control", targeted), ("cache-control", general)]);
            let got = read(&fields);
            assert_eq!(
                (got.max_age_ms, got.no_store),
                (*max_age_ms, *no_store),
                "{targeted}"
            );
        }
        let qualified = fields(&[("cdn-cache-control", "private=\"x-a\"")]);
        assert_eq!(read(&qualified).withheld.as_slice(), ["x-a"]);
        let split = fields(&[
            ("cdn-cache-control", "public"),
            ("cdn-cache-control", "max-age=1"),
        ]);
        assert_eq!(read(&split).max_age_ms, Some(1_000));
    }

    #[test]
    fn the_first_targeted_field_of_the_sites_list_governs() {
        let name = HeaderName::from_static;
        let own = || name("own-cache-control");
        let table: &[(&[HeaderName], &str, Option<u64>)] = &[
            // the site's list, Own-Cache-Control, max-age in ms
            (&[CDN_CACHE_CONTROL], "max-age=1", Some(2_000)),
            (&[own(), CDN_CACHE_CONTROL], "max-age=1", Some(1_000)),
            (&[CDN_CACHE_CONTROL, own()], "max-age=1", Some(2_000)),
            (&[own(), CDN_CACHE_CONTROL], "", Some(2_000)),
            (&[own(), CDN_CACHE_CONTROL], "max-age=x", Some(2_000)),
            (&[own()], "max-age=1", Some(1_000)),
            (&[own()], "&&", Some(3_000)),
            (&[], "max-age=1", Some(3_000)),
        ];
        for (targeted, value, max_age_ms) in table {
            let fields = fields(&[
                ("own-cache-control", value),
                ("cdn-cache-control", "max-age=2"),
                ("cache-control", "max-age=3"),
            ]);
            let policy = Policy {
                targeted: targeted.to_vec(),
                ..Policy::default()
            };
            let got = ResponseDirectives::of(&fields, StatusCode::OK, &policy);
            assert_eq!(got.max_age_ms, *max_age_ms, "{targeted:?} {value:?}");
            let is_targeted = *max_age_ms != Some(3_000);
            assert_eq!(got.silences_expires, is_targeted, "{targeted:?} {value:?}");
        }
    }

    #[test]
    fn a_site_may_ignore_what_an_origin_says() {
        let policy = Policy {
            honour_response_directives: false,
            ..Policy::default()
        };
        let fields = fields(&[(
            "cache-control",
            "no-store, private, max-age=1, no-cache=\"set-cookie\"",
        )]);
        let got = ResponseDirectives::of(&fields, StatusCode::OK, &policy);
        let mut expected = ResponseDirectives {
            silences_expires: true,
            ..ResponseDirectives::default()
        };
        // What is one visitor's stays that.
        expected.withheld.push(http::header::SET_COOKIE);
        assert_eq!(got, expected);
        // A node behind us says of its own errors that they are not to be kept.
        let error = StatusCode::BAD_GATEWAY;
        assert!(ResponseDirectives::of(&fields, error, &policy).no_store);
    }

    #[test]
    fn age_is_the_first_value_that_can_be_read() {
        let table: &[(&[&str], u64)] = &[
            (&[], 0),
            (&["30"], 30_000),
            (&["2147483648"], 2_147_483_648_000),
            (&["2147483649"], 2_147_483_648_000),
            (&["7200, 0"], 7_200_000),
            (&["0, 7200"], 0),
            (&["7200", "0"], 7_200_000),
            (&["0", "7200"], 0),
            (&["7200;foo=bar"], 7_200_000),
            (&["abc"], 0),
            (&["-7200"], 0),
            (&["7200.0"], 0),
            (&[""], 0),
        ];
        for (lines, expected) in table {
            let lines: Vec<_> = lines.iter().map(|value| ("age", *value)).collect();
            assert_eq!(age_field_ms(&fields(&lines)), *expected, "{lines:?}");
        }
    }
}
