//! A band of rows while it is rounded: levels and grids, column after column.
//!
//! GPTQ and refinement walk along the columns, so that levels and grids of neighbouring rows lie side by side, for
//! vector instructions; the packed form wants rows, and [`QuantisedBlock::written`] turns it.

use compress_core::{Quantised, Result, Scheme, Shape, f16};
use compress_numerics::linalg::Single;

use crate::grids::Grids;

/// Rows that are transposed together: the codes of a column are read a cache line at a time.
const ROWS: usize = 16;

/// A rounded band of rows.
pub(crate) struct QuantisedBlock {
    /// Levels, code − zero point, as floats: every operation on them is one of vectors of floats.
    pub integers: Single, // m × n, integers
    /// The scales and zero points, groups × m.
    pub grids: Grids,
    /// The group size.
    pub group: usize, // how many columns share a grid
}

impl QuantisedBlock {
    /// W − Q, the rounding error of the band, in the memory of the weight; m × n.
    pub fn residual(&self, mut weight: Single) -> Single {
        for j in 0..weight.cols() {
            let steps = self.grids.of(j / self.group).steps;
            let integers = self.integers.column(j).iter().zip(steps);
            let pairs = weight.column_mut(j).iter_mut().zip(integers);
            pairs.for_each(|(x, (integer, step))| *x -= integer * step);
        }
        weight
    }

    /// Codes, scales and zero points, row after row; the code is level + zero point.
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

/// The parts of a quantised weight, or of a band of its rows.
#[derive(Default)]
pub(crate) struct Parts {
    /// Rows × in, row after row.
    pub codes: Vec<i8>,
    /// Rows × groups.
    pub scales: Vec<f16>,
    /// Rows × groups; empty where symmetric.
    pub zeros: Vec<i8>,
}

impl Parts {
    /// Concatenates bands, the first rows first.
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

    /// Packs the parts. Fails where a count or a code does not fit the shape and the scheme.
    pub fn assemble(self, shape: Shape, scheme: Scheme) -> Result<Quantised> {
        Quantised::from_codes(shape, scheme, &self.codes, self.scales, self.zeros)
    }
}
