//! Whether a correction is worth its bits.
//!
//! ```text
//! Δb more bits for the codes would cut the error's power to 4^−Δb;
//! a correction of rank r costs Δb = bits · r (m + n) / (m n) and cuts it to 1 − Σ_{i≤r} λ_i / Σ λ_i
//! gain(r) = −½ log₂(1 − captured) − Δb     in bits per weight; worth it where above 0
//! ```
//!
//! λ is the spectrum of the error in the norm that matters. That of white noise captures about 4r / n,
//! and is never worth it.

use compress_core::Shape;

use crate::Keep;

/// How many bits per weight the codes would need besides a correction's own to be as good without it, for
/// the ranks 1, 2, … of an error with the given spectrum, largest first, as long as its two factors have
/// fewer numbers than the weight. Of no error, nothing.
pub fn gains(spectrum: &[f64], shape: Shape, keep: Keep) -> impl Iterator<Item = f64> {
    let all: f64 = spectrum.iter().sum();
    let spectrum = if all > 0.0 { spectrum } else { &[] };
    let ranks = (1..).take_while(move |rank| shape.shrinks_at(*rank));
    let ranks = ranks.zip(spectrum);
    ranks.scan(all, move |left, (rank, value)| {
        *left -= value;
        // Some of it is rounding: no correction is worth more than 24 bits.
        let power = (*left / all).max(4.0_f64.powi(-24));
        Some(-0.5 * power.log2() - keep.bits_per_weight(shape, rank))
    })
}

/// The rank at which a correction gains most over spending its bits on the codes; 0 where none gains.
#[must_use]
pub fn best_rank(spectrum: &[f64], shape: Shape, keep: Keep) -> usize {
    let gains = (1..).zip(gains(spectrum, shape, keep));
    let best = gains
        .filter(|(_, gain)| *gain > 0.0)
        .max_by(|(_, a), (_, b)| a.total_cmp(b));
    best.map_or(0, |(rank, _)| rank)
}

/// The one rank at which corrections gain most where each weight has it or none, from the spectra of their
/// errors; 0 where none gains.
#[must_use]
pub fn best_common_rank(errors: &[(Shape, Vec<f64>)], keep: Keep) -> usize {
    let mut sums: Vec<f64> = Vec::new();
    for (shape, spectrum) in errors {
        let gains: Vec<f64> = gains(spectrum, *shape, keep).collect();
        sums.resize(sums.len().max(gains.len()), 0.0);
        let worth = sums.iter_mut().zip(gains);
        worth.for_each(|(sum, gain)| *sum += gain.max(0.0) * shape.size() as f64);
    }
    let best = (1..).zip(sums).filter(|(_, sum)| *sum > 0.0);
    let best = best.max_by(|(_, a), (_, b)| a.total_cmp(b));
    best.map_or(0, |(rank, _)| rank)
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

    #[test]
    fn white_noise_is_not_worth_a_correction_and_a_spike_is() {
        assert_eq!(best_rank(&[1.0; 256], SHAPE, Keep::Half), 0);
        assert_eq!(best_rank(&[], SHAPE, Keep::Half), 0);
        assert_eq!(best_rank(&[0.0; 256], SHAPE, Keep::Half), 0);
        assert_eq!(best_rank(&spiked(), SHAPE, Keep::Half), 3);
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
        assert_eq!(best_rank(&one, SHAPE, Keep::Half), 1);
    }

    #[test]
    fn those_that_gain_decide_the_common_rank() {
        let noise = || (SHAPE, vec![1.0; 256]);
        assert_eq!(best_common_rank(&[noise(), noise()], Keep::Half), 0);
        let errors = [noise(), (SHAPE, spiked().to_vec()), noise()];
        assert_eq!(best_common_rank(&errors, Keep::Half), 3);
    }
}
