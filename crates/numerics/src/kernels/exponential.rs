//! Exponentials of many numbers at a time, and log Σ exp.
//!
//! ```text
//! exp(x) = 2ⁿ · exp(r)      n = round(x / ln 2),   r = x − n ln 2,   |r| ≤ ½ ln 2
//! ```
//!
//! The classical reduction (Cody & Waite 1980) with a Taylor polynomial, which is cheap enough in vectors to need no
//! table. Written without branches, so that the compiler makes vector instructions of it, which it cannot of a call of
//! `f32::exp`; [`vectorized`] picks the widest that the processor has.

use std::f32::consts::LOG2_E;

use super::vectorized;

/// Replaces each number by its exponential, to 2 units in the last place up to 88; below −87 by 0. Above 88 the result
/// is too large, by a quarter at most, and infinite from 88.5 on instead of 88.7.
pub fn exponentiate(numbers: &mut [f32]) {
    vectorized(
        #[inline(always)]
        || numbers.iter_mut().for_each(|x| *x = exp(*x)),
    );
}

/// log Σ exp of some numbers, the normaliser of a softmax; none where one of them is not finite, as the logits of a
/// damaged model are.
#[must_use]
pub fn log_sum_exp(numbers: &[f32]) -> Option<f64> {
    vectorized(
        #[inline(always)]
        || {
            let most = numbers.iter().fold(
                f32::NEG_INFINITY,
                |most, &x| if x > most { x } else { most },
            );
            let mut sums = [0.0; LANES]; // of the exponentials
            let mut zeros = [0.0; LANES]; // of x·0, which is NaN where x is not finite
            let chunks = numbers.chunks_exact(LANES);
            // The last numbers are filled up to whole lanes, so that there is no scalar loop at the end.
            let mut rest = [f32::MIN; LANES]; // whose exponential is 0
            let count = chunks.remainder().len();
            rest[..count].copy_from_slice(chunks.remainder());
            for chunk in chunks.chain([&rest[..]]) {
                for ((sum, zero), x) in sums.iter_mut().zip(&mut zeros).zip(chunk) {
                    *sum += exp(x - most);
                    *zero += x * 0.0;
                }
            }
            let sum = sums.iter().map(|&sum| f64::from(sum)).sum::<f64>();
            (zeros.iter().sum::<f32>() == 0.0).then(|| f64::from(most) + sum.ln())
        },
    )
}

/// Partial sums side by side; each one goes through few numbers, so that `f32` is enough for it.
const LANES: usize = 64;

/// exp(x) = 2ⁿ · exp(r), exp(r) by its Taylor polynomial of degree 7, whose remainder on |r| ≤ ½ ln 2 is below half a
/// unit in the last place.
#[inline(always)]
pub(crate) fn exp(x: f32) -> f32 {
    /// Adding and subtracting this rounds to an integer: 1.5 · 2²³.
    const ROUND: f32 = 12_582_912.0;
    /// ln 2 in two parts, the first with so few bits that n times it is exact.
    const LN_2: [f32; 2] = [0.693_359_4, -2.121_944_4e-4];

    // Keeps 2ⁿ among the normal numbers; what is outside is put right at the end, without branches.
    let inside = x.clamp(-87.0, 88.0);
    let shifted = inside * LOG2_E + ROUND;
    let n = shifted - ROUND;
    // Cody and Waite's reduction: a single product n · ln 2 would round away the low bits of r.
    let r = (inside - n * LN_2[0]) - n * LN_2[1];
    let series = [
        1.0 / 720.0,
        1.0 / 120.0,
        1.0 / 24.0,
        1.0 / 6.0,
        0.5,
        1.0,
        1.0,
    ];
    let power = series.iter().fold(1.0 / 5040.0, |sum, c| sum * r + c);
    // 2ⁿ by its exponent bits: n is in the last bits of `shifted`, and those of 1.5 · 2²³ are moved out. A conversion of n,
    // which Rust defines for every number, would be one number at a time.
    let scale = f32::from_bits((shifted.to_bits().wrapping_add(127)) << 23);
    let result = power * scale;
    let result = if x < -87.0 { 0.0 } else { result };
    // Grows to infinity with x, so that an overflow is not hidden; NaNs, which the conversion of n lost, come back.
    if x > 88.0 {
        (x - 88.0) * f32::MAX + result
    } else if x.is_nan() {
        x
    } else {
        result
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exponentials_are_right_to_two_units_in_the_last_place() {
        for i in -8_700..8_800 {
            let x = i as f32 / 100.0 + 1e-3;
            let mut found = [x];
            exponentiate(&mut found);
            let exact = f64::from(x).exp();
            let error = (f64::from(found[0]) - exact).abs() / exact;
            assert!(
                x < -87.0 || error < 2.5e-7,
                "exp({x}) is {} , off by {error:e}",
                found[0]
            );
        }
    }

    #[test]
    fn what_is_out_of_range_stays_recognisable() {
        let mut x = [
            f32::NEG_INFINITY,
            -200.0,
            0.0,
            200.0,
            f32::INFINITY,
            f32::NAN,
        ];
        exponentiate(&mut x);
        assert_eq!(x[..3], [0.0, 0.0, 1.0]);
        assert!(x[3] > 1e38 && x[4] == f32::INFINITY && x[5].is_nan());
    }

    #[test]
    fn the_logarithm_of_a_sum_of_exponentials_is_that_of_f64() {
        for count in [1, 2, 63, 64, 65, 1000] {
            let numbers: Vec<f32> = (0..count)
                .map(|i| (i * 37 % 101) as f32 / 7.0 - 3.0)
                .collect();
            let exact = numbers
                .iter()
                .map(|&x| f64::from(x).exp())
                .sum::<f64>()
                .ln();
            let found = log_sum_exp(&numbers).unwrap();
            assert!(
                (found - exact).abs() < 2e-6,
                "{count}: {found} is not {exact}"
            );
        }
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            assert!(log_sum_exp(&[1.0, bad, 2.0]).is_none(), "{bad}");
        }
    }
}
