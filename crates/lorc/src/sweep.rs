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

use compress_core::linalg::Double;

/// Up to so many columns are done one by one.
const FEW: usize = 16;

/// A pass through all columns.
pub struct Sweep<'a> {
    /// What the columns are before their turn; m × n.
    pub pending: Double,
    /// What was done to them; m × n.
    pub moved: Double,
    /// How it changes later ones; n × n, read above the diagonal.
    pub coefficients: &'a Double,
}

impl<'a> Sweep<'a> {
    /// Ready for the first column.
    #[must_use]
    pub fn new(pending: Double, coefficients: &'a Double) -> Self {
        let moved = Double::zeros(pending.rows(), pending.cols());
        Self {
            pending,
            moved,
            coefficients,
        }
    }

    /// Visits one column after the other. Whenever the first of a group is, all of its group are
    /// up to date.
    pub fn columns(&mut self, group: usize, visit: &mut impl FnMut(usize, &Double, &mut [f64])) {
        let cut = |range: &Range<usize>| split(range, group).or_else(|| halve(range));
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
        visit: &mut impl FnMut(Range<usize>, &Double, &mut Double),
    ) {
        let cut = |range: &Range<usize>| split(range, group);
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
        let (moved, by) = (&self.moved, self.coefficients);
        self.pending
            .subtract_product(right.clone(), moved, by, left);
        self.run(right, cut, visit);
    }

    /// Takes what column `j` moved from some later columns.
    fn pass_on(&mut self, j: usize, later: Range<usize>) {
        let moved = self.moved.column(j);
        for k in later {
            let share = self.coefficients.column(k)[j];
            let pairs = self.pending.column_mut(k).iter_mut().zip(moved);
            pairs.for_each(|(x, y)| *x -= y * share);
        }
    }
}

/// The middle, at the border of a group; none within one.
fn split(range: &Range<usize>, group: usize) -> Option<usize> {
    let groups = range.len() / group.max(1);
    (groups > 1).then(|| range.start + groups / 2 * group)
}

/// The middle; none where there are few.
fn halve(range: &Range<usize>) -> Option<usize> {
    (range.len() > FEW).then(|| usize::midpoint(range.start, range.end))
}
