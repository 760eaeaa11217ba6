//! The orthogonal matrix that is nearest to a square one (orthogonal Procrustes).
//!
//! ```text
//! M = U Σ Vᵀ      R = U Vᵀ      tr(Rᵀ M) = Σ σᵢ, the largest of all orthogonal matrices
//! ```
//!
//! # References
//!
//! Schönemann, *A generalized solution of the orthogonal Procrustes problem*, Psychometrika 1966.

use faer::{
    Mat, Par, Spec,
    diag::Diag,
    dyn_stack::{MemBuffer, MemStack},
    linalg::svd::{ComputeSvdVectors, svd, svd_scratch},
};

use super::{
    Double,
    dense::{Dense, multiply},
};
use crate::{Error, Result, Shape};

/// R = U Vᵀ of M = U Σ Vᵀ, and tr(Rᵀ M) = Σ σᵢ. On one thread. Fails where M is not square, or not finite.
pub fn polar(matrix: &Double) -> Result<(Double, f64)> {
    let Dense(m) = matrix;
    let (n, shape) = (m.nrows(), Shape::new(m.nrows(), m.ncols()));
    if n != m.ncols() {
        let (left, right) = (shape, shape);
        return Err(Error::Product { left, right });
    }
    let (mut u, mut v) = (Mat::zeros(n, n), Mat::zeros(n, n));
    let mut values = Diag::zeros(n);
    let vectors = ComputeSvdVectors::Full;
    let scratch = svd_scratch::<f64>(n, n, vectors, vectors, Par::Seq, Spec::default());
    let solved = svd(
        m.as_ref(),
        values.as_mut(),
        Some(u.as_mut()),
        Some(v.as_mut()),
        Par::Seq,
        MemStack::new(&mut MemBuffer::new(scratch)),
        Spec::default(),
    );
    let sum: f64 = values.column_vector().iter().sum();
    // NaN passes through the iteration unseen.
    if solved.is_err() || !sum.is_finite() {
        let what = "singular value decomposition";
        return Err(Error::Convergence { what, shape });
    }
    Ok((multiply(u.as_ref(), v.transpose())?, sum))
}
