//! One request to one listener of a node, over HTTP/1.1, with every wait bounded.
//!
//! The commands that talk to admin listeners need no pool, no TLS and no second
//! try: a connection, a request, a short answer. What the answer means is theirs
//! to say; here it is only fetched.

use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

/// Connecting, name lookup included.
const CONNECT_MS: u64 = 2_000;

/// An answer is a line or two; more than this is read from no listener.
const ANSWER_BYTES_MAX: usize = 64 * 1024;

/// What of a foreign answer is shown.
const SHOWN_CHARS_MAX: usize = 120;

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Unanswered {
    /// No connection, or no answer in time.
    Unreachable(String),
    /// Something answers there, and it was no HTTP.
    Improper(String),
}

/// An answer, whatever it says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Answer {
    /// Its status.
    pub(crate) status: StatusCode,
    /// Its whole body. Bytes that are no UTF-8 are replaced.
    pub(crate) body: String,
}

impl fmt::Display for Answer {
    /// Status and first line, fit for a terminal: no control characters, and short.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let first_line = self.body.trim().lines().next().unwrap_or_default();
        let shown: String = first_line
            .chars()
            .filter(|char| !char.is_control())
            .take(SHOWN_CHARS_MAX)
            .collect();
        let text = format!("{} {shown}", self.status);
        f.write_str(text.trim_end())
    }
}

/// Sends `request`, which has its `Host`, to `address` (host and port) and reads
/// the answer, for which there are `answer_ms` once the connection stands.
pub(crate) async fn ask(
    address: &str,
    request: Request<Empty<Bytes>>,
    answer_ms: u64,
) -> Result<Answer, Unanswered> {
    let connecting = TcpStream::connect(address);
    let stream = match tokio::time::timeout(Duration::from_millis(CONNECT_MS), connecting).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return Err(Unanswered::Unreachable(error.to_string())),
        Err(_) => {
            let why = format!("no connection within {CONNECT_MS} ms");
            return Err(Unanswered::Unreachable(why));
        }
    };
    match tokio::time::timeout(Duration::from_millis(answer_ms), exchange(stream, request)).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(why)) => Err(Unanswered::Improper(format!("no proper answer: {why}"))),
        Err(_) => {
            let why = format!("no answer within {answer_ms} ms");
            Err(Unanswered::Unreachable(why))
        }
    }
}

/// One request, one answer, and the connection is over.
async fn exchange(stream: TcpStream, request: Request<Empty<Bytes>>) -> Result<Answer, String> {
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|error| error.to_string())?;
    let connection = tokio::spawn(connection);
    let answered = async {
        let response = sender
            .send_request(request)
            .await
            .map_err(|error| error.to_string())?;
        let status = response.status();
        let body = Limited::new(response.into_body(), ANSWER_BYTES_MAX)
            .collect()
            .await;
        let body = body
            .map_err(|error| format!("the answer cannot be read: {error}"))?
            .to_bytes();
        Ok(Answer {
            status,
            body: String::from_utf8_lossy(&body).into_owned(),
        })
    };
    let answered = answered.await;
    connection.abort();
    answered
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_foreign_answer_is_shown_short_and_harmless() {
        let long = "x".repeat(1_000);
        let cases = [
            (204, "", "204 No Content"),
            (404, "\n no such page\nat all", "404 Not Found no such page"),
            (500, "\x1b[2J", "500 Internal Server Error [2J"),
            (200, &long, &format!("200 OK {}", &long[..SHOWN_CHARS_MAX])),
        ];
        for (status, body, expected) in cases {
            let answer = Answer {
                status: StatusCode::from_u16(status).unwrap(),
                body: body.to_owned(),
            };
            assert_eq!(answer.to_string(), expected);
        }
    }
}
