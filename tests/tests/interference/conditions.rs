//! Everything that tracing can be, and can fail in.

use node::Fault;
use tests::{Origin, Reply};

/// One state of tracing.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Condition {
    pub(crate) name: &'static str,
    /// The share of requests that is traced.
    pub(crate) ratio: f64,
    pub(crate) collector: Collector,
    /// Whether it is told by gRPC, and not by HTTP.
    pub(crate) grpc: bool,
    pub(crate) fault: Option<Fault>,
    /// Records that may wait for the observer.
    pub(crate) queue: usize,
    /// Whether nodes log at level trace, in which every request has its lines. The
    /// process's log is open from the first such condition on.
    pub(crate) logs: bool,
}

/// Whom the nodes tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Collector {
    /// Nobody.
    None,
    /// One that takes everything.
    Sound,
    /// A port where nobody listens.
    Absent,
    /// 503 to everything.
    Refusing,
    /// The connection ends when the request is there.
    HangingUp,
    /// The connection is reset when the request is there.
    Resetting,
    /// Connections are taken and never answered.
    Hanging,
    /// What comes back is no HTTP.
    Garbage,
}

const QUIET: Condition = Condition {
    name: "off",
    ratio: 0.0,
    collector: Collector::None,
    grpc: false,
    fault: None,
    queue: 8_192,
    logs: false,
};

const ALL: Condition = Condition {
    name: "all",
    ratio: 1.0,
    collector: Collector::Sound,
    ..QUIET
};

const fn told_to(name: &'static str, collector: Collector) -> Condition {
    Condition {
        name,
        collector,
        ..ALL
    }
}

const fn by_grpc(name: &'static str, collector: Collector) -> Condition {
    Condition {
        grpc: true,
        ..told_to(name, collector)
    }
}

/// Off is what the others are compared with. Those that open the log come last, since
/// a process does not close it again.
pub(crate) const OFF: Condition = QUIET;
pub(crate) const EVERYTHING: Condition = ALL;
pub(crate) const OTHERS: [Condition; 16] = [
    // Once more: what differs between these two is no fault of tracing.
    Condition {
        name: "off, again",
        ..QUIET
    },
    ALL,
    Condition {
        name: "sampled",
        ratio: 0.5,
        ..ALL
    },
    told_to("collector absent", Collector::Absent),
    told_to("collector refusing", Collector::Refusing),
    told_to("collector hanging up", Collector::HangingUp),
    told_to("collector resetting", Collector::Resetting),
    told_to("collector hanging", Collector::Hanging),
    told_to("collector answering garbage", Collector::Garbage),
    by_grpc("gRPC, collector absent", Collector::Absent),
    by_grpc("gRPC, collector hanging", Collector::Hanging),
    by_grpc("gRPC, collector answering garbage", Collector::Garbage),
    Condition {
        name: "queue full",
        fault: Some(Fault::Stall),
        queue: 1,
        ..ALL
    },
    Condition {
        name: "observer thread panicking",
        fault: Some(Fault::PanicOnEveryRecord),
        ..ALL
    },
    Condition {
        name: "log level trace, nothing traced",
        logs: true,
        ..QUIET
    },
    Condition {
        name: "log level trace, everything traced",
        logs: true,
        ..ALL
    },
];

impl Collector {
    /// Whether what is sent to it is lost.
    pub(crate) fn fails(self) -> bool {
        !matches!(self, Self::None | Self::Sound)
    }

    /// What a server of the harness has to answer for it, where one can.
    fn reply(self) -> Option<Reply> {
        match self {
            Self::Sound => Some(Reply::new(200).with("Content-Type", "application/x-protobuf")),
            Self::Refusing => Some(Reply::new(503)),
            Self::HangingUp => Some(Reply::hang_up()),
            Self::Hanging => Some(Reply::silence()),
            Self::Garbage => Some(Reply::raw("what is this\r\n\r\n")),
            Self::None | Self::Absent | Self::Resetting => None,
        }
    }

    /// Starts it. It ends when it is dropped.
    pub(crate) async fn start(self) -> Started {
        let mut started = Started::default();
        if let Some(reply) = self.reply() {
            let server = Origin::start().await;
            server.on_others(move |_| reply.clone());
            started.address = Some(server.address());
            started.server = Some(server);
        } else if self != Self::None {
            let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await;
            let listener = listener.unwrap();
            started.address = Some(listener.local_addr().unwrap());
            if self == Self::Resetting {
                started.resetting = Some(tokio::spawn(reset_all(listener)));
            }
        }
        started
    }
}

/// A collector as it runs.
#[derive(Debug, Default)]
pub(crate) struct Started {
    pub(crate) address: Option<std::net::SocketAddr>,
    pub(crate) server: Option<Origin>,
    resetting: Option<tokio::task::JoinHandle<()>>,
}

impl Drop for Started {
    fn drop(&mut self) {
        if let Some(resetting) = &self.resetting {
            resetting.abort();
        }
    }
}

/// Closes each connection with a reset, once something has come.
async fn reset_all(listener: tokio::net::TcpListener) {
    while let Ok((stream, _)) = listener.accept().await {
        let _ = stream.readable().await;
        let _ = stream.set_zero_linger();
    }
}
