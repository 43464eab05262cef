//! Names to addresses, remembered briefly.
//!
//! The system's resolver does the work, off the runtime's threads. An answer is
//! kept for a few seconds; the last good one serves on when a name stops resolving.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};

use config::HostPort;
use parking_lot::Mutex;

/// How long an answer is used before asking again.
const ANSWER_TTL_MS: u64 = 5_000;

/// Names resolved lately. Their number is bounded by the configuration.
#[derive(Debug, Default)]
pub(crate) struct Resolver {
    answers: Mutex<HashMap<HostPort, Answer, ahash::RandomState>>,
}

#[derive(Debug, Clone)]
struct Answer {
    addresses: Vec<SocketAddr>,
    asked_ms: u64,
}

impl Resolver {
    /// Addresses of `upstream`, in the order to try; or why there are none.
    pub(crate) async fn resolve(
        &self,
        upstream: &HostPort,
        now_ms: u64,
    ) -> Result<Vec<SocketAddr>, String> {
        if let Ok(literal) = upstream.host.parse::<IpAddr>() {
            return Ok(vec![SocketAddr::new(literal, upstream.port)]);
        }
        let known = self.answers.lock().get(upstream).cloned();
        if let Some(answer) = &known
            && now_ms.saturating_sub(answer.asked_ms) < ANSWER_TTL_MS
        {
            return Ok(answer.addresses.clone());
        }
        let found = tokio::net::lookup_host((upstream.host.as_str(), upstream.port)).await;
        match (found.map(Iterator::collect::<Vec<_>>), known) {
            (Ok(addresses), _) if !addresses.is_empty() => {
                let answer = Answer {
                    addresses: addresses.clone(),
                    asked_ms: now_ms,
                };
                self.answers.lock().insert(upstream.clone(), answer);
                Ok(addresses)
            }
            (_, Some(answer)) => Ok(answer.addresses),
            (Ok(_), None) => Err(format!("{} has no address", upstream.host)),
            (Err(error), None) => Err(format!("{} does not resolve: {error}", upstream.host)),
        }
    }
}
