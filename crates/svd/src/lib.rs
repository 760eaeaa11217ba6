//! Truncated singular value decomposition of every linear weight of the blocks.
//!
//! ```text
//! W = U Σ Vᵀ      m × n, m outputs, n inputs, σ₁ ≥ σ₂ ≥ …
//! Ŵ = A · B       A = U_r Σ_r^½  (m × r),  B = Σ_r^½ V_rᵀ  (r × n)
//! ‖W − Ŵ‖² = Σ_{i>r} σᵢ²,  the least of any matrix of rank r
//! ```
//!
//! Every weight keeps the same fraction of its parameters, so r = max(1, ⌊keep·m·n / (m + n)⌋). It
//! needs no data and takes the time of one symmetric eigendecomposition of the shorter side per
//! weight ([`truncate`]). It is the baseline of the other methods: the error it minimises is that of
//! the weights, while what matters is that of the outputs.
//!
//! ```
//! use compress_core::{Matrix, testing::Random};
//!
//! let weight = Random(1).matrix(30, 20);
//! let cut = compress_svd::truncate(&weight, 5)?;
//! let error = cut.factor.dense()?.squared_distance(&weight) / weight.squared_norm();
//! assert!((error - cut.error).abs() < 1e-5); // the error is known before it is measured
//! # Ok::<(), compress_core::Error>(())
//! ```
//!
//! # References
//!
//! Eckart & Young, *The approximation of one matrix by another of lower rank*, Psychometrika 1936.
//! The choice of r is that of Wang et al., *SVD-LLM*, arXiv 2403.07378, section 3.

mod truncate;

use compress_core::{Budget, Edit, Method, Result, Shape, Step as _, Survey, Truncate};

pub use truncate::{Truncated, truncate};

/// Truncated SVD at the same kept fraction everywhere.
#[derive(Clone, Copy, Debug, Default)]
pub struct Svd;

impl Method for Svd {
    type Step = Truncate;

    fn name(&self) -> &'static str {
        "svd"
    }

    fn plan(&self, survey: &Survey<'_>, budget: Budget) -> Result<Vec<Truncate>> {
        let steps = survey.sites().filter_map(|(site, shape)| {
            let rank = uniform_rank(shape, budget);
            (budget < Budget::ALL && shape.shrinks_at(rank)).then_some(Truncate { site, rank })
        });
        Ok(steps.collect())
    }

    fn compress(&self, step: &Truncate, survey: &Survey<'_>) -> Result<Vec<Edit>> {
        step.check(|site| survey.shape(site))?;
        let Truncated { factor, error } = truncate(&survey.weight(step.site)?, step.rank)?;
        Ok(vec![Edit::Replace {
            site: step.site,
            factor,
            error,
        }])
    }
}

/// The rank at which two factors keep the given fraction of a weight's parameters, at least 1.
#[must_use]
pub fn uniform_rank(shape: Shape, budget: Budget) -> usize {
    ((budget.fraction() * shape.break_even_rank()) as usize).max(1)
}
