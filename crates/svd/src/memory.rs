//! Predicted peak memory of cuts: the bytes of whole matrices, which are all that count where they are large.
//!
//! ```text
//! s, l     the shorter and the longer side of a weight
//! 4 s l    the weight
//! 8 s l    M; M H where that is another; and W while M is made of it by a root
//! 32 s²    the eigendecomposition of a Gram matrix in f64; half of that for the plain norm, which needs f32 only
//!          unless what is cut away is below a thousandth of the weight
//! 4 n²     a metric H, for all weights of a layer input; 8 n² its root
//! ```

use compress_core::{Result, Shape, Site, Truncate};
use compress_numerics::linalg::EIGEN_SQUARES;

use crate::Norm;

/// The peak bytes of cutting the weights of one layer input in a norm, on so many threads. Fails where `shape` does.
pub fn memory(
    steps: &[Truncate],
    norm: Norm,
    shape: &dyn Fn(Site) -> Result<Shape>,
    threads: usize,
) -> Result<usize> {
    let shapes = steps.iter().map(|step| shape(step.site));
    let shapes = shapes.collect::<Result<Vec<Shape>>>()?;
    let cuts = shapes.iter().map(|&shape| memory_of_cut(shape, norm));
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

/// The bytes of a weight and of its cut at the peak, without the metric of its inputs.
#[must_use]
pub fn memory_of_cut(shape: Shape, norm: Norm) -> usize {
    let (short, size) = (shape.full_rank(), shape.size());
    let (weight, wide) = (size_of::<f32>() * size, size_of::<f64>() * size);
    if norm == Norm::Plain {
        return weight + EIGEN_SQUARES * size_of::<f32>() * short * short;
    }
    let square = size_of::<f64>() * short * short;
    let eigen = EIGEN_SQUARES * square;
    let by_outputs = norm == Norm::Kronecker;
    let on_its_side = shape.rows > shape.cols;
    // M H is another matrix than M where the longer side has a metric; a root is applied, making M another matrix than
    // W, where the shorter side has one.
    let (weighted, rooted) = if on_its_side {
        (by_outputs, norm.shares_inputs())
    } else {
        (true, by_outputs)
    };
    let held = if weighted { 2 * wide } else { wide };
    // The root of the inputs' metric is shared, and counted with that; the root of G is the weight's own.
    let root = if on_its_side { 0 } else { square };
    let rooting = if rooted { 2 * wide + root } else { wide };
    let outputs = if by_outputs {
        memory_of_metric(shape.rows, false)
    } else {
        0
    };
    weight + outputs + rooting.max(held + eigen)
}
