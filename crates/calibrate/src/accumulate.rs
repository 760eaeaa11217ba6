//! Sums of outer products over windows, the same bits for any number of threads.
//!
//! ```text
//! Σ x xᵀ    n × n, its lower triangle      Σ x yᵀ    m × n
//! ```
//!
//! Threads share the rows of a sum, not its windows: each element is summed by one thread, in the order of the
//! windows. Costs t · n² operations per window of t tokens.

use std::cmp::Reverse;

use compress_core::{Matrix, Symmetric};
use compress_numerics::linalg::{add_cross_products, add_outer_products, product_of_transposed};
use rayon::prelude::*;

/// Rows of a sum that one thread works on at a time.
const BAND: usize = 192;

/// Adds Σ x xᵀ of some windows to each of several sums; `windows[i]`, each t × n row-major, go to `sums[i]`.
pub fn add_grams(sums: &mut [Symmetric], windows: &[Vec<&[f32]>]) {
    let mut bands = Vec::new();
    for (sum, windows) in sums.iter_mut().zip(windows) {
        let n = sum.size();
        let rows = sum.bands_mut(BAND);
        bands.extend(rows.map(|(rows, band)| (rows, n, band, windows)));
    }
    // Of a lower triangle the last bands are the longest: they go first, so that no thread waits for one at the end.
    bands.sort_by_key(|(rows, ..)| Reverse(rows.end * rows.len()));
    // One band at a time: rayon would hand out runs of neighbours, which cost alike.
    let bands = bands.into_par_iter().with_max_len(1);
    bands.for_each(|(rows, n, band, windows)| {
        for x in windows {
            add_outer_products(band, rows.clone(), n, x);
        }
    });
}

/// Adds Σ x yᵀ of some windows to a sum, m × n row-major; each side is its windows and their width, m and n.
pub fn add_crosses(sum: &mut [f64], x: (&[&[f32]], usize), y: (&[&[f32]], usize)) {
    let bands = sum.par_chunks_mut(BAND * y.1).enumerate().with_max_len(1);
    bands.for_each(|(i, band)| {
        for (left, right) in x.0.iter().zip(y.0) {
            add_cross_products(band, i * BAND, (left, x.1), (right, y.1));
        }
    });
}

/// Multiplies each row of a window, t × n, by the root of its weight, so that x xᵀ is counted with the weight itself.
/// Weights are not negative.
pub fn weight(x: &mut [f32], weights: &[f32]) {
    let width = x.len() / weights.len().max(1);
    for (row, weight) in x.chunks_exact_mut(width.max(1)).zip(weights) {
        let root = weight.sqrt();
        row.iter_mut().for_each(|x| *x *= root);
    }
}

/// The squared gradient of one sample by a weight, summed over outputs: `Σ_i (Σ_t g_ti x_tj)²` for each input j.
///
/// Takes the layer input x, t × in, and the gradient by the output g, t × out; forms the gradient by the weight, out
/// × in, once per window. Fails where t differs.
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

/// Adds |x| of each row, for the mean absolute activation of each channel.
pub fn add_absolute(sums: &mut [f64], x: &[f32]) {
    for row in x.chunks_exact(sums.len().max(1)) {
        sums.iter_mut()
            .zip(row)
            .for_each(|(sum, x)| *sum += f64::from(x.abs()));
    }
}
