//! Names to addresses, remembered briefly.
//!
//! The system's resolver does the work, off the runtime's threads. What must stay
//! true:
//!
//! * A request waits only for the first answer of a name, and no longer than it
//!   would for a connection. Afterwards it takes what is known; an answer that has
//!   grown old is asked for anew behind its back.
//! * One look-up of a name is under way at a time, however many ask for it: the
//!   system's resolver may hang for half a minute, and has a thread each time.
//! * A look-up that fails changes nothing that is known. A name server that is
//!   down takes no content away.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;

use config::HostPort;
use parking_lot::Mutex;
use tokio::sync::watch;

use super::millis;

/// How long an answer is used before asking again.
const ANSWER_TTL_MS: u64 = 5_000;

/// The outcome of one look-up: addresses, at least one, or why there are none.
type Found = Result<Vec<SocketAddr>, String>;

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
    /// When the last look-up began.
    asked_ms: u64,
    /// Where the look-up under way will say what it found.
    under_way: Option<watch::Receiver<Option<Found>>>,
}

/// What is to be done for one request.
enum Step {
    Take(Vec<SocketAddr>),
    Wait(watch::Receiver<Option<Found>>),
}

impl Default for Resolver {
    fn default() -> Self {
        Self::asking(Arc::new(|upstream| Box::pin(ask_system(upstream))))
    }
}

impl Resolver {
    fn asking(look_up: LookUp) -> Self {
        Self {
            names: Arc::default(),
            look_up,
        }
    }

    /// Addresses of `upstream`, in the order to try; or why there are none. Waits
    /// for `wait_ms` at most, and only where nothing is known yet.
    pub(crate) async fn resolve(&self, upstream: &HostPort, wait_ms: u64, now_ms: u64) -> Found {
        if let Ok(literal) = upstream.host.parse::<IpAddr>() {
            return Ok(vec![SocketAddr::new(literal, upstream.port)]);
        }
        let mut found = match self.step(upstream, now_ms) {
            Step::Take(addresses) => return Ok(addresses),
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
            Ok(Some(found)) => found,
            Ok(None) => Err(format!("{} could not be looked up", upstream.host)),
            Err(_) => Err(format!("{} did not resolve in time", upstream.host)),
        }
    }

    /// Takes what is known or waits for what comes, and sees to it that it comes.
    fn step(&self, upstream: &HostPort, now_ms: u64) -> Step {
        let mut names = self.names.lock();
        let name = names.entry(upstream.clone()).or_default();
        // A clock that was set back must not make an answer last longer.
        let is_young = now_ms
            .checked_sub(name.asked_ms)
            .is_some_and(|age_ms| age_ms < ANSWER_TTL_MS);
        if let (Some(addresses), true) = (&name.addresses, is_young) {
            return Step::Take(addresses.clone());
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
        match &name.addresses {
            Some(addresses) => Step::Take(addresses.clone()),
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
                name.under_way = None;
                if let Ok(addresses) = &found {
                    name.addresses = Some(addresses.clone());
                }
            }
            told.send_replace(Some(found));
        });
        found
    }
}

async fn ask_system(upstream: HostPort) -> Found {
    let host = upstream.host.as_str();
    match tokio::net::lookup_host((host, upstream.port)).await {
        Ok(addresses) => {
            let addresses: Vec<_> = addresses.collect();
            if addresses.is_empty() {
                return Err(format!("{host} has no address"));
            }
            Ok(addresses)
        }
        Err(error) => Err(format!("{host} does not resolve: {error}")),
    }
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
        let answer = async { say.send(Ok(at(1))).unwrap() };
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
        let answer = async { say.send(Ok(at(1))).unwrap() };
        let (later, ()) = tokio::join!(later, answer);
        assert_eq!((later, *begun.lock()), (Ok(at(1)), 1));
    }

    #[tokio::test]
    async fn what_is_known_is_used_while_it_is_asked_for_anew() {
        let (resolver, say, begun) = scripted();
        say.send(Ok(at(1))).unwrap();
        let known = resolver.resolve(&shop(), LONG_MS, NOW_MS).await;
        assert_eq!(known, Ok(at(1)));
        // A patience of nothing: a wait would be an error.
        for (after_ms, looked_up) in [(4_999, 1), (5_000, 2), (60_000, 2), (90_000, 2)] {
            let found = resolver.resolve(&shop(), 0, NOW_MS + after_ms).await;
            assert_eq!(found, Ok(at(1)), "after {after_ms} ms");
            assert_eq!(*begun.lock(), looked_up, "after {after_ms} ms");
        }
        say.send(Ok(at(2))).unwrap();
        while resolver.names.lock()[&shop()].under_way.is_some() {
            tokio::task::yield_now().await;
        }
        let found = resolver.resolve(&shop(), 0, NOW_MS + 5_001).await;
        assert_eq!(found, Ok(at(2)));
    }

    #[tokio::test]
    async fn a_failing_look_up_takes_nothing_away() {
        let (resolver, say, begun) = scripted();
        say.send(Ok(at(1))).unwrap();
        assert!(resolver.resolve(&shop(), LONG_MS, NOW_MS).await.is_ok());
        say.send(Err("no name server answers".to_owned())).unwrap();
        for after_ms in [6_000, 6_001, 7_000, 8_000] {
            let found = resolver.resolve(&shop(), 0, NOW_MS + after_ms).await;
            assert_eq!(found, Ok(at(1)));
            tokio::task::yield_now().await;
        }
        // Asked again when its time has come, and not by every request.
        assert_eq!(*begun.lock(), 2);
        let found = resolver.resolve(&shop(), 0, NOW_MS + 11_000).await;
        assert_eq!((found, *begun.lock()), (Ok(at(1)), 3));
    }

    #[tokio::test]
    async fn a_name_without_an_answer_says_why_and_is_asked_again() {
        let (resolver, say, _begun) = scripted();
        say.send(Err("no such name".to_owned())).unwrap();
        let found = resolver.resolve(&shop(), LONG_MS, NOW_MS).await;
        assert_eq!(found, Err("no such name".to_owned()));
        say.send(Ok(at(1))).unwrap();
        let found = resolver.resolve(&shop(), LONG_MS, NOW_MS + 1).await;
        assert_eq!(found, Ok(at(1)));
    }
}
