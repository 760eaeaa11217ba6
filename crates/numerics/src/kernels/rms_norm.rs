//! Root-mean-square normalisation of one vector (Zhang & Sennrich 2019, arXiv 1910.07467).
//!
//! ```text
//! y = x ⊙ gain / √(mean x² + ε)
//! ```

use super::{dot::dot, vectorized};

/// The normalised vector, as long as x. `epsilon` keeps a vector of zeros from a division by zero.
#[must_use]
pub fn rms_norm(x: &[f32], gain: &[f32], epsilon: f32) -> Vec<f32> {
    vectorized(
        #[inline(always)]
        || {
            let mean = dot(x, x) / x.len() as f32;
            let scale = (mean + epsilon).sqrt().recip();
            x.iter().zip(gain).map(|(x, g)| x * scale * g).collect()
        },
    )
}

/// x / root ⊙ gain, in place, for each vector of `gain`'s length in `x` and its own root; stops at the last root.
pub fn divide_and_scale(x: &mut [f32], roots: &[f32], gain: &[f32]) {
    vectorized(
        #[inline(always)]
        move || {
            let vectors = x.chunks_exact_mut(gain.len().max(1));
            for (vector, root) in vectors.zip(roots) {
                for (x, gain) in vector.iter_mut().zip(gain) {
                    *x = *x / root * gain;
                }
            }
        },
    );
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::testing::{assert_near, numbers};

    #[test]
    fn a_norm_divides_by_the_root_of_the_mean_square() {
        for count in [1, 15, 16, 33, 576] {
            let (x, gain) = (numbers(count, 1), numbers(count, 2));
            let squares = x.iter().map(|&x| f64::from(x).powi(2));
            let root = (squares.sum::<f64>() / count as f64 + 1e-5).sqrt();
            let pairs = x.iter().zip(&gain);
            let exact = pairs.map(|(&x, &g)| f64::from(x) * f64::from(g) / root);
            assert_near(&rms_norm(&x, &gain, 1e-5), exact);
        }
    }
}
