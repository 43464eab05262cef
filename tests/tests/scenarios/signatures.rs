//! Signatures read and written by an implementation of another hand: the Python package
//! `http-message-signatures` (RFC 9421). It verifies what real nodes sent each other,
//! and what it signs is accepted by a real node.
//!
//! It is installed once, beneath `target/`, in the versions that
//! `tests/independent/requirements.txt` pins.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::{env, fs};

use control::Algorithm;
use serde_json::{Value, json};
use tests::{Forge, H2Client, HOST, Hop, Message, Origin, Reply, Topology, ask, get};

#[tokio::test(flavor = "multi_thread")]
async fn another_implementation_reads_what_we_sign_and_writes_what_we_read() {
    for algorithm in [Algorithm::HmacSha256, Algorithm::Ed25519] {
        let origin = shop().await;
        let topology = Topology::new(&origin).hop(Hop::Messages).start().await;
        let keys = sign_with(&topology, algorithm);
        let asked = all_kinds_of_requests(&topology).await;

        let exchanges: Vec<_> = topology
            .relay(1)
            .exchanges()
            .iter()
            .map(|one| json!({"request": told(&one.request), "response": told(&one.response)}))
            .collect();
        let sent = exchanges.len();
        assert!(sent >= asked, "{sent} of {asked} crossed the hop");
        let wanted = ["GET", "POST"].map(|method| unsigned(&topology, method, &keys));
        let said = independent(&json!({
            "keys": keys,
            "exchanges": exchanges,
            "sign": wanted,
        }));
        assert_eq!(said["requests"], sent, "{algorithm}");
        assert_eq!(said["answers"], sent, "{algorithm}");
        // Each covers some fields, and is refused with any one of them altered.
        assert!(
            said["refused"].as_u64().unwrap() > 5 * sent as u64,
            "{said}"
        );

        for (wanted, fields) in wanted.iter().zip(said["signed"].as_array().unwrap()) {
            let start = wanted["start"].as_str().unwrap();
            let mut head = format!("{start}\r\n");
            for line in [&wanted["fields"], fields].into_iter().flat_map(lines) {
                let _ = write!(head, "{}: {}\r\n", line.0, line.1);
            }
            let mut client = topology.upper(1).client().await;
            client.send(format!("{head}\r\n")).await;
            let method = start.split(' ').next().unwrap();
            let answer = client.response_to(method).await;
            let why = answer.says("Proxy-Status");
            assert_eq!(answer.status, 200, "{algorithm}, {start}: {why}");
        }
        topology.finish().await;
    }
}

async fn shop() -> Origin {
    let origin = Origin::start().await;
    let page = Reply::ok("a page that is long enough for a range")
        .with("Cache-Control", "max-age=60, stale-while-revalidate=5")
        .with("Cache-Control", "private=\"x-own\"")
        .with("ETag", "\"one\"")
        .with("Content-Type", "text/html; charset=utf-8")
        .with("Vary", "Accept-Language")
        .with("X-Own", " spaced ");
    origin.always("/page", page);
    let own = Reply::ok("yours")
        .with("Cache-Control", "no-store")
        .with("Set-Cookie", "a=b; Expires=Wed, 09 Jun 2027 10:18:14 GMT")
        .with("Set-Cookie", "c=d");
    origin.always("/own", own);
    origin.on("/form", |asked| Reply::ok(asked.method.clone()));
    origin.always("/signed", Reply::ok("signed by another"));
    origin.always("/gone", Reply::new(410).with("Cache-Control", "max-age=1"));
    origin
}

/// Has the nodes sign with that algorithm, and tells the keys.
fn sign_with(topology: &Topology, algorithm: Algorithm) -> Vec<String> {
    if algorithm == Algorithm::HmacSha256 {
        let text = fs::read_to_string(topology.folder().join("edge-1.key")).unwrap();
        return text.lines().map(str::to_owned).collect();
    }
    let keys: Vec<_> = ["edge-1", "upper-1"]
        .map(|node| control::generate(algorithm, node, &format!("{node}-ed")))
        .into_iter()
        .map(|key| key.unwrap().private_line)
        .collect();
    topology.write("edge-1.key", &format!("{}\n", keys.join("\n")));
    for node in [topology.upper(1), topology.edge(1)] {
        node.running().reload().unwrap();
    }
    keys
}

/// Asks in many ways, each of which crosses the hop, and tells how many they were.
async fn all_kinds_of_requests(topology: &Topology) -> usize {
    let asked = [
        get("/page?a=b&c=%20"),
        get("/page?range").with("Range", "bytes=2-5"),
        get("/own").with("Cookie", "one=1; two=2"),
        get("/own?x").with("Authorization", "Basic eA=="),
        get("/own?accept")
            .with("Accept", "text/html")
            .with("Accept", "*/*;q=0.1")
            .with("X-Empty", ""),
        ask("HEAD", "/own?head"),
        get("/gone?"),
        get("/none"),
        ask("POST", "/form").body("a=b"),
        ask("POST", "/form?empty").body(""),
        ask("PUT", "/form").chunks(["a", "b"]),
        ask("DELETE", "/form?all"),
        ask("OPTIONS", "/form"),
        // What a proxy may be tempted to rewrite after it was signed, on both ways.
        ask("GET", &format!("http://{HOST}/own?absolute")),
        ask("POST", &format!("http://{HOST}/form?absolute")).body("a"),
        get("/own?case").host("SHOP.Example"),
        ask("POST", "/form?case").host("SHOP.Example").body("a"),
        get("/own?port").host("shop.example:8080"),
        ask("POST", "/form?port").host("shop.example:80").body("a"),
        get("/own?ten").http10(),
        ask("POST", "/form?ten").http10().body("a"),
        ask("POST", "/form?te").with("TE", "trailers").body("a"),
        get("/own?upgrade")
            .with("Connection", "Upgrade")
            .with("Upgrade", "websocket"),
    ];
    let edge = topology.edge(1);
    for one in &asked {
        let answer = edge.ask(one).await;
        assert!(answer.status < 500, "{one:?}: {answer:?}");
    }
    let mut h2 = H2Client::connect(edge.address()).await;
    let over_h2 = [get("/own?h2"), ask("POST", "/form?h2").body("a")];
    for one in &over_h2 {
        assert_eq!(h2.ask(one).await.status, 200, "{one:?}");
    }
    let mut client = edge.client().await;
    let trailers = "PUT /form?trailers HTTP/1.1\r\nHost: shop.example\r\nTrailer: X-T\r\n\
         Transfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\nX-T: 1\r\n\r\n";
    client.send(trailers).await;
    assert_eq!(client.response_to("PUT").await.status, 200);
    asked.len() + over_h2.len() + 1
}

/// A request that wants a signature only.
fn unsigned(topology: &Topology, method: &str, keys: &[String]) -> Value {
    let forge = Forge::new(topology.folder(), "edge-1", method, "/signed");
    let control = forge.block.encode().unwrap();
    let nonce = (method == "POST").then_some("bm9uY2Utbm9uY2Utbm9uYw==");
    let mut fields = vec![
        ("Host", HOST),
        ("Tier-Control", control.to_str().unwrap()),
        ("Accept", "text/plain"),
    ];
    if method == "POST" {
        fields.push(("Content-Length", "0"));
    }
    json!({
        "start": format!("{method} /signed HTTP/1.1"),
        "fields": fields,
        "keyid": keys[0].split_whitespace().nth(2),
        "nonce": nonce,
    })
}

fn told(message: &Message) -> Value {
    json!({"start": message.start, "fields": message.fields})
}

fn lines(fields: &Value) -> impl Iterator<Item = (&str, &str)> {
    let lines = fields.as_array().unwrap().iter();
    lines.map(|line| (line[0].as_str().unwrap(), line[1].as_str().unwrap()))
}

/// Asks the other implementation.
fn independent(question: &Value) -> Value {
    let script = folder().join("messages.py");
    let child = Command::new(python())
        .arg(&script)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let mut child = child.unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(question.to_string().as_bytes()).unwrap();
    drop(stdin);
    let ended = child.wait_with_output().unwrap();
    let why = String::from_utf8_lossy(&ended.stderr);
    assert!(
        ended.status.success(),
        "the other implementation says: {why}"
    );
    serde_json::from_slice(&ended.stdout).unwrap()
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("independent")
}

/// An interpreter with the package, installed where it is missing.
fn python() -> PathBuf {
    if let Some(python) = env::var_os("HEADWATER_TEST_PYTHON") {
        return python.into();
    }
    let pinned = fs::read_to_string(folder().join("requirements.txt")).unwrap();
    let venv = Path::new(env!("CARGO_TARGET_TMPDIR")).join("independent");
    let python = venv.join("bin/python");
    // Written last: what was cut short, or pinned otherwise, is made anew.
    let complete = venv.join("installed.txt");
    if fs::read_to_string(&complete).is_ok_and(|installed| installed == pinned) {
        return python;
    }
    let made = Command::new("python3")
        .args(["-m", "venv", "--clear"])
        .arg(&venv)
        .output();
    must(
        made,
        "python3 with its module venv is missing (on Debian or Ubuntu: apt-get install python3 python3-venv)",
    );
    let installed = Command::new(&python)
        .args([
            "-m",
            "pip",
            "install",
            "--quiet",
            "--disable-pip-version-check",
        ])
        .arg("--requirement")
        .arg(folder().join("requirements.txt"))
        .output();
    must(
        installed,
        "pip cannot install the package http-message-signatures: it takes a package index, or HEADWATER_TEST_PYTHON=/an/interpreter/that/has/it",
    );
    fs::write(&complete, &pinned).unwrap();
    python
}

fn must(ended: std::io::Result<std::process::Output>, otherwise: &str) {
    match ended {
        Ok(output) if output.status.success() => {}
        Ok(output) => panic!("{otherwise}: {}", String::from_utf8_lossy(&output.stderr)),
        Err(error) => panic!("{otherwise}: {error}"),
    }
}
