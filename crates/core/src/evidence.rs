//! What running a model over text told about its weights.

use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::{LayerInput, Result, Role, Site, Symmetric};

/// The weight of each token in the H of a layer input.
///
/// Some tokens, often the first, receive most of the attention of nearly all later ones: attention sinks. At their keys
/// and values the same error costs hundreds of times as much. Nothing of that shows in Σ x xᵀ, and whatever makes an
/// error small under it moves the error to where those few tokens are.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum TokenWeights {
    /// All alike: H = Σ x xᵀ.
    #[default]
    #[serde(alias = "alike")]
    Uniform,
    /// Key and value weights by attention mass: H = Σ a x xᵀ, where a is the sum of squared attention weights
    /// that a token receives from all heads and queries. Other weights uniformly.
    #[serde(alias = "attended")]
    Attention,
}

impl TokenWeights {
    /// Whether the tokens of a weight's input differ in weight.
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
            // The second of each is its earlier name.
            "uniform" | "alike" => Ok(Self::Uniform),
            "attention" | "attended" => Ok(Self::Attention),
            _ => Err("tokens are weighted by attention, or uniform".into()),
        }
    }
}

/// The measurements that a method needs; the pipeline gathers them in one pass before planning.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Needs {
    /// H = Σ x xᵀ of every input.
    pub activations: bool,
    /// Σ a x xᵀ of the inputs that key and value read ([`TokenWeights::Attention`]).
    pub attention_weighted: bool,
    /// G = Σ g gᵀ of every weight's output gradients, and the Fisher information of its inputs.
    pub gradients: bool,
}

impl Needs {
    /// No data at all.
    pub const NOTHING: Self = Self {
        activations: false,
        attention_weighted: false,
        gradients: false,
    };

    /// What both need.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self {
            activations: self.activations || other.activations,
            attention_weighted: self.attention_weighted || other.attention_weighted,
            gradients: self.gradients || other.gradients,
        }
    }
}

/// Whoever can hand out measurements, one at a time. Sums run over all tokens of the calibration text.
pub trait Evidence: Sync {
    /// H = Σ x xᵀ over the activations of a layer input; in × in of the weights that read it.
    fn activations(&self, input: LayerInput) -> Result<Symmetric>;

    /// Σ a x xᵀ over the activations that key and value of a block read, a being how much a token is
    /// looked at ([`TokenWeights::Attention`]).
    fn attention_weighted(&self, layer: usize) -> Result<Symmetric>;

    /// G = Σ g gᵀ over the gradients g of the loss by the outputs of a weight; out × out.
    fn output_gradients(&self, site: Site) -> Result<Symmetric>;

    /// The Fisher information of each input of a weight: Σ over samples and outputs of the squared
    /// gradient of a sample's mean loss by the weight's elements; in.
    fn input_fisher(&self, site: Site) -> Result<Vec<f64>>;

    /// A spectrum that was found before, in a norm that these measurements make.
    fn spectrum(&self, _site: Site, _norm: &str) -> Result<Option<Vec<f64>>> {
        Ok(None)
    }

    /// Keeps a spectrum for further runs, where there is a place for it.
    fn remember_spectrum(&self, _site: Site, _norm: &str, _spectrum: &[f64]) -> Result<()> {
        Ok(())
    }
}
