//! What goes wrong between the tiers, on purpose.
//!
//! A [`Fault`] is what an intermediary does to messages: the first one is what
//! happened on the day that this project began with, the others are its relatives.

use crate::wire::{Fields, Message, set_field};

/// What is done to a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Every control field is removed.
    Clear,
    /// A character within a control field becomes another.
    Garble,
    /// A control field loses its second half.
    CutField,
    /// The head breaks off in its middle, and the connection with it.
    CutHead,
    /// Two requests exchange their control fields, two answers everything.
    Swap,
    /// A request carries the control fields of an earlier one; an earlier answer
    /// comes instead of the answer.
    Replay,
    /// The same with the first message there ever was.
    ReplayFirst,
    /// It comes later than anybody waits for it.
    Delay,
}

/// Whose messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// Those of edges.
    Request,
    /// Those of upper tiers.
    Answer,
}

/// How many of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Share {
    /// Every third.
    Third,
    /// Every one.
    All,
}

/// A fault of the hop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    /// What is done.
    pub kind: Kind,
    /// Whose messages it is done to.
    pub side: Side,
    /// How many of them.
    pub share: Share,
}

/// The fields that carry control and its signature, with the one that says it first.
const REQUEST_FIELDS: [&str; 3] = ["tier-control", "signature", "signature-input"];
const ANSWER_FIELDS: [&str; 3] = ["tier-result", "signature", "signature-input"];

impl Kind {
    /// Every kind.
    pub const ALL: [Self; 8] = [
        Self::Clear,
        Self::Garble,
        Self::CutField,
        Self::CutHead,
        Self::Swap,
        Self::Replay,
        Self::ReplayFirst,
        Self::Delay,
    ];

    /// Its name in tables.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Clear => "clear",
            Self::Garble => "garble",
            Self::CutField => "truncate a field",
            Self::CutHead => "truncate the head",
            Self::Swap => "swap",
            Self::Replay => "replay",
            Self::ReplayFirst => "replay, expired",
            Self::Delay => "delay",
        }
    }

    /// Whether what is done leaves a message whose control can be judged. The others
    /// leave none: nothing is rejected, an upstream merely fails.
    #[must_use]
    pub const fn is_judged(self) -> bool {
        !matches!(self, Self::CutHead | Self::Delay)
    }
}

impl Side {
    /// Its name in tables.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Request => "requests",
            Self::Answer => "answers",
        }
    }

    fn fields(self) -> [&'static str; 3] {
        match self {
            Self::Request => REQUEST_FIELDS,
            Self::Answer => ANSWER_FIELDS,
        }
    }
}

impl Share {
    /// Its name in tables.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Third => "a third",
            Self::All => "all",
        }
    }

    /// Whether the message of that number is among them.
    pub(crate) const fn picks(self, number: usize) -> bool {
        match self {
            Self::Third => number.is_multiple_of(3),
            Self::All => true,
        }
    }
}

/// Removes the control fields.
pub(crate) fn clear(side: Side, message: &mut Message) {
    for name in side.fields() {
        set_field(&mut message.fields, name, None);
    }
}

/// Changes one character of one control field; `number` chooses which.
pub(crate) fn garble(side: Side, message: &mut Message, number: usize) {
    let name = side.fields()[number % 3];
    alter(&mut message.fields, name, |value| {
        let at = number.wrapping_mul(31) % value.len().max(1);
        let garbled = value.char_indices().map(|(index, character)| {
            if index == at {
                other_than(character)
            } else {
                character
            }
        });
        garbled.collect()
    });
}

/// Takes the second half of one control field away; `number` chooses which.
pub(crate) fn cut_field(side: Side, message: &mut Message, number: usize) {
    let name = side.fields()[number % 3];
    alter(&mut message.fields, name, |value| {
        value.chars().take(value.len() / 2).collect()
    });
}

/// Gives a message the control fields of another.
pub(crate) fn take_control(side: Side, message: &mut Message, of: &Message) {
    for name in side.fields() {
        set_field(&mut message.fields, name, of.field(name).as_deref());
    }
}

fn alter(fields: &mut Fields, name: &str, change: impl Fn(&str) -> String) {
    let lines = fields.iter_mut();
    for (_, value) in lines.filter(|(have, _)| have.eq_ignore_ascii_case(name)) {
        *value = change(value);
    }
}

/// A character that may stand there as well.
fn other_than(character: char) -> char {
    match character {
        'z' | 'Z' | '9' => 'a',
        letter if letter.is_ascii_alphanumeric() => char::from(letter as u8 + 1),
        _ => 'x',
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(control: &str) -> Message {
        let fields = [("Tier-Control", control), ("signature", "s"), ("Host", "h")];
        let fields = fields.map(|(name, value)| (name.to_owned(), value.to_owned()));
        Message {
            fields: fields.to_vec(),
            ..Message::default()
        }
    }

    #[test]
    fn faults_hit_control_fields_and_nothing_else() {
        type Change = fn(&mut Message);
        let changes: [(Change, Option<&str>); 4] = [
            (|m| clear(Side::Request, m), None),
            (|m| garble(Side::Request, m, 0), Some("bbcd")),
            (|m| cut_field(Side::Request, m, 0), Some("ab")),
            (
                |m| take_control(Side::Request, m, &message("other")),
                Some("other"),
            ),
        ];
        for (change, control) in changes {
            let mut changed = message("abcd");
            change(&mut changed);
            assert_eq!(changed.field("tier-control").as_deref(), control);
            assert_eq!(changed.field("host").as_deref(), Some("h"));
        }
    }
}
