//! Training on the next token, through the whole model.

use burn::tensor::Tensor;
use compress_calibrate::{Walk, backward, of_loss, walk};
use compress_evaluate::perplexity;
use compress_models::{Decoder, Turns};
use rayon::prelude::*;

use crate::{
    Error, Journal, Lesson, Optimiser, Point, Result, Schedule, Trained,
    curve::{self, looks_in_vain},
    sums::add,
    trained::{matrices, names, set},
};

/// What some windows ask of a model.
pub struct Step {
    /// Their mean loss.
    pub loss: f64,
    /// Its gradients by the trained matrices, block after block.
    pub gradients: Vec<Tensor<2>>,
}

/// Runs windows of equal length through a model, and back.
///
/// As many windows as there are cores go side by side; what they give is added in their order, so that
/// sums are the same for any number of threads.
pub fn loss_and_gradients(model: &Decoder, trained: Trained, windows: &[&[u32]]) -> Result<Step> {
    let time = windows.first().map_or(0, |window| window.len());
    let turns = model.rotary.turns(0..time, &model.device());
    let share = (windows.len() as f64).recip();
    let mut total = Step {
        loss: 0.0,
        gradients: Vec::new(),
    };
    for group in windows.chunks(rayon::current_num_threads()) {
        let one = |window: &&[u32]| of_window(model, trained, &turns, window, share);
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
    turns: &Turns,
    window: &[u32],
    share: f64,
) -> Result<Step> {
    let mut x = model.embed(&[window])?;
    let mut walks: Vec<Walk> = Vec::with_capacity(model.blocks.len());
    for block in &model.blocks {
        let walk = walk(block, x, turns);
        x = walk.next.clone();
        walks.push(walk);
    }
    let (loss, next) = of_loss(model, x, window)?;
    let mut next = next * share;
    let mut gradients = Vec::with_capacity(walks.len());
    for (block, walk) in model.blocks.iter().zip(walks).rev() {
        let by = backward(block, &walk, turns, next);
        gradients.push(trained.gradients(block, &walk, &by));
        next = by.residual;
    }
    Ok(Step {
        loss: share * loss,
        gradients: gradients.into_iter().rev().flatten().collect(),
    })
}

/// Trains a model; it ends as it was when the held-out windows liked it best.
pub fn train(model: &mut Decoder, lesson: &Lesson<'_>, journal: &mut Journal) -> Result<()> {
    let options = lesson.options;
    let trained = options.trained;
    let names = names(model, trained)?;
    let mut optimiser = Optimiser::new(options, names.len());
    let found = journal.restore(&names, &mut optimiser, &model.device())?;
    let mut best = matrices(model, trained);
    if let Some(found) = found {
        set(model, trained, found.values);
        best = found.best;
    } else {
        let held_out = held_out_loss(model, lesson)?;
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
        if !found.loss.is_finite() {
            let loss = found.loss;
            return Err(Error::Diverged { step, loss });
        }
        let rate = schedule.rate(step);
        let values = optimiser.step(rate, matrices(model, trained), found.gradients);
        set(model, trained, values);
        let look = (step + 1) % options.interval == 0 || step + 1 == options.steps;
        let held_out = look.then(|| held_out_loss(model, lesson)).transpose()?;
        let least = curve::best(&journal.curve);
        journal.curve.push(Point {
            step: step + 1,
            block: None,
            rate,
            loss: found.loss,
            held_out,
        });
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
    Ok(())
}

fn held_out_loss(model: &Decoder, lesson: &Lesson<'_>) -> Result<f64> {
    let score = perplexity(model, lesson.held_out, &|_| ())?;
    Ok(score.perplexity.ln())
}
