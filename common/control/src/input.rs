//! Reading our member of `Signature-Input` and `Signature`.
//!
//! The parser takes only the canonical text of RFC 9651 §4.1, which is what goes
//! into the signature base, so that what was read and what was signed cannot
//! differ. A member that shares its field with others, or is spelled in another
//! way, is brought into that text by `sfv` first; the usual field, ours alone on
//! one line, is read without an allocation per component.

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::HeaderMap;
use http::header::HeaderName;
use sfv::{Dictionary, Parser};

use crate::error::Rejection;
use crate::fields::{SIGNATURE, SIGNATURE_INPUT};
use crate::sf::{self, member_text};
use crate::{COMPONENTS_MAX, LABEL};

/// The longest signature an algorithm of ours makes, in bytes (ed25519).
const SIGNATURE_BYTES_MAX: usize = 64;

/// One covered component.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Component<'a> {
    /// As it stands in the base: quotes, name, quotes, parameters.
    pub(crate) identifier: &'a str,
    /// The name alone.
    pub(crate) name: &'a str,
    /// `;key="…"`: one member of a dictionary field (RFC 9421 §2.1.2).
    pub(crate) key: Option<&'a str>,
    /// `;bs`: line by line, as byte sequences (RFC 9421 §2.1.3).
    pub(crate) bs: bool,
    /// `;req`: taken from the request (RFC 9421 §2.4).
    pub(crate) req: bool,
}

impl Component<'_> {
    fn same_as(&self, other: &Component<'_>) -> bool {
        (self.name, self.key, self.bs, self.req) == (other.name, other.key, other.bs, other.req)
    }
}

/// Our member of `Signature-Input`, read.
#[derive(Debug)]
pub(crate) struct Input<'a> {
    pub(crate) components: Vec<Component<'a>>,
    /// Unix seconds.
    pub(crate) created_s: u64,
    /// Unix seconds.
    pub(crate) expires_s: u64,
    pub(crate) keyid: &'a str,
    pub(crate) alg: &'a str,
    pub(crate) tag: &'a str,
    pub(crate) nonce: Option<&'a str>,
}

impl<'a> Input<'a> {
    /// Reads `(…);created=…;…` in its canonical text, to the last byte.
    pub(crate) fn parse(text: &'a str) -> Result<Self, String> {
        let mut cursor = Cursor { rest: text };
        let components = cursor.components()?;
        let params = cursor.params()?;
        if !cursor.rest.is_empty() {
            return Err("has something after its parameters".to_owned());
        }
        let needed = |name: &str, value: Option<&'a str>| {
            value.ok_or_else(|| format!("has no `{name}` parameter"))
        };
        Ok(Self {
            components,
            created_s: seconds(needed("created", params.created)?)?,
            expires_s: seconds(needed("expires", params.expires)?)?,
            keyid: needed("keyid", params.keyid)?,
            alg: needed("alg", params.alg)?,
            tag: needed("tag", params.tag)?,
            nonce: params.nonce,
        })
    }

    /// Whether this very component is covered, without further parameters.
    pub(crate) fn covers(&self, name: &str) -> bool {
        self.components
            .iter()
            .any(|c| c.name == name && c.key.is_none() && !c.req)
    }

    /// Whether a dictionary member is covered.
    pub(crate) fn covers_member(&self, name: &str, key: &str, req: bool) -> bool {
        self.components
            .iter()
            .any(|c| c.name == name && c.key == Some(key) && c.req == req)
    }
}

/// The parameters as text; strings without their quotes.
#[derive(Default)]
struct Params<'a> {
    created: Option<&'a str>,
    expires: Option<&'a str>,
    keyid: Option<&'a str>,
    alg: Option<&'a str>,
    tag: Option<&'a str>,
    nonce: Option<&'a str>,
}

struct Cursor<'a> {
    rest: &'a str,
}

impl<'a> Cursor<'a> {
    fn eat(&mut self, prefix: char) -> bool {
        match self.rest.strip_prefix(prefix) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    /// Everything up to the first character that does not belong.
    fn run(&mut self, belongs: impl Fn(char) -> bool) -> &'a str {
        let end = self.rest.find(|c| !belongs(c)).unwrap_or(self.rest.len());
        let (run, rest) = self.rest.split_at_checked(end).unwrap_or((self.rest, ""));
        self.rest = rest;
        run
    }

    /// A string without escapes: neither component names nor our own values need
    /// any.
    fn quoted(&mut self) -> Result<&'a str, String> {
        if !self.eat('"') {
            return Err("has something other than a string where one must stand".to_owned());
        }
        let text = self.run(|c| c != '"' && c != '\\');
        if !self.eat('"') {
            return Err("has a string with an escape or without an end".to_owned());
        }
        Ok(text)
    }

    /// A parameter's name (RFC 9651 §3.1.2).
    fn key(&mut self) -> Result<&'a str, String> {
        let key = self.run(|c| {
            c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '_' | '-' | '.' | '*')
        });
        if key.starts_with(|c: char| c.is_ascii_lowercase() || c == '*') {
            Ok(key)
        } else {
            Err("has a parameter without a name".to_owned())
        }
    }

    fn components(&mut self) -> Result<Vec<Component<'a>>, String> {
        if !self.eat('(') {
            return Err("does not begin with a list of components".to_owned());
        }
        let mut components: Vec<Component<'a>> = Vec::with_capacity(32);
        while !self.eat(')') {
            if !components.is_empty() && !self.eat(' ') {
                return Err("has components that one space does not separate".to_owned());
            }
            if components.len() == COMPONENTS_MAX {
                return Err(format!("covers more than {COMPONENTS_MAX} components"));
            }
            let component = self.component()?;
            // RFC 9421 §2: each component identifier MUST occur only once.
            if components.iter().any(|other| other.same_as(&component)) {
                return Err(format!("covers {} twice", component.identifier));
            }
            components.push(component);
        }
        Ok(components)
    }

    fn component(&mut self) -> Result<Component<'a>, String> {
        let start = self.rest;
        let mut component = Component {
            identifier: "",
            name: self.quoted()?,
            key: None,
            bs: false,
            req: false,
        };
        while self.eat(';') {
            let fresh = match self.key()? {
                "key" if self.eat('=') => component.key.replace(self.quoted()?).is_none(),
                "bs" => !std::mem::replace(&mut component.bs, true),
                "req" => !std::mem::replace(&mut component.req, true),
                other => {
                    return Err(format!(
                        "covers \"{}\" with the parameter `{other}`, which this node does not know",
                        component.name
                    ));
                }
            };
            if !fresh {
                return Err(format!("repeats a parameter of \"{}\"", component.name));
            }
        }
        let length = start.len() - self.rest.len();
        component.identifier = start.get(..length).unwrap_or_default();
        Ok(component)
    }

    fn params(&mut self) -> Result<Params<'a>, String> {
        let mut params = Params::default();
        while self.eat(';') {
            let name = self.key()?;
            // A parameter without a value is a boolean; one we do not know is
            // signed like the others and otherwise ignored.
            let value = if !self.eat('=') {
                ""
            } else if self.rest.starts_with('"') {
                self.quoted()?
            } else {
                self.run(|c| c.is_ascii_graphic() && !matches!(c, ';' | ',' | '"' | '(' | ')'))
            };
            let slot = match name {
                "created" => &mut params.created,
                "expires" => &mut params.expires,
                "keyid" => &mut params.keyid,
                "alg" => &mut params.alg,
                "tag" => &mut params.tag,
                "nonce" => &mut params.nonce,
                _ => continue,
            };
            if slot.replace(value).is_some() {
                return Err(format!("repeats the parameter `{name}`"));
            }
        }
        Ok(params)
    }
}

/// A canonical, non-negative integer of at most fifteen digits.
fn seconds(text: &str) -> Result<u64, String> {
    let canonical = text == "0" || !text.starts_with('0');
    let digits = text.bytes().all(|b| b.is_ascii_digit());
    text.parse()
        .ok()
        .filter(|n| canonical && digits && *n <= sf::INTEGER_MAX)
        .ok_or_else(|| "has a time that is not in Unix seconds".to_owned())
}

/// The two signature fields of one message.
pub(crate) struct SignatureFields<'a> {
    /// Our member of `Signature-Input`, in canonical text.
    pub(crate) input: Cow<'a, str>,
    /// Our member of `Signature`.
    pub(crate) signature: Vec<u8>,
    /// The whole fields, where others signed too.
    inputs: Option<Dictionary>,
    signatures: Option<Dictionary>,
}

impl<'a> SignatureFields<'a> {
    /// # Errors
    /// `Missing` without our member in both, `Malformed` when unreadable.
    pub(crate) fn read(fields: &'a HeaderMap) -> Result<Self, Rejection> {
        let (input, inputs) = ours(fields, &SIGNATURE_INPUT)?;
        let (signature, signatures) = ours(fields, &SIGNATURE)?;
        let signature = signature
            .strip_prefix(':')
            .and_then(|text| text.strip_suffix(':'))
            .and_then(|text| STANDARD.decode(text).ok())
            .filter(|bytes| bytes.len() <= SIGNATURE_BYTES_MAX)
            .ok_or_else(|| {
                Rejection::malformed("Signature: the `tier` member is not a byte sequence")
            })?;
        Ok(Self {
            input,
            signature,
            inputs,
            signatures,
        })
    }

    /// Both fields with their members that are not ours.
    pub(crate) fn foreign_labels(&self) -> impl Iterator<Item = (&'static str, &str)> {
        [
            ("signature-input", &self.inputs),
            ("signature", &self.signatures),
        ]
        .into_iter()
        .flat_map(|(field, dictionary)| {
            dictionary
                .iter()
                .flat_map(|d| d.keys())
                .map(move |label| (field, label.as_str()))
        })
        .filter(|(_, label)| *label != LABEL)
    }

    /// The canonical text of one member of one field.
    pub(crate) fn member(&self, field: &str, label: &str) -> Option<String> {
        let dictionary = match field {
            "signature-input" => &self.inputs,
            "signature" => &self.signatures,
            _ => return None,
        };
        dictionary.as_ref()?.get(label).map(member_text)
    }
}

/// Our member's canonical text, and the whole dictionary where it had to be read.
fn ours<'a>(
    fields: &'a HeaderMap,
    name: &HeaderName,
) -> Result<(Cow<'a, str>, Option<Dictionary>), Rejection> {
    let malformed = |what: &str| Rejection::malformed(format!("{name} {what}"));
    let mut lines = fields.get_all(name).iter();
    let (Some(first), more) = (lines.next(), lines.next().is_some()) else {
        return Err(missing(name));
    };
    let line = first
        .to_str()
        .map_err(|_| malformed("is not visible ASCII"))?;
    if !more
        && let Some(text) = line.strip_prefix("tier=")
        && is_alone(text)
    {
        return Ok((Cow::Borrowed(text), None));
    }
    let text = sf::joined(fields, name)
        .map_err(|()| malformed("is not visible ASCII"))?
        .unwrap_or_default();
    let dictionary = Parser::new(&text)
        .parse::<Dictionary>()
        .map_err(|e| malformed(&format!("is not an RFC 9651 dictionary ({e})")))?;
    let member = dictionary.get(LABEL).ok_or_else(|| missing(name))?;
    Ok((Cow::Owned(member_text(member)), Some(dictionary)))
}

/// Whether a text after `tier=` is this one member, spelled canonically. A comma
/// may begin another member; the pairs are the optional white space of RFC 9651.
fn is_alone(text: &str) -> bool {
    match text.strip_prefix(':') {
        Some(bytes) => bytes
            .strip_suffix(':')
            .is_some_and(|inner| !inner.contains([':', ','])),
        None => {
            text.starts_with('(')
                && !text.contains(',')
                && !text.ends_with(' ')
                && !["  ", "( ", " )", "; "]
                    .iter()
                    .any(|pair| text.contains(pair))
        }
    }
}

fn missing(name: &HeaderName) -> Rejection {
    Rejection::missing(format!(
        "{name} has no member `tier`: the sender did not sign, or something between the tiers removed it"
    ))
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    const TAIL: &str = r#";created=5;expires=9;keyid="k";alg="a";tag="t""#;

    #[test]
    fn reads_components_and_parameters() {
        let text =
            format!(r#"("@path" "a";bs "signature";req;key="tier"){TAIL};nonce="n";later=1;on"#);
        let input = Input::parse(&text).unwrap();
        let identifiers: Vec<_> = input.components.iter().map(|c| c.identifier).collect();
        assert_eq!(
            identifiers,
            [r#""@path""#, r#""a";bs"#, r#""signature";req;key="tier""#]
        );
        assert_eq!((input.created_s, input.expires_s), (5, 9));
        assert_eq!((input.keyid, input.alg, input.tag), ("k", "a", "t"));
        assert_eq!(input.nonce, Some("n"));
        assert!(input.covers("a") && !input.covers("signature"));
        assert!(input.covers_member("signature", "tier", true));
        assert!(!input.covers_member("signature", "tier", false));
    }

    #[test]
    fn table_of_texts_that_are_not_canonical() {
        for text in [
            "",
            "(",
            "()",
            "1",
            r#"("a""#,
            r#"("a""b")"#,
            r#"("a"  "b")"#,
            r#"( "a")"#,
            r#"("a" )"#,
            r#"("a\"")"#,
            r#"("a";)"#,
            r#"("a";KEY="x")"#,
            r#"("a";key=x)"#,
            r#"("a";bs;bs)"#,
            r#"("a";bs=?1)"#,
            r#"("a" "a")"#,
            r#"("a";req;key="x" "a";key="x";req)"#,
            "(a)",
        ] {
            assert!(
                Input::parse(&format!("{text}{TAIL}")).is_err() || text == "()",
                "{text}"
            );
        }
        for tail in [
            "",
            r#";created=5;expires=9;keyid="k";alg="a""#,
            r#";created=05;expires=9;keyid="k";alg="a";tag="t""#,
            r#";created=+5;expires=9;keyid="k";alg="a";tag="t""#,
            r#";created=-5;expires=9;keyid="k";alg="a";tag="t""#,
            r#";created;expires=9;keyid="k";alg="a";tag="t""#,
            r#";created=5;expires=1000000000000000;keyid="k";alg="a";tag="t""#,
            r#";created=5;created=5;expires=9;keyid="k";alg="a";tag="t""#,
            r#"; created=5;expires=9;keyid="k";alg="a";tag="t""#,
            r#";created=5;expires=9;keyid="k\"";alg="a";tag="t""#,
            r#";created=5;expires=9;keyid="k";alg="a";tag="t" "#,
            r#";created=5;expires=9;keyid="k";alg="a";tag="t", x=1"#,
            r#";created=5;expires=9;keyid="k";alg="a";tag="t"#,
        ] {
            assert!(Input::parse(&format!("(){tail}")).is_err(), "{tail}");
        }
    }

    #[test]
    fn the_number_of_components_is_bounded() {
        for (count, good) in [(COMPONENTS_MAX, true), (COMPONENTS_MAX + 1, false)] {
            let names: Vec<_> = (0..count).map(|n| format!("\"x{n}\"")).collect();
            let text = format!("({}){TAIL}", names.join(" "));
            assert_eq!(Input::parse(&text).is_ok(), good, "{count}");
        }
    }

    proptest! {
        /// What our parser takes as it stands, `sfv` reads as the same thing: the
        /// text is its own canonical form.
        #[test]
        fn whatever_is_accepted_is_canonical(pieces in vec(prop::sample::select(vec![
            "(", ")", " ", "\"a\"", "\"@path\"", "\"", ";", "bs", ";bs", ";req", ";key=\"k\"",
            ";created=1", ";created=01", ";expires=2", ";keyid=\"k\"", ";alg=\"a\"", ";tag=\"t\"",
            ";nonce=\"\"", ";x", "=1", "é", "\\", ",", ":", "=",
        ]), 0..14), tail in any::<bool>()) {
            let text = pieces.concat() + if tail { TAIL } else { "" };
            let known = ["created", "expires", "keyid", "alg", "tag", "nonce"];
            if Input::parse(&text).is_ok() && !text.contains(";x") {
                let field = format!("tier={text}");
                let dictionary: Dictionary = Parser::new(&field).parse().unwrap();
                let entry = dictionary.get(LABEL).unwrap();
                prop_assert_eq!(member_text(entry), text.clone());
                prop_assert!(known.iter().any(|name| text.contains(name)));
            }
        }
    }
}
