//! The only module that names the linear-algebra crate: products, Gram matrices, top eigenvectors.
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

use rayon::iter::{IndexedParallelIterator as _, IntoParallelIterator as _, ParallelIterator as _};

use crate::{Error, Matrix, Result, Shape};

mod double;

pub use double::Double;

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
    pub fn top_eigenvectors(self, count: usize) -> Result<Eigen> {
        let (values, top) = decompose(self.0, count)?;
        let vectors = Matrix::from_fn(top.nrows(), count, |i, j| top[(i, j)].to_f32());
        Ok(Eigen { values, vectors })
    }

    /// All eigenvalues, largest first.
    pub fn eigenvalues(self) -> Result<Vec<f64>> {
        eigenvalues(self.0.as_ref())
    }
}

fn eigenvalues<T: Real>(symmetric: MatRef<'_, T>) -> Result<Vec<f64>> {
    let n = symmetric.nrows();
    let values = symmetric.self_adjoint_eigenvalues(faer::Side::Lower);
    let values = values.map_err(|_| Error::Convergence {
        what: "eigenvalues",
        shape: Shape::new(n, n),
    })?;
    Ok(values.iter().rev().map(|x| x.to_f64()).collect())
}

/// All eigenvalues of a symmetric matrix, largest first, and the eigenvectors of the `count` largest
/// as columns in that order. Reads the lower triangle.
///
/// Reduces the matrix to tridiagonal form, solves that, and takes only the wanted vectors back
/// through the reflections: at 40 % of the vectors that saves a third of the whole.
fn decompose<T: Real>(symmetric: Mat<T>, count: usize) -> Result<(Vec<f64>, Mat<T>)> {
    let n = symmetric.nrows();
    if !(1..=n).contains(&count) {
        return Err(Error::Count { count, limit: n });
    }
    let failed = || Error::Convergence {
        what: "eigendecomposition",
        shape: Shape::new(n, n),
    };
    let (reflections, blocks, diagonal, below) = tridiagonal(symmetric);
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
    Ok((
        values,
        Mat::from_fn(n, count, |i, j| top[(i, count - 1 - j)]),
    ))
}

/// A row-major matrix in someone else's memory.
#[derive(Clone, Copy, Debug)]
pub struct Slab<'a> {
    data: &'a [f32],
    shape: Shape,
    stride: usize,
}

impl<'a> Slab<'a> {
    /// The matrix of the given shape at the start of a slice; an error when the slice is too short.
    pub fn new(data: &'a [f32], shape: Shape) -> Result<Self> {
        Self::strided(data, shape, shape.cols)
    }

    /// The same with rows that begin `stride` numbers apart.
    pub fn strided(data: &'a [f32], shape: Shape, stride: usize) -> Result<Self> {
        let needed = shape.rows.saturating_sub(1) * stride + shape.cols;
        if data.len() < needed || stride < shape.cols {
            let found = data.len();
            return Err(Error::Length { shape, found });
        }
        Ok(Self {
            data,
            shape,
            stride,
        })
    }

    /// Rows × columns.
    #[must_use]
    pub const fn shape(self) -> Shape {
        self.shape
    }

    /// One row.
    #[must_use]
    pub fn row(self, index: usize) -> &'a [f32] {
        &self.data[index * self.stride..][..self.shape.cols]
    }

    fn view(self) -> MatRef<'a, f32> {
        let Shape { rows, cols } = self.shape;
        MatRef::from_row_major_slice_with_stride(self.data, rows, cols, self.stride)
    }
}

/// Which side of a product is meant on its side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Right {
    /// `a · b`
    AsIs,
    /// `a · bᵀ`
    Transposed,
}

/// `a · b` or `a · bᵀ` of matrices that belong to a network, row after row.
///
/// Within a pool of threads that share other work it uses its own thread only, else all cores.
pub fn product_of_slabs(a: Slab<'_>, b: Slab<'_>, right: Right) -> Result<Vec<f32>> {
    let cols = match right {
        Right::AsIs => b.shape.cols,
        Right::Transposed => b.shape.rows,
    };
    let mut out = vec![0.0; a.shape.rows * cols];
    product_into(&mut out, a, b, right)?;
    Ok(out)
}

/// `a · bᵀ`, t × n, for each of some matrices a, with a matrix b of n rows that is never there as a whole:
/// `unpack` writes rows of it, from the given one on, and each core keeps at most `panel` of them at a time.
///
/// Each element is summed as [`product_of_slabs`] sums it; so no panel but a matrix of one row has a single
/// row, for which there is another kernel.
pub fn product_by_panels<E: Send>(
    a: &[Slab<'_>],
    rows: usize,
    panel: usize,
    unpack: impl Fn(usize, &mut [f32]) -> std::result::Result<(), E> + Sync,
) -> std::result::Result<Vec<Vec<f32>>, E> {
    let cols = a.first().map_or(0, |a| a.shape.cols);
    let ends = ends_of_panels(rows, panel);
    let mut out: Vec<Vec<f32>> = a.iter().map(|a| vec![0.0; a.shape.rows * rows]).collect();
    // One list of targets for each panel: its columns of every product.
    let mut targets: Vec<Vec<faer::MatMut<'_, f32>>> = ends.iter().map(|_| Vec::new()).collect();
    for (a, out) in a.iter().zip(&mut out) {
        let mut rest = faer::MatMut::from_row_major_slice_mut(out, a.shape.rows, rows);
        let mut first = 0;
        for (&end, targets) in ends.iter().zip(&mut targets) {
            let (target, others) = rest.split_at_col_mut(end - first);
            targets.push(target);
            (rest, first) = (others, end);
        }
    }
    let multiply = |(end, targets): (usize, Vec<faer::MatMut<'_, f32>>)| {
        let count = targets.first().map_or(0, |target| target.ncols());
        let mut b = vec![0.0; count * cols]; // panel × in
        unpack(end - count, &mut b)?;
        let b = MatRef::from_row_major_slice(&b, count, cols).transpose();
        for (a, target) in a.iter().zip(targets) {
            matmul(target, Accum::Replace, a.view(), b, 1.0, Par::Seq);
        }
        Ok(())
    };
    if rayon::current_thread_index().is_none() {
        ends.into_par_iter().zip(targets).try_for_each(multiply)?;
    } else {
        ends.into_iter().zip(targets).try_for_each(multiply)?;
    }
    Ok(out)
}

/// Where panels of at most so many rows end, but none of a single row where there are more.
fn ends_of_panels(rows: usize, panel: usize) -> Vec<usize> {
    let panel = panel.max(3);
    let mut ends: Vec<usize> = (panel..rows).step_by(panel).collect();
    if rows % panel == 1
        && let Some(last) = ends.last_mut()
    {
        *last -= 1;
    }
    ends.push(rows);
    ends
}

/// `aᵀ · b`, m × n from t × m and t × n: the gradient of a weight is such a product.
pub fn product_of_transposed_slabs(a: Slab<'_>, b: Slab<'_>) -> Result<Vec<f32>> {
    let shape = Shape::new(a.shape.cols, b.shape.cols);
    let mut out = vec![0.0; shape.size()];
    write_product(&mut out, a.view().transpose(), b.view(), Accum::Replace)?;
    Ok(out)
}

/// Adds `aᵀ · b` to numbers that are there already.
pub fn add_product_of_transposed(sums: &mut [f32], a: Slab<'_>, b: Slab<'_>) -> Result<()> {
    write_product(sums, a.view().transpose(), b.view(), Accum::Add)
}

/// [`product_of_slabs`] into memory that is there already and exactly large enough.
pub fn product_into(out: &mut [f32], a: Slab<'_>, b: Slab<'_>, right: Right) -> Result<()> {
    let b = match right {
        Right::AsIs => b.view(),
        Right::Transposed => b.view().transpose(),
    };
    write_product(out, a.view(), b, Accum::Replace)
}

fn write_product(
    out: &mut [f32],
    a: MatRef<'_, f32>,
    b: MatRef<'_, f32>,
    how: Accum,
) -> Result<()> {
    fit(a, b)?;
    let (shape, found) = (Shape::new(a.nrows(), b.ncols()), out.len());
    if found != shape.size() {
        return Err(Error::Length { shape, found });
    }
    let target = faer::MatMut::from_row_major_slice_mut(out, shape.rows, shape.cols);
    let alone = rayon::current_thread_index().is_none();
    let threads = if alone { Par::rayon(0) } else { Par::Seq };
    matmul(target, how, a, b, 1.0, threads);
    Ok(())
}

/// How many products are summed in `f32` before the sum goes on in `f64`.
const RUN: usize = 256;

/// Adds `Σ x xᵀ` over the rows x of a t × n matrix to some rows of a symmetric n × n matrix, up to the
/// last of their diagonal elements.
///
/// `band` holds those rows, `first` is the index of the first of them. Bands are what threads share a
/// sum by: each element is summed in the same order, whatever the bands.
pub fn add_outer_products(band: &mut [f64], first: usize, n: usize, x: &[f32]) {
    add(band, first, n, first + band.len() / n, (x, n), (x, n));
}

/// Adds `Σ x yᵀ` over the rows x of a t × m and y of a t × n matrix to some rows of an m × n matrix.
pub fn add_cross_products(band: &mut [f64], first: usize, x: (&[f32], usize), y: (&[f32], usize)) {
    add(band, first, y.1, y.1, x, y);
}

/// Adds to the first `width` columns of a band; x and y with their widths.
fn add(
    band: &mut [f64],
    first: usize,
    cols: usize,
    width: usize,
    x: (&[f32], usize),
    y: (&[f32], usize),
) {
    let rows = band.len() / cols;
    let mut run = vec![0.0_f32; rows * width];
    for (x_run, y_run) in x.0.chunks(RUN * x.1).zip(y.0.chunks(RUN * y.1)) {
        let left = MatRef::from_row_major_slice(x_run, x_run.len() / x.1, x.1);
        let right = MatRef::from_row_major_slice(y_run, y_run.len() / y.1, y.1);
        let target = faer::MatMut::from_row_major_slice_mut(&mut run, rows, width);
        let (left, right) = (
            left.subcols(first, rows).transpose(),
            right.subcols(0, width),
        );
        matmul(target, Accum::Replace, left, right, 1.0, Par::Seq);
        for (sums, added) in band.chunks_exact_mut(cols).zip(run.chunks_exact(width)) {
            let pairs = sums.iter_mut().zip(added);
            pairs.for_each(|(sum, x)| *sum += f64::from(*x));
        }
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
    fit(a, b)?;
    let mut out = Matrix::zeros(a.nrows(), b.ncols());
    let (rows, cols) = (out.rows(), out.cols());
    let target = faer::MatMut::from_row_major_slice_mut(out.data_mut(), rows, cols);
    matmul(target, Accum::Replace, a, b, 1.0, Par::Seq);
    Ok(out)
}

/// Whether two matrices can be multiplied.
fn fit<T>(a: MatRef<'_, T>, b: MatRef<'_, T>) -> Result<()> {
    if a.ncols() == b.nrows() {
        return Ok(());
    }
    Err(Error::Product {
        left: Shape::new(a.nrows(), a.ncols()),
        right: Shape::new(b.nrows(), b.ncols()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn panels_have_all_rows_and_none_a_single_one() {
        for rows in 0..60 {
            for panel in 0..12 {
                let ends = ends_of_panels(rows, panel);
                let starts = std::iter::once(&0).chain(&ends);
                let sizes: Vec<usize> = starts.zip(&ends).map(|(a, b)| b - a).collect();
                assert_eq!(sizes.iter().sum::<usize>(), rows);
                assert!(sizes.iter().all(|&size| size <= panel.max(3)));
                assert!(
                    rows == 1 || !sizes.contains(&1),
                    "{rows} by {panel}: {sizes:?}"
                );
            }
        }
    }
}
