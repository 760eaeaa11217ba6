//! A column-major matrix in `f64` or `f32`, the owner of what decompositions and products work on.
//!
//! Spectra of H and G fall over many orders of magnitude, and small eigenvalues drown in the rounding of `f32`; so
//! [`Double`] is the usual one, and [`Single`] serves where `f32` is enough.

use std::ops::Range;

use faer::{Accum, Mat, MatMut, MatRef, Par, linalg::matmul::matmul};

use rayon::iter::{IndexedParallelIterator as _, ParallelIterator as _};

use super::{
    Block, Real, eigen, fit,
    product::{multiply_lower_tiles, multiply_tiles},
};
use crate::{Error, Matrix, Result, Shape, Symmetric};

/// Columns of a symmetric matrix that a thread unfolds at a time, instead of all n × n. For predictions of memory.
pub const UNFOLDED: usize = 256;

/// Rows that are transposed at a time.
const ROWS: usize = 64;

/// A column-major matrix.
#[derive(Clone, Debug)]
pub struct Dense<T>(pub(super) Mat<T>);

/// In `f64`, 8 bytes per number: metrics, spectra and whatever is divided by small numbers.
pub type Double = Dense<f64>;

/// In `f32`, 4 bytes per number: weights while they are rounded.
pub type Single = Dense<f32>;

impl<T: Real> From<&Matrix> for Dense<T> {
    fn from(m: &Matrix) -> Self {
        // faer fills column after column; one pass transposes and widens.
        let at = |i, j| T::from_f32(m.data()[i * m.cols() + j]);
        Self(Mat::from_fn(m.rows(), m.cols(), at))
    }
}

impl<T: Real> Dense<T> {
    /// A matrix from its numbers, row after row; fails where their count is not rows · cols.
    pub fn new(rows: usize, cols: usize, numbers: &[T]) -> Result<Self> {
        let (shape, found) = (Shape::new(rows, cols), numbers.len());
        if found != shape.size() {
            return Err(Error::Length { shape, found });
        }
        Ok(Self(
            MatRef::from_row_major_slice(numbers, rows, cols).to_owned(),
        ))
    }

    /// A matrix from a function of row and column.
    #[must_use]
    pub fn from_fn(rows: usize, cols: usize, f: impl FnMut(usize, usize) -> T) -> Self {
        Self(Mat::from_fn(rows, cols, f))
    }

    /// All zeros.
    #[must_use]
    pub fn zeros(rows: usize, cols: usize) -> Self {
        Self(Mat::zeros(rows, cols))
    }

    /// `self + scale · other`; fails where the shapes differ.
    pub fn plus(mut self, scale: T, other: &Self) -> Result<Self> {
        let shape = |m: &Self| Shape::new(m.rows(), m.cols());
        if shape(&self) != shape(other) {
            let (left, right) = (shape(&self), shape(other));
            return Err(Error::Product { left, right });
        }
        for j in 0..self.cols() {
            let pairs = self.0.col_mut(j).iter_mut().zip(other.0.col(j).iter());
            pairs.for_each(|(x, y)| *x += scale * *y);
        }
        Ok(self)
    }

    /// Number of rows.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.0.nrows()
    }

    /// Number of columns.
    #[must_use]
    pub fn cols(&self) -> usize {
        self.0.ncols()
    }

    /// `self · right`, m×k by k×n; fails where the k differ, as all products do.
    pub fn times(&self, right: &Self) -> Result<Self> {
        multiply(self.0.as_ref(), right.0.as_ref())
    }

    /// `selfᵀ · right`, k×m by k×n, without a transposed copy.
    pub fn transposed_times(&self, right: &Self) -> Result<Self> {
        multiply(self.0.transpose(), right.0.as_ref())
    }

    /// `self · rightᵀ`, m×k by n×k, without a transposed copy.
    pub fn times_transposed(&self, right: &Self) -> Result<Self> {
        multiply(self.0.as_ref(), right.0.transpose())
    }

    /// The lower triangle of `self · rightᵀ`, both n×k, where that product is symmetric; n×n, zeros above the diagonal.
    /// Half of the work of [`times_transposed`](Self::times_transposed).
    pub fn symmetric_product(&self, right: &Self) -> Result<Self> {
        let shape = |m: &Self| Shape::new(m.rows(), m.cols());
        if shape(self) != shape(right) {
            let (left, right) = (shape(self), shape(&right.transposed()));
            return Err(Error::Product { left, right });
        }
        let mut out = Mat::zeros(self.rows(), self.rows());
        multiply_lower_tiles(
            out.as_mut(),
            Accum::Replace,
            self.0.as_ref(),
            right.0.as_ref(),
        );
        Ok(Self(out))
    }

    /// Adds the lower triangle of `left · right[:, columns]ᵀ`, n×k by n×k, where that product is symmetric. Fails where
    /// the shapes differ.
    pub fn add_symmetric_product(
        &mut self,
        left: &Self,
        (right, columns): (&Self, Range<usize>),
    ) -> Result<()> {
        let right = right.0.subcols(columns.start, columns.len());
        fit(left.0.as_ref(), right.transpose())?;
        fit(self.0.as_ref(), left.0.as_ref())?;
        fit(right.transpose(), self.0.as_ref())?;
        multiply_lower_tiles(self.0.as_mut(), Accum::Add, left.0.as_ref(), right);
        Ok(())
    }

    /// A copy of some columns.
    #[must_use]
    pub fn part(&self, columns: Range<usize>) -> Self {
        Self(self.0.subcols(columns.start, columns.len()).to_owned())
    }

    /// A transposed copy.
    #[must_use]
    pub fn transposed(&self) -> Self {
        Self(self.0.transpose().to_owned())
    }

    /// `self · diag(by)`.
    #[must_use]
    pub fn scaled_columns(mut self, by: &[T]) -> Self {
        for (j, &number) in by.iter().enumerate().take(self.cols()) {
            self.0.col_mut(j).iter_mut().for_each(|x| *x *= number);
        }
        self
    }

    /// `diag(by) · self`.
    #[must_use]
    pub fn scaled_rows(mut self, by: &[T]) -> Self {
        for j in 0..self.cols() {
            let column = self.0.col_mut(j).iter_mut();
            column.zip(by).for_each(|(x, number)| *x *= *number);
        }
        self
    }

    /// The eigenvalues of a symmetric matrix, largest first, all n of them, and the eigenvectors of the `count` largest
    /// as orthonormal columns, n × count. Reads the lower triangle; works on one thread.
    ///
    /// Fails where `count` is outside 1..=n or the iteration does not converge, as with numbers that are not finite.
    pub fn top_eigenvectors(self, count: usize) -> Result<(Vec<f64>, Self)> {
        let (values, vectors) = eigen::decompose(self.0, count)?;
        Ok((values, Self(vectors)))
    }

    /// The eigenvalues of a symmetric matrix, largest first. Reads the lower triangle. Much faster than with vectors:
    /// the reduction to tridiagonal form is all that counts.
    pub fn eigenvalues(self) -> Result<Vec<f64>> {
        eigen::eigenvalues(self.0)
    }

    /// One column; panics outside the matrix.
    #[must_use]
    pub fn column(&self, j: usize) -> &[T] {
        self.0.col_as_slice(j)
    }

    /// One column, mutable.
    pub fn column_mut(&mut self, j: usize) -> &mut [T] {
        self.0.col_as_slice_mut(j)
    }

    /// Adds `scale · left[:, inner] · right` to the columns `target`, on this thread. A rank-k update; shapes must fit.
    pub fn add_product(
        &mut self,
        target: Range<usize>,
        scale: f32,
        (left, inner): (&Self, Range<usize>),
        right: Block<'_, T>,
    ) {
        let left = left.0.subcols(inner.start, inner.len());
        let target = self.0.subcols_mut(target.start, target.len());
        matmul(
            target,
            Accum::Add,
            left,
            right.0,
            T::from_f32(scale),
            Par::Seq,
        );
    }

    /// A row-major copy of its numbers.
    #[must_use]
    pub fn row_major(&self) -> Vec<T> {
        let cols = self.cols();
        let mut numbers = vec![T::from_f32(0.0); self.rows() * cols];
        MatMut::from_row_major_slice_mut(&mut numbers, self.rows(), cols).copy_from(&self.0);
        numbers
    }

    /// Rounded to `f32`.
    #[must_use]
    pub fn to_matrix(&self) -> Matrix {
        Matrix::from_fn(self.rows(), self.cols(), |i, j| self.0[(i, j)].to_f32())
    }
}

impl Single {
    /// A copy of some columns in `f64`.
    #[must_use]
    pub fn widened(&self, columns: Range<usize>) -> Double {
        let part = self.0.subcols(columns.start, columns.len());
        Dense(Mat::from_fn(part.nrows(), part.ncols(), |i, j| {
            f64::from(part[(i, j)])
        }))
    }
}

impl From<&Symmetric> for Double {
    fn from(m: &Symmetric) -> Self {
        Self(Mat::from_fn(m.size(), m.size(), |i, j| m.at(i, j)))
    }
}

impl Double {
    /// `self · h`, m×n by n×n, where h is unfolded a few columns at a time on each thread. Fails where the n differ.
    pub fn times_symmetric(&self, h: &Symmetric) -> Result<Self> {
        self.times_symmetric_columns(h, 0..h.size())
    }

    /// Some columns of [`times_symmetric`](Self::times_symmetric); panics outside the matrix.
    pub fn times_symmetric_columns(&self, h: &Symmetric, columns: Range<usize>) -> Result<Self> {
        let (rows, n) = (self.rows(), h.size());
        if self.cols() != n {
            let (left, right) = (Shape::new(rows, self.cols()), Shape::new(n, n));
            return Err(Error::Product { left, right });
        }
        let mut out = Mat::zeros(rows, columns.len());
        let panels = out.as_mut().par_col_chunks_mut(UNFOLDED).enumerate();
        panels.with_max_len(1).for_each(|(index, target)| {
            let first = columns.start + index * UNFOLDED;
            let columns = Mat::from_fn(n, target.ncols(), |i, j| h.at(i, first + j));
            matmul(
                target,
                Accum::Replace,
                self.0.as_ref(),
                columns.as_ref(),
                1.0,
                Par::Seq,
            );
        });
        Ok(Self(out))
    }

    /// The Euclidean length of each column.
    #[must_use]
    pub fn column_norms(&self) -> Vec<f64> {
        self.0.col_iter().map(|column| column.norm_l2()).collect()
    }

    /// The Euclidean length of each row.
    #[must_use]
    pub fn row_norms(&self) -> Vec<f64> {
        // A band of rows at a time becomes columns, whose numbers lie one after the other.
        let band = |first: usize| {
            let count = ROWS.min(self.rows() - first);
            let rows = self.0.subrows(first, count).transpose().to_owned();
            Self(rows).column_norms()
        };
        (0..self.rows()).step_by(ROWS).flat_map(band).collect()
    }
}

/// `a · b` into new memory, in tiles.
pub(super) fn multiply<T: Real>(a: MatRef<'_, T>, b: MatRef<'_, T>) -> Result<Dense<T>> {
    fit(a, b)?;
    let mut out = Mat::zeros(a.nrows(), b.ncols());
    multiply_tiles(out.as_mut(), Accum::Replace, a, b, T::from_f32(1.0));
    Ok(Dense(out))
}
