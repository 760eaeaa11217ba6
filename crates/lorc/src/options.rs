//! How a weight is rounded and compensated.

use std::str::FromStr;

use compress_core::{Error, Result, Scheme, Shape, Site};
use serde::{Deserialize, Serialize};

use crate::{Keep, Scaling};

/// How weights get their codes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Quantizer {
    /// Round to nearest.
    #[default]
    Nearest,
    /// GPTQ.
    Gptq,
}

impl FromStr for Quantizer {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        match text {
            "nearest" => Ok(Self::Nearest),
            "gptq" => Ok(Self::Gptq),
            _ => Err("a quantizer is nearest or gptq".into()),
        }
    }
}

/// Weights are refined so often at most: after a few times nothing changes any more.
const MOST_REFINEMENTS: usize = 1000;

/// Corrections are made anew so often at most.
const MOST_ALTERNATIONS: usize = 1000;

/// All that there is to choose.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RoundingOptions {
    /// Bits, groups, symmetry.
    pub scheme: Scheme,
    /// How weights get their codes.
    pub quantizer: Quantizer,
    /// Whether GPTQ rounds inputs in the order of falling H[j, j] (act-order) rather than as they come.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub act_order: bool,
    /// How groups get their scales.
    pub scaling: Scaling,
    /// How often scales and codes are fitted to the Hessian afterwards.
    pub refinements: usize,
    /// Rank of the correction; 0 for none.
    pub rank: usize,
    /// How the correction's factors are kept.
    pub keep: Keep,
    /// How often the weight less its correction is quantised again.
    pub alternations: usize,
}

impl RoundingOptions {
    /// Round to nearest, nothing else.
    #[must_use]
    pub fn nearest(scheme: Scheme) -> Self {
        Self {
            scheme,
            quantizer: Quantizer::Nearest,
            act_order: false,
            scaling: Scaling::AbsMax,
            refinements: 0,
            rank: 0,
            keep: Keep::Half,
            alternations: 0,
        }
    }

    /// Whether codes or scales look at what enters the weight.
    #[must_use]
    pub fn needs_hessian(&self) -> bool {
        self.quantizer == Quantizer::Gptq || self.scaling == Scaling::Mse || self.refinements > 0
    }

    /// Refuses numbers that would keep a run busy for ever, and groups or ranks that a weight cannot have.
    pub fn check(&self, site: Site, shape: Shape) -> Result<()> {
        self.scheme.check(shape)?;
        let (rank, limit) = (self.rank, shape.full_rank());
        if rank > limit {
            return Err(Error::Rank {
                site,
                rank,
                limit,
                shape,
            });
        }
        let counts = [
            ("refinements", self.refinements, MOST_REFINEMENTS),
            ("alternations", self.alternations, MOST_ALTERNATIONS),
        ];
        match counts.into_iter().find(|(_, found, limit)| found > limit) {
            None => Ok(()),
            Some((what, found, limit)) => Err(Error::TooMany {
                site,
                what,
                found,
                limit,
            }),
        }
    }

    /// Bits per weight of codes, scales, zero points and correction.
    #[must_use]
    pub fn bits_per_weight(&self, shape: Shape) -> f64 {
        self.scheme.bits_per_weight(shape) + self.keep.bits_per_weight(shape, self.rank)
    }
}
