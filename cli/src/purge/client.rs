//! One `POST /purge` to one admin listener, and what its answer means.
//!
//! A node answers 200 and the word `purged`, or `not stored` where it had no such
//! object. Any other answer is a failure: an address that is no admin listener
//! must not pass for a purged node.

use std::fmt::{self, Write as _};

use bytes::Bytes;
use http::header::{AUTHORIZATION, HOST};
use http::{HeaderValue, Request, StatusCode, Uri};
use http_body_util::Empty;

use crate::admin::{self, Answer, Unanswered};

/// From a connection to the whole answer.
const ANSWER_MS: u64 = 10_000;

/// What became of a purge at one node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Outcome {
    /// The node held the object and has dropped it.
    Purged,
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
        !matches!(self, Self::Purged | Self::NotStored)
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Purged => f.write_str("purged"),
            Self::NotStored => f.write_str("not stored"),
            Self::Unreachable(why) => write!(f, "unreachable: {why}"),
            Self::Refused(why) => write!(f, "refused: {why}"),
            Self::NotAsked => f.write_str("not asked"),
        }
    }
}

/// The URL, if it is one that names an object: absolute, `http` or `https`.
pub(super) fn checked(text: &str) -> Result<String, String> {
    let wanted = "write it as visitors do, such as https://shop.example/photo.png";
    // A fragment never leaves the browser, so no cache knows it.
    let text = text.split('#').next().unwrap_or_default();
    let uri: Uri = text
        .parse()
        .map_err(|error| format!("{text:?} is no URL ({error}); {wanted}"))?;
    let has_host = uri.host().is_some_and(|host| !host.is_empty());
    if !matches!(uri.scheme_str(), Some("http" | "https")) || !has_host {
        return Err(format!(
            "{text:?} has no http or https scheme and host; {wanted}"
        ));
    }
    Ok(text.to_owned())
}

/// Asks the admin listener at `admin` (host and port) to purge `url`.
pub(super) async fn purge(admin: &str, url: &str, token: Option<&str>) -> Outcome {
    let request = match request(admin, url, token) {
        Ok(request) => request,
        Err(why) => return Outcome::Refused(why),
    };
    match admin::ask(admin, request, ANSWER_MS).await {
        Ok(answer) => outcome(&answer),
        Err(Unanswered::Unreachable(why)) => Outcome::Unreachable(why),
        Err(Unanswered::Improper(why)) => Outcome::Refused(why),
    }
}

fn request(admin: &str, url: &str, token: Option<&str>) -> Result<Request<Empty<Bytes>>, String> {
    let mut request =
        Request::post(format!("/purge?url={}", percent_encoded(url))).header(HOST, admin);
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
        StatusCode::OK if words.starts_with("purged") => Outcome::Purged,
        StatusCode::OK if words.starts_with("not stored") => Outcome::NotStored,
        status @ (StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) => Outcome::Refused(format!(
            "{status}; give the node's admin token with --token or {}",
            super::TOKEN_VARIABLE
        )),
        _ => Outcome::Refused(format!("it answered {answer}")),
    }
}

/// All but unreserved characters (RFC 3986 §2.3) as `%XX`.
fn percent_encoded(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            write!(out, "%{byte:02X}").expect("writing to a string cannot fail");
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_absolute() {
        let cases = [
            (
                "http://shop.example/a?b=c",
                Some("http://shop.example/a?b=c"),
            ),
            ("https://shop.example", Some("https://shop.example")),
            ("http://[::1]:8081/a#part", Some("http://[::1]:8081/a")),
            ("shop.example/a", None),
            ("/a", None),
            ("ftp://shop.example/a", None),
            ("http:///a", None),
            ("", None),
            ("http://shop.example/a b", None),
        ];
        for (text, expected) in cases {
            assert_eq!(checked(text).ok().as_deref(), expected, "{text}");
        }
    }

    #[test]
    fn reserved_characters_are_encoded() {
        assert_eq!(
            percent_encoded("http://a.b/c?d=e&f=%20ü"),
            "http%3A%2F%2Fa.b%2Fc%3Fd%3De%26f%3D%2520%C3%BC"
        );
    }

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
