//! The norms by name, and how each is made of a survey's evidence.

use compress_core::{Matrix, Needs, Result, Site, Survey};
use compress_numerics::linalg::singular_values;
use serde::{Deserialize, Serialize};

use crate::{Metric, Weighting, spectrum_under};

/// The error of a weight that a cut minimises.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Norm {
    /// The error of the weight itself: ‖W − Ŵ‖. Needs no data.
    #[default]
    Plain,
    /// The error of its outputs on a calibration text: ‖(W − Ŵ) H^½‖, H = Σ x xᵀ (SVD-LLM, arXiv 2403.07378).
    Activation,
    /// Inputs weighted by their Fisher information: ‖(W − Ŵ) diag(f)^½‖ (FWSVD, arXiv 2207.00112).
    InputFisher,
    /// The estimated change of the loss: ‖G^½ (W − Ŵ) H^½‖, G = Σ g gᵀ (GFWSVD, arXiv 2505.17974).
    Kronecker,
}

impl Norm {
    /// Its name in plans, on the command line and beside kept spectra.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::Activation => "activation",
            Self::InputFisher => "input_fisher",
            Self::Kronecker => "kronecker",
        }
    }

    /// The measurements that it is made of.
    #[must_use]
    pub const fn needs(self) -> Needs {
        Needs {
            activations: matches!(self, Self::Activation | Self::Kronecker),
            attention_weighted: false,
            gradients: matches!(self, Self::InputFisher | Self::Kronecker),
            lens: false,
        }
    }

    /// The metric of one weight. Fails as [`inputs`](Self::inputs) and [`outputs`](Self::outputs) do.
    pub fn metric(self, site: Site, survey: &Survey<'_>) -> Result<Metric> {
        Ok(Metric {
            outputs: self.outputs(site, survey)?,
            inputs: self.inputs(site, survey)?,
        })
    }

    /// Whether all weights that read one layer input have the same weighting of inputs, H.
    #[must_use]
    pub const fn shares_inputs(self) -> bool {
        self.needs().activations
    }

    /// The weighting of a weight's inputs. Fails where the measurement is missing, or where the activations are zero.
    ///
    /// Zero gradients weight all alike: no cut changes the loss, and then the one that changes the outputs least, or
    /// the weight itself, is taken.
    pub fn inputs(self, site: Site, survey: &Survey<'_>) -> Result<Weighting> {
        Ok(match self {
            Self::Plain => Weighting::Even,
            Self::Activation | Self::Kronecker => Weighting::damped(survey.activations(site)?),
            Self::InputFisher => match survey.input_fisher(site)? {
                zero if zero.iter().all(|x| *x == 0.0) => Weighting::Even,
                fisher => Metric::input_fisher(fisher).inputs,
            },
        })
    }

    /// The weighting of a weight's outputs. Fails where the measurement is missing; zero gradients as for
    /// [`inputs`](Self::inputs).
    pub fn outputs(self, site: Site, survey: &Survey<'_>) -> Result<Weighting> {
        Ok(match self {
            Self::Plain | Self::Activation | Self::InputFisher => Weighting::Even,
            Self::Kronecker => match survey.output_gradients(site)? {
                zero if zero.trace() == 0.0 => Weighting::Even,
                gradients => Weighting::damped(gradients),
            },
        })
    }

    /// The spectrum of a weight in this norm, largest first: the squared singular values where it is plain, else the
    /// eigenvalues of [`spectrum_under`]. Cutting to rank r costs the sum of those after the first r.
    ///
    /// One eigendecomposition, unless the survey knows the spectrum already.
    pub fn spectrum(self, site: Site, survey: &Survey<'_>) -> Result<Vec<f64>> {
        survey.spectrum(site, self.name(), |weight| {
            self.spectrum_of(weight, &self.metric(site, survey)?)
        })
    }

    /// The spectrum of a matrix under the metric of a weight in this norm.
    pub fn spectrum_of(self, matrix: &Matrix, metric: &Metric) -> Result<Vec<f64>> {
        let no_gradients = match self {
            Self::Plain => return Ok(singular_values(matrix)?.iter().map(|s| s * s).collect()),
            Self::Kronecker => metric.outputs.is_even(),
            Self::InputFisher => metric.inputs.is_even(),
            Self::Activation => false,
        };
        // Then no rank is worth anything.
        if no_gradients {
            return Ok(vec![0.0; matrix.shape().full_rank()]);
        }
        spectrum_under(metric, matrix)
    }
}
