//! What is known of a model: its sites, shapes and weights, and the evidence from running it.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
};

use crate::{
    Error, Evidence, Factor, Matrix, Result, Scheme, Shape, Site, Symmetric, TokenWeights,
};

/// Whoever can hand out the weights of a model, one at a time.
pub trait Weights: Sync {
    /// The sites there are and the shape of each, out × in.
    fn shapes(&self) -> BTreeMap<Site, Shape>;

    /// The weight of one site; fails when it is damaged.
    fn load(&self, site: Site) -> Result<Matrix>;
}

/// The sites that a method may touch.
pub struct Survey<'a> {
    weights: &'a dyn Weights,
    evidence: Option<&'a dyn Evidence>,
    shapes: BTreeMap<Site, Shape>,
    chosen: Vec<Site>,
    targets: BTreeMap<Site, Matrix>,
    spectra: Mutex<BTreeMap<(Site, &'static str), Vec<f64>>>,
    factors: Option<Scheme>,
}

impl<'a> Survey<'a> {
    /// Surveys a model; methods plan for the sites for which `choose` says yes.
    pub fn new(weights: &'a dyn Weights, choose: impl Fn(Site) -> bool) -> Self {
        let shapes = weights.shapes();
        let chosen = shapes
            .keys()
            .copied()
            .filter(|&site| choose(site))
            .collect();
        Self {
            weights,
            evidence: None,
            shapes,
            chosen,
            targets: BTreeMap::new(),
            spectra: Mutex::default(),
            factors: None,
        }
    }

    /// The same with measurements.
    #[must_use]
    pub fn with_evidence(self, evidence: &'a dyn Evidence) -> Self {
        Self {
            evidence: Some(evidence),
            ..self
        }
    }

    /// The same where some weights are to become something else than they are: under refit what was solved
    /// for, so that they make good for the errors of the blocks before them.
    #[must_use]
    pub fn with_targets(self, targets: BTreeMap<Site, Matrix>) -> Self {
        Self { targets, ..self }
    }

    /// The same for an output whose low-rank factors are rounded, where a scheme is given.
    #[must_use]
    pub fn storing_factors(self, factors: Option<Scheme>) -> Self {
        Self { factors, ..self }
    }

    /// A factor as it will be stored and read back; none where that is as it is. What rounding costs is part
    /// of a method's error.
    pub fn stored(&self, factor: &Factor) -> Result<Option<Factor>> {
        match (factor, self.factors) {
            (Factor::LowRank(pair), Some(scheme)) => {
                Ok(Some(Factor::LowRank(pair.quantised(scheme)?)))
            }
            _ => Ok(None),
        }
    }

    /// H = Σ x xᵀ over what enters a site; in × in.
    pub fn activations(&self, site: Site) -> Result<Symmetric> {
        let what = "activations";
        let input = site.input().ok_or(Error::NotMeasured { site })?;
        let sum = self.evidence(site, what)?.activations(input)?;
        used(site, what, sum.trace(), sum)
    }

    /// The same with tokens counted as `tokens` says.
    pub fn activations_by(&self, site: Site, tokens: TokenWeights) -> Result<Symmetric> {
        let Some(layer) = site.layer().filter(|_| tokens.are_weighted(site)) else {
            return self.activations(site);
        };
        let what = "attention-weighted activations";
        let sum = self.evidence(site, what)?.attention_weighted(layer)?;
        used(site, what, sum.trace(), sum)
    }

    /// G = Σ g gᵀ over the gradients of the loss by a site's outputs; out × out.
    pub fn output_gradients(&self, site: Site) -> Result<Symmetric> {
        let what = "gradients";
        let sum = self.evidence(site, what)?.output_gradients(site)?;
        used(site, what, sum.trace(), sum)
    }

    /// The Fisher information of each input of a site; in.
    pub fn input_fisher(&self, site: Site) -> Result<Vec<f64>> {
        let what = "gradients";
        let fisher = self.evidence(site, what)?.input_fisher(site)?;
        used(site, what, fisher.iter().sum(), fisher)
    }

    /// What each rank of a weight is worth in a norm of the given name, largest first: what
    /// `decompose` finds, once; measured norms are remembered beside what they were measured by.
    pub fn spectrum(
        &self,
        site: Site,
        norm: &'static str,
        decompose: impl FnOnce(&Matrix) -> Result<Vec<f64>>,
    ) -> Result<Vec<f64>> {
        let known = || self.spectra.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(spectrum) = known().get(&(site, norm)) {
            return Ok(spectrum.clone());
        }
        let remembered = self.evidence.map(|found| found.spectrum(site, norm));
        let spectrum = if let Some(spectrum) = remembered.transpose()?.flatten() {
            spectrum
        } else {
            let spectrum = decompose(&self.weight(site)?)?;
            if let Some(found) = self.evidence {
                found.remember_spectrum(site, norm, &spectrum)?;
            }
            spectrum
        };
        known().insert((site, norm), spectrum.clone());
        Ok(spectrum)
    }

    fn evidence(&self, site: Site, what: &'static str) -> Result<&'a dyn Evidence> {
        self.evidence.ok_or(Error::NoEvidence { site, what })
    }

    /// Whoever hands out the weights.
    #[must_use]
    pub const fn weights(&self) -> &'a dyn Weights {
        self.weights
    }

    /// Whether a method is to plan for a site.
    #[must_use]
    pub fn has(&self, site: Site) -> bool {
        self.chosen.contains(&site)
    }

    /// The sites that a method is to plan for, in the order of the network, with their shapes.
    pub fn sites(&self) -> impl Iterator<Item = (Site, Shape)> {
        self.chosen
            .iter()
            .filter_map(|site| Some((*site, *self.shapes.get(site)?)))
    }

    /// The shape of any site of the model.
    pub fn shape(&self, site: Site) -> Result<Shape> {
        self.shapes
            .get(&site)
            .copied()
            .ok_or(Error::NoSuchSite { site })
    }

    /// What a step at this site is to approximate, all of its numbers finite: the weight of the model, or under
    /// refit the target that was solved for it.
    pub fn weight(&self, site: Site) -> Result<Matrix> {
        self.shape(site)?;
        let target = self.targets.get(&site).cloned();
        let weight = target.map_or_else(|| self.weights.load(site), Ok)?;
        match weight.first_non_finite() {
            Some((row, column, value)) => Err(Error::NonFinite {
                site,
                row,
                column,
                value,
            }),
            None => Ok(weight),
        }
    }
}

/// What was measured, unless all of it is zero: then it says nothing about the site.
fn used<T>(site: Site, what: &'static str, sum: f64, measured: T) -> Result<T> {
    if sum > 0.0 {
        Ok(measured)
    } else {
        Err(Error::NoSignal { site, what })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{LayerInput, Role, testing::Toy};

    struct Nothing;

    impl Evidence for Nothing {
        fn activations(&self, _: LayerInput) -> Result<Symmetric> {
            Ok(Symmetric::zeros(24))
        }

        fn attention_weighted(&self, _: usize) -> Result<Symmetric> {
            Ok(Symmetric::zeros(24))
        }

        fn output_gradients(&self, _: Site) -> Result<Symmetric> {
            Ok(Symmetric::zeros(24))
        }

        fn input_fisher(&self, _: Site) -> Result<Vec<f64>> {
            Ok(vec![0.0; 24])
        }
    }

    #[test]
    fn a_weight_that_the_text_never_used_is_named() {
        let toy = Toy::new(1);
        let survey = Survey::new(&toy, |_| true).with_evidence(&Nothing);
        let site = Site::new(1, Role::Output);
        for error in [
            survey.activations(site).unwrap_err(),
            survey.output_gradients(site).unwrap_err(),
            survey.input_fisher(site).unwrap_err(),
        ] {
            assert!(error.to_string().starts_with("1.output: all"), "{error}");
        }
    }
}
