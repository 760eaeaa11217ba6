//! Training on the next token, through the whole model.

use burn::tensor::Tensor;
use compress_calibrate::{BlockTrace, backward, of_loss_after_norm, trace};
use compress_evaluate::perplexity;
use compress_models::{Decoder, RotaryAngles, vjp};
use rayon::prelude::*;

use crate::{
    Ending, Journal, Lesson, Optimiser, Point, Result, Schedule, Trained,
    curve::{self, looks_in_vain},
    sums::add,
    trained::{by_scale, count, matrices, set, tensor_names},
};

/// Loss and gradients over some windows.
pub struct Step {
    /// Their mean loss.
    pub loss: f64,
    /// Its gradients by the trained matrices, block after block and then the last norm.
    pub gradients: Vec<Tensor<2>>,
}

/// Runs windows of equal length through a model, and back.
///
/// As many windows as there are cores go side by side; what they give is added in their order, so that
/// sums are the same for any number of threads.
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

/// A window's share of the loss, and its gradients.
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
    let mut gradients = Vec::with_capacity(passes.len() + 1);
    if trained.norms {
        gradients.push(vec![by_scale(&model.norm, &x, &by_normed)]);
    }
    let [mut next] = vjp([x], by_normed, |[x]| model.norm.forward(x));
    for (block, trace) in model.blocks.iter().zip(passes).rev() {
        let by = backward(block, &trace, angles, next);
        gradients.push(trained.gradients(block, &trace, &by));
        next = by.residual;
    }
    Ok(Step {
        loss: share * loss,
        gradients: gradients.into_iter().rev().flatten().collect(),
    })
}

/// Trains a model; it ends as it was when the held-out windows liked it best, also where the loss is no number
/// any more. An error where that happens before there is any better state than the start.
pub fn train(model: &mut Decoder, lesson: &Lesson<'_>, journal: &mut Journal) -> Result<Ending> {
    let options = lesson.options;
    let trained = options.trained;
    lesson.length()?;
    let names = tensor_names(model, trained)?;
    let mut optimiser = Optimiser::new(options, names.len());
    let found = journal.restore(&names, &mut optimiser, &model.device())?;
    let mut best = matrices(model, trained);
    let parameters = count(&best);
    if let Some(found) = found {
        set(model, trained, found.values);
        best = found.best;
    } else {
        let held_out = perplexity(model, lesson.held_out, &|_| ())?.loss;
        journal.curve.push(Point::start(None, held_out));
    }
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
            journal.save(&names, &now, &best, &optimiser)?;
        }
        lesson.progress.advance(1);
    }
    set(model, trained, best);
    let diverged = curve::diverged(&journal.curve);
    let ending = Ending {
        parameters,
        diverged: diverged.into_iter().collect(),
    };
    ending.unless_in_vain(curve::improved(&journal.curve))
}

/// The mean loss of the held-out windows; NaN where the model gives logits that are none.
fn held_out_loss(model: &Decoder, lesson: &Lesson<'_>) -> Result<f64> {
    match perplexity(model, lesson.held_out, &|_| ()) {
        Ok(score) => Ok(score.loss),
        Err(compress_evaluate::Error::NonFinite { .. }) => Ok(f64::NAN),
        Err(error) => Err(error.into()),
    }
}
