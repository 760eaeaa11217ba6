//! A weight in codes: a first rounding, then refinement, band after band of rows.

use std::ops::Range;

use compress_core::{Error, Matrix, Quantised, Result, Shape, linalg::Double};

use crate::{Hessian, Options, Quantizer, coded::Parts, gptq::gptq, refine::refine, rtn::nearest};

/// Rows that are rounded together: what they need besides H fits the cache.
const BAND: usize = 256;

/// Quantises a weight, out × in, by the Hessian of what enters it. Only rounding to nearest without
/// refinement does without; all weights then matter alike where scales are searched.
pub fn quantise(
    weight: &Matrix,
    hessian: Option<&Hessian>,
    options: &Options,
) -> Result<Quantised> {
    let (shape, scheme) = (weight.shape(), options.scheme);
    scheme.check(shape)?;
    check(shape, hessian, options)?;
    let even = vec![1.0; shape.cols];
    let importance = hessian.map_or(&even, |hessian| &hessian.importance);
    let mut parts = Parts::default();
    for start in (0..shape.rows).step_by(BAND) {
        let band = band(weight, start..shape.rows.min(start + BAND))?;
        let mut coded = match (options.quantizer, hessian) {
            (Quantizer::Gptq, Some(hessian)) => gptq(&band, hessian, scheme, options.scaling),
            _ => nearest(&band, importance, scheme, options.scaling),
        };
        if let Some(hessian) = hessian {
            refine(&mut coded, &band, hessian, scheme, options.refinements)?;
        }
        coded.write(scheme, &mut parts);
    }
    parts.assemble(shape, scheme)
}

/// Whether there is a Hessian where one is needed, and of the weight's size.
fn check(shape: Shape, hessian: Option<&Hessian>, options: &Options) -> Result<()> {
    let size = match hessian {
        Some(hessian) => hessian.size(),
        None if options.quantizer == Quantizer::Gptq => {
            return Err(Error::Unmeasured { what: "GPTQ" });
        }
        None if options.refinements > 0 => {
            return Err(Error::Unmeasured { what: "refinement" });
        }
        None => shape.cols,
    };
    if size == shape.cols {
        return Ok(());
    }
    let (left, right) = (shape, Shape::new(size, size));
    Err(Error::Product { left, right })
}

/// Some rows of a weight.
fn band(weight: &Matrix, rows: Range<usize>) -> Result<Double> {
    let cols = weight.cols();
    let numbers = weight.data().get(rows.start * cols..rows.end * cols);
    let numbers = numbers.unwrap_or_default().iter().copied();
    let numbers: Vec<f64> = numbers.map(f64::from).collect();
    Double::new(rows.len(), cols, &numbers)
}
