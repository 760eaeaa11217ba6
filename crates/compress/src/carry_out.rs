//! From a plan to factors where they belong, the same for every method.

use std::{collections::BTreeMap, time::Instant};

use anyhow::{Context as _, Result};
use compress_calibrate::{Measured, RefitTarget, Sequential};
use compress_checkpoint::Writer;
use compress_core::{
    Edit, Evidence, LayerInput, Matrix, Method, Plan, Planned, Role, Site, Step as _, Survey,
    Symmetric, TokenWeights,
};
use compress_numerics::side_by_side;

use crate::{
    footprint::Parallel,
    job::OutputForm,
    pipeline::{by_input, sites, written},
    progress,
};

/// A plan, and everything that carrying it out takes.
pub struct Compression<'a, M: Method> {
    pub method: &'a M,
    pub plan: &'a Plan<M::Step>,
    pub survey: &'a Survey<'a>,
    pub writer: &'a Writer<'a>,
    pub form: &'a OutputForm,
    pub parallel: &'a Parallel,
    pub quiet: bool,
}

/// The result of compressing.
pub struct Compressed {
    /// Relative squared error of every changed weight.
    pub errors: BTreeMap<Site, f64>,
    pub seconds: f64,
}

impl<M: Method> Compression<'_, M> {
    /// Carries out every step that is not done yet, those of one layer input together and some inputs side by side,
    /// and writes the results of a layer input at once.
    pub fn at_once(&self) -> Result<Compressed> {
        let start = Instant::now();
        let bar = progress::bar("compressing", self.plan.steps.len(), self.quiet);
        let inputs: Vec<(LayerInput, Vec<usize>)> = by_input(self.plan)?.into_iter().collect();
        let finished = self.writer.finished();
        let one = |input: usize| {
            let (input, steps) = &inputs[input];
            let (done, left): (Vec<usize>, Vec<usize>) =
                steps.iter().partition(|index| finished.contains_key(index));
            let known = done.iter().filter_map(|index| finished.get(index));
            let mut errors: Vec<(Site, f64)> = known.flatten().copied().collect();
            errors.extend(self.carry_out(*input, &left, self.survey)?);
            bar.inc(steps.len() as u64);
            anyhow::Ok(errors)
        };
        let errors = side_by_side(inputs.len(), self.parallel.inputs, one)?;
        bar.finish_and_clear();
        Ok(Compressed {
            errors: errors.into_iter().flatten().collect(),
            seconds: start.elapsed().as_secs_f64(),
        })
    }

    /// Carries out the steps of one layer input after those of the other, each measured when its turn comes, and
    /// goes on from the first block that an earlier run has not finished.
    pub fn in_sequence(
        &self,
        passes: &Sequential<'_>,
        refit: Option<RefitTarget>,
    ) -> Result<Compressed> {
        let start = Instant::now();
        let by_input = by_input(self.plan)?;
        let first = self.writer.first_block();
        let done = self.writer.finished().values().flatten();
        let done = done.filter(|(site, _)| site.layer() < Some(first));
        let mut errors: BTreeMap<Site, f64> = done.copied().collect();
        let layers = by_input.keys().map(|input| input.layer + 1).max();
        for layer in first..layers.unwrap_or(0) {
            passes.through(layer, |mut measured| {
                let input = measured.input;
                let steps = by_input.get(&input);
                let steps = steps.map_or(&[][..], Vec::as_slice);
                let targets = if refit == Some(RefitTarget::Original) {
                    measured.targets(self.weights(steps)?)?
                } else {
                    BTreeMap::new()
                };
                let here = Here {
                    survey: self.survey,
                    measured,
                };
                let survey = Survey::new(self.survey.weights(), |site| self.survey.has(site));
                let survey = survey.with_evidence(&here).with_targets(targets);
                let survey = survey.storing_factors(self.form.factors);
                errors.extend(self.carry_out(input, steps, &survey)?);
                anyhow::Ok(())
            })?;
            self.writer.put_block(layer + 1)?;
            passes.forget(layer)?;
        }
        Ok(Compressed {
            errors,
            seconds: start.elapsed().as_secs_f64(),
        })
    }

    /// Carries out the steps of one layer input, and writes what each gives; the errors of the weights.
    fn carry_out(
        &self,
        input: LayerInput,
        indices: &[usize],
        survey: &Survey<'_>,
    ) -> Result<Vec<(Site, f64)>> {
        // What they share is made anew for each where there is no memory for them side by side.
        let parts = indices.chunks(self.parallel.at_once(input, indices.len()));
        let parts = parts.map(|indices| self.carry_out_together(indices, survey));
        let errors = parts.collect::<Result<Vec<_>>>()?;
        Ok(errors.into_iter().flatten().collect())
    }

    fn carry_out_together(
        &self,
        indices: &[usize],
        survey: &Survey<'_>,
    ) -> Result<Vec<(Site, f64)>> {
        let mut step_of = BTreeMap::new();
        let mut steps = Vec::new();
        for &index in indices {
            let planned = self.planned(index)?;
            step_of.extend(sites(planned).map(|site| (site, index)));
            steps.push(planned.step.clone());
        }
        let mut by_step: BTreeMap<usize, Vec<Edit>> = BTreeMap::new();
        for edit in self.method.compress(&steps, survey)? {
            let edit = written(edit, self.form)?;
            let index = step_of.get(&edit.site).context("an edit of no step")?;
            by_step.entry(*index).or_default().push(edit);
        }
        for (index, edits) in &by_step {
            self.writer.put(*index, edits)?;
        }
        self.writer.settle()?;
        let edits = by_step.into_values().flatten();
        Ok(edits.map(|edit| (edit.site, edit.error)).collect())
    }

    /// The weights of some steps, and how each step counts tokens.
    fn weights(&self, indices: &[usize]) -> Result<Vec<(Site, TokenWeights, Matrix)>> {
        let mut weights = Vec::new();
        for &index in indices {
            let planned = self.planned(index)?;
            for site in sites(planned) {
                let weight = self.survey.weight(site)?;
                weights.push((site, planned.step.tokens(), weight));
            }
        }
        Ok(weights)
    }

    fn planned(&self, index: usize) -> Result<&Planned<M::Step>> {
        let planned = self.plan.steps.get(index);
        planned.context("a plan without this step")
    }
}

/// Measurements at one input as they are there now; elsewhere as they were before.
struct Here<'a> {
    survey: &'a Survey<'a>,
    measured: Measured,
}

impl Evidence for Here<'_> {
    fn activations(&self, input: LayerInput) -> compress_core::Result<Symmetric> {
        if input == self.measured.input {
            return Ok(self.measured.activations().clone());
        }
        let site = Site::new(input.layer, input.kind.reader());
        self.survey.activations(site)
    }

    fn attention_weighted(&self, layer: usize) -> compress_core::Result<Symmetric> {
        let here = (layer == self.measured.input.layer).then(|| self.measured.attention_weighted());
        let elsewhere = || {
            let site = Site::new(layer, Role::Key);
            self.survey.activations_by(site, TokenWeights::Attention)
        };
        here.flatten().cloned().map_or_else(elsewhere, Ok)
    }

    fn output_gradients(&self, site: Site) -> compress_core::Result<Symmetric> {
        self.survey.output_gradients(site)
    }

    fn input_fisher(&self, site: Site) -> compress_core::Result<Vec<f64>> {
        self.survey.input_fisher(site)
    }
}
