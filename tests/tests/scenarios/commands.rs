//! What the commands say: to whoever made a mistake, and to whoever did not.

use tests::{Ended, Fleet, Origin, Process, Reply, get, run};

/// `sites.toml` with four mistakes.
const BAD_SITES: &str = "[pools.shop]\nservers = [\"nowhere\"]\n\
    [sites.shop]\nhosts = [\"shop.example\"]\npool = \"shop\"\n\
    [sites.copy]\nhosts = [\"SHOP.example\"]\npool = \"gone\"\nmore = 1\n";

#[tokio::test(flavor = "multi_thread")]
async fn a_node_with_a_bad_file_says_file_line_key_and_mend_and_ends() {
    let fleet = Fleet::eject(&["--edges", "1", "--uppers", "1"]).await;
    let upper = fleet.ports().of("upper-1").to_string();
    let edge = fleet.ports().of("edge-1").to_string();
    for (node, file, from, to, key, words) in [
        (
            "edge-1",
            "edge-1.toml",
            "[admin]",
            "[admni]",
            "admni",
            "is an unknown key; did you mean `admin`?",
        ),
        (
            "edge-1",
            "edge-1.toml",
            "role = \"edge\"",
            "role = \"upper-tier\"",
            "role",
            "upper-tier",
        ),
        (
            "edge-1",
            "edge-1.toml",
            &format!("address = \"{upper}\""),
            &format!("address = \"{edge}\""),
            "upper_tier[0].address",
            "is this node itself",
        ),
        (
            "edge-1",
            "edge-1.toml",
            "name = \"upper-1\"",
            "name = \"edge-1\"",
            "upper_tier[0].name",
            "is this node's own name",
        ),
        (
            "edge-1",
            "sites.toml",
            "hosts = [\"*\"]",
            "hosts = [\"a.example\", \"A.example\"]",
            "sites.demo.hosts[1]",
            "already belongs to site `demo`",
        ),
        (
            "upper-1",
            "sites.toml",
            "pool = \"origin\"",
            "pool = \"orign\"",
            "sites.demo.pool",
            "no pool is named `orign`",
        ),
        (
            "upper-1",
            "upper-1.toml",
            "files = [\"edge-1.key\"]",
            "files = []",
            "keys",
            "names no key",
        ),
    ] {
        let good = fleet.text(file);
        let at = good.lines().position(|line| line.contains(from));
        fleet.edit(file, from, to);
        let ended = ended(&fleet, node).await;
        assert_eq!(ended.code, Some(1), "{words}");
        let problem = format!("{file}:{}: {key}: ", at.unwrap() + 1);
        // A table's problem may stand at its heading, one line above.
        let above = format!("{file}:{}: {key}: ", at.unwrap());
        let line = ended
            .err
            .lines()
            .find(|line| line.contains(&problem) || line.contains(&above));
        let line = line.unwrap_or_else(|| panic!("{problem}: {}", ended.err));
        assert!(line.contains(words), "{words}: {line}");
        assert!(line.contains("; "), "no mend: {line}");
        fleet.write(file, &good);
    }
}

/// What became of a node that should not start.
async fn ended(fleet: &Fleet, node: &str) -> Ended {
    let (program, arguments) = fleet.command(node);
    run(program, arguments).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_with_bad_keys_says_so_without_repeating_them() {
    use std::os::unix::fs::PermissionsExt as _;
    let fleet = Fleet::eject(&["--edges", "1", "--uppers", "1"]).await;
    let good = fleet.text("edge-1.key");
    let secret = good.split_whitespace().last().unwrap();
    for (text, mode, words) in [
        ("", 0o600, "edge-1.key is empty"),
        ("# nothing but words\n", 0o600, "edge-1"),
        (&good[..good.len() - 20], 0o600, "edge-1.key"),
        (
            &good.replace("edge-1 ", "edge-2 "),
            0o600,
            "no key to sign with",
        ),
        (&good, 0o666, "may be written by everybody"),
    ] {
        fleet.write("edge-1.key", text);
        let mode = std::fs::Permissions::from_mode(mode);
        std::fs::set_permissions(fleet.file("edge-1.key"), mode).unwrap();
        let ended = ended(&fleet, "edge-1").await;
        assert_eq!(ended.code, Some(1), "{words}: {}", ended.out);
        assert!(ended.err.contains(words), "{words}: {}", ended.err);
        for printed in [&ended.out, &ended.err] {
            assert!(!printed.contains(&secret[..20]), "{printed}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_whose_port_is_taken_names_it_and_ends() {
    let mut fleet = Fleet::eject(&["--edges", "2", "--uppers", "1"]).await;
    fleet.start(["edge-1"]).await;
    for address in [fleet.ports().of("edge-1"), fleet.ports().admin_of("edge-1")] {
        let good = fleet.text("edge-2.toml");
        let own = if address == fleet.ports().of("edge-1") {
            fleet.ports().of("edge-2")
        } else {
            fleet.ports().admin_of("edge-2")
        };
        fleet.edit("edge-2.toml", &own.to_string(), &address.to_string());
        let ended = ended(&fleet, "edge-2").await;
        assert_eq!(ended.code, Some(1));
        let words = format!("edge-2: cannot listen on {address}");
        assert!(ended.err.contains(&words), "{}", ended.err);
        fleet.write("edge-2.toml", &good);
    }
    assert!(fleet.node_mut("edge-1").runs());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_file_is_named() {
    for (program, arguments) in [
        ("edge", ["--config", "/nowhere/edge.toml"]),
        ("upper-tier", ["--config", "/nowhere/edge.toml"]),
        ("headwater", ["check", "/nowhere/edge.toml"]),
    ] {
        let ended = run(program, arguments).await;
        assert_eq!(ended.code, Some(1), "{program}");
        assert!(ended.err.contains("/nowhere/edge.toml"), "{}", ended.err);
        assert!(ended.err.contains("does not exist"), "{}", ended.err);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn check_prints_all_problems_of_all_files() {
    let fleet = Fleet::eject(&["--edges", "2"]).await;
    let file = |name: &str| fleet.file(name);
    let all = ["sites.toml", "edge-1.toml", "edge-2.toml", "upper-1.toml"];
    let mut arguments = vec!["check".to_owned()];
    arguments.extend(all.map(file));
    let good = run("headwater", &arguments).await;
    assert_eq!((good.code, good.err.as_str()), (Some(0), ""));
    for (name, kind) in all.iter().zip(["sites", "edge", "edge", "upper tier"]) {
        let line = format!("{}: ok ({kind})", file(name));
        assert!(good.out.lines().any(|said| said == line), "{}", good.out);
    }

    fleet.write("sites.toml", BAD_SITES);
    fleet.edit(
        "edge-1.toml",
        "[telemetry]",
        "[telemetry]\nhit_log_ratio = 2.0",
    );
    let bad = run("headwater", &arguments).await;
    assert_eq!(bad.code, Some(1));
    for problem in [
        "sites.toml:2: pools.shop.servers[0]: ",
        "sites.toml:7: sites.copy.hosts[0]: ",
        "sites.toml:8: sites.copy.pool: ",
        "sites.toml:9: sites.copy.more: ",
        ": telemetry.hit_log_ratio: ",
    ] {
        assert!(bad.err.contains(problem), "{problem}: {}", bad.err);
    }
    // Nothing good is said of a file that names a bad one.
    assert!(!bad.out.contains("edge-1.toml: ok"), "{}", bad.out);
}

#[tokio::test(flavor = "multi_thread")]
async fn purge_forgets_a_url_in_every_node_upper_tiers_first() {
    let origin = Origin::start().await;
    origin.in_turn("/a", [Reply::fresh("old"), Reply::fresh("new")]);
    let url = format!("http://{}", origin.address());
    let mut fleet = Fleet::eject(&["--origin", &url]).await;
    fleet
        .start(["upper-1", "upper-2", "edge-1", "edge-2", "edge-3"])
        .await;
    for edge in ["edge-1", "edge-2"] {
        assert_eq!(fleet.get(edge, "/a").await.text(), "old");
    }
    let topology = fleet.folder().to_string_lossy().into_owned();
    let purge = ["purge", "http://shop.example/a", "--topology", &topology];
    let purged = run("headwater", purge).await;
    assert_eq!(purged.code, Some(0), "{}", purged.err);
    let lines: Vec<_> = purged.out.lines().collect();
    let names: Vec<_> = lines
        .iter()
        .map(|line| line.split(' ').next().unwrap())
        .collect();
    assert_eq!(names, ["upper-1", "upper-2", "edge-1", "edge-2", "edge-3"]);
    let said = |word: &str| lines.iter().filter(|line| line.ends_with(word)).count();
    // One upper tier has it, and the two edges that were asked.
    assert_eq!(
        (said(": purged"), said(": not stored")),
        (3, 2),
        "{lines:?}"
    );
    for edge in ["edge-1", "edge-2", "edge-3"] {
        assert_eq!(fleet.get(edge, "/a").await.text(), "new");
    }

    // Softly, and by what it begins with.
    let soft = [&purge[..], &["--prefix", "--soft"]].concat();
    let softened = run("headwater", soft).await;
    assert_eq!(softened.code, Some(0), "{}", softened.err);
    let stale = softened
        .out
        .lines()
        .filter(|line| line.ends_with(": stale 1 key"));
    // One upper tier has it, and all edges were asked.
    assert_eq!(stale.count(), 4, "{}", softened.out);
    for edge in ["edge-1", "edge-2", "edge-3"] {
        let asked = fleet.get(edge, "/a").await;
        assert!(
            asked.at(edge).contains("fwd=stale"),
            "{:?}",
            asked.cache_status()
        );
    }

    // While an upper tier may still hand out the old copy, edges keep theirs.
    fleet.node_mut("upper-2").kill();
    let failed = run("headwater", purge).await;
    assert_eq!(failed.code, Some(1));
    assert!(failed.out.contains("upper-2"), "{}", failed.out);
    assert!(failed.out.contains("unreachable"), "{}", failed.out);
    assert_eq!(failed.out.matches("not asked").count(), 3, "{}", failed.out);
    assert!(fleet.get("edge-1", "/a").await.hit_at("edge-1"));
    let forced = run("headwater", [&purge[..], &["--force"]].concat()).await;
    assert_eq!(forced.code, Some(1));
    assert!(!fleet.get("edge-1", "/a").await.hit_at("edge-1"));
}

#[tokio::test(flavor = "multi_thread")]
async fn purge_refuses_what_is_no_url_before_anybody_is_asked() {
    for url in ["/a", "shop.example/a", "ftp://shop.example/a", ""] {
        let ended = run("headwater", ["purge", url, "--admin", "127.0.0.1:1"]).await;
        assert_eq!(ended.code, Some(1), "{url}");
        assert!(ended.err.contains("as visitors do"), "{url}: {}", ended.err);
        assert_eq!(ended.out, "", "{url}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn health_is_an_exit_status() {
    let mut fleet = Fleet::eject(&["--edges", "1"]).await;
    let admin = fleet.ports().admin_of("edge-1").to_string();
    let asked = ["health", "--admin", &admin];
    let down = run("headwater", asked).await;
    assert_eq!(down.code, Some(1));
    assert!(down.err.contains("unreachable"), "{}", down.err);
    fleet.start(["edge-1"]).await;
    let up = run("headwater", asked).await;
    assert_eq!((up.code, up.err.as_str()), (Some(0), ""));
    // A container finds the address in its environment.
    let admin: &std::ffi::OsStr = admin.as_ref();
    let mut told = Process::start_with(("HEADWATER_ADMIN", admin), "headwater", ["health"]);
    assert_eq!(told.ended().await.code, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_are_used_as_keygen_advises() {
    let origin = Origin::start().await;
    origin.always("/a", Reply::fresh("content"));
    let url = format!("http://{}", origin.address());
    for algorithm in ["hmac-sha256", "ed25519"] {
        let flags = ["--origin", &url, "--edges", "1", "--uppers", "1"];
        let mut fleet = Fleet::eject(&flags).await;
        std::fs::remove_file(fleet.file("edge-1.key")).unwrap();
        if algorithm == "hmac-sha256" {
            // One secret for both sides, under the name they have for it already.
            keygen(&fleet, "edge-1", algorithm).await;
        } else {
            for (node, other) in [("edge-1", "upper-1"), ("upper-1", "edge-1")] {
                let made = keygen(&fleet, node, algorithm).await;
                let public = made
                    .err
                    .lines()
                    .find(|line| line.starts_with("ed25519-public"));
                fleet.write(&format!("{node}.pub"), public.unwrap());
                let files = format!("[\"{node}.key\", \"{other}.pub\"]");
                fleet.edit(&format!("{node}.toml"), "[\"edge-1.key\"]", &files);
            }
        }
        fleet.start(["upper-1", "edge-1"]).await;
        let answer = fleet.ask("edge-1", &get("/a")).await;
        let status = answer.cache_status();
        assert_eq!(
            (answer.status, status.len()),
            (200, 2),
            "{algorithm}: {status:?}"
        );
        for node in ["edge-1", "upper-1"] {
            let metrics = fleet.metrics(node).await;
            assert_eq!(metrics.sum("tier_control_rejected_total", &[]), 0, "{node}");
        }
    }
}

/// Makes a key of `node`, in a file of that name.
async fn keygen(fleet: &Fleet, node: &str, algorithm: &str) -> Ended {
    let file = fleet.file(&format!("{node}.key"));
    let arguments = ["keygen", node, "--algorithm", algorithm, "--out", &file];
    let made = run("headwater", arguments).await;
    assert_eq!(made.code, Some(0), "{}", made.err);
    // What is printed is no secret.
    let key = std::fs::read_to_string(&file).unwrap();
    let secret = key.lines().nth(1).and_then(|line| line.split(' ').nth(3));
    assert!(!made.err.contains(secret.unwrap()) && made.out.is_empty());
    made
}
