//! The grid of a group: the numbers that a scale and a zero point can represent, and rounding to them.
//!
//! ```text
//! value = level · s,   level = code − zero,   level = round(clamp(w / s))
//! symmetric   s = max|w| / ((2^b − 1) / 2)        zero = 0
//! else        s = (max w − min w) / (2^b − 1)     zero = round(−2^(b−1) − min w / s)
//! ```
//!
//! Halves are rounded to even; max and min include 0, so that 0 is represented exactly. Scales are rounded to `f16`
//! at once, as they are stored, so that codes are chosen for the scale that a reader of the file will have.
//!
//! One level lies further below 0 than above; a negative scale turns that round, and [`Grid::absmax`] gives a positive
//! one always.

use half::f16;

use crate::Scheme;

/// Adding and subtracting 1.5 · 2⁵² rounds a small `f64` to the nearest integer, halves to even. Unlike a call of
/// `round_ties_even` it becomes two additions on every processor, which the compiler vectorises.
const ROUNDER: f64 = 6_755_399_441_055_744.0;

/// Equally spaced numbers, 2^b of them: (code − zero) · scale for every code.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Grid {
    /// s. May be negative: then the extra level of two's complement lies above 0.
    pub scale: f16,
    /// The code of the value 0; 0 for symmetric schemes.
    pub zero: i8,
    // Scale and ends of the levels in `f64`, as rounding loops use them for every number.
    step: f64,
    least: f64,
    greatest: f64,
}

impl Grid {
    /// The grid of a scale and a zero point. The magnitude of the scale is clamped to the positive finite `f16`
    /// numbers, so that groups of zeros and of huge numbers have a grid too.
    #[must_use]
    pub fn new(scheme: Scheme, scale: f32, zero: i8) -> Self {
        let magnitude = scale
            .abs()
            .clamp(f16::MIN_POSITIVE_SUBNORMAL.to_f32(), f16::MAX.to_f32());
        let scale = f16::from_f32(magnitude.copysign(scale));
        let level = |code: i8| f64::from(code) - f64::from(zero);
        Self {
            scale,
            zero,
            step: scale.to_f64(),
            least: level(scheme.bits.least()),
            greatest: level(scheme.bits.greatest()),
        }
    }

    /// The absmax grid: the finest that reaches the least and the greatest of some numbers.
    #[must_use]
    pub fn absmax(scheme: Scheme, numbers: &[f32]) -> Self {
        let numbers = || numbers.iter().copied();
        let steps = f32::from(scheme.bits.steps());
        // Both folds start at 0, so that 0 stays within the grid even where all numbers have one sign.
        let (least, greatest) = (numbers().fold(0.0, f32::min), numbers().fold(0.0, f32::max));
        if scheme.symmetric {
            // The convention of compressed-tensors: max|w| lands on level (2^b − 1) / 2, half a step from the
            // nearest one.
            return Self::new(scheme, greatest.max(-least) / (steps / 2.0), 0);
        }
        Self::between(scheme, least, greatest)
    }

    /// The asymmetric grid from `least` ≤ 0 to `greatest` ≥ 0, with the zero point rounded to a code.
    #[must_use]
    pub fn between(scheme: Scheme, least: f32, greatest: f32) -> Self {
        let steps = f32::from(scheme.bits.steps());
        // Divided before the subtraction: the range of two finite `f32` may overflow.
        let scale = Self::new(scheme, greatest / steps - least / steps, 0).scale;
        let (low, high) = (scheme.bits.least(), scheme.bits.greatest());
        // By the scale as it is stored, so that the least level lies where `least` does.
        let zero = f32::from(low) - least / scale.to_f32();
        let zero = zero.round_ties_even().clamp(low.into(), high.into());
        Self::new(scheme, scale.to_f32(), zero as i8)
    }

    /// The scale in `f64`.
    #[must_use]
    pub const fn step(&self) -> f64 {
        self.step
    }

    /// The level nearest to `x` steps: an integer, clamped to the grid. Halves go to even.
    #[must_use]
    pub fn level(&self, x: f64) -> f64 {
        // Comparisons instead of `clamp`: they become vector minima and maxima, and a NaN becomes the least level.
        let above = if x > self.least { x } else { self.least };
        let within = if above < self.greatest {
            above
        } else {
            self.greatest
        };
        (within + ROUNDER) - ROUNDER
    }

    /// The level nearest to a number; times [`step`](Self::step) it is the rounded number.
    #[must_use]
    pub fn nearest(&self, number: f64) -> f64 {
        self.level(number / self.step)
    }

    /// The code of a level, as it is packed: level + zero.
    #[must_use]
    pub fn code(&self, level: f64) -> i8 {
        (level + f64::from(self.zero)) as i8
    }
}

#[cfg(test)]
#[expect(clippy::float_cmp, reason = "levels and these steps are exact")]
mod tests {
    use super::*;
    use crate::Bits;

    fn four(symmetric: bool) -> Scheme {
        Scheme {
            symmetric,
            ..Scheme::symmetric(Bits::Four, None)
        }
    }

    #[test]
    fn halves_are_rounded_to_even_and_what_is_beyond_is_clamped() {
        let grid = Grid::new(four(true), 1.0, 0);
        let levels = [0.5, 1.5, -0.5, -2.5, 100.0, -100.0].map(|x| grid.nearest(x));
        assert_eq!(levels, [0.0, 2.0, 0.0, -2.0, 7.0, -8.0]);
        assert_eq!(grid.code(-8.0), -8);
    }

    #[test]
    fn a_covering_grid_reaches_the_ends() {
        let grid = Grid::absmax(four(true), &[0.25, -3.75, 1.0]);
        assert_eq!(grid.step(), 0.5);
        let grid = Grid::absmax(four(false), &[-1.0, 6.5]);
        assert_eq!((grid.step(), grid.zero), (0.5, -6));
        assert_eq!(grid.code(grid.nearest(-1.0)), -8);
        assert_eq!(grid.code(grid.nearest(6.5)), 7);
    }

    #[test]
    fn zeros_and_giants_have_a_grid() {
        for symmetric in [true, false] {
            let zeros = Grid::absmax(four(symmetric), &[0.0; 4]);
            assert!(zeros.step() > 0.0 && zeros.nearest(0.0) == 0.0);
            let giants = Grid::absmax(four(symmetric), &[f32::MAX, -1e30]);
            assert!(giants.step().is_finite());
        }
    }
}
