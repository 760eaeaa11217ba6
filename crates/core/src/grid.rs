//! The numbers that a group of weights can be rounded to.
//!
//! ```text
//! value = level · s,   level = code − zero,   level = round(clamp(w / s))
//! symmetric   s = max|w| / ((2^b − 1) / 2)        zero = 0
//! else        s = (max w − min w) / (2^b − 1)     zero = round(−2^(b−1) − min w / s)
//! ```
//!
//! Halves are rounded to even; max and min include 0, so that 0 stays 0. Scales are kept in `f16`, as
//! they are stored.

use half::f16;

use crate::Scheme;

/// Adding and subtracting it rounds a small `f64` to the nearest integer, halves to even: 1.5 · 2⁵².
const ROUNDER: f64 = 6_755_399_441_055_744.0;

/// Equally spaced numbers around 0, as many as the bits have codes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Grid {
    /// s
    pub scale: f16,
    /// The code of 0.
    pub zero: i8,
    step: f64,
    least: f64,
    greatest: f64,
}

impl Grid {
    /// The grid of a scale and a zero point; a scale that is no positive or negative `f16` becomes the
    /// nearest that is.
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

    /// The finest grid that reaches from the least of some numbers to the greatest.
    #[must_use]
    pub fn absmax(scheme: Scheme, numbers: &[f32]) -> Self {
        let numbers = || numbers.iter().copied();
        let steps = f32::from(scheme.bits.steps());
        let (least, greatest) = (numbers().fold(0.0, f32::min), numbers().fold(0.0, f32::max));
        if scheme.symmetric {
            return Self::new(scheme, greatest.max(-least) / (steps / 2.0), 0);
        }
        Self::between(scheme, least, greatest)
    }

    /// The grid with zero point that reaches from `least` ≤ 0 to `greatest` ≥ 0.
    #[must_use]
    pub fn between(scheme: Scheme, least: f32, greatest: f32) -> Self {
        let steps = f32::from(scheme.bits.steps());
        let scale = Self::new(scheme, greatest / steps - least / steps, 0).scale;
        let (low, high) = (scheme.bits.least(), scheme.bits.greatest());
        let zero = f32::from(low) - least / scale.to_f32();
        let zero = zero.round_ties_even().clamp(low.into(), high.into());
        Self::new(scheme, scale.to_f32(), zero as i8)
    }

    /// The scale as a number.
    #[must_use]
    pub const fn step(&self) -> f64 {
        self.step
    }

    /// The level nearest to `x` steps: an integer.
    #[must_use]
    pub fn level(&self, x: f64) -> f64 {
        let above = if x > self.least { x } else { self.least };
        let within = if above < self.greatest {
            above
        } else {
            self.greatest
        };
        (within + ROUNDER) - ROUNDER
    }

    /// The level nearest to a number.
    #[must_use]
    pub fn nearest(&self, number: f64) -> f64 {
        self.level(number / self.step)
    }

    /// The code of a level.
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
