//! The options of rounding and correcting one weight, as a plan's steps have them.
//!
//! | option | what it buys | cost |
//! |---|---|---|
//! | `scheme` | b bits per code, an `f16` scale per g inputs | b + 16 / g bits per weight |
//! | `quantizer: gptq` | errors that later inputs make good | H, m·n² operations |
//! | `act_order` | the largest inputs are rounded first | scales chosen before any error is known |
//! | `scaling: mse` | clipping where it lowers the error | some 70 evaluations of each group |
//! | `refinements` | scales and codes that fit each other under H | H, 4·m·n² operations each |
//! | `rank`, `keep` | a correction A · B of the error | 16 or 8 bits times r (m + n) |
//! | `alternations` | codes that fit the correction | a whole round each |

use std::str::FromStr;

use compress_core::{Error, Result, Scheme, Shape, Site};
use serde::{Deserialize, Serialize};

use crate::{Keep, Scaling};

/// The algorithm that assigns codes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Quantizer {
    /// Round to nearest (RTN): each number by itself.
    #[default]
    Nearest,
    /// GPTQ (arXiv 2210.17323): column by column, the error made good by later columns. Needs H.
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

/// Most refinements that a plan may ask for; after a few of them no code moves any more.
const MOST_REFINEMENTS: usize = 1000;

/// Most alternations that a plan may ask for.
const MOST_ALTERNATIONS: usize = 1000;

/// All choices for one weight; the fields of a plan's `options`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RoundingOptions {
    /// Bits per code, group size, zero points.
    pub scheme: Scheme,
    /// The algorithm that assigns codes.
    pub quantizer: Quantizer,
    /// Whether GPTQ rounds inputs in the order of falling H[j, j] (act-order) rather than in their own. Groups stay
    /// those of neighbouring inputs.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub act_order: bool,
    /// How the scale of a group is chosen.
    pub scaling: Scaling,
    /// Passes of coordinate descent over scales and codes under H afterwards; each takes four times as long as GPTQ.
    pub refinements: usize,
    /// Rank r of the correction A · B, at most min(m, n); 0 for none.
    pub rank: usize,
    /// The number format of the correction's factors.
    pub keep: Keep,
    /// How often W − A · B is quantised again and corrected again; the best round is kept.
    pub alternations: usize,
}

impl RoundingOptions {
    /// Round to nearest under absmax grids, without correction: needs no data.
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

    /// Whether inputs are rounded in act-order, which GPTQ alone knows.
    #[must_use]
    pub fn in_act_order(&self) -> bool {
        self.act_order && self.quantizer == Quantizer::Gptq
    }

    /// Whether codes or scales depend on H: under GPTQ, searched scales and refinement.
    #[must_use]
    pub fn needs_hessian(&self) -> bool {
        self.quantizer == Quantizer::Gptq || self.scaling == Scaling::Mse || self.refinements > 0
    }

    /// Fails where the group size does not divide the inputs, the rank exceeds min(m, n), or a count is so large that a
    /// run would not end.
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

    /// Bits per weight of codes, scales, zero points and correction: b + 16 / g + 16 r (m + n) / (m n), for a symmetric
    /// grid and factors in `f16`.
    #[must_use]
    pub fn bits_per_weight(&self, shape: Shape) -> f64 {
        self.scheme.bits_per_weight(shape) + self.keep.bits_per_weight(shape, self.rank)
    }
}
