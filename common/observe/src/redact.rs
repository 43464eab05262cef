//! What a URL says that nobody should read in a trace.
//!
//! Signed URLs carry their secret in the query. The semantic conventions name
//! parameters whose values are replaced in `url.full` and `url.query`; those of the
//! same makers that do the same are added.

use std::borrow::Cow;

/// Parameters whose values are secrets, compared without case.
const SECRETS: [&str; 9] = [
    "AWSAccessKeyId",
    "Signature",
    "sig",
    "X-Goog-Signature",
    "X-Goog-Credential",
    "X-Amz-Signature",
    "X-Amz-Credential",
    "X-Amz-Security-Token",
    "Key-Pair-Id",
];

/// The word the conventions put in a value's place.
const REDACTED: &str = "REDACTED";

/// A query string without its secrets; the parameters stay.
pub(crate) fn query(query: &str) -> Cow<'_, str> {
    // Most have none, and are not copied.
    if !query.split('&').any(is_secret) {
        return Cow::Borrowed(query);
    }
    let mut text = String::with_capacity(query.len());
    for (number, parameter) in query.split('&').enumerate() {
        if number > 0 {
            text.push('&');
        }
        match parameter.split_once('=') {
            Some((name, _)) if is_secret(parameter) => {
                text.push_str(name);
                text.push('=');
                text.push_str(REDACTED);
            }
            _ => text.push_str(parameter),
        }
    }
    Cow::Owned(text)
}

/// The same of a path with its query string.
pub(crate) fn path_and_query(text: &str) -> Cow<'_, str> {
    match text.split_once('?') {
        Some((path, with)) => match query(with) {
            Cow::Borrowed(_) => Cow::Borrowed(text),
            Cow::Owned(with) => Cow::Owned(format!("{path}?{with}")),
        },
        None => Cow::Borrowed(text),
    }
}

fn is_secret(parameter: &str) -> bool {
    parameter.split_once('=').is_some_and(|(name, value)| {
        !value.is_empty()
            && SECRETS
                .iter()
                .any(|secret| secret.eq_ignore_ascii_case(name))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_of_signed_urls_are_not_told() {
        for (given, told) in [
            ("/a", "/a"),
            ("/a?", "/a?"),
            ("/a?b=c&d", "/a?b=c&d"),
            ("/a?sig=secret", "/a?sig=REDACTED"),
            (
                "/a?b=c&Signature=x%2By=&d=e",
                "/a?b=c&Signature=REDACTED&d=e",
            ),
            (
                "/a?x-amz-signature=1&sig=2",
                "/a?x-amz-signature=REDACTED&sig=REDACTED",
            ),
            ("/a?signature", "/a?signature"),
            ("/a?design=1&sign=2", "/a?design=1&sign=2"),
            ("/sig=1?b=c", "/sig=1?b=c"),
        ] {
            assert_eq!(path_and_query(given), told);
        }
    }
}
