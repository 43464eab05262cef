//! Invalidation by unsafe methods (RFC 9111 §4.4), and which of their answers are
//! what a GET would have been answered with (RFC 9110 §8.7).

use http::header::{CONTENT_LOCATION, LOCATION};
use http::{HeaderMap, Method, StatusCode};

use crate::request::is_safe;

/// Whether a request of this method, answered with this status, invalidates what is
/// stored for its target: the method is unsafe or unknown, and the answer is no error.
pub fn invalidates(method: &Method, status: StatusCode) -> bool {
    !is_safe(method) && (status.is_success() || status.is_redirection())
}

/// What an unsafe request invalidates, as path and query on its own authority: its
/// own target first, then those of `Location` and `Content-Location`, each once.
///
/// References are resolved as RFC 3986 §5.2 says. Those that lead to another
/// authority are left out: nobody may empty another origin's cache (RFC 9111 §4.4).
/// Schemes other than http and https lead elsewhere; which of the two is not told
/// apart, as both are one site's. A fragment names no other resource.
pub fn invalidation_targets(
    authority: &str,
    path_and_query: &str,
    response_fields: &HeaderMap,
) -> Vec<String> {
    let mut targets = vec![path_and_query.to_owned()];
    for name in [LOCATION, CONTENT_LOCATION] {
        let resolved = response_fields
            .get(name)
            .and_then(|value| str::from_utf8(value.as_bytes()).ok())
            .and_then(|reference| resolve(authority, path_and_query, reference.trim()));
        if let Some(target) = resolved
            && !targets.contains(&target)
        {
            targets.push(target);
        }
    }
    targets
}

/// Whether a response says that it is a representation of its request's own target:
/// its one `Content-Location` is the target's URI (RFC 9110 §8.7).
///
/// `scheme` is `http` or `https`.
pub fn describes_target(
    scheme: &str,
    authority: &str,
    path_and_query: &str,
    response_fields: &HeaderMap,
) -> bool {
    let mut lines = response_fields.get_all(CONTENT_LOCATION).into_iter();
    let (Some(line), None) = (lines.next(), lines.next()) else {
        return false;
    };
    let Ok(reference) = str::from_utf8(line.as_bytes()) else {
        return false;
    };
    let reference = reference.trim();
    let same_scheme = match reference.split_once(':') {
        Some((theirs, _)) if is_scheme(theirs) => theirs.eq_ignore_ascii_case(scheme),
        _ => true,
    };
    // An empty reference is the target itself (RFC 3986 §4.4), but an empty field
    // says nothing.
    !reference.is_empty()
        && same_scheme
        && resolve(authority, path_and_query, reference).as_deref() == Some(path_and_query)
}

/// Resolves a reference against the request's target; `None` when it leads elsewhere.
fn resolve(authority: &str, base: &str, reference: &str) -> Option<String> {
    let reference = before(reference, '#');
    let (scheme, rest) = match reference.split_once(':') {
        // A colon after a slash, or in a query, is no scheme's.
        Some((scheme, rest)) if is_scheme(scheme) => (Some(scheme), rest),
        _ => (None, reference),
    };
    let default_port = match scheme {
        None => None,
        Some(scheme) if scheme.eq_ignore_ascii_case("http") => Some(":80"),
        Some(scheme) if scheme.eq_ignore_ascii_case("https") => Some(":443"),
        Some(_) => return None,
    };
    if let Some(rest) = rest.strip_prefix("//") {
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        let (theirs, target) = rest.split_at_checked(end)?;
        return same_authority(authority, theirs, default_port).then(|| absolute(target));
    }
    // RFC 3986 §5.2.2 gives "http:g" no authority; there is none that it could lead to.
    if scheme.is_some() {
        return None;
    }
    let base_path = before(base, '?');
    Some(match rest.as_bytes().first() {
        None => base.to_owned(),
        Some(b'/') => absolute(rest),
        Some(b'?') => format!("{base_path}{rest}"),
        Some(_) => {
            // RFC 3986 §5.2.3: the reference takes the place of the last segment.
            let directory = base_path.rfind('/').and_then(|at| base_path.get(..=at));
            absolute(&format!("{}{rest}", directory.unwrap_or("/")))
        }
    })
}

fn before(text: &str, mark: char) -> &str {
    text.split_once(mark).map_or(text, |(before, _)| before)
}

fn is_scheme(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.'))
}

/// Whether two authorities are one, without regard to case and to a default port.
fn same_authority(ours: &str, theirs: &str, default_port: Option<&str>) -> bool {
    let bare = |authority: &'_ str| -> usize {
        let port = match default_port {
            Some(port) => authority.strip_suffix(port),
            // "//host": the scheme is the request's, which we are not told.
            None => authority
                .strip_suffix(":80")
                .or_else(|| authority.strip_suffix(":443")),
        };
        port.map_or(authority.len(), str::len)
    };
    match (ours.get(..bare(ours)), theirs.get(..bare(theirs))) {
        (Some(ours), Some(theirs)) => ours.eq_ignore_ascii_case(theirs),
        _ => false,
    }
}

/// Normalises a target that begins with its path: an empty path is `/`, and dot
/// segments go (RFC 3986 §5.2.4).
fn absolute(target: &str) -> String {
    let path = before(target, '?');
    let query = target.get(path.len()..).unwrap_or_default();
    let mut kept: Vec<&str> = Vec::new();
    let mut segments = path.strip_prefix('/').unwrap_or(path).split('/').peekable();
    while let Some(segment) = segments.next() {
        let last = segments.peek().is_none();
        match segment {
            "." | ".." => {
                if segment == ".." {
                    kept.pop();
                }
                // A dot segment at the end leaves a directory.
                if last {
                    kept.push("");
                }
            }
            _ => kept.push(segment),
        }
    }
    format!("/{}{query}", kept.join("/"))
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn a_response_of_its_target_says_so() {
        let table: &[(&[&str], bool)] = &[
            (&[], false),
            (&[""], false),
            (&["/a/b?c"], true),
            (&["b?c"], true),
            (&["?c"], true),
            (&["/a/b"], false),
            (&["/a/c?c"], false),
            (&["https://h.example/a/b?c"], true),
            (&["HTTPS://H.example:443/a/b?c"], true),
            (&["//h.example/a/b?c"], true),
            (&["http://h.example/a/b?c"], false),
            (&["https://other.example/a/b?c"], false),
            (&["/a/b?c", "/a/b?c"], false),
        ];
        for (lines, expected) in table {
            let mut fields = HeaderMap::new();
            for line in *lines {
                fields.append(CONTENT_LOCATION, HeaderValue::from_str(line).unwrap());
            }
            assert_eq!(
                describes_target("https", "h.example", "/a/b?c", &fields),
                *expected,
                "{lines:?}"
            );
        }
    }

    #[test]
    fn unsafe_methods_that_succeed_invalidate() {
        let table = [
            ("POST", 200, true),
            ("PUT", 204, true),
            ("DELETE", 303, true),
            ("M-SEARCH", 200, true),
            ("PATCH", 304, true),
            ("POST", 399, true),
            ("POST", 400, false),
            ("POST", 500, false),
            ("POST", 199, false),
            ("GET", 200, false),
            ("HEAD", 200, false),
            ("OPTIONS", 200, false),
            ("TRACE", 200, false),
            ("PROPFIND", 207, false),
        ];
        for (method, status, expected) in table {
            let (name, method) = (method, Method::from_bytes(method.as_bytes()).unwrap());
            let got = invalidates(&method, StatusCode::from_u16(status).unwrap());
            assert_eq!(got, expected, "{name} {status}");
        }
    }

    #[test]
    fn references_are_resolved() {
        // The request's target is always http(s)://Example.com/a/b?q.
        let table = [
            ("/x", Some("/x")),
            ("/x?y#z", Some("/x?y")),
            ("x", Some("/a/x")),
            ("x?y", Some("/a/x?y")),
            ("./x", Some("/a/x")),
            ("../x", Some("/x")),
            ("../../x", Some("/x")),
            ("..", Some("/")),
            ("../", Some("/")),
            (".", Some("/a/")),
            ("x/..", Some("/a/")),
            ("/x/./y/../z", Some("/x/z")),
            ("/x?a/../b", Some("/x?a/../b")),
            ("/x//y", Some("/x//y")),
            ("?z", Some("/a/b?z")),
            ("", None),
            ("#f", None),
            ("b?q", None),
            ("http://example.com/x", Some("/x")),
            ("https://EXAMPLE.com:443/x", Some("/x")),
            ("HTTP://example.com:80/x?y", Some("/x?y")),
            ("http://example.com", Some("/")),
            ("http://example.com?y", Some("/?y")),
            ("//example.com/x", Some("/x")),
            ("http://example.com:443/x", None),
            ("http://example.com:8080/x", None),
            ("http://example.org/x", None),
            ("http://u@example.com/x", None),
            ("//example.org/x", None),
            ("ftp://example.com/x", None),
            ("mailto:a@example.com", None),
            ("http:x", None),
            ("./a:b", Some("/a/a:b")),
        ];
        for (reference, expected) in table {
            let mut fields = HeaderMap::new();
            fields.insert("location", HeaderValue::from_str(reference).unwrap());
            let got = invalidation_targets("Example.com", "/a/b?q", &fields);
            let all: Vec<_> = std::iter::once("/a/b?q").chain(expected).collect();
            assert_eq!(got, all, "{reference}");
        }
    }

    #[test]
    fn both_fields_count_and_the_request_comes_first() {
        let mut fields = HeaderMap::new();
        fields.insert("content-location", HeaderValue::from_static("/c"));
        fields.insert("location", HeaderValue::from_static("/l"));
        assert_eq!(
            invalidation_targets("h:8080", "/", &fields),
            ["/", "/l", "/c"]
        );
        fields.insert("location", HeaderValue::from_static("http://h:8080/c"));
        assert_eq!(invalidation_targets("h:8080", "/", &fields), ["/", "/c"]);
        fields.insert("location", HeaderValue::from_bytes(b"/\xff").unwrap());
        assert_eq!(invalidation_targets("h:8080", "/", &fields), ["/", "/c"]);
    }
}
