//! The faults, one a row, and what must come of each.

use ::tests::under_load::pages::Kind::{self as Page, Cold, Expiring, Order, Soft};
use ::tests::under_load::{Allowance, Mood};

use crate::deeds::Deed;
use crate::setting::{ANSWER_MS, Kind as Setting, OPEN, UPPERS, WALLED};

/// How much longer than the node's own bound an answer may take until a visitor has it.
const ON_THE_WAY_MS: u64 = 500;

const BOTH: &[Setting] = &[Setting::Namespaces, Setting::Containers];
const NAMESPACES: &[Setting] = &[Setting::Namespaces];

/// One row.
#[derive(Debug)]
pub(crate) struct Fault {
    pub(crate) name: &'static str,
    pub(crate) deed: Deed,
    /// The site that is asked for.
    pub(crate) host: &'static str,
    pub(crate) allowed: Allowance,
    /// What must come of it, for people.
    pub(crate) expected: &'static str,
    settings: &'static [Setting],
}

impl Fault {
    pub(crate) fn is_made_in(&self, setting: Setting) -> bool {
        self.settings.contains(&setting)
    }

    /// The settings it is made in, as words.
    pub(crate) fn settings(&self) -> String {
        let names: Vec<_> = self.settings.iter().map(|it| it.as_str()).collect();
        names.join(", ")
    }

    /// Whether something has to be refused, since nothing may give it.
    pub(crate) fn must_refuse(&self) -> bool {
        !self.allowed.refused.is_empty()
    }
}

/// A way is left to everything.
fn left(name: &'static str, deed: Deed, expected: &'static str) -> Fault {
    Fault {
        name,
        deed,
        host: OPEN,
        allowed: Allowance::default(),
        expected,
        settings: BOTH,
    }
}

/// No way is left to these pages.
fn none_left(
    name: &'static str,
    deed: Deed,
    refused: &'static [Page],
    expected: &'static str,
) -> Fault {
    let allowed = Allowance {
        refused,
        within_ms: ANSWER_MS + ON_THE_WAY_MS,
        ..Allowance::default()
    };
    Fault {
        host: WALLED,
        allowed,
        ..left(name, deed, expected)
    }
}

/// What is fetched from the origin, stale or not.
const FETCHED: &[Page] = &[Cold, Expiring, Soft];

/// What is neither stored nor may be served stale.
const UNSTORED: &[Page] = &[Cold, Expiring, Order];

const NEXT: &str = "a way is left: the other upper tier";
const STALE: &str = "none is left: refused, or stale where that is allowed";

/// All faults, in the order in which they are played.
pub(crate) fn all() -> Vec<Fault> {
    let mut all = tiers();
    all.extend(networks());
    all.extend(origins());
    all.extend(machines());
    all
}

/// What happens to upper tiers as processes.
fn tiers() -> Vec<Fault> {
    vec![
        left("kill -9 of an upper tier", Deed::Kill(&["upper-1"]), NEXT),
        left(
            "kill -9 of all upper tiers",
            Deed::Kill(&UPPERS),
            "a way is left: the origin itself",
        ),
        none_left(
            "kill -9 of all, no direct way",
            Deed::Kill(&UPPERS),
            UNSTORED,
            STALE,
        ),
        left("kill -9 in turn", Deed::KillInTurn, NEXT),
        left("pause of an upper tier", Deed::Pause("upper-1"), NEXT),
    ]
}

/// What happens to the networks between nodes.
fn networks() -> Vec<Fault> {
    vec![
        left("partition edges, upper-1", Deed::Cut(&["upper-1"]), NEXT),
        left(
            "partition edges, all upper tiers",
            Deed::Cut(&UPPERS),
            "a way is left: the origin itself",
        ),
        none_left(
            "partition edges, all, no direct way",
            Deed::Cut(&UPPERS),
            UNSTORED,
            STALE,
        ),
        left(
            "partition upper-1, origin",
            Deed::CutOrigin(&["upper-1"]),
            NEXT,
        ),
        none_left(
            "partition upper tiers, origin",
            Deed::CutOrigin(&UPPERS),
            UNSTORED,
            STALE,
        ),
        left(
            "one-way loss, upper-1 to edges",
            Deed::OneWay("upper-1"),
            NEXT,
        ),
        left(
            "300 ms latency between tiers",
            Deed::Late,
            "a way is left: the same, later",
        ),
        left(
            "5 % packet loss between tiers",
            Deed::Loss,
            "a way is left: the same, later",
        ),
        left(
            "1 Mbit/s from upper tiers",
            Deed::Squeeze,
            "a way is left: the same, later, or the origin itself",
        ),
        left(
            "name server silent",
            Deed::NoNames,
            "a way is left: the address that was known",
        ),
    ]
}

/// What an origin does.
fn origins() -> Vec<Fault> {
    let breaks_off = none_left(
        "origin resets in mid-body, always",
        Deed::Origin(Mood::BreaksOff { always: true }),
        UNSTORED,
        "none is left: refused, or visibly broken off",
    );
    vec![
        none_left(
            "origin answers 503",
            Deed::Origin(Mood::Fails),
            UNSTORED,
            "none is left: the origin's error, or stale where that is allowed",
        ),
        none_left("origin hangs", Deed::Origin(Mood::Hangs), UNSTORED, STALE),
        left(
            "origin resets in mid-body, once",
            Deed::Origin(Mood::BreaksOff { always: false }),
            "a way is left: the rest of the body, asked for again",
        ),
        Fault {
            allowed: Allowance {
                broken: FETCHED,
                ..breaks_off.allowed
            },
            ..breaks_off
        },
    ]
}

/// What happens to single machines, and what operators do.
fn machines() -> Vec<Fault> {
    let again = Allowance {
        again: true,
        ..Allowance::default()
    };
    let no_descriptors = none_left(
        "no file descriptors at edge-1",
        Deed::NoDescriptors("edge-1"),
        UNSTORED,
        "none is left to that edge: refused, or stale where that is allowed",
    );
    vec![
        Fault {
            settings: NAMESPACES,
            ..left(
                "clock of upper-2 8 s ahead",
                Deed::Skew("upper-2", 8),
                "a way is left: the same, within what clocks may differ",
            )
        },
        Fault {
            settings: NAMESPACES,
            ..left(
                "clock of upper-2 60 s behind",
                Deed::Skew("upper-2", -60),
                NEXT,
            )
        },
        Fault {
            settings: NAMESPACES,
            ..left(
                "clock of edge-1 60 s ahead",
                Deed::Skew("edge-1", 60),
                "a way is left: the origin itself",
            )
        },
        Fault {
            allowed: again,
            ..left(
                "restart of every node in turn",
                Deed::Roll,
                "a way is left: the other upper tier, and a process or an edge that serves",
            )
        },
        left(
            "full disk for logs",
            Deed::FullDisk,
            "nothing that visitors ask for is gone",
        ),
        left(
            "no file descriptors at upper-1",
            Deed::NoDescriptors("upper-1"),
            NEXT,
        ),
        Fault {
            host: OPEN,
            allowed: Allowance {
                broken: FETCHED,
                // Whose connection ends, with the error that a POST gets, connects anew,
                // and nobody lets him in before it is over.
                within_ms: u64::MAX,
                ..no_descriptors.allowed
            },
            ..no_descriptors
        },
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_fault_has_a_name_of_its_own_and_a_place() {
        let all = all();
        let mut names: Vec<_> = all.iter().map(|fault| fault.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), all.len());
        for fault in &all {
            assert!(fault.is_made_in(Setting::Namespaces), "{}", fault.name);
        }
    }
}
