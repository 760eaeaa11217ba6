//! Sums of outer products over tokens, a band of rows at a time.

use std::{mem, ops::Range};

use faer::{Accum, MatMut, MatRef, Par, linalg::matmul::matmul};

/// How many products are summed in `f32` before the sum goes on in `f64`.
const RUN: usize = 256;

/// Adds `Σ x xᵀ` over the rows x of a t × n matrix to some rows of a symmetric n × n matrix.
///
/// `band` holds those rows up to their diagonal elements, as [`Symmetric::bands_mut`](crate::Symmetric::bands_mut)
/// hands them out. Bands are what threads share a sum by: each element is summed in the same order,
/// whatever the bands.
pub fn add_outer_products(band: &mut [f64], rows: Range<usize>, n: usize, x: &[f32]) {
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

/// Adds `Σ x yᵀ` over the rows x of a t × m and y of a t × n matrix to some rows of an m × n matrix.
pub fn add_cross_products(band: &mut [f64], first: usize, x: (&[f32], usize), y: (&[f32], usize)) {
    let rows = first..first + band.len() / y.1;
    add_runs(rows, y.1, x, y, |run| add_to(band, run));
}

fn add_to(sums: &mut [f64], added: &[f32]) {
    let pairs = sums.iter_mut().zip(added);
    pairs.for_each(|(sum, x)| *sum += f64::from(*x));
}

/// Hands out the sums of x yᵀ over one run of rows after the other: of some columns of x and the first
/// `width` columns of y. x and y with their widths.
fn add_runs(
    columns: Range<usize>,
    width: usize,
    x: (&[f32], usize),
    y: (&[f32], usize),
    mut add: impl FnMut(&[f32]),
) {
    let count = columns.len();
    let mut run = vec![0.0_f32; count * width];
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
