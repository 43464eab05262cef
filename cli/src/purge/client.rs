//! One `POST /purge` to one admin listener, and what its answer means.
//!
//! A node answers 200 and a line that begins with `purged`, `stale` after a soft purge,
//! or `not stored` where it had no such object; it may end with how many. Any other answer is a failure: an address that is no admin listener
//! must not pass for a purged node.

use std::fmt;

use bytes::Bytes;
use http::header::{AUTHORIZATION, HOST};
use http::{HeaderValue, Request, StatusCode};
use http_body_util::Empty;

use crate::admin::{self, Answer, Unanswered};

/// From a connection to the whole answer.
const ANSWER_MS: u64 = 10_000;

/// What became of a purge at one node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Outcome {
    /// The node held it and has dropped it: how much, where it says so.
    Purged(Option<String>),
    /// The node held it, and has it stale now.
    Stale(Option<String>),
    /// The node held no such object.
    NotStored,
    /// Nobody answered in time.
    Unreachable(String),
    /// Somebody answered, and it was no purge.
    Refused(String),
    /// It was not tried, because a node before it failed.
    NotAsked,
}

impl Outcome {
    /// Whether the node may still have the object.
    pub(super) fn is_failure(&self) -> bool {
        !matches!(self, Self::Purged(_) | Self::Stale(_) | Self::NotStored)
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Purged(None) => f.write_str("purged"),
            Self::Purged(Some(count)) => write!(f, "purged {count}"),
            Self::Stale(None) => f.write_str("stale"),
            Self::Stale(Some(count)) => write!(f, "stale {count}"),
            Self::NotStored => f.write_str("not stored"),
            Self::Unreachable(why) => write!(f, "unreachable: {why}"),
            Self::Refused(why) => write!(f, "refused: {why}"),
            Self::NotAsked => f.write_str("not asked"),
        }
    }
}

/// Asks the admin listener at `admin` (host and port) to purge what `query` says.
pub(super) async fn purge(admin: &str, query: &str, token: Option<&str>) -> Outcome {
    let request = match request(admin, query, token) {
        Ok(request) => request,
        Err(why) => return Outcome::Refused(why),
    };
    match admin::ask(admin, request, ANSWER_MS).await {
        Ok(answer) => outcome(&answer),
        Err(Unanswered::Unreachable(why)) => Outcome::Unreachable(why),
        Err(Unanswered::Improper(why)) => Outcome::Refused(why),
    }
}

fn request(admin: &str, query: &str, token: Option<&str>) -> Result<Request<Empty<Bytes>>, String> {
    let mut request = Request::post(format!("/purge?{query}")).header(HOST, admin);
    if let Some(token) = token {
        let mut value = HeaderValue::try_from(format!("Bearer {token}"))
            .map_err(|_| "the token holds characters that no field may have".to_owned())?;
        value.set_sensitive(true);
        request = request.header(AUTHORIZATION, value);
    }
    request
        .body(Empty::new())
        .map_err(|error| error.to_string())
}

/// What an answer means.
fn outcome(answer: &Answer) -> Outcome {
    let words = answer.body.trim();
    match answer.status {
        StatusCode::OK if words.starts_with("purged") => Outcome::Purged(count(words)),
        StatusCode::OK if words.starts_with("stale") => Outcome::Stale(count(words)),
        StatusCode::OK if words.starts_with("not stored") => Outcome::NotStored,
        status @ (StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) => Outcome::Refused(format!(
            "{status}; give the node's admin token with --token or {}",
            super::TOKEN_VARIABLE
        )),
        _ => Outcome::Refused(format!("it answered {answer}")),
    }
}

/// How much a node says it was: `3 keys`, behind the last colon of its line.
fn count(words: &str) -> Option<String> {
    let (_, count) = words.rsplit_once(": ")?;
    let counts = count.starts_with(|c: char| c.is_ascii_digit());
    counts.then(|| count.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answered(status: u16, body: &str) -> Answer {
        Answer {
            status: StatusCode::from_u16(status).unwrap(),
            body: body.to_owned(),
        }
    }

    #[test]
    fn only_a_node_that_says_so_has_purged() {
        let cases = [
            (200, "purged\n", "purged"),
            (200, "purged http://shop.example:80/a\n", "purged"),
            (200, "purged site shop: 1 key\n", "purged 1 key"),
            (
                200,
                "stale group \"a: b\" of http://a/: 3 objects\n",
                "stale 3 objects",
            ),
            (200, "stale http://shop.example/a\n", "stale"),
            (200, "not stored\n", "not stored"),
            (
                200,
                "<html>welcome",
                "refused: it answered 200 OK <html>welcome",
            ),
            (204, "", "refused: it answered 204 No Content"),
            (
                404,
                "no such page\nat all",
                "refused: it answered 404 Not Found no such page",
            ),
        ];
        for (status, answer, expected) in cases {
            assert_eq!(outcome(&answered(status, answer)).to_string(), expected);
        }
        assert!(outcome(&answered(401, "")).to_string().contains("--token"));
    }
}
