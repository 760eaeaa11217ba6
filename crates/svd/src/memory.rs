//! Predicted peak memory of cuts: the bytes of whole matrices, which are all that count where they are large.
//!
//! ```text
//! s, l     the shorter and the longer side of a weight
//! r        the rank
//! 4 s l    the weight
//! 8 s l    M, and W while M is made of it by a root; during the eigendecomposition only where there is a root
//! 32 s²    the eigendecomposition of a Gram matrix in f64, above s = 1024 no more than 20 s² or 14 s² + 16 s r; half of that
//!          for the plain norm, which needs f32 only unless what is cut away is below a thousandth of the weight
//! 8 s p    a part of M H, of p columns, while M H Mᵀ is summed; and H unfolded, 256 columns on each thread;
//!          512 columns of M stay packed on each
//! 8 r (s + l)   the pair in f64; twice that where it is transposed
//! 4 n²     a metric H, for all weights of a layer input; 8 n² its root
//! ```

use compress_core::{Result, Shape, Site, Truncate};
use compress_numerics::linalg::{PACKED, UNFOLDED, eigen_memory};

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

/// The peak of pieces of work of which as many run side by side as there are threads.
pub fn memory_together(each: impl Iterator<Item = usize>, threads: usize) -> usize {
    let mut each: Vec<usize> = each.collect();
    each.sort_unstable_by(|a, b| b.cmp(a));
    each.into_iter().take(threads.max(1)).sum()
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
    let weight = size_of::<f32>() * shape.size();
    if norm == Norm::Plain {
        return weight + size_of::<f32>() * eigen_memory(shape.full_rank(), rank);
    }
    let cut = Cut::new(shape, norm);
    let phases = [
        cut.rooting(),
        cut.gram(threads),
        cut.eigen(rank),
        cut.factors(rank),
    ];
    weight + cut.always(threads) + phases.into_iter().max().unwrap_or(0)
}

/// A cut under a metric, the shorter side of the weight first; sizes in numbers.
struct Cut {
    short: usize,
    long: usize,
    on_its_side: bool,
    shorter: Side,
    longer: Side,
    /// Whether the outputs have a metric, which is the weight's own.
    by_outputs: bool,
}

/// The metric of a side.
#[derive(Clone, Copy, PartialEq)]
enum Side {
    Even,
    Diagonal,
    Full,
}

impl Cut {
    fn new(shape: Shape, norm: Norm) -> Self {
        let by_outputs = norm == Norm::Kronecker;
        let outputs = if by_outputs { Side::Full } else { Side::Even };
        let inputs = if norm.shares_inputs() {
            Side::Full
        } else {
            Side::Diagonal
        };
        let on_its_side = shape.rows > shape.cols;
        let (shorter, longer) = if on_its_side {
            (inputs, outputs)
        } else {
            (outputs, inputs)
        };
        Self {
            short: shape.full_rank(),
            long: shape.rows.max(shape.cols),
            on_its_side,
            shorter,
            longer,
            by_outputs,
        }
    }

    /// M, or W, in `f64`.
    const fn wide(&self) -> usize {
        size_of::<f64>() * self.short * self.long
    }

    const fn square(&self) -> usize {
        size_of::<f64>() * self.short * self.short
    }

    /// While M is made: by a full root it is another matrix than W.
    const fn rooting(&self) -> usize {
        match self.shorter {
            // A root of the shared metric is counted with that; the root of G is the weight's own.
            Side::Full if self.on_its_side => 2 * self.wide(),
            Side::Full => 2 * self.wide() + self.square(),
            _ => self.wide(),
        }
    }

    /// While M H Mᵀ is summed. Of M H there is a part at a time, and of H what threads unfold, unless it is diagonal.
    fn gram(&self, threads: usize) -> usize {
        let part = self.short * PART.min(self.long) + threads * UNFOLDED * self.long;
        let weighted = match self.longer {
            Side::Full => size_of::<f64>() * part,
            Side::Diagonal => self.wide(),
            Side::Even => 0,
        };
        self.wide() + weighted + self.square()
    }

    /// During the eigendecomposition: M stays where it has a root.
    fn eigen(&self, rank: usize) -> usize {
        let held = if self.shorter == Side::Even {
            0
        } else {
            self.wide()
        };
        held + size_of::<f64>() * eigen_memory(self.short, rank)
    }

    /// While the factors are made of the eigenvectors, and then rounded to `f32`.
    const fn factors(&self, rank: usize) -> usize {
        let pair = size_of::<f64>() * rank * (self.short + self.long);
        // B H.
        let weighted = if self.by_outputs {
            size_of::<f64>() * rank * self.long
        } else {
            0
        };
        let transposed = if self.on_its_side { pair } else { 0 };
        let made = self.wide() + pair + weighted;
        let rounded = pair + transposed + pair / 2;
        if made > rounded { made } else { rounded }
    }

    /// All the time: the metric of the outputs, and what threads keep of products with H.
    fn always(&self, threads: usize) -> usize {
        let outputs = match (self.by_outputs, self.on_its_side) {
            (false, _) => 0,
            (true, true) => memory_of_metric(self.long, false),
            (true, false) => memory_of_metric(self.short, false),
        };
        let packed = if self.longer == Side::Full {
            size_of::<f64>() * threads * PACKED * self.short
        } else {
            0
        };
        outputs + packed
    }
}
