//! Truncated singular value decomposition of every linear weight of the blocks.
//!
//! ```text
//! W = U Σ Vᵀ      m × n, m outputs, n inputs, σ₁ ≥ σ₂ ≥ …
//! Ŵ = A · B       A = U_r Σ_r^½  (m × r),  B = Σ_r^½ V_rᵀ  (r × n)
//! ‖W − Ŵ‖² = Σ_{i>r} σᵢ²,  the least of any matrix of rank r
//! ```
//!
//! That is the error of the weights; what matters is that of the outputs, `‖(W − Ŵ) H^½‖²` with
//! H = Σ x xᵀ over the inputs of a calibration text. Under this metric the same rank costs far less,
//! and the optimum is as closed: [`truncate_under`].
//!
//! Every weight keeps the same fraction of its parameters, so r = max(1, ⌊keep·m·n / (m + n)⌋). A
//! weight takes the time of one symmetric eigendecomposition of its shorter side ([`truncate`]).
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
//! The choice of r and the activation metric are those of Wang et al., *SVD-LLM*, arXiv 2403.07378,
//! section 3; without its Cholesky factor, whose inverse fails for singular H.

mod metric;
mod norm;
mod truncate;

use compress_core::{
    Budget, Edit, Method, Needs, Result, Shape, Site, Step as _, Survey, Truncate,
};
use serde::Serialize;

pub use metric::{Metric, Weighting, spectrum_under, truncate_under};
pub use norm::Norm;
pub use truncate::{Truncated, truncate};

/// Truncated SVD at the same kept fraction everywhere.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Svd {
    /// Which error is made small: [`Norm::Plain`] or [`Norm::Activation`].
    pub norm: Norm,
}

impl Method for Svd {
    type Step = Truncate;

    fn name(&self) -> &'static str {
        "svd"
    }

    fn needs(&self) -> Needs {
        self.norm.needs()
    }

    fn plan(&self, survey: &Survey<'_>, budget: Budget) -> Result<Vec<Truncate>> {
        Ok(uniform(survey, budget))
    }

    fn compress(&self, step: &Truncate, survey: &Survey<'_>) -> Result<Vec<Edit>> {
        carry_out(step, survey, self.norm)
    }
}

/// Truncates one weight in the given norm.
pub fn carry_out(step: &Truncate, survey: &Survey<'_>, norm: Norm) -> Result<Vec<Edit>> {
    step.check(|site| survey.shape(site))?;
    let weight = survey.weight(step.site)?;
    let Truncated { factor, error } = if norm == Norm::Plain {
        truncate(&weight, step.rank)?
    } else {
        truncate_under(&norm.metric(step.site, survey)?, &weight, step.rank)?
    };
    Ok(vec![Edit::Replace {
        site: step.site,
        factor,
        error,
    }])
}

/// A step for every weight that shrinks when it keeps the given fraction of its parameters.
#[must_use]
pub fn uniform(survey: &Survey<'_>, budget: Budget) -> Vec<Truncate> {
    let step = |(site, shape): (Site, Shape)| {
        let rank = uniform_rank(shape, budget);
        (budget < Budget::ALL && shape.shrinks_at(rank)).then_some(Truncate { site, rank })
    };
    survey.sites().filter_map(step).collect()
}

/// The rank at which two factors keep the given fraction of a weight's parameters, at least 1.
#[must_use]
pub fn uniform_rank(shape: Shape, budget: Budget) -> usize {
    ((budget.fraction() * shape.break_even_rank()) as usize).max(1)
}
