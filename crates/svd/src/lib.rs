//! Truncated singular value decomposition of every linear weight of the blocks.
//!
//! ```text
//! W = U Σ Vᵀ      m × n, m outputs, n inputs, σ₁ ≥ σ₂ ≥ …
//! Ŵ = A · B       A = U_r Σ_r^½  (m × r),  B = Σ_r^½ V_rᵀ  (r × n)
//! ‖W − Ŵ‖² = Σ_{i>r} σᵢ²,  the least of any matrix of rank r
//! ```
//!
//! That is the error of the weights; the model feels that of the outputs, `‖(W − Ŵ) H^½‖²` with
//! H = Σ x xᵀ over the layer inputs of a calibration text. Under this metric the same rank costs far less,
//! and the optimum has a closed form as well: [`truncate_under`].
//!
//! Every weight keeps the same fraction of its parameters, so r = max(1, ⌊keep·m·n / (m + n)⌋). A
//! weight takes the time of one symmetric eigendecomposition of its shorter side ([`truncate`]); under a metric that of
//! two products with H besides. What would not shrink stays whole.
//!
//! ```
//! use compress_numerics::Random;
//!
//! let weight = Random(1).matrix(30, 20);
//! let cut = compress_svd::truncate(&weight, 5)?;
//! let error = cut.dense()?.squared_distance(&weight) / weight.squared_norm();
//! assert!((error - cut.error).abs() < 1e-5); // the error is known before it is measured
//! # Ok::<(), compress_core::Error>(())
//! ```
//!
//! # References
//!
//! Eckart & Young, *The approximation of one matrix by another of lower rank*, Psychometrika 1936.
//! The choice of r and the activation metric are those of Wang et al., *SVD-LLM*, arXiv 2403.07378,
//! section 3; without its Cholesky factor, whose inverse fails for singular H.

mod memory;
mod metric;
mod norm;
mod root;
mod truncate;
mod under;

use std::collections::BTreeMap;

use compress_core::{
    Budget, Edit, Factor, Matrix, Method, Needs, Result, Shape, Site, Step as _, Survey, Truncate,
    by_input,
};
use compress_numerics::side_by_side;
use serde::Serialize;

pub use memory::{memory, memory_of_cut, memory_of_metric, memory_together};
pub use metric::{Full, Metric, Weighting};
pub use norm::Norm;
pub use truncate::{Truncated, truncate};
pub use under::{spectrum_under, truncate_under};

/// Truncated SVD at the same kept fraction everywhere.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Svd {
    /// The norm in which the error is minimised: [`Norm::Plain`] or [`Norm::Activation`].
    pub norm: Norm,
}

impl Method for Svd {
    type Step = Truncate;

    fn name(&self) -> &'static str {
        "svd"
    }

    fn needs(&self, _: &Truncate) -> Needs {
        self.norm.needs()
    }

    fn plan(&self, survey: &Survey<'_>, budget: Option<Budget>) -> Result<Vec<Truncate>> {
        Ok(uniform(survey, budget.unwrap_or(Budget::USUAL)))
    }

    fn compress(&self, steps: &[Truncate], survey: &Survey<'_>) -> Result<Vec<Edit>> {
        carry_out(steps, survey, self.norm)
    }

    fn memory(
        &self,
        steps: &[Truncate],
        shape: &dyn Fn(Site) -> Result<Shape>,
        threads: usize,
    ) -> Result<usize> {
        memory(steps, self.norm, shape, threads)
    }
}

/// Carries out steps in the given norm, one layer input after the other; weights that share one share its H, and its
/// root where one is needed. Edits are returned in the order of the steps.
///
/// Fails where a rank does not fit its weight, evidence is missing or zero, a weight is not finite, or an
/// eigendecomposition does not converge.
pub fn carry_out(steps: &[Truncate], survey: &Survey<'_>, norm: Norm) -> Result<Vec<Edit>> {
    for step in steps {
        step.check(|site| survey.shape(site))?;
    }
    let sites: Vec<Site> = steps.iter().map(|step| step.site).collect();
    under_norm(&sites, survey, norm, |place, metric| {
        cut(&steps[place], survey, metric)
    })
}

/// Does some work on each of some weights in its own metric, one layer input after the other, and its weights in
/// parallel; the results in the order of the sites.
///
/// Weights that share a layer input share its H, and its root where one is needed. Fails where evidence is missing or
/// zero, and where the work does.
pub fn under_norm<T: Send>(
    sites: &[Site],
    survey: &Survey<'_>,
    norm: Norm,
    work: impl Fn(usize, &Metric) -> Result<T> + Sync,
) -> Result<Vec<T>> {
    let mut done = BTreeMap::new();
    for places in by_input(sites.iter().copied()).into_values() {
        let readers: Vec<Site> = places.iter().map(|&place| sites[place]).collect();
        let shared = shared_inputs(&readers, survey, norm)?;
        let one = |index: usize| -> Result<_> {
            let place = places[index];
            let metric = metric_of(sites[place], survey, norm, shared.as_ref())?;
            Ok((place, work(place, &metric)?))
        };
        // No more at a time than there are threads, as `memory` reckons.
        done.extend(side_by_side(places.len(), usize::MAX, one)?);
    }
    Ok(done.into_values().collect())
}

/// The weighting of the layer input of some weights, where they share it.
fn shared_inputs(sites: &[Site], survey: &Survey<'_>, norm: Norm) -> Result<Option<Weighting>> {
    let mut rooted = false;
    for &site in sites {
        // Weights with more outputs than inputs are cut on their side, where H takes the part of G and needs a root:
        // n³ / 3 operations, made once here for all of them.
        let shape = survey.shape(site)?;
        rooted |= shape.rows > shape.cols;
    }
    // The Fisher information of inputs is another for each weight, even of one layer input.
    let shared = sites.first().filter(|_| norm.shares_inputs());
    let shared = shared.map(|site| norm.inputs(*site, survey)).transpose()?;
    if rooted {
        shared.map(Weighting::rooted).transpose()
    } else {
        Ok(shared)
    }
}

/// The metric of a weight, with the shared weighting of its inputs where there is one.
fn metric_of(
    site: Site,
    survey: &Survey<'_>,
    norm: Norm,
    inputs: Option<&Weighting>,
) -> Result<Metric> {
    let inputs = match inputs {
        // A clone of the pointer.
        Some(shared) => shared.clone(),
        None => norm.inputs(site, survey)?,
    };
    let outputs = norm.outputs(site, survey)?;
    Ok(Metric { outputs, inputs })
}

/// Cuts a matrix to a rank with the least error in a norm, by whichever route is the faster.
pub fn truncate_in(metric: &Metric, weight: &Matrix, rank: usize) -> Result<Truncated> {
    if metric.is_plain() {
        truncate(weight, rank)
    } else {
        truncate_under(metric, weight, rank)
    }
}

/// Truncates one weight.
fn cut(step: &Truncate, survey: &Survey<'_>, metric: &Metric) -> Result<Edit> {
    let site = step.site;
    let weight = survey.weight(site)?;
    let cut = truncate_in(metric, &weight, step.rank)?;
    let error = cut.error;
    let factor = Factor::LowRank(cut.pair());
    // Where factors are rounded as well, the error that is reported is that of the rounded ones.
    let (factor, error) = match survey.stored(&factor)? {
        Some(stored) => {
            let error = metric.relative_error(&weight, &stored.dense()?)?;
            (stored, error)
        }
        None => (factor, error),
    };
    Ok(Edit {
        site,
        factor,
        error,
    })
}

/// A step for every chosen weight that shrinks at the uniform rank; none at keep 1.
#[must_use]
pub fn uniform(survey: &Survey<'_>, budget: Budget) -> Vec<Truncate> {
    let step = |(site, shape): (Site, Shape)| {
        let rank = uniform_rank(shape, budget);
        (budget < Budget::ALL && shape.shrinks_at(rank)).then_some(Truncate { site, rank })
    };
    survey.sites().filter_map(step).collect()
}

/// r = max(1, ⌊keep · m·n / (m + n)⌋: the rank at which a low-rank pair keeps the given fraction of a weight's
/// parameters (SVD-LLM, arXiv 2403.07378, section 3).
#[must_use]
pub fn uniform_rank(shape: Shape, budget: Budget) -> usize {
    ((budget.fraction() * shape.break_even_rank()) as usize).max(1)
}
