//! Completing a stored part: only what is missing is asked for, and the two are put
//! together under one strong validator (RFC 9111 §3.3, §3.4).

use bytes::Bytes;
use http::StatusCode;
use http::header::{AGE, CONTENT_LENGTH, CONTENT_RANGE, HeaderValue};
use http_cache::{PartBounds, Rest};
use store::Object;

use super::reach::Reached;
use super::run::Plan;
use crate::seal::Outbound;

/// The bytes of a stored part that go around what an upstream sends.
#[derive(Debug, Default)]
pub(super) struct Around {
    pub(super) before: Bytes,
    pub(super) after: Bytes,
}

impl Around {
    pub(super) fn is_empty(&self) -> bool {
        self.before.is_empty() && self.after.is_empty()
    }
}

/// What is missing of the part a plan has, if it is worth asking for.
fn missing(plan: &Plan) -> Option<(&Object, PartBounds, Rest)> {
    let part = plan.part.as_deref()?;
    let bounds = PartBounds::of(&part.fields)?;
    let fits = bounds.complete_length <= plan.node.config.store.object_bytes_max;
    let rest = bounds.rest().filter(|_| fits)?;
    Some((part, bounds, rest))
}

/// Makes a request one for the rest alone. False: it stays one for the whole.
///
/// Without a strong validator what comes can only be used if it is the whole after
/// all, and the origin alone can tell: it is asked once, for what follows the part.
pub(super) fn ask_for_rest(plan: &Plan, outbound: &mut Outbound) -> bool {
    let Some((part, _, rest)) = missing(plan) else {
        return false;
    };
    match (part.facts.strong_validator(), rest) {
        (Some(validator), _) => outbound.ask_part(rest.range(), Some(validator.clone())),
        (None, Rest::Behind { .. }) => outbound.ask_part(rest.range(), None),
        (None, Rest::Before { .. }) => return false,
    }
    true
}

/// Makes the answer to a request for the rest one for the whole, and says what of the
/// part goes around its body. `None`: it cannot be put together with the part.
pub(super) fn combine(plan: &Plan, answer: &mut Reached) -> Option<Around> {
    let response = &mut answer.response;
    if response.status != StatusCode::PARTIAL_CONTENT {
        // The whole, or an error: it stands for itself.
        let refused = response.status == StatusCode::RANGE_NOT_SATISFIABLE;
        return (!refused).then(Around::default);
    }
    let (part, bounds, rest) = missing(plan)?;
    let completes = PartBounds::of(&response.fields)?.completes(&bounds)
        && http_cache::same_representation(&part.facts, &response.fields)
        && part.body.len() as u64 == bounds.length();
    if !completes {
        return None;
    }
    let age = response.fields.get(AGE).cloned();
    let mut whole = http_cache::freshen(&part.fields, &response.fields);
    whole.remove(CONTENT_RANGE);
    whole.insert(CONTENT_LENGTH, HeaderValue::from(bounds.complete_length));
    // How old it is says the answer that came, as its other fields do.
    if let Some(age) = age {
        whole.insert(AGE, age);
    }
    response.fields = whole;
    response.status = StatusCode::OK;
    let body = part.body.clone();
    Some(match rest {
        Rest::Behind { .. } => Around {
            before: body,
            ..Around::default()
        },
        Rest::Before { .. } => Around {
            after: body,
            ..Around::default()
        },
    })
}
