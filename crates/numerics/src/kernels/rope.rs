//! Rotary position embedding of one token (Su et al. 2021, arXiv 2104.09864), in the layout of Hugging Face: channel i
//! is paired with channel i + d/2.
//!
//! ```text
//! (a, b) ← (a cos − b sin, b cos + a sin)      a: channel i, b: channel i + d/2, angle: position · θᵢ
//! ```

use super::vectorized;

/// Rotates the pairs of channels (i, i + d/2) of each head by the angles of one position, given as d/2 cosines and
/// sines. `heads` is heads × d, in place. With negated sines it is its own inverse, and so its vjp.
pub fn rotate_halves(heads: &mut [f32], cos: &[f32], sin: &[f32]) {
    vectorized(
        #[inline(always)]
        || {
            for head in heads.chunks_exact_mut((2 * cos.len()).max(1)) {
                let (first, second) = head.split_at_mut(cos.len());
                let pairs = first.iter_mut().zip(second);
                for ((a, b), (cos, sin)) in pairs.zip(cos.iter().zip(sin)) {
                    (*a, *b) = (*a * cos - *b * sin, *b * cos + *a * sin);
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
    fn turning_by_an_angle_and_back_changes_nothing() {
        let x = numbers(3 * 64, 3);
        let mut turned = x.clone();
        let angles = (0..32).map(|i| (i as f32).sin_cos());
        let (sin, cos): (Vec<f32>, Vec<f32>) = angles.unzip();
        rotate_halves(&mut turned, &cos, &sin);
        assert_near(&turned[64..65], [f64::from(x[64])]); // the angle 0
        let exact = f64::from(x[1]) * f64::from(cos[1]) - f64::from(x[33]) * f64::from(sin[1]);
        assert_near(&turned[1..2], [exact]);
        let back: Vec<f32> = sin.iter().map(|sin| -sin).collect();
        rotate_halves(&mut turned, &cos, &back);
        assert_near(&turned, x.into_iter().map(f64::from));
    }
}
