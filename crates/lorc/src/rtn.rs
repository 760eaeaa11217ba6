//! Round to nearest (RTN): every weight to the nearest number of its group's grid, by itself.
//!
//! ```text
//! level[i, j] = round(clamp(w[i, j] / s[i, j / g]))
//! ```
//!
//! No error is made good by other weights, so that no H is needed; m·n operations.

use std::ops::Range;

use compress_core::{Grid, Scheme};
use compress_numerics::{
    kernels::vectorized,
    linalg::{Dense, Real, Single},
};

use crate::{Scaling, block::QuantisedBlock, grids::Grids};

/// Rounds a band of rows, m × n. `importance`, n, weights the errors of each input where scales are searched.
pub(crate) fn nearest(
    weight: &Single,
    importance: &[f64],
    scheme: Scheme,
    scaling: Scaling,
) -> QuantisedBlock {
    let (rows, cols) = (weight.rows(), weight.cols());
    let group = scheme.group_of(cols);
    let mut block = QuantisedBlock {
        integers: Single::zeros(rows, cols),
        grids: Grids::new(rows, scheme),
        group,
    };
    let mut errors = vec![0.0; rows];
    for start in (0..cols).step_by(group) {
        let columns = start..start + group;
        let importance = importance.get(columns.clone()).unwrap_or_default();
        let found = grids(weight, columns.clone(), importance, scheme, scaling);
        block.grids.extend(found);
        let line = block.grids.of(start / group);
        for j in columns {
            let weights: Vec<f64> = weight.column(j).iter().copied().map(f64::from).collect();
            let integers = block.integers.column_mut(j);
            vectorized(
                #[inline(always)]
                || line.round(&weights, integers, &mut errors),
            );
        }
    }
    block
}

/// The grids of a group's columns, one per row; `importance` weights the errors of each column.
pub(crate) fn grids<T: Real>(
    weight: &Dense<T>,
    columns: Range<usize>,
    importance: &[f64],
    scheme: Scheme,
    scaling: Scaling,
) -> Vec<Grid> {
    let rows: Vec<&[T]> = columns.map(|j| weight.column(j)).collect();
    scaling.grids(scheme, &rows, importance)
}
