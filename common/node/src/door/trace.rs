//! A visitor's place in a trace: `traceparent` and `tracestate` (W3C Trace Context).
//!
//! Both are taken only where the site trusts them. An upper tier does not come here:
//! it goes on with the trace in the verified control block, and with a `tracestate`
//! that the edge's signature covers.

use control::TraceIds;
use http::header::{HeaderMap, HeaderName, HeaderValue};

use crate::fields::{TRACEPARENT, TRACESTATE};

/// Members of one `tracestate` (W3C Trace Context §3.3.1.1).
const MEMBERS_MAX: usize = 32;

/// Characters of a member's key and of its value (§3.3.1.3).
const PART_BYTES_MAX: usize = 256;

/// The trace to go on with, if any. `tracestate` is left in the fields, unchanged,
/// only where there is one: without its `traceparent` it means nothing (§3.3).
pub(super) fn continued(fields: &mut HeaderMap, trusted: bool) -> Option<TraceIds> {
    let parent = trusted
        .then(|| sole(fields, &TRACEPARENT))
        .flatten()
        .and_then(TraceIds::from_traceparent);
    let state = parent.and_then(|_| state(fields));
    fields.remove(TRACESTATE);
    if let Some(state) = state {
        fields.insert(TRACESTATE, state);
    }
    parent
}

/// A field that stands there once: of two, nobody knows which is meant.
fn sole<'a>(fields: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    let mut values = fields.get_all(name).iter();
    let only = values.next().filter(|_| values.next().is_none())?;
    only.to_str().ok()
}

/// `tracestate` on one line, which several may be joined into (§3.3.1.2), if all of it
/// is what the standard allows.
fn state(fields: &HeaderMap) -> Option<HeaderValue> {
    let values: Vec<_> = fields.get_all(TRACESTATE).iter().collect();
    let joined = match values.as_slice() {
        [] => return None,
        [only] => (*only).clone(),
        several => {
            let lines: Vec<_> = several.iter().map(|value| value.as_bytes()).collect();
            HeaderValue::from_bytes(&lines.join(&b","[..])).ok()?
        }
    };
    let text = joined.to_str().ok()?;
    let members = text
        .split(',')
        .map(|member| member.trim_matches([' ', '\t']))
        .filter(|member| !member.is_empty());
    let mut count = 0;
    for member in members {
        count += 1;
        if count > MEMBERS_MAX || !is_member(member) {
            return None;
        }
    }
    (count > 0).then_some(joined)
}

fn is_member(member: &str) -> bool {
    let Some((key, value)) = member.split_once('=') else {
        return false;
    };
    let is_key = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"_-*/@".contains(&b);
    let starts = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let is_value = |b: u8| (0x20..0x7f).contains(&b) && !matches!(b, b',' | b'=');
    key.len() <= PART_BYTES_MAX
        && key.as_bytes().first().is_some_and(starts)
        && key.bytes().all(is_key)
        && !value.is_empty()
        && value.len() <= PART_BYTES_MAX
        && value.bytes().all(is_value)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PARENT: &str = "00-0123456789abcdef0123456789abcdef-0123456789abcdef-01";

    fn fields(parents: &[&str], states: &[&str]) -> HeaderMap {
        let mut fields = HeaderMap::new();
        for parent in parents {
            fields.append(TRACEPARENT, parent.parse().unwrap());
        }
        for state in states {
            fields.append(TRACESTATE, state.parse().unwrap());
        }
        fields
    }

    #[test]
    fn which_traces_go_on() {
        let future = PARENT.replacen("00", "cc", 1) + "-what-comes";
        for (parents, trusted, goes_on) in [
            (&[PARENT][..], true, true),
            (&[PARENT], false, false),
            (&[], true, false),
            (&[PARENT, PARENT], true, false),
            (&["00-0123"], true, false),
            (&[&PARENT.to_uppercase()], true, false),
            (&[&future], true, true),
            (&[&PARENT.replacen("00", "ff", 1)], true, false),
            (&[&format!("{PARENT}-more")], true, false),
        ] {
            let mut fields = fields(parents, &["a=b"]);
            let parent = continued(&mut fields, trusted);
            assert_eq!(parent.is_some(), goes_on, "{parents:?}");
            // The state stays with its parent, or goes with it.
            assert_eq!(fields.contains_key(TRACESTATE), goes_on, "{parents:?}");
        }
    }

    #[test]
    fn a_state_travels_unchanged_or_not_at_all() {
        let long = format!("{}=1", "k".repeat(256));
        let too_long = format!("{}=1", "k".repeat(257));
        let most = vec!["a=1"; 32].join(",");
        let too_many = vec!["a=1"; 33].join(",");
        for (states, kept) in [
            (&["a=b"][..], Some("a=b")),
            (&["a=b ,\t c@d=e f"], Some("a=b ,\t c@d=e f")),
            (&["a=b", "c=d"], Some("a=b,c=d")),
            (&["a=b,,"], Some("a=b,,")),
            (&[&long], Some(long.as_str())),
            (&[&most], Some(most.as_str())),
            (&[&too_long], None),
            (&[&too_many], None),
            (&[""], None),
            (&["a"], None),
            (&["a="], None),
            (&["A=b"], None),
            (&["a=b=c"], None),
            (&[], None),
        ] {
            let mut fields = fields(&[PARENT], states);
            continued(&mut fields, true);
            let left = fields.get(TRACESTATE).map(|value| value.to_str().unwrap());
            assert_eq!(left, kept, "{states:?}");
        }
    }
}
