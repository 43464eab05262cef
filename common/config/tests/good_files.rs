//! Files that are right: everything they can say arrives as it was meant.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::Path;

use config::{
    AccessLog, Fallback, HostPattern, Kind, LogLevel, OtlpProtocol, OtlpSignal, Problem, QueryRule,
    Role, SetCookie, Tier, Topology, UpstreamTls, check, load, load_sites, parse_node, parse_sites,
};

const SITES: &str = r#"
[pools.shop]
servers = ["10.0.0.7:8000", "[2001:db8::7]:8000", "Origin.Shop.Example:80"]
host_header = "origin.shop.example"
tls = { sni = "origin.shop.example", ca = "ca.pem", verify = true }

[pools.plain]
servers = ["127.0.0.1:8000"]

[pools.secure]
servers = ["127.0.0.1:8443"]
tls = true

[sites.shop]
hosts = ["Shop.Example", "*.shop.example"]
pool = "shop"
topology = "hash"
fallback = ["stale", "direct"]
trust_traceparent = true

[sites.shop.cache]
default_ttl_s = 60
ttl_max_s = 86400
heuristic = false
stale_while_revalidate_s = 5
stale_if_error_s = 600
set_cookie = "strip"
request_directives = "ignore"
normalise = ["accept-language"]

[sites.shop.key]
query = { drop = ["utm_*", "fbclid"] }
query_sort = true
headers = ["X-Device"]
cookies = ["lang"]

[sites.deep]
hosts = ["*.deep.shop.example", "[2001:DB8::1]", "192.0.2.1"]
pool = "plain"
topology = "off"
fallback = []
key = { query = { keep = ["id"] } }

[sites.all]
hosts = ["*"]
pool = "secure"
key.query = "ignore"
"#;

const EDGE: &str = r#"
role = "edge"
name = "edge-1"
sites = "sites.toml"
trusted_proxies = ["10.0.0.0/8", "192.0.2.1", "2001:db8::/32"]
name_servers = ["192.0.2.53", "[2001:db8::53]:5353"]
handover = "run/edge-1.sock"

[[listen]]
address = "0.0.0.0:8081"

[[listen]]
address = "[::1]:8444"
tls = { certificate = "edge.pem", key = "edge.key", client_ca = "ca.pem" }
proxy_protocol = true
http2 = false

[admin]
address = "0.0.0.0:9081"
token_file = "token"

[[upper_tier]]
name = "upper-1"
address = "127.0.0.1:8091"

[[upper_tier]]
name = "upper-2"
address = "upper-2.internal:8092"
tls = { ca = "ca.pem", certificate = "edge.pem", key = "edge.key" }
weight = 3
tier = "regional"

[keys]
files = ["edge-1.key"]
env = ["HEADWATER_KEYS"]

[store]
bytes_max = "1GiB"
object_bytes_max = 5_000_000
variants_max = 8

[limits]
head_bytes_max = "16KiB"
fields_max = 50
request_body_bytes_max = "10MB"
connections_max = 100
fill_bytes_in_flight_max = "64MiB"
fill_window_bytes = "512KiB"
hops_max = 3
upper_load_percent_max = 150

[timeouts]
head_ms = 1
keepalive_ms = 20
write_ms = 3
request_body_ms = 4
connect_ms = 5
first_byte_ms = 6
tier_answer_ms = 10
between_bytes_ms = 7
collapse_ms = 8
pool_idle_ms = 9
laggard_ms = 10
answer_ms = 11
drain_idle_ms = 12
drain_ms = 13

[telemetry]
access_log = "file:logs/access.log"
hit_log_ratio = 1
otlp_endpoint = "http://127.0.0.1:4318"
otlp_protocol = "grpc"
otlp_signals = ["metrics", "logs"]
otlp_ca = "ca.pem"
otlp_headers_file = "collector.headers"
metrics_interval_ms = 13
trace_ratio = 0.25
slow_ms = 14
queue_records_max = 16
log_level = "trace"
"#;

fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path = folder.path().join(name);
        fs::write(&path, text).unwrap();
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        }
    };
    write("sites.toml", SITES);
    write("edge.toml", EDGE);
    write("ca.pem", "-----BEGIN CERTIFICATE-----\n");
    write("edge.pem", "-----BEGIN CERTIFICATE-----\n");
    write("edge.key", "-----BEGIN PRIVATE KEY-----\n");
    write("edge-1.key", "first key\n");
    write("token", "s3cret\n");
    write("collector.headers", "authorization: s3cret\n");
    fs::create_dir(folder.path().join("logs")).unwrap();
    folder
}

fn env(name: &str) -> Option<String> {
    (name == "HEADWATER_KEYS").then(|| "second key".to_owned())
}

fn plain(sni: &str) -> UpstreamTls {
    UpstreamTls {
        sni: sni.to_owned(),
        ca: None,
        client: None,
        verify: true,
    }
}

#[test]
fn every_key_of_a_sites_file_arrives() {
    let sites = parse_sites(SITES, Path::new("/etc/headwater/sites.toml")).unwrap();

    let names: Vec<_> = sites.all().iter().map(|site| site.name.as_str()).collect();
    assert_eq!(names, ["shop", "deep", "all"], "in file order");

    let shop = sites.named("shop").unwrap();
    assert_eq!(
        shop.hosts,
        [
            HostPattern::Exact("shop.example".to_owned()),
            HostPattern::Suffix("shop.example".to_owned())
        ]
    );
    let servers: Vec<_> = shop.pool.servers.iter().map(ToString::to_string).collect();
    assert_eq!(
        servers,
        [
            "10.0.0.7:8000",
            "[2001:db8::7]:8000",
            "origin.shop.example:80"
        ]
    );
    assert_eq!(shop.pool.name, "shop");
    assert_eq!(
        shop.pool.host_header.as_deref(),
        Some("origin.shop.example")
    );
    let tls = UpstreamTls {
        ca: Some("/etc/headwater/ca.pem".into()),
        ..plain("origin.shop.example")
    };
    assert_eq!(shop.pool.tls, Some(tls));
    assert_eq!(shop.topology, Topology::Hash);
    assert_eq!(shop.fallback, [Fallback::Stale, Fallback::Direct]);
    assert!(shop.trust_traceparent);
    assert_eq!(shop.cache.default_ttl_ms, Some(60_000));
    assert_eq!(shop.cache.ttl_max_ms, Some(86_400_000));
    assert!(!shop.cache.heuristic);
    assert_eq!(shop.cache.stale_while_revalidate_ms, 5_000);
    assert_eq!(shop.cache.stale_if_error_ms, 600_000);
    assert_eq!(shop.cache.set_cookie, SetCookie::Strip);
    assert!(!shop.cache.honour_request_directives);
    assert!(!shop.cache.normalise_accept_encoding);
    assert!(shop.cache.normalise_accept_language);
    let drop = vec!["utm_*".to_owned(), "fbclid".to_owned()];
    assert_eq!(shop.key.query, QueryRule::Drop(drop));
    assert!(shop.key.query_sort);
    assert_eq!(shop.key.headers, ["x-device"]);
    assert_eq!(shop.key.cookies, ["lang"]);

    let deep = sites.named("deep").unwrap();
    assert_eq!(deep.topology, Topology::Off);
    assert!(deep.fallback.is_empty());
    assert_eq!(deep.pool.tls, None);
    assert_eq!(deep.key.query, QueryRule::Keep(vec!["id".to_owned()]));

    let all = sites.named("all").unwrap();
    assert_eq!(all.pool.tls, Some(plain("")), "SNI follows the host sent");
    assert_eq!(all.key.query, QueryRule::Ignore);
    assert_eq!(all.fallback, [Fallback::Stale]);
    assert_eq!(all.cache.default_ttl_ms, None);
    assert!(all.cache.normalise_accept_encoding);
}

#[test]
fn the_most_particular_host_pattern_wins() {
    let sites = parse_sites(SITES, Path::new("sites.toml")).unwrap();
    let table = [
        ("shop.example", "shop"),
        ("www.shop.example", "shop"),
        ("a.b.shop.example", "shop"),
        ("deep.shop.example", "shop"),
        ("www.deep.shop.example", "deep"),
        ("192.0.2.1", "deep"),
        ("2001:db8::1", "deep"),
        ("[2001:db8::1]", "deep"),
        ("xshop.example", "all"),
        (".shop.example", "all"),
        ("", "all"),
        (".", "all"),
    ];
    for (host, site) in table {
        assert_eq!(sites.find(host).unwrap().name, site, "{host:?}");
    }
}

#[test]
fn the_revision_is_the_digest_of_the_text_alone() {
    let revision = |text: &str| {
        let sites = parse_sites(text, Path::new("anywhere.toml")).unwrap();
        sites.revision
    };
    // A fixed value: nodes of different builds compare revisions.
    let small = "[pools.a]\nservers = [\"a:1\"]\n[sites.a]\nhosts = [\"a\"]\npool = \"a\"\n";
    assert_eq!(revision(small), "ee867cb5fd060bb2");
    assert_ne!(revision(small), revision(&format!("{small}\n")));
}

#[test]
fn every_key_of_a_node_file_arrives() {
    let folder = folder();
    let path = folder.path().join("edge.toml");
    let loaded = load(&path, Role::Edge, &env).unwrap();
    let node = &loaded.node;

    assert_eq!(node.name, "edge-1");
    assert_eq!(node.role, Role::Edge);
    assert_eq!(node.sites_file, folder.path().join("sites.toml"));
    let proxies: Vec<_> = node
        .trusted_proxies
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(proxies, ["10.0.0.0/8", "192.0.2.1/32", "2001:db8::/32"]);

    let handover = folder.path().join("run/edge-1.sock");
    assert_eq!(node.handover, Some(handover));
    let servers: Vec<_> = node.name_servers.iter().map(ToString::to_string).collect();
    assert_eq!(servers, ["192.0.2.53:53", "[2001:db8::53]:5353"]);

    let [first, second] = &node.listeners[..] else {
        panic!("two listeners")
    };
    assert_eq!(first.address, "0.0.0.0:8081".parse().unwrap());
    assert!(first.tls.is_none() && !first.proxy_protocol && first.http2);
    let tls = second.tls.as_ref().unwrap();
    assert_eq!(tls.certificate, folder.path().join("edge.pem"));
    assert_eq!(tls.key, folder.path().join("edge.key"));
    assert_eq!(tls.client_ca, Some(folder.path().join("ca.pem")));
    assert!(second.proxy_protocol && !second.http2);

    assert_eq!(node.admin.address, "0.0.0.0:9081".parse().unwrap());
    assert_eq!(node.admin.token.as_ref().unwrap().expose(), "s3cret");

    let [plain_one, mutual] = &node.upper_tiers[..] else {
        panic!("two upper tiers")
    };
    assert_eq!(plain_one.address.to_string(), "127.0.0.1:8091");
    assert!(plain_one.tls.is_none());
    assert_eq!((plain_one.weight, plain_one.tier), (1, Tier::Upper));
    assert_eq!((mutual.weight, mutual.tier), (3, Tier::Regional));
    let client = (
        folder.path().join("edge.pem"),
        folder.path().join("edge.key"),
    );
    let tls = UpstreamTls {
        ca: Some(folder.path().join("ca.pem")),
        client: Some(client),
        ..plain("upper-2.internal")
    };
    assert_eq!(mutual.tls, Some(tls));

    let keys: Vec<_> = loaded.keys.iter().map(|key| key.text.expose()).collect();
    assert_eq!(keys, ["first key\n", "second key"]);
    assert_eq!(loaded.keys[1].source, "environment variable HEADWATER_KEYS");
    assert_eq!(loaded.sites.all().len(), 3);
    assert_eq!(loaded.warnings, []);
}

#[test]
fn every_setting_of_a_node_file_arrives() {
    let file = parse_node(EDGE, Path::new("/etc/headwater/edge.toml"), Role::Edge).unwrap();
    let node = &file.node;

    assert_eq!(node.store.bytes_max, 1 << 30);
    assert_eq!(node.store.object_bytes_max, 5_000_000);
    assert_eq!(node.store.variants_max, 8);
    let limits = &node.limits;
    assert_eq!(limits.head_bytes_max, 16 << 10);
    assert_eq!(limits.fields_max, 50);
    assert_eq!(limits.request_body_bytes_max, 10_000_000);
    assert_eq!(limits.connections_max, 100);
    assert_eq!(limits.fill_bytes_in_flight_max, 64 << 20);
    assert_eq!(limits.fill_window_bytes, 512 << 10);
    assert_eq!(limits.hops_max, 3);
    assert_eq!(limits.upper_load_percent_max, Some(150));
    let waits = &node.timeouts;
    let waits = [
        waits.head_ms,
        waits.keepalive_ms,
        waits.write_ms,
        waits.request_body_ms,
        waits.connect_ms,
        waits.first_byte_ms,
        waits.tier_answer_ms,
        waits.between_bytes_ms,
        waits.collapse_ms,
        waits.pool_idle_ms,
        waits.laggard_ms,
        waits.answer_ms,
        waits.drain_idle_ms,
        waits.drain_ms,
    ];
    assert_eq!(waits, [1, 20, 3, 4, 5, 6, 10, 7, 8, 9, 10, 11, 12, 13]);
    let telemetry = &node.telemetry;
    let log = AccessLog::File("/etc/headwater/logs/access.log".into());
    assert_eq!(telemetry.access_log, log);
    assert!((telemetry.hit_log_ratio - 1.0).abs() < f64::EPSILON);
    assert!((telemetry.trace_ratio - 0.25).abs() < f64::EPSILON);
    assert_eq!(
        telemetry.otlp_endpoint.as_deref(),
        Some("http://127.0.0.1:4318")
    );
    assert_eq!(telemetry.queue_records_max, 16);
    assert_eq!(telemetry.log_level, LogLevel::Trace);
    assert_eq!(telemetry.otlp_protocol, OtlpProtocol::Grpc);
    assert_eq!(
        telemetry.otlp_signals,
        [OtlpSignal::Metrics, OtlpSignal::Logs]
    );
    assert_eq!((telemetry.metrics_interval_ms, telemetry.slow_ms), (13, 14));

    assert_eq!(file.key_files, [Path::new("/etc/headwater/edge-1.key")]);
    assert_eq!(file.key_env, ["HEADWATER_KEYS"]);
    assert!(node.admin.token.is_none(), "it stands in a file");
}

#[test]
fn the_admin_listener_stands_a_thousand_ports_above_on_loopback() {
    let table = [
        ("0.0.0.0:8081", "127.0.0.1:9081"),
        ("127.0.0.1:0", "127.0.0.1:0"),
        ("127.0.0.1:65000", "127.0.0.1:0"),
    ];
    for (listen, admin) in table {
        let text = format!(
            "role = \"edge\"\nname = \"e\"\nsites = \"s\"\n[[listen]]\naddress = \"{listen}\"\n"
        );
        let file = parse_node(&text, Path::new("edge.toml"), Role::Edge).unwrap();
        assert_eq!(file.node.admin.address.to_string(), admin);
    }
}

#[test]
fn a_store_smaller_than_an_object_keeps_what_fits() {
    let text = "role = \"edge\"\nname = \"e\"\nsites = \"s\"\n\
                [[listen]]\naddress = \"127.0.0.1:0\"\n[store]\nbytes_max = \"1MiB\"\n";
    let file = parse_node(text, Path::new("edge.toml"), Role::Edge).unwrap();
    assert_eq!(file.node.store.object_bytes_max, 1 << 20);
}

#[test]
fn check_finds_out_what_a_file_is() {
    let folder = folder();
    let upper = "role = \"upper-tier\"\nname = \"upper-1\"\nsites = \"sites.toml\"\n\
                 [[listen]]\naddress = \"127.0.0.1:8091\"\n[keys]\nfiles = [\"edge-1.key\"]\n";
    fs::write(folder.path().join("upper-1.toml"), upper).unwrap();
    let table = [
        ("sites.toml", Kind::Sites),
        ("edge.toml", Kind::Edge),
        ("upper-1.toml", Kind::UpperTier),
    ];
    for (name, kind) in table {
        let report = check(&folder.path().join(name), &env);
        assert_eq!(report.kind, kind, "{name}");
        assert_eq!(report.problems, [], "{name}");
        assert_eq!(report.warnings, [], "{name}");
    }
    load_sites(&folder.path().join("sites.toml")).unwrap();
}

#[test]
fn no_formatter_prints_a_secret() {
    let folder = folder();
    let loaded = load(&folder.path().join("edge.toml"), Role::Edge, &env).unwrap();
    let printed = format!("{loaded:?}");
    for secret in ["s3cret", "first key", "second key"] {
        assert!(!printed.contains(secret));
    }
}

#[test]
fn a_problem_reads_as_one_line() {
    let problem = Problem {
        file: "sites.toml".into(),
        line: Some(7),
        key: "sites.shop.pool".to_owned(),
        what: "no pool is named `shpo`".to_owned(),
        mend: "did you mean `shop`?".to_owned(),
    };
    assert_eq!(
        problem.to_string(),
        "sites.toml:7: sites.shop.pool: no pool is named `shpo`; did you mean `shop`?"
    );
}
