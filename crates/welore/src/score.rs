//! The score of a rank: the numbers that one threshold runs over, for all weights together.
//!
//! ```text
//! minmax   (σᵢ − σ_min) / (σ_max − σ_min)     energy   λᵢ / Σλ / (m + n)     loss   λᵢ / (m + n)
//! ```

use std::str::FromStr;

use compress_core::Shape;
use compress_svd::Norm;
use serde::Serialize;

/// The score of a rank.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Score {
    /// The paper's (equation 4): singular values, min-max normalised within the weight. Needs no data.
    MinMax,
    /// The share of the energy of a weight's outputs on a calibration text, per parameter. Needs H.
    Energy,
    /// The estimated change of the loss, per parameter. Needs H and G. Not normalised: loss compares across weights.
    #[default]
    Loss,
}

impl Score {
    /// The norm whose spectrum it is made of, and in which the weights are cut.
    #[must_use]
    pub const fn norm(self) -> Norm {
        match self {
            Self::MinMax => Norm::Plain,
            Self::Energy => Norm::Activation,
            Self::Loss => Norm::Kronecker,
        }
    }

    /// The score of each rank, largest first, from a spectrum λ of squared singular values, largest first.
    #[must_use]
    pub fn of(self, spectrum: &[f64], shape: Shape) -> Vec<f64> {
        let per_parameter = shape.low_rank_size(1) as f64;
        match self {
            Self::MinMax => {
                let root = |x: Option<&f64>| x.copied().unwrap_or_default().sqrt();
                let (most, least) = (root(spectrum.first()), root(spectrum.last()));
                // A flat spectrum has no least rank: all are worth as much as any weight's first.
                let range = most - least;
                let score = |x: &f64| {
                    if range > 0.0 {
                        (x.sqrt() - least) / range
                    } else {
                        1.0
                    }
                };
                spectrum.iter().map(score).collect()
            }
            Self::Energy => {
                let all: f64 = spectrum.iter().sum();
                // A weight without energy has scores of 0, not NaN.
                let all = if all > 0.0 { all } else { 1.0 };
                spectrum.iter().map(|x| x / all / per_parameter).collect()
            }
            Self::Loss => spectrum.iter().map(|x| x / per_parameter).collect(),
        }
    }
}

impl FromStr for Score {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "minmax" => Ok(Self::MinMax),
            "energy" => Ok(Self::Energy),
            "loss" => Ok(Self::Loss),
            _ => Err("a score is minmax, energy or loss".into()),
        }
    }
}
