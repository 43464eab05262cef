//! What may differ between two runs, and nothing else.
//!
//! Each exemption names a place, a field and a part of its value. A value is masked only
//! where it has the form that it must have, and what is drawn at random is replaced by
//! the place of its first appearance in the run: an id that is used twice in one run and
//! once in another differs, and so does one that is drawn only while somebody traces.
//!
//! Times of signatures, `Date`, `Age` and lifetimes are no exemptions: the nodes' clock
//! is in the test's hand.

use std::collections::{BTreeMap, HashMap};

use tests::Towards;

use crate::stage::{Place, Told};

/// What may differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Exempt {
    /// The trace id of a request that brought none: in `traceparent`, and between tiers
    /// once more in `Tier-Control`.
    TraceId,
    /// The id of the span that a request was sent from, in the same places.
    SpanId,
    /// Whether the trace is sampled, in the same places.
    Sampled,
    /// The nonce in the signature of an unsafe request.
    Nonce,
    /// The bytes of a signature between tiers, which cover all these.
    Signature,
    /// `Date` on what pingora's session writes, which goes by the system's clock: answers
    /// to requests that were passed, and all over HTTP/2.
    PingoraDate,
}

impl Exempt {
    pub(crate) const ALL: [Self; 6] = [
        Self::TraceId,
        Self::SpanId,
        Self::Sampled,
        Self::Nonce,
        Self::Signature,
        Self::PingoraDate,
    ];
}

/// A message without what may differ.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Masked {
    pub(crate) step: usize,
    pub(crate) place: Place,
    pub(crate) towards: Towards,
    /// A line each, as they stood there.
    pub(crate) lines: Vec<String>,
    pub(crate) body: Vec<u8>,
    pub(crate) complete: bool,
}

/// What was masked in a run, in order.
pub(crate) type Drawn = BTreeMap<Exempt, Vec<String>>;

/// A run without what may differ, and what that was.
pub(crate) fn mask(told: &[Told]) -> (Vec<Masked>, Drawn) {
    let mut all: Vec<(Masked, Found)> = told.iter().map(masked).collect();
    // In which order the connections of one step are told is not determined.
    all.sort_by(|(one, _), (other, _)| one.cmp(other));
    let mut drawn = Drawn::new();
    let mut seen: HashMap<(Exempt, String), usize> = HashMap::new();
    for (message, found) in &mut all {
        for (exempt, value) in std::mem::take(found) {
            if is_random(exempt) {
                let next = seen.len();
                let number = seen.entry((exempt, value.clone())).or_insert(next);
                message.lines.push(format!("{exempt:?} {number}"));
            }
            drawn.entry(exempt).or_default().push(value);
        }
    }
    (all.into_iter().map(|(message, _)| message).collect(), drawn)
}

type Found = Vec<(Exempt, String)>;

/// Whether no two of them in one run are alike but where one is told twice.
fn is_random(exempt: Exempt) -> bool {
    !matches!(exempt, Exempt::Sampled | Exempt::PingoraDate)
}

fn masked(told: &Told) -> (Masked, Found) {
    let message = &told.message;
    let head = String::from_utf8_lossy(&message.head).into_owned();
    let mut found = Found::new();
    let lines = head
        .split("\r\n")
        .map(|line| mask_line(line, told.place, message.towards, &mut found))
        .collect();
    let masked = Masked {
        step: told.step,
        place: told.place,
        towards: message.towards,
        lines,
        body: message.body.to_vec(),
        complete: message.complete,
    };
    (masked, found)
}

fn mask_line(line: &str, place: Place, towards: Towards, found: &mut Found) -> String {
    let Some((name, value)) = line.split_once(": ") else {
        return line.to_owned();
    };
    let between_tiers = matches!(place, Place::Hop(_));
    let to_visitors = matches!(place, Place::Visitors(_));
    let is_request = towards == Towards::Server;
    let masked = match name.to_ascii_lowercase().as_str() {
        "traceparent" if is_request && !to_visitors => mask_trace(value, found),
        "tier-control" if is_request && between_tiers => {
            mask_within(value, "trace=\"", "\"", |trace| mask_trace(trace, found))
        }
        "signature-input" if is_request && between_tiers => {
            mask_within(value, "nonce=\"", "\"", |nonce| {
                is_base64(nonce).then(|| found.push((Exempt::Nonce, nonce.to_owned())))?;
                Some("(nonce)".to_owned())
            })
        }
        "signature" if between_tiers => mask_within(value, "tier=:", ":", |bytes| {
            is_base64(bytes).then(|| found.push((Exempt::Signature, bytes.to_owned())))?;
            Some("(signature)".to_owned())
        }),
        "date" if !is_request && (between_tiers || to_visitors) => is_now(value)
            .then(|| found.push((Exempt::PingoraDate, value.to_owned())))
            .map(|()| "(now)".to_owned()),
        _ => None,
    };
    masked.map_or_else(|| line.to_owned(), |value| format!("{name}: {value}"))
}

/// Masks what stands between two marks, where `mask` agrees.
fn mask_within(
    value: &str,
    before: &str,
    after: &str,
    mask: impl FnOnce(&str) -> Option<String>,
) -> Option<String> {
    let from = value.find(before)? + before.len();
    let to = from + value[from..].find(after)?;
    let masked = mask(&value[from..to])?;
    Some(format!("{}{masked}{}", &value[..from], &value[to..]))
}

/// `00-TRACE-SPAN-FLAGS` (W3C Trace Context §3.2.2).
fn mask_trace(value: &str, found: &mut Found) -> Option<String> {
    let parts: Vec<&str> = value.split('-').collect();
    let [version, trace, span, flags] = parts[..] else {
        return None;
    };
    let well_formed =
        version == "00" && is_hex(trace, 32) && is_hex(span, 16) && matches!(flags, "00" | "01");
    if !well_formed {
        return None;
    }
    found.push((Exempt::TraceId, trace.to_owned()));
    found.push((Exempt::SpanId, span.to_owned()));
    found.push((Exempt::Sampled, flags.to_owned()));
    Some("(trace)".to_owned())
}

/// So many digits, and not all of them 0.
fn is_hex(text: &str, digits: usize) -> bool {
    let is_digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    text.len() == digits && text.bytes().all(is_digit) && text.bytes().any(|byte| byte != b'0')
}

fn is_base64(text: &str) -> bool {
    let is_digit = |byte: u8| byte.is_ascii_alphanumeric() || b"+/=-_".contains(&byte);
    text.len() >= 16 && text.bytes().all(is_digit)
}

/// Whether it is a moment of this very test.
fn is_now(date: &str) -> bool {
    let Ok(then) = httpdate::parse_http_date(date) else {
        return false;
    };
    let now_ms = tests::clock::now_ms();
    let then_ms = then
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0, |since| since.as_millis());
    u128::from(now_ms).abs_diff(then_ms) < 600_000
}
