//! The grids of a band of rows, group after group, with those of neighbouring rows side by side for vector
//! instructions.
//!
//! The arithmetic is that of [`Grid`]: `value = level · s`, levels clamped to the range of the codes less the zero
//! point, halves to even. It is repeated here for whole columns, in which a call per number would prevent vectors.

#![expect(
    clippy::inline_always,
    reason = "only what is inlined into the dispatch gets its instructions"
)]

use compress_core::{Grid, Scheme, f16};

/// Adding and subtracting 1.5 · 2²³ rounds a small `f32` to the nearest integer, halves to even, in two vectorisable
/// additions.
pub const ROUNDER: f32 = 12_582_912.0;

/// The same for `f64`: 1.5 · 2⁵².
const WIDE_ROUNDER: f64 = 6_755_399_441_055_744.0;

/// Grids of m rows, one group after the other.
#[derive(Clone, Debug)]
pub struct Grids {
    rows: usize,
    scheme: Scheme,
    steps: Vec<f32>, // groups × m, each an f16
    zeros: Vec<f32>, // groups × m, 0 where symmetric
}

/// The grids of all rows for one group; levels lie between `least` and `greatest` less the zero point.
#[derive(Clone, Copy)]
pub struct Line<'a> {
    /// s of each row.
    pub steps: &'a [f32],
    /// The zero point of each row.
    pub zeros: &'a [f32],
    /// The least code, −2^(b−1).
    pub least: f32,
    /// The greatest code, 2^(b−1) − 1.
    pub greatest: f32,
}

impl Grids {
    /// No group yet, for so many rows.
    pub const fn new(rows: usize, scheme: Scheme) -> Self {
        Self {
            rows,
            scheme,
            steps: Vec::new(),
            zeros: Vec::new(),
        }
    }

    /// Appends a group: one grid per row.
    pub fn extend(&mut self, grids: impl IntoIterator<Item = Grid>) {
        for grid in grids {
            self.steps.push(grid.scale.to_f32());
            self.zeros.push(f32::from(grid.zero));
        }
    }

    /// The grids of one group; empty beyond the last.
    pub fn of(&self, group: usize) -> Line<'_> {
        let places = group * self.rows..(group + 1) * self.rows;
        Line {
            steps: self.steps.get(places.clone()).unwrap_or_default(),
            zeros: self.zeros.get(places).unwrap_or_default(),
            least: f32::from(self.scheme.bits.least()),
            greatest: f32::from(self.scheme.bits.greatest()),
        }
    }

    /// The scales of one group, mutable, and its zero points.
    pub fn of_mut(&mut self, group: usize) -> (&mut [f32], &[f32]) {
        let places = group * self.rows..(group + 1) * self.rows;
        let steps = self.steps.get_mut(places.clone()).unwrap_or_default();
        (steps, self.zeros.get(places).unwrap_or_default())
    }

    /// Scales and zero points of one row, group after group.
    pub fn of_row(&self, row: usize) -> impl Iterator<Item = (f16, i8)> {
        let pairs = self.steps.iter().zip(&self.zeros);
        let pairs = pairs.skip(row).step_by(self.rows.max(1));
        pairs.map(|(step, zero)| (f16::from_f32(*step), *zero as i8))
    }
}

impl Line<'_> {
    /// Rounds one weight of each row to its nearest level, and returns the errors w − level · scale.
    #[inline(always)]
    pub fn round(self, weights: &[f64], integers: &mut [f32], errors: &mut [f64]) {
        let grids = self.steps.iter().zip(self.zeros);
        let out = integers.iter_mut().zip(errors);
        for ((w, (step, zero)), (integer, error)) in weights.iter().zip(grids).zip(out) {
            let (step, zero) = (f64::from(*step), f64::from(*zero));
            let least = f64::from(self.least) - zero;
            let greatest = f64::from(self.greatest) - zero;
            // As `Grid::level` does, written out for all rows at once.
            let nearest = w / step;
            let above = if nearest > least { nearest } else { least };
            let within = if above < greatest { above } else { greatest };
            let nearest = (within + WIDE_ROUNDER) - WIDE_ROUNDER;
            *integer = nearest as f32;
            *error = w - nearest * step;
        }
    }

    /// Coordinate descent: moves the level of one column in each row to where the error is least with all else held,
    /// given the slope `(R H)[:, j]` and the curvature `H[j, j]`; `moved` is by how much each value changes.
    #[inline(always)]
    pub fn refine(self, slope: &[f32], curvature: f32, integers: &mut [f32], moved: &mut [f32]) {
        // Of the curvature, once for all rows; the step differs from row to row.
        let inverse = curvature.recip();
        let grids = self.steps.iter().zip(self.zeros);
        let out = integers.iter_mut().zip(moved);
        for ((g, (step, zero)), (integer, moved)) in slope.iter().zip(grids).zip(out) {
            let better = *integer + g * inverse / step;
            let better = nearest(better, self.least - zero, self.greatest - zero);
            *moved = (better - *integer) * step;
            *integer = better;
        }
    }
}

/// x rounded to the nearest integer, halves to even, within two others.
#[inline(always)]
pub fn nearest(x: f32, least: f32, greatest: f32) -> f32 {
    let above = if x > least { x } else { least };
    let within = if above < greatest { above } else { greatest };
    (within + ROUNDER) - ROUNDER
}
