//! `WeLore`: non-uniform ranks for truncated SVD, by one threshold on the spectra of all weights.
//!
//! ```text
//! rank of W = #{ i : score(W, i) ≥ τ }       τ such that the parameters meet the budget
//!
//! minmax   (σᵢ − σ_min) / (σ_max − σ_min)     the paper's
//! energy   λᵢ / Σλ / (m + n)                  λ of W H Wᵀ: the share of the outputs' energy, per parameter
//! loss     λᵢ / (m + n)                       λ of (G^½ W H^½)²: the estimated loss, per parameter
//! ```
//!
//! A rank costs m + n parameters, so that a weight above its break-even rank m·n / (m + n) stays whole:
//! the paper's N-LRC, beside the low-rank components, LRC, that may be fine-tuned. The first two scores
//! are normalised within each weight, and say nothing of how much the weight matters; the third needs no
//! normalisation, since its eigenvalues estimate the change of the loss itself.
//!
//! It needs the spectra of all chosen weights in the norm of the score before any rank is known: one eigendecomposition
//! per weight, kept beside the evidence, so that a second budget costs none. The cut itself is
//! [`svd`](compress_svd)'s, in the norm of the score.
//!
//! Weights whose spectra fall slowly are bad low-rank pairs: half of the parameters of a square weight buy a
//! quarter of a flat spectrum. [`Count::Envelope`] sees that: a weight stays whole as soon as all of
//! its remaining ranks together are worth their price, which is the upper concave envelope of worth
//! against parameters, and optimal up to the last weight.
//!
//! ```
//! use compress_core::{Budget, Method, Survey, testing::{Toy, ToyEvidence}};
//! use compress_welore::{Count, Score, Welore};
//!
//! let model = Toy::new(1);
//! let survey = Survey::new(&model, |_| true).with_evidence(&ToyEvidence);
//! let method = Welore { score: Score::Loss, count: Count::Envelope };
//! let steps = method.plan(&survey, Some(Budget::keep(0.5)?))?;
//! assert!(steps.iter().any(|step| step.rank != steps[0].rank)); // not the same everywhere
//! # Ok::<(), compress_core::Error>(())
//! ```
//!
//! # References
//!
//! Jaiswal et al., *From `GaLore` to `WeLore`*, arXiv 2407.11239: equation 4, LRC and N-LRC. Its
//! published code has thresholds by hand for two models, lets weights above break-even grow, and takes
//! ranks for parameters; here the threshold is found, for parameters.

mod allocate;
mod score;

use compress_core::{Budget, Edit, Method, Needs, Result, Shape, Site, Survey, Truncate};
use compress_numerics::side_by_side;
use compress_svd::{carry_out, memory};
use serde::Serialize;

pub use allocate::{Allocation, Base, Candidate, Count, allocate, allocate_within};
pub use score::Score;

/// Truncated SVD at the ranks that one threshold gives.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Welore {
    /// The score that the threshold runs over; it also decides the norm of the cuts.
    pub score: Score,
    /// The parameters that the budget counts.
    pub count: Count,
}

impl Welore {
    /// The chosen weights with the scores of their ranks, largest first. Decomposes every weight whose spectrum is not
    /// kept; fails where evidence is missing or a decomposition does not converge.
    pub fn candidates(&self, survey: &Survey<'_>) -> Result<Vec<Candidate>> {
        let sites: Vec<_> = survey.sites().collect();
        let one = |index: usize| {
            let (site, shape) = sites[index];
            let spectrum = self.score.norm().spectrum(site, survey)?;
            let scores = self.score.of(&spectrum, shape);
            Ok(Candidate {
                site,
                shape,
                scores,
                base: Base::Nothing,
            })
        };
        // As many at a time as there are threads, and no more where one waits.
        side_by_side(sites.len(), usize::MAX, one)
    }
}

impl Method for Welore {
    type Step = Truncate;

    /// Counting only decides ranks; the score also decides the norm of the cuts.
    const PLANNING: &'static [&'static str] = &["count"];

    fn name(&self) -> &'static str {
        "welore"
    }

    fn needs_to_plan(&self) -> Needs {
        self.score.norm().needs()
    }

    fn needs(&self, _: &Truncate) -> Needs {
        self.score.norm().needs()
    }

    fn plan(&self, survey: &Survey<'_>, budget: Option<Budget>) -> Result<Vec<Truncate>> {
        let budget = budget.unwrap_or(Budget::USUAL);
        // No spectrum is needed to keep everything.
        if budget == Budget::ALL {
            return Ok(Vec::new());
        }
        let candidates = self.candidates(survey)?;
        Ok(allocate(&candidates, budget, self.count).steps(&candidates))
    }

    fn compress(&self, steps: &[Truncate], survey: &Survey<'_>) -> Result<Vec<Edit>> {
        carry_out(steps, survey, self.score.norm())
    }

    fn memory(
        &self,
        steps: &[Truncate],
        shape: &dyn Fn(Site) -> Result<Shape>,
        threads: usize,
    ) -> Result<usize> {
        memory(steps, self.score.norm(), shape, threads)
    }
}
