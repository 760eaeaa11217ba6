//! One weight, rounded and corrected, alternating if asked to.
//!
//! ```text
//! L ← 0;  repeat:  Q ← quantise(W − L),  L ← the best rank-r approximation of W − Q
//! ```
//!
//! The best round is kept, that with the least error ‖W − Q − L‖ in the norm of the metric, since a round may be worse
//! than the one before. One round is `LoRC` (arXiv 2303.08302), more are as in CALDERA (arXiv
//! 2405.18886). Costs per round a quantisation and one symmetric eigendecomposition of the shorter side.

use compress_core::{Matrix, Quantised, Result};
use compress_numerics::linalg::product;
use compress_svd::Metric;
use rayon::prelude::*;

use crate::{Hessian, RoundingOptions, compensate, quantise, quantise::BAND};

/// A rounded weight, W ≈ quantised + up · down.
#[derive(Clone, Debug)]
pub struct Rounded {
    /// Q, m × n.
    pub quantised: Quantised,
    /// m × r, as it will be stored; none where the rank is 0.
    pub up: Option<Matrix>,
    /// r × n, as it will be stored; none where the rank is 0.
    pub down: Option<Matrix>,
    /// ‖W − Q − up · down‖² / ‖W‖² in the norm of the metric.
    pub error: f64,
}

/// Rounds a weight, m × n, and corrects the rounding error in the norm of a metric.
///
/// Fails where the options need a [`Hessian`] and there is none, its size is not n, the group size does not divide n,
/// or the rank exceeds min(m, n).
pub fn round(
    weight: &Matrix,
    hessian: Option<&Hessian>,
    metric: &Metric,
    options: &RoundingOptions,
) -> Result<Rounded> {
    let whole = metric.squared_norm(weight)?;
    // The first round has no correction to subtract yet.
    let mut best = once(weight, weight, hessian, metric, options)?;
    let mut last = best.clone();
    for _ in 0..options.alternations {
        let (Some(up), Some(down)) = (&last.up, &last.down) else {
            break;
        };
        let rest = difference(weight, &product(up, down)?);
        last = once(weight, &rest, hessian, metric, options)?;
        if last.error < best.error {
            best = last.clone();
        }
    }
    if whole > 0.0 {
        best.error /= whole;
    }
    Ok(best)
}

/// One round: quantises `rest`, and corrects by W − Q of the whole weight. The error is absolute.
fn once(
    weight: &Matrix,
    rest: &Matrix,
    hessian: Option<&Hessian>,
    metric: &Metric,
    options: &RoundingOptions,
) -> Result<Rounded> {
    let quantised = quantise(rest, hessian, options)?;
    if options.rank == 0 {
        // The plain distance needs no dense Q.
        let error = if metric.is_plain() {
            squared_distance(weight, &quantised)?
        } else {
            metric.squared_norm(&lost(weight, &quantised))?
        };
        let (up, down) = (None, None);
        return Ok(Rounded {
            quantised,
            up,
            down,
            error,
        });
    }
    let lost = lost(weight, &quantised);
    let (up, down) = compensate(&lost, metric, options.rank, options.keep)?;
    let left = difference(&lost, &product(&up, &down)?);
    Ok(Rounded {
        quantised,
        up: Some(up),
        down: Some(down),
        error: metric.squared_norm(&left)?,
    })
}

/// ‖W − Q‖², dequantising a band of rows at a time instead of all of Q.
fn squared_distance(weight: &Matrix, quantised: &Quantised) -> Result<f64> {
    let cols = weight.cols().max(1);
    let bands = weight.data().par_chunks(BAND * cols).enumerate();
    let distances = bands.map(|(index, numbers)| {
        let (first, rows) = (index * BAND, numbers.len() / cols);
        let band = Matrix::new(rows, cols, numbers.to_vec())?;
        Ok(band.squared_distance(&quantised.dense_rows(first..first + rows)))
    });
    Ok(distances.collect::<Result<Vec<f64>>>()?.iter().sum())
}

/// W − Q, dense.
pub(crate) fn lost(weight: &Matrix, quantised: &Quantised) -> Matrix {
    let mut lost = quantised.dense();
    let pairs = lost.data_mut().iter_mut().zip(weight.data());
    pairs.for_each(|(q, w)| *q = w - *q);
    lost
}

/// a − b, of one shape.
fn difference(a: &Matrix, b: &Matrix) -> Matrix {
    let mut a = a.clone();
    let pairs = a.data_mut().iter_mut().zip(b.data());
    pairs.for_each(|(x, y)| *x -= y);
    a
}
