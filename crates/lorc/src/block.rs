//! A band of rows in integers and grids, column after column, while they are being chosen.

use compress_core::{Quantised, Result, Scheme, Shape, f16};
use compress_numerics::linalg::Single;

use crate::grids::Grids;

/// Rows that are written together: a cache line of a column.
const ROWS: usize = 16;

/// Some rows of a weight, rounded.
pub(crate) struct QuantisedBlock {
    pub integers: Single, // m × n, integers
    pub grids: Grids,
    pub group: usize, // how many columns share a grid
}

impl QuantisedBlock {
    /// What rounding lost of the weight; m × n.
    pub fn residual(&self, mut weight: Single) -> Single {
        for j in 0..weight.cols() {
            let steps = self.grids.of(j / self.group).steps;
            let integers = self.integers.column(j).iter().zip(steps);
            let pairs = weight.column_mut(j).iter_mut().zip(integers);
            pairs.for_each(|(x, (integer, step))| *x -= integer * step);
        }
        weight
    }

    /// Codes, scales and zero points, row after row.
    pub fn written(&self, scheme: Scheme) -> Parts {
        let (rows, cols) = (self.integers.rows(), self.integers.cols());
        let mut codes = vec![0; rows * cols];
        for (i, some) in codes.chunks_mut(ROWS * cols.max(1)).enumerate() {
            for j in 0..cols {
                let zeros = self.grids.of(j / self.group).zeros;
                let column = self.integers.column(j).iter().zip(zeros).skip(i * ROWS);
                let places = some.iter_mut().skip(j).step_by(cols);
                places
                    .zip(column)
                    .for_each(|(code, (integer, zero))| *code = (integer + zero) as i8);
            }
        }
        let grids = || (0..rows).flat_map(|row| self.grids.of_row(row));
        let zeros = if scheme.symmetric {
            Vec::new()
        } else {
            grids().map(|(_, zero)| zero).collect()
        };
        let scales = grids().map(|(scale, _)| scale).collect();
        Parts {
            codes,
            scales,
            zeros,
        }
    }
}

/// What a quantised weight is made of, or a band of it.
#[derive(Default)]
pub(crate) struct Parts {
    pub codes: Vec<i8>,
    pub scales: Vec<f16>,
    pub zeros: Vec<i8>,
}

impl Parts {
    /// From bands, the first rows first.
    pub fn joined(bands: Vec<Self>) -> Self {
        let codes = bands.iter().map(|band| band.codes.len()).sum();
        let mut whole = Self {
            codes: Vec::with_capacity(codes),
            ..Self::default()
        };
        for band in bands {
            whole.codes.extend(band.codes);
            whole.scales.extend(band.scales);
            whole.zeros.extend(band.zeros);
        }
        whole
    }

    /// As it is stored.
    pub fn assemble(self, shape: Shape, scheme: Scheme) -> Result<Quantised> {
        Quantised::from_codes(shape, scheme, &self.codes, self.scales, self.zeros)
    }
}
