//! The only file that names the linear-algebra crate: products, Gram matrices, top eigenvectors.
//!
//! Everything runs on one thread: the pipeline gives each core a matrix of its own, which keeps
//! both busy and makes every result independent of the number of threads.

use faer::{
    Accum, Conj, Mat, MatRef, Par, Spec,
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
        matmul::{
            matmul,
            triangular::{BlockStructure, matmul as matmul_structured},
        },
        qr::no_pivoting::factor::recommended_block_size,
    },
    traits::RealField,
};

use crate::{Error, Matrix, Result, Shape};

/// Eigenvalues of a symmetric matrix, largest first, and the eigenvectors of the first few.
#[derive(Clone, Debug)]
pub struct Eigen {
    /// All n eigenvalues, largest first.
    pub values: Vec<f64>,
    /// The eigenvectors of the largest ones as orthonormal columns; n × k.
    pub vectors: Matrix,
}

/// `a · b`, m×k by k×n.
pub fn product(a: &Matrix, b: &Matrix) -> Result<Matrix> {
    multiply(view(a), view(b))
}

/// `aᵀ · b`, k×m by k×n.
pub fn product_of_transposed(a: &Matrix, b: &Matrix) -> Result<Matrix> {
    multiply(view(a).transpose(), view(b))
}

/// The Gram matrix of the shorter side: `W·Wᵀ` if W has no more rows than columns, else `Wᵀ·W`.
///
/// `T` is the precision in which it is summed. Only the lower triangle is filled.
#[must_use]
pub fn short_gram<T: Real>(w: &Matrix) -> Gram<T> {
    let rows = w.rows();
    let wide = Mat::from_fn(rows, w.cols(), |i, j| {
        T::from_f32(w.data()[i * w.cols() + j])
    });
    let wide = if rows <= w.cols() {
        wide.as_ref()
    } else {
        wide.transpose()
    };
    let n = wide.nrows();
    let mut gram = Mat::zeros(n, n);
    matmul_structured(
        gram.as_mut(),
        BlockStructure::TriangularLower,
        Accum::Replace,
        wide,
        BlockStructure::Rectangular,
        wide.transpose(),
        BlockStructure::Rectangular,
        T::from_f32(1.0),
        Par::Seq,
    );
    Gram(gram)
}

/// A symmetric positive semidefinite matrix in precision `T`, lower triangle.
#[derive(Clone, Debug)]
pub struct Gram<T>(Mat<T>);

impl<T: Real> Gram<T> {
    /// All eigenvalues, largest first, and the eigenvectors of the `count` largest.
    ///
    /// Reduces the matrix to tridiagonal form, solves that, and takes only the wanted vectors back
    /// through the reflections: at 40 % of the vectors that saves a third of the whole.
    pub fn top_eigenvectors(self, count: usize) -> Result<Eigen> {
        let n = self.0.nrows();
        if !(1..=n).contains(&count) {
            return Err(Error::Count { count, limit: n });
        }
        let failed = || Error::Convergence {
            what: "eigendecomposition",
            shape: Shape::new(n, n),
        };
        let (reflections, blocks, diagonal, below) = tridiagonal(self.0);
        let mut values = Diag::zeros(n);
        let mut vectors = Mat::zeros(n, n);
        tridiagonal_self_adjoint_evd(
            diagonal.as_ref(),
            below.as_ref(),
            values.as_mut(),
            Some(vectors.as_mut()),
            Par::Seq,
            MemStack::new(&mut workspace(self_adjoint_evd_scratch::<T>(
                n,
                ComputeEigenvectors::Yes,
                Par::Seq,
                Spec::default(),
            ))),
            Spec::default(),
        )
        .map_err(|_| failed())?;
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
        let values: Vec<f64> = values
            .column_vector()
            .iter()
            .rev()
            .map(|x| x.to_f64())
            .collect();
        if values.iter().any(|x| !x.is_finite()) {
            return Err(failed());
        }
        let vectors = Matrix::from_fn(n, count, |i, j| top[(i, count - 1 - j)].to_f32());
        Ok(Eigen { values, vectors })
    }

    /// All eigenvalues, largest first.
    pub fn eigenvalues(self) -> Result<Vec<f64>> {
        let n = self.0.nrows();
        let values = self
            .0
            .self_adjoint_eigenvalues(faer::Side::Lower)
            .map_err(|_| Error::Convergence {
                what: "eigenvalues",
                shape: Shape::new(n, n),
            })?;
        Ok(values.iter().rev().map(|x| x.to_f64()).collect())
    }
}

/// The singular values of a matrix, largest first.
///
/// From the Gram matrix in `f64`, so that values down to 10⁻⁷ of the largest are meaningful.
pub fn singular_values(w: &Matrix) -> Result<Vec<f64>> {
    let squares = short_gram::<f64>(w).eigenvalues()?;
    Ok(squares.into_iter().map(|x| x.max(0.0).sqrt()).collect())
}

/// The two precisions of a Gram matrix.
pub trait Real: RealField + Copy {
    /// From a weight.
    fn from_f32(x: f32) -> Self;
    /// To a factor's number.
    fn to_f32(self) -> f32;
    /// To an eigenvalue.
    fn to_f64(self) -> f64;
}

impl Real for f32 {
    fn from_f32(x: f32) -> Self {
        x
    }

    fn to_f32(self) -> f32 {
        self
    }

    fn to_f64(self) -> f64 {
        f64::from(self)
    }
}

impl Real for f64 {
    fn from_f32(x: f32) -> Self {
        Self::from(x)
    }

    fn to_f32(self) -> f32 {
        self as f32
    }

    fn to_f64(self) -> f64 {
        self
    }
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

fn workspace(request: StackReq) -> MemBuffer {
    MemBuffer::new(request)
}

fn view(m: &Matrix) -> MatRef<'_, f32> {
    MatRef::from_row_major_slice(m.data(), m.rows(), m.cols())
}

fn multiply(a: MatRef<'_, f32>, b: MatRef<'_, f32>) -> Result<Matrix> {
    let shape = |m: MatRef<'_, f32>| Shape::new(m.nrows(), m.ncols());
    if a.ncols() != b.nrows() {
        return Err(Error::Product {
            left: shape(a),
            right: shape(b),
        });
    }
    let mut out = Matrix::zeros(a.nrows(), b.ncols());
    let (rows, cols) = (out.rows(), out.cols());
    let target = faer::MatMut::from_row_major_slice_mut(out.data_mut(), rows, cols);
    matmul(target, Accum::Replace, a, b, 1.0, Par::Seq);
    Ok(out)
}
