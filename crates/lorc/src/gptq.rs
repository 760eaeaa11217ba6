//! GPTQ: rounds one input after the other, and makes its error good by the weights of later inputs.
//!
//! ```text
//! for each input j:    q_j = nearest(w_j)                   one column of W at a time, m
//!                      w_k −= (w_j − q_j) · feedback[j, k]   for all inputs k after it
//! ```
//!
//! A group's grid is chosen when its first column is due, from the weights as they are by then. Where the
//! [`Hessian`] has act-order, groups are still those of neighbouring inputs, so that no order (`g_idx`)
//! need be stored; their grids are chosen beforehand, from the weights as they were.
//!
//! Cost: m·n² operations for an m × n weight. Within a panel of few columns all is in `f64`; what a panel subtracts
//! from the columns after it is one product
//! in `f32`.
//!
//! # References
//!
//! Frantar et al., *GPTQ*, ICLR 2023, arXiv 2210.17323.

use std::ops::Range;

use compress_core::Scheme;
use compress_numerics::{
    kernels::vectorized,
    linalg::{Dense, Double, Real, Single},
};

use crate::{
    Hessian, Scaling, block::QuantisedBlock, grids::Grids, hessian::NEAR, rtn, sweep::Sweep,
};

/// Rounds a band of rows, m × n, of a weight with the given Hessian, n × n.
///
/// The columns are taken in the order of rounding; grids and levels of the result are in the order of inputs.
pub(crate) fn gptq(
    weight: &Single,
    hessian: &Hessian,
    scheme: Scheme,
    scaling: Scaling,
) -> QuantisedBlock {
    let (rows, cols) = (weight.rows(), weight.cols());
    let group = scheme.group_of(cols);
    let (mut block, pending, together) = match &hessian.order {
        None => {
            let block = QuantisedBlock {
                integers: Single::zeros(rows, cols),
                grids: Grids::new(rows, scheme),
                group,
            };
            (block, weight.clone(), group)
        }
        Some(order) => {
            // Only its grids are used: every level is assigned again below. A group's columns come at any time in
            // act-order, so its grid cannot wait for them.
            let block = rtn::nearest(weight, &hessian.importance, scheme, scaling);
            (block, permuted(weight, order), cols)
        }
    };
    let band = Band {
        hessian,
        scheme,
        scaling,
        together,
    };
    let mut sweep = Sweep::new(pending, hessian.feedback());
    sweep.panels(together, NEAR, &mut |columns, pending, moved| {
        band.panel(&mut block, columns, pending, moved);
    });
    block
}

/// The columns in the order of rounding.
fn permuted(weight: &Single, order: &[usize]) -> Single {
    let mut turned = Single::zeros(weight.rows(), weight.cols());
    for (place, &input) in order.iter().enumerate() {
        let column = turned.column_mut(place);
        column.copy_from_slice(weight.column(input));
    }
    turned
}

/// The constants of a band's rounding.
struct Band<'a> {
    hessian: &'a Hessian,
    scheme: Scheme,
    scaling: Scaling,
    /// Columns that must have all earlier updates when the first of them is rounded: those of a group, whose grid is
    /// chosen then; in act-order all are alike.
    together: usize,
}

impl Band<'_> {
    /// Rounds the columns of one panel: whole groups, or part of one. `pending`, m × n, has all updates of earlier
    /// panels; `moved`, m × n, gets the rounding errors, which the sweep takes from later panels.
    fn panel(
        &self,
        block: &mut QuantisedBlock,
        columns: Range<usize>,
        pending: &Single,
        moved: &mut Single,
    ) {
        let group = block.group;
        // A group wider than the panel: its grid needs columns that are not in the panel, so it is chosen in `f32`.
        if self.begins(columns.start, group) && group > columns.len() {
            let whole = columns.start..columns.start + group;
            self.open(block, pending, whole, columns.start);
        }
        let near = self.hessian.feedback_near().after(columns.start);
        let mut sweep = Sweep::new(pending.widened(columns.clone()), near);
        sweep.columns(self.together, &mut |j, weights: &Double, errors| {
            let place = columns.start + j;
            if self.begins(place, group) && group <= columns.len() {
                self.open(block, weights, j..j + group, place);
            }
            let order = self.hessian.order.as_ref();
            let input = order.map_or(place, |order| order[place]);
            let (line, integers) = (
                block.grids.of(input / group),
                block.integers.column_mut(input),
            );
            vectorized(
                #[inline(always)]
                || line.round(weights.column(j), integers, errors),
            );
        });
        for (j, place) in columns.enumerate() {
            let errors = sweep.moved.column(j).iter();
            let column = moved.column_mut(place).iter_mut().zip(errors);
            column.for_each(|(x, error)| *x = *error as f32);
        }
    }

    /// Whether a grid is to be chosen at this column; never in act-order, where all are chosen beforehand.
    const fn begins(&self, place: usize, group: usize) -> bool {
        self.hessian.order.is_none() && place.is_multiple_of(group)
    }

    /// Chooses the grids of a group from some columns, which are the inputs from `input` on.
    fn open<T: Real>(
        &self,
        block: &mut QuantisedBlock,
        weights: &Dense<T>,
        columns: Range<usize>,
        input: usize,
    ) {
        let importance = &self.hessian.importance[input..input + columns.len()];
        let grids = rtn::grids(weights, columns, importance, self.scheme, self.scaling);
        block.grids.extend(grids);
    }
}
