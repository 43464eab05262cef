//! The pages of the demo origin: one function a page, one table of paths.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::{Buf, Bytes};
use http::header::{
    ACCEPT_ENCODING, ACCEPT_LANGUAGE, ALLOW, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_LANGUAGE,
    ETAG, LAST_MODIFIED, LOCATION, SERVER, SET_COOKIE, VARY,
};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode, Uri};
use http_body_util::BodyExt as _;
use hyper::body::Body;

use super::body::OriginBody;
use super::count::Counts;
use super::reply::{Reply, With as _, conditional, page, refusal, tag, text, value};
use super::{deflate, picture};

/// The longest generated body. A terabyte tests everything a larger one would.
const BYTES_MAX: u64 = 1 << 40;

/// `/large`: one gibibyte.
const LARGE_BYTES: u64 = 1 << 30;

/// RFC 9111 §1.2.2: a cache reads any greater number of seconds as this one.
const FRESH_S_MAX: u64 = 1 << 31;

/// The longest wait of `/slow`: beyond every timeout a cache has by default.
const SLOW_MS_MAX: u64 = 120_000;
const SLOW_MS_DEFAULT: u64 = 2_000;

/// The number of a request in the order of arrival, on every answer.
const X_ORIGIN_REQUEST: HeaderName = HeaderName::from_static("x-origin-request");

const HTML: &str = "text/html; charset=utf-8";

/// The site and what it remembers.
#[derive(Debug, Default)]
pub(super) struct Site {
    counts: Counts,
    posts: AtomicU64,
}

impl Site {
    /// Answers one request. Never fails: what is wrong becomes a 4xx in words.
    pub(super) async fn answer<B: Body>(&self, request: Request<B>) -> Reply {
        let number = self.counts.add(request.uri().path());
        let (head, body) = request.into_parts();
        let reply = match (head.uri.path(), &head.method) {
            ("/echo", _) => echo(&head, body).await,
            ("/form", &Method::POST) => self.posted(body).await,
            ("/form", &Method::GET | &Method::HEAD) => self.form(),
            ("/form", _) => not_allowed("GET, HEAD, POST"),
            ("/slow", &Method::GET | &Method::HEAD) => slow(&head.uri, number).await,
            (path, &Method::GET | &Method::HEAD) => self.page(path, &head.headers, number),
            _ => not_allowed("GET, HEAD"),
        };
        conditional(&head.method, &head.headers, reply)
            .with(SERVER, HeaderValue::from_static("headwater-demo-origin"))
            .with(X_ORIGIN_REQUEST, HeaderValue::from(number))
    }

    /// The pages that need neither waiting nor a request body.
    fn page(&self, path: &str, asked: &HeaderMap, number: u64) -> Reply {
        let made = |what: &str| text(format!("{what}, made for origin request {number}"));
        match path {
            "/" => file(HTML, include_str!("pages/index.html")).cached("max-age=60"),
            "/style.css" => file("text/css; charset=utf-8", include_str!("pages/style.css"))
                .cached("max-age=3600"),
            "/logo.svg" => {
                file("image/svg+xml", include_str!("pages/logo.svg")).cached("max-age=3600")
            }
            "/photo.png" => file("image/png", picture::png()).cached("max-age=86400, immutable"),
            "/stale" => made("fresh for 2 s, usable for a while longer")
                .cached("max-age=2, stale-while-revalidate=30, stale-if-error=300"),
            "/private" => made("for one visitor").cached("private, max-age=60"),
            "/no-store" => made("for no cache").cached("no-store"),
            "/cookie" => made("comes with a cookie").cached("max-age=60").with(
                SET_COOKIE,
                value(format!("visit={number}; Path=/; HttpOnly; SameSite=Lax")),
            ),
            "/vary" => vary(asked),
            "/etag" => {
                file("text/plain; charset=utf-8", "confirmed at each use\n").cached("no-cache")
            }
            "/last-modified" => made("unchanged for long").with(
                LAST_MODIFIED,
                HeaderValue::from_static("Mon, 01 Jan 2024 00:00:00 GMT"),
            ),
            "/large" => pattern(LARGE_BYTES),
            "/redirect" => redirect(),
            "/count" => {
                page("application/json", OriginBody::whole(self.counts.json())).cached("no-store")
            }
            _ => match path.strip_prefix('/').and_then(|rest| rest.split_once('/')) {
                Some(("fresh", seconds)) => fresh(seconds, number),
                Some(("bytes", length)) => sized(length, pattern),
                Some(("stream", length)) => sized(length, stream),
                Some(("error", code)) => error(code),
                _ => refusal(
                    StatusCode::NOT_FOUND,
                    "no such page here; / lists what there is",
                ),
            },
        }
    }

    /// A form that stays fresh until somebody posts: RFC 9111 §4.4 at work.
    fn form(&self) -> Reply {
        let posts = self.posts.load(Ordering::Relaxed);
        let body = format!(
            "<!doctype html>\n<html lang=\"en\"><meta charset=\"utf-8\"><title>Form</title>\n\
             <p>Posted {posts} times so far.</p>\n\
             <form method=\"post\"><label>Words <input name=\"words\"></label> \
             <button>Send</button></form>\n</html>\n"
        );
        page(HTML, OriginBody::whole(body)).cached("max-age=60")
    }

    async fn posted<B: Body>(&self, body: B) -> Reply {
        let Ok(length) = read(body).await else {
            return cut_short();
        };
        let posts = self.posts.fetch_add(1, Ordering::Relaxed) + 1;
        text(format!("received {length} bytes, post number {posts}")).cached("no-store")
    }
}

/// A page that is the same for everybody, with its tag.
fn file(content_type: &'static str, body: impl Into<Bytes>) -> Reply {
    let body = body.into();
    let tag = tag(&body);
    page(content_type, OriginBody::whole(body)).with(ETAG, tag)
}

/// `/vary`: three languages, each plain or gzip-coded.
fn vary(asked: &HeaderMap) -> Reply {
    let (language, words) = match preferred(asked, ACCEPT_LANGUAGE, &["en", "de", "fr"]) {
        Some("de") => ("de", "Das Wasser ist frisch.\n"),
        Some("fr") => ("fr", "L'eau est fraîche.\n"),
        _ => ("en", "The water is fresh.\n"),
    };
    let gzip = preferred(asked, ACCEPT_ENCODING, &["gzip"]).is_some();
    let body = if gzip {
        deflate::gzip(words.as_bytes()).into()
    } else {
        Bytes::from(words)
    };
    let reply = file("text/plain; charset=utf-8", body)
        .cached("max-age=60")
        .with(
            VARY,
            HeaderValue::from_static("Accept-Language, Accept-Encoding"),
        )
        .with(CONTENT_LANGUAGE, HeaderValue::from_static(language));
    if gzip {
        reply.with(CONTENT_ENCODING, HeaderValue::from_static("gzip"))
    } else {
        reply
    }
}

/// The first of the client's choices that is one of `ours` and not refused by
/// `q=0`. The order of the list stands for its weights: enough for a demo.
fn preferred(asked: &HeaderMap, name: HeaderName, ours: &[&'static str]) -> Option<&'static str> {
    let lists = asked.get_all(name);
    let mut choices = lists
        .iter()
        .filter_map(|list| list.to_str().ok())
        .flat_map(|list| list.split(','));
    choices.find_map(|choice| {
        let mut parts = choice.split(';').map(str::trim);
        // `de-AT` is served by `de` (RFC 4647 §3.4).
        let range = parts.next()?.split('-').next()?;
        let refused = parts.any(|part| {
            part.strip_prefix("q=")
                .and_then(|weight| weight.parse().ok())
                == Some(0.0_f32)
        });
        let found = ours.iter().find(|our| our.eq_ignore_ascii_case(range))?;
        (!refused).then_some(*found)
    })
}

/// `/fresh/N`.
fn fresh(seconds: &str, number: u64) -> Reply {
    match whole_number(seconds, FRESH_S_MAX) {
        Some(seconds) => text(format!(
            "fresh for {seconds} s, made for origin request {number}"
        ))
        .with(CACHE_CONTROL, value(format!("max-age={seconds}"))),
        None => bad(&format!(
            "/fresh/N takes whole seconds from 0 to {FRESH_S_MAX}"
        )),
    }
}

fn sized(length: &str, page: fn(u64) -> Reply) -> Reply {
    match whole_number(length, BYTES_MAX) {
        Some(length) => page(length),
        None => bad(&format!(
            "N must be a whole number of bytes from 0 to {BYTES_MAX}"
        )),
    }
}

/// `/bytes/N`.
fn pattern(length: u64) -> Reply {
    page("application/octet-stream", OriginBody::pattern(0, length))
        .cached("max-age=3600")
        .with(ETAG, value(format!("\"pattern-{length}\"")))
}

/// `/stream/N`.
fn stream(length: u64) -> Reply {
    page(
        "application/octet-stream",
        OriginBody::unsized_pattern(length),
    )
    .cached("max-age=3600")
}

/// `/error/CODE`.
fn error(code: &str) -> Reply {
    let status = whole_number(code, 599).filter(|code| *code >= 400);
    let status = status.and_then(|code| StatusCode::from_u16(u16::try_from(code).ok()?).ok());
    let Some(status) = status else {
        return bad("/error/CODE takes a status from 400 to 599");
    };
    let mut reply = text(format!("{status}, as you asked"));
    *reply.status_mut() = status;
    reply
}

fn redirect() -> Reply {
    let mut reply = text("over there: /")
        .cached("max-age=60")
        .with(LOCATION, HeaderValue::from_static("/"));
    *reply.status_mut() = StatusCode::FOUND;
    reply
}

/// `/slow?ms=N`.
async fn slow(uri: &Uri, number: u64) -> Reply {
    let parameters = uri.query().into_iter().flat_map(|query| query.split('&'));
    let mut asked = parameters.filter_map(|parameter| parameter.strip_prefix("ms="));
    let wait_ms = match asked.next() {
        Some(text) => whole_number(text, SLOW_MS_MAX),
        None => Some(SLOW_MS_DEFAULT),
    };
    let Some(wait_ms) = wait_ms else {
        return bad(&format!(
            "/slow?ms=N takes milliseconds from 0 to {SLOW_MS_MAX}"
        ));
    };
    tokio::time::sleep(Duration::from_millis(wait_ms)).await;
    text(format!(
        "waited {wait_ms} ms, made for origin request {number}"
    ))
    .cached("max-age=60")
}

/// `/echo`: the request as it arrived.
async fn echo<B: Body>(head: &http::request::Parts, body: B) -> Reply {
    let mut out = format!("{} {} {:?}\n", head.method, head.uri, head.version).into_bytes();
    for (name, field) in &head.headers {
        out.extend_from_slice(name.as_str().as_bytes());
        out.extend_from_slice(b": ");
        out.extend_from_slice(field.as_bytes());
        out.push(b'\n');
    }
    let Ok(length) = read(body).await else {
        return cut_short();
    };
    out.extend_from_slice(format!("\nbody: {length} bytes\n").as_bytes());
    // Field values may hold any bytes above 127, so no charset is claimed.
    page("text/plain", OriginBody::whole(out)).cached("no-store")
}

/// Reads a request body to its end, keeping nothing but its length.
async fn read<B: Body>(body: B) -> Result<u64, B::Error> {
    let mut body = std::pin::pin!(body);
    let mut length = 0;
    while let Some(frame) = body.frame().await {
        length += frame?.data_ref().map_or(0, |data| data.remaining() as u64);
    }
    Ok(length)
}

fn cut_short() -> Reply {
    bad("the request body ended before its end")
}

fn bad(words: &str) -> Reply {
    refusal(StatusCode::BAD_REQUEST, words)
}

fn not_allowed(methods: &'static str) -> Reply {
    refusal(
        StatusCode::METHOD_NOT_ALLOWED,
        &format!("this page answers {methods} only"),
    )
    .with(ALLOW, HeaderValue::from_static(methods))
}

/// Digits alone, no sign, and at most `max`.
fn whole_number(text: &str, max: u64) -> Option<u64> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|number| digits && *number <= max)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_choice_we_have_wins() {
        let cases = [
            ("", None),
            ("de", Some("de")),
            ("fr-CH, en;q=0.9", Some("fr")),
            ("es, DE;q=0.5, en;q=0.1", Some("de")),
            ("de;q=0, en", Some("en")),
            ("de;q=0.0", None),
            ("*", None),
            (",,;;", None),
        ];
        for (list, expected) in cases {
            let mut asked = HeaderMap::new();
            asked.insert(ACCEPT_LANGUAGE, HeaderValue::from_static(list));
            assert_eq!(
                preferred(&asked, ACCEPT_LANGUAGE, &["en", "de", "fr"]),
                expected,
                "{list}"
            );
        }
    }

    #[test]
    fn numbers_are_digits_within_their_bound() {
        let cases = [
            ("0", Some(0)),
            ("10", Some(10)),
            ("11", None),
            ("+1", None),
            ("-1", None),
            ("", None),
            ("1.5", None),
            ("99999999999999999999999", None),
        ];
        for (text, expected) in cases {
            assert_eq!(whole_number(text, 10), expected, "{text}");
        }
    }
}
