//! The best approximation of a matrix by a low-rank pair in the Frobenius norm (Eckart & Young 1936).
//!
//! ```text
//! m ≤ n:   W Wᵀ = Q Λ Qᵀ   Ŵ = Q_r (Q_rᵀ W)        otherwise:   Wᵀ W = Q Λ Qᵀ   Ŵ = (W Q_r) Q_rᵀ
//! ```
//!
//! The eigenvectors are those of the Gram matrix of the shorter side. That costs a
//! third of a thin SVD, but squares the condition number, so singular values below about 3·10⁻⁴ of
//! the largest drown in the rounding of `f32`. Where the part that is cut away is that small, the
//! decomposition is done again in `f64`; `benches/factorise.rs` compares the routes.

use compress_core::{Matrix, Pair, Result};
use compress_numerics::linalg::{Eigen, product, product_of_transposed, short_gram};

/// Below this share of ‖W‖² the part that is cut away is no longer exact to 0.1 % in `f32`.
const SMALL_TAIL: f64 = 1e-3;

/// A truncated weight, and its error.
#[derive(Clone, Debug)]
pub struct Truncated {
    /// m × r.
    pub up: Matrix,
    /// r × n.
    pub down: Matrix,
    /// The relative squared error Σ_{i>r} σᵢ² / Σ σᵢ², in the norm of the cut.
    pub error: f64,
}

impl Truncated {
    /// The two factors, as they take the weight's place.
    #[must_use]
    pub fn pair(self) -> Pair {
        Pair::new(self.up, self.down)
    }

    /// up · down, m × n.
    pub fn dense(&self) -> Result<Matrix> {
        Ok(product(&self.up, &self.down)?)
    }
}

/// Cuts an m × n weight to rank `rank`. Fails outside 1..=min(m, n), and where the decomposition does not converge.
///
/// The singular values are split evenly between the two factors, Σ^½ to each, so that both have entries of like
/// size, which suits half-precision formats and training.
pub fn truncate(weight: &Matrix, rank: usize) -> Result<Truncated> {
    // Squares of very large weights overflow in `f32`, which shows as a failure to converge; in `f64` they do not.
    let eigen = match short_gram::<f32>(weight).top_eigenvectors(rank) {
        Ok(coarse) if tail(&coarse, rank) > SMALL_TAIL => coarse,
        _ => short_gram::<f64>(weight).top_eigenvectors(rank)?,
    };
    let error = tail(&eigen, rank);
    let (up, down) = factors(weight, &eigen)?;
    Ok(Truncated { up, down, error })
}

/// Σ_{i>r} λᵢ / Σ λᵢ of the eigenvalues λ = σ².
fn tail(eigen: &Eigen, rank: usize) -> f64 {
    let sum = |values: &[f64]| values.iter().map(|x| x.max(0.0)).sum::<f64>();
    let all = sum(&eigen.values);
    if all > 0.0 {
        sum(eigen.values.get(rank..).unwrap_or_default()) / all
    } else {
        0.0
    }
}

/// With Q the r top eigenvectors: W ≈ Q·(Qᵀ W) if W has no more rows than columns, else (W Q)·Qᵀ.
fn factors(weight: &Matrix, eigen: &Eigen) -> Result<(Matrix, Matrix)> {
    let basis = &eigen.vectors; // short side × r
    // λ^¼ = σ^½. The tail of the spectrum may be negative by rounding.
    let roots: Vec<f32> = (0..basis.cols())
        .map(|i| {
            eigen
                .values
                .get(i)
                .copied()
                .unwrap_or(0.0)
                .max(0.0)
                .sqrt()
                .sqrt() as f32
        })
        .collect();
    // σ^−½; a component with σ = 0 becomes 0 instead of being divided by it.
    let inverse: Vec<f32> = roots
        .iter()
        .map(|&s| if s > 0.0 { s.recip() } else { 0.0 })
        .collect();
    let (mut up, mut down);
    if weight.rows() <= weight.cols() {
        up = basis.clone();
        down = product_of_transposed(basis, weight)?;
        scale_columns(&mut up, &roots);
        scale_rows(&mut down, &inverse);
    } else {
        up = product(weight, basis)?;
        down = basis.transposed();
        scale_columns(&mut up, &inverse);
        scale_rows(&mut down, &roots);
    }
    Ok((up, down))
}

/// `m · diag(by)`.
fn scale_columns(m: &mut Matrix, by: &[f32]) {
    let cols = m.cols();
    for row in m.data_mut().chunks_exact_mut(cols) {
        row.iter_mut().zip(by).for_each(|(x, s)| *x *= s);
    }
}

/// `diag(by) · m`.
fn scale_rows(m: &mut Matrix, by: &[f32]) {
    let cols = m.cols();
    for (row, s) in m.data_mut().chunks_exact_mut(cols).zip(by) {
        row.iter_mut().for_each(|x| *x *= s);
    }
}
