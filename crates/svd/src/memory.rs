//! Predicted peak memory of cuts: the bytes of whole matrices, which are all that count where they are large.
//!
//! ```text
//! s, l     the shorter and the longer side of a weight
//! r        the rank
//! 4 s l    the weight
//! 8 s l    M, and W while M is made of it by a root; during the eigendecomposition only where there is a root
//! 32 s²    the eigendecomposition of a Gram matrix in f64; half of that for the plain norm, which needs f32 only
//!          unless what is cut away is below a thousandth of the weight
//! 8 s p    a part of M H, of p columns, while M H Mᵀ is summed; and H unfolded, 256 columns on each thread;
//!          512 columns of M stay packed on each
//! 8 r (s + l)   the pair in f64; twice that where it is transposed
//! 4 n²     a metric H, for all weights of a layer input; 8 n² its root
//! ```

use compress_core::{Result, Shape, Site, Truncate};
use compress_numerics::linalg::{EIGEN_SQUARES, PACKED, UNFOLDED};

use crate::{Norm, metric::PART};

/// The peak bytes of cutting the weights of one layer input in a norm, on so many threads. Fails where `shape` does.
pub fn memory(
    steps: &[Truncate],
    norm: Norm,
    shape: &dyn Fn(Site) -> Result<Shape>,
    threads: usize,
) -> Result<usize> {
    let shapes = steps.iter().map(|step| shape(step.site));
    let shapes = shapes.collect::<Result<Vec<Shape>>>()?;
    let cuts = shapes.iter().zip(steps);
    let cuts = cuts.map(|(&shape, step)| memory_of_cut(shape, step.rank, norm, threads));
    let cuts = memory_together(cuts, threads);
    let inputs = shapes.first().map_or(0, |shape| shape.cols);
    let on_their_side = shapes.iter().any(|shape| shape.rows > shape.cols);
    let shared = if norm.shares_inputs() {
        memory_of_metric(inputs, on_their_side)
    } else {
        0
    };
    Ok(shared + cuts)
}

/// The peak of pieces of work that run side by side where there is more than one thread, else one after the other.
/// With few threads and many pieces that is an upper bound.
pub fn memory_together(each: impl Iterator<Item = usize>, threads: usize) -> usize {
    if threads > 1 {
        each.sum()
    } else {
        each.max().unwrap_or(0)
    }
}

/// The bytes of an n × n metric, lower triangle, and of its root where `rooted`.
#[must_use]
pub const fn memory_of_metric(n: usize, rooted: bool) -> usize {
    let triangle = size_of::<f64>() * n * (n + 1) / 2;
    triangle + if rooted { size_of::<f64>() * n * n } else { 0 }
}

/// The bytes of a weight and of its cut to a rank at the peak, on so many threads, without the metric of its inputs.
#[must_use]
pub fn memory_of_cut(shape: Shape, rank: usize, norm: Norm, threads: usize) -> usize {
    let (short, size) = (shape.full_rank(), shape.size());
    let long = shape.rows.max(shape.cols);
    let weight = size_of::<f32>() * size;
    if norm == Norm::Plain {
        return weight + EIGEN_SQUARES * size_of::<f32>() * short * short;
    }
    let double = |numbers: usize| size_of::<f64>() * numbers;
    let wide = double(size);
    let on_its_side = shape.rows > shape.cols;
    let (by_outputs, by_fisher) = (norm == Norm::Kronecker, norm == Norm::InputFisher);
    // The metric of the shorter side is applied as a root, which makes M another matrix than W.
    let (root_is_full, part_is_full) = if on_its_side {
        (norm.shares_inputs(), by_outputs)
    } else {
        (by_outputs, norm.shares_inputs())
    };
    let rooted = root_is_full || (on_its_side && by_fisher);
    // A root of the shared metric is counted with that; the root of G is the weight's own.
    let root = if root_is_full && !on_its_side {
        double(short * short)
    } else {
        0
    };
    let rooting = if root_is_full { 2 * wide + root } else { wide };
    let held = if rooted { wide } else { 0 };
    // Of M H there is a part at a time, and of H what threads unfold, unless it is diagonal.
    let unfolded = double(threads * UNFOLDED * long);
    let weighted = match (part_is_full, by_fisher && !on_its_side) {
        (true, _) => double(short * PART.min(long)) + unfolded,
        (_, true) => wide,
        _ => 0,
    };
    let gram = wide + weighted + double(short * short);
    let eigen = held + EIGEN_SQUARES * double(short * short);
    let pair = double(rank * (short + long));
    let weighted = if by_outputs { double(rank * long) } else { 0 }; // B H
    let transposed = if on_its_side { pair } else { 0 };
    let factors = (wide + pair + weighted).max(pair + transposed + pair / 2);
    let outputs = if by_outputs {
        memory_of_metric(shape.rows, false)
    } else {
        0
    };
    let packed = if part_is_full {
        double(threads * PACKED * short)
    } else {
        0
    };
    weight + outputs + packed + rooting.max(gram).max(eigen).max(factors)
}
