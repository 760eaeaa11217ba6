//! Products of borrowed row-major matrices: the activations, weights and gradients of a network.
//!
//! ```text
//! y  = x Wᵀ        t × out      forward        Right::Transposed
//! ∂x = ∂y W        t × in       backward       Right::AsIs
//! ∂W = ∂yᵀ x       out × in     backward       product_of_transposed_slabs
//! W is never there: product_by_panels, with W unpacked a panel of rows at a time
//! ```

use faer::{Accum, MatMut, MatRef, Par, linalg::matmul::matmul};
use rayon::iter::{IndexedParallelIterator as _, IntoParallelIterator as _, ParallelIterator as _};

use super::{fit, product::multiply_tiles};
use crate::{Error, Result, Shape};

/// A borrowed row-major `f32` matrix, whose rows may lie further apart than they are long.
#[derive(Clone, Copy, Debug)]
pub struct Slab<'a> {
    /// At least (rows − 1) · stride + cols numbers.
    data: &'a [f32],
    shape: Shape,
    /// Numbers from the start of a row to that of the next; at least cols.
    stride: usize,
}

impl<'a> Slab<'a> {
    /// The matrix of the given shape at the start of a slice; fails where the slice is too short.
    pub fn new(data: &'a [f32], shape: Shape) -> Result<Self> {
        Self::strided(data, shape, shape.cols)
    }

    /// The same with rows that begin `stride` numbers apart, as one head among all of them does. Fails where the slice
    /// is too short or rows would overlap.
    pub fn strided(data: &'a [f32], shape: Shape, stride: usize) -> Result<Self> {
        // The last row need not be followed by a whole stride.
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

    /// One row; panics outside the matrix.
    #[must_use]
    pub fn row(self, index: usize) -> &'a [f32] {
        &self.data[index * self.stride..][..self.shape.cols]
    }

    /// The same for faer.
    fn view(self) -> MatRef<'a, f32> {
        let Shape { rows, cols } = self.shape;
        MatRef::from_row_major_slice_with_stride(self.data, rows, cols, self.stride)
    }
}

/// Whether the right factor of a product is transposed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Right {
    /// `a · b`
    AsIs,
    /// `a · bᵀ`
    Transposed,
}

/// `a · b` or `a · bᵀ` into new memory, row-major. Fails where the inner dimensions differ.
///
/// On a thread of a rayon pool it uses that thread only, since the pool's other threads have other work; otherwise all
/// cores.
pub fn product_of_slabs(a: Slab<'_>, b: Slab<'_>, right: Right) -> Result<Vec<f32>> {
    let cols = match right {
        Right::AsIs => b.shape.cols,
        Right::Transposed => b.shape.rows,
    };
    let mut out = vec![0.0; a.shape.rows * cols];
    product_into(&mut out, a, b, right)?;
    Ok(out)
}

/// `a · bᵀ`, t × n, for each of some matrices a, where b (n rows) is never in memory as a whole: `unpack` writes
/// rows of it, from the given one on, and each core holds a panel of at most `panel` rows at a time.
///
/// Each element is summed as [`product_of_slabs`] sums it. Therefore no panel has a single row unless b has only one:
/// faer multiplies a vector by another kernel, which sums in another order. Fails where `unpack` does.
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
    let mut targets: Vec<Vec<MatMut<'_, f32>>> = ends.iter().map(|_| Vec::new()).collect();
    for (a, out) in a.iter().zip(&mut out) {
        // A band of columns of a row-major slice is not contiguous; a view of it can be split into such bands.
        let mut rest = MatMut::from_row_major_slice_mut(out, a.shape.rows, rows);
        let mut first = 0;
        for (&end, targets) in ends.iter().zip(&mut targets) {
            let (target, others) = rest.split_at_col_mut(end - first);
            targets.push(target);
            (rest, first) = (others, end);
        }
    }
    let multiply = |(end, targets): (usize, Vec<MatMut<'_, f32>>)| {
        let count = targets.first().map_or(0, MatMut::ncols);
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

/// The ends of panels of at most `panel` rows, at least 3, so that the last but one can give a row to a last one that
/// would have a single row.
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

/// `aᵀ · b`, m × n from t × m and t × n: the gradient of a weight is such a product. Fails where the t differ.
pub fn product_of_transposed_slabs(a: Slab<'_>, b: Slab<'_>) -> Result<Vec<f32>> {
    let shape = Shape::new(a.shape.cols, b.shape.cols);
    let mut out = vec![0.0; shape.size()];
    write_product(&mut out, a.view().transpose(), b.view(), Accum::Replace)?;
    Ok(out)
}

/// Adds `aᵀ · b` to existing numbers: a gradient over further windows.
pub fn add_product_of_transposed(sums: &mut [f32], a: Slab<'_>, b: Slab<'_>) -> Result<()> {
    write_product(sums, a.view().transpose(), b.view(), Accum::Add)
}

/// [`product_of_slabs`] into existing memory. Fails where its length is not that of the result.
pub fn product_into(out: &mut [f32], a: Slab<'_>, b: Slab<'_>, right: Right) -> Result<()> {
    let b = match right {
        Right::AsIs => b.view(),
        Right::Transposed => b.view().transpose(),
    };
    write_product(out, a.view(), b, Accum::Replace)
}

/// `out = a · b`, or that added to it; fails where the inner dimensions differ or `out` has another length.
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
