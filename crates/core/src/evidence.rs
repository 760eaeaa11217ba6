//! Calibration statistics: what one pass over a text measures for each layer input and weight.
//!
//! ```text
//! H = Σ x xᵀ       in × in      over the tokens' layer inputs x
//! H = Σ a x xᵀ     in × in      the same weighted by attention mass a, for keys and values
//! G = Σ g gᵀ       out × out    over the gradients g of the loss by a weight's outputs
//! f_j = Σ_i (∂L/∂w_ij)²         in, the Fisher information of each input
//! d_l = mean KL(p_l ‖ p_(l−1))   of the logit lens behind blocks l and l − 1
//! ```
//!
//! H takes a forward pass; G and f take a backward pass as well. Sums are accumulated in `f64`, not averaged: methods
//! damp H relative to its mean diagonal.

use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::{LayerInput, Result, Role, Site, Symmetric};

/// The weight of each token in the H of a layer input.
///
/// Some tokens, often the first, receive most of the attention of nearly all later ones: attention sinks. An error of
/// their keys and values costs hundreds of times as much as at another token. Σ x xᵀ counts a sink as one token of
/// many, so that a method that minimises the error under it moves the error of the others to the sinks. Weights by
/// attention are in the spirit of RSQ (Sung et al., arXiv 2503.01820).
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum TokenWeights {
    /// All tokens alike: H = Σ x xᵀ, as in GPTQ, LoRC and SVD-LLM.
    #[default]
    #[serde(alias = "alike")]
    Uniform,
    /// Key and value weights by attention mass: H = Σ a x xᵀ, where a is the sum of squared attention weights
    /// that a token receives from all heads and queries. Other weights uniformly.
    #[serde(alias = "attended")]
    Attention,
}

impl TokenWeights {
    /// Whether a site's H is the attention-weighted one.
    #[must_use]
    pub const fn are_weighted(self, site: Site) -> bool {
        matches!(
            (self, site.role()),
            (Self::Attention, Some(Role::Key | Role::Value))
        )
    }
}

impl FromStr for TokenWeights {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        match text {
            // The second of each is an earlier name, which plans and scripts may still have.
            "uniform" | "alike" => Ok(Self::Uniform),
            "attention" | "attended" => Ok(Self::Attention),
            _ => Err("tokens are weighted by attention, or uniform".into()),
        }
    }
}

/// The measurements that a method needs. They are data, so that the pipeline can take the union over all steps and
/// gather everything in one pass over the text.
#[expect(
    clippy::struct_excessive_bools,
    reason = "each kind of evidence is needed or not, whatever the others"
)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Needs {
    /// H = Σ x xᵀ of every layer input: one forward pass.
    pub activations: bool,
    /// Σ a x xᵀ of the layer inputs of keys and values ([`TokenWeights::Attention`]): the same forward pass.
    pub attention_weighted: bool,
    /// G = Σ g gᵀ of every weight, and the Fisher information of its inputs: a backward pass as well.
    pub gradients: bool,
    /// How far neighbouring blocks are apart by the logit lens: the forward pass, and the head behind every block.
    pub lens: bool,
}

impl Needs {
    /// No calibration text is needed.
    pub const NOTHING: Self = Self {
        activations: false,
        attention_weighted: false,
        gradients: false,
        lens: false,
    };

    /// The union of two sets of needs; a pass over the text serves both.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self {
            activations: self.activations || other.activations,
            attention_weighted: self.attention_weighted || other.attention_weighted,
            gradients: self.gradients || other.gradients,
            lens: self.lens || other.lens,
        }
    }
}

/// A source of measurements, one at a time. Sums run over all tokens of the calibration text.
///
/// Every method fails where the measurement was not taken or cannot be read. It may be called from several threads at
/// the same time.
pub trait Evidence: Sync {
    /// H = Σ x xᵀ over a layer input; in × in, with in that of the weights that read it.
    fn activations(&self, input: LayerInput) -> Result<Symmetric>;

    /// Σ a x xᵀ over the layer input of a block's keys and values, in × in; a is the sum of squared attention weights
    /// that a token receives ([`TokenWeights::Attention`]).
    fn attention_weighted(&self, layer: usize) -> Result<Symmetric>;

    /// G = Σ g gᵀ over the gradients g of the loss by the outputs of a weight; out × out.
    fn output_gradients(&self, site: Site) -> Result<Symmetric>;

    /// The Fisher information of each input of a weight: Σ over samples and outputs of the squared gradient of a
    /// sample's mean loss by the weight's elements; a vector of length in.
    fn input_fisher(&self, site: Site) -> Result<Vec<f64>>;

    /// How far a block is from the one before it by the logit lens: the mean over all tokens of KL(p ‖ q), in nats, with p
    /// and q what head and last norm make of the residual streams behind this block and before it. Layers from 1 on.
    fn lens(&self, layer: usize) -> Result<f64>;

    /// A spectrum that was kept by an earlier run over the same evidence, in the norm of this name; none where there is
    /// no such.
    fn spectrum(&self, _site: Site, _norm: &str) -> Result<Option<Vec<f64>>> {
        Ok(None)
    }

    /// Keeps a spectrum for later runs; evidence that is not stored on disk drops it.
    fn remember_spectrum(&self, _site: Site, _norm: &str, _spectrum: &[f64]) -> Result<()> {
        Ok(())
    }
}
