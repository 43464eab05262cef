//! `headwater health`: is this node ready, as an exit status.
//!
//! The health check of a container image that has no other HTTP client, and for
//! anything else that starts a command and looks at how it ended. Success means
//! one thing alone: the listener answered 200 in time.

use std::io::{self, Write};

use bytes::Bytes;
use http::header::HOST;
use http::{Request, StatusCode};
use http_body_util::Empty;

use crate::admin::{self, Answer, Unanswered};
use crate::failure::Failure;

/// Where the admin address is looked for when `--admin` does not give it, so that
/// one image has one health check, whichever node it runs.
const ADMIN_VARIABLE: &str = "HEADWATER_ADMIN";

/// The first edge of a demo.
const ADMIN_DEFAULT: &str = "127.0.0.1:9081";

/// A node that takes longer to say whether it is ready is not.
const ANSWER_MS: u64 = 3_000;

/// Command line of `headwater health`.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Address and port to ask (or set HEADWATER_ADMIN) [default: 127.0.0.1:9081].
    #[arg(long, value_name = "ADDR")]
    admin: Option<String>,
    /// What to ask for; a demo origin has no /readyz, but has /.
    #[arg(long, value_name = "PATH", default_value = "/readyz")]
    path: String,
}

/// `headwater health`.
pub(crate) async fn run(options: Options) -> Result<(), Failure> {
    let variable = std::env::var(ADMIN_VARIABLE).ok();
    let address = address(options.admin, variable);
    check(&address, &options.path, &mut io::stdout()).await
}

/// The address that is asked, given the argument and the environment variable.
fn address(argument: Option<String>, variable: Option<String>) -> String {
    argument
        .or_else(|| variable.filter(|text| !text.is_empty()))
        .unwrap_or_else(|| ADMIN_DEFAULT.to_owned())
}

/// Asks once. Writes a line to `out` on success; a failure carries its reason.
async fn check(address: &str, path: &str, out: &mut impl Write) -> Result<(), Failure> {
    let request = Request::get(path)
        .header(HOST, address)
        .body(Empty::<Bytes>::new())
        .map_err(|error| Failure::because(format!("cannot ask {address} for {path}: {error}")))?;
    match admin::ask(address, request, ANSWER_MS).await {
        Ok(Answer {
            status: StatusCode::OK,
            ..
        }) => Ok(writeln!(out, "{address}: ready")?),
        Ok(answer) => Err(Failure::because(format!("{address} answered {answer}"))),
        Err(Unanswered::Unreachable(why)) => {
            Err(Failure::because(format!("{address} is unreachable: {why}")))
        }
        Err(Unanswered::Improper(why)) => Err(Failure::because(format!("{address}: {why}"))),
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::*;

    /// A listener that answers one request; the task ends with the request's head.
    async fn listener(answer: &'static str) -> (String, tokio::task::JoinHandle<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let served = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.push(stream.read_u8().await.unwrap());
            }
            stream.write_all(answer.as_bytes()).await.unwrap();
            String::from_utf8(head).unwrap()
        });
        (address, served)
    }

    #[test]
    fn the_argument_comes_before_the_variable_and_the_default_last() {
        let text = |text: &str| Some(text.to_owned());
        let cases = [
            (text("a:1"), text("b:2"), "a:1"),
            (None, text("b:2"), "b:2"),
            (None, text(""), ADMIN_DEFAULT),
            (None, None, ADMIN_DEFAULT),
        ];
        for (argument, variable, expected) in cases {
            assert_eq!(address(argument, variable), expected);
        }
    }

    #[tokio::test]
    async fn only_200_is_ready() {
        let cases = [
            ("HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nready\n", None),
            (
                "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 18\r\n\r\nno way to content\n",
                Some("answered 503 Service Unavailable no way to content"),
            ),
            (
                "HTTP/1.1 204 No Content\r\n\r\n",
                Some("answered 204 No Content"),
            ),
            (
                "HTTP/1.1 302 Found\r\nContent-Length: 0\r\n\r\n",
                Some("answered 302 Found"),
            ),
            ("ready\r\n\r\n", Some("no proper answer")),
        ];
        for (answer, expected) in cases {
            let (address, served) = listener(answer).await;
            let mut out = Vec::new();
            let ended = check(&address, "/readyz", &mut out).await;
            let head = served.await.unwrap();
            assert!(head.starts_with("GET /readyz HTTP/1.1\r\n"), "{head}");
            match expected {
                None => {
                    ended.unwrap();
                    assert_eq!(
                        String::from_utf8(out).unwrap(),
                        format!("{address}: ready\n")
                    );
                }
                Some(words) => {
                    let failure = ended.unwrap_err();
                    assert!(failure.words().contains(words), "{failure:?}");
                    assert!(failure.words().contains(&address), "{failure:?}");
                }
            }
        }
    }

    #[tokio::test]
    async fn nobody_there_is_unreachable_and_a_bad_path_is_no_panic() {
        let gone = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = gone.local_addr().unwrap().to_string();
        drop(gone);
        for (address, path, words) in [
            (address.as_str(), "/readyz", "unreachable"),
            ("no address", "/readyz", "unreachable"),
            (address.as_str(), "no path", "cannot ask"),
        ] {
            let failure = check(address, path, &mut Vec::new()).await.unwrap_err();
            assert!(failure.words().contains(words), "{failure:?}");
        }
    }
}
