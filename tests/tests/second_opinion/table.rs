//! The differences that are meant to be: which way, when, and a witness.
//!
//! Their names stand in `docs/departures.md`, each beside the section it rests on.

use http::{HeaderMap, Method};

use crate::cases::{Case, at};
use crate::differences::Difference;
use crate::differences::Question::{Age, Conditions, Confirmed, Fresh, Freshened, Reused, Stored};
use crate::differences::Side::{They, We};
use crate::opinions::{ours, stale_for_ms};

/// All of them.
pub(crate) const DIFFERENCES: &[Difference] = &[
    // What is stored.
    Difference {
        name: "a HEAD is not stored",
        explains: &[(Stored, They)],
        when: |case, _| case.method == Method::HEAD,
        witness: || one("max-age=60").method(Method::HEAD),
    },
    Difference {
        name: "a POST without Content-Location is not stored",
        explains: &[(Stored, They)],
        when: |case, _| case.method == Method::POST,
        witness: || one("max-age=60").method(Method::POST),
    },
    Difference {
        name: "a cookie is not stored",
        explains: &[(Stored, They)],
        when: |case, _| case.answered.contains_key("set-cookie"),
        witness: || {
            Case::answered(
                0,
                &[
                    ("cache-control", "public, max-age=60"),
                    ("set-cookie", "a=b"),
                ],
            )
        },
    },
    Difference {
        name: "what matches no request is not stored",
        explains: &[(Stored, They)],
        when: |case, _| field(&case.answered, "vary").contains('*'),
        witness: || Case::answered(0, &[("cache-control", "max-age=60"), ("vary", "*")]),
    },
    Difference {
        name: "what can neither be fresh nor validated is not stored",
        explains: &[(Stored, They)],
        when: |case, _| ours(case).useless,
        witness: || one("max-age=0"),
    },
    Difference {
        name: "every final status may be stored",
        explains: &[(Stored, We)],
        when: |case, _| {
            matches!(
                case.status.as_u16(),
                201 | 400 | 403 | 500 | 503 | 599 | 416
            )
        },
        witness: || one("max-age=60").status(503),
    },
    Difference {
        name: "must-understand outweighs no-store",
        explains: &[(Stored, We)],
        when: |case, _| says(&case.answered, "must-understand"),
        witness: || one("max-age=60, no-store, must-understand"),
    },
    Difference {
        name: "private may name fields",
        explains: &[(Stored, We)],
        when: |case, _| says(&case.answered, "private=\"x-a\""),
        witness: || one("max-age=60, private=\"x-a\""),
    },
    // How fields are read.
    Difference {
        name: "directives have no case",
        explains: &[
            (Stored, We),
            (Stored, They),
            (Fresh, We),
            (Fresh, They),
            (Reused, We),
            (Reused, They),
        ],
        when: |case, _| {
            says(&case.answered, "No-Store")
                || says(&case.answered, "Max-Age=60")
                || says(&case.asked, "No-Store")
                || says(&case.again, "Max-Stale=600")
        },
        witness: || one("Max-Age=60"),
    },
    Difference {
        name: "a comma in quotes divides nothing",
        explains: &[(Stored, We), (Fresh, They), (Reused, They)],
        when: |case, _| quotes_a_list(&case.answered),
        witness: || one("max-age=60, ext=\"a, no-store, max-age=3600, b\""),
    },
    Difference {
        name: "of two values the stricter counts",
        // They add must-revalidate, which also permits to store despite credentials.
        explains: &[(Stored, They), (Fresh, They), (Reused, They), (Reused, We)],
        when: |case, _| contradicts(&case.answered) || contradicts(&case.again),
        witness: || Case::answered(61, &[("cache-control", "max-age=3600, max-age=60")]),
    },
    Difference {
        name: "a number that cannot be read is zero",
        explains: &[(Fresh, They), (Reused, They)],
        when: |case, _| {
            UNREADABLE
                .iter()
                .any(|bad| says(&case.answered, bad) || says(&case.again, bad))
        },
        witness: || {
            Case::answered(
                0,
                &[
                    ("cache-control", "max-age"),
                    ("expires", &at(60)),
                    ("etag", "\"a\""),
                ],
            )
        },
    },
    Difference {
        name: "a number too large is for ever",
        explains: &[(Fresh, We), (Reused, We)],
        when: |case, _| says(&case.answered, "max-age=99999999999999999999"),
        witness: || one("max-age=99999999999999999999"),
    },
    Difference {
        name: "dates have three forms and no other",
        explains: &[(Fresh, We), (Fresh, They), (Reused, We), (Reused, They)],
        when: |case, _| {
            let expires = field(&case.answered, "expires");
            ["-01", "2001 |", "09 01:47:40 2001", "  9 ", "+0000"]
                .iter()
                .any(|form| expires.contains(form))
        },
        witness: || Case::answered(0, &[("expires", "Sun Sep  9 01:47:40 2001")]),
    },
    Difference {
        name: "of several Expires the earliest counts",
        explains: &[(Fresh, They), (Reused, They)],
        when: |case, _| case.answered.get_all("expires").iter().count() > 1,
        witness: || {
            Case::answered(
                61,
                &[
                    ("expires", &at(3600)),
                    ("expires", &at(60)),
                    ("etag", "\"a\""),
                ],
            )
        },
    },
    Difference {
        name: "Pragma means nothing in a response",
        explains: &[(Fresh, We), (Reused, We)],
        when: |case, _| {
            case.answered.contains_key("pragma") && !case.answered.contains_key("cache-control")
        },
        witness: || Case::answered(0, &[("expires", &at(60)), ("pragma", "no-cache")]),
    },
    // Age and freshness.
    Difference {
        name: "Date proves an age",
        explains: &[(Age, We), (Fresh, They), (Reused, They)],
        when: |case, _| [at(-30), at(-3600)].contains(&field(&case.answered, "date")),
        witness: || Case::answered(0, &[("date", &at(-30)), ("etag", "\"a\"")]),
    },
    Difference {
        name: "of several Age values the first counts",
        explains: &[(Age, We), (Fresh, They), (Reused, They)],
        when: |case, _| field(&case.answered, "age").starts_with("30, 60"),
        witness: || Case::answered(0, &[("age", "30, 60"), ("etag", "\"a\"")]),
    },
    Difference {
        name: "immutable gives no lifetime",
        explains: &[(Fresh, They), (Reused, They)],
        when: |case, _| says(&case.answered, "immutable"),
        witness: || Case::answered(0, &[("cache-control", "immutable"), ("etag", "\"a\"")]),
    },
    Difference {
        name: "a guess is good for a day at most",
        explains: &[(Fresh, They), (Reused, They)],
        when: |case, _| {
            case.later_s > 86_400 && field(&case.answered, "last-modified") == at(-10_000_000)
        },
        witness: || Case::answered(90_000, &[("last-modified", &at(-10_000_000))]),
    },
    Difference {
        name: "proxy-revalidate is about stale responses",
        explains: &[(Fresh, We), (Reused, We)],
        when: |case, _| says(&case.answered, "proxy-revalidate"),
        witness: || one("max-age=60, proxy-revalidate"),
    },
    Difference {
        name: "no-cache may name fields",
        explains: &[(Fresh, We), (Reused, We), (Freshened, They)],
        when: |case, field| {
            let answered = &case.answered;
            let alone = !says(answered, "no-cache");
            !names(answered, "no-cache").is_empty() && (alone || field == "set-cookie")
        },
        witness: || one("max-age=60, no-cache=\"x-a\""),
    },
    Difference {
        name: "stale-while-revalidate is known",
        explains: &[(Fresh, We), (Reused, We)],
        when: |case, _| says(&case.answered, "stale-while-revalidate=60"),
        witness: || {
            Case::answered(
                61,
                &[("cache-control", "max-age=60, stale-while-revalidate=60")],
            )
        },
    },
    // What a request asks for.
    Difference {
        name: "a stored GET answers a HEAD",
        explains: &[(Reused, We)],
        when: |case, _| case.again_method == Method::HEAD,
        witness: || one("max-age=60").again(Method::HEAD, &[]),
    },
    Difference {
        name: "a request's no-store does not look",
        explains: &[(Reused, They)],
        when: |case, _| says(&case.again, "no-store"),
        witness: || one("max-age=60").again(Method::GET, &[("cache-control", "no-store")]),
    },
    Difference {
        name: "Pragma beside Cache-Control says nothing",
        explains: &[(Reused, We)],
        when: |case, _| {
            case.again.contains_key("pragma") && case.again.contains_key("cache-control")
        },
        witness: || {
            one("max-age=60").again(
                Method::GET,
                &[("pragma", "no-cache"), ("cache-control", "max-age=60")],
            )
        },
    },
    Difference {
        name: "max-age=0 is a reload",
        explains: &[(Reused, They)],
        when: |case, _| says(&case.again, "max-age=0") && case.later_s == 0,
        witness: || one("max-age=60").again(Method::GET, &[("cache-control", "max-age=0")]),
    },
    Difference {
        name: "a reload leaves alone what is immutable",
        explains: &[(Reused, We)],
        when: |case, _| says(&case.answered, "immutable") && says(&case.again, "max-age=0"),
        witness: || {
            Case::answered(29, &[("cache-control", "max-age=60, immutable")])
                .again(Method::GET, &[("cache-control", "max-age=0")])
        },
    },
    Difference {
        name: "max-stale asks for nothing that forbids it",
        explains: &[(Reused, They)],
        when: |case, _| {
            !names(&case.again, "max-stale").is_empty()
                && ["no-cache", "proxy-revalidate", "s-maxage"]
                    .iter()
                    .any(|name| !names(&case.answered, name).is_empty())
        },
        witness: || {
            Case::answered(61, &[("cache-control", "s-maxage=60")])
                .again(Method::GET, &[("cache-control", "max-stale")])
        },
    },
    Difference {
        name: "max-stale includes its bound",
        explains: &[(Reused, We)],
        when: |case, _| match stale_for_ms(case) {
            Some(0) => says(&case.again, "max-stale=0"),
            Some(60_000) => says(&case.again, "max-stale=60"),
            _ => false,
        },
        witness: || {
            Case::answered(60, &[("cache-control", "max-age=60")])
                .again(Method::GET, &[("cache-control", "max-stale=0")])
        },
    },
    Difference {
        name: "min-fresh and max-age outweigh max-stale",
        explains: &[(Reused, They)],
        when: |case, _| {
            !names(&case.again, "max-stale").is_empty()
                && (says(&case.again, "min-fresh=0") || says(&case.again, "max-age=0"))
        },
        witness: || {
            Case::answered(61, &[("cache-control", "max-age=60")])
                .again(Method::GET, &[("cache-control", "max-stale, min-fresh=0")])
        },
    },
    Difference {
        name: "space around commas does not select",
        explains: &[(Reused, We)],
        when: |case, _| {
            let bare = |fields: &HeaderMap| field(fields, "accept").replace(' ', "");
            field(&case.answered, "vary").contains("ccept")
                && bare(&case.asked) == bare(&case.again)
        },
        witness: || {
            Case::answered(0, &[("cache-control", "max-age=60"), ("vary", "accept")])
                .asked(&[("accept", "a,b")])
                .again(Method::GET, &[("accept", "a, b")])
        },
    },
    // Validation.
    Difference {
        name: "what is no validator is not sent",
        explains: &[(Conditions, They)],
        when: |case, _| {
            field(&case.answered, "etag").is_empty()
                || field(&case.answered, "last-modified") == "x"
        },
        witness: || {
            Case::answered(0, &[("etag", "\"a\""), ("last-modified", "x")])
                .confirmed(&[("etag", "\"a\"")])
        },
    },
    Difference {
        name: "a 304 may come without a validator",
        explains: &[(Confirmed, We)],
        when: |case, _| {
            confirmed(case, "etag").is_empty()
                && [String::new(), "x".to_owned()].contains(&confirmed(case, "last-modified"))
        },
        witness: || Case::answered(0, &[("etag", "\"a\"")]).confirmed(&[]),
    },
    Difference {
        name: "without a validator nothing is confirmed",
        explains: &[(Confirmed, They)],
        when: |case, _| {
            field(&case.answered, "etag").is_empty()
                && ["", "x"].contains(&field(&case.answered, "last-modified").as_str())
        },
        witness: || one("max-age=60").confirmed(&[]),
    },
    Difference {
        name: "a tag that is not stored confirms nothing",
        explains: &[(Confirmed, They)],
        when: |case, _| {
            field(&case.answered, "etag").is_empty() && confirmed(case, "etag").starts_with("W/")
        },
        witness: || {
            let changed = ("last-modified", at(-1000));
            let changed = (changed.0, changed.1.as_str());
            Case::answered(0, &[changed]).confirmed(&[changed, ("etag", "W/\"a\"")])
        },
    },
    Difference {
        name: "a strong tag does not confirm a weak one",
        explains: &[(Confirmed, They)],
        when: |case, _| {
            field(&case.answered, "etag").starts_with("W/") && confirmed(case, "etag") == "\"a\""
        },
        witness: || Case::answered(0, &[("etag", "W/\"a\"")]).confirmed(&[("etag", "\"a\"")]),
    },
    Difference {
        name: "a 304 may bring new fields",
        explains: &[(Freshened, We)],
        when: |case, name| !case.answered.contains_key(name) && !confirmed(case, name).is_empty(),
        witness: || {
            Case::answered(0, &[("etag", "\"a\"")]).confirmed(&[("etag", "\"a\""), ("x-new", "n")])
        },
    },
    Difference {
        name: "lines of a field stay",
        explains: &[(Freshened, We)],
        when: |case, name| case.answered.get_all(name).iter().count() > 1,
        witness: || {
            Case::answered(
                0,
                &[
                    ("etag", "\"a\""),
                    ("cache-control", "max-age=60"),
                    ("cache-control", "public"),
                ],
            )
            .confirmed(&[("etag", "\"a\"")])
        },
    },
];

/// Whether a directive stands in `Cache-Control` as written here, by our own reading.
fn says(fields: &HeaderMap, wanted: &str) -> bool {
    members(fields).iter().any(|member| member == wanted)
}

fn names(fields: &HeaderMap, wanted: &str) -> Vec<String> {
    let mut members = members(fields);
    members.retain(|member| {
        member
            .split('=')
            .next()
            .is_some_and(|name| name.eq_ignore_ascii_case(wanted))
    });
    members
}

/// The grammar quotes in three members alone.
fn members(fields: &HeaderMap) -> Vec<String> {
    let lines = fields.get_all("cache-control").iter();
    let text: Vec<_> = lines.map(|line| line.to_str().unwrap()).collect();
    let text = text.join(", ").replace(QUOTED, "ext");
    text.split(", ")
        .filter(|member| !member.is_empty())
        .map(str::to_owned)
        .collect()
}

fn quotes_a_list(fields: &HeaderMap) -> bool {
    let mut lines = fields.get_all("cache-control").iter();
    lines.any(|line| line.to_str().unwrap().contains(QUOTED))
}

const QUOTED: &str = "ext=\"a, no-store, max-age=3600, b\"";

/// Members whose number is none.
const UNREADABLE: [&str; 6] = [
    "max-age",
    "max-age=x",
    "max-age=-1",
    "s-maxage=x",
    "min-fresh=x",
    "max-stale=x",
];

fn field(fields: &HeaderMap, name: &str) -> String {
    let lines = fields.get_all(name).iter();
    let lines: Vec<_> = lines.map(|line| line.to_str().unwrap()).collect();
    lines.join(" | ")
}

/// The lines of a field of the 304.
fn confirmed(case: &Case, name: &str) -> String {
    case.confirmed
        .as_ref()
        .map(|fields| field(fields, name))
        .unwrap_or_default()
}

/// Whether a directive comes twice with different values. To them a quoted value is
/// another one the second time, since they compare it with its quotes.
fn contradicts(fields: &HeaderMap) -> bool {
    let with_values = ["max-age", "s-maxage", "no-cache", "min-fresh", "max-stale"];
    with_values.iter().any(|name| {
        let values = names(fields, name);
        let differs = |value: &String| *value != values[0] || value.contains('"');
        values.iter().skip(1).any(differs)
    })
}

fn one(cache_control: &str) -> Case {
    Case::answered(0, &[("cache-control", cache_control)])
}
