//! Quantisation of one weight: a first rounding, then refinement, bands of rows in parallel.
//!
//! Rows of W do not interact under tr(R H Rᵀ), so bands of them are independent; all share one [`Hessian`]. A band is
//! column-major `f32` while it is rounded, and a byte per code when it is finished, so that a whole weight in the first
//! form never exists.

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

/// Rows of a band, rounded by one thread. Bands do not depend on the number of threads, and so neither do the bytes.
pub(crate) const BAND: usize = 256;

/// Quantises a weight, out × in, under the Hessian of its layer input.
///
/// Without one, rounding to nearest works, and searched scales count all inputs alike. Fails where GPTQ or refinement
/// has no Hessian, its size is not that of the inputs, or the group size does not divide them.
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
    // Each band is a task of its own: rayon must not join several to one.
    let bands = bands.with_max_len(1).map(written).collect::<Result<_>>()?;
    Parts::joined(bands).assemble(shape, scheme)
}

/// A band of rows, rounded and refined.
fn rounded(band: Single, hessian: Option<&Hessian>, options: &RoundingOptions) -> QuantisedBlock {
    let (scheme, scaling) = (options.scheme, options.scaling);
    let Some(hessian) = hessian else {
        // Without data all inputs count alike.
        return nearest(&band, &vec![1.0; band.cols()], scheme, scaling);
    };
    let mut block = match options.quantizer {
        Quantizer::Gptq => gptq(&band, hessian, scheme, scaling),
        Quantizer::Nearest => nearest(&band, &hessian.importance, scheme, scaling),
    };
    refine(&mut block, band, hessian, scheme, options.refinements);
    block
}

/// Fails where a Hessian is needed and missing, or has another size than the weight's inputs.
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
