//! What running a model over text told about its weights.

use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::{Result, Role, Site, Stream, Symmetric};

/// How much each token counts in the H of what enters a weight.
///
/// Keys and values of some tokens, often the first, are looked at by nearly all later ones: there the
/// same error costs hundreds of times as much. Nothing of that shows in Σ x xᵀ, and whatever makes an
/// error small under it moves the error to where those few tokens are.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum Tokens {
    /// All alike: H = Σ x xᵀ.
    #[default]
    Alike,
    /// For key and value weights by how much a token is looked at: H = Σ a x xᵀ, where a is the sum of
    /// squared attention weights that it gets from all heads and queries. For others alike.
    Attended,
}

impl Tokens {
    /// Whether those of a weight are weighted.
    #[must_use]
    pub const fn are_weighted(self, site: Site) -> bool {
        let role = site.role();
        matches!(
            (self, role),
            (Self::Attended, Some(Role::Key | Role::Value))
        )
    }
}

impl FromStr for Tokens {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        match text {
            "alike" => Ok(Self::Alike),
            "attended" => Ok(Self::Attended),
            _ => Err("tokens count alike, or as they are attended".into()),
        }
    }
}

/// The measurements that a method needs; the pipeline gathers them in one pass before planning.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Needs {
    /// H = Σ x xᵀ of every stream.
    pub activations: bool,
    /// Σ a x xᵀ of the streams that key and value read ([`Tokens::Attended`]).
    pub attended: bool,
    /// G = Σ g gᵀ of every weight's output gradients, and the Fisher information of its inputs.
    pub gradients: bool,
}

impl Needs {
    /// No data at all.
    pub const NOTHING: Self = Self {
        activations: false,
        attended: false,
        gradients: false,
    };

    /// What both need.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self {
            activations: self.activations || other.activations,
            attended: self.attended || other.attended,
            gradients: self.gradients || other.gradients,
        }
    }
}

/// Whoever can hand out measurements, one at a time. Sums run over all tokens of the calibration text.
pub trait Evidence: Sync {
    /// H = Σ x xᵀ over the activations of a stream; in × in of the weights that read it.
    fn activations(&self, stream: Stream) -> Result<Symmetric>;

    /// Σ a x xᵀ over the activations that key and value of a block read, a being how much a token is
    /// looked at ([`Tokens::Attended`]).
    fn attended(&self, layer: usize) -> Result<Symmetric>;

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
