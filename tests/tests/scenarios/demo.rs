//! `headwater demo`: what it promises to whoever types it for the first time.

use std::ffi::OsStr;
use std::net::{SocketAddr, TcpListener};

use tempfile::TempDir;
use tests::{Client, Fleet, Origin, Ports, Process, Reply, Response, ask, get, run};

/// A running demo, with a folder of its own for its temporary files.
struct Demo {
    ports: Ports,
    process: Process,
    temporary: TempDir,
}

impl Demo {
    async fn start(flags: &[&str]) -> Self {
        let ports = Ports::free();
        let temporary = tempfile::tempdir().unwrap();
        let base = ports.base();
        let mut arguments = vec!["demo", "--base-port", &base];
        arguments.extend(flags);
        let folder: &OsStr = temporary.path().as_ref();
        let process = Process::start_with(("TMPDIR", folder), "headwater", arguments);
        process.says("Ctrl-C stops it.").await;
        Self {
            ports,
            process,
            temporary,
        }
    }

    async fn get(&self, node: &str, target: &str) -> Response {
        asked_at(self.ports.of(node), target).await
    }

    /// Ctrl-C, and what is left behind: nothing but what it said on standard error.
    async fn stop(mut self) -> String {
        self.process.signal("INT");
        let ended = self.process.ended().await;
        assert_eq!(ended.code, Some(0), "{}\n{}", ended.out, ended.err);
        let left = std::fs::read_dir(self.temporary.path()).unwrap().count();
        assert_eq!(left, 0, "temporary files are left");
        for node in ["edge-1", "upper-1"] {
            for address in [self.ports.of(node), self.ports.admin_of(node)] {
                assert!(is_free(address), "{address} of {node} is still taken");
            }
        }
        assert!(is_free(self.ports.origin()));
        ended.err
    }
}

async fn asked_at(address: SocketAddr, target: &str) -> Response {
    Client::connect(address).await.ask(&get(target)).await
}

fn is_free(address: SocketAddr) -> bool {
    TcpListener::bind(address).is_ok()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_demo_answers_at_every_port_it_names_and_ends_with_ctrl_c() {
    let demo = Demo::start(&[]).await;
    let ports = &demo.ports;
    let told = demo.process.out();
    for name in ["edge-1", "edge-2", "edge-3", "upper-1", "upper-2"] {
        let row = told.lines().find(|line| line.contains(name)).unwrap();
        assert!(row.contains(&format!("http://{}", ports.of(name))), "{row}");
        let admin = ports.admin_of(name);
        assert!(row.contains(&format!("http://{admin}/metrics")), "{row}");
        let ready = asked_at(admin, "/readyz").await;
        assert_eq!((ready.status, ready.text().as_str()), (200, "ready\n"));
        let metrics = asked_at(admin, "/metrics").await;
        assert!(metrics.text().contains("headwater_build_info"));
    }
    assert!(
        told.contains(&format!("http://{}", ports.origin())),
        "{told}"
    );

    // The three commands it suggests do what it says of them.
    let suggested: Vec<_> = told.lines().filter(|line| line.contains("curl ")).collect();
    assert_eq!(suggested.len(), 3, "{told}");
    let miss = demo.get("edge-1", "/photo.png").await;
    assert_eq!(miss.status, 200);
    assert_eq!(miss.cache_status().len(), 2, "{:?}", miss.cache_status());
    assert!(demo.get("edge-1", "/photo.png").await.hit_at("edge-1"));
    let elsewhere = demo.get("edge-3", "/photo.png").await;
    let from_upper = elsewhere.hit_at("upper-1") || elsewhere.hit_at("upper-2");
    assert!(from_upper, "{:?}", elsewhere.cache_status());
    let mut client = Client::connect(ports.of("edge-1")).await;
    let part = client.ask(&get("/large").with("Range", "bytes=0-99")).await;
    assert_eq!((part.status, part.body.len()), (206, 100));

    // Sent straight to an upper tier, the same is refused by name.
    let refused = demo.get("upper-1", "/photo.png").await;
    assert_eq!(refused.status, 403);
    let why = refused.says("Proxy-Status");
    assert!(why.contains("tier-control missing"), "{why}");
    // What is wrong is said at the terminal, and nothing else is.
    let said = demo.stop().await;
    assert_eq!(said.lines().count(), 1, "{said}");
    assert!(said.contains("\"event\":\"control_rejected\""), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_demo_ends_with_the_last_request() {
    let demo = Demo::start(&[]).await;
    let mut client = Client::connect(demo.ports.of("edge-1")).await;
    client.send(get("/slow?ms=1500").bytes()).await;
    let admin = demo.ports.admin_of("edge-1");
    tests::until("the request is under way", async || {
        let rows = asked_at(admin, "/requests").await;
        rows.text().contains("/slow").then_some(())
    })
    .await;
    demo.process.signal("INT");
    let answer = client.response().await;
    assert_eq!((answer.status, answer.complete), (200, true));
    assert_eq!(demo.stop().await, "");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_ctrl_c_ends_the_demo_at_once() {
    let mut demo = Demo::start(&[]).await;
    let mut client = Client::connect(demo.ports.of("edge-1")).await;
    client.send(get("/slow?ms=100000").bytes()).await;
    let admin = demo.ports.admin_of("edge-1");
    tests::until("the request is under way", async || {
        let rows = asked_at(admin, "/requests").await;
        rows.text().contains("/slow").then_some(())
    })
    .await;
    demo.process.signal("INT");
    demo.process.says("Ctrl-C again ends at once").await;
    assert!(demo.process.runs());
    demo.process.signal("INT");
    assert_eq!(demo.process.ended().await.code, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn without_upper_tiers_edges_go_straight_to_the_origin() {
    let demo = Demo::start(&["--uppers", "0", "--edges", "1"]).await;
    let answer = demo.get("edge-1", "/photo.png").await;
    let status = answer.cache_status();
    assert_eq!((answer.status, status.len()), (200, 1), "{status:?}");
    assert!(demo.get("edge-1", "/photo.png").await.hit_at("edge-1"));
    assert!(!demo.process.out().contains("upper-1"));
    assert!(is_free(demo.ports.of("upper-1")));
    assert_eq!(demo.stop().await, "");
}

#[tokio::test(flavor = "multi_thread")]
async fn with_mtls_an_upper_tier_speaks_to_nobody_in_the_clear() {
    let demo = Demo::start(&["--mtls", "--edges", "1"]).await;
    let answer = demo.get("edge-1", "/photo.png").await;
    let status = answer.cache_status();
    assert_eq!((answer.status, status.len()), (200, 2), "{status:?}");
    let upper = demo.ports.of("upper-1");
    assert!(demo.process.out().contains(&format!("https://{upper}")));
    let mut client = Client::connect(upper).await;
    client.send(get("/photo.png").bytes()).await;
    let said = client.closed().await;
    assert!(!said.starts_with(b"HTTP/"), "{said:?}");
    assert_eq!(demo.stop().await, "");
}

#[tokio::test(flavor = "multi_thread")]
async fn any_origin_may_stand_behind_the_demo_and_any_host_before_it() {
    let origin = Origin::start().await;
    origin.always("/a", Reply::fresh("ours").with("Set-Cookie", "id=1"));
    origin.always("/plain", Reply::ok("says nothing about caching"));
    let url = format!("http://{}", origin.address());
    let demo = Demo::start(&["--origin", &url]).await;
    let edge = demo.ports.of("edge-2");
    let mut client = Client::connect(edge).await;
    for (host, hit) in [
        ("shop.example", false),
        ("shop.example", true),
        ("10.0.0.7:8081", false),
        ("localhost", false),
        ("localhost", true),
    ] {
        let answer = client.ask(&get("/a").host(host)).await;
        assert_eq!(answer.text(), "ours", "{host}");
        assert_eq!(answer.hit_at("edge-2"), hit, "{host}");
        // Stored fields are replayed as they are.
        assert_eq!(answer.says("Set-Cookie"), "id=1", "{host}");
    }
    // No freshness of our own making.
    for _ in 0..2 {
        let answer = client.ask(&get("/plain")).await;
        assert!(!answer.hit_at("edge-2"), "{:?}", answer.cache_status());
    }
    let seen = origin.requests("/a");
    assert_eq!(seen[0].says("Host"), "shop.example");
    assert!(is_free(demo.ports.origin()), "no demo origin is needed");
    assert_eq!(demo.stop().await, "");
}

#[tokio::test(flavor = "multi_thread")]
async fn ports_in_use_are_all_named_with_who_wants_them_and_the_mend() {
    let ports = Ports::free();
    let taken = [
        ("the demo origin", ports.origin()),
        ("edge-2", ports.of("edge-2")),
        ("the admin listener of upper-1", ports.admin_of("upper-1")),
    ];
    let holding: Vec<_> = taken
        .iter()
        .map(|(_, address)| TcpListener::bind(address).unwrap())
        .collect();
    let ended = run("headwater", ["demo", "--base-port", &ports.base()]).await;
    assert_eq!(ended.code, Some(1));
    assert_eq!(ended.out, "");
    assert_eq!(ended.err.lines().count(), taken.len(), "{}", ended.err);
    for (who, address) in taken {
        let line = ended
            .err
            .lines()
            .find(|line| line.contains(&address.to_string()));
        let line = line.unwrap_or_else(|| panic!("{address}: {}", ended.err));
        assert!(
            line.contains(&format!("in use, and {who} wants it")),
            "{line}"
        );
        assert!(line.contains("--base-port PORT"), "{line}");
    }
    drop(holding);
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_flags_are_explained() {
    for (flags, words) in [
        (&["--edges", "0"][..], "--edges"),
        (&["--edges", "11"], "--edges"),
        (&["--uppers", "many"], "--uppers"),
        (&["--origin", "ftp://shop.example"], "--origin"),
        (&["--base-port", "65000"], "--base-port"),
        (&["--sites", "/nowhere/sites.toml"], "/nowhere/sites.toml"),
        (&["--nonsense"], "--nonsense"),
    ] {
        let ended = run("headwater", [&["demo"], flags].concat()).await;
        assert!(matches!(ended.code, Some(1 | 2)), "{flags:?}: {ended:?}");
        assert!(ended.err.contains(words), "{flags:?}: {}", ended.err);
        assert_eq!(ended.out, "", "{flags:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_ejected_demo_runs_as_processes_in_any_order() {
    for flags in [&[][..], &["--mtls"]] {
        let mut fleet = Fleet::eject(flags).await;
        // Edges first: nobody is there yet whom they could ask.
        fleet.start(["edge-1", "edge-2"]).await;
        let early = fleet.get("edge-1", "/photo.png").await;
        assert!(matches!(early.status, 502 | 504), "{early:?}");
        assert!(!early.says("Proxy-Status").is_empty());

        fleet.start(["upper-2", "upper-1"]).await;
        let listen = fleet.ports().origin().to_string();
        let origin = Process::start("headwater", ["origin", "--listen", &listen]);
        origin.says("http://").await;
        // Until an edge has found out, it goes to the origin itself, or to the other
        // upper tier, and keeps what it got: each look needs an object of its own.
        let mut number = 0;
        tests::until("the late ones are used by both edges", async || {
            number += 1;
            let target = format!("/photo.png?{number}");
            let answer = fleet.get("edge-1", &target).await;
            assert_eq!(answer.status, 200);
            let elsewhere = fleet.get("edge-2", &target).await;
            assert_eq!(elsewhere.status, 200);
            let from_upper = elsewhere.hit_at("upper-1") || elsewhere.hit_at("upper-2");
            (answer.cache_status().len() == 2 && from_upper).then_some(())
        })
        .await;
        let mut client = fleet.client("edge-1").await;
        let posted = client.ask(&ask("POST", "/form").body("words")).await;
        assert_eq!(posted.status, 200, "{flags:?}");

        for node in ["edge-1", "edge-2", "upper-1", "upper-2"] {
            fleet.node(node).signal("TERM");
            let ended = fleet.node_mut(node).ended().await;
            assert_eq!(ended.code, Some(0), "{node}: {}", ended.err);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn ejecting_says_what_to_run_and_keeps_secrets_to_the_owner() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = tempfile::tempdir().unwrap();
    let into = folder.path().join("new");
    let into = into.to_string_lossy();
    let ejected = run("headwater", ["demo", "--mtls", "--eject", &into]).await;
    assert_eq!(ejected.code, Some(0), "{}", ejected.err);
    for command in [
        "headwater origin --listen 127.0.0.1:8000".to_owned(),
        format!("upper-tier --config {into}/upper-1.toml"),
        format!("upper-tier --config {into}/upper-2.toml"),
        format!("edge --config {into}/edge-1.toml"),
        format!("edge --config {into}/edge-3.toml"),
    ] {
        assert!(ejected.out.contains(&command), "{command}: {}", ejected.out);
    }
    for entry in std::fs::read_dir(into.as_ref()).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let mode = std::fs::metadata(&path).unwrap().permissions().mode() & 0o777;
        let expected = if name.ends_with(".key") { 0o600 } else { 0o644 };
        assert_eq!(mode, expected, "{name}");
    }
    // The edges' files name their upper tiers as the contract says.
    let edge = std::fs::read_to_string(format!("{into}/edge-1.toml")).unwrap();
    assert!(edge.contains("\"127.0.0.1:8091\"") && edge.contains("\"127.0.0.1:8092\""));

    // Somebody else's folder is left alone.
    std::fs::write(format!("{into}/mine.txt"), "precious").unwrap();
    let again = run("headwater", ["demo", "--mtls", "--eject", &into]).await;
    assert_eq!(again.code, Some(1));
    assert!(again.err.contains("mine.txt"), "{}", again.err);
}
