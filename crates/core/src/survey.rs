//! A model as a method sees it: its sites, their shapes and weights, and the evidence of a calibration text.
//!
//! ```text
//! W        out × in     the weight of a site, or the refit target that takes its place
//! H        in × in      Σ x xᵀ over the layer input x of a site
//! G        out × out    Σ g gᵀ over the gradients g of the loss by a site's outputs
//! ```
//!
//! Weights and evidence are loaded one at a time and not cached here; only spectra are, since planning asks for
//! them again at every budget.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use crate::{
    Dictionaries, Dictionary, Error, Evidence, Factor, Group, Matrix, Result, Role, Scheme, Shape,
    Site, Symmetric, TokenWeights,
};

/// A source of the weights of a model, one at a time: a checkpoint on disk, or a model in memory.
///
/// [`load`](Self::load) may be called from several threads at the same time.
pub trait Weights: Sync {
    /// The sites with a whole weight, and the shape of each, out × in. Weights that are factored already are not among
    /// them.
    fn shapes(&self) -> BTreeMap<Site, Shape>;

    /// The weight of one site, out × in in `f32`, whatever the format on disk. Fails where the site does not exist or
    /// its tensor cannot be read; numbers that are not finite are refused by [`Survey::weight`].
    fn load(&self, site: Site) -> Result<Matrix>;
}

/// The sites that a method may touch, with access to their weights and evidence.
pub struct Survey<'a> {
    weights: &'a dyn Weights,
    evidence: Option<&'a dyn Evidence>,
    shapes: BTreeMap<Site, Shape>,
    chosen: Vec<Site>,
    /// Refit targets, out × in; the sites without one keep the weight of the model.
    targets: BTreeMap<Site, Matrix>,
    /// The atoms that are made already.
    dictionaries: Option<&'a dyn Dictionaries>,
    /// By site and name of the norm: eigenvalues, largest first.
    spectra: Mutex<BTreeMap<(Site, String), Vec<f64>>>,
    /// How low-rank factors are rounded in the output; none where they are stored as floats.
    factors: Option<Scheme>,
}

impl<'a> Survey<'a> {
    /// Surveys a model without evidence; methods plan for the sites for which `choose` says yes. The other sites keep
    /// their shapes and weights here, but get no steps.
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
            dictionaries: None,
            spectra: Mutex::default(),
            factors: None,
        }
    }

    /// The same with the measurements of a calibration text.
    #[must_use]
    pub fn with_evidence(self, evidence: &'a dyn Evidence) -> Self {
        Self {
            evidence: Some(evidence),
            ..self
        }
    }

    /// The same under refit: [`weight`](Self::weight) then gives the least-squares target that was solved for a site,
    /// which makes good for the errors of the compressed blocks before it, instead of the weight of the model.
    #[must_use]
    pub fn with_targets(self, targets: BTreeMap<Site, Matrix>) -> Self {
        Self { targets, ..self }
    }

    /// The same sites, with the atoms that were made for them.
    #[must_use]
    pub fn with_dictionaries(self, dictionaries: &'a dyn Dictionaries) -> Self {
        Self {
            dictionaries: Some(dictionaries),
            ..self
        }
    }

    /// The same model and evidence, to be given targets and atoms of one part of the work.
    #[must_use]
    pub fn for_part(&self) -> Survey<'_> {
        Survey {
            weights: self.weights,
            evidence: self.evidence,
            shapes: self.shapes.clone(),
            chosen: self.chosen.clone(),
            targets: BTreeMap::new(),
            dictionaries: self.dictionaries,
            spectra: Mutex::default(),
            factors: self.factors,
        }
    }

    /// The same for an output whose low-rank factors are rounded to the given scheme; floats where it is none.
    #[must_use]
    pub fn storing_factors(self, factors: Option<Scheme>) -> Self {
        Self { factors, ..self }
    }

    /// A low-rank factor after rounding to the output's scheme; none where nothing is rounded.
    ///
    /// Methods report the error of this factor, so that the cost of rounding is part of it. Fails where the scheme's
    /// groups do not divide the factors' columns, or where a factor is not finite.
    pub fn stored(&self, factor: &Factor) -> Result<Option<Factor>> {
        match (factor, self.factors) {
            (Factor::LowRank(pair), Some(scheme)) => {
                Ok(Some(Factor::LowRank(pair.quantised(scheme)?)))
            }
            // The atoms are as they are stored already.
            (
                Factor::Shared {
                    dictionary,
                    coefficients,
                    residual: Some(pair),
                },
                Some(scheme),
            ) => Ok(Some(Factor::Shared {
                dictionary: Arc::clone(dictionary),
                coefficients: coefficients.clone(),
                residual: Some(pair.quantised(scheme)?),
            })),
            // The correction of a sum stays in floats: it is meant to be loaded as an adapter.
            _ => Ok(None),
        }
    }

    /// H = Σ x xᵀ over the layer input of a site; in × in.
    ///
    /// Fails for embedding and head, which have no measured input, without evidence, and where H is zero: then no token
    /// of the text reached the weight, and any cut would look exact.
    pub fn activations(&self, site: Site) -> Result<Symmetric> {
        let what = "activations";
        let input = site.input().ok_or(Error::NotMeasured { site })?;
        let sum = self.evidence(site, what)?.activations(input)?;
        used(site, what, sum.trace(), sum)
    }

    /// The same with tokens weighted as `tokens` says: Σ a x xᵀ for keys and values under
    /// [`TokenWeights::Attention`], the plain H for every other site.
    pub fn activations_by(&self, site: Site, tokens: TokenWeights) -> Result<Symmetric> {
        let Some(layer) = site.layer().filter(|_| tokens.are_weighted(site)) else {
            return self.activations(site);
        };
        let what = "attention-weighted activations";
        let sum = self.evidence(site, what)?.attention_weighted(layer)?;
        used(site, what, sum.trace(), sum)
    }

    /// G = Σ g gᵀ over the gradients of the loss by a site's outputs; out × out. Fails without evidence.
    ///
    /// Zero where nothing behind the weight uses its outputs, as in a block that was added as an identity: any cut of
    /// it is free.
    pub fn output_gradients(&self, site: Site) -> Result<Symmetric> {
        let what = "gradients";
        self.evidence(site, what)?.output_gradients(site)
    }

    /// How far a block is from the one before it by the logit lens; see [`Evidence::lens`]. Fails without evidence.
    pub fn lens(&self, layer: usize) -> Result<f64> {
        let site = Site::new(layer, Role::Query);
        self.evidence(site, "the logit lens")?.lens(layer)
    }

    /// The Fisher information of each input of a site, summed over its outputs; a vector of length in. Fails, and is
    /// zero, as [`output_gradients`](Self::output_gradients).
    pub fn input_fisher(&self, site: Site) -> Result<Vec<f64>> {
        let what = "gradients";
        self.evidence(site, what)?.input_fisher(site)
    }

    /// The spectrum of a weight in the norm of the given name: the squared error that each rank removes, largest first,
    /// min(out, in) numbers.
    ///
    /// Calls `decompose` only where the spectrum is not known. Where the evidence is kept on disk, the spectrum is
    /// kept beside it, so that planning for a second budget costs no eigendecomposition.
    pub fn spectrum(
        &self,
        site: Site,
        norm: &str,
        decompose: impl FnOnce(&Matrix) -> Result<Vec<f64>>,
    ) -> Result<Vec<f64>> {
        if let Some(spectrum) = self.known_spectrum(site, norm)? {
            return Ok(spectrum);
        }
        // No lock is held here: a decomposition takes seconds, and other sites are decomposed meanwhile.
        let spectrum = decompose(&self.weight(site)?)?;
        if let Some(found) = self.evidence {
            found.remember_spectrum(site, norm, &spectrum)?;
        }
        self.spectra().insert((site, norm.into()), spectrum.clone());
        Ok(spectrum)
    }

    /// The same, where it is known without a decomposition.
    pub fn known_spectrum(&self, site: Site, norm: &str) -> Result<Option<Vec<f64>>> {
        let place = (site, norm.to_owned());
        if let Some(spectrum) = self.spectra().get(&place) {
            return Ok(Some(spectrum.clone()));
        }
        let remembered = self.evidence.map(|found| found.spectrum(site, norm));
        let remembered = remembered.transpose()?.flatten();
        if let Some(spectrum) = &remembered {
            self.spectra().insert(place, spectrum.clone());
        }
        Ok(remembered)
    }

    /// The spectra in memory. A poisoned lock is used as it is: entries are inserted whole, so a panic elsewhere leaves
    /// none half-written.
    fn spectra(&self) -> MutexGuard<'_, BTreeMap<(Site, String), Vec<f64>>> {
        self.spectra.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The atoms of a group, as they are stored. Fails where none are made yet.
    pub fn dictionary(&self, group: Group) -> Result<Arc<Dictionary>> {
        let problem = "its atoms are not made yet";
        let dictionaries = self.dictionaries;
        dictionaries
            .ok_or(Error::Dictionary { group, problem })?
            .dictionary(group)
    }

    /// The evidence, or the error that names the missing measurement.
    fn evidence(&self, site: Site, what: &'static str) -> Result<&'a dyn Evidence> {
        self.evidence.ok_or(Error::NoEvidence { site, what })
    }

    /// The source of the weights, without refit targets in their places.
    #[must_use]
    pub const fn weights(&self) -> &'a dyn Weights {
        self.weights
    }

    /// Whether a method may plan steps for a site.
    #[must_use]
    pub fn has(&self, site: Site) -> bool {
        self.chosen.contains(&site)
    }

    /// The chosen sites in the order of the network, with their shapes, out × in.
    pub fn sites(&self) -> impl Iterator<Item = (Site, Shape)> {
        self.chosen
            .iter()
            .filter_map(|site| Some((*site, *self.shapes.get(site)?)))
    }

    /// The shape of any site of the model, chosen or not; fails where the model has no whole weight there.
    pub fn shape(&self, site: Site) -> Result<Shape> {
        self.shapes
            .get(&site)
            .copied()
            .ok_or(Error::NoSuchSite { site })
    }

    /// The matrix that a step at this site approximates, out × in: the target W* that was solved for it where there is
    /// one (`--refit`), otherwise the weight of the model.
    ///
    /// Fails where the model has no such site, the source fails, or a number is NaN or infinite; the error names the
    /// first such number. Every call loads the weight anew.
    pub fn weight(&self, site: Site) -> Result<Matrix> {
        // First, so that a site that does not exist is reported as that, and not as an error of the source.
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

/// Passes a measurement on unless its sum is zero: then the calibration text never exercised the site, and every cut
/// of it would have the error 0. (A NaN is refused as well: it is not above 0.)
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

        fn lens(&self, _: usize) -> Result<f64> {
            Ok(0.0)
        }
    }

    #[test]
    fn a_weight_that_the_text_never_used_is_named() {
        let toy = Toy::new(1);
        let survey = Survey::new(&toy, |_| true).with_evidence(&Nothing);
        let site = Site::new(1, Role::Output);
        let error = survey.activations(site).unwrap_err();
        assert!(error.to_string().starts_with("1.output: all"), "{error}");
        // Without gradients a weight is free to cut, which is no error.
        assert!(survey.output_gradients(site).is_ok());
    }
}
