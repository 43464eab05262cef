//! What cannot wait for the end of a response: integrity and health.
//!
//! An event is declared once, and with it its log line: name, severity, the
//! sentence an operator reads and, where there is one, the remedy. Its counter is
//! bumped when it is reported, before any limit or queue can lose the line.

use crate::plain::plain;
use crate::process_log::Level;

/// Which direction of a hop carried the control block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Side {
    /// `Tier-Control`, checked by the upper tier.
    Request,
    /// `Tier-Result`, checked by the edge.
    Response,
}

impl Side {
    /// The word used in metrics and log lines.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Side::Request => "request",
            Side::Response => "response",
        }
    }
}

/// Something an operator should learn at once.
///
/// Reasons are `&'static str` because they become metric labels and keys of the
/// rate limit: both stay bounded by what the code names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A control block was missing or did not verify, found by this node.
    ControlRejected {
        /// Direction it travelled in.
        side: Side,
        /// `missing`, `malformed`, `expired`, `bad_signature`, `unknown_key`, `mismatch`, `replayed`.
        reason: &'static str,
        /// The node it came from, as configured or claimed.
        peer: String,
        /// Which field or value it was.
        detail: String,
        /// What an operator can do.
        remedy: String,
    },
    /// An upper tier refused this edge's control block.
    TierRefused {
        /// The reason it gave, in our own words.
        reason: &'static str,
        /// The upper tier.
        peer: String,
    },
    /// An upper tier is no longer asked.
    UpperTierDown {
        /// The upper tier.
        peer: String,
        /// What was seen.
        why: String,
    },
    /// An upper tier is asked again.
    UpperTierUp {
        /// The upper tier.
        peer: String,
    },
    /// An upper tier says that it does not get to an origin.
    UpperTierCutOff {
        /// The upper tier.
        peer: String,
        /// The origin's pool.
        pool: String,
    },
    /// An upper tier that did not get to an origin does again.
    UpperTierReaches {
        /// The upper tier.
        peer: String,
        /// The origin's pool.
        pool: String,
    },
    /// Another upper tier is nearest to an origin from now on.
    NearestChanged {
        /// The upper tier.
        peer: String,
        /// For which origin, and what was measured.
        detail: String,
    },
    /// Sites or keys were loaded anew and are in force.
    Reloaded {
        /// What was loaded.
        what: String,
    },
    /// Sites or keys could not be loaded; the old ones stay in force.
    ReloadFailed {
        /// Every complaint, with file, line and key.
        why: String,
    },
    /// A signing key is usable, but not kept as it should be.
    KeyWarning {
        /// The key's name or file, never the key.
        key: String,
        /// What is wrong with it.
        why: String,
        /// What an operator can do.
        remedy: String,
    },
    /// The node serves.
    Started {
        /// What listens where.
        detail: String,
    },
    /// The node drains and will end with its last request.
    Stopping {
        /// What asked it to.
        why: String,
    },
    /// The listening sockets came from the process before this one.
    TookOver {
        /// Which of them, and whose they were.
        detail: String,
    },
    /// The listening sockets went to the process after this one, which drains.
    HandedOver {
        /// To whom.
        detail: String,
    },
    /// A process asked for the listening sockets and did not come to serve on them;
    /// this one goes on.
    HandoverFailed {
        /// What went wrong.
        why: String,
    },
    /// Anything else worth one line.
    Note {
        /// How severe it is.
        level: Level,
        /// The sentence.
        message: String,
    },
}

/// One log line of an event, borrowed from it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct EventLine<'a> {
    pub(crate) level: Level,
    pub(crate) message: &'static str,
    pub(crate) side: Option<&'static str>,
    pub(crate) reason: Option<&'static str>,
    pub(crate) peer: Option<&'a str>,
    pub(crate) detail: Option<&'a str>,
    pub(crate) remedy: Option<&'a str>,
}

impl Event {
    /// The event's name in the log's `event` field.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Event::ControlRejected { .. } => "control_rejected",
            Event::TierRefused { .. } => "tier_refused",
            Event::UpperTierDown { .. } => "upper_tier_down",
            Event::UpperTierUp { .. } => "upper_tier_up",
            Event::UpperTierCutOff { .. } => "upper_tier_cut_off",
            Event::UpperTierReaches { .. } => "upper_tier_reaches",
            Event::NearestChanged { .. } => "nearest_changed",
            Event::Reloaded { .. } => "reloaded",
            Event::ReloadFailed { .. } => "reload_failed",
            Event::KeyWarning { .. } => "key_warning",
            Event::Started { .. } => "started",
            Event::Stopping { .. } => "stopping",
            Event::TookOver { .. } => "took_over",
            Event::HandedOver { .. } => "handed_over",
            Event::HandoverFailed { .. } => "handover_failed",
            Event::Note { .. } => "note",
        }
    }

    /// What the rate limit tells apart: name and reason, never a peer's words.
    pub(crate) const fn limit_key(&self) -> (&'static str, &'static str) {
        let reason = match self {
            Event::ControlRejected { reason, .. } | Event::TierRefused { reason, .. } => reason,
            Event::Note { level, .. } => level.as_str(),
            _ => "",
        };
        (self.name(), reason)
    }

    /// The line to log.
    pub(crate) fn line(&self) -> EventLine<'_> {
        const NONE: EventLine<'_> = EventLine {
            level: Level::Info,
            message: "",
            side: None,
            reason: None,
            peer: None,
            detail: None,
            remedy: None,
        };
        match self {
            Event::ControlRejected {
                side,
                reason,
                peer,
                detail,
                remedy,
            } => EventLine {
                level: Level::Error,
                message: "a tier control block was rejected",
                side: Some(side.as_str()),
                reason: Some(reason),
                peer: Some(peer),
                detail: Some(detail),
                remedy: Some(remedy),
            },
            Event::TierRefused { reason, peer } => EventLine {
                level: Level::Error,
                message: "an upper tier refused this node's control block",
                reason: Some(reason),
                peer: Some(peer),
                remedy: Some(
                    "compare signing keys and clocks of both nodes; the upper tier's log names the field",
                ),
                ..NONE
            },
            Event::UpperTierDown { peer, why } => EventLine {
                level: Level::Warn,
                message: "an upper tier is down and is not asked",
                peer: Some(peer),
                detail: Some(why),
                ..NONE
            },
            Event::UpperTierUp { peer } => EventLine {
                message: "an upper tier is up and is asked",
                peer: Some(peer),
                ..NONE
            },
            Event::UpperTierCutOff { peer, pool } => EventLine {
                level: Level::Warn,
                message: "an upper tier does not get to an origin and is asked last for it",
                peer: Some(peer),
                detail: Some(pool),
                remedy: Some(
                    "look at the way from that node to the servers of the pool; if all upper tiers say so, at the origin",
                ),
                ..NONE
            },
            Event::UpperTierReaches { peer, pool } => EventLine {
                message: "an upper tier gets to an origin again",
                peer: Some(peer),
                detail: Some(pool),
                ..NONE
            },
            Event::NearestChanged { peer, detail } => EventLine {
                message: "another upper tier is nearest and is asked first",
                peer: Some(peer),
                detail: Some(detail),
                ..NONE
            },
            Event::Reloaded { what } => EventLine {
                message: "configuration reloaded",
                detail: Some(what),
                ..NONE
            },
            Event::ReloadFailed { why } => EventLine {
                level: Level::Error,
                message: "configuration not reloaded, the old one stays in force",
                detail: Some(why),
                remedy: Some("mend the file, try it with `headwater check`, send SIGHUP again"),
                ..NONE
            },
            Event::KeyWarning { key, why, remedy } => EventLine {
                level: Level::Warn,
                message: "a signing key is not kept as it should be",
                peer: Some(key),
                detail: Some(why),
                remedy: Some(remedy),
                ..NONE
            },
            Event::Started { detail } => EventLine {
                message: "serving",
                detail: Some(detail),
                ..NONE
            },
            Event::Stopping { why } => EventLine {
                message: "draining",
                detail: Some(why),
                ..NONE
            },
            Event::TookOver { detail } => EventLine {
                message: "took over the listening sockets of the process before",
                detail: Some(detail),
                ..NONE
            },
            Event::HandedOver { detail } => EventLine {
                message: "handed the listening sockets over, draining",
                detail: Some(detail),
                ..NONE
            },
            Event::HandoverFailed { why } => EventLine {
                level: Level::Warn,
                message: "the listening sockets were not handed over, this process goes on",
                detail: Some(why),
                remedy: Some("look what the new process said, mend it, start it again"),
                ..NONE
            },
            Event::Note { level, message } => EventLine {
                level: *level,
                message: "note",
                detail: Some(message),
                ..NONE
            },
        }
    }
}

plain!(
    enum Side {
        Request,
        Response,
    }
);
plain!(
    enum Event {
        ControlRejected {
            side,
            reason,
            peer,
            detail,
            remedy,
        },
        TierRefused { reason, peer },
        UpperTierDown { peer, why },
        UpperTierUp { peer },
        UpperTierCutOff { peer, pool },
        UpperTierReaches { peer, pool },
        NearestChanged { peer, detail },
        Reloaded { what },
        ReloadFailed { why },
        KeyWarning { key, why, remedy },
        Started { detail },
        Stopping { why },
        TookOver { detail },
        HandedOver { detail },
        HandoverFailed { why },
        Note { level, message },
    }
);
