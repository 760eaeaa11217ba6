//! The grid of a group, found by trying: clipping a few large weights makes all others finer.
//!
//! ```text
//! minimise Σ_j h_j (w_j − s · level_j(w_j / s))²   over s = t · s₀,   s₀ the covering scale
//! then     s = Σ h w level / Σ h level²             given the levels, until they stay
//! ```
//!
//! A symmetric grid has one more level below 0 than above; where the largest weights are positive, a
//! negative s serves them better, so both signs are tried.

use std::str::FromStr;

use compress_core::{Grid, Scheme};
use serde::{Deserialize, Serialize};

/// How many scales are tried of each sign, down to [`SMALLEST`] of the covering one.
const TRIED: usize = 32;

/// The least fraction of the covering scale that is tried.
const SMALLEST: f64 = 0.2;

/// How often the scale is fitted to the levels.
const FITS: usize = 4;

/// How the grid of a group is chosen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scaling {
    /// It reaches the largest weight.
    #[default]
    Covering,
    /// By least error.
    Searched,
}

impl FromStr for Scaling {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        match text {
            "covering" => Ok(Self::Covering),
            "searched" => Ok(Self::Searched),
            _ => Err("a scaling is covering or searched".into()),
        }
    }
}

impl Scaling {
    /// The grid of some weights, errors of which matter by `importance`.
    #[must_use]
    pub fn grid(self, scheme: Scheme, weights: &[f64], importance: &[f64]) -> Grid {
        match self {
            Self::Covering => Grid::covering(scheme, weights),
            Self::Searched => search(scheme, weights, importance),
        }
    }
}

fn search(scheme: Scheme, weights: &[f64], importance: &[f64]) -> Grid {
    let covering = Grid::covering(scheme, weights);
    let signs: &[f64] = if scheme.symmetric {
        &[1.0, -1.0]
    } else {
        &[1.0]
    };
    let mut best = (error(&covering, weights, importance), covering);
    for sign in signs {
        for i in 0..TRIED {
            let t = 1.0 - (1.0 - SMALLEST) * i as f64 / (TRIED - 1) as f64;
            let grid = shrunk(scheme, weights, &covering, sign * t);
            consider(&mut best, grid, weights, importance);
        }
    }
    for _ in 0..FITS {
        let before = best.1;
        let fitted = fit(scheme, &before, weights, importance);
        consider(&mut best, fitted, weights, importance);
        if best.1 == before {
            break;
        }
    }
    best.1
}

/// The covering grid drawn together by a factor.
fn shrunk(scheme: Scheme, weights: &[f64], covering: &Grid, by: f64) -> Grid {
    if scheme.symmetric {
        return Grid::new(scheme, (covering.step() * by) as f32, 0);
    }
    let least = weights.iter().copied().fold(0.0, f64::min);
    let greatest = weights.iter().copied().fold(0.0, f64::max);
    Grid::between(scheme, (least * by) as f32, (greatest * by) as f32)
}

/// The scale that suits the levels of a grid best.
fn fit(scheme: Scheme, grid: &Grid, weights: &[f64], importance: &[f64]) -> Grid {
    let (mut across, mut along) = (0.0, 0.0);
    for (w, h) in weights.iter().zip(importance) {
        let level = grid.nearest(*w);
        across += h * w * level;
        along += h * level * level;
    }
    if along > 0.0 && across != 0.0 {
        Grid::new(scheme, (across / along) as f32, grid.zero)
    } else {
        *grid
    }
}

fn consider(best: &mut (f64, Grid), grid: Grid, weights: &[f64], importance: &[f64]) {
    let error = error(&grid, weights, importance);
    if error < best.0 {
        *best = (error, grid);
    }
}

/// The weighted squared error of rounding, in four sums at a time so that they need not wait for each other.
fn error(grid: &Grid, weights: &[f64], importance: &[f64]) -> f64 {
    let inverse = grid.step().recip();
    let term = |w: f64, h: f64| {
        let lost = w - grid.step() * grid.level(w * inverse);
        h * lost * lost
    };
    let (weights, last_weights) = weights.as_chunks::<4>();
    let (importance, last_importance) = importance.as_chunks::<4>();
    let mut sums = [0.0; 4];
    for (w, h) in weights.iter().zip(importance) {
        for i in 0..4 {
            sums[i] += term(w[i], h[i]);
        }
    }
    let last = last_weights.iter().zip(last_importance);
    sums.iter().sum::<f64>() + last.map(|(w, h)| term(*w, *h)).sum::<f64>()
}

#[cfg(test)]
#[expect(clippy::float_cmp, reason = "levels and these steps are exact")]
mod tests {
    use compress_core::{Bits, testing::Random};

    use super::*;

    #[test]
    fn searching_never_does_worse_than_covering() {
        let mut random = Random(1);
        for bits in Bits::ALL {
            for symmetric in [true, false] {
                let scheme = Scheme {
                    symmetric,
                    ..Scheme::symmetric(bits, None)
                };
                let mut some =
                    |n: usize| -> Vec<f64> { (0..n).map(|_| f64::from(random.normal())).collect() };
                let (weights, importance) = (some(32), some(32));
                let importance: Vec<f64> = importance.iter().map(|x| x * x).collect();
                let of = |scaling: Scaling| {
                    error(
                        &scaling.grid(scheme, &weights, &importance),
                        &weights,
                        &importance,
                    )
                };
                assert!(of(Scaling::Searched) <= of(Scaling::Covering));
            }
        }
    }

    #[test]
    fn the_longer_side_goes_to_the_larger_weights() {
        let scheme = Scheme::symmetric(Bits::Two, None);
        let grid = Scaling::Searched.grid(scheme, &[2.0, -1.0, 1.0, 0.0], &[1.0; 4]);
        assert_eq!(grid.step(), -1.0);
        let grid = Scaling::Searched.grid(scheme, &[0.0; 4], &[1.0; 4]);
        assert_eq!(grid.nearest(0.0), 0.0);
    }
}
