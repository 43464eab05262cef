//! What the origin has: one kind of content for everything a cache does.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, UNIX_EPOCH};

use node::MovedClock;
use tests::{Gate, Origin, Recorded, Reply};

/// `sites.toml`. `{origin}` stands for the pool's servers.
pub(crate) const SITES: &str = r#"
[pools.shop]
servers = [{origin}]

[sites.shop]
hosts = ["shop.example"]
pool = "shop"
fallback = ["stale", "direct"]
[sites.shop.cache]
compress = true
negative_ttl_s = 10
normalise = ["accept-encoding", "accept-language"]
bypass_cookies = ["session"]
[sites.shop.key]
query = { drop = ["utm_*"] }
query_sort = true
cookies = ["lang"]

[sites.slices]
hosts = ["slices.example"]
pool = "shop"
trust_traceparent = true
[sites.slices.cache]
slice_bytes = "64KiB"
set_cookie = "strip"
tell_key = true
"#;

const MODIFIED: &str = "Sun, 01 Jan 2023 00:00:00 GMT";

/// Long enough to be cut into ranges and to be worth compressing.
fn text(words: &str, bytes: usize) -> String {
    let mut text = String::new();
    for line in 0.. {
        if text.len() >= bytes {
            break;
        }
        text += &format!("{line}: {words}\n");
    }
    text.truncate(bytes);
    text
}

/// How often the origin was asked for what fails now and then, by target.
type Counts = Mutex<HashMap<String, u32>>;

/// Lets `origin` answer for the site; what is held waits at the gate that is set.
pub(crate) fn open(origin: &Origin, clock: &MovedClock, gate: &Arc<Mutex<Gate>>) {
    let (clock, gate) = (clock.clone(), Arc::clone(gate));
    let counts = Counts::default();
    origin.on_others(move |asked| {
        let now_ms = clock.now_ms();
        let now = UNIX_EPOCH + Duration::from_millis(now_ms);
        let reply = match asked.method.as_str() {
            "GET" | "HEAD" => content(asked, now_ms, &counts),
            method => changed(asked, method),
        };
        let reply = reply.set("Date", &httpdate::fmt_http_date(now));
        if asked.path().starts_with("/held/") {
            return reply.held_at(&gate.lock().expect("nobody panics"));
        }
        reply
    });
}

/// What an unsafe or a curious method is told.
fn changed(asked: &Recorded, method: &str) -> Reply {
    let body = format!("{method} took {} bytes", asked.body.len());
    let reply = Reply::new(200).body(body);
    match asked.path().split('/').nth(1) {
        Some("error") => Reply::new(500).body("not changed"),
        Some("group") => reply.with("Cache-Group-Invalidation", "\"all\""),
        Some("moved") => Reply::new(201).with("Location", "/fresh/0").body("made"),
        Some("fresh") if method == "POST" => reply
            .with("Cache-Control", "max-age=60")
            .with("Content-Location", &asked.target),
        _ => reply,
    }
}

fn content(asked: &Recorded, now_ms: u64, counts: &Counts) -> Reply {
    // It changes once a minute.
    let version = now_ms / 60_000 % 100_000;
    let kind = asked.path().split('/').nth(1).unwrap_or_default();
    let body = text(&format!("{} of version {version}", asked.path()), 700);
    let typed = |reply: Reply| reply.with("Content-Type", "text/html");
    match kind {
        "fresh" => typed(Reply::fresh(text(asked.path(), 700)))
            .with("Last-Modified", MODIFIED)
            .unless_known(asked, "\"whole\""),
        "short" => typed(Reply::ok(body))
            .with("Cache-Control", "max-age=20")
            .unless_known(asked, &format!("\"v{version}\"")),
        "swr" => typed(Reply::ok(body))
            .with("Cache-Control", "max-age=3, stale-while-revalidate=600")
            .unless_known(asked, &format!("\"v{version}\"")),
        "sie" => {
            let mut counts = counts.lock().expect("nobody panics");
            let count = counts.entry(asked.target.clone()).or_default();
            *count += 1;
            match *count % 2 {
                1 => Reply::ok(body).with("Cache-Control", "max-age=2, stale-if-error=900"),
                _ => Reply::new(503).body("not now").with("Retry-After", "9"),
            }
        }
        "vary" => {
            let language = asked.says("accept-language");
            Reply::fresh(format!("in {language:?}: {body}"))
                .with("Vary", "Accept-Language, X-Own")
                .with("Content-Language", "de")
        }
        "coded" => Reply::fresh(body)
            .with("Content-Type", "text/css")
            .with("ETag", "\"whole\""),
        "private" => Reply::ok(body)
            .with("Cache-Control", "private, max-age=60")
            .with("Set-Cookie", "session=7; Path=/"),
        "no-store" => Reply::ok(body).with("Cache-Control", "no-store"),
        "no-cache" => Reply::ok(body)
            .with("Cache-Control", "no-cache")
            .unless_known(asked, "\"whole\""),
        "plain" => Reply::ok(text(asked.path(), 300)).with("Last-Modified", MODIFIED),
        "chunked" => Reply::fresh(text(asked.path(), 90)).chunked(),
        "until-close" => Reply::ok(body)
            .with("Cache-Control", "max-age=30")
            .until_close(),
        "large" => Reply::fresh("")
            .with("ETag", "\"whole\"")
            .repeating(text(asked.path(), 1 << 10), 150)
            .from_where_asked(asked),
        "error" => Reply::new(500).body("failed"),
        "missing" => Reply::new(404).body("not here"),
        "moved" => Reply::new(301)
            .with("Location", "http://shop.example/fresh/0")
            .with("Cache-Control", "max-age=60"),
        "garbage" => Reply::raw("this is not HTTP\r\n\r\n"),
        "interim" => Reply::ok(body)
            .with("Cache-Control", "no-store")
            .after_interim(103),
        "coming" => Reply::fresh(body).after_interim(103),
        "group" => Reply::fresh(body).with("Cache-Groups", "\"all\", \"more\""),
        "trailer" => Reply::raw(format!(
            "HTTP/1.1 200 OK\r\nDate: {}\r\nCache-Control: max-age=40\r\nTrailer: X-End\r\n\
             Transfer-Encoding: chunked\r\n\r\n7\r\ncontent\r\n0\r\nX-End: yes\r\n\r\n",
            httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_millis(now_ms))
        )),
        "broken" => Reply::fresh(body).breaking_after(250),
        "fields" => Reply::ok(body)
            .with("Cache-Control", "max-age=30, no-cache=\"x-own\"")
            .with("X-Own", "one")
            .with("X-Own", "two")
            .with("Set-Cookie", "a=1")
            .with("Set-Cookie", "b=2")
            .with("Link", "</style.css>; rel=preload")
            .with("Tier-Result", "v=1")
            .with("Connection", "X-Hop")
            .with("X-Hop", "here alone")
            .with("Warning", "199 - \"old\""),
        "credentials" => Reply::ok(body).with("Cache-Control", "public, s-maxage=30"),
        "ws" if asked.field("upgrade").is_some() => Reply::switching_to("words"),
        _ => Reply::fresh(body),
    }
}
