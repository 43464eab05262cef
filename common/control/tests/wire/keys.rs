//! Key files: what is accepted, what is refused with which mend.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use control::{Algorithm, GenerateError, HMAC_SECRET_BYTES_MIN, KeyError, Keyring, generate};

use crate::bed::{hmac_line, ring};

#[test]
fn what_keygen_writes_is_read_back() {
    for algorithm in [Algorithm::HmacSha256, Algorithm::Ed25519] {
        assert_eq!(Algorithm::parse(algorithm.as_str()), Some(algorithm));
        let generated = generate(algorithm, "edge-1", "edge-1-2027").unwrap();
        let private = ring(&generated.private_line);
        let key = private.find("edge-1-2027").unwrap();
        assert_eq!((key.node(), key.algorithm()), ("edge-1", algorithm));
        assert!(key.can_sign());
        assert_eq!(
            generated.public_line.is_some(),
            algorithm == Algorithm::Ed25519
        );
        if let Some(line) = &generated.public_line {
            let public = ring(line);
            assert!(!public.find("edge-1-2027").unwrap().can_sign());
            assert!(public.signing("edge-1").is_none());
        }
        let shown = format!("{generated:?}");
        assert!(!shown.contains(generated.private_line.rsplit(' ').next().unwrap()));
        assert_ne!(
            generate(algorithm, "edge-1", "edge-1-2027").unwrap(),
            generated
        );
    }
}

#[test]
fn names_that_a_key_file_cannot_hold_are_not_generated() {
    for name in [
        "",
        "two words",
        "größe",
        "quo\"te",
        "back\\slash",
        "#comment",
        &"x".repeat(129),
    ] {
        for (node, keyid) in [(name, "k"), ("n", name)] {
            assert!(matches!(
                generate(Algorithm::HmacSha256, node, keyid),
                Err(GenerateError::Name(_))
            ));
        }
    }
}

#[test]
fn the_first_line_that_can_sign_signs_and_all_are_found() {
    let public = generate(Algorithm::Ed25519, "edge-1", "p")
        .unwrap()
        .public_line
        .unwrap();
    let text = format!(
        "# keys of edge-1\r\n\n   {public}\n{}\t{}{}",
        hmac_line("edge-1", "b", 1),
        hmac_line("edge-1", "a", 2),
        hmac_line("edge-2", "c", 3),
    );
    let ring = ring(&text);
    assert_eq!(ring.signing("edge-1").unwrap().keyid(), "b");
    assert_eq!(ring.signing("edge-2").unwrap().keyid(), "c");
    for keyid in ["p", "a", "b", "c"] {
        assert_eq!(ring.find(keyid).unwrap().keyid(), keyid);
    }
    assert!(ring.find("d").is_none());
    assert!(ring.signing("edge-3").is_none());
    assert!(!ring.is_empty());
    assert!(Keyring::parse([]).unwrap().is_empty());
}

#[test]
fn a_secret_of_the_least_length_is_enough() {
    for (length, good) in [
        (HMAC_SECRET_BYTES_MIN, true),
        (HMAC_SECRET_BYTES_MIN - 1, false),
        (200, true),
    ] {
        let line = format!("hmac-sha256 n k {}", STANDARD.encode(vec![1; length]));
        assert_eq!(
            Keyring::parse([("f", line.as_str())]).is_ok(),
            good,
            "{length}"
        );
    }
}

#[test]
fn every_error_names_its_place_and_its_mend() {
    let secret = STANDARD.encode([9; 40]);
    let table = [
        (String::new(), None, "holds no key"),
        ("# nothing\n\n".into(), None, "holds no key"),
        (
            format!("\nhmac-sha256 n k {secret} more"),
            Some(2),
            "four words",
        ),
        ("hmac-sha256 n k".into(), Some(1), "four words"),
        (format!("rsa n k {secret}"), Some(1), "algorithm"),
        (
            format!("hmac-sha256 n\u{e9} k {secret}"),
            Some(1),
            "node is not a name",
        ),
        (
            format!("hmac-sha256 n k\" {secret}"),
            Some(1),
            "keyid is not a name",
        ),
        (format!("hmac-sha256 n k {secret}!"), Some(1), "not base64"),
        (
            format!("hmac-sha256 n k {}", &secret[..20]),
            Some(1),
            "of at least 32",
        ),
        (format!("ed25519 n k {secret}"), Some(1), "PKCS#8"),
        (
            format!("ed25519-public n k {secret}"),
            Some(1),
            "40 bytes instead of 32",
        ),
        (
            hmac_line("n", "k", 1) + &hmac_line("m", "k", 2),
            Some(2),
            "there already",
        ),
    ];
    for (text, line, what) in table {
        let errors = Keyring::parse([("keys.txt", text.as_str())]).unwrap_err();
        let [error] = errors.as_slice() else {
            panic!("{text}: {errors:?}")
        };
        assert_eq!(error.line, line, "{text}");
        assert!(error.what.contains(what), "{text}: {error}");
        assert!(!error.mend.is_empty());
        let place = line.map_or("keys.txt: ".into(), |n| format!("keys.txt:{n}: "));
        assert!(error.to_string().starts_with(&place), "{error}");
        assert!(!format!("{error:?}").contains(&secret[..16]), "{error}");
    }
}

#[test]
fn all_errors_of_all_texts_are_reported_at_once() {
    let good = hmac_line("n", "k", 1);
    let errors = Keyring::parse([
        ("a", "x\ny\n"),
        ("b", ""),
        ("c", good.as_str()),
        ("d", good.as_str()),
    ])
    .unwrap_err();
    let places: Vec<_> = errors
        .iter()
        .map(|KeyError { source, line, .. }| (source.as_str(), *line))
        .collect();
    assert_eq!(
        places,
        [("a", Some(1)), ("a", Some(2)), ("b", None), ("d", Some(1))]
    );
}

#[test]
fn a_private_key_as_openssl_writes_it_is_read() {
    // PKCS#8 version 1: the prefix of RFC 8410 §7 and the 32 bytes of a seed.
    let mut pkcs8 = vec![
        0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04,
        0x20,
    ];
    pkcs8.extend([5; 32]);
    let ring = ring(&format!("ed25519 n k {}", STANDARD.encode(pkcs8)));
    assert!(ring.signing("n").is_some());
}
