//! Whether a correction is worth its bits.
//!
//! ```text
//! Δb more bits for the codes would cut the error's power to 4^−Δb;
//! a correction of rank r costs Δb = bits · r (m + n) / (m n) and cuts it to 1 − Σ_{i≤r} λ_i / Σ λ_i
//! accept if and only if the captured fraction exceeds 1 − 4^−Δb
//! ```
//!
//! λ is the spectrum of the error in the norm that matters. That of white noise captures about 4r / n,
//! and is never worth it.

use compress_core::Shape;

use crate::Keep;

/// Whether capturing a fraction of the error's power is worth a number of bits per weight.
#[must_use]
pub fn is_worth(captured: f64, bits_per_weight: f64) -> bool {
    captured > 1.0 - 4.0_f64.powf(-bits_per_weight)
}

/// The rank at which a correction gains most over spending its bits on the codes; 0 where none gains.
///
/// `spectrum` is that of the error, largest first.
#[must_use]
pub fn best_rank(spectrum: &[f64], shape: Shape, keep: Keep) -> usize {
    let all: f64 = spectrum.iter().sum();
    if all <= 0.0 {
        return 0;
    }
    let mut left = all;
    let mut best = (1.0, 0);
    for (i, value) in spectrum.iter().enumerate() {
        left -= value;
        let rank = i + 1;
        // The error's power next to what it would be with the same bits in the codes.
        let power = left.max(0.0) / all * 4.0_f64.powf(keep.bits_per_weight(shape, rank));
        if power < best.0 && shape.shrinks_at(rank) {
            best = (power, rank);
        }
    }
    best.1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn white_noise_is_not_worth_a_correction_and_a_spike_is() {
        let shape = Shape::new(256, 256);
        assert_eq!(best_rank(&[1.0; 256], shape, Keep::Half), 0);
        assert_eq!(best_rank(&[], shape, Keep::Half), 0);
        assert_eq!(best_rank(&[0.0; 256], shape, Keep::Half), 0);
        let mut spiked = [1.0; 256];
        spiked[..3].fill(500.0);
        assert_eq!(best_rank(&spiked, shape, Keep::Half), 3);
    }

    #[test]
    fn half_a_bit_must_capture_half_of_the_error() {
        assert!(is_worth(0.51, 0.5) && !is_worth(0.49, 0.5));
        assert!(!is_worth(0.0, 0.0));
    }
}
