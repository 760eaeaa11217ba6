//! Refinement of a rounded weight: coordinate descent on scales and codes under tr(R H Rᵀ).
//!
//! ```text
//! R = W − Q   m × n      the error of the outputs is tr(R H Rᵀ);   G = R H is minus half its gradient by Q
//! s += G_g · level_gᵀ / (level_g H_gg level_gᵀ)             the best scale of one group
//! level[j] += G[j] / (H[j, j] · s), rounded                  then the best level of each of its weights
//! ```
//!
//! GPTQ makes an error good only at later inputs; here earlier ones answer too. Groups are taken from the last
//! inputs, which bear what is left, to the first. No step makes the error larger. The slope of some groups at a
//! time is computed anew from the residual: 2 m n² operations for all of them, nearly all there are.
//!
//! Each change is the exact minimiser of a quadratic in one scale or one level, rounded to what can be stored; a scale
//! whose rounding would lose more than the change gains stays as it is.

use std::ops::Range;

use compress_core::{Grid, Scheme};
use compress_numerics::{
    kernels::vectorized,
    linalg::{Rows, Single},
};

use crate::{Hessian, block::QuantisedBlock, grids::Grids, sweep::Sweep};

/// Columns whose slope is computed by one product.
const PANEL: usize = 256;

/// Passes over the groups of a panel with one computed slope, which is updated within the panel: a pass costs far less
/// than a new slope.
const FITS: usize = 2;

/// Fits scales and levels, a panel of groups at a time, `rounds` times; `weight` is the band before rounding, m × n.
pub(crate) fn refine(
    block: &mut QuantisedBlock,
    weight: Single,
    hessian: &Hessian,
    scheme: Scheme,
    rounds: usize,
) {
    if rounds == 0 {
        return;
    }
    let (cols, group) = (weight.cols(), block.group);
    // Whole groups, since a scale belongs to all columns of one.
    let width = (PANEL / group).max(1) * group;
    let mut residual = block.residual(weight);
    for _ in 0..rounds {
        // Backwards: GPTQ has left the errors to the last inputs.
        for start in (0..cols).step_by(width).rev() {
            let columns = start..cols.min(start + width);
            panel(block, &mut residual, hessian, columns, scheme);
        }
    }
}

/// Fits the groups of one panel, and updates the residual.
fn panel(
    block: &mut QuantisedBlock,
    residual: &mut Single,
    hessian: &Hessian,
    columns: Range<usize>,
    scheme: Scheme,
) {
    let width = columns.len();
    let corner = hessian.corner(columns.clone());
    let h = Rows::full(&corner, width);
    let mut slope = hessian.slope(residual, columns.clone());
    for _ in 0..FITS {
        let moved = groups(block, slope.clone(), h, columns.start, scheme);
        let all = h.block(0..width, 0..width);
        slope.add_product(0..width, -1.0, (&moved, 0..width), all.transposed());
        for (j, column) in columns.clone().enumerate() {
            let places = residual.column_mut(column).iter_mut().zip(moved.column(j));
            places.for_each(|(x, y)| *x -= y);
        }
    }
}

/// Fits the panel's groups in turn, columns from `start` on; returns how much each value moves, m × panel.
fn groups(
    block: &mut QuantisedBlock,
    slope: Single,
    h: Rows<'_, f32>,
    start: usize,
    scheme: Scheme,
) -> Single {
    let group = block.group;
    let mut sweep = Sweep::new(slope, h);
    sweep.groups(group, &mut |part, slope, moved| {
        let (h, first) = (h.after(part.start), start + part.start);
        let mut slope = slope.part(part.clone());
        let scaled = fit_scales(block, first, &mut slope, h, scheme);
        let levelled = fit_levels(block, first, slope, h);
        for (j, column) in part.enumerate() {
            let sums = scaled.column(j).iter().zip(levelled.column(j));
            let places = moved.column_mut(column).iter_mut().zip(sums);
            places.for_each(|(x, (a, b))| *x = a + b);
        }
    });
    sweep.moved
}

/// Fits the scales of the group that begins at column `first`, with `h` its part of H; returns how much each value
/// moves, and updates the slope by that.
fn fit_scales(
    block: &mut QuantisedBlock,
    first: usize,
    slope: &mut Single,
    h: Rows<'_, f32>,
    scheme: Scheme,
) -> Single {
    let (rows, group) = (slope.rows(), slope.cols());
    let columns = first..first + group;
    let mut curved = Single::zeros(rows, group);
    let integers = &block.integers;
    let part = h.block(0..group, 0..group);
    curved.add_product(
        0..group,
        1.0,
        (integers, columns.clone()),
        part.transposed(),
    );
    // In `f64`: a scale is a quotient of sums over the group.
    let (mut across, mut along) = (vec![0.0; rows], vec![0.0; rows]);
    for (j, column) in columns.clone().enumerate() {
        add_products(&mut across, integers.column(column), slope.column(j));
        add_products(&mut along, integers.column(column), curved.column(j));
    }
    let changes = change(&mut block.grids, first / group, &across, &along, scheme);
    let mut moved = Single::zeros(rows, group);
    for (j, column) in columns.enumerate() {
        let integers = block.integers.column(column).iter().zip(&changes);
        let places = moved.column_mut(j).iter_mut().zip(integers);
        places.for_each(|(moved, (integer, change))| *moved = integer * change);
        let curved = curved.column(j).iter().zip(&changes);
        let places = slope.column_mut(j).iter_mut().zip(curved);
        places.for_each(|(x, (curved, change))| *x -= curved * change);
    }
    moved
}

/// Adds the elementwise products of two columns.
fn add_products(sums: &mut [f64], a: &[f32], b: &[f32]) {
    let places = sums.iter_mut().zip(a.iter().zip(b));
    places.for_each(|(sum, (a, b))| *sum += f64::from(*a) * f64::from(*b));
}

/// Moves each scale to its least-squares optimum; returns by how much. `across` is G · levelᵀ, `along` level H levelᵀ.
fn change(
    grids: &mut Grids,
    group: usize,
    across: &[f64],
    along: &[f64],
    scheme: Scheme,
) -> Vec<f32> {
    let (steps, zeros) = grids.of_mut(group);
    let one = |((step, zero), (across, along)): ((&mut f32, &f32), (&f64, &f64))| {
        // All levels are 0: no scale makes a difference.
        if *along <= 0.0 {
            return 0.0;
        }
        let scale = f64::from(*step) + across / along;
        let better = Grid::new(scheme, scale as f32, *zero as i8).scale.to_f32();
        let change = better - *step;
        // The change of the error by a step of the rounded scale: rounding to `f16` may overshoot the optimum.
        let by = f64::from(change);
        if by * (by * along - 2.0 * across) < 0.0 {
            *step = better;
            change
        } else {
            0.0
        }
    };
    let sums = across.iter().zip(along);
    steps.iter_mut().zip(zeros).zip(sums).map(one).collect()
}

/// Fits the levels of the group that begins at column `first`, one column after the other; returns how much each value
/// moves.
fn fit_levels(block: &mut QuantisedBlock, first: usize, slope: Single, h: Rows<'_, f32>) -> Single {
    let group = slope.cols();
    let line = block.grids.of(first / group);
    let integers = &mut block.integers;
    let mut sweep = Sweep::new(slope, h);
    sweep.columns(group, &mut |j, slope, moved| {
        let integers = integers.column_mut(first + j);
        vectorized(
            #[inline(always)]
            || line.refine(slope.column(j), h.at(j, j), integers, moved),
        );
    });
    sweep.moved
}
