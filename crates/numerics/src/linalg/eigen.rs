//! Eigenvalues and eigenvectors of symmetric matrices.
//!
//! ```text
//! A = Q T Qᵀ           reduction to tridiagonal form by Householder reflections, 4/3·n³; see `tridiagonal.rs`
//! T = S Λ Sᵀ           divide and conquer, one thread
//! V = Q S[:, top r]    only the wanted vectors are taken back, 2·n²·r
//! ```
//!
//! # References
//!
//! Golub & Van Loan, *Matrix Computations*, section 8.3; Gu & Eisenstat, *A divide-and-conquer algorithm for the
//! symmetric tridiagonal eigenproblem*, SIAM J. Matrix Anal. Appl. 1995.

use faer::{
    Accum, Mat, Par, Spec,
    diag::Diag,
    dyn_stack::{MemBuffer, MemStack},
    linalg::evd::{ComputeEigenvectors, self_adjoint_evd_scratch, tridiagonal_self_adjoint_evd},
};

use super::{
    Real,
    product::{multiply_lower_tiles, view},
    tridiagonal::Tridiagonal,
};
use crate::{Error, Matrix, Result, Shape};

/// Columns that are converted to the precision of the Gram matrix at a time, so that no whole copy in `f64` is made.
const PART: usize = 1024;

/// Peak memory of an eigendecomposition with vectors, in n × n matrices: the given one, the eigenvectors, and two more
/// in the workspace of divide and conquer. For predictions of memory.
pub const EIGEN_SQUARES: usize = 4;

/// The eigenvalues of a symmetric matrix, and the eigenvectors of the largest.
#[derive(Clone, Debug)]
pub struct Eigen {
    /// All n eigenvalues, largest first.
    pub values: Vec<f64>,
    /// The eigenvectors of the largest ones as orthonormal columns; n × k.
    pub vectors: Matrix,
}

/// The Gram matrix of the shorter side: `W·Wᵀ` if W has no more rows than columns, else `Wᵀ·W`; n = min(rows, cols).
///
/// `T` is the precision in which it is summed. Only the lower triangle is filled. Its eigenvalues are the squared
/// singular values of W: half of the digits are lost.
#[must_use]
pub fn short_gram<T: Real>(w: &Matrix) -> Gram<T> {
    let wide = if w.rows() <= w.cols() {
        view(w)
    } else {
        view(w).transpose()
    };
    let n = wide.nrows();
    let mut gram = Mat::zeros(n, n);
    // A symmetric rank-k update per part, its lower triangle only.
    for first in (0..wide.ncols()).step_by(PART) {
        let part = wide.subcols(first, PART.min(wide.ncols() - first));
        let part = Mat::from_fn(n, part.ncols(), |i, j| T::from_f32(part[(i, j)]));
        multiply_lower_tiles(gram.as_mut(), Accum::Add, part.as_ref(), part.as_ref());
    }
    Gram(gram)
}

/// A symmetric positive semidefinite matrix in precision `T`, lower triangle.
#[derive(Clone, Debug)]
pub struct Gram<T>(Mat<T>);

impl<T: Real> Gram<T> {
    /// All eigenvalues, largest first, and the eigenvectors of the `count` largest, rounded to `f32`. Fails where
    /// `count` is outside 1..=n, or nothing converges: squares of large weights may overflow in `f32`.
    pub fn top_eigenvectors(self, count: usize) -> Result<Eigen> {
        let (values, top) = decompose(self.0, count)?;
        let vectors = Matrix::from_fn(top.nrows(), count, |i, j| top[(i, j)].to_f32());
        Ok(Eigen { values, vectors })
    }

    /// All eigenvalues, largest first.
    pub fn eigenvalues(self) -> Result<Vec<f64>> {
        eigenvalues(self.0)
    }
}

/// All eigenvalues of a symmetric matrix, largest first. Reads the lower triangle.
pub(super) fn eigenvalues<T: Real>(symmetric: Mat<T>) -> Result<Vec<f64>> {
    let n = symmetric.nrows();
    let mut values = Diag::zeros(n);
    solve(&Tridiagonal::of(symmetric), &mut values, None)?;
    descending(&values)
}

/// All eigenvalues of a symmetric matrix, largest first, and the eigenvectors of the `count` largest as columns in
/// that order. Reads the lower triangle.
///
/// Only the wanted vectors are taken back through the reflections: with 40 % of the vectors that saves a third of the
/// whole time.
pub(super) fn decompose<T: Real>(symmetric: Mat<T>, count: usize) -> Result<(Vec<f64>, Mat<T>)> {
    let n = symmetric.nrows();
    if !(1..=n).contains(&count) {
        return Err(Error::Count { count, limit: n });
    }
    let reduced = Tridiagonal::of(symmetric);
    let mut values = Diag::zeros(n);
    let mut vectors = Mat::zeros(n, n);
    solve(&reduced, &mut values, Some(&mut vectors))?;
    // faer orders ascending, so the wanted vectors are the last columns.
    let mut top = vectors.subcols_mut(n - count, count);
    reduced.take_back(top.as_mut());
    let values = descending(&values)?;
    Ok((
        values,
        Mat::from_fn(n, count, |i, j| top[(i, count - 1 - j)]),
    ))
}

/// The singular values of a matrix, largest first, min(rows, cols) of them.
///
/// From the Gram matrix in `f64`: rounding of 10⁻¹⁶ in squares, so that values above some 10⁻⁷ of the largest are
/// meaningful, as many digits as the `f32` weight itself has.
pub fn singular_values(w: &Matrix) -> Result<Vec<f64>> {
    let squares = short_gram::<f64>(w).eigenvalues()?;
    Ok(squares.into_iter().map(|x| x.max(0.0).sqrt()).collect())
}

/// The eigenvalues of a tridiagonal matrix in ascending order, and its eigenvectors as columns where asked for.
fn solve<T: Real>(
    reduced: &Tridiagonal<T>,
    values: &mut Diag<T>,
    vectors: Option<&mut Mat<T>>,
) -> Result<()> {
    let n = reduced.diagonal.dim();
    let wanted = match vectors {
        Some(_) => ComputeEigenvectors::Yes,
        None => ComputeEigenvectors::No,
    };
    let scratch = self_adjoint_evd_scratch::<T>(n, wanted, Par::Seq, Spec::default());
    let solved = tridiagonal_self_adjoint_evd(
        reduced.diagonal.as_ref(),
        reduced.below.as_ref(),
        values.as_mut(),
        vectors.map(Mat::as_mut),
        Par::Seq,
        MemStack::new(&mut MemBuffer::new(scratch)),
        Spec::default(),
    );
    solved.map_err(|_| failed(n))
}

/// Reverses to descending order; fails where one is not finite, which the iteration need not notice.
fn descending<T: Real>(values: &Diag<T>) -> Result<Vec<f64>> {
    let rising = values.column_vector().iter();
    let values: Vec<f64> = rising.rev().map(|x| x.to_f64()).collect();
    if values.iter().all(|x| x.is_finite()) {
        Ok(values)
    } else {
        Err(failed(values.len()))
    }
}

/// The error of an eigendecomposition of an n × n matrix.
fn failed(n: usize) -> Error {
    Error::Convergence {
        what: "eigendecomposition",
        shape: Shape::new(n, n),
    }
}
