//! The facts of a request that bear on caching.

use http::header::{
    AUTHORIZATION, CACHE_CONTROL, COOKIE, IF_MATCH, IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_RANGE,
    IF_UNMODIFIED_SINCE, PRAGMA, RANGE,
};
use http::{HeaderMap, Method};

use crate::directives::shorten;
use crate::list::{Argument, directive, members_of};
use crate::policy::{CookieName, Policy};

/// Facts of a request that bear on caching, gathered once.
///
/// Small and `Copy`; gathering them allocates nothing. Request directives are
/// already weighed against [`Policy::honour_request_directives`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RequestFacts {
    class: MethodClass,
    bypass: bool,
    authorization: bool,
    range: bool,
    conditional: bool,
    directives: RequestDirectives,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum MethodClass {
    Get,
    Head,
    Safe,
    Unsafe,
}

/// Cache directives of a request (RFC 9111 §5.2.1). Times are milliseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct RequestDirectives {
    pub(crate) no_store: bool,
    pub(crate) no_cache: bool,
    pub(crate) only_if_cached: bool,
    pub(crate) max_age_ms: Option<u64>,
    pub(crate) min_fresh_ms: Option<u64>,
    pub(crate) max_stale_ms: Option<u64>,
    pub(crate) stale_if_error_ms: Option<u64>,
}

impl RequestFacts {
    /// Gathers the facts of one request.
    pub fn of(method: &Method, fields: &HeaderMap, policy: &Policy) -> Self {
        let has = |name| fields.contains_key(name);
        let directives = if policy.honour_request_directives {
            RequestDirectives::of(fields)
        } else {
            RequestDirectives::default()
        };
        Self {
            class: MethodClass::of(method),
            bypass: policy.bypass || has_cookie(fields, &policy.bypass_cookies),
            authorization: has(AUTHORIZATION),
            range: has(RANGE),
            conditional: has(IF_NONE_MATCH)
                || has(IF_MODIFIED_SINCE)
                || has(IF_MATCH)
                || has(IF_UNMODIFIED_SINCE)
                || has(IF_RANGE),
            directives,
        }
    }

    /// The method is GET.
    pub fn is_get(&self) -> bool {
        self.class == MethodClass::Get
    }

    /// The method is HEAD, which a stored GET answers (RFC 9111 §4).
    pub fn is_head(&self) -> bool {
        self.class == MethodClass::Head
    }

    /// The method is safe (RFC 9110 §9.2.1), so that sending it twice changes
    /// nothing. Methods that we do not know are not.
    pub fn is_safe(&self) -> bool {
        self.class != MethodClass::Unsafe
    }

    /// `only-if-cached`: the client wants 504 rather than a forwarded request
    /// (RFC 9111 §5.2.1.7).
    pub fn only_if_cached(&self) -> bool {
        self.directives.only_if_cached
    }

    /// A rule of the site takes the request from the cache ([`Policy::bypass`],
    /// [`Policy::bypass_cookies`]).
    pub fn is_bypassed(&self) -> bool {
        self.bypass
    }

    /// The request carries credentials (RFC 9111 §3.5).
    pub fn has_authorization(&self) -> bool {
        self.authorization
    }

    /// The request carries `Range`.
    pub fn has_range(&self) -> bool {
        self.range
    }

    /// The request carries any precondition (RFC 9110 §13.1), `If-Range` included.
    pub fn is_conditional(&self) -> bool {
        self.conditional
    }

    /// `no-store` (RFC 9111 §5.2.1.5).
    pub fn no_store(&self) -> bool {
        self.directives.no_store
    }

    /// The client wants nothing that was not validated for it: `no-cache`,
    /// `max-age=0`, or `Pragma: no-cache` without `Cache-Control`.
    pub fn demands_validation(&self) -> bool {
        self.directives.no_cache || self.directives.max_age_ms == Some(0)
    }

    pub(crate) fn directives(&self) -> &RequestDirectives {
        &self.directives
    }
}

/// Whether the request carries a cookie of one of these names (RFC 6265 §4.2.1).
fn has_cookie(fields: &HeaderMap, names: &[CookieName]) -> bool {
    !names.is_empty()
        && fields
            .get_all(COOKIE)
            .into_iter()
            .flat_map(|line| line.as_bytes().split(|byte| *byte == b';'))
            .filter_map(|pair| pair.split(|byte| *byte == b'=').next())
            .map(<[u8]>::trim_ascii)
            .any(|name| names.iter().any(|wanted| wanted.matches(name)))
}

impl MethodClass {
    fn of(method: &Method) -> Self {
        match *method {
            Method::GET => Self::Get,
            Method::HEAD => Self::Head,
            _ if is_safe(method) => Self::Safe,
            _ => Self::Unsafe,
        }
    }
}

/// Safe methods: those of RFC 9110 §9.2.1 and of IANA's registry. Method names are
/// case-sensitive, and a method that is not listed may change anything.
pub(crate) fn is_safe(method: &Method) -> bool {
    matches!(
        method.as_str(),
        "GET" | "HEAD" | "OPTIONS" | "TRACE" | "PROPFIND" | "REPORT" | "SEARCH" | "QUERY"
    )
}

impl RequestDirectives {
    fn of(fields: &HeaderMap) -> Self {
        let mut directives = Self::default();
        if !fields.contains_key(CACHE_CONTROL) {
            // RFC 9111 §5.4: Pragma counts for HTTP/1.0 clients, which send no
            // Cache-Control; beside one it says nothing.
            directives.no_cache = fields.contains_key(PRAGMA)
                && members_of(fields, PRAGMA).any(|m| m.eq_ignore_ascii_case(b"no-cache"));
            return directives;
        }
        for member in members_of(fields, CACHE_CONTROL) {
            let (name, argument) = directive(member);
            directives.add(name, argument);
        }
        directives
    }

    fn add(&mut self, name: &[u8], argument: Argument<'_>) {
        let is = |known: &str| name.eq_ignore_ascii_case(known.as_bytes());
        if is("max-age") {
            shorten(&mut self.max_age_ms, argument);
        } else if is("no-cache") {
            self.no_cache = true;
        } else if is("no-store") {
            self.no_store = true;
        } else if is("only-if-cached") {
            self.only_if_cached = true;
        } else if is("min-fresh") {
            // Of two wishes for freshness the greater is the stricter.
            let value_ms = argument.delta_ms();
            self.min_fresh_ms = Some(self.min_fresh_ms.map_or(value_ms, |ms| ms.max(value_ms)));
        } else if is("max-stale") {
            // RFC 9111 §5.2.1.2: without a value, however stale.
            let value_ms = if argument == Argument::Absent {
                u64::MAX
            } else {
                argument.delta_ms()
            };
            self.max_stale_ms = Some(self.max_stale_ms.map_or(value_ms, |ms| ms.min(value_ms)));
        } else if is("stale-if-error") {
            // RFC 5861 §4 defines it for requests too.
            shorten(&mut self.stale_if_error_ms, argument);
        }
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn facts(method: &str, lines: &[(&'static str, &str)], policy: &Policy) -> RequestFacts {
        let mut fields = HeaderMap::new();
        for (name, value) in lines {
            fields.append(*name, HeaderValue::from_str(value).unwrap());
        }
        RequestFacts::of(
            &Method::from_bytes(method.as_bytes()).unwrap(),
            &fields,
            policy,
        )
    }

    #[test]
    fn methods_have_a_class() {
        let table = [
            // method, get, head, safe
            ("GET", true, false, true),
            ("HEAD", false, true, true),
            ("OPTIONS", false, false, true),
            ("TRACE", false, false, true),
            ("PROPFIND", false, false, true),
            ("SEARCH", false, false, true),
            ("QUERY", false, false, true),
            ("POST", false, false, false),
            ("PUT", false, false, false),
            ("DELETE", false, false, false),
            ("PATCH", false, false, false),
            ("CONNECT", false, false, false),
            ("M-SEARCH", false, false, false),
            ("get", false, false, false),
        ];
        for (method, get, head, safe) in table {
            let facts = facts(method, &[], &Policy::default());
            assert_eq!(
                (facts.is_get(), facts.is_head(), facts.is_safe()),
                (get, head, safe),
                "{method}"
            );
        }
    }

    #[test]
    fn fields_become_facts() {
        let plain = facts("GET", &[("accept", "*/*")], &Policy::default());
        assert!(!plain.has_authorization() && !plain.has_range() && !plain.is_conditional());
        assert!(!plain.no_store() && !plain.only_if_cached() && !plain.demands_validation());
        for name in [
            "if-none-match",
            "if-modified-since",
            "if-match",
            "if-unmodified-since",
            "if-range",
        ] {
            assert!(
                facts("GET", &[(name, "x")], &Policy::default()).is_conditional(),
                "{name}"
            );
        }
        assert!(facts("GET", &[("range", "bytes=0-")], &Policy::default()).has_range());
        assert!(facts("GET", &[("authorization", "x")], &Policy::default()).has_authorization());
    }

    #[test]
    fn directives_are_read() {
        let none = RequestDirectives::default;
        let table = [
            ("", none()),
            ("foo", none()),
            (
                "No-Cache",
                RequestDirectives {
                    no_cache: true,
                    ..none()
                },
            ),
            (
                "no-store",
                RequestDirectives {
                    no_store: true,
                    ..none()
                },
            ),
            (
                "only-if-cached",
                RequestDirectives {
                    only_if_cached: true,
                    ..none()
                },
            ),
            (
                "max-age=0",
                RequestDirectives {
                    max_age_ms: Some(0),
                    ..none()
                },
            ),
            (
                "max-age=5",
                RequestDirectives {
                    max_age_ms: Some(5000),
                    ..none()
                },
            ),
            (
                "max-age=5, max-age=1",
                RequestDirectives {
                    max_age_ms: Some(1000),
                    ..none()
                },
            ),
            (
                "max-age=x",
                RequestDirectives {
                    max_age_ms: Some(0),
                    ..none()
                },
            ),
            (
                "min-fresh=5, min-fresh=1",
                RequestDirectives {
                    min_fresh_ms: Some(5000),
                    ..none()
                },
            ),
            (
                "max-stale",
                RequestDirectives {
                    max_stale_ms: Some(u64::MAX),
                    ..none()
                },
            ),
            (
                "max-stale=5",
                RequestDirectives {
                    max_stale_ms: Some(5000),
                    ..none()
                },
            ),
            (
                "max-stale, max-stale=5",
                RequestDirectives {
                    max_stale_ms: Some(5000),
                    ..none()
                },
            ),
            (
                "max-stale=x",
                RequestDirectives {
                    max_stale_ms: Some(0),
                    ..none()
                },
            ),
            (
                "stale-if-error=5",
                RequestDirectives {
                    stale_if_error_ms: Some(5000),
                    ..none()
                },
            ),
        ];
        for (value, expected) in table {
            let got = facts("GET", &[("cache-control", value)], &Policy::default());
            assert_eq!(got.directives, expected, "{value}");
        }
    }

    #[test]
    fn validation_is_demanded_in_three_ways() {
        let table: &[(&[(&'static str, &str)], bool)] = &[
            (&[("cache-control", "no-cache")], true),
            (&[("cache-control", "max-age=0")], true),
            (&[("cache-control", "max-age=1")], false),
            (&[("pragma", "no-cache")], true),
            (&[("pragma", "x, NO-CACHE")], true),
            (&[("pragma", "x")], false),
            (
                &[("pragma", "no-cache"), ("cache-control", "max-age=1")],
                false,
            ),
            (&[("pragma", "no-cache"), ("cache-control", "")], false),
        ];
        for (lines, expected) in table {
            assert_eq!(
                facts("GET", lines, &Policy::default()).demands_validation(),
                *expected,
                "{lines:?}"
            );
        }
    }

    #[test]
    fn a_site_may_ignore_directives() {
        let deaf = Policy {
            honour_request_directives: false,
            ..Policy::default()
        };
        for line in [
            (
                "cache-control",
                "no-store, no-cache, only-if-cached, max-age=0, max-stale",
            ),
            ("pragma", "no-cache"),
        ] {
            assert_eq!(
                facts("GET", &[line], &deaf),
                facts("GET", &[], &deaf),
                "{line:?}"
            );
        }
    }

    #[test]
    fn some_cookies_take_a_request_from_the_cache() {
        let policy = Policy {
            bypass_cookies: vec![
                CookieName::Exact("sid".to_owned()),
                CookieName::Prefix("wp_".to_owned()),
            ],
            ..Policy::default()
        };
        let table: &[(&[&str], bool)] = &[
            (&[], false),
            (&[""], false),
            (&["lang=de"], false),
            (&["sid=1"], true),
            (&["sid"], true),
            (&["sid = 1"], true),
            (&["lang=de; sid=1"], true),
            (&["lang=de;sid="], true),
            (&["lang=de", "sid=1"], true),
            (&["SID=1"], false),
            (&["sid2=1"], false),
            (&["lang=sid=1"], false),
            (&["lang=de,sid=1"], false),
            (&["wp_login=1"], true),
            (&["wp_"], true),
            (&["wp=1"], false),
        ];
        for (cookies, expected) in table {
            let lines: Vec<_> = cookies.iter().map(|value| ("cookie", *value)).collect();
            let got = facts("GET", &lines, &policy).is_bypassed();
            assert_eq!(got, *expected, "{cookies:?}");
            let none = facts("GET", &lines, &Policy::default());
            assert!(!none.is_bypassed(), "{cookies:?}");
        }
    }
}
