//! Training on the next token, through the whole model.
//!
//! ```text
//! L = −(1/T) Σ_t ln p(token_{t+1} | tokens ≤ t)
//! ```
//!
//! Needs the whole model in memory, and for each window under way the activations of all blocks. A step costs a
//! forward and a backward pass for each window of the batch.

use burn::tensor::Tensor;
use compress_calibrate::{BlockTrace, backward, of_loss_after_norm, trace};
use compress_evaluate::perplexity;
use compress_models::{Decoder, RotaryAngles, vjp};
use rayon::prelude::*;

use crate::{
    Ending, Journal, Lesson, Optimiser, Point, Result, Schedule, Trained, atoms,
    curve::{self, looks_in_vain},
    sums::add,
    trained::{by_scale, count, matrices, set, tensor_names},
};

/// The loss of some windows, and its gradients.
pub struct Step {
    /// The mean next-token loss of the windows, in nats.
    pub loss: f64,
    /// By the trained matrices, in the order of [`tensors`](crate::tensors).
    pub gradients: Vec<Tensor<2>>,
}

/// The mean loss of windows of equal length, and its gradients, by one forward and one backward pass for each.
///
/// As many windows as there are threads run side by side; gradients are accumulated in the windows' order, so that
/// sums are the same for any number of threads. Fails on windows of different lengths, or a token outside the
/// vocabulary.
pub fn loss_and_gradients(model: &Decoder, trained: Trained, windows: &[&[u32]]) -> Result<Step> {
    let time = windows.first().map_or(0, |window| window.len());
    let angles = model.rotary.angles(0..time, &model.device());
    let share = (windows.len() as f64).recip();
    let mut total = Step {
        loss: 0.0,
        gradients: Vec::new(),
    };
    for group in windows.chunks(rayon::current_num_threads()) {
        let one = |window: &&[u32]| of_window(model, trained, &angles, window, share);
        let each = group.par_iter().with_max_len(1).map(one);
        for step in each.collect::<Result<Vec<_>>>()? {
            total.loss += step.loss;
            total.gradients = add(total.gradients, step.gradients);
        }
    }
    Ok(total)
}

/// One window's share of the mean loss, and of its gradients.
fn of_window(
    model: &Decoder,
    trained: Trained,
    angles: &RotaryAngles,
    window: &[u32],
    share: f64,
) -> Result<Step> {
    let mut x = model.embed(&[window])?;
    let mut passes: Vec<BlockTrace> = Vec::with_capacity(model.blocks.len());
    for block in &model.blocks {
        let trace = trace(block, x, angles);
        x = trace.next.clone();
        passes.push(trace);
    }
    let (loss, by_normed) = of_loss_after_norm(model, &x, window)?;
    let by_normed = by_normed * share;
    // Gradients come from the last block to the first, each block's as one list; they are turned around at the end.
    let mut gradients = Vec::with_capacity(passes.len() + 1);
    if trained.norms {
        gradients.push(vec![by_scale(&model.norm, &x, &by_normed)]);
    }
    let mut atoms = atoms::Sums::default();
    let [mut next] = vjp([x], by_normed, |[x]| model.norm.forward(x));
    for (block, trace) in model.blocks.iter().zip(passes).rev() {
        let by = backward(block, &trace, angles, next);
        let found = trained.gradients(block, &trace, &by);
        gradients.push(found.own);
        for (group, gradient) in found.atoms {
            atoms.add(group, gradient);
        }
        next = by.residual;
    }
    Ok(Step {
        loss: share * loss,
        gradients: gradients
            .into_iter()
            .rev()
            .flatten()
            .chain(atoms.into_gradients())
            .collect(),
    })
}

/// Trains a model, and leaves it at its state of lowest held-out loss, also where training diverged.
///
/// Goes on where the journal stands, to the same curve as without a break. Fails where there is nothing to train, where
/// atoms to be trained are rounded, where the device or a file does, and where training diverged before any state was better than the start.
pub fn train(model: &mut Decoder, lesson: &Lesson<'_>, journal: &mut Journal) -> Result<Ending> {
    let options = lesson.options;
    let trained = options.trained;
    lesson.length()?;
    if trained.atoms {
        atoms::check(model)?;
        atoms::level(model)?;
    }
    let names = tensor_names(model, trained)?;
    let mut optimiser = Optimiser::new(options, names.len());
    let mut best = begin(model, lesson, journal, (&names, &mut optimiser))?;
    let parameters = count(&best);
    let schedule = Schedule::new(options);
    let done = curve::steps(&journal.curve);
    lesson.progress.start("training", options.steps);
    lesson.progress.advance(done);
    for step in done..options.steps {
        if looks_in_vain(&journal.curve) >= options.patience {
            break;
        }
        let found = loss_and_gradients(model, trained, &lesson.batch(step))?;
        let rate = schedule.rate(step);
        // A loss that is not finite has no gradients to step by.
        if found.loss.is_finite() {
            let values = optimiser.step(rate, matrices(model, trained), found.gradients);
            set(model, trained, values);
        }
        let look = (step + 1) % options.interval == 0 || step + 1 == options.steps;
        let look = look && found.loss.is_finite();
        let held_out = look.then(|| held_out_loss(model, lesson)).transpose()?;
        let least = curve::best(&journal.curve);
        let point = Point::after(step, None, rate, (found.loss, held_out));
        journal.curve.push(point);
        if curve::diverged(&journal.curve).is_some() {
            break;
        }
        if let Some(loss) = held_out {
            lesson.progress.show(&format!("held-out loss {loss:.4}"));
            let now = matrices(model, trained);
            if least.is_none_or(|least| loss < least) {
                best.clone_from(&now);
            }
            // Saved at evaluations only: a killed run repeats at most the steps since the last.
            journal.save(&names, &now, &best, &optimiser)?;
        }
        lesson.progress.advance(1);
    }
    set(model, trained, best);
    let diverged = curve::diverged(&journal.curve);
    let ending = Ending {
        parameters,
        steps: curve::steps(&journal.curve) - done,
        diverged: diverged.into_iter().collect(),
    };
    ending.unless_in_vain(curve::improved(&journal.curve))
}

/// Takes up what a killed training saved, or looks at the model as it is. The best matrices so far.
fn begin(
    model: &mut Decoder,
    lesson: &Lesson<'_>,
    journal: &mut Journal,
    (names, optimiser): (&[String], &mut Optimiser),
) -> Result<Vec<Tensor<2>>> {
    let trained = lesson.options.trained;
    if let Some(found) = journal.restore(names, optimiser, &model.device())? {
        set(model, trained, found.values);
        return Ok(found.best);
    }
    let held_out = perplexity(model, lesson.held_out, &|_| ())?.loss;
    journal.curve.push(Point::start(None, held_out));
    Ok(matrices(model, trained))
}

/// The mean loss of the held-out windows; NaN, not an error, where logits are not finite, since that is divergence.
fn held_out_loss(model: &Decoder, lesson: &Lesson<'_>) -> Result<f64> {
    match perplexity(model, lesson.held_out, &|_| ()) {
        Ok(score) => Ok(score.loss),
        Err(compress_evaluate::Error::NonFinite { .. }) => Ok(f64::NAN),
        Err(error) => Err(error.into()),
    }
}
