//! Going through the columns of a matrix in order, where what is done to one changes all later ones.
//!
//! ```text
//! for j in 0..n:   moved[:, j] ← visit(pending[:, j])
//!                  pending[:, k] −= moved[:, j] · coefficients[j, k]   for k > j
//! ```
//!
//! The columns are halved again and again: the right half gets what the left half moved by one product
//! of matrices, m × l by l × r. Only within the last few columns it is done one by one. So nearly all
//! of the m·n² operations are those of a matrix product.

use std::ops::Range;

use compress_numerics::{
    kernels::vectorized,
    linalg::{Dense, Real, Rows},
};

/// Up to so many columns are done one by one.
const FEW: usize = 16;

/// Columns of coefficients that are copied at a time, for a faster product.
const COPIED: usize = 512;

/// A pass through all columns.
pub struct Sweep<'a, T> {
    /// What the columns are before their turn; m × n.
    pub pending: Dense<T>,
    /// What was done to them; m × n.
    pub moved: Dense<T>,
    /// How it changes later ones; n × n, read above the diagonal.
    pub coefficients: Rows<'a, T>,
}

impl<'a, T: Real> Sweep<'a, T> {
    /// Ready for the first column.
    #[must_use]
    pub fn new(pending: Dense<T>, coefficients: Rows<'a, T>) -> Self {
        let moved = Dense::zeros(pending.rows(), pending.cols());
        Self {
            pending,
            moved,
            coefficients,
        }
    }

    /// Visits one column after the other. Whenever the first of a group is, all of its group are
    /// up to date.
    pub fn columns(&mut self, group: usize, visit: &mut impl FnMut(usize, &Dense<T>, &mut [T])) {
        let cut = |range: &Range<usize>| split(range, group).or_else(|| halve(range, FEW));
        self.run(0..self.pending.cols(), &cut, &mut |sweep, range| {
            for j in range.clone() {
                visit(j, &sweep.pending, sweep.moved.column_mut(j));
                sweep.pass_on(j, j + 1..range.end);
            }
        });
    }

    /// Visits one group of columns after the other.
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

    /// Visits some columns at a time, at most `width`: whole groups, or part of one. Whenever a part is the
    /// first of its group, all of its group are up to date.
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

    /// Takes what some columns moved from all later ones, some of those at a time.
    fn pass_on_all(&mut self, left: Range<usize>, right: Range<usize>) {
        for first in right.clone().step_by(COPIED) {
            let some = first..right.end.min(first + COPIED);
            let by = self.coefficients.columns(left.clone(), some.clone());
            let moved = (&self.moved, left.clone());
            self.pending.add_product(some, -1.0, moved, by.block());
        }
    }

    /// Takes what column `j` moved from some later columns.
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

/// The middle, at the border of a group; none within one.
fn split(range: &Range<usize>, group: usize) -> Option<usize> {
    let groups = range.len() / group.max(1);
    (groups > 1).then(|| range.start + groups / 2 * group)
}

/// The middle; none where there are no more than so many.
fn halve(range: &Range<usize>, few: usize) -> Option<usize> {
    (range.len() > few).then(|| usize::midpoint(range.start, range.end))
}
