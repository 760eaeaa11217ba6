//! Round to nearest: every weight to the nearest number of its group's grid.

use compress_core::{Grid, Scheme, linalg::Double};

use crate::{
    Scaling,
    coded::{Coded, grids_of},
};

/// Rounds a band of rows, m × n. Errors matter by `importance`, n, where scales are searched.
pub(crate) fn nearest(
    weight: &Double,
    importance: &[f64],
    scheme: Scheme,
    scaling: Scaling,
) -> Coded {
    let (rows, cols) = (weight.rows(), weight.cols());
    let group = scheme.group_of(cols);
    let starts = (0..cols).step_by(group);
    let grids: Vec<Grid> = starts
        .flat_map(|start| grids(weight, start..start + group, importance, scheme, scaling))
        .collect();
    let mut levels = Double::zeros(rows, cols);
    for j in 0..cols {
        let grids = grids_of(&grids, j / group, rows);
        let weights = weight.column(j).iter().zip(grids);
        let pairs = levels.column_mut(j).iter_mut().zip(weights);
        pairs.for_each(|(level, (w, grid))| *level = grid.nearest(*w));
    }
    Coded {
        levels,
        grids,
        group,
    }
}

/// The grid of each row for a group of columns; m.
pub(crate) fn grids(
    weight: &Double,
    columns: std::ops::Range<usize>,
    importance: &[f64],
    scheme: Scheme,
    scaling: Scaling,
) -> Vec<Grid> {
    let importance = importance.get(columns.clone()).unwrap_or_default();
    let mut row = Vec::with_capacity(columns.len());
    let of_row = |i: usize| {
        row.clear();
        row.extend(columns.clone().map(|j| weight.column(j)[i]));
        scaling.grid(scheme, &row, importance)
    };
    (0..weight.rows()).map(of_row).collect()
}
