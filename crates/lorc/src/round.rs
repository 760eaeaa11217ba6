//! One weight, rounded and compensated.
//!
//! ```text
//! L ← 0;  repeat:  Q ← quantise(W − L),  L ← the best rank-r term for W − Q
//! ```
//!
//! What is kept is the round with the least error ‖W − Q − L‖ in the norm of the metric.

use compress_core::{Error, Matrix, Quantised, Result, Scheme, linalg::product};
use compress_svd::Metric;
use serde::{Deserialize, Serialize};

use crate::{Hessian, Keep, Quantizer, Scaling, compensate, quantise};

/// How a weight is rounded and compensated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Options {
    /// Bits, groups, symmetry.
    pub scheme: Scheme,
    /// How weights get their codes.
    pub quantizer: Quantizer,
    /// How groups get their scales.
    pub scaling: Scaling,
    /// How often scales and codes are fitted to the Hessian afterwards.
    pub refinements: usize,
    /// Rank of the correction; 0 for none.
    pub rank: usize,
    /// How the correction's factors are kept.
    pub keep: Keep,
    /// How often the weight less its correction is quantised again.
    pub alternations: usize,
}

impl Options {
    /// Round to nearest, nothing else.
    #[must_use]
    pub fn nearest(scheme: Scheme) -> Self {
        Self {
            scheme,
            quantizer: Quantizer::Nearest,
            scaling: Scaling::Covering,
            refinements: 0,
            rank: 0,
            keep: Keep::Half,
            alternations: 0,
        }
    }
}

/// W ≈ quantised + up · down.
#[derive(Clone, Debug)]
pub struct Rounded {
    /// Q
    pub quantised: Quantised,
    /// m × r
    pub up: Option<Matrix>,
    /// r × n
    pub down: Option<Matrix>,
    /// ‖W − Q − up · down‖² / ‖W‖² in the norm of the metric.
    pub error: f64,
}

/// Rounds a weight and makes good what that loses, in the norm of a metric.
pub fn round(
    weight: &Matrix,
    hessian: Option<&Hessian>,
    metric: &Metric,
    options: &Options,
) -> Result<Rounded> {
    if let Some(found) = hessian.map(Hessian::size).filter(|&n| n != weight.cols()) {
        let (left, right) = (weight.shape(), compress_core::Shape::new(found, found));
        return Err(Error::Product { left, right });
    }
    let whole = metric.squared_norm(weight)?;
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

/// Quantises `rest`, compensates what is then missing of `weight`; the error is not yet relative.
fn once(
    weight: &Matrix,
    rest: &Matrix,
    hessian: Option<&Hessian>,
    metric: &Metric,
    options: &Options,
) -> Result<Rounded> {
    let how = (options.quantizer, options.scaling, options.refinements);
    let quantised = quantise(rest, hessian, options.scheme, how)?;
    let lost = difference(weight, &quantised.dense());
    if options.rank == 0 {
        return Ok(Rounded {
            quantised,
            up: None,
            down: None,
            error: metric.squared_norm(&lost)?,
        });
    }
    let (up, down) = compensate(&lost, metric, options.rank, options.keep)?;
    let left = difference(&lost, &product(&up, &down)?);
    Ok(Rounded {
        quantised,
        up: Some(up),
        down: Some(down),
        error: metric.squared_norm(&left)?,
    })
}

fn difference(a: &Matrix, b: &Matrix) -> Matrix {
    let mut a = a.clone();
    let pairs = a.data_mut().iter_mut().zip(b.data());
    pairs.for_each(|(x, y)| *x -= y);
    a
}
