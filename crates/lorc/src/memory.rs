//! Predicted peak memory of rounding: the bytes of whole matrices, which are all that count where they are
//! large.
//!
//! H is unfolded, factorised and copied once per layer input; weights that share it are then rounded side by side.
//! Rounding to nearest without a Hessian has none of the terms in n².
//!
//! ```text
//! 4 n² + 8 n²    H while it is unfolded to be factorised in f64
//! 8 n² + 4 n²    that while it is copied to f32, which is what stays
//! 4 m n          a weight; with a correction once more what is lost of it, and what its cut needs
//! 1 m n          codes, in bands of rows and then as one
//! 8 · 256 n      on each thread a band of rows: its weights and integers; 20 · 256 n under GPTQ or refinement,
//!                for what is pending, what was moved, and a part of H
//! ```

use compress_core::{Result, Shape, Site};
use compress_svd::{Norm, memory_of_cut, memory_of_metric, memory_together};

use crate::{Quantizer, Round, hessian::NEAR, method::by_input, quantise::BAND};

/// Matrices of a band's size that a thread holds at a time: weights and integers; and where errors are made good what is
/// pending, what was moved, and a part of H.
const BANDS: [usize; 2] = [2, 5];

/// The peak bytes of rounding the weights of one layer input on so many threads.
pub(crate) fn memory(
    steps: &[Round],
    shape: &dyn Fn(Site) -> Result<Shape>,
    threads: usize,
) -> Result<usize> {
    let inputs = by_input(steps).into_iter().map(|places| {
        let readers = places.into_iter().map(|place| {
            let step = &steps[place];
            Ok((step, shape(step.site)?))
        });
        let readers = readers.collect::<Result<Vec<_>>>()?;
        Ok(of_input(&readers, threads))
    });
    let inputs = inputs.collect::<Result<Vec<usize>>>()?;
    Ok(inputs.into_iter().max().unwrap_or(0))
}

/// For the weights that share an H: the larger of the peaks of its factorisation and of the rounding after it.
fn of_input(readers: &[(&Round, Shape)], threads: usize) -> usize {
    let n = readers.first().map_or(0, |(_, shape)| shape.cols);
    let corrected = |step: &Round, shape: &Shape| {
        step.metric == Norm::Activation && step.options.rank > 0 && shape.rows > shape.cols
    };
    let rooted = readers.iter().any(|(step, shape)| corrected(step, shape));
    let by_metric = |(step, _): &(&Round, Shape)| step.metric == Norm::Activation;
    let metric = if readers.iter().any(by_metric) {
        memory_of_metric(n, rooted)
    } else {
        0
    };
    // The band of feedback that is kept in `f64`.
    let near = size_of::<f64>() * NEAR * n;
    let (factorised, kept) = if readers.iter().any(|(step, _)| step.options.needs_hessian()) {
        let wide = size_of::<f64>() * n * n;
        (wide + wide / 2 + 2 * near, wide / 2 + near)
    } else {
        (0, 0)
    };
    let weights = |part: fn(&Round, Shape, usize) -> usize| {
        let each = readers.iter();
        let each = each.map(|(step, shape)| of_weight(step, *shape) + part(step, *shape, threads));
        memory_together(each, threads)
    };
    let made_good = |(step, _): &(&Round, Shape)| {
        step.options.quantizer == Quantizer::Gptq || step.options.refinements > 0
    };
    let bands = BANDS[usize::from(readers.iter().any(made_good))];
    let bands = threads * bands * BAND * n * size_of::<f32>();
    // A weight is rounded before what that lost is cut.
    let rounding = kept + (weights(codes) + bands).max(weights(lost));
    // The factorisation is over, and most of its memory free, when rounding begins.
    metric + factorised.max(rounding)
}

/// For one weight all the time, without what is shared.
fn of_weight(step: &Round, shape: Shape) -> usize {
    let weight = size_of::<f32>() * shape.size();
    let quantised =
        (step.options.scheme.bits_per_weight(shape) * shape.size() as f64 / 8.0) as usize;
    // A metric that its inputs do not share is made for each weight by itself.
    let own = if step.metric == Norm::Kronecker && step.options.rank > 0 {
        memory_of_metric(shape.cols, shape.rows > shape.cols)
    } else {
        0
    };
    // The weight less its correction, in every round but the first.
    let rest = if step.options.alternations > 0 {
        weight
    } else {
        0
    };
    weight + rest + own + quantised
}

/// While it is rounded: a byte per code. Each band goes as soon as it is joined to those before it.
fn codes(_: &Round, shape: Shape, _: usize) -> usize {
    size_of::<i8>() * shape.size()
}

/// What rounding lost of it, and the cut of that.
fn lost(step: &Round, shape: Shape, threads: usize) -> usize {
    match (step.options.rank, step.metric) {
        (0, Norm::Plain) => 0,
        (0, _) => size_of::<f32>() * shape.size(),
        (rank, metric) => memory_of_cut(shape, rank, metric, threads),
    }
}
