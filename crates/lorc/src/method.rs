//! `LoRC` as a [`Method`]: the same options for every chosen weight, one factorisation of H per layer input.
//!
//! It needs no data for rounding to nearest with absmax scales and a plain correction. GPTQ, searched scales,
//! refinement and the activation metric need H; attention-weighted tokens need another H for keys and values. Weights
//! are rounded independently of each other, but under refit every H is measured behind the rounded blocks before it.

use std::collections::BTreeMap;

use compress_core::{
    Budget, Edit, Factor, Form, Method, Needs, Pair, Result, Shape, Site, Step, Store, Survey,
    TokenWeights,
};
use compress_numerics::side_by_side;
use compress_svd::{Metric, Norm, Weighting, spectrum_under};
use serde::{Deserialize, Serialize};

use crate::{
    DAMPING, Hessian, Rounded, RoundingOptions, auto_ranks, memory::memory, quantise, round,
    round::lost,
};

/// Quantisation with a low-rank correction, at a fixed number of bits.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Lorc {
    /// The options of every weight, but for the rank under `auto_rank`.
    pub options: RoundingOptions,
    /// Whether the rank is chosen in place of the one in `options`: one rank for all weights, and 0 for those where it
    /// is not worth its bits ([`auto_ranks`]). Planning then rounds every weight once.
    pub auto_rank: bool,
    /// The norm in which corrections are optimal.
    pub metric: Norm,
    /// The token weights of H, for codes, scales and correction alike.
    pub tokens: TokenWeights,
}

/// The step: round a weight, and correct it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Round {
    /// Which weight.
    pub site: Site,
    /// The norm in which the correction is optimal, and the error reported.
    pub metric: Norm,
    /// The token weights of its H.
    #[serde(default)]
    pub tokens: TokenWeights,
    /// Scheme, algorithm, rank.
    pub options: RoundingOptions,
}

impl Method for Lorc {
    type Step = Round;

    /// All of them: a step has its own copy of each.
    const PLANNING: &'static [&'static str] = &["options", "auto_rank", "metric", "tokens"];

    fn name(&self) -> &'static str {
        "lorc"
    }

    fn needs_to_plan(&self) -> Needs {
        if self.auto_rank {
            needs(&self.options, self.metric, self.tokens)
        } else {
            Needs::NOTHING
        }
    }

    fn needs(&self, step: &Round) -> Needs {
        needs(&step.options, step.metric, step.tokens)
    }

    /// A step for every chosen site. The options decide the size by bits; a budget of parameters is ignored, since
    /// rounding keeps their number.
    fn plan(&self, survey: &Survey<'_>, _: Option<Budget>) -> Result<Vec<Round>> {
        let sites: Vec<(Site, Shape)> = survey.sites().collect();
        // Impossible options are refused before hours are spent on rounding for the choice of a rank.
        for &(site, shape) in &sites {
            let step = self.step(site, shape, self.options.rank);
            step.check(|_| Ok(shape))?;
        }
        let ranks = if self.auto_rank {
            self.ranks(&sites, survey)?
        } else {
            vec![self.options.rank; sites.len()]
        };
        // Sites without a correction get a step too: they are rounded all the same.
        let steps = sites.into_iter().zip(ranks);
        let steps = steps.map(|((site, shape), rank)| self.step(site, shape, rank));
        Ok(steps.collect())
    }

    fn compress(&self, steps: &[Round], survey: &Survey<'_>) -> Result<Vec<Edit>> {
        let mut edits = BTreeMap::new();
        for places in by_input(steps) {
            let readers: Vec<Round> = places.iter().map(|&place| steps[place]).collect();
            let input = Input::of(&readers, survey)?;
            // No more at a time than there are threads, as `memory` reckons.
            let one = |index: usize| readers[index].carry_out(&input, survey);
            let done = side_by_side(readers.len(), usize::MAX, one)?;
            edits.extend(places.into_iter().zip(done));
        }
        Ok(edits.into_values().collect())
    }

    fn memory(
        &self,
        steps: &[Round],
        shape: &dyn Fn(Site) -> Result<Shape>,
        threads: usize,
    ) -> Result<usize> {
        memory(steps, shape, threads)
    }
}

impl Lorc {
    /// The step for a weight; the rank is cut to min(m, n), so that one rank goes for all shapes.
    fn step(&self, site: Site, shape: Shape, rank: usize) -> Round {
        Round {
            site,
            metric: self.metric,
            tokens: self.tokens,
            options: RoundingOptions {
                rank: rank.min(shape.full_rank()),
                ..self.options
            },
        }
    }

    /// The rank of each weight's correction, from the spectra of all rounding errors: one where it is worth its bits, 0
    /// elsewhere.
    fn ranks(&self, sites: &[(Site, Shape)], survey: &Survey<'_>) -> Result<Vec<usize>> {
        let step = |(site, shape): &(Site, Shape)| self.step(*site, *shape, self.options.rank);
        let steps: Vec<Round> = sites.iter().map(step).collect();
        let inputs = by_input(&steps);
        // Layer inputs in parallel, each with its H: as many as there are threads.
        let spectra = side_by_side(inputs.len(), usize::MAX, |index| {
            let places = &inputs[index];
            let readers: Vec<Round> = places.iter().map(|&place| steps[place]).collect();
            let input = Input::of(&readers, survey)?;
            let spectrum = |reader: usize| readers[reader].spectrum_of_error(&input, survey);
            side_by_side(readers.len(), usize::MAX, spectrum)
        });
        let spectra = inputs.iter().flatten().zip(spectra?.into_iter().flatten());
        let spectra: BTreeMap<_, _> = spectra.collect();
        let shapes = sites.iter().map(|(_, shape)| *shape);
        let errors: Vec<_> = shapes.zip(spectra.into_values()).collect();
        Ok(auto_ranks(&errors, self.options.keep))
    }
}

/// The positions of steps whose weights share a prepared H: those of one layer input, apart where tokens are weighted
/// (keys and values against the query) or the order of rounding differs.
pub(crate) fn by_input(steps: &[Round]) -> Vec<Vec<usize>> {
    let mut inputs: BTreeMap<_, Vec<usize>> = BTreeMap::new();
    for (place, step) in steps.iter().enumerate() {
        let weighted = step.tokens.are_weighted(step.site);
        let input = (step.site.input(), weighted, step.options.in_act_order());
        inputs.entry(input).or_default().push(place);
    }
    inputs.into_values().collect()
}

/// The two things derived from one H, for all weights that share it.
struct Input {
    /// Its factorisation for GPTQ, importance and refinement; none where no step needs it.
    hessian: Option<Hessian>,
    /// The metric of corrections, damped far less; none where no step asks for it.
    weighting: Option<Weighting>,
}

impl Input {
    /// Loads and prepares H as far as the steps of its readers need it. They agree in `act_order` and in whether tokens
    /// are weighted, by [`by_input`].
    fn of(readers: &[Round], survey: &Survey<'_>) -> Result<Self> {
        let Some(first) = readers.first() else {
            let (hessian, weighting) = (None, None);
            return Ok(Self { hessian, weighting });
        };
        let of_metric = |step: &Round| step.metric == Norm::Activation;
        let (by_codes, by_metric) = (
            readers.iter().any(|step| step.options.needs_hessian()),
            readers.iter().any(of_metric),
        );
        // A root of H is needed only to cut errors with more outputs than inputs, on their side.
        let mut rooted = false;
        for step in readers.iter().filter(|step| of_metric(step)) {
            let shape = survey.shape(step.site)?;
            rooted |= step.options.rank > 0 && shape.rows > shape.cols;
        }
        // Loaded for each use, since both consume it.
        let h = || survey.activations_by(first.site, first.tokens);
        let mut weighting = by_metric.then(|| h().map(|h| Metric::activation(h).inputs));
        if rooted {
            weighting = weighting.map(|found| found.and_then(Weighting::rooted));
        }
        let hessian = by_codes.then(|| Hessian::new(h()?, DAMPING, first.options.in_act_order()));
        Ok(Self {
            weighting: weighting.transpose()?,
            hessian: hessian.transpose()?,
        })
    }
}

impl Round {
    /// Rounds and corrects one weight.
    fn carry_out(&self, input: &Input, survey: &Survey<'_>) -> Result<Edit> {
        let Self { site, options, .. } = *self;
        let (weight, metric) = (survey.weight(site)?, self.metric(input, survey)?);
        let Rounded {
            quantised,
            up,
            down,
            error,
        } = round(&weight, self.hessian(input), &metric, &options)?;
        let base = Store::Quantised(quantised);
        let factor = match up.zip(down) {
            Some((up, down)) => Factor::Sum {
                base,
                correction: Pair::new(up, down),
            },
            None => Factor::Whole(base),
        };
        Ok(Edit {
            site,
            factor,
            error,
        })
    }

    /// The spectrum of the rounding error in the norm of the correction: the squared error that each rank removes,
    /// largest first.
    fn spectrum_of_error(&self, input: &Input, survey: &Survey<'_>) -> Result<Vec<f64>> {
        let (weight, metric) = (survey.weight(self.site)?, self.metric(input, survey)?);
        let rounded = quantise(&weight, self.hessian(input), &self.options)?;
        spectrum_under(&metric, &lost(&weight, &rounded))
    }

    /// The factorised H, unless this step does without.
    fn hessian<'a>(&self, input: &'a Input) -> Option<&'a Hessian> {
        let needed = self.options.needs_hessian();
        input.hessian.as_ref().filter(|_| needed)
    }

    /// The norm of the correction, with the shared weighting of the inputs where there is one.
    fn metric(&self, input: &Input, survey: &Survey<'_>) -> Result<Metric> {
        match (self.metric, &input.weighting) {
            (Norm::Activation, Some(inputs)) => Ok(Metric {
                outputs: Weighting::Even,
                inputs: inputs.clone(),
            }),
            // Norms whose weighting is not shared here: the plain one, and those by gradients.
            (other, _) => other.metric(self.site, survey),
        }
    }
}

impl Step for Round {
    const KIND: &'static str = "round";

    fn forms(&self) -> Vec<(Site, Form)> {
        let RoundingOptions { scheme, rank, .. } = self.options;
        vec![(self.site, Form::quantised(scheme, rank))]
    }

    /// Uniform where H is not used at all, so that no attention is measured for nothing.
    fn tokens(&self) -> TokenWeights {
        if self.options.needs_hessian() || self.metric.needs().activations {
            self.tokens
        } else {
            TokenWeights::Uniform
        }
    }

    fn check(&self, shape: impl Fn(Site) -> Result<Shape>) -> Result<()> {
        self.options.check(self.site, shape(self.site)?)
    }
}

/// The measurements that these options need.
fn needs(options: &RoundingOptions, metric: Norm, tokens: TokenWeights) -> Needs {
    let metric = metric.needs();
    let activations = options.needs_hessian() || metric.activations;
    Needs {
        activations,
        attention_weighted: activations && tokens == TokenWeights::Attention,
        ..metric
    }
}
