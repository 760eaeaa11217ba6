//! The two precisions that linear algebra is generic over.
//!
//! `f64` where errors or spectra are compared, `f32` where a network's numbers are multiplied.

use faer::traits::RealField;

/// A precision of matrices: `f32` or `f64`.
pub trait Real: RealField + Copy {
    /// The distance from 1 to the next number.
    const EPSILON: f64;

    /// From `f32`, exactly.
    fn from_f32(x: f32) -> Self;
    /// Rounded from `f64`.
    fn from_f64(x: f64) -> Self;
    /// Rounded to `f32`.
    fn to_f32(self) -> f32;
    /// To `f64`, exactly.
    fn to_f64(self) -> f64;
}

impl Real for f32 {
    const EPSILON: f64 = Self::EPSILON as f64;

    fn from_f64(x: f64) -> Self {
        x as Self
    }

    fn from_f32(x: f32) -> Self {
        x
    }

    fn to_f32(self) -> f32 {
        self
    }

    fn to_f64(self) -> f64 {
        f64::from(self)
    }
}

impl Real for f64 {
    const EPSILON: f64 = Self::EPSILON;

    fn from_f64(x: f64) -> Self {
        x
    }

    fn from_f32(x: f32) -> Self {
        Self::from(x)
    }

    fn to_f32(self) -> f32 {
        self as f32
    }

    fn to_f64(self) -> f64 {
        self
    }
}
