//! Sums of outer products over windows, shared between cores so that no element's order changes.

use std::cmp::Reverse;

use compress_core::{Matrix, Symmetric};
use compress_numerics::linalg::{add_cross_products, add_outer_products, product_of_transposed};
use rayon::prelude::*;

/// Rows of a sum that one core works on at a time.
const BAND: usize = 192;

/// Adds Σ x xᵀ of some windows to each sum; every window is t × n, row after row.
pub fn add_grams(sums: &mut [Symmetric], windows: &[Vec<&[f32]>]) {
    let mut bands = Vec::new();
    for (sum, windows) in sums.iter_mut().zip(windows) {
        let n = sum.size();
        let rows = sum.bands_mut(BAND);
        bands.extend(rows.map(|(rows, band)| (rows, n, band, windows)));
    }
    // The longest first, so that no core waits for one at the end.
    bands.sort_by_key(|(rows, ..)| Reverse(rows.end * rows.len()));
    let bands = bands.into_par_iter().with_max_len(1);
    bands.for_each(|(rows, n, band, windows)| {
        for x in windows {
            add_outer_products(band, rows.clone(), n, x);
        }
    });
}

/// Adds Σ x yᵀ of some windows to a sum of m × n; windows with their widths m and n.
pub fn add_crosses(sum: &mut [f64], x: (&[&[f32]], usize), y: (&[&[f32]], usize)) {
    let bands = sum.par_chunks_mut(BAND * y.1).enumerate().with_max_len(1);
    bands.for_each(|(i, band)| {
        for (left, right) in x.0.iter().zip(y.0) {
            add_cross_products(band, i * BAND, (left, x.1), (right, y.1));
        }
    });
}

/// Multiplies each row of a window, t × n, by the root of its weight.
pub fn weight(x: &mut [f32], weights: &[f32]) {
    let width = x.len() / weights.len().max(1);
    for (row, weight) in x.chunks_exact_mut(width.max(1)).zip(weights) {
        let root = weight.sqrt();
        row.iter_mut().for_each(|x| *x *= root);
    }
}

/// `Σ_i (Σ_t g_ti x_tj)²` for each input j: the squared gradient of one sample, summed over outputs.
///
/// Takes x: t × in and g: t × out.
pub fn squared_gradient(x: &Matrix, g: &Matrix) -> compress_core::Result<Vec<f64>> {
    let gradient = product_of_transposed(g, x)?; // out × in
    let mut sums = vec![0.0; x.cols()];
    for row in gradient.data().chunks_exact(x.cols()) {
        sums.iter_mut()
            .zip(row)
            .for_each(|(sum, &d)| *sum += f64::from(d) * f64::from(d));
    }
    Ok(sums)
}
