//! The small languages inside the quotes: names, sizes, URLs. Hosts and
//! addresses have a room of their own next door.
//!
//! Pure functions from text to a value or a [`Fault`]. Each says what is wrong
//! with this very text, because "invalid host" mends nothing.

use http::Uri;

/// What is wrong with a text, and the mend.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Fault {
    pub(crate) what: String,
    pub(crate) mend: String,
}

pub(crate) fn fault<T>(what: impl Into<String>, mend: impl Into<String>) -> Result<T, Fault> {
    Err(Fault {
        what: what.into(),
        mend: mend.into(),
    })
}

const NAME_BYTES_MAX: usize = 64;

/// A name of ours: an RFC 9110 §5.6.2 token, since it stands as such in `Via`.
pub(crate) fn name(text: &str) -> Result<String, Fault> {
    if is_token(text) && text.len() <= NAME_BYTES_MAX {
        return Ok(text.to_owned());
    }
    fault(
        format!("{} is no name", shown(text)),
        format!("use 1 to {NAME_BYTES_MAX} letters, digits, `-`, `_` or `.`"),
    )
}

/// RFC 9110 §5.6.2.
pub(crate) fn is_token(text: &str) -> bool {
    !text.is_empty()
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b))
}

/// A name of a cookie or request field.
pub(crate) fn token(text: &str) -> Result<String, Fault> {
    if is_token(text) {
        return Ok(text.to_owned());
    }
    fault(
        format!("{} is no cookie name", shown(text)),
        "write the bare name, without `=` or spaces",
    )
}

/// A collector's URL.
pub(crate) fn endpoint(text: &str) -> Result<String, Fault> {
    let good = text.parse::<Uri>().is_ok_and(|uri| {
        let scheme = uri.scheme_str();
        let authority = uri.authority().map(http::uri::Authority::as_str);
        matches!(scheme, Some("http" | "https"))
            && authority.is_some_and(|authority| !authority.contains('@'))
            && uri.host().is_some_and(|host| !host.is_empty())
            && uri.query().is_none()
    });
    if good {
        return Ok(text.to_owned());
    }
    fault(
        format!("{} is no collector's URL", shown(text)),
        "write `http://127.0.0.1:4318`",
    )
}

const UNITS: [(&str, u64); 7] = [
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("KB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("B", 1),
];

/// `64MiB` in bytes.
pub(crate) fn size(text: &str) -> Result<u64, Fault> {
    let unit = UNITS
        .iter()
        .find_map(|(unit, bytes)| Some((text.strip_suffix(unit)?, *bytes)));
    let (digits, bytes) = unit.unwrap_or((text, 1));
    let digits = digits.trim_end();
    let number = digits.bytes().all(|b| b.is_ascii_digit());
    let number = digits.parse::<u64>().ok().filter(|_| number);
    if let Some(size) = number.and_then(|number| number.checked_mul(bytes)) {
        return Ok(size);
    }
    fault(
        format!("{} is no size", shown(text)),
        "write a whole number with KiB, MiB, GiB, KB, MB or GB",
    )
}

/// Bytes as an operator would write them.
pub(crate) fn size_text(bytes: u64) -> String {
    for (unit, size) in [("GiB", 1u64 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)] {
        if bytes >= size && bytes.is_multiple_of(size) {
            return format!("{}{unit}", bytes / size);
        }
    }
    format!("{bytes}B")
}

/// A text in backticks, safe to print on one line of a terminal.
pub(crate) fn shown(text: &str) -> String {
    format!("`{}`", clipped(text))
}

/// Escaped, and cut where it is too long to help.
pub(crate) fn clipped(text: &str) -> String {
    const SHOWN_CHARS_MAX: usize = 60;
    let mut start: String = text.chars().take(SHOWN_CHARS_MAX).collect();
    if start.len() < text.len() {
        start.push('…');
    }
    start.escape_debug().to_string()
}

/// The candidate that was probably meant.
pub(crate) fn nearest<'a>(
    word: &str,
    candidates: impl Iterator<Item = &'a str>,
) -> Option<&'a str> {
    // Nobody misspells at such length, and the distance is quadratic.
    const WORD_BYTES_MAX: usize = 64;
    if word.len() > WORD_BYTES_MAX {
        return None;
    }
    let slips_max = (word.len() / 3).clamp(1, 3);
    candidates
        .map(|candidate| (distance(word, candidate), candidate))
        .filter(|(slips, candidate)| *slips <= slips_max && *slips < candidate.len())
        .min()
        .map(|(_, candidate)| candidate)
}

/// How many letters must be added, removed, changed or swapped with their
/// neighbour (the restricted Damerau-Levenshtein distance).
fn distance(a: &str, b: &str) -> usize {
    let a: Vec<char> = a.chars().collect();
    let b: Vec<char> = b.chars().collect();
    let width = b.len() + 1;
    // `cell(i, j)` is the distance between the first `i` and the first `j` letters.
    let mut cells: Vec<usize> = (0..width).collect();
    let cell = |cells: &[usize], i: usize, j: usize| {
        let found = cells.get(i * width + j);
        found.copied().expect("rows are filled from the top left")
    };
    for (i, letter) in a.iter().enumerate() {
        cells.push(i + 1);
        for (j, other) in b.iter().enumerate() {
            let change = cell(&cells, i, j) + usize::from(letter != other);
            let remove = cell(&cells, i, j + 1) + 1;
            let add = cell(&cells, i + 1, j) + 1;
            let swapped =
                i > 0 && j > 0 && a.get(i - 1) == Some(other) && b.get(j - 1) == Some(letter);
            let swap = if swapped {
                cell(&cells, i - 1, j - 1) + 1
            } else {
                change
            };
            cells.push(change.min(remove).min(add).min(swap));
        }
    }
    cell(&cells, a.len(), b.len())
}

/// FNV-1a, 64 bits: stable over builds and machines, which `std`'s hasher is
/// not promised to be. It tells revisions apart; it protects nothing.
pub(crate) fn digest(text: &str) -> String {
    let hash = text.bytes().fold(0xcbf2_9ce4_8422_2325u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    format!("{hash:016x}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        let table = [
            ("0", Some(0)),
            ("1", Some(1)),
            ("512B", Some(512)),
            ("1KiB", Some(1024)),
            ("1KB", Some(1000)),
            ("256 MiB", Some(256 << 20)),
            ("3MB", Some(3_000_000)),
            ("1GiB", Some(1 << 30)),
            ("2GB", Some(2_000_000_000)),
            ("18446744073709551615", Some(u64::MAX)),
            ("18446744073709551616", None),
            ("18014398509481984KiB", None),
            ("17179869183GiB", Some(17_179_869_183 << 30)),
            ("17179869184GiB", None),
            ("", None),
            ("MiB", None),
            ("-1", None),
            ("+1", None),
            ("1.5MiB", None),
            ("1mib", None),
            ("1 000", None),
            ("1TiB", None),
        ];
        for (text, bytes) in table {
            assert_eq!(size(text).ok(), bytes, "{text:?}");
        }
    }

    #[test]
    fn a_size_reads_back_as_it_was() {
        for bytes in [0, 1, 1023, 1024, 1025, 1 << 20, 3 << 20, 1 << 30, 5 << 30] {
            assert_eq!(size(&size_text(bytes)), Ok(bytes));
        }
    }

    #[test]
    fn names() {
        let longest = "n".repeat(NAME_BYTES_MAX);
        for good in ["a", "edge-1", "a.b_c", longest.as_str()] {
            assert!(name(good).is_ok(), "{good:?}");
        }
        let too_long = "n".repeat(NAME_BYTES_MAX + 1);
        for bad in ["", "a b", "a/b", "ä", "a\n", "\"", too_long.as_str()] {
            assert!(name(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn collectors() {
        for good in [
            "http://127.0.0.1:4318",
            "https://c.example/otlp",
            "http://[::1]:4318/",
        ] {
            assert!(endpoint(good).is_ok(), "{good:?}");
        }
        for bad in [
            "",
            "127.0.0.1:4318",
            "grpc://c.example",
            "http://",
            "http:///path",
            "http://user:word@c.example",
            "http://c.example/?q",
            "/path",
        ] {
            assert!(endpoint(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn what_was_probably_meant() {
        let keys = ["name", "sites", "listen", "keepalive_ms", "key"];
        let table = [
            ("nmae", Some("name")),
            ("site", Some("sites")),
            ("listens", Some("listen")),
            ("keepalive", Some("keepalive_ms")),
            ("keys", Some("key")),
            ("kye", Some("key")),
            ("address", None),
            ("x", None),
            ("", None),
        ];
        for (word, meant) in table {
            assert_eq!(nearest(word, keys.into_iter()), meant, "{word:?}");
        }
        assert_eq!(nearest(&"name".repeat(1000), keys.into_iter()), None);
    }

    #[test]
    fn the_digest_is_fnv_1a() {
        // From the published test vectors of FNV-1a, 64 bits.
        let table = [
            ("", "cbf29ce484222325"),
            ("a", "af63dc4c8601ec8c"),
            ("foobar", "85944171f73967e8"),
        ];
        for (text, hash) in table {
            assert_eq!(digest(text), hash, "{text:?}");
        }
    }

    #[test]
    fn what_is_shown_fits_one_line() {
        assert_eq!(shown("a\nb\u{1b}[31m"), "`a\\nb\\u{1b}[31m`");
        assert_eq!(shown(&"ä".repeat(100)), format!("`{}…`", "ä".repeat(60)));
    }
}
