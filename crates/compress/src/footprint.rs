//! Memory and disk that a run will take, predicted before any work is done.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Result;
use compress_calibrate::{PassFootprint, between_blocks, evidence};
use compress_checkpoint::{Checkpoint, Layout};
use compress_core::{LayerInput, Method, Needs, Plan, Shape, Site, Survey, TokenWeights};
use compress_evaluate::CORE;

use crate::{evidence::Route, job::Planning, memory};

/// The program while it writes a tokenizer: of a small model more than all that comes after it.
const PROGRAM: usize = 80_000_000;

/// Bytes that stay allocated once a text has been tokenised.
const TOKENIZER: usize = 70_000_000;

/// Peak use while compressing, in bytes.
#[derive(Clone, Debug, Default)]
pub struct Footprint {
    /// Memory, that of the program itself included.
    pub memory: usize,
    /// Disk, the output included.
    pub disk: u64,
    /// Of that, measurements.
    pub evidence: u64,
    /// The parallelism that memory allows.
    pub parallel: Parallel,
}

/// The parallelism that memory allows.
#[derive(Clone, Debug, Default)]
pub struct Parallel {
    /// Streams whose weights are compressed side by side, where all is measured before.
    pub inputs: usize,
    /// Streams whose weights do not fit side by side, and are compressed one after the other.
    pub apart: BTreeSet<LayerInput>,
}

/// Predicts what carrying out a plan takes; `limit` is the memory that it may take.
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
    let own = memory::resident();
    let threads = rayon::current_num_threads();
    let shape = |site: Site| survey.shape(site);
    let tokens = if route.in_turn || route.before != Needs::NOTHING {
        TOKENIZER
    } else {
        0
    };
    let fixed = own + tokens + threads * CORE;
    let groups = by_input(plan);
    let needs = Needed {
        method,
        groups: &groups,
        pass: route.in_turn.then_some(&pass),
        shape: &shape,
    };
    let (parallel, together) = needs.within(limit.bytes().saturating_sub(fixed), threads)?;
    let before = route.before;
    let measuring = if before == Needs::NOTHING {
        0
    } else {
        pass.passing(before.gradients)
    };
    let evidence = evidence(model.config(), before);
    let between = between_blocks(model.config(), windows * time, before);
    let passing = if route.in_turn { pass.disk() } else { 0 };
    // The output is begun when what was measured before is there.
    let compressed = layout.bytes() as u64 + passing;
    Ok(Footprint {
        memory: (fixed + together.max(measuring)).max(PROGRAM),
        disk: evidence + compressed.max(between),
        evidence,
        parallel,
    })
}

/// The bytes that the weights of each input need.
struct Needed<'a, M: Method> {
    method: &'a M,
    groups: &'a Groups<M::Step>,
    /// Where they are measured when their turn comes.
    pass: Option<&'a PassFootprint<'a>>,
    shape: &'a dyn Fn(Site) -> compress_core::Result<Shape>,
}

/// The steps of a plan by the input that their weights read.
type Groups<S> = BTreeMap<Option<LayerInput>, Vec<S>>;

impl<M: Method> Needed<'_, M> {
    /// As much at the same time as fits in `room`, and the bytes that it takes.
    fn within(&self, room: usize, threads: usize) -> Result<(Parallel, usize)> {
        let most = match self.pass {
            Some(_) => 1,
            None => threads.min(self.groups.len()).max(1),
        };
        let mut parallel = Parallel {
            inputs: 1,
            apart: BTreeSet::new(),
        };
        // Streams side by side share the threads.
        for inputs in (2..=most).rev() {
            let together = largest(self.bytes(threads / inputs, &parallel.apart)?, inputs);
            if together <= room {
                return Ok((Parallel { inputs, ..parallel }, together));
            }
        }
        let together = self.bytes(threads, &parallel.apart)?.into_iter();
        let too_large = self
            .groups
            .keys()
            .zip(together)
            .filter(|(_, bytes)| *bytes > room);
        parallel.apart = too_large.filter_map(|(input, _)| *input).collect();
        let bytes = largest(self.bytes(threads, &parallel.apart)?, 1);
        Ok((parallel, bytes))
    }

    /// Bytes for each input, on so many threads; the weights of some inputs one after the other.
    fn bytes(&self, threads: usize, apart: &BTreeSet<LayerInput>) -> Result<Vec<usize>> {
        let of_group = |(input, steps): (&Option<LayerInput>, &Vec<M::Step>)| {
            let alone = input.is_some_and(|input| apart.contains(&input));
            let at_once = if alone { 1 } else { steps.len().max(1) };
            let mut compressing = 0;
            for steps in steps.chunks(at_once) {
                compressing = compressing.max(self.method.memory(steps, self.shape, threads)?);
            }
            Ok(match (input, self.pass) {
                (Some(LayerInput { kind, .. }), Some(pass)) => {
                    let rest = pass.held(*kind) + compressing;
                    rest.max(pass.measuring(*kind)).max(pass.solving(*kind))
                }
                _ => compressing,
            })
        };
        self.groups.iter().map(of_group).collect()
    }
}

/// The sum of the largest ones.
fn largest(mut bytes: Vec<usize>, count: usize) -> usize {
    bytes.sort_unstable_by(|a, b| b.cmp(a));
    bytes.iter().take(count).sum()
}

fn by_input<S: compress_core::Step>(plan: &Plan<S>) -> Groups<S> {
    let mut by_input: Groups<S> = BTreeMap::new();
    for planned in &plan.steps {
        for (site, _) in planned.step.forms() {
            let steps = by_input.entry(site.input()).or_default();
            steps.push(planned.step.clone());
        }
    }
    by_input
}
