//! What running a model over text told about its weights.

use crate::{Result, Site, Stream, Symmetric};

/// The measurements that a method needs; the pipeline gathers them in one pass before planning.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Needs {
    /// H = Σ x xᵀ of every stream.
    pub activations: bool,
    /// G = Σ g gᵀ of every weight's output gradients, and the Fisher information of its inputs.
    pub gradients: bool,
}

impl Needs {
    /// No data at all.
    pub const NOTHING: Self = Self {
        activations: false,
        gradients: false,
    };

    /// What both need.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self {
            activations: self.activations || other.activations,
            gradients: self.gradients || other.gradients,
        }
    }
}

/// Whoever can hand out measurements, one at a time. Sums run over all tokens of the calibration text.
pub trait Evidence: Sync {
    /// H = Σ x xᵀ over the activations of a stream; in × in of the weights that read it.
    fn activations(&self, stream: Stream) -> Result<Symmetric>;

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
