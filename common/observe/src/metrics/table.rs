//! Names and sentences of every metric, in the order they are shown.
//!
//! The registry prefixes `headwater_`, the encoder appends `_total` to counters
//! and the registry a full stop to each sentence.

use std::sync::atomic::AtomicU64;
use std::sync::{Arc, OnceLock};

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Metric, Registry};

use super::hot::{Hot, HotCollector};
use super::labels::{Peers, Word};
use super::{Dropped, FillEnd, Metrics, StrippedFrom};
use crate::export::EXPORTED;

/// Every metric at zero. Series whose labels the code names exist from the start,
/// so that the first increment of each is seen as one.
pub(super) fn metrics() -> Metrics {
    let mut table = Table {
        registry: Registry::with_prefix("headwater"),
    };
    let t = &mut table;
    t.add(
        "build",
        "The version that runs. More than one in a fleet for long is a rollout that \
         hangs",
        Info::new([("version", env!("CARGO_PKG_VERSION"))]),
    );
    let hot = Arc::new(Hot::default());
    t.registry
        .register_collector(Box::new(HotCollector(Arc::clone(&hot))));

    let metrics = Metrics {
        hot,
        http: OnceLock::new(),
        claimed_peers: Peers::default(),
        peers: Peers::default(),
        sites: Peers::default(),
        pools: Peers::default(),
        latest_ms: AtomicU64::new(0),
        alert_ms: AtomicU64::new(0),
        control_rejected: t.zero(
            "tier_control_rejected",
            "Control blocks that this node found missing or could not verify. Compare \
             keys and clocks with the peer named, look for an intermediary that \
             changes fields; the log says which",
        ),
        refused: t.zero(
            "tier_refused",
            "Requests that an upper tier refused because of their control block. \
             Requests take other ways meanwhile; compare keys and clocks with that \
             upper tier",
        ),
        control_alert: t.zero(
            "tier_control_alert",
            "1 while a control block was rejected or refused within the last 60 \
             seconds. Alert on this: visitors are served, but by other ways than \
             meant",
        ),
        stripped: t.words(
            "stripped_tier_fields",
            "Tier fields and signatures removed from messages that must not carry \
             them. Many from visitors is someone probing, any from an origin a \
             misrouted answer",
            "from",
            &[
                StrippedFrom::Visitor.as_str(),
                StrippedFrom::Origin.as_str(),
            ],
        ),
        upstream_requests: t.zero(
            "upstream_requests",
            "Requests sent upstream by their result. Errors and timeouts of one peer \
             are its fault, of all peers this node's or the network's",
        ),
        upstream_connections: t.zero(
            "upstream_connections",
            "Connections that requests upstream went over. A small share of reused \
             ones costs a handshake each; look at idle timeouts on both sides",
        ),
        upper_tier_up: t.zero(
            "upper_tier_up",
            "1 while that upper tier is asked, 0 while it is passed over. All at 0: \
             this edge lives on stale content and origins",
        ),
        fills_in_flight: t.zero(
            "fills_in_flight",
            "Fills that run now. A number that only grows is upstreams that do not \
             answer",
        ),
        fill_bytes_in_flight: t.zero(
            "fill_bytes_in_flight",
            "Body bytes that running fills hold. Near its limit, fills slow down to \
             the pace of their readers",
        ),
        fills: t.words(
            "fills",
            "Ended fills by how they ended. Broken and failed ones are upstream \
             faults; many not stored are sites whose content cannot be cached",
            "end",
            &[
                FillEnd::Stored.as_str(),
                FillEnd::Streamed.as_str(),
                FillEnd::NotStored.as_str(),
                FillEnd::Broken.as_str(),
                FillEnd::Failed.as_str(),
            ],
        ),
        collapsed: t.zero(
            "collapsed",
            "Requests that read from another's fill. Each is one the upstream was \
             spared",
        ),
        hit_for_miss: t.zero(
            "hit_for_miss",
            "Keys marked as not worth waiting for. A steep rise is a site that began \
             to send uncacheable answers",
        ),
        laggards_cut: t.zero(
            "laggards_cut",
            "Readers cut off because a fill could not wait for them. More than a few: \
             raise the limit of bytes in flight",
        ),
        resumed: t.zero(
            "resumed",
            "Fills that broke off and went on from another upstream. Visitors noticed \
             nothing; the first upstream is worth a look",
        ),
        stale_served: t.zero(
            "stale_served",
            "Stale answers by why they were served. Those for errors are an origin or \
             tier outage that visitors are spared",
        ),
        direct: t.zero(
            "direct",
            "Requests an edge took to an origin past its upper tiers. Any at all \
             means no upper tier gave a verified answer",
        ),
        direct_in_flight: t.zero(
            "direct_in_flight",
            "Fetches under way past the upper tiers. At the site's \
             `direct_in_flight_max`, what is stale is served and other requests wait; \
             mend the upper tiers before raising it",
        ),
        direct_held: t.zero(
            "direct_held",
            "Requests that found every direct fetch of their site taken, by what became \
             of them: stale content, a wait, or 503 after one or for want of room to. \
             Refused ones are visitors with an error; upper tiers or origin are too slow",
        ),
        origin_in_flight: t.zero(
            "origin_in_flight",
            "Fetches this node has under way at the origin of a pool. At the pool's \
             `in_flight_max`, what is stale is served and other requests wait: the \
             origin is slower than its load asks for",
        ),
        origin_held: t.zero(
            "origin_held",
            "Requests that found every place at their origin taken, by what became of \
             them: stale content, a wait, or 503 after one or for want of room to. \
             Refused ones are visitors with an error; help the origin, or raise \
             `in_flight_max` if it can bear more",
        ),
        retries: t.zero(
            "retries",
            "Requests that asked again by another way, direct ones apart, after one that \
             gave no verified answer and may have worked on it. Many are an upper tier or origin that \
             fails slowly; `upstream_requests` says which",
        ),
        retries_held: t.words(
            "retries_held",
            "Requests that were to be asked again and found the budget for that spent, \
             by what became of them: stale content, a wait, and after a wait the origin \
             itself where it may be asked, or an error. Refused ones are visitors with \
             an error; whoever is left is too slow",
            "then",
            &["stale", "waited", "direct", "refused"],
        ),
        shed: t.zero(
            "shed",
            "Fetches that were not begun because `fetches_max` were under way. Visitors \
             got something stale or 503; upstreams are too slow, or there are too few \
             nodes",
        ),
        upper_tier_full: t.zero(
            "upper_tier_full",
            "Requests that passed over an upper tier with `in_flight_max` requests under \
             way, and took the next way. It is too slow, or too much is asked of it",
        ),
        upper_tier_unreached: t.zero(
            "upper_tier_unreached",
            "Answers in which an upper tier said that no server of an origin answered it; \
             the requests took the next way. Look at the way from that node to the \
             origin, and at the origin if all of them say so",
        ),
        nearest: t.zero(
            "nearest",
            "1 for the upper tier over which an origin pool is fastest, as this node \
             measures it for sites with `topology = \"auto\"`, 0 for the others. The admin \
             page /tiers says why",
        ),
        nearest_changes: t.zero(
            "nearest_changes",
            "How often another upper tier became the nearest to some origin, its first \
             choice included. Each change meets a cold store; many are two upper tiers \
             that are equally near, or one that stutters",
        ),
        hedges: t.words(
            "hedges",
            "Requests that an upper tier answered late and that asked another one's \
             store, by what came of it. Many won ones are an upper tier that stutters; \
             if few are, `hedge` is not worth it",
            "end",
            &["won", "lost", "not_stored", "failed"],
        ),
        purges: t.zero(
            "purges",
            "Purges by result. Failed ones may leave old content in place: purge \
             again",
        ),
        store_bytes: t.zero(
            "store_bytes",
            "Bytes the store holds. At its limit while the hit ratio falls, a larger \
             store helps",
        ),
        store_objects: t.zero("store_objects", "Objects the store holds"),
        store_evictions: t.zero(
            "store_evictions",
            "Objects evicted to make room. A high rate with a low hit ratio asks for \
             a larger store",
        ),
        connections: t.zero(
            "connections",
            "Client connections open now. Compare with the node's limit of \
             connections and of files",
        ),
        connections_total: t.zero(
            "connections",
            "Client connections accepted since the start. A rate near that of \
             requests is clients that do not keep them",
        ),
        requests_in_flight: t.zero(
            "requests_in_flight",
            "Requests being served that were no plain hits. The admin listener lists \
             them; one that stays for minutes hangs",
        ),
        door_refused: t.zero(
            "door_refused",
            "Requests the door turned away, by reason. A burst is a scanner or a \
             broken client; unknown hosts are a name pointing here that no site has",
        ),
        config_reloads: t.words(
            "config_reloads",
            "Attempts to load sites and keys anew. A failed one left the old \
             configuration in force; the log names file and line",
            "result",
            &["ok", "failed"],
        ),
        handovers: t.words(
            "handovers",
            "Listening sockets taken over from the process before, given to the one \
             after, or asked for by one that did not come to serve. After a failed one \
             the old process goes on; the log of both says why",
            "result",
            &["taken", "given", "failed"],
        ),
        telemetry_dropped: t.words(
            "telemetry_dropped",
            "Log lines, spans and log records that were lost because they could not be taken in \
             time. Requests and counters are not affected; look at disk, log pipe and \
             collector, or lower the sampling",
            "what",
            &[
                Dropped::Record.as_str(),
                Dropped::Event.as_str(),
                Dropped::Span.as_str(),
                Dropped::LogRecord.as_str(),
                "line",
            ],
        ),
        exported: t.words(
            "telemetry_exported",
            "Spans and log records that the collector took, and snapshots of metrics. \
             One that stands still under load is a collector that is not reached, or \
             refuses: look at export failures",
            "what",
            &EXPORTED,
        ),
        export_failures: t.zero(
            "telemetry_export_failures",
            "Batches of spans, log records or metrics that the collector did not take. \
             Check that it runs at the configured endpoint and speaks the configured \
             protocol; the log says what it answered",
        ),
        panics: t.zero(
            "telemetry_panics",
            "Panics contained in the observer's threads. Requests are not affected; \
             each is a defect worth a report",
        ),
        dropped: Default::default(),
        registry: Registry::default(),
    };
    let dropped = Dropped::ALL.map(|what| {
        metrics
            .telemetry_dropped
            .get_or_create_owned(&[("what", what.as_str())])
    });
    Metrics {
        registry: table.registry,
        dropped,
        ..metrics
    }
}

struct Table {
    registry: Registry,
}

impl Table {
    fn add(&mut self, name: &str, help: &str, metric: impl Metric) {
        self.registry.register(name, help, metric);
    }

    fn zero<M: Metric + Clone + Default>(&mut self, name: &str, help: &str) -> M {
        let metric = M::default();
        self.add(name, help, metric.clone());
        metric
    }

    fn words(
        &mut self,
        name: &str,
        help: &str,
        label: &'static str,
        values: &[&'static str],
    ) -> Family<Word, Counter> {
        let family: Family<Word, Counter> = self.zero(name, help);
        for value in values {
            drop(family.get_or_create(&[(label, value)]));
        }
        family
    }
}
