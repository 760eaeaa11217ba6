//! Products of matrices on all cores, one tile of the result at a time.
//!
//! The result is halved along its longer side until a tile is small; halves are joined by rayon. Tiles depend
//! on the shape alone, and each is computed by one thread over the whole inner dimension: so the bytes are the same
//! for any number of threads, which faer's own parallelism does not promise.

use faer::{
    Accum, MatMut, MatRef, Par,
    linalg::matmul::{
        matmul,
        triangular::{BlockStructure, matmul as matmul_structured},
    },
};

use super::{Real, fit};
use crate::{Matrix, Result};

/// Most rows and columns of a tile. Each tile reads its rows of a and columns of b anew; with smaller ones that would
/// show.
const TILE: usize = 512;

/// A tile of more rows or columns than this is halved while it takes more than `WORK` multiplications, so that a small
/// product with a long inner dimension, as with the first factor of a low-rank pair, keeps more than one thread busy.
const SMALL: usize = 128;
const WORK: usize = 1 << 23;

/// Columns of the left matrix that faer packs at a time, all of its rows; each thread keeps the memory for the next
/// product. For predictions of memory: with tiles it is little, with products that one thread does alone it shows.
pub const PACKED: usize = 512;

/// Tiles end at multiples of this: whole vectors, and whole cache lines of the result, which two threads would
/// otherwise both write to.
const STEP: usize = 64;

/// `a · b`, m×k by k×n; fails where the k differ.
pub fn product(a: &Matrix, b: &Matrix) -> Result<Matrix> {
    multiply(view(a), view(b))
}

/// `aᵀ · b`, k×m by k×n; fails where the k differ.
pub fn product_of_transposed(a: &Matrix, b: &Matrix) -> Result<Matrix> {
    multiply(view(a).transpose(), view(b))
}

/// `a · b` into new memory.
fn multiply(a: MatRef<'_, f32>, b: MatRef<'_, f32>) -> Result<Matrix> {
    fit(a, b)?;
    let mut out = Matrix::zeros(a.nrows(), b.ncols());
    let (rows, cols) = (out.rows(), out.cols());
    let target = MatMut::from_row_major_slice_mut(out.data_mut(), rows, cols);
    multiply_tiles(target, Accum::Replace, a, b, 1.0);
    Ok(out)
}

/// `target = scale · a · b`, or that added to it; shapes must fit.
pub(super) fn multiply_tiles<T: Real>(
    target: MatMut<'_, T>,
    how: Accum,
    a: MatRef<'_, T>,
    b: MatRef<'_, T>,
    scale: T,
) {
    let (rows, cols) = target.shape();
    let longer = rows.max(cols);
    let much = longer > SMALL && rows * cols * a.ncols() > WORK;
    if longer <= TILE && !much {
        return matmul(target, how, a, b, scale, Par::Seq);
    }
    // Along the longer side, so that tiles are nearly square and read least.
    if rows >= cols {
        let middle = half(rows);
        let (upper, lower) = target.split_at_row_mut(middle);
        let (above, below) = a.split_at_row(middle);
        rayon::join(
            || multiply_tiles(upper, how, above, b, scale),
            || multiply_tiles(lower, how, below, b, scale),
        );
    } else {
        let middle = half(cols);
        let (left, right) = target.split_at_col_mut(middle);
        let (before, after) = b.split_at_col(middle);
        rayon::join(
            || multiply_tiles(left, how, a, before, scale),
            || multiply_tiles(right, how, a, after, scale),
        );
    }
}

/// The lower triangle of `a · bᵀ`, both n×k, where that product is symmetric; or that added to it. Half of the work
/// of the whole product; what is above the diagonal is not written.
pub(super) fn multiply_lower_tiles<T: Real>(
    target: MatMut<'_, T>,
    how: Accum,
    a: MatRef<'_, T>,
    b: MatRef<'_, T>,
) {
    let (n, one) = (target.nrows(), T::from_f32(1.0));
    if n <= TILE {
        return matmul_structured(
            target,
            BlockStructure::TriangularLower,
            how,
            a,
            BlockStructure::Rectangular,
            b.transpose(),
            BlockStructure::Rectangular,
            one,
            Par::Seq,
        );
    }
    // The quadrant below the diagonal is a whole product; the two on the diagonal are triangles again.
    let middle = half(n);
    let (upper, _, below, lower) = target.split_at_mut(middle, middle);
    let ((a, a_below), (b, b_below)) = (a.split_at_row(middle), b.split_at_row(middle));
    rayon::join(
        || multiply_tiles(below, how, a_below, b.transpose(), one),
        || {
            rayon::join(
                || multiply_lower_tiles(upper, how, a, b),
                || multiply_lower_tiles(lower, how, a_below, b_below),
            )
        },
    );
}

/// A middle that whole vectors and cache lines end at.
fn half(length: usize) -> usize {
    (length / 2).next_multiple_of(STEP)
}

/// A faer view of a row-major matrix; nothing is copied.
pub(super) fn view(m: &Matrix) -> MatRef<'_, f32> {
    MatRef::from_row_major_slice(m.data(), m.rows(), m.cols())
}
