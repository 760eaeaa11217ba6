//! Intruder dimensions: singular vectors of a tuned weight that no singular vector of the original explains.
//!
//! ```text
//! W = U Σ Vᵀ, W' = U' Σ' V'ᵀ     the original and the tuned weight; u on their shorter side
//! closest(j) = max_i |uᵢ · u'ⱼ|   1 where a direction is the original's, near 0 where it is new
//! ```
//!
//! A direction j among the largest of W' with closest(j) below [`COSINE`] is an intruder dimension:
//! fitted to the new text, and paid for by what the model knew before. Each weight takes two
//! eigendecompositions of its shorter side in `f64`.
//!
//! # References
//!
//! Shuttleworth et al., *`LoRA` vs full fine-tuning: an illusion of equivalence*, arXiv 2410.21228,
//! section 4.

use compress_numerics::{
    Matrix, Result,
    linalg::{product_of_transposed, short_gram},
};

/// How many of the largest singular vectors are compared.
pub const LOOKED_AT: usize = 10;

/// The cosine to every original singular vector below which a vector counts as an intruder.
pub const COSINE: f32 = 0.6;

/// For each of the `count` largest singular vectors of a tuned weight, the cosine to the closest one of the original.
///
/// Both weights must be of one shape. Fails where an eigendecomposition does.
pub fn closest_originals(original: &Matrix, tuned: &Matrix, count: usize) -> Result<Vec<f32>> {
    let side = original.shape().full_rank();
    let vectors = |weight: &Matrix, count| {
        let eigen = short_gram::<f64>(weight).top_eigenvectors(count)?;
        Ok(eigen.vectors)
    };
    let before = vectors(original, side)?; // side × side
    let after = vectors(tuned, count.clamp(1, side))?; // side × count
    let cosines = product_of_transposed(&after, &before)?; // count × side
    let rows = cosines.data().chunks_exact(side);
    Ok(rows
        // Singular vectors have no sign.
        .map(|row| row.iter().fold(0.0, |most, x| x.abs().max(most)))
        .collect())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    fn intruders(original: &Matrix, tuned: &Matrix) -> usize {
        let closest = closest_originals(original, tuned, LOOKED_AT).unwrap();
        closest.iter().filter(|cosine| **cosine < COSINE).count()
    }

    /// A weight with well separated singular values, so that its singular vectors are its own.
    fn weight(rows: usize, cols: usize) -> Matrix {
        Matrix::from_fn(
            rows,
            cols,
            |i, j| {
                if i == j { 40.0 - i as f32 } else { 0.0 }
            },
        )
    }

    #[test]
    fn a_weight_has_no_intruders_in_itself() {
        for (rows, cols) in [(24, 40), (40, 24), (24, 24)] {
            let weight = weight(rows, cols);
            assert_eq!(intruders(&weight, &weight), 0);
        }
    }

    #[test]
    fn a_strong_new_direction_is_an_intruder() {
        for (rows, cols) in [(24, 40), (40, 24)] {
            let original = weight(rows, cols);
            // An even mixture of the weaker half of the original's directions.
            let new = |i: usize| {
                if (12..24).contains(&i) {
                    12_f32.powf(-0.5)
                } else {
                    0.0
                }
            };
            let tuned = Matrix::from_fn(rows, cols, |i, j| {
                original.data()[i * cols + j] + 100.0 * new(i) * new(j)
            });
            assert_eq!(intruders(&original, &tuned), 1);
        }
    }
}
