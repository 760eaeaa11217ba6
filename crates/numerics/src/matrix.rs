//! A dense row-major `f32` matrix, and its shape.
//!
//! The type of weights and factors everywhere. Norms and distances are summed in `f64`; decompositions copy into the
//! column-major [`Dense`](crate::linalg::Dense).

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// Rows × columns; for a weight, output features × input features, m × n. Displayed as `m×n`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Shape {
    /// Output features of a weight.
    pub rows: usize,
    /// Input features of a weight.
    pub cols: usize,
}

impl Shape {
    /// `rows × cols`.
    #[must_use]
    pub const fn new(rows: usize, cols: usize) -> Self {
        Self { rows, cols }
    }

    /// m·n, the numbers of a dense matrix of this shape. Does not check for overflow.
    #[must_use]
    pub const fn size(self) -> usize {
        self.rows * self.cols
    }

    /// The highest rank such a matrix can have, min(m, n).
    #[must_use]
    pub fn full_rank(self) -> usize {
        self.rows.min(self.cols)
    }

    /// r·(m + n), the parameters of a low-rank pair of rank r.
    #[must_use]
    pub const fn low_rank_size(self, rank: usize) -> usize {
        rank * (self.rows + self.cols)
    }

    /// The break-even rank m·n / (m + n): from this rank on, a low-rank pair has no fewer parameters than the matrix.
    /// Half of the full rank for a square matrix.
    #[must_use]
    pub fn break_even_rank(self) -> f64 {
        self.size() as f64 / (self.rows + self.cols) as f64
    }

    /// Whether a low-rank pair of this rank has fewer parameters than the matrix.
    #[must_use]
    pub const fn shrinks_at(self, rank: usize) -> bool {
        self.low_rank_size(rank) < self.size()
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}×{}", self.rows, self.cols)
    }
}

/// A dense `f32` matrix, row after row: 4·m·n bytes.
#[derive(Clone, Debug, PartialEq)]
pub struct Matrix {
    shape: Shape,
    data: Vec<f32>,
}

impl Matrix {
    /// A matrix from its numbers, row after row; fails where their count is not rows · cols.
    pub fn new(rows: usize, cols: usize, data: Vec<f32>) -> Result<Self> {
        let shape = Shape::new(rows, cols);
        if data.len() == shape.size() {
            Ok(Self { shape, data })
        } else {
            Err(Error::Length {
                shape,
                found: data.len(),
            })
        }
    }

    /// A matrix of zeros.
    #[must_use]
    pub fn zeros(rows: usize, cols: usize) -> Self {
        let shape = Shape::new(rows, cols);
        Self {
            shape,
            data: vec![0.0; shape.size()],
        }
    }

    /// A matrix from a function of row and column, called row after row.
    pub fn from_fn(rows: usize, cols: usize, mut f: impl FnMut(usize, usize) -> f32) -> Self {
        let data = (0..rows)
            .flat_map(|i| (0..cols).map(move |j| (i, j)))
            .map(|(i, j)| f(i, j))
            .collect();
        Self {
            shape: Shape::new(rows, cols),
            data,
        }
    }

    /// Rows and columns.
    #[must_use]
    pub const fn shape(&self) -> Shape {
        self.shape
    }

    /// Number of rows; output features of a weight.
    #[must_use]
    pub const fn rows(&self) -> usize {
        self.shape.rows
    }

    /// Number of columns; input features of a weight.
    #[must_use]
    pub const fn cols(&self) -> usize {
        self.shape.cols
    }

    /// The numbers, row after row.
    #[must_use]
    pub fn data(&self) -> &[f32] {
        &self.data
    }

    /// The numbers, row after row, to be changed in place.
    pub fn data_mut(&mut self) -> &mut [f32] {
        &mut self.data
    }

    /// The numbers, row after row, without a copy.
    #[must_use]
    pub fn into_data(self) -> Vec<f32> {
        self.data
    }

    /// The transpose, row after row.
    #[must_use]
    pub fn transposed(&self) -> Self {
        let (data, cols) = (&self.data, self.cols());
        Self::from_fn(cols, self.rows(), |i, j| data[j * cols + i])
    }

    /// `‖M‖²_F`, summed in `f64` one number after the other, so that it has the same bytes everywhere.
    #[must_use]
    pub fn squared_norm(&self) -> f64 {
        self.data.iter().map(|&x| f64::from(x) * f64::from(x)).sum()
    }

    /// `‖M − N‖²_F` of two matrices of one shape, which is not checked; summed in `f64`.
    #[must_use]
    pub fn squared_distance(&self, other: &Self) -> f64 {
        self.data
            .iter()
            .zip(&other.data)
            .map(|(&x, &y)| (f64::from(x) - f64::from(y)).powi(2))
            .sum()
    }

    /// Row, column and value of the first number, row after row, that is NaN or infinite.
    #[must_use]
    pub fn first_non_finite(&self) -> Option<(usize, usize, f32)> {
        let index = self.data.iter().position(|x| !x.is_finite())?;
        let value = *self.data.get(index)?;
        Some((index / self.cols(), index % self.cols(), value))
    }
}
