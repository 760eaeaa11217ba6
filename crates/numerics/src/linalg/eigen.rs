//! Eigenvalues and eigenvectors of symmetric matrices.
//!
//! ```text
//! A = Q T Qᵀ           reduction to tridiagonal form by Householder reflections, 4/3·n³; see `tridiagonal.rs`
//! T = S Λ Sᵀ           divide and conquer; see `divide_and_conquer.rs`
//! V = Q S[:, top r]    only the wanted vectors are taken back, 2·n²·r
//! ```
//!
//! # References
//!
//! Golub & Van Loan, *Matrix Computations*, section 8.3; Gu & Eisenstat, *A divide-and-conquer algorithm for the
//! symmetric tridiagonal eigenproblem*, SIAM J. Matrix Anal. Appl. 1995.

mod deflation;
mod divide_and_conquer;
mod merge;
mod secular;
mod symv;
mod tridiagonal;

use faer::{Accum, Mat};

use self::{divide_and_conquer::WHOLE, tridiagonal::Tridiagonal};
use super::{Real, product::multiply_lower_tiles};
use crate::{Error, Matrix, Result, Shape};

/// Columns that are converted to the precision of the Gram matrix at a time, so that no whole copy in `f64` is made.
const PART: usize = 1024;

/// Numbers in memory at the peak of an eigendecomposition of an n × n matrix with `count` eigenvectors, the given matrix
/// among them. For predictions of memory.
#[must_use]
pub const fn eigen_memory(n: usize, count: usize) -> usize {
    let square = n * n;
    // Behind the reflections, in the given matrix: eigenvectors, and two more in the workspace of divide and conquer.
    if n <= WHOLE {
        return 4 * square;
    }
    // The same of two halves side by side; or their eigenvectors, half of those again, S and Q S.
    let (halves, merge) = (3 * square / 2, 3 * square / 4 + 2 * n * count);
    square + if halves > merge { halves } else { merge }
}

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
    let wide = w.rows() <= w.cols();
    let (n, long) = if wide {
        (w.rows(), w.cols())
    } else {
        (w.cols(), w.rows())
    };
    let (numbers, mut gram) = (w.data(), Mat::zeros(n, n));
    // A symmetric rank-k update per part, its lower triangle only.
    for first in (0..long).step_by(PART) {
        let count = PART.min(long - first);
        // Either way the copy runs along the rows of W.
        if wide {
            let part = Mat::from_fn(count, n, |j, i| T::from_f32(numbers[i * long + first + j]));
            multiply_lower_tiles(
                gram.as_mut(),
                Accum::Add,
                part.transpose(),
                part.transpose(),
            );
        } else {
            let part = Mat::from_fn(n, count, |i, j| T::from_f32(numbers[(first + j) * n + i]));
            multiply_lower_tiles(gram.as_mut(), Accum::Add, part.as_ref(), part.as_ref());
        }
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
    let reduced = Tridiagonal::of(symmetric);
    descending(divide_and_conquer::eigenvalues(
        reduced.diagonal.as_ref(),
        reduced.below.as_ref(),
    )?)
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
    let mut solution =
        divide_and_conquer::solve(reduced.diagonal.as_ref(), reduced.below.as_ref(), count)?;
    let values = descending(solution.values)?;
    reduced.take_back(solution.vectors.as_mut());
    let vectors = solution.vectors.reverse_cols();
    Ok((values, vectors.to_owned()))
}

/// The singular values of a matrix, largest first, min(rows, cols) of them.
///
/// From the Gram matrix in `f64`: rounding of 10⁻¹⁶ in squares, so that values above some 10⁻⁷ of the largest are
/// meaningful, as many digits as the `f32` weight itself has.
pub fn singular_values(w: &Matrix) -> Result<Vec<f64>> {
    let squares = short_gram::<f64>(w).eigenvalues()?;
    Ok(squares.into_iter().map(|x| x.max(0.0).sqrt()).collect())
}

/// Reverses to descending order; fails where one is not finite, which the iteration need not notice.
fn descending(mut values: Vec<f64>) -> Result<Vec<f64>> {
    values.reverse();
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
