//! What may change while a node runs: sites and keys, swapped in one step.
//!
//! Everything here is built from a whole, checked configuration before anything
//! sees it. A request takes one `Live` at its beginning and keeps it to its end,
//! so it never meets two configurations.

use std::collections::HashMap;
use std::sync::Arc;

use control::Keyring;
use http_cache::Policy;

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
    pub(crate) policy: Policy,
    /// Revision of the configuration it came from.
    pub(crate) rev: String,
}

impl Live {
    /// Builds the set, or says in `Err` what is wrong with the keys.
    pub(crate) fn new(sites: config::Sites, keys: &[config::KeyText]) -> Result<Self, Vec<String>> {
        let texts = keys
            .iter()
            .map(|key| (key.source.as_str(), key.text.expose()));
        let keyring = Keyring::parse(texts)
            .map_err(|errors| errors.iter().map(ToString::to_string).collect::<Vec<_>>())?;
        let by_name = sites
            .all()
            .iter()
            .map(|site| {
                let runtime = Site {
                    config: Arc::clone(site),
                    policy: policy(&site.cache),
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

fn policy(cache: &config::Cache) -> Policy {
    Policy {
        default_ttl_ms: cache.default_ttl_ms,
        ttl_max_ms: cache.ttl_max_ms,
        heuristic: cache.heuristic,
        stale_while_revalidate_ms: cache.stale_while_revalidate_ms,
        stale_if_error_ms: cache.stale_if_error_ms,
        set_cookie: match cache.set_cookie {
            config::SetCookie::Bypass => http_cache::SetCookie::Bypass,
            config::SetCookie::Strip => http_cache::SetCookie::Strip,
            config::SetCookie::Store => http_cache::SetCookie::Store,
        },
        honour_request_directives: cache.honour_request_directives,
        normalise_accept_encoding: cache.normalise_accept_encoding,
        normalise_accept_language: cache.normalise_accept_language,
    }
}
