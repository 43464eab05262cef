//! One request on its way through: whom it asks next, what goes out, and what
//! came of it.

use std::sync::Arc;

use control::{NoAnswer, Receipt, TierResult};
use http::header::{
    CONNECTION, CONTENT_LENGTH, DATE, EXPECT, HeaderValue, TRANSFER_ENCODING, UPGRADE,
};
use http::{HeaderMap, Method, StatusCode};
use http_cache::Arrival;
use observe::{Attempt, InFlightGuard};
use pingora_core::upstreams::peer::{HttpPeer, HttpUpstreamRequestPolicy};
use pingora_error::{Error, ErrorType, Result};
use pingora_http::RequestHeader;
use tokio::sync::OwnedSemaphorePermit;
use topology::{Ended, Progress, Step, next_step};

use super::keep::Keeping;
use super::last_stop;
use super::{NO_ANSWER, UNSOUND, UNVERIFIED, lost};
use crate::door::head::Framing;
use crate::fill::patience::{Patience, ends_at_origin};
use crate::fill::place::{self, Place};
use crate::fill::reach::{self, Route};
use crate::fill::retries::{self, Instead, Live, Retry};
use crate::fill::tiers;
use crate::groups;
use crate::ids;
use crate::key::Resource;
use crate::purge::{self, Force};
use crate::report;
use crate::request::Request;
use crate::seal::{Outbound, Purpose, seal};
use crate::state::Node;
use crate::upstream::send::{SendError, framing_is_sound, wire_header};
use crate::upstream::{Target, host_only, millis};

/// How long an upgraded connection may be silent. What is spoken on it has its own
/// signs of life, and HTTP's patience does not apply.
pub(crate) const UPGRADED_IDLE_MS: u64 = 5 * 60 * 1000;

/// An attempt for which little time is left still has this much: it bounds the pauses in
/// the answer's body as well.
const PATIENCE_MS_MIN: u64 = 1_000;

/// What is known once a request was let in to pass.
#[derive(Debug)]
pub(super) struct OnTheWay {
    pub(super) request: Request,
    pub(super) outbound: Outbound,
    targets: std::vec::IntoIter<Target>,
    /// Its place at an origin, once it asks one; held to its end.
    place: Option<Place>,
    /// Its seat at the upper tier that it asks, where it asks one.
    seat: Option<OwnedSemaphorePermit>,
    /// Its place among what needs upstream work, until it is no request any more.
    fetch: Option<OwnedSemaphorePermit>,
    /// It is on a further attempt.
    retry: Option<Retry>,
    _live: Live,
    /// Whom it asks now, and that target's addresses not yet tried.
    target: Option<Target>,
    peers: std::vec::IntoIter<HttpPeer>,
    /// The peer asked last, and whether it may be asked once more.
    asked: Option<HttpPeer>,
    asked_again: bool,
    /// The time for all it may ask.
    patience: Patience,
    receipt: Option<Receipt>,
    /// What came is an upper tier's word that no origin server answered it.
    pub(super) no_answer: Option<NoAnswer>,
    span_id: [u8; 8],
    attempt_from_us: u64,
    /// How long the attempt may be without a sign of an answer, and whether one came.
    attempt_ms: u64,
    has_answered: bool,
    pub(super) attempts: Vec<Attempt>,
    /// What went wrong with the last attempt.
    pub(super) failure: Option<SendError>,
    pub(super) body_bytes: u64,
    framing: Framing,
    pub(super) upgrade: Option<HeaderValue>,
    expects_continue: bool,
    /// When the last attempt's head was made, Unix milliseconds.
    sent_ms: u64,
    /// The answer, where it is kept for later GETs.
    pub(super) keeping: Option<Keeping>,
    _visible: InFlightGuard,
}

impl OnTheWay {
    /// One that has its place among what needs upstream work.
    pub(super) fn new(
        node: &Node,
        request: Request,
        framing: Framing,
        fetch: OwnedSemaphorePermit,
    ) -> Self {
        let mut outbound = Outbound::new(node, &request, Purpose::Alone);
        let upgrade = request.fields.get(UPGRADE).cloned();
        if let Some(upgrade) = &upgrade {
            // What protocol to change to alters the answer, so it is sealed.
            outbound.fields.insert(UPGRADE, upgrade.clone());
        }
        let expects_continue = outbound.fields.remove(EXPECT).is_some();
        outbound.fields.remove(CONTENT_LENGTH);
        last_stop::count_down(&request, &mut outbound.fields);
        let route = Route {
            live: Arc::clone(&request.live),
            site: Arc::clone(&request.site),
            digest: request.digest().0,
            hop: request.hop(),
            stale_may_serve: false,
            only_if_cached: false,
            watch: request.watch,
            interim: None,
            is_retry: false,
        };
        let targets = reach::targets(node, &route, node.now_ms());
        Self {
            outbound,
            targets: targets.into_vec().into_iter(),
            place: None,
            seat: None,
            fetch: Some(fetch),
            retry: None,
            _live: node.retries.begin(),
            target: None,
            peers: Vec::new().into_iter(),
            asked: None,
            asked_again: false,
            patience: Patience::of(node, request.hop()),
            receipt: None,
            no_answer: None,
            span_id: [0; 8],
            attempt_from_us: 0,
            attempt_ms: 0,
            has_answered: false,
            attempts: Vec::new(),
            failure: None,
            body_bytes: 0,
            framing,
            upgrade,
            expects_continue,
            sent_ms: 0,
            keeping: None,
            _visible: report::in_flight(node, &request, "pass"),
            request,
        }
    }

    /// Whom the last attempt asked.
    pub(super) fn target_name(&self, node: &Node) -> String {
        self.target
            .as_ref()
            .map_or_else(String::new, |target| target.name(node))
    }

    /// Whether there is anybody left to ask.
    pub(super) fn has_another(&self) -> bool {
        self.targets.len() > 0 || self.peers.len() > 0
    }

    /// Whether the request may be sent again after its last attempt ended so, were
    /// there somebody to ask.
    pub(super) fn may_ask_again(&self, ended: Ended) -> bool {
        let step = next_step(Progress {
            safe: self.request.method.is_safe(),
            ended: Some(ended),
            another: true,
            in_time: self
                .patience
                .left_ms(self.request.watch.elapsed_ms())
                .is_some(),
        });
        step == Step::Ask
    }

    /// How long the next attempt may be without a sign of an answer.
    fn patience_ms(&self, node: &Node) -> u64 {
        let Some(target) = &self.target else { return 0 };
        if self.upgrade.is_some() {
            return UPGRADED_IDLE_MS;
        }
        if self.framing != Framing::None {
            // pingora reads while it still sends, so this runs during an upload too.
            return target.pass_wait_ms(node);
        }
        let left_ms = self.left_for_ms(target).unwrap_or(0);
        target.head_wait_ms(node).min(left_ms.max(PATIENCE_MS_MIN))
    }

    /// What `target` may have of the time that is left. None: nothing.
    fn left_for_ms(&self, target: &Target) -> Option<u64> {
        let spent_ms = self.request.watch.elapsed_ms();
        let after = self.targets.as_slice();
        let is_first = self.failure.is_none();
        self.patience.left_for_ms(target, after, is_first, spent_ms)
    }

    /// Asks the peer of before once more, on a connection of its own.
    pub(super) fn ask_again(&mut self) {
        if let Some(peer) = self.asked.take().filter(|_| !self.asked_again) {
            self.asked_again = true;
            let mut peers = vec![peer];
            peers.extend(self.peers.by_ref());
            self.peers = peers.into_iter();
        }
    }

    /// The next peer: another address of the same target, or the next target's.
    pub(super) async fn next_peer(&mut self, node: &Node) -> Result<HttpPeer> {
        if self.peers.len() == 0 {
            self.next_target(node).await?;
        }
        let mut peer = self.peers.next().ok_or_else(|| {
            let mut error = Error::explain(ErrorType::ConnectError, "no way is left");
            error.as_up();
            error
        })?;
        self.span_id = ids::span_id();
        self.attempt_from_us = self.request.watch.elapsed_us();
        // The seal decides what goes out; pingora adds nothing before it.
        peer.options.http_upstream_request_policy = HttpUpstreamRequestPolicy::preserve();
        self.attempt_ms = self.patience_ms(node);
        self.has_answered = false;
        peer.options.read_timeout = Some(millis(self.attempt_ms));
        self.asked = Some(peer.clone());
        Ok(peer)
    }

    /// The next target that has a seat for it, while there is time for that.
    fn free_target(&mut self, node: &Node) -> Option<Target> {
        while let Some(target) = self.targets.next() {
            if self.left_for_ms(&target).is_none() {
                continue;
            }
            match target.seat(node) {
                Ok(seat) => {
                    self.seat = seat;
                    return Some(target);
                }
                Err(full) => {
                    self.target = Some(target);
                    // What may have been executed stays the reason.
                    self.failure.get_or_insert(full);
                }
            }
        }
        None
    }

    /// Whether `target` may be asked, as far as the budget of retries goes.
    async fn may_ask(&mut self, node: &Node, target: &Target) -> bool {
        let site = &self.request.site.config;
        if target.is_origin() && tiers::asks_tiers(node, site, self.request.hop()) {
            // Direct fetches have a budget of their own.
            self.retry = None;
            return true;
        }
        let again = self.failure.map(SendError::ended);
        if !again.is_some_and(topology::takes_from_budget) || self.retry.is_some() {
            return true;
        }
        let wait_ms = self.left_for_ms(target).unwrap_or(0);
        let instead = Instead::of(false, ends_at_origin(self.targets.as_slice()));
        self.retry = match target.is_cut_off(node, &site.pool.name, node.now_ms()) {
            true => retries::enter_at_once(node, instead),
            false => retries::enter(node, instead, wait_ms).await,
        };
        self.retry.is_some()
    }

    async fn next_target(&mut self, node: &Node) -> Result<()> {
        self.seat = None;
        let target = loop {
            let Some(target) = self.free_target(node) else {
                return Ok(());
            };
            if self.may_ask(node, &target).await {
                break target;
            }
            if !ends_at_origin(self.targets.as_slice()) {
                self.targets = Vec::new().into_iter();
                return Err(of_upstream(ErrorType::ConnectError, "no room to ask again"));
            }
        };
        let site = &self.request.site.config;
        if target.is_origin() && self.place.is_none() {
            let hop = self.request.hop();
            let wait_ms = self.left_for_ms(&target).unwrap_or(0);
            match place::enter(node, site, hop, false, wait_ms).await {
                Ok(place) => self.place = Some(place),
                Err(full) => {
                    self.target = Some(target);
                    self.targets = Vec::new().into_iter();
                    self.failure = Some(full);
                    return Err(of_upstream(
                        ErrorType::ConnectError,
                        "no room at the origin",
                    ));
                }
            }
        }
        let host = match &target {
            Target::Origin { pool, .. } => pool.host_header.as_deref(),
            Target::Upper(_) => None,
        };
        let host = host_only(host.unwrap_or(&self.outbound.authority)).to_owned();
        let peers = target.peers(node, &host, node.now_ms()).await;
        self.target = Some(target);
        match peers {
            Ok(peers) => {
                self.peers = peers.into_vec().into_iter();
                Ok(())
            }
            Err(_) => {
                let failure = SendError::Dns;
                self.failed(node, failure, true);
                let mut error = Error::explain(ErrorType::ConnectError, "no address");
                error.as_up();
                error.set_retry(self.may_ask_again(failure.ended()) && self.has_another());
                Err(error)
            }
        }
    }

    /// The request head for the peer asked now: sealed, and framed.
    pub(super) fn header(&mut self, node: &Node, body_is_empty: bool) -> Result<RequestHeader> {
        let target = self.target.as_ref().ok_or_else(lost)?;
        let live = &self.request.live;
        let now_ms = node.now_ms();
        self.sent_ms = now_ms;
        let sealed = seal(node, live, &self.outbound, target, self.span_id, now_ms)
            .map_err(|_| Error::explain(ErrorType::InternalError, "it cannot be sealed"))?;
        self.receipt = sealed.receipt().cloned();
        let mut header = wire_header(&sealed)
            .ok_or_else(|| Error::explain(ErrorType::InternalError, "it cannot be built"))?;
        // Framing belongs to the connection, not to what was sealed.
        match self.framing {
            // RFC 9110 §8.6: where a body is expected, that there is none is said.
            Framing::None if expects_body(&header.method) && body_is_empty => {
                header.insert_header(CONTENT_LENGTH, 0)?;
            }
            Framing::None => {}
            Framing::Length(length) => {
                header.insert_header(CONTENT_LENGTH, length)?;
            }
            Framing::Chunked => {
                header.insert_header(TRANSFER_ENCODING, "chunked")?;
            }
        }
        if self.upgrade.is_some() {
            header.insert_header(CONNECTION, "upgrade")?;
        }
        if self.expects_continue {
            header.insert_header(EXPECT, "100-continue")?;
        }
        Ok(header)
    }

    /// Verifies the answer and takes the control fields off it. What an unsafe
    /// method changed is no longer stored; what it answered may be from now on.
    /// `whole` says that all of the request is still here, to be sent again.
    pub(super) fn accept(
        &mut self,
        node: &Arc<Node>,
        status: StatusCode,
        fields: &mut HeaderMap,
        whole: bool,
    ) -> Result<()> {
        let mut age_ms = None;
        if !framing_is_sound(fields) {
            self.failed(node, SendError::Garbage, true);
            return Err(of_upstream(UNSOUND, "an unknown transfer coding"));
        }
        if let Some(receipt) = &self.receipt {
            let keyring = &self.request.live.keyring;
            match control::verify_response(status, fields, receipt, keyring, node.now_ms()) {
                Ok(result) => {
                    control::strip(fields);
                    self.heed(node, status, &result, whole)?;
                    age_ms = result.age_ms;
                    if let Some(date_s) = result.date_s {
                        fields.insert(DATE, http_cache::date::format(date_s.saturating_mul(1000)));
                    }
                }
                Err(rejection) => {
                    let peer = self.target_name(node);
                    let failure = reach::unverified(node, &peer, status, fields, &rejection);
                    self.failed(node, failure, true);
                    return Err(of_upstream(UNVERIFIED, "tier-result does not verify"));
                }
            }
        } else {
            reach::strip_from_origin(node, fields);
        }
        if let Some(target) = &self.target {
            target.report(node, node.now_ms(), Ok(()));
        }
        self.has_answered = true;
        self.retry = None;
        if status == StatusCode::SWITCHING_PROTOCOLS {
            self.was_upgraded();
        }
        self.record_attempt(node, Some(status.as_u16()), None);
        self.failure = None;
        self.invalidate(node, status, fields);
        groups::invalidate(node, &self.request, fields);
        let arrival = Arrival {
            request_ms: self.sent_ms,
            response_ms: node.now_ms(),
            age_ms,
        };
        self.keeping = Keeping::begin(node, &self.request, &self.outbound, status, fields, arrival);
        Ok(())
    }

    /// Takes note of what an upper tier says of its way to the origin. An error: it
    /// says that no origin server answered it, and there is another way to go.
    fn heed(
        &mut self,
        node: &Node,
        status: StatusCode,
        result: &TierResult,
        whole: bool,
    ) -> Result<()> {
        let now_ms = node.now_ms();
        if let Some(target) = &self.target {
            let pool = &self.request.site.config.pool.name;
            target.learn(node, now_ms, pool, &result.outcome);
        }
        self.no_answer = NoAnswer::of(&result.outcome);
        let Some(said) = self.no_answer else {
            return Ok(());
        };
        let failure = SendError::NoAnswer(said, status);
        if !(whole && self.has_another() && self.may_ask_again(failure.ended())) {
            return Ok(());
        }
        // The upper tier itself is well.
        if let Some(target) = &self.target {
            target.report(node, now_ms, Ok(()));
        }
        // Its other addresses are the same node.
        self.peers = Vec::new().into_iter();
        self.failed(node, failure, false);
        Err(of_upstream(NO_ANSWER, "no origin server answered it"))
    }

    /// The connection is no request any more: it speaks another protocol, and its
    /// number is bounded by that of visitors.
    fn was_upgraded(&mut self) {
        self.fetch = None;
        self.seat = None;
        if let Some(place) = &mut self.place {
            place.was_upgraded();
        }
    }

    /// Takes note of a peer that could not be connected to. Its target has failed
    /// once no address of it is left.
    pub(super) fn not_connected(&mut self, node: &Node, failure: SendError) {
        if self.peers.len() == 0 {
            self.failed(node, failure, true);
        }
    }

    /// Whether an attempt that timed out says something about whom it asked: its head did
    /// not come, and it was waited for as long as is usual.
    pub(super) fn had_its_chance(&self, node: &Node) -> bool {
        let Some(target) = &self.target else {
            return false;
        };
        let usual_ms = target.head_wait_ms(node).min(self.patience.budget_ms());
        !self.has_answered && reach::had_its_chance(self.attempt_ms, usual_ms)
    }

    /// Takes note of a failed attempt; `counts` against the target's health.
    pub(super) fn failed(&mut self, node: &Node, failure: SendError, counts: bool) {
        if let (Some(target), Some(why), true) = (&self.target, failure.failure(), counts) {
            target.report(node, node.now_ms(), Err(why));
        }
        self.record_attempt(node, None, Some(failure));
        self.failure = Some(failure);
    }

    fn record_attempt(&mut self, node: &Node, status: Option<u16>, failure: Option<SendError>) {
        let Some(target) = &self.target else { return };
        let name = target.name(node);
        let result = match failure {
            None => observe::UpstreamResult::Ok,
            // It answered us.
            Some(SendError::NoAnswer(..)) => observe::UpstreamResult::Ok,
            Some(SendError::Unverified | SendError::Refused) => observe::UpstreamResult::Unverified,
            Some(failure) if failure.is_timeout() => observe::UpstreamResult::Timeout,
            Some(_) => observe::UpstreamResult::Error,
        };
        node.observer
            .metrics()
            .upstream_request(&name, target.kind(), result);
        let now_us = self.request.watch.elapsed_us();
        self.attempts.push(Attempt {
            span_id: self.span_id,
            target: name,
            address: target.address(node).to_string(),
            kind: target.kind(),
            start_us: self.attempt_from_us,
            duration_us: now_us.saturating_sub(self.attempt_from_us),
            status,
            error: failure.map(SendError::as_str),
            reused_connection: false,
        });
    }

    /// RFC 9111 §4.4.
    fn invalidate(&self, node: &Node, status: StatusCode, fields: &HeaderMap) {
        let request = &self.request;
        if !http_cache::invalidates(&request.method, status) {
            return;
        }
        let targets =
            http_cache::invalidation_targets(&request.authority, &request.path_and_query, fields);
        for path_and_query in &targets {
            let resource = Resource {
                site: &request.site.config.name,
                scheme: request.scheme,
                host: &request.host,
                path_and_query,
            };
            let rules = &request.site.config.key;
            purge::purge_resource(node, resource, rules, Force::Hard, node.now_ms());
        }
    }
}

fn of_upstream(kind: ErrorType, why: &'static str) -> Box<Error> {
    let mut error = Error::explain(kind, why);
    error.as_up();
    error
}

/// Methods whose requests have a body as a rule.
fn expects_body(method: &Method) -> bool {
    [Method::POST, Method::PUT, Method::PATCH].contains(method)
}
