//! LoRC as a method: the same rounding for every chosen weight.

use compress_core::{
    Budget, Correction, Edit, Error, Factor, Form, Method, Needs, Result, Shape, Site, Step,
    Survey, Tokens,
};
use compress_svd::{Metric, Norm};
use serde::{Deserialize, Serialize};

use crate::{DAMPING, Hessian, Options, Rounded, round};

/// Quantise, then compensate.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Lorc {
    /// How each weight is rounded.
    pub options: Options,
    /// In which norm a correction is the best.
    pub metric: Norm,
    /// How much each token counts, for codes, scales and correction.
    pub tokens: Tokens,
}

/// Round a weight, and correct it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Round {
    /// Which weight.
    pub site: Site,
    /// In which norm the correction is the best.
    pub metric: Norm,
    /// How much each token counts.
    #[serde(default)]
    pub tokens: Tokens,
    /// How.
    #[serde(flatten)]
    pub options: Options,
}

impl Method for Lorc {
    type Step = Round;

    /// What decides is the bits.
    const BUDGETED: bool = false;

    fn name(&self) -> &'static str {
        "lorc"
    }

    fn needs(&self) -> Needs {
        let metric = self.metric.needs();
        let activations = self.options.needs_hessian() || metric.activations;
        Needs {
            activations,
            attended: activations && self.tokens == Tokens::Attended,
            ..metric
        }
    }

    fn plan(&self, survey: &Survey<'_>, _: Budget) -> Result<Vec<Round>> {
        let step = |(site, shape): (Site, Shape)| {
            let full = shape.full_rank();
            let options = Options {
                rank: self.options.rank.min(full),
                ..self.options
            };
            let step = Round {
                site,
                metric: self.metric,
                tokens: self.tokens,
                options,
            };
            step.check(|_| Ok(shape)).map(|()| step)
        };
        survey.sites().map(step).collect()
    }

    fn compress(&self, step: &Round, survey: &Survey<'_>) -> Result<Vec<Edit>> {
        let Round {
            site,
            metric,
            tokens,
            options,
        } = *step;
        let weight = survey.weight(site)?;
        let hessian = || survey.prepared(site, tokens, |h| Hessian::new(h, DAMPING, false));
        let hessian = options.needs_hessian().then(hessian).transpose()?;
        let metric = match metric {
            Norm::Activation => Metric::activation(survey.activations_by(site, tokens)?),
            other => other.metric(site, survey)?,
        };
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

impl Step for Round {
    fn forms(&self) -> Vec<(Site, Form)> {
        let Options { scheme, rank, .. } = self.options;
        vec![(self.site, Form::Rounded { scheme, rank })]
    }

    fn check(&self, shape: impl Fn(Site) -> Result<Shape>) -> Result<()> {
        let (site, rank) = (self.site, self.options.rank);
        let shape = shape(site)?;
        self.options.scheme.check(shape)?;
        let limit = shape.full_rank();
        if rank > limit {
            return Err(Error::Rank {
                site,
                rank,
                limit,
                shape,
            });
        }
        Ok(())
    }
}
