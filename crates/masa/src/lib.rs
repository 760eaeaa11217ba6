//! MASA: weights of several layers as mixtures of matrix atoms that they share.
//!
//! ```text
//! W_l ≈ Σ_s c_ls D_s + U_l V_l      of one role, l = 1 … L;  D_s m × n, s = 1 … S, shared;  U_l m × r_l, V_l r_l × n
//! ```
//!
//! The atoms come from a principal component analysis of the layers' weights as vectors ([`dictionary`]), coefficients and
//! residuals are what is closest to each weight in a norm ([`Norm`]), and the ranks of the residuals, across layers and
//! roles, come from one threshold on the spectra of what the atoms leave.
//!
//! Parameters: S·m·n for a group, and S + r (m + n) for each of its weights. Time: a product for each pair of layers, one
//! weight each in memory, and for each weight S products with its metric and an eigendecomposition.
//!
//! ```
//! use compress_core::{Budget, Survey, compress_all, testing::{Toy, ToyEvidence}, Method, Role};
//! use compress_masa::{Count, Masa};
//!
//! let model = Toy::new(1);
//! let survey = Survey::new(&model, |_| true).with_evidence(&ToyEvidence);
//! let method = Masa { roles: vec![Role::Query], atoms: Count::Of(2), residual: Some(0.0), ..Masa::default() };
//! let steps = method.plan(&survey, None)?;
//! // Two layers, two atoms: what they span is all there is.
//! assert!(compress_all(&method, &steps, &survey)?.iter().all(|edit| edit.error < 1e-9));
//! # Ok::<(), compress_core::Error>(())
//! ```
//!
//! # References
//!
//! Zhussip et al., *Share Your Attention: Transformer Weight Sharing via Matrix-based Dictionary Learning*, arXiv
//! 2508.04581, section on pretrained models (Matrix PCA and local refinement). The residual is cut without the Cholesky
//! factor of H, as in `compress_svd`; coefficients are fitted in the norm of the residual, where the paper projects.

mod atoms;
mod memory;
mod mixture;
mod partition;
mod plan;
mod step;

use std::str::FromStr;

use compress_core::{
    Budget, Dictionary, Edit, Error, Method, Needs, Result, Role, Shape, Site, Step as _, Survey,
};
use compress_svd::{Metric, Norm, under_norm};
use serde::Serialize;
use serde_json::{Value, json};

pub use atoms::dictionary;
pub use partition::partition;
pub use plan::{Group, groups, uniform};
pub use step::{Atoms, AtomsOf, Mix, Mixture};

use plan::Planning;

/// Mixtures of shared matrix atoms, with low-rank residuals.
#[derive(Clone, Debug, Serialize)]
pub struct Masa {
    /// The roles whose weights share atoms, each among its own.
    pub roles: Vec<Role>,
    /// S.
    pub atoms: Count,
    /// ρ: the rank of every residual is ⌊ρ m n / (m + n)⌋. None where a budget decides the ranks.
    pub residual: Option<f64>,
    /// The groups of consecutive layers that share.
    pub groups: usize,
    /// Where one of them ends and the next begins.
    #[serde(skip_serializing_if = "GroupsBy::is_even")]
    pub groups_by: GroupsBy,
    /// The norm in which residuals are cut and ranks are compared.
    pub norm: Norm,
    /// The norm in which coefficients are fitted.
    pub fit: Fit,
}

/// The number of atoms of a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Count {
    /// As many in each group.
    Of(usize),
    /// For each group the number with which a plan of the budget loses least, 0 among them.
    Auto,
}

/// Where a group of layers ends and the next begins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum GroupsBy {
    /// After as many layers in each, nearly.
    #[default]
    Even,
    /// Where the logit lens tells least apart inside of groups. The paper's.
    LogitLens,
}

impl GroupsBy {
    /// Whether it is the usual one, which options do not tell.
    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
    const fn is_even(&self) -> bool {
        matches!(self, Self::Even)
    }
}

/// How coefficients are fitted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Fit {
    /// By projection: the least error of the weight itself. The paper's.
    Plain,
    /// By the least error in the norm of the residuals.
    #[default]
    Norm,
}

impl Default for Masa {
    fn default() -> Self {
        Self {
            roles: vec![Role::Query, Role::Key, Role::Value, Role::Output],
            atoms: Count::Auto,
            residual: None,
            groups: 1,
            groups_by: GroupsBy::Even,
            norm: Norm::Kronecker,
            fit: Fit::Norm,
        }
    }
}

impl Fit {
    /// Its name, in options and beside kept spectra.
    const fn name(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::Norm => "norm",
        }
    }

    /// The metric of a fit, given that of the residual.
    const fn metric(self, of_residual: &Metric) -> &Metric {
        match self {
            Self::Plain => &Metric::PLAIN,
            Self::Norm => of_residual,
        }
    }
}

impl Method for Masa {
    type Step = Mix;

    const PLANNING: &'static [&'static str] =
        &["roles", "atoms", "residual", "groups", "groups_by"];

    fn name(&self) -> &'static str {
        "masa"
    }

    fn needs_to_plan(&self) -> Needs {
        let of_ranks = match self.residual {
            Some(_) => Needs::NOTHING,
            None => self.norm.needs(),
        };
        Needs {
            lens: self.looks(),
            ..of_ranks
        }
    }

    fn needs(&self, step: &Mix) -> Needs {
        match step {
            Mix::Atoms(_) => Needs::NOTHING,
            Mix::Mixture(_) => self.norm.needs(),
        }
    }

    fn plan(&self, survey: &Survey<'_>, budget: Option<Budget>) -> Result<Vec<Mix>> {
        let groups = groups(survey, &self.roles, (self.groups, self.groups_by))?;
        let fail = |problem| {
            let method = self.name();
            Err(Error::Options { method, problem })
        };
        if groups.is_empty() {
            return fail("none of the chosen weights has one of the --roles");
        }
        match (self.residual, self.atoms) {
            (Some(residual), Count::Of(count)) => {
                return Ok(uniform(&groups, count, residual));
            }
            (Some(_), Count::Auto) => {
                return fail(
                    "--residual goes with a number of --atoms: auto chooses it by what a budget leaves",
                );
            }
            (None, _) => {}
        }
        let budget = budget.unwrap_or(Budget::USUAL);
        if budget == Budget::ALL {
            return Ok(Vec::new());
        }
        let planning = Planning {
            method: self,
            survey,
            groups: &groups,
            parameters: Planning::parameters(&groups, budget),
        };
        let found = match self.atoms {
            Count::Of(count) => planning.fixed(count)?,
            Count::Auto => planning.best()?,
        };
        Ok(found.steps)
    }

    fn decided_by(&self, survey: &Survey<'_>) -> Result<Option<Value>> {
        if !self.looks() {
            return Ok(None);
        }
        let layers = survey.sites().filter_map(|(site, _)| site.layer()).max();
        let apart = (1..=layers.unwrap_or(0)).map(|layer| survey.lens(layer));
        let groups = groups(survey, &self.roles, (self.groups, self.groups_by))?;
        let first_of_each = groups.iter().filter_map(|group| group.sites.first());
        Ok(Some(json!({
            "logit_lens": apart.collect::<Result<Vec<f64>>>()?,
            "groups_begin_with": first_of_each.collect::<Vec<_>>(),
        })))
    }

    fn share(&self, step: &Mix, survey: &Survey<'_>) -> Result<Dictionary> {
        match step {
            Mix::Atoms(atoms) => dictionary(atoms, survey),
            Mix::Mixture(_) => Err(Error::NothingShared {
                method: "a mixture",
            }),
        }
    }

    fn compress(&self, steps: &[Mix], survey: &Survey<'_>) -> Result<Vec<Edit>> {
        let mut mixtures = Vec::new();
        for step in steps {
            step.check(|site| survey.shape(site))?;
            mixtures.extend(step.mixture());
        }
        let sites: Vec<Site> = mixtures.iter().map(|it| it.site).collect();
        under_norm(&sites, survey, self.norm, |place, metric| {
            mixture::mix(mixtures[place], survey, self, metric)
        })
    }

    fn memory(
        &self,
        steps: &[Mix],
        shape: &dyn Fn(Site) -> Result<Shape>,
        threads: usize,
    ) -> Result<usize> {
        memory::memory(steps, self.norm, shape, threads)
    }
}

impl Masa {
    /// Whether the logit lens decides anything: one group begins and ends with the model.
    const fn looks(&self) -> bool {
        matches!(self.groups_by, GroupsBy::LogitLens) && self.groups > 1
    }
}

impl FromStr for GroupsBy {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        match text {
            "even" => Ok(Self::Even),
            "logit-lens" => Ok(Self::LogitLens),
            _ => Err("layers are grouped evenly: even, or by the logit lens: logit-lens".into()),
        }
    }
}

impl FromStr for Count {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        if text == "auto" {
            return Ok(Self::Auto);
        }
        let count = text.parse().map(Self::Of);
        count.map_err(|_| "a number of atoms is a whole number, or auto".into())
    }
}

impl FromStr for Fit {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        match text {
            "plain" => Ok(Self::Plain),
            "norm" => Ok(Self::Norm),
            _ => Err("coefficients are fitted plain, or in the norm of the residual: norm".into()),
        }
    }
}
