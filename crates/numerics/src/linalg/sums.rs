//! Sums of outer products over tokens, Σ x xᵀ and Σ x yᵀ, a band of rows of the result at a time.
//!
//! ```text
//! H[band] += X[:, band]ᵀ X      X: t × n, H: n × n, lower triangle
//! ```
//!
//! Cost: t·n² floating-point operations for all bands of H. Products are `f32` matrix products over runs of tokens;
//! the sums of runs go on in `f64`.

use std::{mem, ops::Range};

use faer::{Accum, MatMut, MatRef, Par, linalg::matmul::matmul};

/// Tokens whose products are summed in `f32` before the sum goes on in `f64`: few enough that rounding stays at that of
/// the products themselves, and enough for a fast matrix product.
const RUN: usize = 256;

/// Adds `Σ x xᵀ` over the rows x of a t × n matrix to the given rows of a symmetric n × n matrix.
///
/// `band` holds those rows up to their diagonal elements, as [`Symmetric::bands_mut`](crate::Symmetric::bands_mut)
/// hands them out. Bands are independent, so threads can share a sum by them; each element is summed in the same
/// order whatever the bands.
pub fn add_outer_products(band: &mut [f64], rows: Range<usize>, n: usize, x: &[f32]) {
    // Columns beyond the last row of the band lie above its diagonal, and are not computed.
    let width = rows.end;
    add_runs(rows.clone(), width, (x, n), (x, n), |run| {
        let mut rest = &mut *band;
        for (length, added) in (rows.start + 1..).zip(run.chunks_exact(width)) {
            let (sums, after) = mem::take(&mut rest).split_at_mut(length);
            add_to(sums, added);
            rest = after;
        }
    });
}

/// Adds `Σ x yᵀ` over the rows x of a t × m and y of a t × n matrix to the rows of an m × n matrix from `first` on, as
/// many as `band` holds. x and y come with their widths m and n.
pub fn add_cross_products(band: &mut [f64], first: usize, x: (&[f32], usize), y: (&[f32], usize)) {
    let rows = first..first + band.len() / y.1;
    add_runs(rows, y.1, x, y, |run| add_to(band, run));
}

/// Adds a run's `f32` sums to the `f64` ones.
fn add_to(sums: &mut [f64], added: &[f32]) {
    let pairs = sums.iter_mut().zip(added);
    pairs.for_each(|(sum, x)| *sum += f64::from(*x));
}

/// Passes to `add`, for each run of tokens, the `f32` sum of x yᵀ over that run: of the given columns of x and the
/// first `width` columns of y, `columns.len()` × width. x and y come with their widths.
fn add_runs(
    columns: Range<usize>,
    width: usize,
    x: (&[f32], usize),
    y: (&[f32], usize),
    mut add: impl FnMut(&[f32]),
) {
    let count = columns.len();
    let mut run = vec![0.0_f32; count * width];
    // Runs begin at multiples of RUN whatever the band, so that every element is rounded at the same places.
    for (x_run, y_run) in x.0.chunks(RUN * x.1).zip(y.0.chunks(RUN * y.1)) {
        let left = MatRef::from_row_major_slice(x_run, x_run.len() / x.1, x.1);
        let right = MatRef::from_row_major_slice(y_run, y_run.len() / y.1, y.1);
        let target = MatMut::from_row_major_slice_mut(&mut run, count, width);
        let (left, right) = (
            left.subcols(columns.start, count).transpose(),
            right.subcols(0, width),
        );
        matmul(target, Accum::Replace, left, right, 1.0, Par::Seq);
        add(&run);
    }
}
