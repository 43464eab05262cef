//! Visitors and origins sign too. Their signatures pass through, under ours.

use control::{Reason, seal};
use http::HeaderValue;

use crate::bed::{NOW_MS, Wire, block, edge_ring, outgoing, signing_key};

fn sealed_with(lines: &[(&'static str, &'static str)]) -> Wire {
    let mut before = outgoing();
    for (name, value) in lines {
        before.fields.append(*name, HeaderValue::from_static(value));
    }
    let key = signing_key(&edge_ring(), "edge-1");
    Wire::of(&seal(before, &block(), &key, None, NOW_MS).unwrap())
}

fn reason(wire: &Wire) -> Option<Reason> {
    wire.verify(&edge_ring(), NOW_MS).err().map(|r| r.reason)
}

const VISITOR: [(&str, &str); 2] = [
    ("signature", "sig1=:AA==:, sig2=:AQ==:"),
    ("signature-input", "sig1=(\"@path\");created=1, sig2=()"),
];

#[test]
fn they_pass_through_and_are_covered_member_by_member() {
    let wire = sealed_with(&VISITOR);
    assert_eq!(reason(&wire), None);
    for (name, value) in VISITOR {
        let lines: Vec<_> = wire.fields.get_all(name).iter().collect();
        assert_eq!(lines.first().unwrap(), &value);
        assert_eq!(lines.len(), 2);
    }
    let input = wire
        .fields
        .get_all("signature-input")
        .iter()
        .nth(1)
        .unwrap();
    assert!(input.to_str().unwrap().contains(
        "\"signature\";key=\"sig1\" \"signature\";key=\"sig2\" \"signature-input\";key=\"sig1\""
    ));
}

#[test]
fn they_can_be_neither_altered_nor_removed_nor_joined_by_others() {
    let alter = |name: &'static str, line: usize, change: fn(&str) -> String| {
        let mut wire = sealed_with(&VISITOR);
        let lines: Vec<String> = wire
            .fields
            .get_all(name)
            .iter()
            .map(|value| value.to_str().unwrap().to_owned())
            .collect();
        wire.fields.remove(name);
        for (at, text) in lines.iter().enumerate() {
            let text = if at == line {
                change(text)
            } else {
                text.clone()
            };
            wire.fields.append(name, text.parse().unwrap());
        }
        reason(&wire)
    };
    let signature = "signature";
    assert_eq!(
        alter(signature, 0, |t| t.replace("AQ==", "Ag==")),
        Some(Reason::BadSignature)
    );
    assert_eq!(
        alter(signature, 0, |t| t.replace(", sig2=:AQ==:", "")),
        Some(Reason::Mismatch)
    );
    assert_eq!(
        alter(signature, 0, |t| format!("{t}, sig3=::")),
        Some(Reason::Mismatch)
    );
    assert_eq!(
        alter("signature-input", 0, |t| t.replace("=1", "=2")),
        Some(Reason::BadSignature)
    );
    // The order of members and white space mean nothing (RFC 9651 §3.2).
    assert_eq!(
        alter(signature, 0, |_| "sig2=:AQ==:   ,  sig1=:AA==:".into()),
        None
    );
}

#[test]
fn a_visitor_cannot_make_our_signature_unreadable() {
    for (name, value) in [
        ("signature", "=?!"),
        ("signature", ""),
        ("signature", "sig1=:not base64"),
        ("signature-input", "sig1=("),
        ("signature-input", "tier=(\"unfinished"),
        ("signature", "tier=:AA==:"),
    ] {
        let wire = sealed_with(&[(name, value)]);
        assert_eq!(reason(&wire), None, "{name}: {value}");
        assert_eq!(
            wire.fields.get_all(name).iter().count(),
            1,
            "{name}: {value}"
        );
    }
}
