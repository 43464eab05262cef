//! Names to addresses, remembered for as long as the name server said.
//!
//! A resolver of our own asks, and not the system's: that one has a thread for
//! each question, may hang in it for half a minute, and does not tell how long its
//! answer holds. What must stay true:
//!
//! * A request waits only for the first answer of a name, and no longer than it
//!   would for a connection. Afterwards it takes what is known; an answer whose
//!   time is over is asked for anew behind its back.
//! * One look-up of a name is under way at a time, however many ask for it.
//! * A look-up that fails changes nothing that is known. A name server that is
//!   down takes no content away.
//! * An answer that leads nowhere is doubted before its time is over: name servers
//!   of containers promise ten minutes for an address that a restart changes.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;

use config::HostPort;
use hickory_resolver::TokioResolver;
use hickory_resolver::config::{
    ConnectionConfig, LookupIpStrategy, NameServerConfig, ResolverConfig,
};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use parking_lot::Mutex;
use tokio::sync::watch;

use super::millis;

/// The shortest time for which an answer is used, however short its own is: a TTL
/// of 0 must not make a question of every request.
const TTL_MS_MIN: u64 = 1_000;

/// The longest, however long its own is: a slip in a zone, or a line in the hosts
/// file, must not bind a node for a day.
const TTL_MS_MAX: u64 = 300_000;

/// How long after a look-up that failed, or that was doubted, the next one begins.
const AGAIN_MS: u64 = 1_000;

/// What a name server said: addresses, at least one, and for how long they hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Answer {
    addresses: Vec<SocketAddr>,
    ttl_ms: u64,
}

/// The outcome of one look-up, or why there is none.
type Found = Result<Answer, String>;

type LookUp =
    Arc<dyn Fn(HostPort) -> Pin<Box<dyn Future<Output = Found> + Send>> + Send + Sync + 'static>;

/// Names resolved lately. Their number is bounded by the configuration.
pub(crate) struct Resolver {
    names: Arc<Mutex<Names>>,
    look_up: LookUp,
}

type Names = HashMap<HostPort, Name, ahash::RandomState>;

/// What is known of one name.
#[derive(Debug, Default)]
struct Name {
    /// The last good answer.
    addresses: Option<Vec<SocketAddr>>,
    /// Why there is none, as of the last look-up.
    failed: Option<String>,
    /// When the last look-up began.
    asked_ms: u64,
    /// For how long after that nothing is asked.
    holds_ms: u64,
    /// Where the look-up under way will say what it found.
    under_way: Option<watch::Receiver<Option<Found>>>,
}

impl Name {
    fn holds(&self, now_ms: u64) -> bool {
        // A clock that was set back must not make an answer last longer.
        now_ms
            .checked_sub(self.asked_ms)
            .is_some_and(|age_ms| age_ms < self.holds_ms)
    }

    fn learn(&mut self, found: &Found) {
        self.under_way = None;
        match found {
            Ok(answer) => {
                self.addresses = Some(answer.addresses.clone());
                self.failed = None;
                self.holds_ms = answer.ttl_ms.clamp(TTL_MS_MIN, TTL_MS_MAX);
            }
            Err(why) => {
                self.failed = Some(why.clone());
                self.holds_ms = AGAIN_MS;
            }
        }
    }
}

/// What is to be done for one request.
enum Step {
    Take(Result<Vec<SocketAddr>, String>),
    Wait(watch::Receiver<Option<Found>>),
}

impl Resolver {
    /// Asks these name servers; none: those that the system names.
    pub(crate) fn new(servers: Vec<SocketAddr>) -> Self {
        let servers: Arc<[SocketAddr]> = servers.into();
        Self::asking(Arc::new(move |upstream| {
            Box::pin(ask(Arc::clone(&servers), upstream))
        }))
    }

    fn asking(look_up: LookUp) -> Self {
        Self {
            names: Arc::default(),
            look_up,
        }
    }

    /// Addresses of `upstream`, in the order to try; or why there are none. Waits
    /// for `wait_ms` at most, and only where nothing is known yet.
    pub(crate) async fn resolve(
        &self,
        upstream: &HostPort,
        wait_ms: u64,
        now_ms: u64,
    ) -> Result<Vec<SocketAddr>, String> {
        if let Ok(literal) = upstream.host.parse::<IpAddr>() {
            return Ok(vec![SocketAddr::new(literal, upstream.port)]);
        }
        let mut found = match self.step(upstream, now_ms) {
            Step::Take(known) => return known,
            Step::Wait(found) => found,
        };
        let waiting = async {
            match found.wait_for(Option::is_some).await {
                Ok(found) => found.clone(),
                // The task that would have said it has panicked.
                Err(_) => None,
            }
        };
        match pingora_timeout::timeout(millis(wait_ms), waiting).await {
            Ok(Some(found)) => found.map(|answer| answer.addresses),
            Ok(None) => Err(format!("{} could not be looked up", upstream.host)),
            Err(_) => Err(format!("{} did not resolve in time", upstream.host)),
        }
    }

    /// Says that nobody was met at the addresses of `upstream`: they are asked for
    /// anew by the next request, however long they were promised to hold.
    pub(crate) fn doubt(&self, upstream: &HostPort) {
        if let Some(name) = self.names.lock().get_mut(upstream) {
            name.holds_ms = name.holds_ms.min(AGAIN_MS);
        }
    }

    /// Takes what is known or waits for what comes, and sees to it that it comes.
    fn step(&self, upstream: &HostPort, now_ms: u64) -> Step {
        let mut names = self.names.lock();
        let name = names.entry(upstream.clone()).or_default();
        let known = name.addresses.clone();
        if name.under_way.is_none() && name.holds(now_ms) {
            return match (known, &name.failed) {
                (Some(addresses), _) => Step::Take(Ok(addresses)),
                (None, failed) => Step::Take(Err(failed.clone().unwrap_or_default())),
            };
        }
        let found = match &name.under_way {
            // Its task is gone without a word when the channel is closed.
            Some(found) if found.has_changed().is_ok() => found.clone(),
            _ => {
                let found = self.begin(upstream);
                name.asked_ms = now_ms;
                name.under_way = Some(found.clone());
                found
            }
        };
        match known {
            Some(addresses) => Step::Take(Ok(addresses)),
            None => Step::Wait(found),
        }
    }

    /// Looks a name up in a task of its own: whoever asked first may leave.
    fn begin(&self, upstream: &HostPort) -> watch::Receiver<Option<Found>> {
        let (told, found) = watch::channel(None);
        let names = Arc::clone(&self.names);
        let looking = (self.look_up)(upstream.clone());
        let upstream = upstream.clone();
        tokio::spawn(async move {
            let found = looking.await;
            if let Some(name) = names.lock().get_mut(&upstream) {
                name.learn(&found);
            }
            told.send_replace(Some(found));
        });
        found
    }
}

/// Asks for both kinds of addresses, IPv4 first in the answer. What the system says
/// about names (its servers, search list and hosts file) is read for each look-up:
/// these are rare, and the files change under a node that runs for months.
async fn ask(servers: Arc<[SocketAddr]>, upstream: HostPort) -> Found {
    let host = upstream.host.as_str();
    let failed = |error: &dyn std::fmt::Display| format!("{host} does not resolve: {error}");
    let resolver = resolver(&servers).map_err(|error| failed(&error))?;
    let found = resolver
        .lookup_ip(host)
        .await
        .map_err(|error| failed(&error))?;
    let addresses: Vec<_> = found
        .iter()
        .map(|address| SocketAddr::new(address, upstream.port))
        .collect();
    if addresses.is_empty() {
        return Err(format!("{host} has no address"));
    }
    let records = found.as_lookup().answers().iter();
    let ttl_s = records.map(|record| record.ttl).min().unwrap_or_default();
    Ok(Answer {
        addresses,
        ttl_ms: u64::from(ttl_s) * 1000,
    })
}

fn resolver(servers: &[SocketAddr]) -> Result<TokioResolver, hickory_resolver::net::NetError> {
    let asking = |servers| {
        let config = ResolverConfig::from_parts(None, Vec::new(), servers);
        TokioResolver::builder_with_config(config, TokioRuntimeProvider::default())
    };
    let mut builder = if servers.is_empty() {
        // Where the system names nobody there is still its hosts file.
        TokioResolver::builder_tokio().unwrap_or_else(|_| asking(Vec::new()))
    } else {
        asking(servers.iter().map(name_server).collect())
    };
    let options = builder.options_mut();
    options.ip_strategy = LookupIpStrategy::Ipv4AndIpv6;
    // What is known is kept here, where a failure does not take it away.
    options.cache_size = 0;
    builder.build()
}

fn name_server(at: &SocketAddr) -> NameServerConfig {
    let on_port = |mut connection: ConnectionConfig| {
        connection.port = at.port();
        connection
    };
    let connections = [ConnectionConfig::udp(), ConnectionConfig::tcp()];
    NameServerConfig::new(at.ip(), true, connections.map(on_port).into())
}

#[cfg(test)]
mod tests {
    use tokio::sync::mpsc;

    use super::*;

    const NOW_MS: u64 = 1_700_000_000_000;
    const LONG_MS: u64 = 60_000;

    /// A resolver whose look-ups end when the test says how, and how many began.
    fn scripted() -> (Resolver, mpsc::UnboundedSender<Found>, Arc<Mutex<usize>>) {
        let (say, said) = mpsc::unbounded_channel();
        let said = Arc::new(tokio::sync::Mutex::new(said));
        let begun = Arc::new(Mutex::new(0));
        let count = Arc::clone(&begun);
        let resolver = Resolver::asking(Arc::new(move |_| {
            *count.lock() += 1;
            let said = Arc::clone(&said);
            Box::pin(async move { said.lock().await.recv().await.unwrap() })
        }));
        (resolver, say, begun)
    }

    fn shop() -> HostPort {
        HostPort {
            host: "origin.shop.example".to_owned(),
            port: 80,
        }
    }

    fn at(last: u8) -> Vec<SocketAddr> {
        vec![SocketAddr::from(([192, 0, 2, last], 80))]
    }

    /// An answer that holds for ten seconds.
    fn says(last: u8) -> Found {
        Ok(Answer {
            addresses: at(last),
            ttl_ms: TTL_MS,
        })
    }

    const TTL_MS: u64 = 10_000;

    async fn settled(resolver: &Resolver) {
        while resolver.names.lock()[&shop()].under_way.is_some() {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn literals_are_not_looked_up() {
        let (resolver, _say, begun) = scripted();
        let literal = HostPort {
            host: "2001:db8::1".to_owned(),
            port: 8080,
        };
        let found = resolver.resolve(&literal, 1, NOW_MS).await;
        assert_eq!(found, Ok(vec!["[2001:db8::1]:8080".parse().unwrap()]));
        assert_eq!(*begun.lock(), 0);
    }

    #[tokio::test]
    async fn everybody_waits_for_the_same_first_look_up() {
        let (resolver, say, begun) = scripted();
        let shop = shop();
        let first = resolver.resolve(&shop, LONG_MS, NOW_MS);
        let second = resolver.resolve(&shop, LONG_MS, NOW_MS + 10_000);
        let answer = async { say.send(says(1)).unwrap() };
        let (first, second, ()) = tokio::join!(first, second, answer);
        assert_eq!((first, second), (Ok(at(1)), Ok(at(1))));
        assert_eq!(*begun.lock(), 1);
    }

    #[tokio::test]
    async fn a_first_look_up_that_hangs_is_not_waited_for_beyond_its_bound() {
        let (resolver, say, begun) = scripted();
        let hung = resolver.resolve(&shop(), 10, NOW_MS).await;
        assert_eq!(
            hung,
            Err("origin.shop.example did not resolve in time".to_owned())
        );
        // It goes on, and whoever comes later has it.
        let shop = shop();
        let later = resolver.resolve(&shop, LONG_MS, NOW_MS + 10);
        let answer = async { say.send(says(1)).unwrap() };
        let (later, ()) = tokio::join!(later, answer);
        assert_eq!((later, *begun.lock()), (Ok(at(1)), 1));
    }

    #[tokio::test]
    async fn what_is_known_is_used_while_it_is_asked_for_anew() {
        let (resolver, say, begun) = scripted();
        say.send(says(1)).unwrap();
        let known = resolver.resolve(&shop(), LONG_MS, NOW_MS).await;
        assert_eq!(known, Ok(at(1)));
        // A patience of nothing: a wait would be an error.
        for (after_ms, looked_up) in [
            (TTL_MS - 1, 1),
            (TTL_MS, 2),
            (6 * TTL_MS, 2),
            (9 * TTL_MS, 2),
        ] {
            let found = resolver.resolve(&shop(), 0, NOW_MS + after_ms).await;
            assert_eq!(found, Ok(at(1)), "after {after_ms} ms");
            assert_eq!(*begun.lock(), looked_up, "after {after_ms} ms");
        }
        say.send(says(2)).unwrap();
        settled(&resolver).await;
        let found = resolver.resolve(&shop(), 0, NOW_MS + TTL_MS + 1).await;
        assert_eq!(found, Ok(at(2)));
    }

    #[tokio::test]
    async fn an_answer_holds_as_long_as_it_says_within_bounds() {
        for (ttl_ms, holds_ms) in [
            (0, TTL_MS_MIN),
            (TTL_MS_MIN + 1, TTL_MS_MIN + 1),
            (TTL_MS_MAX, TTL_MS_MAX),
            (u64::MAX, TTL_MS_MAX),
        ] {
            let (resolver, say, begun) = scripted();
            let addresses = at(1);
            say.send(Ok(Answer { addresses, ttl_ms })).unwrap();
            resolver.resolve(&shop(), LONG_MS, NOW_MS).await.unwrap();
            for (after_ms, looked_up) in [(holds_ms - 1, 1), (holds_ms, 2)] {
                let found = resolver.resolve(&shop(), 0, NOW_MS + after_ms).await;
                assert_eq!((found, *begun.lock()), (Ok(at(1)), looked_up), "{ttl_ms}");
            }
        }
    }

    #[tokio::test]
    async fn a_failing_look_up_takes_nothing_away() {
        let (resolver, say, begun) = scripted();
        say.send(says(1)).unwrap();
        assert!(resolver.resolve(&shop(), LONG_MS, NOW_MS).await.is_ok());
        say.send(Err("no name server answers".to_owned())).unwrap();
        // Asked again when its time has come, and not by every request.
        let over_ms = NOW_MS + TTL_MS;
        for after_ms in [0, 1, AGAIN_MS - 1] {
            let found = resolver.resolve(&shop(), 0, over_ms + after_ms).await;
            assert_eq!((found, *begun.lock()), (Ok(at(1)), 2));
            settled(&resolver).await;
        }
        let found = resolver.resolve(&shop(), 0, over_ms + AGAIN_MS).await;
        assert_eq!((found, *begun.lock()), (Ok(at(1)), 3));
    }

    #[tokio::test]
    async fn an_answer_that_leads_nowhere_is_asked_for_anew() {
        let (resolver, say, begun) = scripted();
        say.send(says(1)).unwrap();
        assert!(resolver.resolve(&shop(), LONG_MS, NOW_MS).await.is_ok());
        resolver.doubt(&shop());
        for (after_ms, looked_up) in [(AGAIN_MS - 1, 1), (AGAIN_MS, 2)] {
            let found = resolver.resolve(&shop(), 0, NOW_MS + after_ms).await;
            assert_eq!((found, *begun.lock()), (Ok(at(1)), looked_up));
        }
        say.send(says(2)).unwrap();
        settled(&resolver).await;
        let found = resolver.resolve(&shop(), 0, NOW_MS + AGAIN_MS + 1).await;
        assert_eq!(found, Ok(at(2)));
    }

    #[tokio::test]
    async fn a_name_without_an_answer_says_why_and_is_asked_again() {
        let (resolver, say, begun) = scripted();
        let nobody: Result<(), _> = Err("no such name".to_owned());
        say.send(Err("no such name".to_owned())).unwrap();
        // One question a second, not one a request.
        for after_ms in [0, AGAIN_MS - 1] {
            let found = resolver.resolve(&shop(), LONG_MS, NOW_MS + after_ms).await;
            assert_eq!(found.map(drop), nobody);
        }
        assert_eq!(*begun.lock(), 1);
        say.send(says(1)).unwrap();
        let found = resolver.resolve(&shop(), LONG_MS, NOW_MS + AGAIN_MS).await;
        assert_eq!(found, Ok(at(1)));
    }
}
