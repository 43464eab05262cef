//! What both are asked about: pairs of a request and a response, a second request
//! some time later, and a 304; each put together from a grammar of fields.

use std::fmt;

use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use http_cache::date;
use proptest::prelude::*;
use proptest::sample::select;

/// When the response arrives: 2001-09-09T01:46:40Z.
pub(crate) const NOW_MS: u64 = 1_000_000_000_000;

/// One story: a response to a request is stored, another request comes later, and
/// the origin confirms what is stored.
#[derive(Clone, Debug)]
pub(crate) struct Case {
    pub(crate) method: Method,
    pub(crate) asked: HeaderMap,
    pub(crate) status: StatusCode,
    pub(crate) answered: HeaderMap,
    pub(crate) later_s: u64,
    pub(crate) again_method: Method,
    pub(crate) again: HeaderMap,
    /// The fields of a 304, where one comes.
    pub(crate) confirmed: Option<HeaderMap>,
}

impl Case {
    /// A GET whose 200 has these fields, asked for again after `later_s` seconds.
    pub(crate) fn answered(later_s: u64, lines: &[(&'static str, &str)]) -> Self {
        Self {
            method: Method::GET,
            asked: HeaderMap::new(),
            status: StatusCode::OK,
            answered: fields(lines),
            later_s,
            again_method: Method::GET,
            again: HeaderMap::new(),
            confirmed: None,
        }
    }

    /// With another status.
    pub(crate) fn status(mut self, status: u16) -> Self {
        self.status = StatusCode::from_u16(status).unwrap();
        self
    }

    /// As the answer to another method.
    pub(crate) fn method(mut self, method: Method) -> Self {
        self.method = method;
        self
    }

    /// As the answer to a request with these fields.
    pub(crate) fn asked(mut self, lines: &[(&'static str, &str)]) -> Self {
        self.asked = fields(lines);
        self
    }

    /// Asked for again by that method and with these fields.
    pub(crate) fn again(mut self, method: Method, lines: &[(&'static str, &str)]) -> Self {
        self.again_method = method;
        self.again = fields(lines);
        self
    }

    /// Confirmed by a 304 with these fields.
    pub(crate) fn confirmed(mut self, lines: &[(&'static str, &str)]) -> Self {
        self.confirmed = Some(fields(lines));
        self
    }
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            method,
            status,
            later_s,
            again_method,
            ..
        } = self;
        let (asked, answered) = (shown(&self.asked), shown(&self.answered));
        let again = shown(&self.again);
        write!(f, "{method} [{asked}] answered by {status} [{answered}]; ")?;
        write!(f, "{later_s} s later {again_method} [{again}]")?;
        match &self.confirmed {
            Some(fields) => write!(f, "; 304 [{}]", shown(fields)),
            None => Ok(()),
        }
    }
}

fn shown(fields: &HeaderMap) -> String {
    let lines = fields.iter();
    let lines: Vec<_> = lines
        .map(|(name, value)| format!("{name}: {}", value.to_str().unwrap()))
        .collect();
    lines.join(" | ")
}

/// Field lines as a map.
pub(crate) fn fields(lines: &[(&'static str, &str)]) -> HeaderMap {
    let mut fields = HeaderMap::new();
    for (name, value) in lines {
        let value = HeaderValue::from_str(value).unwrap();
        fields.append(HeaderName::from_static(name), value);
    }
    fields
}

/// The date that many seconds from [`NOW_MS`].
pub(crate) fn at(offset_s: i64) -> String {
    let ms = NOW_MS.checked_add_signed(offset_s * 1000).unwrap();
    date::format(ms).to_str().unwrap().to_owned()
}

const RESPONSE_DIRECTIVES: [&str; 29] = [
    "max-age=0",
    "max-age=60",
    "max-age=60",
    "max-age=3600",
    "s-maxage=0",
    "s-maxage=60",
    "s-maxage=3600",
    "no-store",
    "no-cache",
    "private",
    "public",
    "must-revalidate",
    "proxy-revalidate",
    "must-understand",
    "immutable",
    "stale-while-revalidate=60",
    "private=\"x-a\"",
    "no-cache=\"x-a\"",
    "no-cache=\"set-cookie\"",
    "max-age=\"60\"",
    "max-age=x",
    "max-age",
    "max-age=-1",
    "max-age=99999999999999999999",
    "s-maxage=x",
    "Max-Age=60",
    "No-Store",
    "ext=\"a, no-store, max-age=3600, b\"",
    "ext=1",
];

const REQUEST_DIRECTIVES: [&str; 15] = [
    "no-cache",
    "no-store",
    "max-age=0",
    "max-age=60",
    "max-age=600",
    "max-age=x",
    "min-fresh=0",
    "min-fresh=60",
    "min-fresh=x",
    "max-stale",
    "max-stale=0",
    "max-stale=60",
    "max-stale=x",
    "Max-Stale=600",
    "only-if-cached",
];

const STATUSES: [u16; 28] = [
    200, 200, 200, 200, 200, 200, 201, 203, 204, 206, 300, 301, 302, 303, 304, 307, 308, 400, 403,
    404, 405, 410, 416, 429, 500, 501, 503, 599,
];

type Line = Option<(&'static str, String)>;

/// One line of a field, or none, from a list of values.
fn line(name: &'static str, values: &[&str], none: u32) -> impl Strategy<Value = Line> + use<> {
    let values: Vec<String> = values.iter().map(|value| (*value).to_owned()).collect();
    let some = u32::try_from(values.len()).unwrap();
    prop_oneof![
        none => Just(None),
        some => select(values).prop_map(move |value| Some((name, value))),
    ]
}

/// Up to `most` directives, in one line or in several.
fn directives(list: &'static [&str], most: usize) -> impl Strategy<Value = Vec<Line>> {
    let members = prop::collection::vec(select(list), 0..=most);
    (members, any::<bool>()).prop_map(|(members, apart)| {
        let lines = match apart {
            true => members.iter().map(|one| (*one).to_owned()).collect(),
            false if members.is_empty() => Vec::new(),
            false => vec![members.join(", ")],
        };
        let line = |value| Some(("cache-control", value));
        lines.into_iter().map(line).collect()
    })
}

fn to_map(lines: impl IntoIterator<Item = Line>) -> HeaderMap {
    let lines: Vec<_> = lines.into_iter().flatten().collect();
    let lines: Vec<_> = lines
        .iter()
        .map(|(name, value)| (*name, value.as_str()))
        .collect();
    fields(&lines)
}

fn dates(offsets_s: &[i64], more: &[&str]) -> Vec<String> {
    let more = more.iter().map(|value| (*value).to_owned());
    offsets_s.iter().map(|s| at(*s)).chain(more).collect()
}

fn dated(
    name: &'static str,
    offsets_s: &[i64],
    more: &[&str],
    none: u32,
) -> impl Strategy<Value = Line> + use<> {
    let values = dates(offsets_s, more);
    let values: Vec<&str> = values.iter().map(String::as_str).collect();
    line(name, &values, none)
}

fn response() -> impl Strategy<Value = HeaderMap> {
    // Obsolete forms of the moment a minute from now, and one that is no form.
    let other_forms = [
        "Sunday, 09-Sep-01 01:47:40 GMT",
        "Sun Sep  9 01:47:40 2001",
        "Sun, 09 Sep 2001 01:47:40 +0000",
    ];
    let expires = [&other_forms[..], &["0"]].concat();
    let several = (
        directives(&RESPONSE_DIRECTIVES, 4),
        dated("expires", &[-3600, 0, 60, 3600], &expires, 12),
        dated("expires", &[60, 3600], &[], 20),
    );
    let single = (
        dated("date", &[0, -30, -3600, 60], &["x"], 5),
        line("age", &["0", "30", "3600", "x", "-1", "30, 60"], 6),
        line("age", &["60"], 9),
        // Tenths in whole seconds, so that nobody has to round.
        dated("last-modified", &[-1000, -10_000_000], &["x"], 3),
        line("etag", &["\"a\"", "W/\"a\"", ""], 3),
        line(
            "vary",
            &[
                "accept",
                "accept",
                "Accept, x-a",
                "Accept, x-a",
                "*",
                "accept, *",
            ],
            8,
        ),
        line("vary", &["x-a"], 6),
        line("set-cookie", &["a=b"], 9),
        line("pragma", &["no-cache"], 8),
    );
    (several, single).prop_map(|((cc, e1, e2), (d, a1, a2, lm, etag, v1, v2, c, p))| {
        to_map(
            cc.into_iter()
                .chain([e1, e2, d, a1, a2, lm, etag, v1, v2, c, p]),
        )
    })
}

fn selecting() -> impl Strategy<Value = [Line; 2]> {
    (
        line("accept", &["a", "a,b", "a, b"], 4),
        line("x-a", &["1"], 3),
    )
        .prop_map(|(accept, x)| [accept, x])
}

fn first_request() -> impl Strategy<Value = HeaderMap> {
    (
        selecting(),
        line("cache-control", &["no-store", "max-age=0", "No-Store"], 9),
        line("authorization", &["x"], 3),
    )
        .prop_map(|(selecting, cc, credentials)| {
            to_map(selecting.into_iter().chain([cc, credentials]))
        })
}

fn second_request() -> impl Strategy<Value = HeaderMap> {
    let pragma = line("pragma", &["no-cache"], 6);
    (selecting(), directives(&REQUEST_DIRECTIVES, 2), pragma)
        .prop_map(|(selecting, cc, pragma)| to_map(selecting.into_iter().chain(cc).chain([pragma])))
}

fn not_modified() -> impl Strategy<Value = HeaderMap> {
    (
        line("etag", &["\"a\"", "W/\"a\"", "\"b\""], 3),
        dated("last-modified", &[-1000, -500], &["x"], 4),
        line("cache-control", &["max-age=600", "private"], 2),
        line("content-length", &["9"], 3),
        line("content-type", &["text/x"], 3),
        line("x-new", &["n"], 1),
        line("connection", &["x-hop"], 2),
        line("x-hop", &["h"], 2),
    )
        .prop_map(|(a, b, c, d, e, f, g, h)| to_map([a, b, c, d, e, f, g, h]))
}

/// Any case that the grammar allows.
pub(crate) fn case() -> impl Strategy<Value = Case> {
    let methods = [
        Method::GET,
        Method::GET,
        Method::GET,
        Method::GET,
        Method::GET,
        Method::GET,
        Method::GET,
        Method::HEAD,
        Method::POST,
        Method::PUT,
    ];
    let again = [Method::GET, Method::GET, Method::GET, Method::HEAD];
    (
        (select(methods.to_vec()), first_request()),
        (select(STATUSES.to_vec()), response()),
        select(vec![0_u64, 29, 31, 59, 61, 121, 3_700, 90_000]),
        (select(again.to_vec()), second_request()),
        not_modified(),
    )
        .prop_map(|(first, answer, later_s, second, confirmed)| Case {
            method: first.0,
            asked: first.1,
            status: StatusCode::from_u16(answer.0).unwrap(),
            answered: answer.1,
            later_s,
            again_method: second.0,
            again: second.1,
            confirmed: Some(confirmed),
        })
}
