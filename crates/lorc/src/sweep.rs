//! A sweep over the columns of a matrix in order, where each one updates all later ones: the loop of GPTQ.
//!
//! ```text
//! for j in 0..n:   moved[:, j] ← visit(pending[:, j])
//!                  pending[:, k] −= moved[:, j] · coefficients[j, k]   for k > j
//! ```
//!
//! The columns are halved recursively: the right half gets the updates of the left half by one product
//! of matrices, m × l by l × r; only within the last few columns they are applied one by one. So nearly all
//! of the m·n² operations are those of a matrix product. (GPTQ's published code uses blocks of 128 columns.)
//!
//! The order of operations depends on the number of columns and the group size only, and so the bytes do not depend on
//! threads.

use std::ops::Range;

use compress_numerics::{
    kernels::vectorized,
    linalg::{Dense, Real, Rows},
};

/// Below so many columns a product would cost more than it saves, and updates are applied one by one.
const FEW: usize = 16;

/// Columns of coefficients that are copied at a time, for a faster product without a copy of all.
const COPIED: usize = 512;

/// The state of one sweep.
pub struct Sweep<'a, T> {
    /// The columns, up to date when their turn comes; m × n.
    pub pending: Dense<T>,
    /// The moves, as the visit of each column wrote them; m × n.
    pub moved: Dense<T>,
    /// By what a move updates later columns; n × n, read above the diagonal.
    pub coefficients: Rows<'a, T>,
}

impl<'a, T: Real> Sweep<'a, T> {
    /// A sweep before its first column; `pending` and `coefficients` have one width.
    #[must_use]
    pub fn new(pending: Dense<T>, coefficients: Rows<'a, T>) -> Self {
        let moved = Dense::zeros(pending.rows(), pending.cols());
        Self {
            pending,
            moved,
            coefficients,
        }
    }

    /// Visits column by column: `visit` gets the index and all pending columns, and writes what it moved. When the
    /// first column of a group is visited, all columns of the group are up to date.
    pub fn columns(&mut self, group: usize, visit: &mut impl FnMut(usize, &Dense<T>, &mut [T])) {
        let cut = |range: &Range<usize>| split(range, group).or_else(|| halve(range, FEW));
        self.run(0..self.pending.cols(), &cut, &mut |sweep, range| {
            for j in range.clone() {
                visit(j, &sweep.pending, sweep.moved.column_mut(j));
                sweep.pass_on(j, j + 1..range.end);
            }
        });
    }

    /// Visits group by group, all of whose columns are up to date with earlier groups.
    pub fn groups(
        &mut self,
        group: usize,
        visit: &mut impl FnMut(Range<usize>, &Dense<T>, &mut Dense<T>),
    ) {
        let cut = |range: &Range<usize>| split(range, group);
        self.run(0..self.pending.cols(), &cut, &mut |sweep, range| {
            visit(range, &sweep.pending, &mut sweep.moved);
        });
    }

    /// Visits panels of at most `width` columns: whole groups, or part of one. When the first part of a group is
    /// visited, all columns of the group are up to date.
    pub fn panels(
        &mut self,
        group: usize,
        width: usize,
        visit: &mut impl FnMut(Range<usize>, &Dense<T>, &mut Dense<T>),
    ) {
        let cut = |range: &Range<usize>| {
            let halves = halve(range, width);
            halves.map(|middle| split(range, group).unwrap_or(middle))
        };
        self.run(0..self.pending.cols(), &cut, &mut |sweep, range| {
            visit(range, &sweep.pending, &mut sweep.moved);
        });
    }

    /// Splits a range where `cut` says, visits the left half, updates the right half and visits it.
    fn run(
        &mut self,
        range: Range<usize>,
        cut: &impl Fn(&Range<usize>) -> Option<usize>,
        visit: &mut impl FnMut(&mut Self, Range<usize>),
    ) {
        let Some(middle) = cut(&range) else {
            return visit(self, range);
        };
        let (left, right) = (range.start..middle, middle..range.end);
        self.run(left.clone(), cut, visit);
        self.pass_on_all(left, right.clone());
        self.run(right, cut, visit);
    }

    /// Updates the columns of `right` by what those of `left` moved, by products.
    fn pass_on_all(&mut self, left: Range<usize>, right: Range<usize>) {
        // faer multiplies by a column-major copy up to twice as fast; the copy is used for all rows of the band.
        for first in right.clone().step_by(COPIED) {
            let some = first..right.end.min(first + COPIED);
            let by = self.coefficients.columns(left.clone(), some.clone());
            let moved = (&self.moved, left.clone());
            self.pending.add_product(some, -1.0, moved, by.block());
        }
    }

    /// Updates some later columns by what column `j` moved.
    fn pass_on(&mut self, j: usize, later: Range<usize>) {
        let (moved, pending) = (self.moved.column(j), &mut self.pending);
        let coefficients = self.coefficients;
        vectorized(
            #[inline(always)]
            || {
                for k in later {
                    let share = coefficients.at(j, k);
                    let pairs = pending.column_mut(k).iter_mut().zip(moved);
                    pairs.for_each(|(x, y)| *x -= *y * share);
                }
            },
        );
    }
}

/// The middle group border of a range; none where it has a single group.
fn split(range: &Range<usize>, group: usize) -> Option<usize> {
    let groups = range.len() / group.max(1);
    (groups > 1).then(|| range.start + groups / 2 * group)
}

/// The middle of a range; none where it has no more than `few` columns.
fn halve(range: &Range<usize>, few: usize) -> Option<usize> {
    (range.len() > few).then(|| usize::midpoint(range.start, range.end))
}
