//! What may change while a node runs: sites and keys, swapped in one step.
//!
//! Everything here is built from a whole, checked configuration before anything
//! sees it. A request takes one `Live` at its beginning and keeps it to its end,
//! so it never meets two configurations.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use control::Keyring;

use crate::certificates::Kept;
use crate::policies::Policies;
use crate::upstream::tls::PeerTls;

/// One consistent set of sites and keys.
#[derive(Debug)]
pub(crate) struct Live {
    sites: config::Sites,
    by_name: HashMap<String, Arc<Site>, ahash::RandomState>,
    pub(crate) keyring: Keyring,
}

/// A site with what the node derives from its configuration.
#[derive(Debug)]
pub(crate) struct Site {
    pub(crate) config: Arc<config::Site>,
    pub(crate) policies: Policies,
    /// TLS towards its pool, where the pool wants it.
    pub(crate) origin_tls: Option<Arc<Kept<PeerTls>>>,
    /// Revision of the configuration it came from.
    pub(crate) rev: String,
}

impl Live {
    /// Builds the set, or says in `Err` what is wrong with the keys and with the
    /// TLS files of the pools, which are read here and nowhere else: a request
    /// waits for no disk, and a reload brings new certificates.
    pub(crate) fn new(sites: config::Sites, keys: &[config::KeyText]) -> Result<Self, Vec<String>> {
        let texts = keys
            .iter()
            .map(|key| (key.source.as_str(), key.text.expose()));
        let mut problems = Vec::new();
        let keyring = Keyring::parse(texts)
            .map_err(|errors| problems.extend(errors.iter().map(ToString::to_string)));
        let origin_tls = origin_tls(&sites, &mut problems);
        let (Ok(keyring), true) = (keyring, problems.is_empty()) else {
            return Err(problems);
        };
        let by_name = sites
            .all()
            .iter()
            .map(|site| {
                let runtime = Site {
                    config: Arc::clone(site),
                    policies: Policies::new(&site.cache, &site.rules),
                    origin_tls: origin_tls.get(&site.pool.name).cloned(),
                    rev: sites.revision.clone(),
                };
                (site.name.clone(), Arc::new(runtime))
            })
            .collect();
        Ok(Self {
            sites,
            by_name,
            keyring,
        })
    }

    /// Which revision of the sites file this is.
    pub(crate) fn revision(&self) -> &str {
        &self.sites.revision
    }

    /// The site that serves a host.
    pub(crate) fn serving(&self, host: &str) -> Option<&Arc<Site>> {
        self.named(&self.sites.find(host)?.name)
    }

    /// The site of that name.
    pub(crate) fn named(&self, name: &str) -> Option<&Arc<Site>> {
        self.by_name.get(name)
    }

    /// All sites.
    pub(crate) fn all(&self) -> impl Iterator<Item = &Arc<Site>> {
        self.by_name.values()
    }
}

/// TLS towards each pool that wants it, by the pool's name.
fn origin_tls(
    sites: &config::Sites,
    problems: &mut Vec<String>,
) -> HashMap<String, Arc<Kept<PeerTls>>, ahash::RandomState> {
    let mut loaded = HashMap::default();
    let mut seen = HashSet::new();
    for site in sites.all() {
        let pool = &site.pool;
        let Some(tls) = pool.tls.as_ref().filter(|_| seen.insert(&pool.name)) else {
            continue;
        };
        match PeerTls::kept(tls) {
            Ok(tls) => {
                loaded.insert(pool.name.clone(), Arc::new(tls));
            }
            Err(problem) => problems.push(format!("pool {}: {problem}", pool.name)),
        }
    }
    loaded
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn what_is_wrong_with_a_pools_certificates_is_said_once_and_at_once() {
        let folder = std::env::temp_dir().join(format!("headwater-live-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let bad = folder.join("ca.pem");
        std::fs::write(&bad, "not a certificate").unwrap();
        let text = format!(
            "[pools.p]\nservers = [\"127.0.0.1:1\"]\ntls = {{ ca = \"{}\" }}\n\
             [sites.a]\nhosts = [\"a.example\"]\npool = \"p\"\n\
             [sites.b]\nhosts = [\"b.example\"]\npool = \"p\"\n",
            bad.display()
        );
        let sites = config::parse_sites(&text, Path::new("sites.toml")).unwrap();
        let problems = Live::new(sites, &[]).unwrap_err();
        std::fs::remove_dir_all(&folder).unwrap();
        assert_eq!(problems.len(), 1, "{problems:?}");
        assert!(problems[0].contains("pool p: "), "{problems:?}");
        assert!(problems[0].contains("ca.pem"), "{problems:?}");
    }
}
