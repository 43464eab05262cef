//! What really goes over the hop: every head is sealed, signed, damaged and verified
//! with the functions the nodes use.
//!
//! A state holds messages by what they say ([`Ask`], [`Answer`]) and what was done to
//! them; here they become heads. What a function answered once is remembered, since
//! it can answer nothing else, and so millions of states need a few thousand
//! signatures.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::Hash;
use std::sync::{Arc, Mutex};

use control::{
    ControlBlock, KeyDigest, Keyring, NoAnswer, Outgoing, Reason, Received, Rejection, Scheme,
    SealedRequest, TierResult, TraceIds, Verified,
};
use http::header::{CACHE_CONTROL, ETAG, HeaderName, HeaderValue};
use http::{HeaderMap, Method, StatusCode};

use crate::state::{Answer, Ask, Errand, NODES, Ring};

/// The moment at which every run begins, Unix milliseconds.
pub const BEGIN_MS: u64 = 1_700_000_000_000;

/// The names of the upper tiers, by position.
pub const UPPERS: [&str; NODES] = ["upper-1", "upper-2"];

/// The names of the edges, by position.
pub const EDGES: [&str; NODES] = ["edge-1", "edge-2"];

const PROXY_STATUS: HeaderName = HeaderName::from_static("proxy-status");

/// What a hop does to a request's head.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum RequestHarm {
    /// Nothing.
    None,
    /// Every control field and the signature are gone, as in the outage.
    Cleared,
    /// `Tier-Control` is gone.
    ControlLost,
    /// The signature is gone.
    SignatureLost,
    /// `Tier-Control` says something else.
    ControlForged,
    /// Something else is asked for.
    TargetForged,
    /// A reading request becomes a writing one, and the other way round.
    MethodForged,
    /// A field is there that nobody signed.
    FieldAdded,
}

impl RequestHarm {
    /// Everything but nothing.
    pub const ALL: [Self; 7] = [
        Self::Cleared,
        Self::ControlLost,
        Self::SignatureLost,
        Self::ControlForged,
        Self::TargetForged,
        Self::MethodForged,
        Self::FieldAdded,
    ];
}

/// What a hop does to an answer's head.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum AnswerHarm {
    /// Nothing.
    None,
    /// Every control field and the signature are gone.
    Cleared,
    /// What is one visitor's is said to be everybody's.
    MadePublic,
    /// A good answer becomes an error, and the other way round.
    StatusForged,
    /// `Tier-Result` says something else.
    ResultForged,
    /// The content is said to be another.
    ContentForged,
    /// An upper tier's refusal, made up on the hop.
    Denied,
}

impl AnswerHarm {
    /// Everything but nothing.
    pub const ALL: [Self; 6] = [
        Self::Cleared,
        Self::MadePublic,
        Self::StatusForged,
        Self::ResultForged,
        Self::ContentForged,
        Self::Denied,
    ];
}

/// A head as it arrives.
#[derive(Debug, Clone)]
struct Head {
    method: Method,
    path: String,
    fields: HeaderMap,
}

/// What a node reads in an answer that verified.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Learned {
    /// Whether it is content, and no error.
    pub good: bool,
    /// It says that the upper tier did not reach the origin.
    pub no_answer: bool,
    /// It came from what was stored there.
    pub stored: bool,
    /// Which content it is, and its version.
    pub content: Option<(u8, u8)>,
    /// Whether it may be stored for everybody.
    pub public: bool,
}

/// How an edge sees an answer that does not verify.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Distrust {
    /// Its signature is missing or wrong.
    Unverified,
    /// It is an upper tier's refusal, or looks like one.
    Refused,
    /// The same, for this request alone.
    Declined,
}

type Requests = HashMap<(Ask, RequestHarm, u8, Ring, u32), Result<Arc<Verified>, Reason>>;
type Answers = HashMap<(Answer, AnswerHarm, Ask, Ring, u32), Result<Learned, Distrust>>;

/// Every head of a run, and what became of it.
#[derive(Debug)]
pub struct Wire {
    rings: Vec<Keyring>,
    skew_ms: [i32; NODES],
    sealed: Mutex<HashMap<Ask, Arc<SealedRequest>>>,
    requests: Mutex<Requests>,
    answers: Mutex<Answers>,
}

impl Wire {
    /// A wire between edges whose clocks differ from the upper tiers' by `skew_ms`.
    #[must_use]
    pub fn new(skew_ms: [i32; NODES]) -> Self {
        Self {
            rings: Ring::ALL.iter().map(|ring| keyring(*ring)).collect(),
            skew_ms,
            sealed: Mutex::default(),
            requests: Mutex::default(),
            answers: Mutex::default(),
        }
    }

    /// Unix milliseconds at an edge.
    #[must_use]
    pub fn edge_ms(&self, edge: u8, now_ms: u32) -> u64 {
        (BEGIN_MS + u64::from(now_ms)).saturating_add_signed(self.skew_ms[usize::from(edge)].into())
    }

    fn ring(&self, ring: Ring) -> &Keyring {
        &self.rings[ring as usize]
    }

    /// Seals a request as the edge does when it sends it.
    pub fn seal(&self, ask: &Ask) -> Arc<SealedRequest> {
        remembered(&self.sealed, ask, || {
            let block = ControlBlock {
                version: control::VERSION,
                to: Some(UPPERS[usize::from(ask.to)].to_owned()),
                site: "shop".to_owned(),
                pool: "main".to_owned(),
                rev: "r1".to_owned(),
                key: digest(ask.errand),
                hop: 1,
                node: EDGES[usize::from(ask.edge)].to_owned(),
                epoch: u64::from(ask.epoch),
                scheme: Scheme::Https,
                trace: TraceIds {
                    trace_id: [1; 16],
                    span_id: [ask.serial + 1; 8],
                    sampled: true,
                },
                background: false,
                only_if_cached: false,
            };
            let outgoing = Outgoing {
                method: method(ask.errand),
                authority: "shop.example".to_owned(),
                path_and_query: path(ask.errand),
                fields: HeaderMap::new(),
            };
            let key = self
                .ring(ask.ring)
                .signing(EDGES[usize::from(ask.edge)])
                .expect("every ring has a key of every edge");
            let nonce = (!outgoing.method.is_safe()).then_some([ask.serial + 1; 16]);
            let at_ms = self.edge_ms(ask.edge, ask.at_ms);
            let sealed = control::seal(outgoing, &block, key, nonce, at_ms);
            Arc::new(sealed.expect("everything the model says can be sealed"))
        })
    }

    /// What the upper tier `at` makes of a request that arrives at `now_ms`.
    ///
    /// # Errors
    /// The reason for which it refuses.
    pub fn arrive(
        &self,
        ask: &Ask,
        harm: RequestHarm,
        at: u8,
        ring: Ring,
        now_ms: u32,
    ) -> Result<Arc<Verified>, Reason> {
        let what = (*ask, harm, at, ring, now_ms);
        remembered(&self.requests, &what, || {
            let sealed = self.seal(ask);
            let mut head = Head {
                method: sealed.method().clone(),
                path: sealed.path_and_query().to_owned(),
                fields: sealed.fields().clone(),
            };
            head.harm(ask.errand, harm);
            let received = Received {
                method: &head.method,
                authority: sealed.authority(),
                path_and_query: &head.path,
                fields: &head.fields,
            };
            let now_ms = BEGIN_MS + u64::from(now_ms);
            let name = UPPERS[usize::from(at)];
            let verified = control::verify_request(received, self.ring(ring), name, now_ms)
                .map_err(|rejection| rejection.reason)?;
            // The node compares the digest with that of what is really asked for.
            let asked = KeyDigest::of(head.path.as_bytes());
            if verified.block().key == asked {
                Ok(Arc::new(verified))
            } else {
                Err(Reason::Mismatch)
            }
        })
    }

    /// The request as the upper tier it was sent to verified it when it was sent.
    ///
    /// # Panics
    /// Where the upper tier would not have: nothing else is ever answered.
    #[must_use]
    pub fn verified(&self, ask: &Ask) -> Arc<Verified> {
        self.arrive(ask, RequestHarm::None, ask.to, Ring::Both, ask.at_ms)
            .expect("what was answered verified when it was sent")
    }

    /// What an edge makes of an answer to `ask`.
    ///
    /// # Errors
    /// How it distrusts it.
    pub fn come_back(
        &self,
        answer: &Answer,
        harm: AnswerHarm,
        ask: &Ask,
        ring: Ring,
        now_ms: u32,
    ) -> Result<Learned, Distrust> {
        let what = (*answer, harm, *ask, ring, now_ms);
        remembered(&self.answers, &what, || {
            let (mut status, mut fields) = self.answer_head(answer);
            harm_answer(harm, &mut status, &mut fields);
            let sealed = self.seal(ask);
            let receipt = sealed
                .receipt()
                .expect("a request to an upper tier has a receipt");
            let now_ms = self.edge_ms(ask.edge, now_ms);
            control::verify_response(status, &fields, receipt, self.ring(ring), now_ms)
                .map(|result| learn(status, &fields, &result))
                .map_err(|rejection| distrust(&rejection, &fields))
        })
    }

    fn answer_head(&self, answer: &Answer) -> (StatusCode, HeaderMap) {
        let mut fields = HeaderMap::new();
        match answer {
            Answer::Refusal { replayed } => {
                deny(&mut fields, *replayed);
                (StatusCode::FORBIDDEN, fields)
            }
            Answer::Signed {
                ask,
                by,
                good,
                stored,
                content,
                public,
                at_ms,
            } => {
                let status = if *good {
                    StatusCode::OK
                } else {
                    StatusCode::BAD_GATEWAY
                };
                if let Some((key, version)) = content {
                    fields.insert(ETAG, tag(*key, *version));
                    let said = if *public { "max-age=10" } else { "private" };
                    fields.insert(CACHE_CONTROL, HeaderValue::from_static(said));
                }
                let result = TierResult {
                    version: control::VERSION,
                    node: UPPERS[usize::from(*by)].to_owned(),
                    outcome: match (good, stored) {
                        (true, true) => "hit",
                        (true, false) => "miss",
                        (false, _) => NoAnswer::Unreached.as_str(),
                    }
                    .to_owned(),
                    age_ms: Some(0),
                    date_s: None,
                    epoch: 0,
                };
                let verified = self.verified(ask);
                let at_ms = BEGIN_MS + u64::from(*at_ms);
                control::sign_response(status, &mut fields, &result, &verified, None, at_ms)
                    .expect("every answer of the model can be signed");
                (status, fields)
            }
        }
    }
}

/// Asks the memory first.
fn remembered<K: Hash + Eq + Clone, V: Clone>(
    memory: &Mutex<HashMap<K, V>>,
    key: &K,
    make: impl FnOnce() -> V,
) -> V {
    let known = memory.lock().expect("no holder panics").get(key).cloned();
    if let Some(known) = known {
        return known;
    }
    // Made without the lock: what is made may ask for what it is made of.
    let made = make();
    match memory.lock().expect("no holder panics").entry(key.clone()) {
        Entry::Occupied(known) => known.get().clone(),
        Entry::Vacant(place) => place.insert(made).clone(),
    }
}

/// The keys that a node holds. Only edge-1's change: what is true of one is of all.
fn keyring(ring: Ring) -> Keyring {
    let old = "hmac-sha256 edge-1 edge-1-a YWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWE=";
    let new = "hmac-sha256 edge-1 edge-1-b YmJiYmJiYmJiYmJiYmJiYmJiYmJiYmJiYmJiYmJiYmI=";
    let other = "hmac-sha256 edge-2 edge-2-a Y2NjY2NjY2NjY2NjY2NjY2NjY2NjY2NjY2NjY2NjY2M=";
    // A node signs with the first.
    let lines = match ring {
        Ring::Old => vec![old, other],
        Ring::Both => vec![old, new, other],
        Ring::Turned => vec![new, old, other],
        Ring::New => vec![new, other],
    };
    let text = lines.join("\n");
    Keyring::parse([("the model's", text.as_str())]).expect("these are keys")
}

fn method(errand: Errand) -> Method {
    match errand {
        Errand::Read(_) => Method::GET,
        Errand::Order(_) => Method::POST,
    }
}

fn path(errand: Errand) -> String {
    match errand {
        Errand::Read(key) => format!("/object/{key}"),
        Errand::Order(number) => format!("/order/{number}"),
    }
}

/// Digest of the primary key of what is asked for.
#[must_use]
pub(crate) fn digest(errand: Errand) -> KeyDigest {
    KeyDigest::of(path(errand).as_bytes())
}

fn tag(key: u8, version: u8) -> HeaderValue {
    HeaderValue::try_from(format!("\"{key}.{version}\"")).expect("digits are visible ASCII")
}

fn learn(status: StatusCode, fields: &HeaderMap, result: &TierResult) -> Learned {
    let text = |name| {
        fields
            .get(name)
            .and_then(|value: &HeaderValue| value.to_str().ok())
    };
    let content = text(ETAG).and_then(|tag| {
        let (key, version) = tag.trim_matches('"').split_once('.')?;
        Some((key.parse().ok()?, version.parse().ok()?))
    });
    Learned {
        good: status.is_success(),
        no_answer: NoAnswer::of(&result.outcome).is_some(),
        stored: result.outcome == "hit",
        content,
        public: text(CACHE_CONTROL).is_some_and(|said| said.contains("max-age")),
    }
}

/// As the node does: a refusal is only told from a lost signature by what it says.
fn distrust(rejection: &Rejection, fields: &HeaderMap) -> Distrust {
    let said = fields
        .get(PROXY_STATUS)
        .and_then(|said| said.to_str().ok())
        .and_then(|said| said.split_once("tier-control "));
    match said {
        Some((_, why)) if rejection.reason == Reason::Missing => {
            if why.starts_with(Reason::Replayed.as_str()) {
                Distrust::Declined
            } else {
                Distrust::Refused
            }
        }
        _ => Distrust::Unverified,
    }
}

fn deny(fields: &mut HeaderMap, replayed: bool) {
    let said = if replayed {
        "upper; error=http_request_denied; details=\"tier-control replayed\""
    } else {
        "upper; error=http_request_denied; details=\"tier-control mismatch\""
    };
    fields.insert(PROXY_STATUS, HeaderValue::from_static(said));
}

fn rewrite(fields: &mut HeaderMap, name: &HeaderName, from: &str, to: &str) {
    let Some(text) = fields.get(name).and_then(|value| value.to_str().ok()) else {
        return;
    };
    let forged = text.replacen(from, to, 1);
    assert_ne!(text, forged, "a harm that does nothing would prove nothing");
    let forged = HeaderValue::try_from(forged).expect("a forgery is visible ASCII");
    fields.insert(name.clone(), forged);
}

impl Head {
    fn harm(&mut self, errand: Errand, harm: RequestHarm) {
        let fields = &mut self.fields;
        match harm {
            RequestHarm::None => {}
            RequestHarm::Cleared => {
                control::strip(fields);
            }
            RequestHarm::ControlLost => {
                fields.remove(control::TIER_CONTROL);
            }
            RequestHarm::SignatureLost => {
                fields.remove(control::SIGNATURE);
                fields.remove(control::SIGNATURE_INPUT);
            }
            RequestHarm::ControlForged => {
                rewrite(fields, &control::TIER_CONTROL, "epoch=", "epoch=9");
            }
            RequestHarm::TargetForged => {
                self.path = match errand {
                    Errand::Read(key) => path(Errand::Read(1 - key)),
                    Errand::Order(_) => "/order/9".to_owned(),
                };
            }
            RequestHarm::MethodForged => {
                let safe = self.method.is_safe();
                self.method = if safe { Method::POST } else { Method::GET };
            }
            RequestHarm::FieldAdded => {
                fields.insert("x-forwarded-proto", HeaderValue::from_static("http"));
            }
        }
    }
}

fn harm_answer(harm: AnswerHarm, status: &mut StatusCode, fields: &mut HeaderMap) {
    match harm {
        AnswerHarm::None => {}
        AnswerHarm::Cleared => {
            control::strip(fields);
        }
        AnswerHarm::MadePublic => {
            fields.insert(CACHE_CONTROL, HeaderValue::from_static("max-age=999"));
        }
        AnswerHarm::StatusForged => {
            *status = if status.is_success() {
                StatusCode::BAD_GATEWAY
            } else {
                StatusCode::OK
            };
        }
        AnswerHarm::ResultForged => {
            rewrite(fields, &control::TIER_RESULT, "age_ms=", "age_ms=1");
        }
        AnswerHarm::ContentForged => {
            fields.insert(ETAG, tag(9, 9));
        }
        AnswerHarm::Denied => {
            *status = StatusCode::FORBIDDEN;
            fields.clear();
            deny(fields, false);
        }
    }
}
