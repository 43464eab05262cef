//! Hosts and addresses as they are written, and which of them meet.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use ipnet::IpNet;

use super::values::{Fault, fault, shown};
use crate::model::{HostPattern, HostPort};

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
    // A name cannot end in a number: `10.0.0.300` is a slip, not a name.
    let last = text.rsplit('.').next().unwrap_or_default();
    let numeric = last.bytes().all(|b| b.is_ascii_digit()) && text.parse::<Ipv4Addr>().is_err();
    if numeric || text.len() > 253 || !text.split('.').all(is_label) {
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
    let Some((name, port)) = text.rsplit_once(':') else {
        return fault(format!("{} has no port", shown(text)), mend);
    };
    if bare_ipv6 || (name.contains(':') && !name.starts_with('[')) {
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

/// A name server's address; DNS has a port of its own where none is written.
pub(crate) fn name_server(text: &str) -> Result<SocketAddr, Fault> {
    let with_port = text.parse::<SocketAddr>().ok();
    let without = || Some(SocketAddr::new(text.parse().ok()?, 53));
    with_port.or_else(without).map_or_else(
        || {
            fault(
                format!("{} is no address", shown(text)),
                "write `10.0.0.2`, `10.0.0.2:5353` or `[fd00::2]:53`",
            )
        },
        Ok,
    )
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_with_ports() {
        let table = [
            ("a.example:1", Some("a.example:1")),
            ("A.Example:65535", Some("a.example:65535")),
            ("10.0.0.7:80", Some("10.0.0.7:80")),
            ("[2001:DB8:0::1]:80", Some("[2001:db8::1]:80")),
            ("a.example:65536", None),
            ("a.example:0", None),
            ("a.example:", None),
            (":80", None),
            ("[::1]", None),
            ("[a.example]:80", None),
            ("[::1:80", None),
        ];
        for (text, shown) in table {
            let host = host_port(text).ok().map(|host| host.to_string());
            assert_eq!(host.as_deref(), shown, "{text:?}");
        }
    }

    #[test]
    fn host_fields() {
        let table = [
            ("Origin.Example", Some("origin.example")),
            ("origin.example:8000", Some("origin.example:8000")),
            ("::1", Some("[::1]")),
            ("[::1]", Some("[::1]")),
            ("[::1]:80", Some("[::1]:80")),
            ("origin.example:port", None),
            ("a b", None),
            ("", None),
        ];
        for (text, value) in table {
            assert_eq!(host_header(text).ok().as_deref(), value, "{text:?}");
        }
    }

    #[test]
    fn long_labels_and_names() {
        let label = "a".repeat(63);
        assert!(host(&label).is_ok());
        assert!(host(&format!("{label}a")).is_err());
        let longest = format!("{label}.{label}.{label}.{}", "a".repeat(61));
        assert!(host(&longest).is_ok(), "253 characters");
        assert!(host(&format!("{longest}a")).is_err());
    }

    #[test]
    fn listeners_that_clash() {
        let table = [
            ("127.0.0.1:1", "127.0.0.1:1", true),
            ("127.0.0.1:1", "127.0.0.1:2", false),
            ("127.0.0.1:0", "127.0.0.1:0", false),
            ("127.0.0.1:1", "127.0.0.2:1", false),
            ("0.0.0.0:1", "127.0.0.1:1", true),
            ("127.0.0.1:1", "0.0.0.0:1", true),
            ("0.0.0.0:1", "[::1]:1", false),
            ("[::]:1", "[::1]:1", true),
            ("[::]:1", "10.0.0.1:1", true),
            ("0.0.0.0:1", "[::]:1", true),
        ];
        for (a, b, clash) in table {
            let (a, b) = (a.parse().unwrap(), b.parse().unwrap());
            assert_eq!(overlap(a, b), clash, "{a} {b}");
        }
    }

    #[test]
    fn addresses_that_reach_a_listener() {
        let table = [
            ("127.0.0.1:1", "127.0.0.1:1", true),
            ("127.0.0.1:2", "127.0.0.1:1", false),
            ("127.0.0.1:1", "0.0.0.0:1", true),
            ("[::1]:1", "[::]:1", true),
            ("10.0.0.1:1", "10.0.0.1:1", true),
            ("10.0.0.1:1", "0.0.0.0:1", false),
            ("0.0.0.0:1", "127.0.0.1:1", true),
            ("0.0.0.0:1", "10.0.0.1:1", false),
            ("localhost:1", "127.0.0.1:1", true),
            ("localhost:1", "0.0.0.0:1", true),
            ("localhost:1", "10.0.0.1:1", false),
            ("edge.example:1", "0.0.0.0:1", false),
        ];
        for (to, listener, itself) in table {
            let to = host_port(to).unwrap();
            assert_eq!(
                reaches(&to, listener.parse().unwrap()),
                itself,
                "{to} {listener}"
            );
        }
    }
}
