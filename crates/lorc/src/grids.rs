//! The grids of a band of rows, so laid out that those of neighbouring rows are neighbours.

#![expect(
    clippy::inline_always,
    reason = "only what is inlined into the dispatch gets its instructions"
)]

use compress_core::{Grid, Scheme, f16};

/// Adding and subtracting it rounds a small `f32` to the nearest integer, halves to even: 1.5 · 2²³.
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

/// The grids of all rows in one group.
#[derive(Clone, Copy)]
pub struct Line<'a> {
    pub steps: &'a [f32],
    pub zeros: &'a [f32],
    pub least: f32,
    pub greatest: f32,
}

impl Grids {
    /// Of no group yet.
    pub const fn new(rows: usize, scheme: Scheme) -> Self {
        Self {
            rows,
            scheme,
            steps: Vec::new(),
            zeros: Vec::new(),
        }
    }

    /// Appends the grids of a group, row after row.
    pub fn extend(&mut self, grids: impl IntoIterator<Item = Grid>) {
        for grid in grids {
            self.steps.push(grid.scale.to_f32());
            self.zeros.push(f32::from(grid.zero));
        }
    }

    /// Those of one group.
    pub fn of(&self, group: usize) -> Line<'_> {
        let places = group * self.rows..(group + 1) * self.rows;
        Line {
            steps: self.steps.get(places.clone()).unwrap_or_default(),
            zeros: self.zeros.get(places).unwrap_or_default(),
            least: f32::from(self.scheme.bits.least()),
            greatest: f32::from(self.scheme.bits.greatest()),
        }
    }

    /// The steps of one group, to be changed, and the zero points.
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
    /// The integers nearest to some weights, one of each row, and what each loses.
    #[inline(always)]
    pub fn round(self, weights: &[f64], integers: &mut [f32], errors: &mut [f64]) {
        let grids = self.steps.iter().zip(self.zeros);
        let out = integers.iter_mut().zip(errors);
        for ((w, (step, zero)), (integer, error)) in weights.iter().zip(grids).zip(out) {
            let (step, zero) = (f64::from(*step), f64::from(*zero));
            let least = f64::from(self.least) - zero;
            let greatest = f64::from(self.greatest) - zero;
            let nearest = w / step;
            let above = if nearest > least { nearest } else { least };
            let within = if above < greatest { above } else { greatest };
            let nearest = (within + WIDE_ROUNDER) - WIDE_ROUNDER;
            *integer = nearest as f32;
            *error = w - nearest * step;
        }
    }

    /// Moves integers of one column to where the error is least, given its slope by each weight and its
    /// curvature; by how much each value moves.
    #[inline(always)]
    pub fn refine(self, slope: &[f32], curvature: f32, integers: &mut [f32], moved: &mut [f32]) {
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

/// The integer nearest to x within two others.
#[inline(always)]
pub fn nearest(x: f32, least: f32, greatest: f32) -> f32 {
    let above = if x > least { x } else { least };
    let within = if above < greatest { above } else { greatest };
    (within + ROUNDER) - ROUNDER
}
