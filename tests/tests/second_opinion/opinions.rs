//! What each of the two says about a case.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use http::header::{AGE, CACHE_CONTROL, DATE, IF_MODIFIED_SINCE, IF_NONE_MATCH};
use http::{HeaderMap, HeaderName, Method, Request, Response, StatusCode};
use http_cache::{
    Arrival, Decision, NotStored, Policy, RequestFacts, ResponseFacts, StaleUse, Vary,
    answers_validator, decide, freshen, storable, stored_fields, validation_fields,
};
use http_cache_semantics::{AfterResponse, BeforeRequest, CacheOptions, CachePolicy};

use crate::cases::{Case, NOW_MS};

/// The lines of each field.
pub(crate) type Lines = BTreeMap<String, Vec<String>>;

/// The answers to every question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Opinion {
    /// Whether the response is stored.
    pub(crate) stored: bool,
    /// Whether it is not because it could be neither fresh nor validated.
    pub(crate) useless: bool,
    /// Its age in seconds when the second request comes.
    pub(crate) age_s: u64,
    /// Whether it answers the first request then, had that no directives.
    pub(crate) fresh: bool,
    /// Whether it answers the second request without asking the origin first.
    pub(crate) reused: bool,
    /// `If-None-Match` and `If-Modified-Since` of a validation.
    pub(crate) conditions: [Option<String>; 2],
    /// Its fields after the 304, where that is about it.
    pub(crate) confirmed: Option<Lines>,
}

/// What `http-cache` says.
pub(crate) fn ours(case: &Case) -> Opinion {
    let policy = Policy::default();
    let asked = RequestFacts::of(&case.method, &case.asked, &policy);
    let again = RequestFacts::of(&case.again_method, &case.again, &policy);
    let plain = RequestFacts::of(&Method::GET, &HeaderMap::new(), &policy);
    let (facts, later_ms) = (facts(case), later_ms(case));
    let vary = Vary::of(&case.answered);
    let selector = vary.selector(&case.asked, &policy);
    let matches = vary.matches(&selector, &case.again, &policy);
    let conditions = validation_fields(&facts);
    let condition = |wanted: HeaderName| {
        let found = conditions.iter().find(|(name, _)| *name == wanted);
        found.map(|(_, value)| value.to_str().unwrap().to_owned())
    };
    let storable = storable(&asked, &facts, &policy);
    let not_modified = case.confirmed.as_ref();
    let kept = stored_fields(&case.answered, &policy);
    Opinion {
        stored: storable.is_ok(),
        useless: matches!(
            storable,
            Err(NotStored::AlreadyStale | NotStored::NoFreshnessNorValidator)
        ),
        age_s: facts.age_ms(later_ms) / 1000,
        fresh: answers(decide(&plain, Some(&facts), later_ms)),
        reused: matches && answers(decide(&again, Some(&facts), later_ms)),
        conditions: [condition(IF_NONE_MATCH), condition(IF_MODIFIED_SINCE)],
        confirmed: not_modified
            .filter(|fields| answers_validator(&facts, fields))
            .map(|fields| lines(&freshen(&kept, fields))),
    }
}

/// How long the response has been stale when the second request comes.
pub(crate) fn stale_for_ms(case: &Case) -> Option<u64> {
    let facts = facts(case);
    facts
        .age_ms(later_ms(case))
        .checked_sub(facts.lifetime_ms())
}

fn facts(case: &Case) -> ResponseFacts {
    let arrival = Arrival {
        request_ms: NOW_MS,
        response_ms: NOW_MS,
        age_ms: None,
    };
    ResponseFacts::of(case.status, &case.answered, arrival, &Policy::default())
}

fn later_ms(case: &Case) -> u64 {
    NOW_MS + case.later_s * 1000
}

fn answers(decision: Decision) -> bool {
    matches!(
        decision,
        Decision::Fresh { .. }
            | Decision::Stale {
                use_: StaleUse::Serve | StaleUse::ServeAndRevalidate,
                ..
            }
    )
}

/// Longer than anything stays fresh.
const AGES: Duration = Duration::from_secs(1 << 40);

/// What `http-cache-semantics` says.
pub(crate) fn theirs(case: &Case) -> Opinion {
    let now = SystemTime::UNIX_EPOCH + Duration::from_millis(NOW_MS);
    let later = now + Duration::from_secs(case.later_s);
    let asked = request(&case.method, case.asked.clone());
    let again = request(&case.again_method, case.again.clone());
    let mut plain = asked.clone();
    plain.headers_mut().remove(CACHE_CONTROL);
    let response = response(case.status, case.answered.clone());
    let policy = CachePolicy::new_options(&asked, &response, now, CacheOptions::default());
    // What it sends for the first request again, long after, is a validation.
    let validation = match policy.before_request(&plain, now + AGES) {
        BeforeRequest::Stale { request, .. } => request.headers,
        BeforeRequest::Fresh(_) => HeaderMap::new(),
    };
    let condition = |name: HeaderName| {
        let value = validation.get(name);
        value.map(|value| value.to_str().unwrap().to_owned())
    };
    let confirmed = case.confirmed.clone().and_then(|fields| {
        let not_modified = self::response(StatusCode::NOT_MODIFIED, fields);
        match policy.after_response(&plain, &not_modified, later) {
            AfterResponse::NotModified(_, parts) => Some(lines(&parts.headers)),
            AfterResponse::Modified(..) => None,
        }
    });
    let satisfied = |request| {
        policy
            .before_request(request, later)
            .satisfies_without_revalidation()
    };
    Opinion {
        stored: policy.is_storable(),
        useless: false,
        age_s: policy.age(later).as_secs(),
        fresh: satisfied(&plain),
        reused: satisfied(&again),
        conditions: [condition(IF_NONE_MATCH), condition(IF_MODIFIED_SINCE)],
        confirmed,
    }
}

fn request(method: &Method, fields: HeaderMap) -> Request<()> {
    let mut request = Request::new(());
    *request.method_mut() = method.clone();
    *request.headers_mut() = fields;
    request
}

fn response(status: StatusCode, fields: HeaderMap) -> Response<()> {
    let mut response = Response::new(());
    *response.status_mut() = status;
    *response.headers_mut() = fields;
    response
}

/// The lines of every field, but for `Age` and `Date`, which each writes when it sends
/// a response.
fn lines(fields: &HeaderMap) -> Lines {
    let names = fields.keys().filter(|name| **name != AGE && **name != DATE);
    names
        .map(|name| {
            let lines = fields.get_all(name).iter();
            let lines = lines.map(|line| line.to_str().unwrap().to_owned());
            (name.to_string(), lines.collect())
        })
        .collect()
}
