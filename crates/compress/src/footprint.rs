//! What a run will take of memory and disk, foretold before any work is done.

use std::collections::BTreeMap;

use anyhow::Result;
use compress_calibrate::{Footprint as Walk, between_blocks, evidence};
use compress_checkpoint::{Checkpoint, Layout};
use compress_core::{Method, Needs, Plan, Site, Stream, Survey, Tokens};
use compress_evaluate::CORE;

use crate::{args::Planning, evidence::Route, memory};

/// The program while it writes a tokenizer: of a small model more than all that comes after it.
const PROGRAM: usize = 80_000_000;

/// What stays where a text was made tokens.
const TOKENIZER: usize = 70_000_000;

/// What compressing takes at its fullest, in bytes.
#[derive(Clone, Copy, Debug, Default)]
pub struct Footprint {
    /// Memory, that of the program itself included.
    pub memory: usize,
    /// Disk, the output included.
    pub disk: u64,
    /// Of that, measurements.
    pub evidence: u64,
    /// Streams whose weights are compressed side by side, where all is measured before.
    pub side_by_side: usize,
}

/// Foretells what carrying out a plan takes; `limit` is the memory that it may take.
pub fn foretell<M: Method>(
    (method, plan): (&M, &Plan<M::Step>),
    survey: &Survey<'_>,
    (model, layout): (&Checkpoint, &Layout),
    (arguments, context): (&Planning, Option<usize>),
    limit: memory::Memory,
) -> Result<Footprint> {
    let route = Route::of(method, plan, arguments);
    let (windows, time) = arguments.calibration.windows(context, model.config());
    let walk = Walk {
        config: model.config(),
        windows,
        time,
        aim: route.aim,
        attended: plan.tokens() == Tokens::Attended,
    };
    let own = memory::resident();
    let threads = rayon::current_num_threads();
    let shape = |site: Site| survey.shape(site);
    let mut groups: Vec<usize> = Vec::new();
    for (Stream { inlet, .. }, steps) in by_stream(plan) {
        let compressing = method.memory(&steps, &shape, threads)?;
        groups.push(if route.walks {
            let rest = walk.held(inlet) + compressing;
            rest.max(walk.measuring(inlet)).max(walk.solving(inlet))
        } else {
            compressing
        });
    }
    groups.sort_unstable_by(|a, b| b.cmp(a));
    let largest = groups.first().copied().unwrap_or(0);
    let side_by_side = if route.walks {
        1
    } else {
        let room = limit.bytes().saturating_sub(own) / largest.max(1);
        room.clamp(1, threads.min(groups.len()).max(1))
    };
    let together: usize = groups.iter().take(side_by_side).sum();
    let before = route.before;
    let measuring = if before == Needs::NOTHING {
        0
    } else {
        walk.passing(before.gradients)
    };
    let evidence = evidence(model.config(), before);
    let between = between_blocks(model.config(), windows * time, before);
    let walking = if route.walks { walk.disk() } else { 0 };
    // The output is begun when what was measured before is there.
    let compressed = layout.bytes() as u64 + walking;
    let tokens = if route.walks || before != Needs::NOTHING {
        TOKENIZER
    } else {
        0
    };
    Ok(Footprint {
        memory: (own + tokens + threads * CORE + together.max(measuring)).max(PROGRAM),
        disk: evidence + compressed.max(between),
        evidence,
        side_by_side,
    })
}

/// The steps of a plan by the stream that their weights read.
fn by_stream<S: compress_core::Step>(plan: &Plan<S>) -> BTreeMap<Stream, Vec<S>> {
    let mut by_stream: BTreeMap<Stream, Vec<S>> = BTreeMap::new();
    for planned in &plan.steps {
        for (site, _) in planned.step.forms() {
            let steps = by_stream.entry(site.stream()).or_default();
            steps.push(planned.step.clone());
        }
    }
    by_stream
}
