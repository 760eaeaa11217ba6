//! From a plan to factors where they belong, the same for every method.
//!
//! ```text
//! dictionaries  first, what several weights share, of the original's weights
//! at_once       steps of several layer inputs side by side; all evidence is there before
//! in_sequence   layer input after layer input; H is measured when its weights have their turn, and goes with them
//! ```
//!
//! The steps of one layer input are one call of a method, so that what they share (a factorisation of H) is made
//! once. Factors go to the writer as soon as they are made: memory holds those of the inputs under way.

use std::{
    cmp::Reverse,
    collections::BTreeMap,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use compress_calibrate::{Measured, RefitTarget, Sequential};
use compress_checkpoint::{Checkpoint, Writer};
use compress_core::{
    Dictionaries, DictionariesInMemory, Edit, Evidence, LayerInput, Matrix, Method, Plan, Planned,
    Role, Site, Step as _, Survey, Symmetric, TokenWeights,
};
use compress_numerics::side_by_side;

use crate::{
    footprint::Parallel,
    job::OutputForm,
    pipeline::{by_input, sites, written},
    progress,
};

/// The time between two blocks that are recorded: what a kill loses at most, or else a block.
const INTERVAL: Duration = Duration::from_secs(1);

/// A plan, and everything that carrying it out takes.
pub struct Compression<'a, M: Method> {
    /// Makes the factors.
    pub method: &'a M,
    /// The steps to carry out.
    pub plan: &'a Plan<M::Step>,
    /// The weights of the source, with the evidence that was measured before.
    pub survey: &'a Survey<'a>,
    /// Takes the factors, and knows the steps that earlier runs have finished.
    pub writer: &'a Writer<'a>,
    /// How factors are written.
    pub form: &'a OutputForm,
    /// The parallelism that memory allows.
    pub parallel: &'a Parallel,
    /// Without progress.
    pub quiet: bool,
}

/// The result of compressing.
pub struct Compressed {
    /// Relative squared error of every changed weight.
    pub errors: BTreeMap<Site, f64>,
    /// How long it took in this run, passes behind compressed blocks included.
    pub seconds: f64,
}

impl<M: Method> Compression<'_, M> {
    /// Makes the atoms that no earlier run has made, and gives what later steps take them from: the file, which has them
    /// as they are stored; memory, where the output has none of them (`--dense`, and methods that share nothing).
    fn dictionaries(&self) -> Result<Box<dyn Dictionaries>> {
        let steps = self.plan.steps.iter().map(|planned| &planned.step);
        let shares = steps.clone().any(|step| step.dictionary().is_some());
        if self.form.dense || !shares {
            let made = DictionariesInMemory::of(self.method, steps, self.survey)?;
            return Ok(Box::new(made));
        }
        for (index, step) in steps.enumerate() {
            if step.dictionary().is_none() || self.writer.finished().contains_key(&index) {
                continue;
            }
            let mut atoms = self.method.share(step, self.survey)?;
            if let Some(scheme) = self.form.factors {
                atoms = atoms.quantised(scheme)?;
            }
            self.writer.put_dictionary(index, &atoms)?;
            self.writer.settle()?;
        }
        Ok(Box::new(Checkpoint::open(&self.writer.model())?))
    }

    /// Carries out every step that is not done yet: those of one layer input together, some inputs side by side.
    /// Results are written as soon as those of a layer input are there.
    ///
    /// Errors of steps that an earlier run has done come from the journal.
    pub fn at_once(&self) -> Result<Compressed> {
        let start = Instant::now();
        let dictionaries = self.dictionaries()?;
        let survey = self.survey.for_part().with_dictionaries(&*dictionaries);
        let inputs = self.largest_first()?;
        let steps = inputs.iter().map(|(_, steps)| steps.len()).sum();
        let bar = progress::bar("compressing", steps, self.quiet);
        let finished = self.writer.finished();
        let one = |input: usize| {
            let (input, steps) = &inputs[input];
            // Steps are journalled one by one: of an input's steps a killed run may have done some.
            let (done, left): (Vec<usize>, Vec<usize>) =
                steps.iter().partition(|index| finished.contains_key(index));
            let known = done.iter().filter_map(|index| finished.get(index));
            let mut errors: Vec<(Site, f64)> = known.flatten().copied().collect();
            errors.extend(self.carry_out(*input, &left, &survey)?);
            bar.inc(steps.len() as u64);
            anyhow::Ok(errors)
        };
        // Not rayon's iterators: they may start one input while another waits, and memory was reckoned for so many.
        let errors = side_by_side(inputs.len(), self.parallel.inputs, one)?;
        bar.finish_and_clear();
        Ok(Compressed {
            errors: errors.into_iter().flatten().collect(),
            seconds: start.elapsed().as_secs_f64(),
        })
    }

    /// The steps by their layer inputs, those that take the most memory first.
    ///
    /// The largest then meet at the beginning, as `Footprint` reckons, and no large one is left to a single thread at
    /// the end.
    fn largest_first(&self) -> Result<Vec<(LayerInput, Vec<usize>)>> {
        let mut sized = Vec::new();
        for (input, indices) in by_input(self.plan)? {
            let steps = indices
                .iter()
                .map(|&index| Ok(self.planned(index)?.step.clone()));
            let steps = steps.collect::<Result<Vec<_>>>()?;
            let shape = |site| self.survey.shape(site);
            sized.push((self.method.memory(&steps, &shape, 1)?, (input, indices)));
        }
        sized.sort_by_key(|(bytes, _)| Reverse(*bytes)); // stable: among equals in the order of blocks
        Ok(sized.into_iter().map(|(_, of_input)| of_input).collect())
    }

    /// Carries out the steps of one layer input after those of the other, each measured when its turn comes, and goes
    /// on from the first block that an earlier run has not finished.
    pub fn in_sequence(
        &self,
        passes: &Sequential<'_>,
        refit: Option<RefitTarget>,
    ) -> Result<Compressed> {
        let start = Instant::now();
        let dictionaries = self.dictionaries()?;
        let by_input = by_input(self.plan)?;
        let first = self.writer.first_block();
        let mut errors = self.errors_before(first);
        // Behind the last block that has a step nothing is measured.
        let layers = by_input.keys().map(|input| input.layer + 1).max();
        let (mut recorded, mut clock) = (first, Instant::now());
        for layer in first..layers.unwrap_or(0) {
            passes.through(layer, |mut measured| {
                let input = measured.input;
                // A layer input without steps is passed all the same: later ones lie behind it.
                let steps = by_input.get(&input);
                let steps = steps.map_or(&[][..], Vec::as_slice);
                // Solved for before the method sees the weight: to the method the target is the weight.
                let targets = if refit == Some(RefitTarget::Original) {
                    measured.targets(self.weights(steps)?)?
                } else {
                    BTreeMap::new()
                };
                // `measured` is moved in, and goes at the end of this closure: there is one H at a time.
                let here = Here {
                    survey: self.survey,
                    measured,
                };
                // A survey of its own, since evidence and targets are those of this input.
                let survey = self.survey.for_part().with_evidence(&here);
                let survey = survey
                    .with_targets(targets)
                    .with_dictionaries(&*dictionaries);
                errors.extend(self.carry_out(input, steps, &survey)?);
                anyhow::Ok(())
            })?;
            let begins = recorded; // a killed run, with this block
            // To be durable costs milliseconds: blocks of small models are recorded once a second.
            if clock.elapsed() >= INTERVAL {
                passes.settle(layer + 1)?;
                // First the journal, then the states: killed between the two, a run begins with the next block.
                self.writer.put_block(layer + 1)?;
                (recorded, clock) = (layer + 1, Instant::now());
            }
            for passed in [begins, layer] {
                if passed != recorded {
                    passes.forget(passed)?;
                }
            }
        }
        Ok(Compressed {
            errors,
            seconds: start.elapsed().as_secs_f64(),
        })
    }

    /// The errors of weights in blocks that an earlier run has finished. A block that was begun is done anew from its first
    /// weight, since its H was in memory only: its errors in the journal are not taken.
    fn errors_before(&self, block: usize) -> BTreeMap<Site, f64> {
        let done = self.writer.finished().values().flatten();
        let done = done.filter(|(site, _)| site.layer() < Some(block));
        done.copied().collect()
    }

    /// Carries out the steps of one layer input, and writes what each gives; the errors of the weights.
    fn carry_out(
        &self,
        input: LayerInput,
        indices: &[usize],
        survey: &Survey<'_>,
    ) -> Result<Vec<(Site, f64)>> {
        // One after the other where there is no memory for all side by side; what they share is then made anew for
        // each.
        let parts = indices.chunks(self.parallel.at_once(input, indices.len()));
        let parts = parts.map(|indices| self.carry_out_together(indices, survey));
        let errors = parts.collect::<Result<Vec<_>>>()?;
        Ok(errors.into_iter().flatten().collect())
    }

    /// Carries out some steps of one layer input in one call of the method, and writes what they give.
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
        // Edits come back as one list; the journal has a line for each step.
        let mut by_step: BTreeMap<usize, Vec<Edit>> = BTreeMap::new();
        for edit in self.method.compress(&steps, survey)? {
            let edit = written(edit, self.form)?;
            let index = step_of.get(&edit.site).context("an edit of no step")?;
            by_step.entry(*index).or_default().push(edit);
        }
        for (index, edits) in &by_step {
            self.writer.put(*index, edits)?;
        }
        // Once for all steps of the call: a sync of the files takes milliseconds, and is made at most once a second.
        self.writer.settle()?;
        let edits = by_step.into_values().flatten();
        Ok(edits.map(|edit| (edit.site, edit.error)).collect())
    }

    /// The weights of some steps, and how each step counts tokens, as [`Measured::targets`] takes them.
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

    /// A step of the plan by its index.
    fn planned(&self, index: usize) -> Result<&Planned<M::Step>> {
        let planned = self.plan.steps.get(index);
        planned.context("a plan without this step")
    }
}

/// Measurements at one layer input as they were taken now; all others, gradients among them, as they were measured
/// before.
struct Here<'a> {
    /// Has the measurements that were taken before.
    survey: &'a Survey<'a>,
    /// The sums at the layer input whose turn it is.
    measured: Measured,
}

impl Evidence for Here<'_> {
    fn activations(&self, input: LayerInput) -> compress_core::Result<Symmetric> {
        if input == self.measured.input {
            return Ok(self.measured.activations().clone());
        }
        // A survey is asked by weights: any that reads this input will do.
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

    fn lens(&self, layer: usize) -> compress_core::Result<f64> {
        self.survey.lens(layer)
    }
}
