//! A weight in codes: a first rounding, then refinement, bands of rows side by side.

use compress_core::{Error, Matrix, Quantised, Result, Shape};
use compress_numerics::linalg::Single;
use rayon::prelude::*;

use crate::{
    Hessian, Quantizer, RoundingOptions,
    block::{Parts, QuantisedBlock},
    gptq::gptq,
    refine::refine,
    rtn::nearest,
};

/// Rows that are rounded together, by one thread. However many of those there are, the bytes are the same.
pub(crate) const BAND: usize = 256;

/// Quantises a weight, out × in, by the Hessian of what enters it. Only rounding to nearest without
/// refinement does without; all weights then matter alike where scales are searched.
pub fn quantise(
    weight: &Matrix,
    hessian: Option<&Hessian>,
    options: &RoundingOptions,
) -> Result<Quantised> {
    let (shape, scheme) = (weight.shape(), options.scheme);
    scheme.check(shape)?;
    check(shape, hessian, options)?;
    let bands = weight.data().par_chunks(BAND * shape.cols.max(1));
    let written = |numbers: &[f32]| {
        let band = Single::new(numbers.len() / shape.cols, shape.cols, numbers)?;
        Ok(rounded(band, hessian, options).written(scheme))
    };
    let bands = bands.with_max_len(1).map(written).collect::<Result<_>>()?;
    Parts::joined(bands).assemble(shape, scheme)
}

/// Some rows of a weight in integers.
fn rounded(band: Single, hessian: Option<&Hessian>, options: &RoundingOptions) -> QuantisedBlock {
    let (scheme, scaling) = (options.scheme, options.scaling);
    let Some(hessian) = hessian else {
        return nearest(&band, &vec![1.0; band.cols()], scheme, scaling);
    };
    let mut block = match options.quantizer {
        Quantizer::Gptq => gptq(&band, hessian, scheme, scaling),
        Quantizer::Nearest => nearest(&band, &hessian.importance, scheme, scaling),
    };
    refine(&mut block, band, hessian, scheme, options.refinements);
    block
}

/// Whether there is a Hessian where one is needed, and of the weight's size.
fn check(shape: Shape, hessian: Option<&Hessian>, options: &RoundingOptions) -> Result<()> {
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
    Err(compress_numerics::Error::Product { left, right }.into())
}
