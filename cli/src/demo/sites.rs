//! The demo's `sites.toml`: a catch-all site, or the operator's own file moved.

use std::ops::Range;
use std::path::Path;

use toml::de::{DeTable, DeValue};

use super::plan::Plan;

/// The text of `sites.toml`.
pub(super) fn text(plan: &Plan) -> String {
    match &plan.sites {
        Some(sites) => anchored(&sites.text, &sites.folder),
        None => catch_all(plan),
    }
}

/// One site for every Host, which caches what the origin's fields allow and no more.
fn catch_all(plan: &Plan) -> String {
    let (server, tls) = match &plan.origin {
        Some(origin) if origin.tls => {
            // A certificate for an address is found by the address itself; SNI
            // carries names only (RFC 6066 §3).
            (
                origin.server.clone(),
                format!("tls = {{ sni = {} }}\n", quoted(&origin.host)),
            )
        }
        Some(origin) => (origin.server.clone(), String::new()),
        None => (plan.origin_address().to_string(), String::new()),
    };
    let topology = if plan.uppers == 0 { "off" } else { "hash" };
    format!(
        "# The sites of a demo topology: every Host is one site.\n\
         [pools.origin]\n\
         servers = [{server}]\n\
         {tls}\
         \n\
         [sites.demo]\n\
         hosts = [\"*\"]\n\
         pool = \"origin\"\n\
         topology = \"{topology}\"\n\
         # When no upper tier gives a verified answer.\n\
         fallback = [\"direct\", \"stale\"]\n\
         \n\
         [sites.demo.cache]\n\
         heuristic = true\n\
         set_cookie = \"store\"\n\
         request_directives = \"honour\"\n\
         normalise = [\"accept-encoding\", \"accept-language\"]\n",
        server = quoted(&server),
    )
}

/// A string as TOML writes it.
fn quoted(text: &str) -> String {
    toml::Value::from(text).to_string()
}

/// `text` as it must read in another folder: the files that its pools name by
/// relative paths, under the folder where they are. All else stays as it is,
/// comments included. A text that is no TOML stays whole, for `config` to explain.
fn anchored(text: &str, folder: &Path) -> String {
    let Ok(document) = DeTable::parse(text) else {
        return text.to_owned();
    };
    let mut paths = relative_paths(document.get_ref());
    // From the end to the start, so that what is still to be replaced keeps its place.
    paths.sort_by_key(|(span, _)| std::cmp::Reverse(span.start));
    let mut out = text.to_owned();
    for (span, path) in paths {
        out.replace_range(span, &quoted(&folder.join(path).to_string_lossy()));
    }
    out
}

/// Where in the text the pools name files, and which.
fn relative_paths(document: &DeTable<'_>) -> Vec<(Range<usize>, String)> {
    let pools = table(document, "pools")
        .into_iter()
        .flat_map(|pools| pools.values());
    let tls = pools.filter_map(|pool| match pool.get_ref() {
        DeValue::Table(pool) => table(pool, "tls"),
        _ => None,
    });
    let named = tls.flat_map(|tls| {
        ["ca", "certificate", "key"]
            .into_iter()
            .filter_map(|key| tls.get(key))
    });
    named
        .filter_map(|value| match value.get_ref() {
            DeValue::String(path) if !Path::new(path.as_ref()).is_absolute() => {
                Some((value.span(), path.to_string()))
            }
            _ => None,
        })
        .collect()
}

fn table<'t, 'i>(parent: &'t DeTable<'i>, key: &str) -> Option<&'t DeTable<'i>> {
    match parent.get(key)?.get_ref() {
        DeValue::Table(table) => Some(table),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::super::plan::SitesText;
    use super::*;

    #[test]
    fn the_catch_all_site_is_what_the_contract_says() {
        let cases = [
            (None, 2, "127.0.0.1:8000", None, config::Topology::Hash),
            (
                Some("http://127.0.0.1:9000"),
                2,
                "127.0.0.1:9000",
                None,
                config::Topology::Hash,
            ),
            (
                Some("https://shop.example"),
                1,
                "shop.example:443",
                Some("shop.example"),
                config::Topology::Hash,
            ),
            (
                Some("http://[::1]:9000"),
                0,
                "[::1]:9000",
                None,
                config::Topology::Off,
            ),
        ];
        for (origin, uppers, server, sni, topology) in cases {
            let origin = origin.map(|origin| origin.parse().unwrap());
            let plan = Plan {
                origin,
                uppers,
                ..Plan::default()
            };
            let text = text(&plan);
            let sites = config::parse_sites(&text, Path::new("sites.toml")).unwrap();
            let site = sites.find("any.example").unwrap();
            assert_eq!(site.topology, topology);
            assert_eq!(
                site.fallback,
                [config::Fallback::Direct, config::Fallback::Stale]
            );
            assert_eq!(site.pool.servers.len(), 1);
            assert_eq!(site.pool.servers[0].to_string(), server);
            assert_eq!(site.pool.host_header, None);
            assert_eq!(site.pool.tls.as_ref().map(|tls| tls.sni.as_str()), sni);
            assert_eq!(site.cache.default_ttl_ms, None);
            assert_eq!(site.cache.set_cookie, config::SetCookie::Store);
            assert!(site.cache.heuristic && site.cache.honour_request_directives);
            assert!(site.cache.normalise_accept_encoding && site.cache.normalise_accept_language);
        }
    }

    #[test]
    fn a_sites_file_keeps_its_words_and_finds_its_files() {
        let text = "# ours\n[pools.a]\nservers = [\"a.example:443\"] # one\n\
                    tls = { ca = 'ca \"1\".pem', sni = \"a.example\" }\n\
                    [pools.b.tls]\nca = \"/etc/ca.pem\"\nkey = \"keys/b.key\"\n";
        let sites = Some(SitesText {
            folder: PathBuf::from("/srv/demo"),
            text: text.to_owned(),
        });
        let expected = text
            .replace("'ca \"1\".pem'", "'/srv/demo/ca \"1\".pem'")
            .replace("\"keys/b.key\"", "\"/srv/demo/keys/b.key\"");
        assert_eq!(
            super::text(&Plan {
                sites,
                ..Plan::default()
            }),
            expected
        );
    }

    #[test]
    fn a_text_that_is_no_sites_file_stays_as_it_is() {
        for text in [
            "",
            "pools = 3",
            "[pools]\na = 1",
            "[pools.a]\ntls = true",
            "not toml",
            "[pools.a.tls]\nca = 7",
        ] {
            assert_eq!(anchored(text, Path::new("/srv")), text);
        }
    }
}
