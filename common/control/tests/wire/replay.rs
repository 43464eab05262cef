//! Nonces: admitted once, remembered for as long as they could be used again.

use control::{Reason, ReplayGuard, Verified, seal};
use http::Method;

use crate::bed::{NOW_MS, Wire, block, edge_ring, hmac_line, outgoing, ring, signing_key};

fn post(keyid: &str, nonce: Option<u8>, now_ms: u64) -> Verified {
    let ring = ring(&hmac_line("edge-1", keyid, 1));
    let mut request = outgoing();
    request.method = Method::POST;
    let nonce = nonce.map(|n| [n; 16]);
    let sealed = seal(
        request,
        &block(),
        &signing_key(&ring, "edge-1"),
        nonce,
        now_ms,
    )
    .unwrap();
    Wire::of(&sealed).verify(&ring, now_ms).unwrap()
}

fn reason(outcome: Result<(), control::Rejection>) -> Option<Reason> {
    outcome.err().map(|rejection| rejection.reason)
}

#[test]
fn a_nonce_is_admitted_once_per_key() {
    let mut guard = ReplayGuard::new(10, NOW_MS);
    assert_eq!(
        reason(guard.admit(&post("a", Some(1), NOW_MS), NOW_MS)),
        None
    );
    assert_eq!(
        reason(guard.admit(&post("a", Some(2), NOW_MS), NOW_MS)),
        None
    );
    assert_eq!(
        reason(guard.admit(&post("b", Some(1), NOW_MS), NOW_MS)),
        None
    );
    // Signed again a second later, the nonce is still the same.
    let again = post("a", Some(1), NOW_MS + 1000);
    assert_eq!(
        reason(guard.admit(&again, NOW_MS + 1000)),
        Some(Reason::Replayed)
    );
    assert_eq!(guard.len(), 3);
}

#[test]
fn an_unsafe_request_needs_a_nonce_and_a_safe_one_does_not() {
    let mut guard = ReplayGuard::new(10, NOW_MS);
    assert_eq!(
        reason(guard.admit(&post("a", None, NOW_MS), NOW_MS)),
        Some(Reason::Malformed)
    );
    let get = Wire::of(&crate::bed::sealed())
        .verify(&edge_ring(), NOW_MS)
        .unwrap();
    assert_eq!(reason(guard.admit(&get, NOW_MS)), None);
    assert_eq!(reason(guard.admit(&get, NOW_MS)), None);
    assert!(guard.is_empty());
}

#[test]
fn a_nonce_is_forgotten_only_when_its_signature_is_worthless() {
    // Signed by a clock 10 s ahead: valid until 40 s from now.
    let ahead = post("a", Some(1), NOW_MS + 10_000);
    for (later_ms, expected) in [(40_000, Some(Reason::Replayed)), (40_001, None)] {
        let mut guard = ReplayGuard::new(1, NOW_MS);
        guard.admit(&ahead, NOW_MS).unwrap();
        assert_eq!(reason(guard.admit(&ahead, NOW_MS + later_ms)), expected);
    }
}

#[test]
fn a_clock_that_runs_back_forgets_nothing() {
    let mut guard = ReplayGuard::new(10, NOW_MS);
    let request = post("a", Some(1), NOW_MS);
    guard.admit(&request, NOW_MS).unwrap();
    guard
        .admit(&post("a", Some(2), NOW_MS), NOW_MS - 60_000)
        .unwrap();
    assert_eq!(
        reason(guard.admit(&request, NOW_MS - 60_000)),
        Some(Reason::Replayed)
    );
}

#[test]
fn what_was_signed_before_the_start_is_not_admitted() {
    let mut guard = ReplayGuard::new(10, NOW_MS + 500);
    // The same second is as close as `created` can tell.
    let since = post("a", Some(1), NOW_MS);
    assert_eq!(reason(guard.admit(&since, NOW_MS + 600)), None);
    let before = post("a", Some(2), NOW_MS - 1);
    let refused = guard.admit(&before, NOW_MS + 600).unwrap_err();
    assert_eq!(refused.reason, Reason::Replayed);
    assert!(
        refused.detail.contains("before this node started"),
        "{refused}"
    );
    assert_eq!(guard.len(), 1);
}

#[test]
fn a_full_memory_refuses_and_has_room_again_later() {
    let mut guard = ReplayGuard::new(2, NOW_MS);
    guard.admit(&post("a", Some(1), NOW_MS), NOW_MS).unwrap();
    guard.admit(&post("a", Some(2), NOW_MS), NOW_MS).unwrap();
    let third = post("a", Some(3), NOW_MS);
    let refused = guard.admit(&third, NOW_MS).unwrap_err();
    assert_eq!(refused.reason, Reason::Replayed);
    assert!(refused.detail.contains("full"), "{refused}");
    assert_eq!(guard.len(), 2);
    let later_ms = NOW_MS + 40_001;
    guard
        .admit(&post("a", Some(3), later_ms), later_ms)
        .unwrap();
    assert_eq!(guard.len(), 1);
}
