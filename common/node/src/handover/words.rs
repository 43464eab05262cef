//! What two processes of one node say to each other at a hand-over, as text.
//!
//! ```text
//!   new:  headwater-handover 1 take      old:  headwater-handover 1 offer
//!         node edge-1                          socket 0.0.0.0:443
//!                                              socket 127.0.0.1:9081
//!   new:  headwater-handover 1 ready     old:  headwater-handover 1 yours
//! ```
//!
//! Each message ends with an empty line; the descriptors come with `offer`, in its
//! order. The old one may say `no` instead, with a line `why …`. A line whose first
//! word is unknown is passed over, so that a later version may say more. The version is
//! the lower one of both: the new process says the highest it knows, the old one answers
//! with what both know, and a version understands the one before it.

use std::net::SocketAddr;

/// The highest version spoken here, and the lowest.
const VERSION: u32 = 1;
const VERSION_MIN: u32 = 1;

/// The first word of every message.
const MAGIC: &str = "headwater-handover";

/// Sockets of one node. The kernel passes at most 253 descriptors at once.
pub(super) const SOCKETS_MAX: usize = 64;

/// A message with every socket there may be is far smaller.
pub(super) const MESSAGE_BYTES_MAX: usize = 16 * 1024;

/// What ends a message.
pub(super) const END: &[u8] = b"\n\n";

/// One message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Message {
    /// The new process of that node asks for the sockets.
    Take {
        /// The node's name.
        node: String,
    },
    /// The old one's sockets, by the addresses in its configuration.
    Offer {
        /// One for each descriptor, in order.
        sockets: Vec<SocketAddr>,
    },
    /// The new one can serve, and waits to.
    Ready,
    /// From now on the new one serves.
    Yours,
    /// There is nothing to be had.
    No {
        /// One sentence.
        why: String,
    },
}

impl Message {
    /// The message as it goes over the socket, in that version.
    pub(super) fn text(&self, version: u32) -> String {
        let (verb, rest) = match self {
            Self::Take { node } => ("take", format!("node {node}\n")),
            Self::Offer { sockets } => {
                let lines = sockets.iter().map(|socket| format!("socket {socket}\n"));
                ("offer", lines.collect())
            }
            Self::Ready => ("ready", String::new()),
            Self::Yours => ("yours", String::new()),
            Self::No { why } => ("no", format!("why {}\n", why.replace('\n', " "))),
        };
        format!("{MAGIC} {version} {verb}\n{rest}\n")
    }

    /// Reads a message and its version, or says what is wrong with it.
    pub(super) fn parse(text: &str) -> Result<(u32, Self), String> {
        let mut lines = text.lines();
        let mut first = lines.next().unwrap_or_default().split(' ');
        let (magic, version, verb) = (first.next(), first.next(), first.next());
        let version = version.and_then(|version| version.parse::<u32>().ok());
        let (Some(MAGIC), Some(version), Some(verb)) = (magic, version, verb) else {
            return Err("what was said is no hand-over".to_owned());
        };
        let said: Vec<_> = lines.filter_map(|line| line.split_once(' ')).collect();
        let all = |word: &'static str| {
            let said = said.iter().filter(move |(first, _)| *first == word);
            said.map(|(_, rest)| *rest)
        };
        let message = match verb {
            "take" => Self::Take {
                node: all("node").next().unwrap_or_default().to_owned(),
            },
            "offer" => {
                let sockets: Result<Vec<_>, _> = all("socket").map(str::parse).collect();
                let sockets = sockets.map_err(|_| "a socket without an address".to_owned())?;
                Self::Offer { sockets }
            }
            "ready" => Self::Ready,
            "yours" => Self::Yours,
            "no" => Self::No {
                why: all("why")
                    .next()
                    .unwrap_or("it does not say why")
                    .to_owned(),
            },
            _ => return Err("what was said is not known to this version".to_owned()),
        };
        Ok((version, message))
    }
}

/// What the new process opens with.
pub(super) const fn highest() -> u32 {
    VERSION
}

/// The version that both know; None where there is none.
pub(super) fn common(theirs: u32) -> Option<u32> {
    let lower = theirs.min(VERSION);
    (lower >= VERSION_MIN).then_some(lower)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let sockets = vec![
            "0.0.0.0:443".parse().unwrap(),
            "[::1]:9081".parse().unwrap(),
        ];
        for message in [
            Message::Take {
                node: "edge-1".to_owned(),
            },
            Message::Offer { sockets },
            Message::Offer {
                sockets: Vec::new(),
            },
            Message::Ready,
            Message::Yours,
            Message::No {
                why: "it drains".to_owned(),
            },
        ] {
            let text = message.text(1);
            assert!(text.as_bytes().ends_with(END), "{text}");
            assert_eq!(text.matches("\n\n").count(), 1, "{text}");
            assert_eq!(Message::parse(&text), Ok((1, message)));
        }
    }

    #[test]
    fn a_later_version_may_say_more_but_not_otherwise() {
        let more = "headwater-handover 2 ready now\ncolour blue\nlonely\n\n";
        assert_eq!(Message::parse(more), Ok((2, Message::Ready)));
        for other in [
            "",
            "\n\n",
            "GET / HTTP/1.1\n\n",
            "headwater-handover one take\n\n",
            "headwater-handover 1\n\n",
            "headwater-handover 1 sing\n\n",
            "headwater-handover 1 offer\nsocket localhost:80\n\n",
        ] {
            assert!(Message::parse(other).is_err(), "{other:?}");
        }
        // A newline in a reason must not end the message early.
        let why = "one\n\ntwo".to_owned();
        assert_eq!(Message::No { why }.text(1).matches("\n\n").count(), 1);
    }

    #[test]
    fn the_lower_version_is_spoken() {
        for (theirs, spoken) in [(0, None), (1, Some(1)), (2, Some(1)), (u32::MAX, Some(1))] {
            assert_eq!(common(theirs), spoken, "{theirs}");
        }
    }
}
