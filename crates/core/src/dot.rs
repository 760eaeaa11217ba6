//! Sums of products: a matrix that lies row after row, times one vector.
//!
//! ```text
//! y = W x,  W: out × in
//! ```
//!
//! With one vector there is nothing to keep in the cache: W is read once, and that is what it costs.

#![expect(
    clippy::inline_always,
    reason = "vector instructions are allowed in the function that all of this is inlined into"
)]

use pulp::Arch;
use rayon::prelude::*;

use crate::threads;

/// Sums that run side by side: two or four vectors of them, so that none waits for the one before.
const LANES: usize = 32;

/// Numbers that are worth a thread, to wake which takes some 30 µs.
const EACH: usize = 1 << 17;

/// W x for the whole of W.
///
/// Within a pool of threads that share other work it uses its own thread only, else all cores. The
/// result does not depend on their number.
#[must_use]
pub fn product_of_rows(weight: &[f32], x: &[f32]) -> Vec<f32> {
    let inputs = x.len().max(1);
    let mut out = vec![0.0; weight.len() / inputs];
    let threads = threads(weight.len(), EACH);
    let band = out.len().div_ceil(threads).max(1);
    if threads == 1 {
        multiply_rows(weight, x, &mut out);
    } else {
        let bands = out
            .par_chunks_mut(band)
            .zip(weight.par_chunks(band * inputs));
        bands.for_each(|(out, weight)| multiply_rows(weight, x, out));
    }
    out
}

/// One product for each row, on this thread.
pub fn multiply_rows(rows: &[f32], x: &[f32], out: &mut [f32]) {
    Arch::new().dispatch(
        #[inline(always)]
        || {
            for (out, row) in out.iter_mut().zip(rows.chunks_exact(x.len().max(1))) {
                *out = dot(row, x);
            }
        },
    );
}

/// Σ a b
#[inline(always)]
pub(crate) fn dot(a: &[f32], b: &[f32]) -> f32 {
    let mut sums = [0.0; LANES];
    let (a, b) = (a.as_chunks::<LANES>(), b.as_chunks::<LANES>());
    for (a, b) in a.0.iter().zip(b.0) {
        for ((sum, a), b) in sums.iter_mut().zip(a).zip(b) {
            *sum += a * b;
        }
    }
    for ((sum, a), b) in sums.iter_mut().zip(a.1).zip(b.1) {
        *sum += a * b;
    }
    halve(sums, |a, b| a + b)
}

/// All numbers made one by an operation in whatever order.
#[inline(always)]
pub(crate) fn fold(numbers: &[f32], start: f32, join: impl Fn(f32, f32) -> f32) -> f32 {
    let mut sums = [start; LANES];
    for chunk in numbers.chunks(LANES) {
        let pairs = sums.iter_mut().zip(chunk);
        pairs.for_each(|(sum, x)| *sum = join(*sum, *x));
    }
    halve(sums, join)
}

/// The upper half to the lower, until one is left.
#[inline(always)]
fn halve(mut sums: [f32; LANES], join: impl Fn(f32, f32) -> f32) -> f32 {
    let mut half = LANES / 2;
    while half > 0 {
        let (low, high) = sums.split_at_mut(half);
        let pairs = low.iter_mut().zip(high);
        pairs.for_each(|(a, b)| *a = join(*a, *b));
        half /= 2;
    }
    sums[0]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Random;

    #[test]
    fn each_row_is_multiplied_and_summed() {
        let mut random = Random(1);
        for (rows, cols) in [(1, 1), (3, 31), (2, 32), (5, 33), (7, 576)] {
            let weight: Vec<f32> = (0..rows * cols).map(|_| random.normal()).collect();
            let x: Vec<f32> = (0..cols).map(|_| random.normal()).collect();
            let mut out = vec![7.0; rows];
            multiply_rows(&weight, &x, &mut out);
            for (row, found) in weight.chunks(cols).zip(out) {
                let products = row.iter().zip(&x);
                let exact: f64 = products.map(|(&a, &b)| f64::from(a) * f64::from(b)).sum();
                assert!((f64::from(found) - exact).abs() < 1e-5 * (cols as f64).sqrt());
            }
        }
    }
}
