//! Which control blocks a scenario makes nodes reject or refuse.

use std::sync::Mutex;

use crate::metrics::Metrics;

const REJECTED: &str = "tier_control_rejected_total";
const REFUSED: &str = "tier_refused_total";

/// What a scenario declared, and what of it was seen.
#[derive(Debug, Default)]
pub(super) struct Expected {
    anything: bool,
    declared: Vec<Declared>,
    seen: Mutex<Vec<Declared>>,
}

/// One counter, with the labels that matter.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Declared {
    counter: &'static str,
    /// None for a counter without sides.
    side: Option<String>,
    reason: String,
}

impl Expected {
    pub(super) fn rejected(&mut self, side: &str, reason: &str) {
        self.declared.push(Declared {
            counter: REJECTED,
            side: Some(side.to_owned()),
            reason: reason.to_owned(),
        });
    }

    pub(super) fn refused(&mut self, reason: &str) {
        self.declared.push(Declared {
            counter: REFUSED,
            side: None,
            reason: reason.to_owned(),
        });
    }

    pub(super) fn anything(&mut self) {
        self.anything = true;
    }

    /// What a node counted that nobody declared.
    pub(super) fn look_at(&self, node: &str, metrics: &Metrics) -> Vec<String> {
        let mut wrong = Vec::new();
        for counter in [REJECTED, REFUSED] {
            for (labels, count) in metrics.counted(counter) {
                let label = |name: &str| {
                    let found = labels.iter().find(|(have, _)| have == name);
                    found.map(|(_, value)| value.clone())
                };
                let what = Declared {
                    counter,
                    side: label("side"),
                    reason: label("reason").unwrap_or_default(),
                };
                if self.declared.contains(&what) {
                    self.seen.lock().expect("nobody panics").push(what);
                } else if !self.anything {
                    wrong.push(format!(
                        "{node} counts {count} in {counter} {labels:?}, which this scenario did not expect"
                    ));
                }
            }
        }
        wrong
    }

    /// What was declared and did not happen.
    pub(super) fn never_seen(&self) -> Vec<String> {
        let seen = self.seen.lock().expect("nobody panics");
        let missing = self.declared.iter().filter(|one| !seen.contains(one));
        missing
            .map(|one| format!("{one:?} was expected, and no node counts it"))
            .collect()
    }
}
