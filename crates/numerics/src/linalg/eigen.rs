//! Eigenvalues and eigenvectors of symmetric matrices, each on one thread.
//!
//! A reduction to tridiagonal form is bound by memory, and faer's own parallelism makes its bytes depend
//! on the number of threads; so weights are what threads share.

use faer::{
    Accum, Conj, Mat, Par, Spec,
    diag::Diag,
    dyn_stack::{MemBuffer, MemStack, StackReq},
    linalg::{
        evd::{
            ComputeEigenvectors, self_adjoint_evd_scratch, tridiag, tridiagonal_self_adjoint_evd,
        },
        householder::{
            apply_block_householder_sequence_on_the_left_in_place_scratch as reflect_scratch,
            apply_block_householder_sequence_on_the_left_in_place_with_conj as reflect,
        },
        qr::no_pivoting::factor::recommended_block_size,
    },
};

use super::{
    Real,
    product::{multiply_lower_tiles, view},
};
use crate::{Error, Matrix, Result, Shape};

/// Columns of a matrix that are there in the precision of its Gram matrix at a time.
const PART: usize = 1024;

/// n × n matrices that an eigendecomposition holds at its peak: the given one, the eigenvectors, and two of
/// their halves' while they are joined.
pub const EIGEN_SQUARES: usize = 4;

/// Eigenvalues of a symmetric matrix, largest first, and the eigenvectors of the first few.
#[derive(Clone, Debug)]
pub struct Eigen {
    /// All n eigenvalues, largest first.
    pub values: Vec<f64>,
    /// The eigenvectors of the largest ones as orthonormal columns; n × k.
    pub vectors: Matrix,
}

/// The Gram matrix of the shorter side: `W·Wᵀ` if W has no more rows than columns, else `Wᵀ·W`.
///
/// `T` is the precision in which it is summed. Only the lower triangle is filled.
#[must_use]
pub fn short_gram<T: Real>(w: &Matrix) -> Gram<T> {
    let wide = if w.rows() <= w.cols() {
        view(w)
    } else {
        view(w).transpose()
    };
    let n = wide.nrows();
    let mut gram = Mat::zeros(n, n);
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
    /// All eigenvalues, largest first, and the eigenvectors of the `count` largest.
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
    let (_, _, diagonal, below) = tridiagonal(symmetric);
    let mut values = Diag::zeros(n);
    solve(&diagonal, &below, &mut values, None)?;
    descending(&values)
}

/// All eigenvalues of a symmetric matrix, largest first, and the eigenvectors of the `count` largest
/// as columns in that order. Reads the lower triangle.
///
/// Reduces the matrix to tridiagonal form, solves that, and takes only the wanted vectors back
/// through the reflections: at 40 % of the vectors that saves a third of the whole.
pub(super) fn decompose<T: Real>(symmetric: Mat<T>, count: usize) -> Result<(Vec<f64>, Mat<T>)> {
    let n = symmetric.nrows();
    if !(1..=n).contains(&count) {
        return Err(Error::Count { count, limit: n });
    }
    let (reflections, blocks, diagonal, below) = tridiagonal(symmetric);
    let mut values = Diag::zeros(n);
    let mut vectors = Mat::zeros(n, n);
    solve(&diagonal, &below, &mut values, Some(&mut vectors))?;
    // Ascending, so the wanted ones are the last columns.
    let mut top = vectors.subcols_mut(n - count, count);
    if n > 1 {
        reflect(
            reflections.submatrix(1, 0, n - 1, n - 1),
            blocks.as_ref(),
            Conj::No,
            top.as_mut().subrows_mut(1, n - 1),
            Par::Seq,
            MemStack::new(&mut workspace(reflect_scratch::<T>(
                n - 1,
                blocks.nrows(),
                count,
            ))),
        );
    }
    let values = descending(&values)?;
    Ok((
        values,
        Mat::from_fn(n, count, |i, j| top[(i, count - 1 - j)]),
    ))
}

/// The singular values of a matrix, largest first.
///
/// From the Gram matrix in `f64`, so that values down to 10⁻⁷ of the largest are meaningful.
pub fn singular_values(w: &Matrix) -> Result<Vec<f64>> {
    let squares = short_gram::<f64>(w).eigenvalues()?;
    Ok(squares.into_iter().map(|x| x.max(0.0).sqrt()).collect())
}

/// Reflections below the diagonal, their block coefficients, the diagonal and what is below it.
type Tridiagonal<T> = (Mat<T>, Mat<T>, Diag<T>, Diag<T>);

fn tridiagonal<T: Real>(mut a: Mat<T>) -> Tridiagonal<T> {
    let n = a.nrows();
    let mut blocks = Mat::zeros(recommended_block_size::<T>(n, n), n.saturating_sub(1));
    tridiag::tridiag_in_place(
        a.as_mut(),
        blocks.as_mut(),
        Par::Seq,
        MemStack::new(&mut workspace(tridiag::tridiag_in_place_scratch::<T>(
            n,
            Par::Seq,
            Spec::default(),
        ))),
        Spec::default(),
    );
    let mut diagonal = Diag::zeros(n);
    let mut below = Diag::zeros(n);
    for i in 0..n {
        diagonal[i] = a[(i, i)];
        if i + 1 < n {
            below[i] = a[(i + 1, i)];
        }
    }
    (a, blocks, diagonal, below)
}

/// The eigenvalues of a tridiagonal matrix in rising order, and its eigenvectors as columns.
fn solve<T: Real>(
    diagonal: &Diag<T>,
    below: &Diag<T>,
    values: &mut Diag<T>,
    vectors: Option<&mut Mat<T>>,
) -> Result<()> {
    let n = diagonal.dim();
    let wanted = match vectors {
        Some(_) => ComputeEigenvectors::Yes,
        None => ComputeEigenvectors::No,
    };
    let scratch = self_adjoint_evd_scratch::<T>(n, wanted, Par::Seq, Spec::default());
    let solved = tridiagonal_self_adjoint_evd(
        diagonal.as_ref(),
        below.as_ref(),
        values.as_mut(),
        vectors.map(Mat::as_mut),
        Par::Seq,
        MemStack::new(&mut workspace(scratch)),
        Spec::default(),
    );
    solved.map_err(|_| failed(n))
}

/// In falling order; an error where one is not finite.
fn descending<T: Real>(values: &Diag<T>) -> Result<Vec<f64>> {
    let rising = values.column_vector().iter();
    let values: Vec<f64> = rising.rev().map(|x| x.to_f64()).collect();
    if values.iter().all(|x| x.is_finite()) {
        Ok(values)
    } else {
        Err(failed(values.len()))
    }
}

fn failed(n: usize) -> Error {
    Error::Convergence {
        what: "eigendecomposition",
        shape: Shape::new(n, n),
    }
}

fn workspace(request: StackReq) -> MemBuffer {
    MemBuffer::new(request)
}
