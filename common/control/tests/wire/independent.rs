//! A second reading of RFC 9421, which shares no code with the first: slow, plain,
//! and written from the text of the standard. Whatever we sign must satisfy it.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use control::{seal, sign_response};
use http::{HeaderMap, StatusCode};
use ring::{hmac, signature};
use sfv::{BareItem, Dictionary, Item, ListEntry, Parser};

use crate::bed::{NOW_MS, Wire, block, edge_ring, fields, outgoing, result, signing_key};

/// A message as §2 sees it.
struct Message<'a> {
    derived: BTreeMap<&'static str, String>,
    fields: &'a HeaderMap,
    request: Option<&'a Message<'a>>,
}

fn combined(fields: &HeaderMap, name: &str) -> String {
    let lines: Vec<String> = fields
        .get_all(name)
        .iter()
        .map(|line| line.to_str().unwrap().trim().to_owned())
        .collect();
    lines.join(", ")
}

fn dictionary(fields: &HeaderMap, name: &str) -> Dictionary {
    Parser::new(&combined(fields, name)).parse().unwrap()
}

fn serialized(entry: &ListEntry) -> String {
    let mut out = sfv::ListSerializer::new();
    out.members([entry]);
    out.finish().unwrap()
}

impl Message<'_> {
    /// §2.1 to §2.4.
    fn component(&self, item: &Item) -> String {
        let name = item.bare_item.as_string().unwrap().as_str();
        if item.params.contains_key("req") {
            let mut rest = item.clone();
            rest.params.shift_remove("req");
            return self.request.unwrap().component(&rest);
        }
        if let Some(key) = item.params.get("key") {
            let key = key.as_string().unwrap().as_str();
            return serialized(&dictionary(self.fields, name)[key]);
        }
        if item.params.contains_key("bs") {
            let lines: Vec<String> = self
                .fields
                .get_all(name)
                .iter()
                .map(|line| format!(":{}:", STANDARD.encode(line.as_bytes().trim_ascii())))
                .collect();
            return lines.join(", ");
        }
        if name.starts_with('@') {
            return self.derived[name].clone();
        }
        assert!(self.fields.contains_key(name), "{name}");
        combined(self.fields, name)
    }

    /// §2.5 and §3.2: the base and the signature over it.
    fn base_and_signature(&self) -> (String, Vec<u8>) {
        let input = dictionary(self.fields, "signature-input");
        let ListEntry::InnerList(list) = &input["tier"] else {
            panic!("not an inner list")
        };
        let mut base = String::new();
        for item in &list.items {
            let identifier = serialized(&ListEntry::Item(item.clone()));
            base += &format!("{identifier}: {}\n", self.component(item));
        }
        base += "\"@signature-params\": ";
        base += &serialized(&input["tier"]);
        let signatures = dictionary(self.fields, "signature");
        let ListEntry::Item(Item {
            bare_item: BareItem::ByteSequence(bytes),
            ..
        }) = &signatures["tier"]
        else {
            panic!("not a byte sequence")
        };
        (base, bytes.clone())
    }
}

fn request_message(wire: &Wire) -> Message<'_> {
    let (path, query) = wire.path_and_query.split_once('?').unwrap();
    Message {
        derived: BTreeMap::from([
            ("@method", wire.method.to_string()),
            ("@authority", wire.authority.to_lowercase()),
            ("@path", path.to_owned()),
            ("@query", format!("?{query}")),
        ]),
        fields: &wire.fields,
        request: None,
    }
}

fn answer_fields() -> HeaderMap {
    fields(&[
        ("cache-control", b"max-age=60"),
        ("etag", b"W/\"1\""),
        ("set-cookie", b"a=b; Expires=Wed, 09 Jun 2027 10:18:14 GMT"),
        ("set-cookie", b"c=d"),
        ("signature", b"other=:AAAA:"),
        ("signature-input", b"other=( \"etag\"  );created=1"),
    ])
}

#[test]
fn a_verifier_of_another_hand_accepts_our_hmac_signatures() {
    let edge = edge_ring();
    let key = signing_key(&edge, "edge-1");
    let mut before = outgoing();
    before
        .fields
        .insert("signature", "visitor=:AAAA:;x=1".parse().unwrap());
    let sealed = seal(before, &block(), &key, Some([7; 16]), NOW_MS).unwrap();
    let wire = Wire::of(&sealed);
    let secret = hmac::Key::new(hmac::HMAC_SHA256, &[1; 32]);

    let request = request_message(&wire);
    let (base, bytes) = request.base_and_signature();
    hmac::verify(&secret, base.as_bytes(), &bytes).unwrap();

    let verified = wire.verify(&edge, NOW_MS).unwrap();
    let mut fields = answer_fields();
    sign_response(
        StatusCode::OK,
        &mut fields,
        &result(),
        &verified,
        None,
        NOW_MS,
    )
    .unwrap();
    let answer = Message {
        derived: BTreeMap::from([("@status", "200".to_owned())]),
        fields: &fields,
        request: Some(&request),
    };
    let (base, bytes) = answer.base_and_signature();
    hmac::verify(&secret, base.as_bytes(), &bytes).unwrap();
}

#[test]
fn a_verifier_of_another_hand_accepts_our_ed25519_signatures() {
    let generated = control::generate(control::Algorithm::Ed25519, "edge-1", "k").unwrap();
    let key = signing_key(&crate::bed::ring(&generated.private_line), "edge-1");
    let sealed = seal(outgoing(), &block(), &key, None, NOW_MS).unwrap();
    let wire = Wire::of(&sealed);
    let (base, bytes) = request_message(&wire).base_and_signature();
    let line = generated.public_line.unwrap();
    let public = STANDARD.decode(line.rsplit(' ').next().unwrap()).unwrap();
    signature::UnparsedPublicKey::new(&signature::ED25519, public)
        .verify(base.as_bytes(), &bytes)
        .unwrap();
}

#[test]
fn a_signer_of_another_hand_is_accepted_by_us() {
    // Its parameters come in another order, its list has other white space, and
    // its member shares the field with another one.
    let edge = edge_ring();
    let secret = hmac::Key::new(hmac::HMAC_SHA256, &[1; 32]);
    let sealed = seal(
        outgoing(),
        &block(),
        &signing_key(&edge, "edge-1"),
        None,
        NOW_MS,
    )
    .unwrap();
    let mut wire = Wire::of(&sealed);
    wire.fields = fields(&[("accept", b"a"), ("accept", b"b")]);
    wire.fields
        .insert("tier-control", sealed.fields()["tier-control"].clone());
    for (input, good) in [
        (
            r#"tier=(  "tier-control" "accept"  "@query" "@path" "@authority" "@method" ); tag="headwater-request";alg="hmac-sha256";keyid="edge-1-a"; expires=1800000030;created=1800000000"#,
            true,
        ),
        (
            r#"x=("signature";key="x"), tier=("@method" "@authority" "@path" "@query" "tier-control" "accept" "signature-input";key="x" "signature";key="x");created=1800000000;expires=1800000010;keyid="edge-1-a";alg="hmac-sha256";tag="headwater-request";later"#,
            true,
        ),
        (
            r#"tier=1, tier=("@method" "@authority" "@path" "@query" "tier-control" "accept");created=1800000000;expires=1800000010;keyid="edge-1-a";alg="hmac-sha256";tag="headwater-request""#,
            true,
        ),
        (
            r#"tier=("@method" "@authority" "@path" "@query" "tier-control" "accept");created=1800000000;expires=1800000010;keyid="edge-1-a";alg="hmac-sha256";tag="other""#,
            false,
        ),
    ] {
        wire.fields
            .insert("signature-input", input.parse().unwrap());
        let others = if input.starts_with("x=") {
            "x=:AAAA:, "
        } else {
            ""
        };
        wire.fields
            .insert("signature", format!("{others}tier=::").parse().unwrap());
        let (base, _) = request_message(&wire).base_and_signature();
        let signature = STANDARD.encode(hmac::sign(&secret, base.as_bytes()));
        wire.fields.insert(
            "signature",
            format!("{others}tier=:{signature}:").parse().unwrap(),
        );
        let answer = wire.verify(&edge, NOW_MS);
        assert_eq!(answer.is_ok(), good, "{input}: {answer:?}");
    }
}
