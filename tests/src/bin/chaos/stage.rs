//! The topology, the origin, the name server and the visitors: everything that runs.

use std::time::Duration;

use tests::under_load::{CountingOrigin, Load, Pace};
use tests::{NameServer, Relay};

use crate::setting::{EDGES, Kind, Setting, UPPERS, at, nodes};

/// What the origin takes for each answer: long enough for fills to meet.
const ORIGIN_THINKS: Duration = Duration::from_millis(20);

/// Enough connections that the pace is kept while every miss takes as long as a node
/// waits for the origin.
const CONNECTIONS: usize = 1_200;

/// How much later everything comes through a relay, in each direction.
pub(crate) const LATE: Duration = Duration::from_millis(300);

/// For how long the name server's answers hold, seconds: not for long.
const NAME_TTL_S: u32 = 1;

/// Everything that runs.
pub(crate) struct Stage {
    // Before the nodes, so that it ends before them.
    pub(crate) load: Load,
    pub(crate) origin: CountingOrigin,
    pub(crate) names: NameServer,
    /// One before each upper tier, which nobody knows of until a fault leads there.
    pub(crate) relays: Vec<Relay>,
    pub(crate) setting: Setting,
    per_second: u64,
}

impl Stage {
    /// Starts everything, and waits until every page is stored that is to be.
    pub(crate) async fn set(kind: Kind, per_second: usize) -> Self {
        let mut setting = Setting::make(kind).await;
        let plan = setting.plan();
        let origin = CountingOrigin::start_at(at(plan.origin()), ORIGIN_THINKS).await;
        let names = NameServer::start_at(plan.host()).await;
        setting.write_files(origin.address().port(), names.address());
        let all: Vec<_> = nodes().collect();
        let mut relays = Vec::new();
        for upper in UPPERS {
            let target = setting.listener(upper);
            relays.push(Relay::of_late_bytes(at(plan.host()), target, LATE).await);
        }
        names.says(plan.origin(), NAME_TTL_S);
        setting.start(&all).await;
        let pace = Pace {
            connections: CONNECTIONS,
            per_second,
        };
        let stage = Self {
            load: Load::start(&EDGES.map(|edge| setting.listener(edge)), pace),
            origin,
            names,
            relays,
            setting,
            per_second: per_second as u64,
        };
        stage.load.warm().await;
        stage
    }

    /// The name server says where the origin is.
    pub(crate) fn names_are_known(&self) {
        self.names.says(self.setting.plan().origin(), NAME_TTL_S);
    }

    /// Waits for as many requests as are made in so many seconds.
    pub(crate) async fn seconds(&self, seconds: u64) {
        self.load.answered(self.per_second * seconds).await;
    }

    /// Ends everything.
    pub(crate) async fn strike(self) {
        self.load.stop().await;
    }
}
