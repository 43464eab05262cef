//! What `load` and `check` say about the files and variables a configuration
//! names, and about a node and sites that do not fit together.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::PathBuf;

use config::{Kind, Report, Role, check, load, load_sites};
use tempfile::TempDir;

const SITES: &str = "[pools.a]\nservers = [\"10.0.0.7:8000\"]\n\
                     [sites.a]\nhosts = [\"*\"]\npool = \"a\"\n";

const EDGE: &str = "role = \"edge\"\nname = \"edge-1\"\nsites = \"sites.toml\"\n\
                    [[listen]]\naddress = \"127.0.0.1:8081\"\n\
                    [[upper_tier]]\nname = \"upper-1\"\naddress = \"127.0.0.1:8091\"\n";

/// A folder with a good edge: each story spoils one thing.
struct Story {
    folder: TempDir,
}

impl Story {
    fn new() -> Self {
        let story = Self {
            folder: tempfile::tempdir().unwrap(),
        };
        story.write("sites.toml", SITES);
        story.write("edge.toml", &format!("{EDGE}[keys]\nfiles = [\"a.key\"]\n"));
        story.write("a.key", "a key\n");
        story
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).unwrap();
        self.mode(name, 0o600);
    }

    #[cfg(unix)]
    fn mode(&self, name: &str, mode: u32) {
        use std::os::unix::fs::PermissionsExt;
        fs::set_permissions(self.path(name), fs::Permissions::from_mode(mode)).unwrap();
    }

    #[cfg(not(unix))]
    fn mode(&self, _: &str, _: u32) {}

    fn report(&self, name: &str) -> Report {
        check(&self.path(name), &env)
    }

    /// What is said, with `DIR` for the folder; problems, then warnings.
    fn said(&self, name: &str) -> Vec<String> {
        let report = self.report(name);
        let folder = self.folder.path().display().to_string();
        let problems = report.problems.iter().map(ToString::to_string);
        let warnings = report
            .warnings
            .iter()
            .map(|warning| format!("warning: {warning}"));
        problems
            .chain(warnings)
            .map(|line| line.replace(&folder, "DIR"))
            .collect()
    }
}

fn env(name: &str) -> Option<String> {
    match name {
        "EMPTY" => Some("  \n".to_owned()),
        "TWO_WORDS" => Some("two words".to_owned()),
        "TOKEN" => Some("token-of-env\n".to_owned()),
        _ => None,
    }
}

#[test]
fn a_good_edge_says_nothing() {
    assert_eq!(Story::new().said("edge.toml"), Vec::<String>::new());
}

#[test]
fn a_file_that_is_not_there() {
    let story = Story::new();
    assert_eq!(
        story.said("none.toml"),
        ["DIR/none.toml: does not exist; name a file that this user can read"]
    );
    assert!(load(&story.path("none.toml"), Role::Edge, &env).is_err());
    assert!(load_sites(&story.path("none.toml")).is_err());
}

#[test]
fn a_file_that_is_not_text() {
    let story = Story::new();
    fs::write(story.path("sites.toml"), [0xff, 0xfe, 0]).unwrap();
    assert_eq!(
        story.said("edge.toml"),
        [
            "DIR/edge.toml:3: sites: the file DIR/sites.toml is not UTF-8 text; \
          create it, correct the path, or mend its permissions"
        ]
    );
}

#[test]
fn key_files_are_looked_at() {
    let story = Story::new();
    let files =
        "[keys]\nfiles = [\"none.key\", \"empty.key\", \"open.key\",\n\"read.key\", \".\"]\n";
    story.write("edge.toml", &format!("{EDGE}{files}"));
    story.write("empty.key", " \n\n");
    story.write("open.key", "a key\n");
    story.mode("open.key", 0o602);
    story.write("read.key", "a key\n");
    story.mode("read.key", 0o604);
    assert_eq!(
        story.said("edge.toml"),
        [
            "DIR/edge.toml:10: keys.files[0]: the file DIR/none.key does not exist; \
             create it, correct the path, or mend its permissions",
            "DIR/edge.toml:10: keys.files[1]: the file DIR/empty.key is empty; \
             make a key with `headwater keygen`",
            "DIR/edge.toml:10: keys.files[2]: the file DIR/open.key may be written by everybody, \
             so it proves nothing; run `chmod 600 DIR/open.key`, and make a new secret if others \
             had access",
            "DIR/edge.toml:11: keys.files[4]: the file DIR/. is no regular file; name a file",
            "warning: DIR/edge.toml:11: keys.files[3]: the file DIR/read.key may be read by \
             everybody; run `chmod 600 DIR/read.key`",
        ]
    );
}

#[test]
fn a_key_that_everybody_can_read_is_loaded_with_a_warning() {
    let story = Story::new();
    story.mode("a.key", 0o644);
    let loaded = load(&story.path("edge.toml"), Role::Edge, &env).unwrap();
    assert_eq!(loaded.keys.len(), 1);
    assert_eq!(loaded.warnings.len(), 1);
}

#[test]
fn environment_variables_are_looked_at() {
    let story = Story::new();
    let keys = "[keys]\nenv = [\"NOT_SET\", \"EMPTY\"]\n[admin]\ntoken_env = \"TWO_WORDS\"\n";
    story.write("edge.toml", &format!("{EDGE}{keys}"));
    assert_eq!(
        story.said("edge.toml"),
        [
            "DIR/edge.toml:10: keys.env[0]: the environment variable NOT_SET is not set; \
             set it where the node is started, or remove its name here",
            "DIR/edge.toml:10: keys.env[1]: the environment variable EMPTY is empty; \
             set it where the node is started, or remove its name here",
            "DIR/edge.toml:12: admin.token_env: the token has spaces, line breaks or characters \
             beyond ASCII; use letters and digits, on one line",
        ]
    );
}

#[test]
fn the_admin_token_is_taken_from_the_environment() {
    let story = Story::new();
    let rest = "[keys]\nfiles = [\"a.key\"]\n\
                [admin]\naddress = \"0.0.0.0:9081\"\ntoken_env = \"TOKEN\"\n";
    story.write("edge.toml", &format!("{EDGE}{rest}"));
    let loaded = load(&story.path("edge.toml"), Role::Edge, &env).unwrap();
    assert_eq!(loaded.node.admin.token.unwrap().expose(), "token-of-env");
}

#[test]
fn certificates_and_private_keys_are_looked_at() {
    let story = Story::new();
    let edge = EDGE.replace(
        "[[upper_tier]]",
        "tls = { certificate = \"none.pem\", key = \"key.pem\", client_ca = \"key.pem\" }\n\
         [[upper_tier]]",
    );
    story.write("edge.toml", &format!("{edge}[keys]\nfiles = [\"a.key\"]\n"));
    story.write("key.pem", "-----BEGIN PRIVATE KEY-----\n");
    story.mode("key.pem", 0o606);
    let tls = "tls = { ca = \"key.pem\", verify = false }\n[sites.a]";
    story.write("sites.toml", &SITES.replace("[sites.a]", tls));
    assert_eq!(
        story.said("edge.toml"),
        [
            "DIR/edge.toml:6: listen[0].tls.certificate: the file DIR/none.pem does not exist; \
             create it, correct the path, or mend its permissions",
            "DIR/edge.toml:6: listen[0].tls.key: the file DIR/key.pem may be written by everybody, \
             so it proves nothing; run `chmod 600 DIR/key.pem`, and make a new secret if others \
             had access",
            "DIR/edge.toml:6: listen[0].tls.client_ca: the file DIR/key.pem has no PEM block \
             `CERTIFICATE`; name a PEM file; `openssl x509` and `openssl pkcs8` convert others",
            "DIR/sites.toml:3: pools.a.tls.ca: the file DIR/key.pem has no PEM block \
             `CERTIFICATE`; name a PEM file; `openssl x509` and `openssl pkcs8` convert others",
            "warning: DIR/sites.toml:3: pools.a.tls.verify: turns verification off: anybody in \
             between can read and alter everything; name the authority in `ca` and remove this",
        ]
    );
    assert_eq!(
        story.said("sites.toml").len(),
        2,
        "they are the sites file's own"
    );
    assert!(load_sites(&story.path("sites.toml")).is_err());
}

#[test]
fn a_log_needs_a_folder() {
    let story = Story::new();
    let log = "[keys]\nfiles = [\"a.key\"]\n[telemetry]\naccess_log = \"file:none/access.log\"\n";
    story.write("edge.toml", &format!("{EDGE}{log}"));
    assert_eq!(
        story.said("edge.toml"),
        [
            "DIR/edge.toml:12: telemetry.access_log: the folder DIR/none does not exist; \
          create it, or log elsewhere"
        ]
    );
    fs::create_dir_all(story.path("none/access.log")).unwrap();
    assert_eq!(
        story.said("edge.toml"),
        [
            "DIR/edge.toml:12: telemetry.access_log: the log DIR/none/access.log is a folder; \
          name a file in it"
        ]
    );
}

#[test]
fn problems_of_all_files_come_together_and_sorted() {
    let story = Story::new();
    let sites = SITES
        .replace("pool = \"a\"", "pool = \"b\"")
        .replace("hosts", "host");
    story.write("sites.toml", &sites);
    story.write(
        "edge.toml",
        &format!("{EDGE}[keys]\nfiles = [\"none.key\"]\n[store]\nbytes = 1\n"),
    );
    assert_eq!(
        story.said("edge.toml"),
        [
            "DIR/edge.toml:10: keys.files[0]: the file DIR/none.key does not exist; \
             create it, correct the path, or mend its permissions",
            "DIR/edge.toml:12: store.bytes: is an unknown key; remove it, or use one of \
             `bytes_max`, `object_bytes_max`, `variants_max`",
            "DIR/sites.toml:3: sites.a.hosts: is missing; add `hosts = [\"shop.example\"]`",
            "DIR/sites.toml:4: sites.a.host: is an unknown key; did you mean `hosts`?",
            "DIR/sites.toml:5: sites.a.pool: no pool is named `b`; add a pool of that name, \
             or name one there is",
            "warning: DIR/sites.toml:1: pools.a: is used by no site; \
             name it in a site's `pool`, or remove it",
        ]
    );
}

#[test]
fn an_edge_without_upper_tiers_needs_sites_that_allow_it() {
    let alone = EDGE.split("[[upper_tier]]").next().unwrap();
    let refused = "DIR/sites.toml:3: sites.a: the edge `edge-1` has no upper tier, and may not go \
                   to this site's origin directly; add an `[[upper_tier]]` to the edge's file, or \
                   set `topology = \"off\"` or `fallback = [\"stale\", \"direct\"]` here";
    let table = [
        ("", vec![refused]),
        ("fallback = []\n", vec![refused]),
        ("fallback = [\"stale\", \"direct\"]\n", vec![]),
        ("topology = \"off\"\n", vec![]),
    ];
    for (line, said) in table {
        let story = Story::new();
        story.write("edge.toml", alone);
        story.write("sites.toml", &format!("{SITES}{line}"));
        assert_eq!(story.said("edge.toml"), said, "{line}");
    }
}

#[test]
fn an_upper_tier_needs_no_upper_tier() {
    let story = Story::new();
    let upper = EDGE.split("[[upper_tier]]").next().unwrap();
    let upper = upper.replace("\"edge\"", "\"upper-tier\"");
    story.write(
        "upper.toml",
        &format!("{upper}[keys]\nfiles = [\"a.key\"]\n"),
    );
    assert_eq!(story.said("upper.toml"), Vec::<String>::new());
    assert_eq!(story.report("upper.toml").kind, Kind::UpperTier);
}

#[test]
fn a_pool_that_is_the_node_itself_is_warned_of() {
    let story = Story::new();
    story.write(
        "sites.toml",
        &SITES.replace("10.0.0.7:8000", "localhost:8081"),
    );
    assert_eq!(
        story.said("edge.toml"),
        [
            "warning: DIR/sites.toml:2: pools.a.servers[0]: is the node `edge-1` itself, which \
          listens on 127.0.0.1:8081; write the address of an origin"
        ]
    );
}

#[test]
fn trusting_everybody_is_warned_of() {
    let story = Story::new();
    let text = format!("trusted_proxies = [\"::/0\"]\n{EDGE}[keys]\nfiles = [\"a.key\"]\n");
    story.write("edge.toml", &text);
    assert_eq!(
        story.said("edge.toml"),
        [
            "warning: DIR/edge.toml:1: trusted_proxies[0]: trusts everybody to say which client a \
          request comes from; name the networks of your own proxies"
        ]
    );
}

#[test]
fn a_node_file_is_known_even_when_its_role_is_wrong_or_missing() {
    let table = [
        ("role = \"egde\"\n", Kind::Edge),
        ("[[listen]]\n", Kind::Edge),
        ("role = \"upper-tier\"\nname = \n", Kind::UpperTier),
        ("sites = 1\n", Kind::Sites),
        ("", Kind::Sites),
    ];
    let story = Story::new();
    for (text, kind) in table {
        story.write("some.toml", text);
        let report = story.report("some.toml");
        assert_eq!(report.kind, kind, "{text}");
        assert!(!report.problems.is_empty(), "{text}");
    }
}

#[test]
fn a_collectors_files_are_read_and_no_message_shows_what_is_in_them() {
    let story = Story::new();
    let telemetry = "[keys]\nfiles = [\"a.key\"]\n[telemetry]\n\
                     otlp_ca = \"ca.pem\"\notlp_headers_file = \"headers\"\n";
    story.write("edge.toml", &format!("{EDGE}{telemetry}"));
    story.write("ca.pem", "no certificate\n");
    story.write(
        "headers",
        "# for the vendor\nAuthorization: Bearer word\nsecret\n",
    );
    assert_eq!(
        story.said("edge.toml"),
        [
            "DIR/edge.toml:12: telemetry.otlp_ca: the file DIR/ca.pem has no PEM block \
             `CERTIFICATE`; name a PEM file; `openssl x509` and `openssl pkcs8` convert others",
            "DIR/edge.toml:13: telemetry.otlp_headers_file: line 3 of that file is no header \
             field; write `name: value`, in ASCII",
        ]
    );

    let pem = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    story.write("ca.pem", pem);
    story.write("headers", "Authorization: Bearer word\n");
    let loaded = load(&story.path("edge.toml"), Role::Edge, &env).unwrap();
    let telemetry = &loaded.node.telemetry;
    assert_eq!(telemetry.otlp_ca.as_deref(), Some(pem));
    let [(name, value)] = telemetry.otlp_headers.as_slice() else {
        panic!("{telemetry:?}")
    };
    assert_eq!(
        (name.as_str(), value.expose()),
        ("authorization", "Bearer word")
    );
    assert!(!format!("{telemetry:?}").contains("word"));
}

#[test]
fn regional_sites_and_nodes_that_do_not_fit_are_warned_of() {
    let regional = "topology = \"regional\"\n";
    let upper = "role = \"upper-tier\"\nname = \"upper-9\"\nsites = \"sites.toml\"\n\
                 [[listen]]\naddress = \"127.0.0.1:8099\"\n[keys]\nfiles = [\"a.key\"]\n\
                 [[upper_tier]]\nname = \"upper-1\"\naddress = \"10.0.0.1:8091\"\n";
    let edge = format!("{EDGE}[keys]\nfiles = [\"a.key\"]\n");
    let marked = edge.replace("[keys]", "tier = \"regional\"\n[keys]");
    let no_regional = "warning: DIR/sites.toml:3: sites.a: is `regional`, and the edge `edge-1` has \
                       no regional tier: it asks its upper tiers as with `hash`; set \
                       `tier = \"regional\"` in an `[[upper_tier]]` of the edge's file";
    let no_site = "warning: DIR/sites.toml: has no site that is `regional`, so that the upper tier \
                   `upper-9` goes to every origin itself and asks none of its upper tiers; set \
                   `topology = \"regional\"` for a site, or remove the node's `[[upper_tier]]`";
    for (node, site, said) in [
        (edge.as_str(), regional, vec![no_regional]),
        (edge.as_str(), "", vec![]),
        (marked.as_str(), regional, vec![]),
        (upper, regional, vec![]),
        (upper, "", vec![no_site]),
    ] {
        let story = Story::new();
        let sites = format!(
            "[pools.a]\nservers = [\"10.0.0.9:80\"]\n[sites.a]\nhosts = [\"a.example\"]\n\
             pool = \"a\"\n{site}"
        );
        story.write("sites.toml", &sites);
        story.write("node.toml", node);
        assert_eq!(story.said("node.toml"), said, "{site}");
    }
}
