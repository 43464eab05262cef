//! Interim answers (RFC 9110 §15.2) on their way to whoever began a fill.
//!
//! They are hints that come before the answer, for one reader: nobody who joins the
//! fill gets them, and they are never stored. Between tiers they are not signed, so
//! nothing here acts upon them.

use http::{HeaderMap, StatusCode};
use tokio::sync::mpsc;

/// Interim answers that wait to be written; what comes beyond is left out.
const WAITING_MAX: usize = 16;

/// One interim answer, its control and hop-by-hop fields removed.
#[derive(Debug)]
pub(crate) struct Interim {
    pub(crate) status: StatusCode,
    pub(crate) fields: HeaderMap,
}

/// Where a fill tells of interim answers.
pub(crate) type Teller = mpsc::Sender<Interim>;

/// A teller and whoever listens to it.
pub(crate) fn channel() -> (Teller, mpsc::Receiver<Interim>) {
    mpsc::channel(WAITING_MAX)
}

/// Tells of an interim answer that came from an upstream. 100 and 101 are about a
/// request's own connection, and go no further.
pub(crate) fn tell(teller: &Teller, status: StatusCode, fields: &HeaderMap) {
    if status == StatusCode::CONTINUE || status == StatusCode::SWITCHING_PROTOCOLS {
        return;
    }
    let mut fields = fields.clone();
    control::strip(&mut fields);
    http_cache::remove_hop_by_hop(&mut fields);
    // A full channel means that its listener is slow; hints are not worth a wait.
    let _ = teller.try_send(Interim { status, fields });
}
