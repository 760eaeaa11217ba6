//! Memory and disk that a run will take, predicted before any work is done.
//!
//! ```text
//! memory   the program + what each thread keeps + the larger of  measuring before,  compressing
//! disk     evidence + the larger of  the output and states of passes,  states between blocks while measuring before
//! ```
//!
//! `plan` and `run` tell of it; `run` takes from it how much may go on side by side in `--memory`.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Result;
use compress_calibrate::{PassFootprint, between_blocks, evidence};
use compress_checkpoint::{Checkpoint, Config, Layout};
use compress_core::{LayerInput, Method, Needs, Plan, Shape, Site, Step, Survey, TokenWeights};
use compress_evaluate::CORE;

use crate::{evidence::Route, job::Planning, memory, pipeline::by_input};

/// The program while it writes a tokenizer: of a small model more than all that comes after it.
const PROGRAM: usize = 80_000_000;

/// Bytes that stay allocated once a text has been tokenised.
const TOKENIZER: usize = 70_000_000;

/// Bytes that stay on each thread beside those of [`CORE`]: code that has been run, and huge pages that small blocks
/// keep. Where a text was tokenised, what that has left is used first.
const THREAD: usize = 10_000_000;

/// Peak use while compressing, in bytes.
#[derive(Clone, Debug, Default)]
pub struct Footprint {
    /// Peak memory, that of the program itself included.
    pub memory: usize,
    /// Peak disk, the output included.
    pub disk: u64,
    /// Of that, measurements.
    pub evidence: u64,
    /// The parallelism that memory allows.
    pub parallel: Parallel,
}

/// The parallelism that memory allows: fixed before the run, so that it is told and kept.
#[derive(Clone, Debug, Default)]
pub struct Parallel {
    /// Inputs whose weights are compressed side by side, where all is measured before.
    pub inputs: usize,
    /// Inputs whose weights do not fit side by side, and are compressed one after the other.
    pub apart: BTreeSet<LayerInput>,
}

impl Parallel {
    /// So many inputs side by side, and weights of some of them apart.
    fn of(inputs: usize, apart: impl IntoIterator<Item = LayerInput>) -> Self {
        let apart = apart.into_iter().collect();
        Self { inputs, apart }
    }

    /// How many of an input's steps are carried out together; at least one.
    pub fn at_once(&self, input: LayerInput, steps: usize) -> usize {
        let most = if self.apart.contains(&input) {
            1
        } else {
            steps
        };
        most.max(1)
    }
}

/// Predicts what carrying out a plan takes; `limit` is the memory that it may take.
///
/// Parallelism is the most that fits; where nothing fits, the least is predicted, which may be above the limit.
pub fn preview<M: Method>(
    (method, plan): (&M, &Plan<M::Step>),
    survey: &Survey<'_>,
    (model, layout): (&Checkpoint, &Layout),
    (arguments, context): (&Planning, Option<usize>),
    limit: memory::Memory,
) -> Result<Footprint> {
    let route = Route::of(method, plan, arguments);
    let (windows, time) = arguments.calibration.windows(context, model.config());
    let pass = PassFootprint {
        config: model.config(),
        windows,
        time,
        refit: route.refit,
        attention_weighted: plan.tokens() == TokenWeights::Attention,
    };
    let threads = rayon::current_num_threads();
    let shape = |site: Site| survey.shape(site);
    let reads = route.in_turn || route.before != Needs::NOTHING;
    let fixed = fixed(reads) + atoms(plan, arguments, &route, model.config());
    let step = |index: usize| plan.steps[index].step.clone();
    let steps = by_input(plan)?.into_iter();
    let steps = steps.map(|(input, of_input)| (input, of_input.into_iter().map(step).collect()));
    let needs = Needed {
        method,
        steps: steps.collect(),
        pass: route.in_turn.then_some(&pass),
        shape: &shape,
    };
    let (parallel, together) = needs.within(limit.bytes().saturating_sub(fixed), threads)?;
    let sharing = sharing((method, plan), &shape, threads)?;
    let before = route.before;
    // What only planning needs was measured in the same way, a little earlier.
    let lens = method.needs_to_plan().lens;
    let measured = Needs { lens, ..before };
    let measures = measured != Needs::NOTHING;
    let passing = pass.passing(measured, room_to_measure(limit));
    let measuring = usize::from(measures) * passing;
    let evidence = evidence(model.config(), before);
    let between = between_blocks(model.config(), windows * time, before);
    let passing = if route.in_turn { pass.disk() } else { 0 };
    // The output is begun when what was measured before is there: its bytes and those between blocks are not on disk
    // at once.
    let compressed = layout.bytes() as u64 + passing;
    Ok(Footprint {
        memory: (fixed + together.max(measuring).max(sharing)).max(PROGRAM),
        disk: evidence + compressed.max(between),
        evidence,
        parallel,
    })
}

/// Bytes that are taken whatever the work is; `reads` where a text is tokenised as well.
fn fixed(reads: bool) -> usize {
    // Measured, not predicted: the model is open, and its survey made.
    let own = memory::resident();
    let threads = rayon::current_num_threads();
    let kept = (threads * THREAD).max(usize::from(reads) * TOKENIZER);
    own + kept + threads * CORE
}

/// Bytes of a limit that are left for measuring before anything is compressed.
pub fn room_to_measure(limit: memory::Memory) -> usize {
    limit.bytes().saturating_sub(fixed(true))
}

/// Atoms in memory beside what is counted by weights: those of which the pass of the compressed model mixes one; all of
/// them where the output has none.
fn atoms<S: Step>(plan: &Plan<S>, arguments: &Planning, route: &Route, config: &Config) -> usize {
    let forms = plan.steps.iter();
    let forms = forms.filter_map(|planned| planned.step.dictionary());
    let bytes = forms.map(|form| {
        let shape = config.weight_shape(form.group.start());
        size_of::<f32>() * form.shape(shape).size()
    });
    if arguments.form.dense {
        return bytes.sum();
    }
    let largest = bytes.max().unwrap_or(0);
    route.refit.map_or(0, |_| largest)
}

/// Peak bytes while atoms are made, before any weight is compressed: of one group after the other.
fn sharing<M: Method>(
    (method, plan): (&M, &Plan<M::Step>),
    shape: &dyn Fn(Site) -> compress_core::Result<Shape>,
    threads: usize,
) -> Result<usize> {
    let steps = plan.steps.iter().map(|planned| &planned.step);
    let mut most = 0;
    for step in steps.filter(|step| step.dictionary().is_some()) {
        most = most.max(method.memory(std::slice::from_ref(step), shape, threads)?);
    }
    Ok(most)
}

/// What the weights of each layer input need: the trial of one parallelism after another.
struct Needed<'a, M: Method> {
    /// Predicts its own memory.
    method: &'a M,
    /// The steps by the layer input that their weights read.
    steps: BTreeMap<LayerInput, Vec<M::Step>>,
    /// The pass in which they are measured when their turn comes; none where all is there before.
    pass: Option<&'a PassFootprint<'a>>,
    /// The shapes of weights.
    shape: &'a dyn Fn(Site) -> compress_core::Result<Shape>,
}

impl<M: Method> Needed<'_, M> {
    /// As much at the same time as fits in `room`, and the bytes that it takes.
    ///
    /// Tried in this order: several inputs side by side; one input with all of its weights together; one input, with
    /// weights one after the other where they do not fit together.
    fn within(&self, room: usize, threads: usize) -> Result<(Parallel, usize)> {
        // In a pass there is one H at a time, and so one input.
        let most = match self.pass {
            Some(_) => 1,
            None => threads.min(self.steps.len()).max(1),
        };
        // Inputs side by side share the threads.
        for inputs in (2..=most).rev() {
            let parallel = Parallel::of(inputs, []);
            let bytes = largest(self.bytes(threads / inputs, &parallel)?, inputs);
            if bytes <= room {
                return Ok((parallel, bytes));
            }
        }
        let together = self.bytes(threads, &Parallel::of(1, []))?;
        let all = self.steps.keys().copied();
        let apart = self.bytes(threads, &Parallel::of(1, all.clone()))?;
        // Apart only where that helps. It does not where measuring takes the most; what weights share would then be
        // made anew for each of them in vain.
        let helps = all.zip(together.iter().zip(&apart));
        let helps = helps.filter(|(_, (together, apart))| **together > room && apart < together);
        let parallel = Parallel::of(1, helps.map(|(input, _)| input));
        let bytes = largest(self.bytes(threads, &parallel)?, 1);
        Ok((parallel, bytes))
    }

    /// Peak bytes of each input by itself, on so many threads; in a pass measuring and solving for targets are
    /// counted as well.
    fn bytes(&self, threads: usize, parallel: &Parallel) -> Result<Vec<usize>> {
        let of_input = |(&input, steps): (&LayerInput, &Vec<M::Step>)| {
            let mut compressing = 0;
            for steps in steps.chunks(parallel.at_once(input, steps.len())) {
                compressing = compressing.max(self.method.memory(steps, self.shape, threads)?);
            }
            Ok(self.pass.map_or(compressing, |pass| {
                // Measuring, solving and compressing follow each other: the largest counts. H and the weights stay
                // for compressing.
                let held = pass.held(input.kind) + compressing;
                held.max(pass.solving(input.kind))
                    .max(pass.measuring(input.kind))
            }))
        };
        self.steps.iter().map(of_input).collect()
    }
}

/// The sum of the `count` largest: these inputs may come together.
fn largest(mut bytes: Vec<usize>, count: usize) -> usize {
    bytes.sort_unstable_by(|a, b| b.cmp(a));
    bytes.iter().take(count).sum()
}

#[cfg(test)]
mod tests {
    use compress_core::{InputKind, Role, Truncate, testing::Toy};
    use compress_svd::Svd;

    use super::*;

    #[test]
    fn weights_go_apart_only_where_that_takes_less() {
        let toy = Toy::new(1);
        let survey = Survey::new(&toy, |_| true);
        let step = |role| Truncate {
            site: Site::new(0, role),
            rank: 2,
        };
        let (several, one) = (InputKind::FeedForward, InputKind::Output);
        let [several, one] = [several, one].map(|kind| LayerInput::new(0, kind));
        let needed = Needed {
            method: &Svd::default(),
            steps: [
                (several, vec![step(Role::Gate), step(Role::Up)]),
                (one, vec![step(Role::Output)]),
            ]
            .into(),
            pass: None,
            shape: &|site| survey.shape(site),
        };
        let (parallel, bytes) = needed.within(0, 2).unwrap();
        assert_eq!(parallel.apart, [several].into());
        let (side_by_side, more) = needed.within(usize::MAX, 2).unwrap();
        assert!(side_by_side.apart.is_empty() && side_by_side.inputs == 2);
        assert!(bytes < more);
    }
}
