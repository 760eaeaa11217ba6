//! Whether a correction is worth its bits, against as many more bits for the codes.
//!
//! ```text
//! Δb more bits for the codes would cut the error's power to 4^−Δb;
//! a correction of rank r costs Δb = bits · r (m + n) / (m n) and cuts it to 1 − Σ_{i≤r} λ_i / Σ λ_i
//! gain(r) = −½ log₂(1 − captured) − Δb     in bits per weight; worth it where above 0
//! ```
//!
//! λ is the spectrum of the rounding error in the norm of the metric. White noise of an n × n weight has about 4r / n
//! of its energy in r ranks, and is never worth a correction. That an error's power falls by 4 with each bit holds down
//! to 3 bits; at 2 bits corrections gain more than this rule predicts.
//!
//! The rule is that of a uniform quantiser at high resolution: error power step² / 12, and a bit more halves the step.
//! It is blind to what else a correction may do, and to the speed of the second product.

use compress_core::Shape;

use crate::Keep;

/// The gain in bits per weight of a correction of rank 1, 2, …, as far as its factors have fewer numbers than the
/// weight: the bits that codes would need in addition to reach the same error, less the correction's own.
///
/// `spectrum` is that of the rounding error, largest first. Nothing where the error is zero.
pub fn gains(spectrum: &[f64], shape: Shape, keep: Keep) -> impl Iterator<Item = f64> {
    let all: f64 = spectrum.iter().sum();
    let spectrum = if all > 0.0 { spectrum } else { &[] };
    let ranks = (1..).take_while(move |rank| shape.shrinks_at(*rank));
    let ranks = ranks.zip(spectrum);
    ranks.scan(all, move |left, (rank, value)| {
        *left -= value;
        // The rest of a sum less its parts may be rounding only. No correction is worth more than 24 bits, the
        // precision of `f32`.
        let power = (*left / all).max(4.0_f64.powi(-24));
        Some(-0.5 * power.log2() - keep.bits_per_weight(shape, rank))
    })
}

/// The rank of each weight's correction, from its shape and the spectrum of its error: the one common rank with the
/// greatest total gain, for the weights that gain by it, and 0 for the others.
#[must_use]
pub fn auto_ranks(errors: &[(Shape, Vec<f64>)], keep: Keep) -> Vec<usize> {
    let gains = errors
        .iter()
        .map(|(shape, spectrum)| gains(spectrum, *shape, keep).collect());
    let gains: Vec<Vec<f64>> = gains.collect();
    let sum = |rank: usize| {
        let weights = errors.iter().zip(&gains);
        // Bits per weight times weights: large weights decide more.
        let gain = weights.map(|((shape, _), gains)| worth(gains, rank) * shape.size() as f64);
        gain.sum::<f64>()
    };
    let ranks = 1..=gains.iter().map(Vec::len).max().unwrap_or(0);
    let best = ranks.max_by(|&a, &b| sum(a).total_cmp(&sum(b)));
    let best = best.unwrap_or(0);
    let here = |gains: &Vec<f64>| if worth(gains, best) > 0.0 { best } else { 0 };
    gains.iter().map(here).collect()
}

/// The gain of a weight that may also go without: at least 0.
fn worth(gains: &[f64], rank: usize) -> f64 {
    let gain = rank.checked_sub(1).and_then(|index| gains.get(index));
    gain.map_or(0.0, |gain| gain.max(0.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHAPE: Shape = Shape {
        rows: 256,
        cols: 256,
    };

    fn spiked() -> [f64; 256] {
        let mut spiked = [1.0; 256];
        spiked[..3].fill(500.0);
        spiked
    }

    /// Of a weight by itself.
    fn rank_worth(spectrum: &[f64]) -> usize {
        auto_ranks(&[(SHAPE, spectrum.to_vec())], Keep::Half)[0]
    }

    #[test]
    fn white_noise_is_not_worth_a_correction_and_a_spike_is() {
        assert_eq!(rank_worth(&[1.0; 256]), 0);
        assert_eq!(rank_worth(&[]), 0);
        assert_eq!(rank_worth(&[0.0; 256]), 0);
        assert_eq!(rank_worth(&spiked()), 3);
    }

    #[test]
    fn half_a_bit_must_capture_half_of_the_error() {
        // Rank 4 of 256 × 256 in f16 costs half a bit.
        let captured = |part: f64| {
            let mut spectrum = [(1.0 - part) / 252.0; 256];
            spectrum[..4].fill(part / 4.0);
            gains(&spectrum, SHAPE, Keep::Half).nth(3).unwrap()
        };
        assert!(captured(0.51) > 0.0 && captured(0.49) < 0.0);
    }

    #[test]
    fn nothing_left_is_a_finite_gain() {
        let mut one = [0.0; 256];
        one[0] = 1.0;
        assert!(gains(&one, SHAPE, Keep::Half).all(f64::is_finite));
        assert_eq!(rank_worth(&one), 1);
    }

    #[test]
    fn those_that_gain_decide_the_common_rank() {
        let noise = || (SHAPE, vec![1.0; 256]);
        assert_eq!(auto_ranks(&[noise(), noise()], Keep::Half), [0, 0]);
        let errors = [noise(), (SHAPE, spiked().to_vec()), noise()];
        assert_eq!(auto_ranks(&errors, Keep::Half), [0, 3, 0]);
        assert_eq!(auto_ranks(&[], Keep::Half), [0; 0]);
    }
}
