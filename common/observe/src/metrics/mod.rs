//! What is counted, and how it is shown to Prometheus.
//!
//! Counters are plain atomics that the request path adds to; nothing that happens
//! to spans or log lines can lose them. Every metric has a sentence that an
//! operator can act on. Labels come from words of the code; the two that do not,
//! peers, are bounded by [`labels::PEERS_MAX`].

mod by_status;
mod hot;
mod labels;
mod table;

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};

use prometheus_client::encoding::prometheus_text;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use crate::event::Side;
use crate::record::{AttemptKind, Done};
use by_status::HttpDurations;
pub(crate) use by_status::{BOUNDS_US, HttpSeries};
use hot::Hot;
use labels::{
    Connection, Held, HeldAt, Peer, Peers, Pool, Refused, Rejected, Site, Upstream, WayTo, Word,
};

/// How long the control alert stays up after the last rejection or refusal.
const ALERT_MS: u64 = 60_000;

/// A node's counters and gauges. Every method is safe to call from any thread and
/// never waits for a scrape of more than a map's read.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    hot: Arc<Hot>,
    // Only counted where it is exported.
    http: OnceLock<HttpDurations>,
    // Who sends us requests may invent names, who we send to may not: the two sets
    // are apart, so that the first cannot push the second out.
    claimed_peers: Peers,
    peers: Peers,
    sites: Peers,
    pools: Peers,
    // The latest time anyone told us, Unix ms; 0 before that.
    latest_ms: AtomicU64,
    // When a control block was last rejected or refused, Unix ms; 0 for never.
    alert_ms: AtomicU64,

    control_rejected: Family<Rejected, Counter>,
    refused: Family<Refused, Counter>,
    control_alert: Gauge,
    stripped: Family<Word, Counter>,
    upstream_requests: Family<Upstream, Counter>,
    upstream_connections: Family<Connection, Counter>,
    upper_tier_up: Family<Peer, Gauge>,
    fills_in_flight: Gauge,
    fill_bytes_in_flight: Gauge,
    fills: Family<Word, Counter>,
    collapsed: Counter,
    hit_for_miss: Counter,
    laggards_cut: Counter,
    resumed: Counter,
    stale_served: Family<Word, Counter>,
    direct: Counter,
    direct_in_flight: Family<Site, Gauge>,
    direct_held: Family<Held, Counter>,
    origin_in_flight: Family<Pool, Gauge>,
    origin_held: Family<HeldAt, Counter>,
    retries: Counter,
    retries_held: Family<Word, Counter>,
    shed: Counter,
    hedges: Family<Word, Counter>,
    upper_tier_full: Family<Peer, Counter>,
    upper_tier_unreached: Family<Peer, Counter>,
    nearest: Family<WayTo, Gauge>,
    nearest_changes: Counter,
    purges: Family<Word, Counter>,
    store_bytes: Gauge,
    store_objects: Gauge,
    store_evictions: Counter,
    connections: Gauge,
    connections_total: Counter,
    requests_in_flight: Gauge,
    door_refused: Family<Word, Counter>,
    config_reloads: Family<Word, Counter>,
    handovers: Family<Word, Counter>,
    telemetry_dropped: Family<Word, Counter>,
    // Its members that are counted here, by `Dropped`.
    dropped: [Counter; Dropped::ALL.len()],
    exported: Family<Word, Counter>,
    export_failures: Counter,
    panics: Counter,
}

/// Whose `Tier-*` fields or tier signatures were removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum StrippedFrom {
    /// A request at an edge's door.
    Visitor,
    /// An origin's response.
    Origin,
}

/// How a request to an upstream went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum UpstreamResult {
    /// A complete answer that may be used, whatever its status.
    Ok,
    /// No connection, a broken one, or an answer that is not HTTP.
    Error,
    /// One of the named timeouts ran out.
    Timeout,
    /// An answer whose signature is missing or does not verify.
    Unverified,
}

/// A fill that runs. The gauge counts these, so a fill that panics leaves it too.
#[derive(Debug)]
#[must_use = "the fill counts as running until this is dropped"]
pub struct FillInFlight(Gauge);

/// Something under way that a gauge counts.
#[derive(Debug)]
#[must_use = "it counts as under way until this is dropped"]
pub struct Underway(Gauge);

/// How a fill ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FillEnd {
    /// Complete and in the store.
    Stored,
    /// Complete, too large to keep, streamed through.
    Streamed,
    /// Complete, not to be kept.
    NotStored,
    /// The upstream broke off in the body, and it could not be resumed.
    Broken,
    /// No answer at all.
    Failed,
}

/// What the observer could not keep up with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Dropped {
    /// A request's log line and spans: the record queue was full.
    Record,
    /// An event's log line: the event queue was full.
    Event,
    /// A span: its queue was full, or the collector did not take it.
    Span,
    /// A log record for the collector, likewise.
    LogRecord,
}

impl Metrics {
    pub(crate) fn new() -> Self {
        table::metrics()
    }

    /// Counts a finished response. A handful of relaxed additions, no lock.
    pub(crate) fn count(&self, done: &Done) {
        self.hot.count(done);
        if let Some(http) = self.http.get() {
            http.count(done);
        }
    }

    /// From now on, counts what the HTTP semantic conventions ask for as well.
    pub(crate) fn count_http(&self) {
        self.http.get_or_init(HttpDurations::default);
    }

    /// The series of `http.server.request.duration`.
    pub(crate) fn http_series(&self) -> Vec<HttpSeries> {
        self.http
            .get()
            .map(HttpDurations::series)
            .unwrap_or_default()
    }

    /// Names the upper tiers of the configuration, so that they have labels of their
    /// own whoever else shows up first, and count as up until they are seen down.
    pub fn declare_peers<'a>(&self, peers: impl IntoIterator<Item = &'a str>) {
        for peer in peers {
            self.claimed_peers.label(peer);
            self.upper_tier_up(peer, true);
        }
    }

    /// A control block was rejected by this node. Called by
    /// [`Observer::event`](crate::Observer::event) for `ControlRejected`, so only
    /// to be called where no such event is sent.
    pub fn tier_control_rejected(&self, side: Side, reason: &'static str, peer: &str) {
        let peer = self.claimed_peers.label(peer);
        let labels = Rejected {
            side: side.as_str(),
            reason,
            peer,
        };
        self.control_rejected.get_or_create(&labels).inc();
        self.raise_alert();
    }

    /// This node was refused by an upper tier. Called by
    /// [`Observer::event`](crate::Observer::event) for `TierRefused`, so only to be
    /// called where no such event is sent.
    pub fn tier_refused(&self, reason: &'static str, peer: &str) {
        let peer = self.peers.label(peer);
        self.refused.get_or_create(&Refused { reason, peer }).inc();
        self.raise_alert();
    }

    /// `fields` tier fields or signatures were removed from one message.
    pub fn stripped_tier_fields(&self, from: StrippedFrom, fields: u64) {
        self.stripped
            .get_or_create(&[("from", from.as_str())])
            .inc_by(fields);
    }

    /// A request to an upstream is over.
    pub fn upstream_request(&self, peer: &str, kind: AttemptKind, result: UpstreamResult) {
        let peer = self.peers.label(peer);
        let labels = Upstream {
            peer,
            kind: kind.as_str(),
            result: result.as_str(),
        };
        self.upstream_requests.get_or_create(&labels).inc();
    }

    /// A request to an upstream got a connection, pooled or new.
    pub fn upstream_connection(&self, peer: &str, reused: bool) {
        let peer = self.peers.label(peer);
        let labels = Connection {
            peer,
            reused: if reused { "true" } else { "false" },
        };
        self.upstream_connections.get_or_create(&labels).inc();
    }

    /// Whether an upper tier is asked. The events `UpperTierUp` and
    /// `UpperTierDown` set it too.
    pub fn upper_tier_up(&self, peer: &str, up: bool) {
        let peer = self.peers.label(peer);
        self.upper_tier_up
            .get_or_create(&Peer { peer })
            .set(i64::from(up));
    }

    /// Whether an upper tier is the nearest to the origin of a pool.
    pub fn nearest(&self, pool: &str, peer: &str, is_nearest: bool) {
        let labels = WayTo {
            pool: self.pools.label(pool),
            peer: self.peers.label(peer),
        };
        self.nearest
            .get_or_create(&labels)
            .set(i64::from(is_nearest));
    }

    /// Another upper tier is nearest to some origin. Called by
    /// [`Observer::event`](crate::Observer::event) for `NearestChanged`, so only to be
    /// called where no such event is sent.
    pub fn nearest_changed(&self) {
        self.nearest_changes.inc();
    }

    /// A fill began and runs until the guard is dropped, however it ends.
    pub fn fill_begins(&self) -> FillInFlight {
        self.fills_in_flight.inc();
        FillInFlight(self.fills_in_flight.clone())
    }

    /// Fills under way.
    #[must_use]
    pub fn fills_in_flight(&self) -> u64 {
        self.fills_in_flight.get().try_into().unwrap_or(0)
    }

    /// A fill ended in this way.
    pub fn fill_ends(&self, end: FillEnd) {
        self.fills.get_or_create(&[("end", end.as_str())]).inc();
    }

    /// Body bytes held by fills grew or shrank by so many.
    pub fn fill_bytes(&self, delta_bytes: i64) {
        self.fill_bytes_in_flight.inc_by(delta_bytes);
    }

    /// A request joined a fill that another had begun.
    pub fn collapsed(&self) {
        self.collapsed.inc();
    }

    /// A key got a hit-for-miss mark.
    pub fn hit_for_miss(&self) {
        self.hit_for_miss.inc();
    }

    /// So many readers were cut off because a fill could not wait for them.
    pub fn laggards_cut(&self, readers: u64) {
        self.laggards_cut.inc_by(readers);
    }

    /// A fill whose upstream broke off went on from another one.
    pub fn resumed(&self) {
        self.resumed.inc();
    }

    /// A stale object was served; `why` is a word of the code.
    pub fn stale_served(&self, why: &'static str) {
        self.stale_served.get_or_create(&[("why", why)]).inc();
    }

    /// An edge went to an origin past its upper tiers.
    pub fn direct(&self) {
        self.direct.inc();
    }

    /// A fetch past the upper tiers began and runs until the guard is dropped.
    pub fn direct_begins(&self, site: &str) -> Underway {
        let site = self.sites.label(site);
        Underway::begin(self.direct_in_flight.get_or_create_owned(&Site { site }))
    }

    /// A request found every direct fetch of its site taken; `then` is a word of the
    /// code for what became of it.
    pub fn direct_held(&self, site: &str, then: &'static str) {
        let site = self.sites.label(site);
        self.direct_held.get_or_create(&Held { site, then }).inc();
    }

    /// A fetch from a pool's origin began and runs until the guard is dropped.
    pub fn origin_begins(&self, pool: &str) -> Underway {
        let pool = self.pools.label(pool);
        Underway::begin(self.origin_in_flight.get_or_create_owned(&Pool { pool }))
    }

    /// A request found every place at its origin taken; `then` is a word of the code
    /// for what became of it.
    pub fn origin_held(&self, pool: &str, then: &'static str) {
        let pool = self.pools.label(pool);
        self.origin_held.get_or_create(&HeldAt { pool, then }).inc();
    }

    /// A request is asked again, within the budget.
    pub fn retry(&self) {
        self.retries.inc();
    }

    /// A request that was to be asked again found the budget spent; `then` is a word of
    /// the code for what became of it.
    pub fn retry_held(&self, then: &'static str) {
        self.retries_held.get_or_create(&[("then", then)]).inc();
    }

    /// A request was turned away because too much is under way.
    pub fn shed(&self) {
        self.shed.inc();
    }

    /// A request passed over an upper tier that has as much under way as it may.
    pub fn upper_tier_full(&self, peer: &str) {
        let peer = self.peers.label(peer);
        self.upper_tier_full.get_or_create(&Peer { peer }).inc();
    }

    /// An upper tier said that no server of an origin answered it.
    pub fn upper_tier_unreached(&self, peer: &str) {
        let peer = self.peers.label(peer);
        self.upper_tier_unreached
            .get_or_create(&Peer { peer })
            .inc();
    }

    /// An upper tier was late, and another one's store was asked; `end` is a word of the
    /// code for what came of it.
    pub fn hedge(&self, end: &'static str) {
        self.hedges.get_or_create(&[("end", end)]).inc();
    }

    /// A purge was asked for; `result` is a word of the code.
    pub fn purge(&self, result: &'static str) {
        self.purges.get_or_create(&[("result", result)]).inc();
    }

    /// What the store holds now, and what it has evicted since it began.
    pub fn store_sizes(&self, bytes: u64, objects: u64, evictions_total: u64) {
        self.store_bytes
            .set(i64::try_from(bytes).unwrap_or(i64::MAX));
        self.store_objects
            .set(i64::try_from(objects).unwrap_or(i64::MAX));
        self.store_evictions.inner().store(evictions_total, Relaxed);
    }

    /// A client connected. [`connection_closed`](Self::connection_closed) must follow.
    pub fn connection_opened(&self) {
        self.connections.inc();
        self.connections_total.inc();
    }

    /// A client's connection is gone.
    pub fn connection_closed(&self) {
        self.connections.dec();
    }

    /// The door turned a request away; `reason` is a word of the code.
    pub fn door_refused(&self, reason: &'static str) {
        self.door_refused.get_or_create(&[("reason", reason)]).inc();
    }

    /// Counted by the events `Reloaded` and `ReloadFailed`, and only there.
    pub(crate) fn config_reloaded(&self, result: &'static str) {
        self.config_reloads
            .get_or_create(&[("result", result)])
            .inc();
    }

    /// Counted by the events of a hand-over, and only there.
    pub(crate) fn handover(&self, result: &'static str) {
        self.handovers.get_or_create(&[("result", result)]).inc();
    }

    /// The observer could not keep up. Counted by the observer itself.
    pub(crate) fn dropped(&self, what: Dropped, count: u64) {
        // No lookup: where everything is dropped, this is on the way of every hit.
        self.dropped[what as usize].inc_by(count);
    }

    /// A collector took so many of `what`.
    pub(crate) fn exported(&self, what: &'static str, count: u64) {
        self.exported.get_or_create(&[("what", what)]).inc_by(count);
    }

    pub(crate) fn export_failed(&self) {
        self.export_failures.inc();
    }

    pub(crate) fn panicked(&self) {
        self.panics.inc();
    }

    /// Learns the time, Unix ms, from someone who knows it.
    pub(crate) fn saw(&self, now_ms: u64) {
        self.latest_ms.store(now_ms, Relaxed);
    }

    /// Learns that it is at least so late.
    pub(crate) fn saw_at_least(&self, now_ms: u64) {
        self.latest_ms.fetch_max(now_ms, Relaxed);
    }

    /// Learns that time went by since anyone told it.
    pub(crate) fn passed(&self, ms: u64) {
        self.latest_ms.fetch_add(ms, Relaxed);
    }

    /// The latest time anyone told us, Unix ms.
    pub(crate) fn latest_ms(&self) -> u64 {
        self.latest_ms.load(Relaxed)
    }

    /// Everything as Prometheus text, format 0.0.4, as of `now_ms` (Unix ms).
    pub(crate) fn render(&self, now_ms: u64, in_flight: usize, lines_lost: u64) -> String {
        let alert_ms = self.alert_ms.load(Relaxed);
        let alert = alert_ms != 0 && now_ms.abs_diff(alert_ms) < ALERT_MS;
        self.control_alert.set(i64::from(alert));
        self.requests_in_flight
            .set(i64::try_from(in_flight).unwrap_or(i64::MAX));
        let lines = self
            .telemetry_dropped
            .get_or_create_owned(&[("what", "line")]);
        lines.inner().store(lines_lost, Relaxed);

        let mut text = String::new();
        prometheus_text::encode(&mut text, &self.registry)
            .expect("writing to a string cannot fail");
        text
    }

    fn raise_alert(&self) {
        // 0 means never, so the first moment of 1970 counts as the second.
        self.alert_ms.store(self.latest_ms().max(1), Relaxed);
    }
}

impl Drop for FillInFlight {
    fn drop(&mut self) {
        self.0.dec();
    }
}

impl Underway {
    fn begin(gauge: Gauge) -> Self {
        gauge.inc();
        Self(gauge)
    }
}

impl Drop for Underway {
    fn drop(&mut self) {
        self.0.dec();
    }
}

impl StrippedFrom {
    const fn as_str(self) -> &'static str {
        match self {
            StrippedFrom::Visitor => "visitor",
            StrippedFrom::Origin => "origin",
        }
    }
}

impl UpstreamResult {
    const fn as_str(self) -> &'static str {
        match self {
            UpstreamResult::Ok => "ok",
            UpstreamResult::Error => "error",
            UpstreamResult::Timeout => "timeout",
            UpstreamResult::Unverified => "unverified",
        }
    }
}

impl FillEnd {
    const fn as_str(self) -> &'static str {
        match self {
            FillEnd::Stored => "stored",
            FillEnd::Streamed => "streamed",
            FillEnd::NotStored => "not_stored",
            FillEnd::Broken => "broken",
            FillEnd::Failed => "failed",
        }
    }
}

impl Dropped {
    /// Everything, in declaration order.
    const ALL: [Dropped; 4] = [
        Dropped::Record,
        Dropped::Event,
        Dropped::Span,
        Dropped::LogRecord,
    ];

    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Dropped::Record => "record",
            Dropped::Event => "event",
            Dropped::Span => "span",
            Dropped::LogRecord => "log_record",
        }
    }
}

#[cfg(test)]
mod tests;
