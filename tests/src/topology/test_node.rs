//! One real node, started from a real file.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use config::Role;
use node::{Clock, Fault, Options, Running};
use tokio::task::JoinHandle;

use crate::ask::{Ask, get};
use crate::client::{Client, Response};
use crate::metrics::Metrics;
use crate::{files, within};

/// Seconds a node may take to start.
const START_S: u64 = 15;

/// What a node is given beside its file.
#[derive(Clone, Debug, Default)]
pub(super) struct Given {
    pub(super) clock: Clock,
    pub(super) observer_fault: Option<Fault>,
}

/// One running node.
#[derive(Debug)]
pub struct TestNode {
    running: Running,
    config_path: PathBuf,
}

impl TestNode {
    /// Writes a node's file and starts the node from it.
    ///
    /// # Panics
    /// When the file is not accepted or the node does not start.
    pub async fn start(folder: &Path, name: &str, text: &str, role: Role) -> Self {
        let started = Self::try_start(folder, name, text, role).await;
        started.unwrap_or_else(|why| panic!("{name} does not start: {why}\n{text}"))
    }

    /// As [`TestNode::start`], with what no file can say.
    pub(super) async fn start_with(
        folder: &Path,
        name: &str,
        text: &str,
        role: Role,
        given: &Given,
    ) -> Self {
        let started = Self::try_start_with(folder, name, text, role, given).await;
        started.unwrap_or_else(|why| panic!("{name} does not start: {why}\n{text}"))
    }

    /// As [`TestNode::start`], for nodes that may fail to.
    ///
    /// # Errors
    /// What the configuration or the node says.
    pub async fn try_start(
        folder: &Path,
        name: &str,
        text: &str,
        role: Role,
    ) -> Result<Self, String> {
        Self::try_start_with(folder, name, text, role, &Given::default()).await
    }

    async fn try_start_with(
        folder: &Path,
        name: &str,
        text: &str,
        role: Role,
        given: &Given,
    ) -> Result<Self, String> {
        let file = format!("{name}.toml");
        files::write(folder, &file, text);
        let config_path = folder.join(file);
        let loaded = config::load(&config_path, role, &|variable| std::env::var(variable).ok());
        let options = Options {
            config_path: Some(config_path.clone()),
            clock: given.clock.clone(),
            observer_fault: given.observer_fault,
        };
        let starting = node::start(loaded.map_err(|problems| problems.to_string())?, options);
        let running = within(START_S, starting)
            .await
            .map_err(|why| why.to_string())?;
        Ok(Self {
            running,
            config_path,
        })
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        self.running.name()
    }

    /// Where its first listener is.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.listener(0)
    }

    /// Where a listener is, in the order of the file, counted from 0.
    #[must_use]
    pub fn listener(&self, at: usize) -> SocketAddr {
        self.running.addresses()[at]
    }

    /// Where its admin listener is.
    #[must_use]
    pub fn admin_address(&self) -> SocketAddr {
        self.running.admin_address()
    }

    /// Its own file.
    #[must_use]
    pub fn config_path(&self) -> &Path {
        &self.config_path
    }

    /// The node itself.
    #[must_use]
    pub fn running(&self) -> &Running {
        &self.running
    }

    /// The node itself, to be drained.
    #[must_use]
    pub fn into_running(self) -> Running {
        self.running
    }

    /// A visitor's connection to it.
    pub async fn client(&self) -> Client {
        Client::connect(self.address()).await
    }

    /// Asks it over a new connection.
    pub async fn ask(&self, ask: &Ask) -> Response {
        self.client().await.ask(ask).await
    }

    /// A visitor who asks it now, over a new connection, and is answered some time.
    #[must_use]
    pub fn visitor(&self, ask: Ask) -> JoinHandle<Response> {
        let edge = self.address();
        tokio::spawn(async move { Client::connect(edge).await.ask(&ask).await })
    }

    /// A GET over a new connection.
    pub async fn get(&self, target: &str) -> Response {
        self.ask(&get(target)).await
    }

    /// Asks its admin listener.
    pub async fn admin(&self, ask: &Ask) -> Response {
        let mut client = Client::connect(self.admin_address()).await;
        client.ask(ask).await
    }

    /// Its metrics now.
    pub async fn metrics(&self) -> Metrics {
        Metrics::fetch(self.admin_address()).await
    }

    /// Waits until a metric has at least that value.
    pub async fn wait_for_metric(&self, name: &str, labels: &[(&str, &str)], least: u64) {
        let what = format!("{} has {least} of {name} {labels:?}", self.name());
        crate::until(&what, async || {
            (self.metrics().await.sum(name, labels) >= least).then_some(())
        })
        .await;
    }

    /// Purges a URL from it.
    ///
    /// # Panics
    /// When it does not answer 200.
    pub async fn purge(&self, url: &str) -> String {
        let purge = crate::ask("POST", &format!("/purge?url={}", encoded(url)));
        let response = self.admin(&purge).await;
        assert_eq!(response.status, 200, "purge {url}: {}", response.text());
        response.text()
    }
}

/// A URL as a query value.
fn encoded(url: &str) -> String {
    url.bytes()
        .map(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' => {
                char::from(byte).to_string()
            }
            _ => format!("%{byte:02X}"),
        })
        .collect()
}
