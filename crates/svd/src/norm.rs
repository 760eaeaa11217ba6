//! The norms that a survey's evidence gives for the error of a weight.

use compress_core::{Needs, Result, Site, Survey};
use compress_numerics::linalg::singular_values;
use serde::{Deserialize, Serialize};

use crate::{Metric, Weighting, spectrum_under};

/// Which error of a weight is made small.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Norm {
    /// That of the weight itself: ‖W − Ŵ‖. Needs no data.
    #[default]
    Plain,
    /// That of its outputs on a calibration text: ‖(W − Ŵ) H^½‖.
    Activation,
    /// Each input by its Fisher information: ‖(W − Ŵ) diag(f)^½‖.
    InputFisher,
    /// The change of the loss, estimated by the Fisher information of both sides: ‖G^½ (W − Ŵ) H^½‖.
    Kronecker,
}

impl Norm {
    /// The word for it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::Activation => "activation",
            Self::InputFisher => "input_fisher",
            Self::Kronecker => "kronecker",
        }
    }

    /// The measurements that make it.
    #[must_use]
    pub const fn needs(self) -> Needs {
        Needs {
            activations: matches!(self, Self::Activation | Self::Kronecker),
            attention_weighted: false,
            gradients: matches!(self, Self::InputFisher | Self::Kronecker),
        }
    }

    /// The norm of one weight.
    pub fn metric(self, site: Site, survey: &Survey<'_>) -> Result<Metric> {
        Ok(Metric {
            outputs: self.outputs(site, survey)?,
            inputs: self.inputs(site, survey)?,
        })
    }

    /// Whether all weights that read one layer input weigh their inputs alike.
    #[must_use]
    pub const fn shares_inputs(self) -> bool {
        self.needs().activations
    }

    /// How the inputs of a weight are weighed.
    pub fn inputs(self, site: Site, survey: &Survey<'_>) -> Result<Weighting> {
        Ok(match self {
            Self::Plain => Weighting::Even,
            Self::Activation | Self::Kronecker => Weighting::damped(survey.activations(site)?),
            Self::InputFisher => Metric::input_fisher(survey.input_fisher(site)?).inputs,
        })
    }

    /// How the outputs of a weight are weighed.
    pub fn outputs(self, site: Site, survey: &Survey<'_>) -> Result<Weighting> {
        Ok(match self {
            Self::Plain | Self::Activation | Self::InputFisher => Weighting::Even,
            Self::Kronecker => Weighting::damped(survey.output_gradients(site)?),
        })
    }

    /// What each rank of a weight is worth in this norm, largest first: squared singular values where
    /// it is plain. Cutting to rank r costs the sum of those after the first r.
    pub fn spectrum(self, site: Site, survey: &Survey<'_>) -> Result<Vec<f64>> {
        survey.spectrum(site, self.name(), |weight| match self {
            Self::Plain => Ok(singular_values(weight)?.iter().map(|s| s * s).collect()),
            _ => spectrum_under(&self.metric(site, survey)?, weight),
        })
    }
}
