//! A low-rank term for what rounding lost.
//!
//! ```text
//! E = W − Q          m × n
//! E ≈ A · B          A: m × r, B: r × n, the nearest of that rank in the norm of a metric
//! ```
//!
//! Under the plain metric this is LoRC; under that of the activations it is closed in the same way
//! ([`compress_svd::truncate_under`]), and captures far more. Factors are returned as they will be read
//! back: rounded to `f16`, or to 8 bits with a scale per column of A and row of B.

use compress_core::{Bits, Factor, Matrix, Pair, Quantised, Result, Scheme, Shape, Store, f16};
use compress_svd::{Metric, truncate, truncate_under};
use serde::{Deserialize, Serialize};

/// How the factors of a correction are kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Keep {
    /// In `f16`.
    #[default]
    Half,
    /// In 8 bits, with an `f16` scale for each component on either side.
    Int8,
}

impl Keep {
    /// Bits per weight that a correction of a given rank costs.
    #[must_use]
    pub fn bits_per_weight(self, shape: Shape, rank: usize) -> f64 {
        let (bits, scales) = match self {
            Self::Half => (16, 0),
            Self::Int8 => (8, 2 * rank * 16),
        };
        (bits * shape.low_rank_size(rank) + scales) as f64 / shape.size().max(1) as f64
    }

    /// A matrix as it will be read back, if each of its rows is a component.
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

/// The factors of rank `rank` that make the best of an error, up: m × r and down: r × n.
pub fn compensate(
    error: &Matrix,
    metric: &Metric,
    rank: usize,
    keep: Keep,
) -> Result<(Matrix, Matrix)> {
    let cut = if metric.is_plain() {
        truncate(error, rank)?
    } else {
        truncate_under(metric, error, rank)?
    };
    let Factor::LowRank(Pair {
        up: Store::Float(up),
        down: Store::Float(down),
    }) = cut.factor
    else {
        let (count, limit) = (rank, error.shape().full_rank());
        return Err(compress_numerics::Error::Count { count, limit }.into());
    };
    Ok((transposed(&keep.kept(transposed(&up))?), keep.kept(down)?))
}

fn transposed(m: &Matrix) -> Matrix {
    Matrix::from_fn(m.cols(), m.rows(), |i, j| m.data()[j * m.cols() + i])
}
