//! The small languages inside the quotes: names, hosts, addresses, sizes.
//!
//! Pure functions from text to a value or a [`Fault`]. Each says what is wrong
//! with this very text, because "invalid host" mends nothing.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use http::Uri;
use ipnet::IpNet;

use crate::model::{HostPattern, HostPort};

/// What is wrong with a text, and the mend.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Fault {
    pub(crate) what: String,
    pub(crate) mend: String,
}

fn fault<T>(what: impl Into<String>, mend: impl Into<String>) -> Result<T, Fault> {
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

/// `shop.example`, `*.shop.example` or `*`, in any case.
pub(crate) fn host_pattern(text: &str) -> Result<HostPattern, Fault> {
    if text == "*" {
        return Ok(HostPattern::Any);
    }
    let (rest, below) = match text.strip_prefix("*.") {
        Some(rest) => (rest, true),
        None => (text, false),
    };
    if rest.contains('*') {
        return fault(
            format!("{} has a wildcard inside", shown(text)),
            "a wildcard may only be `*` alone or a leading `*.`",
        );
    }
    let host = host(rest)?;
    if !below {
        return Ok(HostPattern::Exact(host));
    }
    if host.parse::<IpAddr>().is_ok() {
        return fault(
            format!("{} is a wildcard over an address", shown(text)),
            "write the address alone",
        );
    }
    Ok(HostPattern::Suffix(host))
}

/// A host name or address literal without a port, lowered; IPv6 may have
/// brackets, which are removed.
pub(crate) fn host(text: &str) -> Result<String, Fault> {
    let mend = "write a host name such as `shop.example`";
    if text.is_empty() {
        return fault("is empty", mend);
    }
    if text.contains("://") {
        return fault(
            format!("{} has a scheme", shown(text)),
            "write the host alone, without `http://`",
        );
    }
    if text.contains('/') {
        return fault(
            format!("{} has a path", shown(text)),
            "write the host alone",
        );
    }
    let unbracketed = text
        .strip_prefix('[')
        .and_then(|text| text.strip_suffix(']'));
    if let Ok(address) = unbracketed.unwrap_or(text).parse::<Ipv6Addr>() {
        return Ok(address.to_string());
    }
    if text.contains(':') {
        return fault(
            format!("{} has a port", shown(text)),
            "write the host alone, without `:port`",
        );
    }
    if !text.is_ascii() {
        return fault(
            format!("{} is not ASCII", shown(text)),
            "write the name in its `xn--` form",
        );
    }
    if text.ends_with('.') {
        return fault(
            format!("{} ends with a dot", shown(text)),
            "write it without the last dot",
        );
    }
    if text.len() > 253 || !text.split('.').all(is_label) {
        return fault(format!("{} is no host name", shown(text)), mend);
    }
    Ok(text.to_ascii_lowercase())
}

/// RFC 1123 §2.1, with the underscore that names in the wild contain.
fn is_label(label: &str) -> bool {
    (1..=63).contains(&label.len())
        && !label.starts_with('-')
        && !label.ends_with('-')
        && label
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
}

/// `host:port`, where both must be there.
pub(crate) fn host_port(text: &str) -> Result<HostPort, Fault> {
    let mend = "write `host:port`, such as `10.0.0.7:8000`";
    if text.contains("://") || text.contains('/') {
        return fault(format!("{} is a URL", shown(text)), mend);
    }
    // Without brackets nobody can tell an IPv6 address from its port.
    let bare_ipv6 = text.parse::<Ipv6Addr>().is_ok();
    let Some((name, port)) = text.rsplit_once(':').filter(|_| !bare_ipv6) else {
        return fault(format!("{} has no port", shown(text)), mend);
    };
    if name.contains(':') && !name.starts_with('[') {
        return fault(
            format!("{} is ambiguous", shown(text)),
            "put an IPv6 address into brackets: `[::1]:8000`",
        );
    }
    let digits = !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit());
    let port = port.parse::<u16>().ok().filter(|port| digits && *port > 0);
    let Some(port) = port else {
        return fault(format!("{} has no port from 1 to 65535", shown(text)), mend);
    };
    Ok(HostPort {
        host: host(name)?,
        port,
    })
}

/// The value of a `Host` field: a host, with a port where it is not the scheme's.
pub(crate) fn host_header(text: &str) -> Result<String, Fault> {
    if let Ok(with_port) = host_port(text) {
        return Ok(with_port.to_string());
    }
    let host = host(text)?;
    if host.contains(':') {
        Ok(format!("[{host}]"))
    } else {
        Ok(host)
    }
}

/// An address to listen on. Names are refused: what they mean may change.
pub(crate) fn listen_address(text: &str) -> Result<SocketAddr, Fault> {
    text.parse().or_else(|_| {
        fault(
            format!("{} is no address with a port", shown(text)),
            "write `127.0.0.1:8081`, `0.0.0.0:8081` or `[::]:8081`",
        )
    })
}

/// A network, or a single address.
pub(crate) fn network(text: &str) -> Result<IpNet, Fault> {
    if let Ok(address) = text.parse::<IpAddr>() {
        return Ok(IpNet::from(address));
    }
    let Ok(network) = text.parse::<IpNet>() else {
        return fault(
            format!("{} is no network", shown(text)),
            "write `10.0.0.0/8`, or one address",
        );
    };
    // `10.1.2.3/8` trusts 16 million addresses where one was meant, or the reverse.
    if network.trunc() != network {
        return fault(
            format!("{} has bits beyond its prefix", shown(text)),
            format!("write `{}` or `{}`", network.trunc(), network.addr()),
        );
    }
    Ok(network)
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

/// How many letters must be added, removed or changed (Levenshtein).
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (at, letter) in a.chars().enumerate() {
        let mut next = vec![at + 1];
        for (other, above) in b.iter().zip(row.windows(2)) {
            let [diagonal, up] = above else { continue };
            let left = next.last().copied().unwrap_or(*up);
            let change = diagonal + usize::from(letter != *other);
            next.push(change.min(up + 1).min(left + 1));
        }
        row = next;
    }
    row.last().copied().unwrap_or(0)
}

/// FNV-1a, 64 bits: stable over builds and machines, which `std`'s hasher is
/// not promised to be. It tells revisions apart; it protects nothing.
pub(crate) fn digest(text: &str) -> String {
    let hash = text.bytes().fold(0xcbf2_9ce4_8422_2325u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    format!("{hash:016x}")
}

/// Whether something that listens on `a` also answers at `b`.
pub(crate) fn overlap(a: SocketAddr, b: SocketAddr) -> bool {
    // Port 0 is a different port each time.
    if a.port() != b.port() || a.port() == 0 {
        return false;
    }
    covers(a.ip(), b.ip()) || covers(b.ip(), a.ip())
}

/// `[::]` takes IPv4 along on the systems we run on.
fn covers(wide: IpAddr, narrow: IpAddr) -> bool {
    wide == narrow || (wide.is_unspecified() && (wide.is_ipv6() || narrow.is_ipv4()))
}

/// Whether connecting to `to` reaches a listener on `listener` of this machine,
/// as far as the text alone can tell.
pub(crate) fn reaches(to: &HostPort, listener: SocketAddr) -> bool {
    if to.port != listener.port() {
        return false;
    }
    let ip = listener.ip();
    let any = ip.is_unspecified();
    if to.host == "localhost" {
        return any || ip.is_loopback();
    }
    match to.host.parse::<IpAddr>() {
        // Connecting to the unspecified address reaches loopback.
        Ok(to) if to.is_unspecified() => any || ip.is_loopback(),
        Ok(to) => to == ip || (any && to.is_loopback()),
        Err(_) => false,
    }
}
