//! Fisher-weighted SVD: the truncation that minimises an estimate of the change of the loss, from its gradients.
//!
//! ```text
//! ΔL ≈ ½ Σ_ij I_ij (W − Ŵ)²_ij      I_ij = Σ_samples (∂L/∂w_ij)²
//! ```
//!
//! With a number of its own for each element, no closed form exists. Two approximations have one:
//!
//! ```text
//! rows        I_ij ≈ f_j = Σ_i I_ij            minimise ‖(W − Ŵ) diag(f)^½‖²        (the paper)
//! kronecker   I ≈ G ⊗ H, G = Σ g gᵀ, H = Σ x xᵀ   minimise ‖G^½ (W − Ŵ) H^½‖²
//! ```
//!
//! where x enters the weight and g is the gradient of the loss by its output. The first is the
//! paper's (its rows, those of an in × out weight, are the inputs here); it sees no correlations. The
//! second sees them on both sides, needs no more backward passes, and its discarded eigenvalues
//! estimate the change of the loss itself, so they are comparable from weight to weight.
//!
//! It needs gradients over a calibration text: about three forward passes' time beyond the one that
//! `svd` under the activation metric takes.
//!
//! ```
//! use compress_core::{Budget, Method, Survey, testing::{Toy, ToyEvidence}};
//! use compress_fwsvd::{Fisher, FwSvd};
//!
//! let model = Toy::new(1);
//! let survey = Survey::new(&model, |_| true).with_evidence(&ToyEvidence);
//! let method = FwSvd { fisher: Fisher::Kronecker };
//! let steps = method.plan(&survey, Some(Budget::keep(0.5)?))?;
//! let edits = method.compress(&steps[..1], &survey)?;
//! assert_eq!(edits.len(), 1); // one weight became two factors
//! # Ok::<(), compress_core::Error>(())
//! ```
//!
//! # References
//!
//! Hsu et al., *Language model compression with weighted low-rank factorization*, ICLR 2022, arXiv
//! 2207.00112, equation 8. The Kronecker form is that of GFWSVD, arXiv 2505.17974, after Martens &
//! Grosse, *Optimizing neural networks with Kronecker-factored approximate curvature*, 2015.

use std::str::FromStr;

use compress_core::{Budget, Edit, Method, Needs, Result, Shape, Site, Survey, Truncate};
use compress_svd::{Norm, carry_out, memory, uniform};
use serde::Serialize;

/// An approximation of a weight's Fisher information.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Fisher {
    /// A number for each input, `f_j`: the paper's (equation 8), whose weights have inputs as rows.
    Rows,
    /// G ⊗ H, a matrix for the outputs and one for the inputs.
    #[default]
    Kronecker,
}

impl Fisher {
    const fn norm(self) -> Norm {
        match self {
            Self::Rows => Norm::InputFisher,
            Self::Kronecker => Norm::Kronecker,
        }
    }
}

impl FromStr for Fisher {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        match text {
            "rows" => Ok(Self::Rows),
            "kronecker" => Ok(Self::Kronecker),
            _ => Err("a Fisher information is rows or kronecker".into()),
        }
    }
}

/// Fisher-weighted SVD at the same kept fraction everywhere.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct FwSvd {
    /// The approximation of the Fisher information, which decides the norm of the cuts.
    pub fisher: Fisher,
}

impl Method for FwSvd {
    type Step = Truncate;

    fn name(&self) -> &'static str {
        "fwsvd"
    }

    fn needs(&self, _: &Truncate) -> Needs {
        self.fisher.norm().needs()
    }

    fn plan(&self, survey: &Survey<'_>, budget: Option<Budget>) -> Result<Vec<Truncate>> {
        Ok(uniform(survey, budget.unwrap_or(Budget::USUAL)))
    }

    fn compress(&self, steps: &[Truncate], survey: &Survey<'_>) -> Result<Vec<Edit>> {
        carry_out(steps, survey, self.fisher.norm())
    }

    fn memory(
        &self,
        steps: &[Truncate],
        shape: &dyn Fn(Site) -> Result<Shape>,
        threads: usize,
    ) -> Result<usize> {
        memory(steps, self.fisher.norm(), shape, threads)
    }
}
