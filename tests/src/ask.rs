//! A request as a scenario words it.

use bytes::Bytes;

use crate::wire::{Fields, head_bytes, set_field};

/// The host of the one site that most scenarios have.
pub const HOST: &str = "shop.example";

/// A request, well formed as long as nobody makes it otherwise.
#[derive(Clone, Debug)]
pub struct Ask {
    pub(crate) method: String,
    pub(crate) target: String,
    pub(crate) fields: Fields,
    pub(crate) body: AskBody,
    minor: u8,
}

/// How a request's body is sent.
#[derive(Clone, Debug)]
pub(crate) enum AskBody {
    None,
    Whole(Bytes),
    Chunks(Vec<Bytes>),
}

/// A request to [`HOST`].
#[must_use]
pub fn ask(method: &str, target: &str) -> Ask {
    Ask {
        method: method.to_owned(),
        target: target.to_owned(),
        fields: vec![("Host".to_owned(), HOST.to_owned())],
        body: AskBody::None,
        minor: 1,
    }
}

/// A GET to [`HOST`].
#[must_use]
pub fn get(target: &str) -> Ask {
    ask("GET", target)
}

impl Ask {
    /// Adds a field line.
    #[must_use]
    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.fields.push((name.to_owned(), value.to_owned()));
        self
    }

    /// To another host.
    #[must_use]
    pub fn host(mut self, host: &str) -> Self {
        set_field(&mut self.fields, "Host", Some(host));
        self
    }

    /// With a body and its `Content-Length`.
    #[must_use]
    pub fn body(mut self, body: impl Into<Bytes>) -> Self {
        self.body = AskBody::Whole(body.into());
        self
    }

    /// With a body in chunks.
    #[must_use]
    pub fn chunks<const N: usize>(mut self, chunks: [&str; N]) -> Self {
        let chunks = chunks.map(|chunk| Bytes::copy_from_slice(chunk.as_bytes()));
        self.body = AskBody::Chunks(chunks.to_vec());
        self
    }

    /// In HTTP/1.0.
    #[must_use]
    pub fn http10(mut self) -> Self {
        self.minor = 0;
        self
    }

    /// All of it, as it goes on the wire.
    #[must_use]
    pub fn bytes(&self) -> Vec<u8> {
        let mut fields = self.fields.clone();
        match &self.body {
            AskBody::None => {}
            AskBody::Whole(body) => {
                fields.push(("Content-Length".to_owned(), body.len().to_string()));
            }
            AskBody::Chunks(_) => {
                fields.push(("Transfer-Encoding".to_owned(), "chunked".to_owned()));
            }
        }
        let start = format!("{} {} HTTP/1.{}", self.method, self.target, self.minor);
        let mut out = head_bytes(&start, &fields);
        match &self.body {
            AskBody::None => {}
            AskBody::Whole(body) => out.extend_from_slice(body),
            AskBody::Chunks(chunks) => {
                for chunk in chunks {
                    out.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
                    out.extend_from_slice(chunk);
                    out.extend_from_slice(b"\r\n");
                }
                out.extend_from_slice(b"0\r\n\r\n");
            }
        }
        out
    }
}
