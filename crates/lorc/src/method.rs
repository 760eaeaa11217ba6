//! LoRC as a method: the same rounding for every chosen weight.

use std::sync::Arc;

use compress_core::{
    Budget, Correction, Edit, Factor, Form, Method, Needs, Result, Shape, Site, Step, Survey,
    Tokens,
};
use compress_svd::{Metric, Norm, spectrum_under};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::{DAMPING, Hessian, Options, Rounded, quantise, ranks_worth, round, round::difference};

/// Quantise, then compensate.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Lorc {
    /// How each weight is rounded.
    pub options: Options,
    /// Whether the rank is chosen in place of the one in `options`: one for all weights, but only for
    /// those where it is worth its bits ([`ranks_worth`]).
    pub worth: bool,
    /// In which norm a correction is the best.
    pub metric: Norm,
    /// How much each token counts, for codes, scales and correction.
    pub tokens: Tokens,
}

/// Round a weight, and correct it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Round {
    /// Which weight.
    pub site: Site,
    /// In which norm the correction is the best.
    pub metric: Norm,
    /// How much each token counts.
    #[serde(default)]
    pub tokens: Tokens,
    /// How.
    pub options: Options,
}

impl Method for Lorc {
    type Step = Round;

    /// What decides is the bits.
    const BUDGETED: bool = false;

    /// Steps say all.
    const PLANNING: &'static [&'static str] = &["options", "worth", "metric", "tokens"];

    fn name(&self) -> &'static str {
        "lorc"
    }

    fn needs(&self) -> Needs {
        needs(&self.options, self.metric, self.tokens)
    }

    fn needs_of(&self, step: &Round) -> Needs {
        needs(&step.options, step.metric, step.tokens)
    }

    fn plans_by(&self) -> Needs {
        if self.worth {
            self.needs()
        } else {
            Needs::NOTHING
        }
    }

    fn plan(&self, survey: &Survey<'_>, _: Budget) -> Result<Vec<Round>> {
        let sites: Vec<(Site, Shape)> = survey.sites().collect();
        // Before anything is rounded to find a rank.
        for &(site, shape) in &sites {
            let step = self.step(site, shape, self.options.rank);
            step.check(|_| Ok(shape))?;
        }
        let ranks = if self.worth {
            self.ranks(&sites, survey)?
        } else {
            vec![self.options.rank; sites.len()]
        };
        let steps = sites.into_iter().zip(ranks);
        let steps = steps.map(|((site, shape), rank)| self.step(site, shape, rank));
        Ok(steps.collect())
    }

    fn compress(&self, step: &Round, survey: &Survey<'_>) -> Result<Vec<Edit>> {
        let Round { site, options, .. } = *step;
        let weight = survey.weight(site)?;
        let (hessian, metric) = step.knowledge(survey)?;
        let Rounded {
            quantised,
            up,
            down,
            error,
        } = round(&weight, hessian.as_deref(), &metric, &options)?;
        let correction = up.zip(down).map(|(up, down)| Correction { up, down });
        let factor = Factor::Rounded {
            base: quantised,
            correction,
        };
        Ok(vec![Edit::Replace {
            site,
            factor,
            error,
        }])
    }
}

impl Lorc {
    /// The step for a weight, whose correction has the given rank or as much of it as there can be.
    fn step(&self, site: Site, shape: Shape, rank: usize) -> Round {
        Round {
            site,
            metric: self.metric,
            tokens: self.tokens,
            options: Options {
                rank: rank.min(shape.full_rank()),
                ..self.options
            },
        }
    }

    /// The rank of each weight's correction: one where it is worth its bits, 0 elsewhere.
    fn ranks(&self, sites: &[(Site, Shape)], survey: &Survey<'_>) -> Result<Vec<usize>> {
        let error = |(site, shape): &(Site, Shape)| {
            let step = self.step(*site, *shape, self.options.rank);
            let (hessian, metric) = step.knowledge(survey)?;
            let weight = survey.weight(*site)?;
            let rounded = quantise(&weight, hessian.as_deref(), &self.options)?;
            let lost = difference(&weight, &rounded.dense());
            Ok((*shape, spectrum_under(&metric, &lost)?))
        };
        let errors: Vec<_> = sites.par_iter().map(error).collect::<Result<_>>()?;
        Ok(ranks_worth(&errors, self.options.keep))
    }
}

impl Round {
    /// H where it is needed, and the norm of the correction.
    fn knowledge(&self, survey: &Survey<'_>) -> Result<(Option<Arc<Hessian>>, Metric)> {
        let (site, tokens) = (self.site, self.tokens);
        let hessian = || survey.prepared(site, tokens, |h| Hessian::new(h, DAMPING, false));
        let hessian = self.options.needs_hessian().then(hessian).transpose()?;
        let metric = match self.metric {
            Norm::Activation => Metric::activation(survey.activations_by(site, tokens)?),
            other => other.metric(site, survey)?,
        };
        Ok((hessian, metric))
    }
}

impl Step for Round {
    const KIND: &'static str = "round";

    fn forms(&self) -> Vec<(Site, Form)> {
        let Options { scheme, rank, .. } = self.options;
        vec![(self.site, Form::Rounded { scheme, rank })]
    }

    fn tokens(&self) -> Tokens {
        if self.options.needs_hessian() || self.metric.needs().activations {
            self.tokens
        } else {
            Tokens::Alike
        }
    }

    fn check(&self, shape: impl Fn(Site) -> Result<Shape>) -> Result<()> {
        self.options.check(self.site, shape(self.site)?)
    }
}

/// The measurements that rounding so rests on.
fn needs(options: &Options, metric: Norm, tokens: Tokens) -> Needs {
    let metric = metric.needs();
    let activations = options.needs_hessian() || metric.activations;
    Needs {
        activations,
        attended: activations && tokens == Tokens::Attended,
        ..metric
    }
}
