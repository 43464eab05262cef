//! What the scripted origin says: a response, and where it waits, breaks or stalls.

use std::time::Duration;

use bytes::Bytes;

use crate::Gate;
use crate::clock;
use crate::origin::Recorded;
use crate::wire::{Fields, field, head_bytes, set_field};

/// One answer of the origin.
///
/// It begins as a whole, well-framed response; every method bends one thing.
#[derive(Clone, Debug)]
pub struct Reply {
    pub(crate) status: u16,
    pub(crate) fields: Fields,
    pub(crate) parts: Vec<Bytes>,
    pub(crate) framing: ReplyFraming,
    /// Before anything is sent.
    pub(crate) gate: Option<Gate>,
    /// How long it takes before anything is sent.
    pub(crate) takes: Duration,
    /// Offsets in the body at which something happens, in order.
    pub(crate) turns: Vec<(u64, Turn)>,
    pub(crate) interim: Vec<u16>,
    pub(crate) special: Option<Special>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ReplyFraming {
    Length,
    Chunked,
    Close,
}

/// What happens within a body.
#[derive(Clone, Debug)]
pub(crate) enum Turn {
    Wait(Gate),
    Break,
    Stall,
}

/// Answers that are no response.
#[derive(Clone, Debug)]
pub(crate) enum Special {
    Raw(Bytes),
    Silence,
    HangUp,
    /// 101, and from then on every byte comes back.
    Echo,
}

impl Reply {
    /// A response of that status, with a `Date` of now and no body.
    #[must_use]
    pub fn new(status: u16) -> Self {
        Self {
            status,
            fields: vec![("Date".to_owned(), clock::http_date(0))],
            parts: Vec::new(),
            framing: ReplyFraming::Length,
            gate: None,
            takes: Duration::ZERO,
            turns: Vec::new(),
            interim: Vec::new(),
            special: None,
        }
    }

    /// A 200 with a body that says nothing about caching.
    #[must_use]
    pub fn ok(body: impl Into<Bytes>) -> Self {
        Self::new(200).body(body)
    }

    /// A 200 that stays fresh for an hour.
    #[must_use]
    pub fn fresh(body: impl Into<Bytes>) -> Self {
        Self::ok(body).with("Cache-Control", "max-age=3600")
    }

    /// A 200 that was fresh for a minute and is two minutes old, so that nothing
    /// has to wait for it to become stale. `more` is added to `Cache-Control`.
    #[must_use]
    pub fn stale(body: impl Into<Bytes>, more: &str) -> Self {
        Self::ok(body)
            .with("Cache-Control", &format!("max-age=60{more}"))
            .with("Age", "120")
    }

    /// Bytes that need not be HTTP, and then the end of the connection.
    #[must_use]
    pub fn raw(bytes: impl Into<Bytes>) -> Self {
        Self::special(Special::Raw(bytes.into()))
    }

    /// Never an answer; the connection stays.
    #[must_use]
    pub fn silence() -> Self {
        Self::special(Special::Silence)
    }

    /// The connection ends without an answer.
    #[must_use]
    pub fn hang_up() -> Self {
        Self::special(Special::HangUp)
    }

    /// 101 for `protocol`, and then whatever comes is sent back.
    #[must_use]
    pub fn switching_to(protocol: &str) -> Self {
        let reply = Self::special(Special::Echo)
            .with("Connection", "Upgrade")
            .with("Upgrade", protocol);
        Self {
            status: 101,
            ..reply
        }
    }

    /// The answer of an origin that knows validators: 304 where `etag` is what it
    /// was asked about, else this.
    #[must_use]
    pub fn unless_known(self, asked: &Recorded, etag: &str) -> Self {
        let reply = self.with("ETag", etag);
        if asked.says("if-none-match") == etag {
            let mut fields = reply.fields;
            set_field(&mut fields, "Content-Length", None);
            return Self {
                fields,
                ..Self::new(304)
            };
        }
        reply
    }

    /// The answer of an origin that knows ranges: the rest of the body from where
    /// `bytes=N-` asks for it, else all of it.
    #[must_use]
    pub fn from_where_asked(self, asked: &Recorded) -> Self {
        let range = asked.says("range");
        let from = range
            .strip_prefix("bytes=")
            .and_then(|range| range.strip_suffix('-'))
            .and_then(|from| from.parse::<usize>().ok());
        let Some(from) = from else {
            return self;
        };
        let whole: Vec<u8> = self.parts.concat();
        let rest = whole.get(from..).unwrap_or_default().to_vec();
        let content_range = format!("bytes {from}-{}/{}", whole.len() - 1, whole.len());
        let reply = self.with("Content-Range", &content_range).body(rest);
        Self {
            status: 206,
            ..reply
        }
    }

    /// Adds a field line.
    #[must_use]
    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.fields.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Replaces every line of a field.
    #[must_use]
    pub fn set(mut self, name: &str, value: &str) -> Self {
        set_field(&mut self.fields, name, Some(value));
        self
    }

    /// Leaves out every line of a field.
    #[must_use]
    pub fn without(mut self, name: &str) -> Self {
        set_field(&mut self.fields, name, None);
        self
    }

    /// With that body.
    #[must_use]
    pub fn body(mut self, body: impl Into<Bytes>) -> Self {
        self.parts = vec![body.into()];
        self
    }

    /// With one part so many times as the body: large, and held once.
    #[must_use]
    pub fn repeating(mut self, part: impl Into<Bytes>, times: usize) -> Self {
        self.parts = vec![part.into(); times];
        self
    }

    /// In chunks, one a part; a body of one part goes out byte by byte.
    #[must_use]
    pub fn chunked(mut self) -> Self {
        self.framing = ReplyFraming::Chunked;
        if let [only] = &self.parts[..] {
            self.parts = only.chunks(1).map(Bytes::copy_from_slice).collect();
        }
        self
    }

    /// Ended by the end of the connection.
    #[must_use]
    pub fn until_close(mut self) -> Self {
        self.framing = ReplyFraming::Close;
        self
    }

    /// Sends nothing before the gate opens.
    #[must_use]
    pub fn held_at(mut self, gate: &Gate) -> Self {
        self.gate = Some(gate.clone());
        self
    }

    /// Takes so long before it sends anything, as from a far origin.
    #[must_use]
    pub fn taking(mut self, takes: Duration) -> Self {
        self.takes = takes;
        self
    }

    /// Waits at the gate after so many bytes of the body.
    #[must_use]
    pub fn pausing_after(mut self, bytes: u64, gate: &Gate) -> Self {
        self.turns.push((bytes, Turn::Wait(gate.clone())));
        self
    }

    /// Closes the connection after so many bytes of the body.
    #[must_use]
    pub fn breaking_after(mut self, bytes: u64) -> Self {
        self.turns.push((bytes, Turn::Break));
        self
    }

    /// Sends nothing more after so many bytes of the body.
    #[must_use]
    pub fn stalling_after(mut self, bytes: u64) -> Self {
        self.turns.push((bytes, Turn::Stall));
        self
    }

    /// After an interim response.
    #[must_use]
    pub fn after_interim(mut self, status: u16) -> Self {
        self.interim.push(status);
        self
    }

    fn special(special: Special) -> Self {
        Self {
            special: Some(special),
            ..Self::new(200)
        }
    }

    pub(crate) fn body_bytes(&self) -> u64 {
        self.parts.iter().map(|part| part.len() as u64).sum()
    }

    pub(crate) fn head(&self) -> Vec<u8> {
        let mut fields = self.fields.clone();
        let has_body = self.status >= 200 && self.status != 204 && self.status != 304;
        let framed = field(&fields, "content-length").is_some();
        match self.framing {
            ReplyFraming::Length if has_body && !framed => {
                fields.push(("Content-Length".to_owned(), self.body_bytes().to_string()));
            }
            ReplyFraming::Length => {}
            ReplyFraming::Chunked => {
                fields.push(("Transfer-Encoding".to_owned(), "chunked".to_owned()));
            }
            ReplyFraming::Close => {
                fields.push(("Connection".to_owned(), "close".to_owned()));
            }
        }
        head_bytes(&format!("HTTP/1.1 {} Scripted", self.status), &fields)
    }
}
