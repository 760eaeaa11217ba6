//! A band of rows in levels and grids, column after column, while they are being chosen.

use compress_core::{Grid, Result, Scheme, linalg::Double};

/// Some rows of a weight, rounded.
pub(crate) struct Coded {
    pub levels: Double,   // m × n, integers
    pub grids: Vec<Grid>, // groups × m: one group after the other
    pub group: usize,     // how many columns share a grid
}

impl Coded {
    /// The grids of the rows at one column.
    pub fn grids_at(&self, column: usize) -> &[Grid] {
        grids_of(&self.grids, column / self.group, self.levels.rows())
    }

    /// What rounding lost; m × n.
    pub fn residual(&self, mut weight: Double) -> Double {
        for j in 0..weight.cols() {
            let levels = self.levels.column(j).iter().zip(self.grids_at(j));
            let pairs = weight.column_mut(j).iter_mut().zip(levels);
            pairs.for_each(|(x, (level, grid))| *x -= level * grid.step());
        }
        weight
    }

    /// Appends codes, scales and zero points, row after row.
    pub fn write(&self, scheme: Scheme, out: &mut Parts) {
        let (rows, cols) = (self.levels.rows(), self.levels.cols());
        for i in 0..rows {
            let code = |j: usize| self.grids_at(j)[i].code(self.levels.column(j)[i]);
            out.codes.extend((0..cols).map(code));
            let grids = || self.grids.iter().skip(i).step_by(rows);
            out.scales.extend(grids().map(|grid| grid.scale));
            if !scheme.symmetric {
                out.zeros.extend(grids().map(|grid| grid.zero));
            }
        }
    }
}

/// The grids of all m rows in one group.
pub(crate) fn grids_of(grids: &[Grid], group: usize, rows: usize) -> &[Grid] {
    grids
        .get(group * rows..(group + 1) * rows)
        .unwrap_or_default()
}

/// What a quantised weight is made of.
#[derive(Default)]
pub(crate) struct Parts {
    pub codes: Vec<i8>,
    pub scales: Vec<compress_core::f16>,
    pub zeros: Vec<i8>,
}

impl Parts {
    pub fn assemble(
        self,
        shape: compress_core::Shape,
        scheme: Scheme,
    ) -> Result<compress_core::Quantised> {
        compress_core::Quantised::from_codes(shape, scheme, &self.codes, self.scales, self.zeros)
    }
}
