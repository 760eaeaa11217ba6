//! The low-rank correction of a rounding error.
//!
//! ```text
//! E = W − Q          m × n
//! E ≈ A · B          A: m × r, B: r × n, the best of rank r in the norm of a metric
//! ```
//!
//! Under the plain metric this is `LoRC` (arXiv 2303.08302); under the activation metric, as in QERA (arXiv
//! 2410.06040), it has a closed form as well
//! ([`compress_svd::truncate_under`]), and captures far more. Factors are returned as they will be read
//! back: rounded to `f16`, or to 8 bits with a scale per column of A and row of B.
//!
//! It takes one symmetric eigendecomposition of the shorter side of the error. The error that `round`
//! reports is measured with the rounded factors.

use compress_core::{Bits, Matrix, Quantised, Result, Scheme, Shape, f16};
use compress_svd::{Metric, Truncated, truncate_in};
use serde::{Deserialize, Serialize};

/// The number format of a correction's factors.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Keep {
    /// `f16`.
    #[default]
    Half,
    /// 8 bits, with an `f16` scale for each column of A and row of B.
    Int8,
}

impl Keep {
    /// The bits per weight that a correction of the given rank adds: 16 r (m + n) / (m n) in `f16`.
    #[must_use]
    pub fn bits_per_weight(self, shape: Shape, rank: usize) -> f64 {
        let (bits, scales) = match self {
            Self::Half => (16, 0),
            Self::Int8 => (8, 2 * rank * 16),
        };
        (bits * shape.low_rank_size(rank) + scales) as f64 / shape.size().max(1) as f64
    }

    /// A matrix as it will be read back; each of its rows is a component.
    fn kept(self, mut components: Matrix) -> Result<Matrix> {
        match self {
            Self::Half => {
                let numbers = components.data_mut().iter_mut();
                numbers.for_each(|x| *x = f16::from_f32(*x).to_f32());
                Ok(components)
            }
            Self::Int8 => {
                let scheme = Scheme::symmetric(Bits::Eight, None);
                Ok(Quantised::nearest(&components, scheme)?.dense())
            }
        }
    }
}

/// The best correction of rank `rank` of an error, m × n: up, m × r, and down, r × n, rounded as stored. Fails where
/// the rank is outside 1..=min(m, n).
pub fn compensate(
    error: &Matrix,
    metric: &Metric,
    rank: usize,
    keep: Keep,
) -> Result<(Matrix, Matrix)> {
    let Truncated { up, down, .. } = truncate_in(metric, error, rank)?;
    // Columns of A and rows of B are the components, and each has a scale of its own in 8 bits.
    Ok((keep.kept(up.transposed())?.transposed(), keep.kept(down)?))
}
