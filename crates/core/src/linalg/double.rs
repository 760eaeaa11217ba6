//! A matrix in `f64`, for what would drown in the rounding of `f32`.

use std::ops::Range;

use faer::{
    Accum, Mat, MatRef, Par,
    linalg::{
        matmul::matmul,
        solvers::{Llt, Solve as _},
        triangular_inverse::invert_upper_triangular,
    },
};

use super::{decompose, eigenvalues, fit};
use crate::{Error, Matrix, Result, Shape, Symmetric};

/// A matrix in `f64`, for what would drown in the rounding of `f32`.
#[derive(Clone, Debug)]
pub struct Double(Mat<f64>);

impl From<&Matrix> for Double {
    fn from(m: &Matrix) -> Self {
        let at = |i, j| f64::from(m.data()[i * m.cols() + j]);
        Self(Mat::from_fn(m.rows(), m.cols(), at))
    }
}

impl From<&Symmetric> for Double {
    fn from(m: &Symmetric) -> Self {
        Self(Mat::from_fn(m.size(), m.size(), |i, j| m.at(i, j)))
    }
}

impl Double {
    /// A matrix from its numbers, row after row; an error when they do not fill the shape.
    pub fn new(rows: usize, cols: usize, numbers: &[f64]) -> Result<Self> {
        let (shape, found) = (Shape::new(rows, cols), numbers.len());
        if found != shape.size() {
            return Err(Error::Length { shape, found });
        }
        Ok(Self(
            MatRef::from_row_major_slice(numbers, rows, cols).to_owned(),
        ))
    }

    /// `self + scale · other`, of one shape.
    pub fn plus(mut self, scale: f64, other: &Self) -> Result<Self> {
        let shape = |m: &Self| Shape::new(m.rows(), m.cols());
        if shape(&self) != shape(other) {
            let (left, right) = (shape(&self), shape(other));
            return Err(Error::Product { left, right });
        }
        for j in 0..self.cols() {
            let pairs = self.0.col_mut(j).iter_mut().zip(other.0.col(j).iter());
            pairs.for_each(|(x, y)| *x += scale * y);
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

    /// `self · right`, m×k by k×n.
    pub fn times(&self, right: &Self) -> Result<Self> {
        multiply_double(self.0.as_ref(), right.0.as_ref())
    }

    /// `selfᵀ · right`, k×m by k×n.
    pub fn transposed_times(&self, right: &Self) -> Result<Self> {
        multiply_double(self.0.transpose(), right.0.as_ref())
    }

    /// `self · rightᵀ`, m×k by n×k.
    pub fn times_transposed(&self, right: &Self) -> Result<Self> {
        multiply_double(self.0.as_ref(), right.0.transpose())
    }

    /// The matrix on its side.
    #[must_use]
    pub fn transposed(&self) -> Self {
        Self(self.0.transpose().to_owned())
    }

    /// Multiplies each column by a number of its own.
    #[must_use]
    pub fn scaled_columns(mut self, by: &[f64]) -> Self {
        for (j, &number) in by.iter().enumerate().take(self.cols()) {
            self.0.col_mut(j).iter_mut().for_each(|x| *x *= number);
        }
        self
    }

    /// Multiplies each row by a number of its own.
    #[must_use]
    pub fn scaled_rows(mut self, by: &[f64]) -> Self {
        for j in 0..self.cols() {
            let column = self.0.col_mut(j).iter_mut();
            column.zip(by).for_each(|(x, number)| *x *= number);
        }
        self
    }

    /// The Euclidean length of each column.
    #[must_use]
    pub fn column_norms(&self) -> Vec<f64> {
        self.0.col_iter().map(|column| column.norm_l2()).collect()
    }

    /// For a symmetric matrix: all eigenvalues, largest first, and the eigenvectors of the `count`
    /// largest as columns. Reads the lower triangle.
    pub fn top_eigenvectors(self, count: usize) -> Result<(Vec<f64>, Self)> {
        let (values, vectors) = decompose(self.0, count)?;
        Ok((values, Self(vectors)))
    }

    /// For a symmetric matrix: all eigenvalues, largest first. Reads the lower triangle.
    pub fn eigenvalues(&self) -> Result<Vec<f64>> {
        eigenvalues(self.0.as_ref())
    }

    /// The solution X of `self · X = right` for a symmetric positive definite `self`.
    pub fn solve(&self, right: &Self) -> Result<Self> {
        Ok(Self(cholesky(self.0.as_ref())?.solve(&right.0)))
    }

    /// All zeros.
    #[must_use]
    pub fn zeros(rows: usize, cols: usize) -> Self {
        Self(Mat::zeros(rows, cols))
    }

    /// `self[:, inner] · right[inner, target]`, for ranges of columns.
    #[must_use]
    pub fn times_within(&self, inner: Range<usize>, right: &Self, target: Range<usize>) -> Self {
        let mut product = Self::zeros(self.rows(), target.len());
        let left = self.0.subcols(inner.start, inner.len());
        let right = right
            .0
            .submatrix(inner.start, target.start, inner.len(), target.len());
        matmul(
            product.0.as_mut(),
            Accum::Replace,
            left,
            right,
            1.0,
            Par::Seq,
        );
        product
    }

    /// One column.
    #[must_use]
    pub fn column(&self, j: usize) -> &[f64] {
        self.0.col_as_slice(j)
    }

    /// One column, to be changed.
    pub fn column_mut(&mut self, j: usize) -> &mut [f64] {
        self.0.col_as_slice_mut(j)
    }

    /// `self[:, target] −= left[:, inner] · right[inner, target]`, for ranges of columns.
    pub fn subtract_product(
        &mut self,
        target: Range<usize>,
        left: &Self,
        right: &Self,
        inner: Range<usize>,
    ) {
        let left = left.0.subcols(inner.start, inner.len());
        let right = right
            .0
            .submatrix(inner.start, target.start, inner.len(), target.len());
        let target = self.0.subcols_mut(target.start, target.len());
        matmul(target, Accum::Add, left, right, -1.0, Par::Seq);
    }

    /// For a symmetric positive definite matrix: the upper triangular U with `Uᵀ · U = self⁻¹`. Reads
    /// the lower triangle.
    ///
    /// From the Cholesky factor of the matrix turned back to front, `self = R·Rᵀ` with R upper
    /// triangular: then U = R⁻¹, and the inverse itself is never formed.
    pub fn root_of_inverse(&self) -> Result<Self> {
        let n = self.rows();
        let lower = |i: usize, j: usize| self.0[(i.max(j), i.min(j))];
        let turned = Mat::from_fn(n, n, |i, j| lower(n - 1 - i, n - 1 - j));
        let factor = cholesky(turned.as_ref())?;
        let root = factor.L().reverse_rows_and_cols();
        let mut inverse = Mat::zeros(n, n);
        invert_upper_triangular(inverse.as_mut(), root, Par::Seq);
        Ok(Self(inverse))
    }

    /// Rounded to `f32`.
    #[must_use]
    pub fn to_matrix(&self) -> Matrix {
        Matrix::from_fn(self.rows(), self.cols(), |i, j| self.0[(i, j)] as f32)
    }
}

fn multiply_double(a: MatRef<'_, f64>, b: MatRef<'_, f64>) -> Result<Double> {
    fit(a, b)?;
    let mut out = Mat::zeros(a.nrows(), b.ncols());
    matmul(out.as_mut(), Accum::Replace, a, b, 1.0, Par::Seq);
    Ok(Double(out))
}

/// The Cholesky decomposition; reads the lower triangle.
fn cholesky(symmetric: MatRef<'_, f64>) -> Result<Llt<f64>> {
    let n = symmetric.nrows();
    let factor = symmetric.llt(faer::Side::Lower);
    factor.map_err(|_| Error::Convergence {
        what: "Cholesky decomposition",
        shape: Shape::new(n, n),
    })
}
