//! The search for a scale, 16 rows side by side.
//!
//! Written as loops over arrays of as many numbers as vector registers hold, which the compiler turns into vector
//! instructions; [`vectorized`] picks the widest that the processor has. Every lane does the same operations in the
//! same order whatever the others hold, so that a row's grid does not depend on its neighbours.

#![expect(
    clippy::inline_always,
    reason = "only what is inlined into the dispatch gets its instructions"
)]

use compress_core::{Grid, Scheme, f16};
use compress_numerics::kernels::vectorized;
use half::slice::HalfFloatSliceExt as _;

use crate::grids::nearest;

/// Rows per step: two AVX2 registers of eight.
pub const LANES: usize = 16;

/// One number per row.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Lanes(pub [f32; LANES]);

/// Scales that are tried for each sign, evenly spaced from the absmax one down to [`SMALLEST`] of it.
const TRIED: usize = 32;

/// The smallest scale that is tried, as a fraction of the absmax one.
const SMALLEST: f32 = 0.2;

/// Least-squares fits of the scale to its levels after the search; it stops as soon as nothing changes.
const FITS: usize = 4;

/// One candidate grid per row.
#[derive(Clone, Copy)]
struct Candidates {
    /// s, one of the `f16` numbers.
    step: Lanes,
    /// The zero point; 0 where symmetric.
    zero: Lanes,
}

/// The weights of a group in some rows, column after column, and the importance of its columns.
struct Group<'a> {
    weights: &'a [Lanes],
    importance: &'a [f32],
    scheme: Scheme,
}

/// The grids of least weighted squared error, one for each of `absmax`, at most [`LANES`]; none is worse than its
/// absmax grid.
pub fn search(scheme: Scheme, absmax: &[Grid], weights: &[Lanes], importance: &[f32]) -> Vec<Grid> {
    let group = Group {
        weights,
        importance,
        scheme,
    };
    // Lanes beyond the last row search a group of some earlier rows' weights; their result is dropped.
    let mut start = Candidates {
        step: Lanes([1.0; LANES]),
        zero: Lanes::default(),
    };
    for (lane, grid) in absmax.iter().enumerate() {
        start.step.0[lane] = grid.scale.to_f32();
        start.zero.0[lane] = f32::from(grid.zero);
    }
    let best = vectorized(
        #[inline(always)]
        || group.best(start),
    );
    let found = best.step.0.iter().zip(best.zero.0);
    let found = found.map(|(step, zero)| Grid::new(scheme, *step, zero as i8));
    found.take(absmax.len()).collect()
}

impl Group<'_> {
    #[inline(always)]
    fn best(&self, absmax: Candidates) -> Candidates {
        // The absmax grid is the first candidate, so that the result is never worse.
        let mut best = (self.error(&absmax), absmax);
        // An asymmetric grid covers both sides as they are; turning it round changes nothing.
        let signs: &[f32] = if self.scheme.symmetric {
            &[1.0, -1.0]
        } else {
            &[1.0]
        };
        let ends = self.ends();
        for sign in signs {
            for i in 0..TRIED {
                let t = 1.0 - (1.0 - SMALLEST) * i as f32 / (TRIED - 1) as f32;
                // The zero point depends on the range, so an asymmetric candidate is built from clipped ends.
                let drawn = if self.scheme.symmetric {
                    Candidates {
                        step: halves(times(absmax.step, sign * t)),
                        zero: absmax.zero,
                    }
                } else {
                    self.between(times(ends.0, t), times(ends.1, t))
                };
                self.consider(&mut best, drawn);
            }
        }
        for _ in 0..FITS {
            let before = best.1.step;
            let fitted = self.fitted(best.1);
            self.consider(&mut best, fitted);
            if best.1.step == before {
                break;
            }
        }
        best.1
    }

    /// The least and the greatest weight of each row, 0 included, so that 0 stays within the grid.
    #[inline(always)]
    fn ends(&self) -> (Lanes, Lanes) {
        let (mut least, mut greatest) = (Lanes::default(), Lanes::default());
        for w in self.weights {
            for i in 0..LANES {
                least.0[i] = least.0[i].min(w.0[i]);
                greatest.0[i] = greatest.0[i].max(w.0[i]);
            }
        }
        (least, greatest)
    }

    /// [`Grid::between`] of each row.
    #[inline(always)]
    fn between(&self, least: Lanes, greatest: Lanes) -> Candidates {
        let bits = self.scheme.bits;
        let steps = f32::from(bits.steps());
        let (low, high) = (f32::from(bits.least()), f32::from(bits.greatest()));
        let mut step = Lanes::default();
        for i in 0..LANES {
            step.0[i] = greatest.0[i] / steps - least.0[i] / steps;
        }
        let step = halves(step);
        let mut zero = Lanes::default();
        for i in 0..LANES {
            zero.0[i] = nearest(low - least.0[i] / step.0[i], low, high);
        }
        Candidates { step, zero }
    }

    /// The least and the greatest level of each row.
    #[inline(always)]
    fn reach(&self, grid: &Candidates) -> (Lanes, Lanes) {
        let bits = self.scheme.bits;
        let (low, high) = (f32::from(bits.least()), f32::from(bits.greatest()));
        let (mut least, mut greatest) = (Lanes::default(), Lanes::default());
        for i in 0..LANES {
            least.0[i] = low - grid.zero.0[i];
            greatest.0[i] = high - grid.zero.0[i];
        }
        (least, greatest)
    }

    /// The least-squares scale for the levels that a grid gives: Σ h w level / Σ h level².
    #[inline(always)]
    fn fitted(&self, grid: Candidates) -> Candidates {
        let (inverse, (least, greatest)) = (inverse(grid.step), self.reach(&grid));
        let (mut across, mut along) = (Lanes::default(), Lanes::default());
        for (w, h) in self.weights.iter().zip(self.importance) {
            for i in 0..LANES {
                let integer = nearest(w.0[i] * inverse.0[i], least.0[i], greatest.0[i]);
                across.0[i] += h * w.0[i] * integer;
                along.0[i] += h * integer * integer;
            }
        }
        let mut step = grid.step;
        for i in 0..LANES {
            // A scale of 0 is no scale; a group of zeros keeps the one that it has.
            if along.0[i] > 0.0 && across.0[i] != 0.0 {
                step.0[i] = across.0[i] / along.0[i];
            }
        }
        let step = halves(step);
        Candidates { step, ..grid }
    }

    /// Takes over, row by row, the candidates that are better. Strictly, so that the first of equals wins everywhere.
    #[inline(always)]
    fn consider(&self, best: &mut (Lanes, Candidates), other: Candidates) {
        let error = self.error(&other);
        for i in 0..LANES {
            if error.0[i] < best.0.0[i] {
                best.0.0[i] = error.0[i];
                best.1.step.0[i] = other.step.0[i];
                best.1.zero.0[i] = other.zero.0[i];
            }
        }
    }

    /// The weighted squared error of each row, `Σ_j h_j (w_j − s · level_j)²`.
    #[inline(always)]
    fn error(&self, grid: &Candidates) -> Lanes {
        let (inverse, (least, greatest)) = (inverse(grid.step), self.reach(grid));
        let mut sum = Lanes::default();
        for (w, h) in self.weights.iter().zip(self.importance) {
            for i in 0..LANES {
                let integer = nearest(w.0[i] * inverse.0[i], least.0[i], greatest.0[i]);
                let lost = w.0[i] - grid.step.0[i] * integer;
                sum.0[i] += h * lost * lost;
            }
        }
        sum
    }
}

#[inline(always)]
fn times(mut numbers: Lanes, by: f32) -> Lanes {
    numbers.0.iter_mut().for_each(|x| *x *= by);
    numbers
}

#[inline(always)]
fn inverse(mut numbers: Lanes) -> Lanes {
    numbers.0.iter_mut().for_each(|x| *x = x.recip());
    numbers
}

/// The nearest numbers that a scale can be: `f16`, neither 0 nor infinite.
#[inline(always)]
fn halves(mut scales: Lanes) -> Lanes {
    let (least, greatest) = (f16::MIN_POSITIVE_SUBNORMAL.to_f32(), f16::MAX.to_f32());
    for x in &mut scales.0 {
        *x = x.abs().clamp(least, greatest).copysign(*x);
    }
    let mut halves = [f16::ZERO; LANES];
    halves.convert_from_f32_slice(&scales.0);
    halves.convert_to_f32_slice(&mut scales.0);
    scales
}
