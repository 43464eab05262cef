//! `--origin URL`: where a server is, and whether it speaks TLS.

use std::str::FromStr;

use http::Uri;

/// An origin as `--origin` names it: a scheme, a host, perhaps a port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct OriginUrl {
    /// Host and port, IPv6 in brackets.
    pub(crate) server: String,
    /// Whether it is reached over TLS.
    pub(crate) tls: bool,
    /// The host, without port or brackets.
    pub(crate) host: String,
}

impl FromStr for OriginUrl {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wanted = "write it as http://127.0.0.1:9000 or https://shop.example";
        let uri: Uri = text
            .parse()
            .map_err(|error| format!("no URL ({error}); {wanted}"))?;
        let tls = match uri.scheme_str() {
            Some("http") => false,
            Some("https") => true,
            _ => return Err(format!("no http or https scheme; {wanted}")),
        };
        let authority = uri
            .authority()
            .ok_or_else(|| format!("no host; {wanted}"))?;
        if authority.as_str().contains('@') {
            return Err(format!("a name or password does not belong here; {wanted}"));
        }
        // Requests keep the visitor's path, so that a path here would mislead.
        if !matches!(uri.path(), "" | "/") || uri.query().is_some() || text.contains('#') {
            return Err(format!("an origin has no path; {wanted}"));
        }
        let host = authority.host();
        if host.is_empty() {
            return Err(format!("no host; {wanted}"));
        }
        let port = match (authority.port_u16(), authority.as_str().strip_prefix(host)) {
            (Some(0), _) => return Err(format!("port 0 is no port; {wanted}")),
            (Some(port), _) => port,
            (None, Some("")) => {
                if tls {
                    443
                } else {
                    80
                }
            }
            (None, _) => return Err(format!("no port after the colon; {wanted}")),
        };
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        Ok(Self {
            server: format!("{host}:{port}"),
            tls,
            host: bare.to_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_is_scheme_host_and_port() {
        let cases = [
            (
                "http://127.0.0.1:9000",
                Some(("127.0.0.1:9000", false, "127.0.0.1")),
            ),
            (
                "http://shop.example/",
                Some(("shop.example:80", false, "shop.example")),
            ),
            (
                "https://shop.example",
                Some(("shop.example:443", true, "shop.example")),
            ),
            ("https://[::1]:8443", Some(("[::1]:8443", true, "::1"))),
            ("http://shop.example:0", None),
            ("http://shop.example:", None),
            ("http://shop.example:70000", None),
            ("http://a:b@shop.example", None),
            ("http://shop.example/shop", None),
            ("http://shop.example/?a", None),
            ("http://shop.example/#a", None),
            ("ftp://shop.example", None),
            ("shop.example:80", None),
            ("127.0.0.1", None),
            ("http://", None),
            ("", None),
        ];
        for (text, expected) in cases {
            let parsed = text.parse::<OriginUrl>();
            let parsed = parsed
                .as_ref()
                .ok()
                .map(|url| (url.server.as_str(), url.tls, url.host.as_str()));
            assert_eq!(parsed, expected, "{text}");
        }
    }
}
