//! Search of a group's scale for the least squared error: clipping a few large weights makes the grid finer for all
//! others.
//!
//! ```text
//! minimise Σ_j h_j (w_j − s · level_j(w_j / s))²   over s = t · s₀,   s₀ the absmax scale
//! then     s = Σ h w level / Σ h level²               given the levels, until they stay
//! ```
//!
//! A symmetric grid has one level more below 0 than above; where the largest weights are positive, a
//! negative s serves them better, so both signs are tried.
//!
//! Rows are searched 16 at a time in vector instructions; none affects another. Each group takes 32 candidates of a
//! sign and up to 4 fits, and a pass over its weights for each. The weights h are the importance of
//! inputs under GPTQ's feedback ([`Hessian`](crate::Hessian)), so that the search minimises what is left after it.

use std::str::FromStr;

use compress_core::{Grid, Scheme};
use compress_numerics::linalg::Real;
use serde::{Deserialize, Serialize};

use crate::lanes::{LANES, Lanes, search};

/// How the scale of a group is chosen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scaling {
    /// Absmax: the grid reaches the weight of largest magnitude.
    #[default]
    #[serde(rename = "absmax", alias = "covering")]
    AbsMax,
    /// The scale with the least weighted squared error, by search; never worse than absmax.
    #[serde(alias = "searched")]
    Mse,
}

impl FromStr for Scaling {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        match text {
            // The second of each is an earlier name, which scripts and plans may still have.
            "absmax" | "covering" => Ok(Self::AbsMax),
            "mse" | "searched" => Ok(Self::Mse),
            _ => Err("a scaling is absmax or mse".into()),
        }
    }
}

impl Scaling {
    /// The grid of each row of a group, given by its columns of m numbers each; `importance` weights the errors of each
    /// column.
    pub(crate) fn grids<T: Real>(
        self,
        scheme: Scheme,
        columns: &[&[T]],
        importance: &[f64],
    ) -> Vec<Grid> {
        let rows = columns.first().map_or(0, |column| column.len());
        // `f32` suffices to compare candidates, and is twice as fast in vectors.
        let importance: Vec<f32> = importance.iter().map(|&h| h as f32).collect();
        let mut grids = Vec::with_capacity(rows);
        let (mut weights, mut row) = (vec![Lanes::default(); columns.len()], Vec::new());
        for first in (0..rows).step_by(LANES) {
            let count = LANES.min(rows - first);
            for (lanes, column) in weights.iter_mut().zip(columns) {
                let numbers = column[first..first + count].iter();
                let places = lanes.0.iter_mut().zip(numbers);
                places.for_each(|(x, number)| *x = number.to_f32());
            }
            let absmax = (0..count).map(|lane| {
                row.clear();
                row.extend(weights.iter().map(|lanes| lanes.0[lane]));
                Grid::absmax(scheme, &row)
            });
            let absmax: Vec<Grid> = absmax.collect();
            match self {
                Self::AbsMax => grids.extend(absmax),
                Self::Mse => {
                    grids.extend(search(scheme, &absmax, &weights, &importance));
                }
            }
        }
        grids
    }
}

#[cfg(test)]
#[expect(clippy::float_cmp, reason = "integers and these steps are exact")]
mod tests {
    use compress_core::Bits;
    use compress_numerics::Random;

    use super::*;

    fn grid(scaling: Scaling, scheme: Scheme, weights: &[f32], importance: &[f64]) -> Grid {
        let columns: Vec<&[f32]> = weights.chunks(1).collect();
        scaling.grids(scheme, &columns, importance)[0]
    }

    fn error(grid: &Grid, weights: &[f32], importance: &[f64]) -> f64 {
        let lost = |w: f64| w - grid.nearest(w) * grid.step();
        let pairs = weights.iter().zip(importance);
        pairs.map(|(w, h)| h * lost(f64::from(*w)).powi(2)).sum()
    }

    #[test]
    fn searching_never_does_worse_than_covering() {
        let mut random = Random(1);
        for bits in Bits::ALL {
            for symmetric in [true, false] {
                let scheme = Scheme {
                    symmetric,
                    ..Scheme::symmetric(bits, None)
                };
                let mut some = |n: usize| -> Vec<f32> { (0..n).map(|_| random.normal()).collect() };
                let (weights, importance) = (some(32), some(32));
                let importance: Vec<f64> =
                    importance.iter().map(|x| f64::from(*x).powi(2)).collect();
                let of = |scaling: Scaling| {
                    let grid = grid(scaling, scheme, &weights, &importance);
                    error(&grid, &weights, &importance)
                };
                assert!(of(Scaling::Mse) <= of(Scaling::AbsMax));
            }
        }
    }

    #[test]
    fn the_longer_side_goes_to_the_larger_weights() {
        let scheme = Scheme::symmetric(Bits::Two, None);
        let found = grid(Scaling::Mse, scheme, &[2.0, -1.0, 1.0, 0.0], &[1.0; 4]);
        assert_eq!(found.step(), -1.0);
        let found = grid(Scaling::Mse, scheme, &[0.0; 4], &[1.0; 4]);
        assert_eq!(found.nearest(0.0), 0.0);
    }

    #[test]
    fn a_row_has_the_grid_that_it_has_alone() {
        let mut random = Random(2);
        let columns: Vec<Vec<f32>> = (0..24)
            .map(|_| random.matrix(37, 1).data().to_vec())
            .collect();
        let importance: Vec<f64> = (0..24).map(|j| 1.0 / (1.0 + f64::from(j))).collect();
        for symmetric in [true, false] {
            let scheme = Scheme {
                symmetric,
                ..Scheme::symmetric(Bits::Three, None)
            };
            let all: Vec<&[f32]> = columns.iter().map(Vec::as_slice).collect();
            let together = Scaling::Mse.grids(scheme, &all, &importance);
            for (row, found) in together.iter().enumerate() {
                let alone: Vec<f32> = columns.iter().map(|column| column[row]).collect();
                let alone = grid(Scaling::Mse, scheme, &alone, &importance);
                assert_eq!(*found, alone);
            }
        }
    }
}
