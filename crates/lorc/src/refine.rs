//! Better levels and scales for a weight that is rounded already, one at a time, all else held.
//!
//! ```text
//! R = W − Q   m × n      the error of the outputs is tr(R H Rᵀ);   G = R H is its slope
//! level[j] += G[j] / (H[j, j] · s), rounded                 the best level of one weight
//! s += G_g · level_g / (level_g H_gg level_gᵀ)              the best scale of one group
//! ```
//!
//! GPTQ makes an error good only at later inputs; this lets earlier ones answer too. No step makes
//! the error larger.

use std::ops::Range;

use compress_core::{Grid, Result, Scheme, linalg::Double};

use crate::{
    Hessian,
    coded::{Coded, grids_of},
    sweep::Sweep,
};

/// Fits all scales, then all levels, `rounds` times.
pub(crate) fn refine(
    coded: &mut Coded,
    weight: &Double,
    hessian: &Hessian,
    scheme: Scheme,
    rounds: usize,
) -> Result<()> {
    for _ in 0..rounds {
        fit_scales(coded, weight, &hessian.damped, scheme)?;
        fit_levels(coded, weight, &hessian.damped)?;
    }
    Ok(())
}

fn fit_levels(coded: &mut Coded, weight: &Double, h: &Double) -> Result<()> {
    let slope = coded.residual(weight.clone()).times(h)?; // G
    let rows = weight.rows();
    let (levels, grids, group) = (&mut coded.levels, &coded.grids, coded.group);
    let all = weight.cols();
    Sweep::new(slope, h).columns(all, &mut |j, slope, moved| {
        let curvature = h.column(j)[j].recip();
        let grids = grids_of(grids, j / group, rows);
        let places = levels.column_mut(j).iter_mut().zip(moved);
        for ((g, grid), (level, moved)) in slope.column(j).iter().zip(grids).zip(places) {
            let better = grid.level(*level + g * curvature / grid.step());
            *moved = (better - *level) * grid.step();
            *level = better;
        }
    });
    Ok(())
}

fn fit_scales(coded: &mut Coded, weight: &Double, h: &Double, scheme: Scheme) -> Result<()> {
    let slope = coded.residual(weight.clone()).times(h)?; // G
    let rows = weight.rows();
    let (levels, grids, group) = (&coded.levels, &mut coded.grids, coded.group);
    Sweep::new(slope, h).groups(group, &mut |columns, slope, moved| {
        let first = columns.start / group * rows;
        let grids = grids.get_mut(first..first + rows).unwrap_or_default();
        let curved = levels.times_within(columns.clone(), h, columns.clone());
        let across = dots(levels, columns.clone(), slope, columns.start);
        let along = dots(levels, columns.clone(), &curved, 0);
        let changes = change(grids, &across, &along, scheme);
        for j in columns {
            let pairs = levels.column(j).iter().zip(&changes);
            let places = moved.column_mut(j).iter_mut().zip(pairs);
            places.for_each(|(moved, (level, change))| *moved = level * change);
        }
    });
    Ok(())
}

/// Row by row the sum of the products of some columns' elements with those of another matrix, whose
/// columns are taken from `start` on.
fn dots(levels: &Double, columns: Range<usize>, other: &Double, start: usize) -> Vec<f64> {
    let mut sums = vec![0.0; levels.rows()];
    for (j, k) in columns.zip(start..) {
        let pairs = levels.column(j).iter().zip(other.column(k));
        let places = sums.iter_mut().zip(pairs);
        places.for_each(|(sum, (a, b))| *sum += a * b);
    }
    sums
}

/// Moves each scale to where the error is least, if that makes it less once it is rounded; by how much.
fn change(grids: &mut [Grid], across: &[f64], along: &[f64], scheme: Scheme) -> Vec<f64> {
    let one = |(grid, (across, along)): (&mut Grid, (&f64, &f64))| {
        if *along <= 0.0 {
            return 0.0;
        }
        let scale = grid.step() + across / along;
        let better = Grid::new(scheme, scale as f32, grid.zero);
        let by = better.step() - grid.step();
        if by * (by * along - 2.0 * across) < 0.0 {
            *grid = better;
            by
        } else {
            0.0
        }
    };
    let sums = across.iter().zip(along);
    grids.iter_mut().zip(sums).map(one).collect()
}
