//! What is to be purged, from the command line to the query of `POST /purge`.

use std::fmt::Write as _;

use http::Uri;

use super::Options;

/// The query that asks for what the command line says.
///
/// # Errors
/// A sentence about a URL that names nothing.
pub(super) fn query(options: &Options) -> Result<String, String> {
    let url = options.url.as_deref().map(checked).transpose()?;
    let mut query = match (&url, &options.site, &options.group) {
        (Some(url), _, Some(group)) => {
            format!(
                "group={}&url={}",
                percent_encoded(group),
                percent_encoded(url)
            )
        }
        (Some(url), ..) if options.prefix => format!("prefix={}", percent_encoded(url)),
        (Some(url), ..) => format!("url={}", percent_encoded(url)),
        (None, Some(site), _) => format!("site={}", percent_encoded(site)),
        (None, None, _) => return Err("name a URL, or a site with --site".to_owned()),
    };
    if options.soft {
        query += "&soft=1";
    }
    Ok(query)
}

/// The URL, if it is one that names an object: absolute, `http` or `https`.
fn checked(text: &str) -> Result<String, String> {
    let wanted = "write it as visitors do, such as https://shop.example/photo.png";
    // A fragment never leaves the browser, so no cache knows it.
    let text = text.split('#').next().unwrap_or_default();
    let uri: Uri = text
        .parse()
        .map_err(|error| format!("{text:?} is no URL ({error}); {wanted}"))?;
    let has_host = uri.host().is_some_and(|host| !host.is_empty());
    if !matches!(uri.scheme_str(), Some("http" | "https")) || !has_host {
        return Err(format!(
            "{text:?} has no http or https scheme and host; {wanted}"
        ));
    }
    Ok(text.to_owned())
}

/// All but unreserved characters (RFC 3986 §2.3) as `%XX`.
fn percent_encoded(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            write!(out, "%{byte:02X}").expect("writing to a string cannot fail");
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    #[derive(Debug, clap::Parser)]
    struct Line {
        #[command(flatten)]
        options: Options,
    }

    #[test]
    fn a_command_line_names_one_thing() {
        let url = "http%3A%2F%2Fa%2Fb";
        for (line, expected) in [
            ("http://a/b", Some(format!("url={url}"))),
            ("http://a/b --soft", Some(format!("url={url}&soft=1"))),
            ("http://a/b --prefix", Some(format!("prefix={url}"))),
            (
                "http://a/b --group front/page",
                Some(format!("group=front%2Fpage&url={url}")),
            ),
            ("--site shop --soft", Some("site=shop&soft=1".to_owned())),
            ("", None),
            ("--prefix", None),
            ("--group news", None),
            ("http://a/b --site shop", None),
            ("http://a/b --prefix --group news", None),
        ] {
            let words = std::iter::once("purge").chain(line.split_whitespace());
            let parsed = Line::try_parse_from(words).ok();
            let query = parsed.and_then(|line| query(&line.options).ok());
            assert_eq!(query, expected, "{line}");
        }
    }

    #[test]
    fn a_url_is_absolute() {
        let cases = [
            (
                "http://shop.example/a?b=c",
                Some("http://shop.example/a?b=c"),
            ),
            ("https://shop.example", Some("https://shop.example")),
            ("http://[::1]:8081/a#part", Some("http://[::1]:8081/a")),
            ("shop.example/a", None),
            ("/a", None),
            ("ftp://shop.example/a", None),
            ("http:///a", None),
            ("", None),
            ("http://shop.example/a b", None),
        ];
        for (text, expected) in cases {
            assert_eq!(checked(text).ok().as_deref(), expected, "{text}");
        }
    }

    #[test]
    fn reserved_characters_are_encoded() {
        assert_eq!(
            percent_encoded("http://a.b/c?d=e&f=%20ü"),
            "http%3A%2F%2Fa.b%2Fc%3Fd%3De%26f%3D%2520%C3%BC"
        );
    }
}
