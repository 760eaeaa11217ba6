//! Products of matrices that belong to a network: row after row, in someone else's memory.

use faer::{Accum, MatMut, MatRef, Par, linalg::matmul::matmul};
use rayon::iter::{IndexedParallelIterator as _, ParallelIterator as _};

use super::{fit, product::multiply_tiles};
use crate::{Error, Result, Shape};

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

/// `a · bᵀ`, t × n, of a matrix b of n rows that is never there as a whole: `unpack` writes a row of
/// it, and each core keeps at most `panel` rows at a time.
pub fn product_by_panels(
    a: Slab<'_>,
    rows: usize,
    panel: usize,
    unpack: impl Fn(usize, &mut [f32]) + Sync,
) -> Vec<f32> {
    let Shape { rows: t, cols } = a.shape;
    let mut out = vec![0.0; t * rows];
    let mut target = MatMut::from_row_major_slice_mut(&mut out, t, rows);
    let multiply = |(index, target): (usize, MatMut<'_, f32>)| {
        let mut b = vec![0.0; target.ncols() * cols]; // panel × in
        for (row, numbers) in (index * panel..).zip(b.chunks_exact_mut(cols.max(1))) {
            unpack(row, numbers);
        }
        let b = MatRef::from_row_major_slice(&b, target.ncols(), cols);
        let (a, b) = (a.view(), b.transpose());
        matmul(target, Accum::Replace, a, b, 1.0, Par::Seq);
    };
    if rayon::current_thread_index().is_none() {
        let panels = target.par_col_chunks_mut(panel);
        panels.enumerate().for_each(multiply);
    } else {
        for (index, first) in (0..rows).step_by(panel).enumerate() {
            let count = panel.min(rows - first);
            multiply((index, target.as_mut().subcols_mut(first, count)));
        }
    }
    out
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
    let target = MatMut::from_row_major_slice_mut(out, shape.rows, shape.cols);
    if rayon::current_thread_index().is_none() {
        multiply_tiles(target, how, a, b, 1.0);
    } else {
        matmul(target, how, a, b, 1.0, Par::Seq);
    }
    Ok(())
}
