//! Where two opinions of a case differ, and what may explain that.

use crate::cases::Case;
use crate::opinions::Opinion;

/// What was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Question {
    Stored,
    Age,
    Fresh,
    Reused,
    Conditions,
    Confirmed,
    Freshened,
}
use Question::{Age, Conditions, Confirmed, Fresh, Freshened, Reused, Stored};

/// Who says yes, or the more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    We,
    They,
}
use Side::{They, We};

/// One way in which the two opinions of a case differ.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Disagreement {
    pub(crate) question: Question,
    pub(crate) yes: Side,
    /// The field, where the question is about fields.
    pub(crate) field: String,
}

/// Every way in which two opinions differ.
pub(crate) fn disagreements(ours: &Opinion, theirs: &Opinion) -> Vec<Disagreement> {
    let mut found = Vec::new();
    let mut ask = |question, ours: bool, theirs: bool, field: &str| {
        if ours != theirs {
            let yes = if ours { We } else { They };
            let field = field.to_owned();
            found.push(Disagreement {
                question,
                yes,
                field,
            });
        }
    };
    ask(Stored, ours.stored, theirs.stored, "");
    ask(
        Age,
        ours.age_s > theirs.age_s,
        theirs.age_s > ours.age_s,
        "",
    );
    // What is of no use to us must not be of use to them.
    if (ours.stored || ours.useless) && theirs.stored {
        ask(Fresh, ours.fresh, theirs.fresh, "");
        ask(Reused, ours.reused, theirs.reused, "");
    }
    if ours.stored && theirs.stored {
        for (ours, theirs) in ours.conditions.iter().zip(&theirs.conditions) {
            // Where both send something it is the same.
            assert!(ours.is_none() || theirs.is_none() || ours == theirs);
            ask(Conditions, ours.is_some(), theirs.is_some(), "");
        }
        let (ours, theirs) = (&ours.confirmed, &theirs.confirmed);
        ask(Confirmed, ours.is_some(), theirs.is_some(), "");
        if let (Some(ours), Some(theirs)) = (ours, theirs) {
            for name in ours.keys().chain(theirs.keys()) {
                let (one, other) = (ours.get(name), theirs.get(name));
                ask(
                    Freshened,
                    one.is_some() && one != other,
                    one.is_none(),
                    name,
                );
            }
        }
    }
    found
}

/// A class of disagreement that is meant to be.
pub(crate) struct Difference {
    /// As `docs/departures.md` has it.
    pub(crate) name: &'static str,
    /// What it explains.
    pub(crate) explains: &'static [(Question, Side)],
    /// Which cases it is about.
    pub(crate) when: fn(&Case, &str) -> bool,
    /// The shortest case of it.
    pub(crate) witness: fn() -> Case,
}

impl Difference {
    /// Whether it explains this disagreement about that case.
    pub(crate) fn explains(&self, case: &Case, found: &Disagreement) -> bool {
        self.explains.contains(&(found.question, found.yes)) && (self.when)(case, &found.field)
    }
}
