//! Weights for rendezvous hashing, in whole numbers.
//!
//! A candidate whose weight is twice another's should be first for twice as many keys.
//! The known way is to divide each weight by the negative logarithm of a uniform draw,
//! and to take the largest (Schindelhauer and Schomaker, 2005). Floating point may
//! round differently elsewhere, so the logarithm here is a fixed-point one, and the
//! quotients are compared by cross-multiplying.

use std::cmp::Ordering;

/// Binary digits of the logarithm after the point.
const FRACTION: u32 = 32;

/// Which of two draws with weights comes first: the greater one. Weights of 0 come
/// last, equal weights in the order of the draws.
pub(crate) fn compare(one: (u64, u32), other: (u64, u32)) -> Ordering {
    let ((draw, weight), (other_draw, other_weight)) = (one, other);
    if weight == other_weight {
        return draw.cmp(&other_draw);
    }
    if weight == 0 || other_weight == 0 {
        return weight.cmp(&other_weight);
    }
    let worth = u128::from(weight) * u128::from(negative_log2(other_draw));
    let other_worth = u128::from(other_weight) * u128::from(negative_log2(draw));
    worth.cmp(&other_worth).then(draw.cmp(&other_draw))
}

/// The negative binary logarithm of `draw / 2^64` with [`FRACTION`] digits after the
/// point, rounded up, and never 0. A draw of 0 counts as 1.
fn negative_log2(draw: u64) -> u64 {
    let draw = draw.max(1);
    let zeros = draw.leading_zeros();
    // Between one and two, with 63 digits after the point.
    let mut mantissa = draw << zeros;
    let mut log = u64::from(63 - zeros);
    for _ in 0..FRACTION {
        // Squaring doubles the logarithm: whether that reaches two is its next digit.
        let square = u128::from(mantissa) * u128::from(mantissa);
        let reached = square >> 127 == 1;
        log = (log << 1) | u64::from(reached);
        mantissa = (square >> if reached { 64 } else { 63 }) as u64;
    }
    (64 << FRACTION) - log
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_logarithm_is_what_it_is() {
        let one: u64 = 1 << FRACTION;
        for (draw, want) in [
            (0, 64 * one),
            (1, 64 * one),
            (2, 63 * one),
            (1 << 32, 32 * one),
            (1 << 63, one),
            // Three quarters: 2 - log2(3) = 0.415037499278844.
            (3 << 62, 1_782_572_487),
            (u64::MAX, 1),
        ] {
            assert_eq!(negative_log2(draw), want, "{draw}");
        }
    }

    proptest! {
        #[test]
        fn it_never_grows_with_the_draw(one: u64, other: u64) {
            let (low, high) = (one.min(other), one.max(other));
            prop_assert!(negative_log2(low) >= negative_log2(high));
            let real = -((one.max(1) as f64) / 2_f64.powi(64)).log2();
            let fixed = negative_log2(one) as f64 / 2_f64.powi(FRACTION as i32);
            prop_assert!((real - fixed).abs() < 1e-6, "{real} {fixed}");
        }

        #[test]
        fn it_is_an_order(draws: [(u64, u32); 3]) {
            let [a, b, c] = draws;
            prop_assert_eq!(compare(a, b), compare(b, a).reverse());
            if compare(a, b).is_ge() && compare(b, c).is_ge() {
                prop_assert!(compare(a, c).is_ge());
            }
            // A greater weight never loses by that.
            let heavier = (a.0, a.1.saturating_add(1));
            if compare(a, b).is_gt() {
                prop_assert!(compare(heavier, b).is_gt());
            }
        }
    }
}
