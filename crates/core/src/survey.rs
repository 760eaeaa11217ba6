//! What is known of a model: its sites, shapes and weights, and the evidence from running it.

use std::collections::BTreeMap;

use crate::{Error, Evidence, Matrix, Result, Shape, Site, Symmetric};

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

    /// H = Σ x xᵀ over what enters a site; in × in.
    pub fn activations(&self, site: Site) -> Result<Symmetric> {
        self.evidence(site, "activations")?
            .activations(site.stream())
    }

    /// G = Σ g gᵀ over the gradients of the loss by a site's outputs; out × out.
    pub fn output_gradients(&self, site: Site) -> Result<Symmetric> {
        self.evidence(site, "gradients")?.output_gradients(site)
    }

    /// The Fisher information of each input of a site; in.
    pub fn input_fisher(&self, site: Site) -> Result<Vec<f64>> {
        self.evidence(site, "gradients")?.input_fisher(site)
    }

    fn evidence(&self, site: Site, what: &'static str) -> Result<&'a dyn Evidence> {
        self.evidence.ok_or(Error::NoEvidence { site, what })
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

    /// The weight of any site of the model, all of its numbers finite.
    pub fn weight(&self, site: Site) -> Result<Matrix> {
        self.shape(site)?;
        let weight = self.weights.load(site)?;
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
