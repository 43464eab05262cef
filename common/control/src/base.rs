//! The signature base of RFC 9421 §2.5: one line per covered component, and
//! `@signature-params` last.
//!
//! Signing writes the base and `Signature-Input` side by side, in one pass over
//! the fields ([`Draft`]). Verifying writes the same lines in the order that the
//! received `Signature-Input` gives. Both go through the same few functions, so
//! they cannot disagree about what a line looks like.
//!
//! Invariant: the base is text without line breaks inside a value. A field that
//! is not visible ASCII is covered as byte sequences (`;bs`).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::header::HeaderName;
use http::{HeaderMap, HeaderValue, Method};

use crate::block::Scheme;
use crate::error::SealError;
use crate::keys::Key;
use crate::{COMPONENTS_MAX, VALIDITY_S, sf};

/// What `Signature-Input` begins with.
const INPUT_PREFIX: &str = "tier=(";

/// The request line and Host, as both sides see them.
#[derive(Clone, Copy)]
pub(crate) struct Target<'a> {
    pub(crate) method: &'a Method,
    pub(crate) authority: &'a str,
    pub(crate) path_and_query: &'a str,
    /// The visitor's scheme: it says which port an authority leaves out.
    pub(crate) scheme: Scheme,
}

impl Target<'_> {
    /// The derived components that every request's signature covers.
    pub(crate) const COVERED: [&'static str; 4] = ["@method", "@authority", "@path", "@query"];

    /// Whether every part fits on a line of the base. The doors admit no control
    /// characters; this keeps a caller's mistake from becoming a forged line.
    pub(crate) fn is_clean(&self) -> bool {
        [self.authority, self.path_and_query]
            .iter()
            .all(|text| !text.bytes().any(|b| b <= b' ' || b == 0x7f))
    }

    /// Appends a derived component's value; false when it is none of ours.
    pub(crate) fn push(&self, out: &mut String, component: &str) -> bool {
        let (path, query) = match self.path_and_query.split_once('?') {
            Some((path, query)) => (path, query),
            None => (self.path_and_query, ""),
        };
        match component {
            "@method" => out.push_str(self.method.as_str()),
            "@authority" => self.push_authority(out),
            // RFC 9421 §2.2.6: an empty path is normalised to a slash.
            "@path" => out.push_str(if path.is_empty() { "/" } else { path }),
            // RFC 9421 §2.2.7: an absent query is the question mark alone.
            "@query" => {
                out.push('?');
                out.push_str(query);
            }
            _ => return false,
        }
        true
    }

    /// RFC 9421 §2.2.3: lower case, and no port that the scheme implies.
    fn push_authority(&self, out: &mut String) {
        let authority = self
            .authority
            .strip_suffix(self.scheme.default_port())
            .unwrap_or(self.authority);
        out.extend(authority.chars().map(|c| c.to_ascii_lowercase()));
    }
}

/// Why a field's value cannot be put into a base.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum FieldFault {
    /// It is not in the message.
    Absent,
    /// It is not visible ASCII and not covered with `;bs`.
    NotAscii,
}

/// Appends a field's value: its lines, trimmed and joined (RFC 9421 §2.1).
pub(crate) fn push_field(
    out: &mut String,
    fields: &HeaderMap,
    name: &str,
) -> Result<(), FieldFault> {
    push_lines(out, fields, name, |out, line| {
        let text = line.to_str().map_err(|_| FieldFault::NotAscii)?;
        out.push_str(text.trim_matches([' ', '\t']));
        Ok(())
    })
}

/// Appends a field's lines as byte sequences (RFC 9421 §2.1.3).
pub(crate) fn push_field_bytes(
    out: &mut String,
    fields: &HeaderMap,
    name: &str,
) -> Result<(), FieldFault> {
    push_lines(out, fields, name, |out, line| {
        sf::push_bytes(out, line.as_bytes().trim_ascii());
        Ok(())
    })
}

fn push_lines(
    out: &mut String,
    fields: &HeaderMap,
    name: &str,
    push: impl Fn(&mut String, &HeaderValue) -> Result<(), FieldFault>,
) -> Result<(), FieldFault> {
    let mut lines = fields.get_all(name).iter();
    push(out, lines.next().ok_or(FieldFault::Absent)?)?;
    for line in lines {
        out.push_str(", ");
        push(out, line)?;
    }
    Ok(())
}

/// Ends a base with `@signature-params`: the list and parameters, after the label.
pub(crate) fn push_params(base: &mut String, input: &str) {
    base.push_str("\"@signature-params\": ");
    base.push_str(input);
}

/// The parameters of a signature we make.
pub(crate) struct Params<'a> {
    /// Unix seconds.
    pub(crate) created_s: u64,
    pub(crate) nonce: Option<[u8; 16]>,
    pub(crate) tag: &'a str,
}

/// A finished signature: two field values, and the bytes for the next link.
pub(crate) struct Signed {
    pub(crate) input: HeaderValue,
    pub(crate) signature: HeaderValue,
    pub(crate) bytes: Box<[u8]>,
}

/// A base and its `Signature-Input`, growing together.
pub(crate) struct Draft {
    base: String,
    input: String,
    components: usize,
}

impl Draft {
    pub(crate) fn new() -> Self {
        let mut input = String::with_capacity(512);
        input.push_str(INPUT_PREFIX);
        Self {
            base: String::with_capacity(1536),
            input,
            components: 0,
        }
    }

    /// Covers one component; `params` follow the quoted name, semicolon first.
    pub(crate) fn cover(&mut self, name: &str, params: &str, value: impl FnOnce(&mut String)) {
        if self.components > 0 {
            self.input.push(' ');
        }
        self.components += 1;
        for out in [&mut self.input, &mut self.base] {
            for part in ["\"", name, "\"", params] {
                out.push_str(part);
            }
        }
        self.base.push_str(": ");
        value(&mut self.base);
        self.base.push('\n');
    }

    /// Covers a request's derived components.
    pub(crate) fn cover_target(&mut self, target: Target<'_>) {
        for component in Target::COVERED {
            self.cover(component, "", |out| {
                let ours = target.push(out, component);
                debug_assert!(ours, "every component of COVERED is derived");
            });
        }
    }

    /// Covers a field that is in `fields`.
    pub(crate) fn cover_field(&mut self, fields: &HeaderMap, name: &HeaderName) {
        let name = name.as_str();
        let mut written = Ok(());
        if needs_bytes(fields, name) {
            self.cover(name, ";bs", |out| {
                written = push_field_bytes(out, fields, name);
            });
        } else {
            self.cover(name, "", |out| written = push_field(out, fields, name));
        }
        debug_assert_eq!(written, Ok(()), "the caller takes names from the fields");
    }

    /// Writes the parameters and signs.
    pub(crate) fn finish(mut self, params: &Params<'_>, key: &Key) -> Result<Signed, SealError> {
        if self.components > COMPONENTS_MAX {
            return Err(SealError::TooManyFields);
        }
        let expires_s = params.created_s.saturating_add(VALIDITY_S);
        // RFC 9421 §2.3, in the order of its table; `keyid` and `tag` are names
        // without anything to escape.
        self.input.push(')');
        push_param(&mut self.input, "created", &params.created_s.to_string());
        push_param(&mut self.input, "expires", &expires_s.to_string());
        push_quoted(&mut self.input, "keyid", key.keyid());
        push_quoted(&mut self.input, "alg", key.algorithm().as_str());
        if let Some(nonce) = params.nonce {
            push_quoted(&mut self.input, "nonce", &nonce_text(nonce));
        }
        push_quoted(&mut self.input, "tag", params.tag);
        let member = self
            .input
            .get(INPUT_PREFIX.len() - 1..)
            .expect("the input begins with its prefix");
        push_params(&mut self.base, member);
        let bytes = key
            .sign(self.base.as_bytes())
            .ok_or_else(|| SealError::CannotSign {
                keyid: key.keyid().to_owned(),
            })?;
        let mut signature = String::with_capacity(96);
        signature.push_str("tier=");
        sf::push_bytes(&mut signature, &bytes);
        Ok(Signed {
            input: ascii(self.input),
            signature: ascii(signature),
            bytes,
        })
    }
}

/// A nonce as the `nonce` parameter says it.
fn nonce_text(nonce: [u8; 16]) -> String {
    STANDARD.encode(nonce)
}

fn push_param(out: &mut String, name: &str, value: &str) {
    for part in [";", name, "=", value] {
        out.push_str(part);
    }
}

fn push_quoted(out: &mut String, name: &str, value: &str) {
    for part in [";", name, "=\"", value, "\""] {
        out.push_str(part);
    }
}

fn ascii(text: String) -> HeaderValue {
    HeaderValue::try_from(text).expect("names, digits and base64 are visible ASCII")
}

/// Whether a field goes into the base line by line. `Set-Cookie` because its
/// lines cannot be joined without changing their meaning (RFC 9421 §2.1.3), and
/// whatever is not visible ASCII because the base is.
fn needs_bytes(fields: &HeaderMap, name: &str) -> bool {
    name == "set-cookie"
        || fields
            .get_all(name)
            .iter()
            .any(|line| line.to_str().is_err())
}

#[cfg(test)]
mod tests {
    use ring::{hmac, signature};

    use super::*;

    /// The test request of RFC 9421 appendix B.2, and a base over it.
    fn base(components: &[&str], params: &str) -> String {
        let mut fields = HeaderMap::new();
        for (name, value) in [
            ("host", "example.com"),
            ("date", "Tue, 20 Apr 2021 02:07:55 GMT"),
            ("content-type", "application/json"),
            ("content-length", "18"),
        ] {
            fields.insert(name, HeaderValue::from_static(value));
        }
        let target = Target {
            method: &Method::POST,
            authority: "example.com",
            path_and_query: "/foo?param=Value&Pet=dog",
            scheme: Scheme::Https,
        };
        let mut base = String::new();
        for name in components {
            base += &format!("\"{name}\": ");
            if !target.push(&mut base, name) {
                push_field(&mut base, &fields, name).unwrap();
            }
            base.push('\n');
        }
        push_params(&mut base, params);
        base
    }

    #[test]
    fn rfc_9421_b_2_5_hmac() {
        let base = base(
            &["date", "@authority", "content-type"],
            r#"("date" "@authority" "content-type");created=1618884473;keyid="test-shared-secret""#,
        );
        let secret = STANDARD
            .decode("uzvJfB4u3N0Jy4T7NZ75MDVcr8zSTInedJtkgcu46YW4XByzNJjxBdtjUkdJPBtbmHhIDi6pcl8jsasjlTMtDQ==")
            .unwrap();
        let key = hmac::Key::new(hmac::HMAC_SHA256, &secret);
        assert_eq!(
            STANDARD.encode(hmac::sign(&key, base.as_bytes())),
            "pxcQw6G3AjtMBQjwo8XzkZf/bws5LelbaMk5rGIGtE8="
        );
    }

    #[test]
    fn rfc_9421_b_2_6_ed25519() {
        let base = base(
            &[
                "date",
                "@method",
                "@path",
                "@authority",
                "content-type",
                "content-length",
            ],
            r#"("date" "@method" "@path" "@authority" "content-type" "content-length");created=1618884473;keyid="test-key-ed25519""#,
        );
        let public = STANDARD
            .decode("JrQLj5P/89iXES9+vFgrIy29clF9CC/oPPsw3c5D0bs=")
            .unwrap();
        let expected = STANDARD
            .decode("wqcAqbmYJ2ji2glfAMaRy4gruYYnx2nEFN2HN6jrnDnQCK1u02Gb04v9EDgwUPiu4A0w6vuQv5lIp5WPpBKRCw==")
            .unwrap();
        signature::UnparsedPublicKey::new(&signature::ED25519, public)
            .verify(base.as_bytes(), &expected)
            .unwrap();
    }

    #[test]
    fn derived_components_are_normalised() {
        let table = [
            ("/a?b", "@path", "/a"),
            ("/a?b", "@query", "?b"),
            ("/a?", "@query", "?"),
            ("/a", "@query", "?"),
            ("/a?b?c", "@query", "?b?c"),
            ("?b", "@path", "/"),
            ("", "@path", "/"),
        ];
        for (path_and_query, component, expected) in table {
            let target = Target {
                method: &Method::GET,
                authority: "a",
                path_and_query,
                scheme: Scheme::Http,
            };
            let mut out = String::new();
            assert!(target.push(&mut out, component));
            assert_eq!(out, expected, "{path_and_query} {component}");
        }
    }
}
