//! What the log says: one JSON object a line, about what operators must know and
//! nothing that they must not.

use serde_json::Value;
use tests::{Fleet, Origin, Process, Reply, ask, get};

/// The parsed lines of a node's standard output.
fn lines(fleet: &Fleet, node: &str) -> Vec<Value> {
    let lines = fleet.node(node).lines();
    let parsed = lines
        .iter()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|why| panic!("{why}: {line}")));
    parsed.collect()
}

/// Lines about requests.
fn access(fleet: &Fleet, node: &str) -> Vec<Value> {
    let mut all = lines(fleet, node);
    all.retain(|line| line["target"] == "access");
    all
}

#[tokio::test(flavor = "multi_thread")]
async fn a_line_for_every_miss_and_error_with_the_same_trace_at_both_tiers() {
    let origin = Origin::start().await;
    origin.always("/a", Reply::fresh("content"));
    origin.always("/gone", Reply::hang_up());
    let url = format!("http://{}", origin.address());
    let mut fleet = Fleet::eject(&["--origin", &url, "--edges", "1", "--uppers", "1"]).await;
    fleet.append("edge-1.toml", "hit_log_ratio = 0.0\n");
    fleet.start(["upper-1", "edge-1"]).await;
    let agent = "quoted \"agent\" \\ with {braces}";
    let asked = get("/a?q=1").with("User-Agent", agent);
    for _ in 0..3 {
        assert_eq!(fleet.ask("edge-1", &asked).await.text(), "content");
    }
    fleet.get("edge-1", "/gone").await;
    fleet.ask("edge-1", &ask("POST", "/a").body("x")).await;
    for node in ["edge-1", "upper-1"] {
        for words in ["\"path\":\"/gone\"", "\"outcome\":\"pass\""] {
            fleet.node(node).says(words).await;
        }
    }
    // All lines are written before a node ends.
    fleet.node("edge-1").signal("TERM");
    assert_eq!(fleet.node_mut("edge-1").ended().await.code, Some(0));
    let at_edge = access(&fleet, "edge-1");
    let outcomes: Vec<_> = at_edge.iter().map(|line| line["outcome"].clone()).collect();
    assert_eq!(outcomes.iter().filter(|one| **one == "hit").count(), 0);
    assert_eq!(outcomes.len(), 3, "{outcomes:?}");

    let miss = &at_edge[0];
    for (key, value) in [
        ("node", Value::from("edge-1")),
        ("role", "edge".into()),
        ("client", "127.0.0.1".into()),
        ("method", "GET".into()),
        ("scheme", "http".into()),
        ("host", "shop.example".into()),
        ("path", "/a?q=1".into()),
        ("site", "demo".into()),
        ("status", 200.into()),
        ("bytes", 7.into()),
        ("protocol", "h1".into()),
        ("user_agent", agent.into()),
    ] {
        assert_eq!(miss[key], value, "{key}");
    }
    assert!(miss["duration_us"].as_u64().unwrap() > 0);
    assert!(miss["ts"].as_u64().unwrap() > 1_700_000_000_000);
    let upstream = miss["upstream"].as_str().unwrap();
    assert!(upstream.starts_with("upper-1 200 "), "{upstream}");

    let at_upper = access(&fleet, "upper-1");
    assert_eq!(at_upper[0]["trace_id"], miss["trace_id"]);
    assert_eq!(at_upper[0]["hop_from"], "edge-1");
    let fetched = at_upper[0]["upstream"].as_str().unwrap();
    assert!(
        fetched.starts_with(&format!("origin {} 200 ", origin.address())),
        "{fetched}"
    );
    // The failure is told where it was found, with what failed.
    let failed = at_upper.iter().find(|line| line["status"] == 502).unwrap();
    assert_eq!(failed["outcome"], "error");
    assert_eq!(failed["path"], "/gone");
}

#[tokio::test(flavor = "multi_thread")]
async fn hits_get_a_line_by_their_share_and_turned_away_visitors_always_do() {
    let origin = Origin::start().await;
    origin.always("/a", Reply::fresh("content"));
    let url = format!("http://{}", origin.address());
    let mut fleet = Fleet::eject(&["--origin", &url, "--edges", "1", "--uppers", "0"]).await;
    fleet.edit("sites.toml", "[\"*\"]", "[\"shop.example\"]");
    fleet.append("edge-1.toml", "hit_log_ratio = 1.0\n");
    fleet.start(["edge-1"]).await;
    for _ in 0..3 {
        fleet.get("edge-1", "/a").await;
    }
    fleet.ask("edge-1", &get("/a").host("other.example")).await;
    let mut client = fleet.client("edge-1").await;
    client.send("GET  / HTTP/1.1\r\n\r\n").await;
    client.closed().await;
    // A line follows its answer, so answers do not tell when all of them are there.
    let lines = tests::until("every request has its line", async || {
        let lines = access(&fleet, "edge-1");
        (lines.len() >= 5).then_some(lines)
    })
    .await;
    let told: Vec<_> = lines
        .iter()
        .map(|line| (line["outcome"].clone(), line["status"].clone()))
        .collect();
    for (outcome, status, count) in [("miss", 200, 1), ("hit", 200, 2)] {
        let same = told
            .iter()
            .filter(|told| **told == (outcome.into(), status.into()));
        assert_eq!(same.count(), count, "{outcome}: {told:?}");
    }
    for status in [421, 400] {
        assert!(
            told.iter().any(|(_, told)| *told == status),
            "{status}: {told:?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_line_shows_a_secret_and_no_visitor_writes_a_line() {
    let origin = Origin::start().await;
    let reply = Reply::ok("content").with("Set-Cookie", "session=s3cr3t-of-the-origin");
    origin.always("/a", reply);
    let url = format!("http://{}", origin.address());
    let mut fleet = Fleet::eject(&["--origin", &url, "--edges", "1", "--uppers", "1"]).await;
    fleet.append("edge-1.toml", "hit_log_ratio = 1.0\n");
    fleet.start(["upper-1", "edge-1"]).await;
    let forged = "%0A{\"target\":\"access\",\"status\":200}";
    let asked = get(&format!("/a?{forged}"))
        .with("Authorization", "Bearer s3cr3t-of-a-visitor")
        .with("Cookie", "session=s3cr3t-of-a-visitor")
        .with("User-Agent", "\u{1b}[31m red");
    let answered = fleet.ask("edge-1", &asked).await.status;
    // Unsigned, so that there is a line of the other kind.
    fleet.get("upper-1", "/a").await;
    let refused = fleet
        .node("upper-1")
        .says("\"event\":\"control_rejected\"")
        .await;
    let refused: Value = serde_json::from_str(&refused).unwrap();
    assert_eq!(refused["level"], "ERROR");
    assert_eq!(refused["reason"], "missing");
    assert_eq!(refused["side"], "request");
    assert!(
        refused["remedy"]
            .as_str()
            .is_some_and(|mend| !mend.is_empty())
    );

    fleet
        .node("edge-1")
        .says(&format!("\"status\":{answered}"))
        .await;
    let key = fleet.text("edge-1.key");
    let key = key.split_whitespace().last().unwrap();
    for node in ["edge-1", "upper-1"] {
        // Each of them parses, so none was forged.
        let told = lines(&fleet, node).len();
        assert_eq!(told, fleet.node(node).lines().len());
        let all = fleet.node(node).out() + &fleet.node(node).err();
        for hidden in ["s3cr3t", key, "\u{1b}"] {
            assert!(!all.contains(hidden), "{hidden} at {node}: {all}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_goes_where_the_file_says() {
    let origin = Origin::start().await;
    origin.always("/a", Reply::ok("content"));
    let url = format!("http://{}", origin.address());
    let flags = ["--origin", &url, "--edges", "1", "--uppers", "0"];
    for place in ["file", "stderr", "off"] {
        let mut fleet = Fleet::eject(&flags).await;
        let file = fleet.file("access.log");
        let value = if place == "file" {
            format!("\"file:{file}\"")
        } else {
            format!("\"{place}\"")
        };
        fleet.edit("edge-1.toml", "\"stdout\"", &value);
        let (program, arguments) = fleet.command("edge-1");
        let mut node = Process::start(program, arguments);
        let ready = fleet.ports().admin_of("edge-1");
        tests::until("the node serves", async || {
            tokio::net::TcpStream::connect(ready).await.ok()
        })
        .await;
        fleet.get("edge-1", "/a").await;
        node.signal("TERM");
        let ended = node.ended().await;
        assert_eq!((ended.code, ended.out.as_str()), (Some(0), ""), "{place}");
        let written = std::fs::read_to_string(&file).unwrap_or_default();
        let access = "\"target\":\"access\"";
        assert_eq!(written.contains(access), place == "file", "{written}");
        assert_eq!(
            ended.err.contains(access),
            place == "stderr",
            "{}",
            ended.err
        );
        // Health is told even where requests are not.
        let told = written + &ended.err;
        assert!(told.contains("\"event\":\"started\""), "{place}: {told}");
        fleet.start([]).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_nobody_reads_holds_nobody_up() {
    let origin = Origin::start().await;
    origin.always("/a", Reply::fresh("content"));
    let url = format!("http://{}", origin.address());
    let flags = ["--origin", &url, "--edges", "1", "--uppers", "0"];
    let fleet = Fleet::eject(&flags).await;
    fleet.append("edge-1.toml", "hit_log_ratio = 1.0\n");
    let (program, arguments) = fleet.command("edge-1");
    let mut node = Process::start_unread(program, arguments);
    let admin = fleet.ports().admin_of("edge-1");
    tests::until("the node serves", async || {
        tokio::net::TcpStream::connect(admin).await.ok()
    })
    .await;
    // Far more lines than a pipe and the queues behind it hold.
    let mut client = fleet.client("edge-1").await;
    let padding = "x".repeat(2000);
    let mut asked = 0;
    while fleet
        .metrics("edge-1")
        .await
        .sum("telemetry_dropped_total", &[])
        == 0
    {
        for _ in 0..500 {
            let answer = client.ask(&get(&format!("/a?{padding}"))).await;
            assert_eq!(answer.text(), "content");
            asked += 1;
        }
        assert!(asked < 40_000, "nothing was dropped, so nothing was proven");
    }
    let counted = fleet.metrics("edge-1").await.sum("requests_total", &[]);
    assert_eq!(counted, asked, "counters lose nothing");
    node.signal("TERM");
    assert_eq!(node.ended().await.code, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn at_the_lowest_level_only_our_own_lines_say_more_and_none_tells_a_field() {
    const SECRET: &str = "what-nobody-else-may-see";
    let origin = Origin::start().await;
    let reply = Reply::fresh("content").with("Set-Cookie", SECRET);
    origin.always("/a", reply.with("X-Private", SECRET));
    origin.always("/gone", Reply::hang_up());
    let url = format!("http://{}", origin.address());
    let mut fleet = Fleet::eject(&["--origin", &url, "--edges", "1", "--uppers", "1"]).await;
    let log = fleet.file("edge-1.log");
    let to_file = format!("\"file:{log}\"");
    fleet.edit("edge-1.toml", "\"stdout\"", &to_file);
    for file in ["edge-1.toml", "upper-1.toml"] {
        fleet.append(file, "log_level = \"trace\"\n");
    }
    fleet.start(["upper-1"]).await;
    let (program, arguments) = fleet.command("edge-1");
    // Nor does anything come from a variable that would have libraries say more.
    let mut edge = Process::start_with(("RUST_LOG", "trace".as_ref()), program, arguments);
    let written = || std::fs::read_to_string(&log).unwrap_or_default();
    tests::until("the edge has started", async || {
        written().contains("\"event\":\"started\"").then_some(())
    })
    .await;
    let with_secrets = |asked: tests::Ask| {
        let asked = asked.with("Cookie", SECRET).with("X-Private", SECRET);
        asked.with("Authorization", &format!("Bearer {SECRET}"))
    };
    for asked in [get("/a"), get("/gone"), ask("POST", "/a").body(SECRET)] {
        fleet.ask("edge-1", &with_secrets(asked)).await;
    }
    fleet.get("edge-1", "/b").await;
    edge.signal("TERM");
    assert_eq!(edge.ended().await.code, Some(0));
    fleet.node("upper-1").signal("TERM");
    let at_upper = fleet.node_mut("upper-1").ended().await.out;

    let at_edge = written();
    for text in [&at_edge, &at_upper] {
        assert!(!text.contains(SECRET), "{text}");
        let lines: Vec<Value> = text
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        for (level, target) in [
            ("INFO", "access"),
            ("DEBUG", "attempt"),
            ("TRACE", "request"),
            ("TRACE", "phase"),
        ] {
            let is = |line: &&Value| line["level"] == level && line["target"] == target;
            assert!(
                lines.iter().any(|line| is(&line)),
                "{level} {target}: {text}"
            );
        }
        for line in &lines {
            let is_low = line["level"] == "DEBUG" || line["level"] == "TRACE";
            let target = line["target"].as_str().unwrap();
            let is_ours = ["attempt", "request", "phase"].contains(&target);
            assert_eq!(is_low, is_ours, "{line}");
        }
    }
    assert_eq!(edge.out(), "", "all of it is in the file");
}
