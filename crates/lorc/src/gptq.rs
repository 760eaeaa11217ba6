//! GPTQ: each weight to the nearest number of its grid, its error made good by the weights after it.
//!
//! ```text
//! for each input j:    q_j = nearest(w_j)                   one column of W at a time, m
//!                      w_k −= (w_j − q_j) · feedback[j, k]   for all inputs k after it
//! ```
//!
//! A group's grid is chosen when its first column comes, from the weights as they are then. Where the
//! [`Hessian`] has an order of its own, groups are still those of neighbouring inputs, so that nothing
//! need be stored about the order; their grids are chosen from the weights as they were.
//!
//! # References
//!
//! Frantar et al., *GPTQ*, ICLR 2023, arXiv 2210.17323.

use compress_core::{Grid, Scheme, linalg::Double};

use crate::{
    Hessian, Scaling,
    coded::{Coded, grids_of},
    rtn,
    sweep::Sweep,
};

/// Rounds a band of rows, m × n.
pub(crate) fn gptq(weight: &Double, hessian: &Hessian, scheme: Scheme, scaling: Scaling) -> Coded {
    match &hessian.order {
        None => as_they_come(weight, hessian, scheme, scaling),
        Some(order) => in_order(weight, hessian, order, scheme, scaling),
    }
}

fn as_they_come(weight: &Double, hessian: &Hessian, scheme: Scheme, scaling: Scaling) -> Coded {
    let (rows, cols) = (weight.rows(), weight.cols());
    let group = scheme.group_of(cols);
    let mut grids: Vec<Grid> = Vec::with_capacity(rows * scheme.groups(cols));
    let mut levels = Double::zeros(rows, cols);
    let mut sweep = Sweep::new(weight.clone(), &hessian.feedback);
    sweep.columns(group, &mut |j, weights, errors| {
        if j % group == 0 {
            grids.extend(rtn::grids(
                weights,
                j..j + group,
                &hessian.importance,
                scheme,
                scaling,
            ));
        }
        let grids = grids_of(&grids, j / group, rows);
        round(weights.column(j), grids, levels.column_mut(j), errors);
    });
    Coded {
        levels,
        grids,
        group,
    }
}

fn in_order(
    weight: &Double,
    hessian: &Hessian,
    order: &[usize],
    scheme: Scheme,
    scaling: Scaling,
) -> Coded {
    let (rows, cols) = (weight.rows(), weight.cols());
    let mut coded = rtn::nearest(weight, &hessian.importance, scheme, scaling);
    let mut turned = Double::zeros(rows, cols);
    for (place, &input) in order.iter().enumerate() {
        turned
            .column_mut(place)
            .copy_from_slice(weight.column(input));
    }
    let mut sweep = Sweep::new(turned, &hessian.feedback);
    sweep.columns(cols, &mut |place, weights, errors| {
        let input = order.get(place).copied().unwrap_or_default();
        let grids = grids_of(&coded.grids, input / coded.group, rows);
        round(
            weights.column(place),
            grids,
            coded.levels.column_mut(input),
            errors,
        );
    });
    coded
}

/// One column: levels and errors of its weights.
fn round(weights: &[f64], grids: &[Grid], levels: &mut [f64], errors: &mut [f64]) {
    let out = levels.iter_mut().zip(errors);
    for ((w, grid), (level, error)) in weights.iter().zip(grids).zip(out) {
        *level = grid.nearest(*w);
        *error = w - *level * grid.step();
    }
}
