//! The demo origin over a real socket, as a client sees it.

use std::collections::HashMap;
use std::net::SocketAddr;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// A running origin, and the end of it.
struct Origin {
    address: SocketAddr,
    stop: oneshot::Sender<()>,
    served: JoinHandle<std::io::Result<()>>,
}

impl Origin {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel();
        let served = tokio::spawn(super::serve(listener, async move {
            let _ = stopped.await;
        }));
        Self {
            address,
            stop,
            served,
        }
    }

    /// Sends one request on a connection of its own and reads to its end.
    async fn ask(&self, request_line: &str, fields: &str) -> Answer {
        self.raw(&format!(
            "{request_line} HTTP/1.1\r\nHost: demo.test\r\nConnection: close\r\n{fields}\r\n"
        ))
        .await
    }

    async fn get(&self, path: &str) -> Answer {
        self.ask(&format!("GET {path}"), "").await
    }

    async fn raw(&self, bytes: &str) -> Answer {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        stream.write_all(bytes.as_bytes()).await.unwrap();
        let mut all = Vec::new();
        stream.read_to_end(&mut all).await.unwrap();
        Answer::parse(&all)
    }
}

#[derive(Debug)]
struct Answer {
    status: u16,
    fields: HashMap<String, String>,
    body: Vec<u8>,
}

impl Answer {
    fn parse(all: &[u8]) -> Self {
        let end = all
            .windows(4)
            .position(|four| four == b"\r\n\r\n")
            .expect("a whole head");
        let head = std::str::from_utf8(&all[..end]).unwrap();
        let mut lines = head.split("\r\n");
        let status = lines
            .next()
            .unwrap()
            .split(' ')
            .nth(1)
            .unwrap()
            .parse()
            .unwrap();
        let fields: HashMap<_, _> = lines
            .map(|line| line.split_once(": ").unwrap())
            .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
            .collect();
        let mut body = all[end + 4..].to_vec();
        if fields
            .get("transfer-encoding")
            .is_some_and(|coding| coding == "chunked")
        {
            body = unchunk(&body);
        }
        Self {
            status,
            fields,
            body,
        }
    }

    fn field(&self, name: &str) -> &str {
        self.fields.get(name).map_or("", String::as_str)
    }

    fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }
}

fn unchunk(mut rest: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    loop {
        let line = rest
            .windows(2)
            .position(|two| two == b"\r\n")
            .expect("a chunk's length");
        let length =
            usize::from_str_radix(std::str::from_utf8(&rest[..line]).unwrap(), 16).unwrap();
        if length == 0 {
            return body;
        }
        body.extend_from_slice(&rest[line + 2..][..length]);
        rest = &rest[line + 2 + length + 2..];
    }
}

#[tokio::test]
async fn pages_carry_the_caching_fields_they_are_there_for() {
    let origin = Origin::start().await;
    let cases = [
        ("/", 200, "max-age=60"),
        ("/style.css", 200, "max-age=3600"),
        ("/logo.svg", 200, "max-age=3600"),
        ("/photo.png", 200, "max-age=86400, immutable"),
        ("/fresh/7", 200, "max-age=7"),
        (
            "/stale",
            200,
            "max-age=2, stale-while-revalidate=30, stale-if-error=300",
        ),
        ("/private", 200, "private, max-age=60"),
        ("/no-store", 200, "no-store"),
        ("/cookie", 200, "max-age=60"),
        ("/vary", 200, "max-age=60"),
        ("/etag", 200, "no-cache"),
        ("/last-modified", 200, ""),
        ("/bytes/10", 200, "max-age=3600"),
        ("/stream/10", 200, "max-age=3600"),
        ("/slow?ms=0", 200, "max-age=60"),
        ("/form", 200, "max-age=60"),
        ("/echo", 200, "no-store"),
        ("/count", 200, "no-store"),
        ("/redirect", 302, "max-age=60"),
        ("/error/503", 503, ""),
        ("/error/404", 404, ""),
    ];
    for (number, (path, status, cache_control)) in (1..).zip(cases) {
        let answer = origin.get(path).await;
        assert_eq!(answer.status, status, "{path}");
        assert_eq!(answer.field("cache-control"), cache_control, "{path}");
        assert_eq!(answer.field("server"), "headwater-demo-origin", "{path}");
        assert_eq!(
            answer.field("x-origin-request"),
            number.to_string(),
            "{path}"
        );
        assert!(!answer.field("date").is_empty(), "{path}");
    }
}

#[tokio::test]
async fn bad_input_gets_a_4xx_in_words() {
    let origin = Origin::start().await;
    let cases = [
        ("GET /nowhere", 404, "/ lists what there is"),
        ("GET /fresh", 404, "no such page"),
        ("GET /fresh/", 400, "whole seconds"),
        ("GET /fresh/soon", 400, "whole seconds"),
        ("GET /fresh/2147483649", 400, "whole seconds"),
        ("GET /bytes/-1", 400, "whole number of bytes"),
        (
            "GET /bytes/99999999999999999999",
            400,
            "whole number of bytes",
        ),
        ("GET /stream/1/2", 400, "whole number of bytes"),
        ("GET /slow?ms=long", 400, "milliseconds"),
        ("GET /slow?ms=120001", 400, "milliseconds"),
        ("GET /error/200", 400, "400 to 599"),
        ("GET /error/600", 400, "400 to 599"),
        ("GET /error/teapot", 400, "400 to 599"),
        ("PUT /photo.png", 405, "GET, HEAD only"),
        ("DELETE /form", 405, "GET, HEAD, POST only"),
        ("CONNECT demo.test:80", 405, "GET, HEAD only"),
    ];
    for (request_line, status, words) in cases {
        let answer = origin.ask(request_line, "").await;
        assert_eq!(answer.status, status, "{request_line}");
        assert!(
            answer.text().contains(words),
            "{request_line}: {}",
            answer.text()
        );
        assert_eq!(answer.field("cache-control"), "no-store", "{request_line}");
    }
    assert_eq!(origin.raw("nonsense\r\n\r\n").await.status, 400);
}

#[tokio::test]
async fn generated_bodies_are_exact_and_ranges_fit_into_them() {
    let origin = Origin::start().await;
    let whole = origin.get("/bytes/200000").await;
    assert_eq!(whole.body.len(), 200_000);
    assert_eq!(whole.field("content-length"), "200000");
    assert_eq!(whole.field("accept-ranges"), "bytes");

    let streamed = origin.get("/stream/200000").await;
    assert_eq!(streamed.field("transfer-encoding"), "chunked");
    assert_eq!(streamed.body, whole.body);
    assert_eq!(origin.get("/stream/0").await.body, b"");
    assert_eq!(origin.get("/bytes/0").await.field("content-length"), "0");

    let tag = whole.field("etag");
    let part = origin
        .ask(
            "GET /bytes/200000",
            &format!("Range: bytes=65000-66999\r\nIf-Range: {tag}\r\n"),
        )
        .await;
    assert_eq!(part.status, 206);
    assert_eq!(part.field("content-range"), "bytes 65000-66999/200000");
    assert_eq!(part.body, &whole.body[65_000..67_000]);

    let beyond = origin
        .ask("GET /bytes/200000", "Range: bytes=200000-\r\n")
        .await;
    assert_eq!(
        (beyond.status, beyond.field("content-range")),
        (416, "bytes */200000")
    );

    let tail = origin
        .ask("GET /large", "Range: bytes=1073741820-\r\n")
        .await;
    assert_eq!((tail.status, tail.body.len()), (206, 4));
    assert_eq!(
        tail.field("content-range"),
        "bytes 1073741820-1073741823/1073741824"
    );
}

#[tokio::test]
async fn head_has_the_fields_of_get_and_no_body() {
    let origin = Origin::start().await;
    for path in ["/", "/photo.png", "/bytes/1000", "/large"] {
        let head = origin.ask(&format!("HEAD {path}"), "").await;
        assert_eq!((head.status, head.body.len()), (200, 0), "{path}");
        let expected = match path {
            "/large" => "1073741824".to_owned(),
            _ => origin.get(path).await.field("content-length").to_owned(),
        };
        assert_eq!(head.field("content-length"), expected, "{path}");
    }
}

#[tokio::test]
async fn a_current_copy_is_confirmed() {
    let origin = Origin::start().await;
    for path in [
        "/",
        "/style.css",
        "/logo.svg",
        "/photo.png",
        "/etag",
        "/bytes/5",
        "/vary",
    ] {
        let tag = origin.get(path).await.field("etag").to_owned();
        let confirmed = origin
            .ask(&format!("GET {path}"), &format!("If-None-Match: {tag}\r\n"))
            .await;
        assert_eq!((confirmed.status, confirmed.body.len()), (304, 0), "{path}");
        assert_eq!(confirmed.field("etag"), tag, "{path}");
        assert_eq!(confirmed.field("content-length"), "", "{path}");
    }
    let since = "If-Modified-Since: Mon, 01 Jan 2024 00:00:00 GMT\r\n";
    assert_eq!(origin.ask("GET /last-modified", since).await.status, 304);
}

#[tokio::test]
async fn vary_speaks_three_languages_and_gzip() {
    let origin = Origin::start().await;
    let german = origin
        .ask("GET /vary", "Accept-Language: de-AT, en;q=0.5\r\n")
        .await;
    assert_eq!(german.field("content-language"), "de");
    assert_eq!(german.field("vary"), "Accept-Language, Accept-Encoding");
    assert_eq!(german.text(), "Das Wasser ist frisch.\n");

    let coded = origin
        .ask("GET /vary", "Accept-Encoding: br, gzip\r\n")
        .await;
    assert_eq!(coded.field("content-encoding"), "gzip");
    assert!(coded.body.starts_with(&[0x1f, 0x8b]));
    assert_ne!(coded.field("etag"), origin.get("/vary").await.field("etag"));
}

#[tokio::test]
async fn echo_shows_the_request_and_count_counts() {
    let origin = Origin::start().await;
    let echo = origin
        .ask(
            "PATCH /echo?a=1",
            "X-Colour: blue\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n",
        )
        .await;
    assert!(
        echo.text().starts_with("PATCH /echo?a=1 HTTP/1.1\n"),
        "{}",
        echo.text()
    );
    assert!(echo.text().contains("\nx-colour: blue\n"));
    assert!(echo.text().ends_with("\nbody: 3 bytes\n"));

    origin.get("/fresh/1?x").await;
    origin.get("/fresh/1?y").await;
    let count = origin.get("/count").await;
    let count: serde_json::Value = serde_json::from_str(count.text()).unwrap();
    assert_eq!(
        count,
        serde_json::json!({"total": 4, "paths": {"/echo": 1, "/fresh/1": 2, "/count": 1}})
    );
}

#[tokio::test]
async fn a_post_changes_the_form() {
    let origin = Origin::start().await;
    assert!(origin.get("/form").await.text().contains("Posted 0 times"));
    let posted = origin
        .ask("POST /form", "Content-Length: 9\r\n\r\nwords=yes")
        .await;
    assert_eq!(
        (posted.status, posted.field("cache-control")),
        (200, "no-store")
    );
    assert!(posted.text().starts_with("received 9 bytes"));
    assert!(origin.get("/form").await.text().contains("Posted 1 times"));
}

#[tokio::test]
async fn it_ends_with_the_last_request_under_way() {
    let origin = Origin::start().await;
    let mut stream = TcpStream::connect(origin.address).await.unwrap();
    // The origin has begun to answer once the first bytes are here.
    stream
        .write_all(b"GET /stream/3000000 HTTP/1.1\r\nHost: demo.test\r\n\r\n")
        .await
        .unwrap();
    let mut all = vec![0; 16];
    stream.read_exact(&mut all).await.unwrap();

    origin.stop.send(()).unwrap();
    stream.read_to_end(&mut all).await.unwrap();
    assert_eq!(Answer::parse(&all).body.len(), 3_000_000);
    origin.served.await.unwrap().unwrap();
    assert!(TcpStream::connect(origin.address).await.is_err());
}
