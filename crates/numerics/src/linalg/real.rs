//! The two precisions.

use faer::traits::RealField;

/// The two precisions of a matrix: `f32` and `f64`.
pub trait Real: RealField + Copy {
    /// From a weight's number.
    fn from_f32(x: f32) -> Self;
    /// To a factor's number.
    fn to_f32(self) -> f32;
    /// Exactly.
    fn to_f64(self) -> f64;
}

impl Real for f32 {
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
