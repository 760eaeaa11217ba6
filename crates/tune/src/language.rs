//! Training on the next token, through the whole model.

use burn::tensor::Tensor;
use compress_calibrate::{Walk, backward, of_loss, walk};
use compress_evaluate::perplexity;
use compress_models::Decoder;
use rayon::prelude::*;

use crate::{
    Error, Journal, Lesson, Optimiser, Point, Result, Schedule, Trained,
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
/// Windows go side by side, on all cores; their gradients are added in their order, so that the sums
/// are the same for any number of threads.
pub fn loss_and_gradients(model: &Decoder, trained: Trained, windows: &[&[u32]]) -> Result<Step> {
    let turns = {
        let time = windows.first().map_or(0, |window| window.len());
        model.rotary.turns(0..time, &model.device())
    };
    let onward = |window: &&[u32]| {
        let mut x = model.embed(&[window])?;
        let mut walks = Vec::with_capacity(model.blocks.len());
        for block in &model.blocks {
            let walk = walk(block, x, &turns);
            x = walk.next.clone();
            walks.push(walk);
        }
        let (loss, by_last) = of_loss(model, x, window)?;
        Ok((loss, by_last, walks))
    };
    let ways: Vec<(f64, Tensor<3>, Vec<Walk>)> = windows
        .par_iter()
        .with_max_len(1)
        .map(onward)
        .collect::<Result<_>>()?;
    let share = (windows.len() as f64).recip();
    let loss = share * ways.iter().map(|way| way.0).sum::<f64>();
    let (mut by_residual, mut walks): (Vec<_>, Vec<_>) =
        ways.into_iter().map(|way| (way.1 * share, way.2)).unzip();
    let mut gradients = Vec::new();
    for block in model.blocks.iter().rev() {
        let back = |(next, walks): (Tensor<3>, &mut Vec<Walk>)| {
            let walk = walks.pop()?;
            let by = backward(block, &walk, &turns, next);
            Some((trained.gradients(block, &walk, &by), by.residual))
        };
        let each: Vec<(Vec<Tensor<2>>, Tensor<3>)> = by_residual
            .into_par_iter()
            .zip(walks.par_iter_mut())
            .with_max_len(1)
            .filter_map(back)
            .collect();
        let (of_block, before): (Vec<_>, Vec<_>) = each.into_iter().unzip();
        by_residual = before;
        gradients.push(sum(of_block));
    }
    gradients.reverse();
    Ok(Step {
        loss,
        gradients: gradients.into_iter().flatten().collect(),
    })
}

/// Adds lists of matrices, in their order.
pub fn sum(lists: Vec<Vec<Tensor<2>>>) -> Vec<Tensor<2>> {
    let add = |a: Vec<Tensor<2>>, b: Vec<Tensor<2>>| -> Vec<Tensor<2>> {
        a.into_par_iter().zip(b).map(|(a, b)| a + b).collect()
    };
    lists.into_iter().reduce(add).unwrap_or_default()
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
    }
    let schedule = Schedule::new(options);
    let mut best = Best::new(&journal.curve, best);
    lesson.progress.start("training", options.steps);
    lesson.progress.advance(journal.curve.len());
    for step in journal.curve.len()..options.steps {
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
        journal.curve.push(Point {
            step: step + 1,
            block: None,
            rate,
            loss: found.loss,
            held_out,
        });
        if let Some(loss) = held_out {
            best.offer(loss, matrices(model, trained));
            journal.save(&names, &matrices(model, trained), &best.values, &optimiser)?;
        }
        lesson.progress.advance(1);
    }
    set(model, trained, best.values);
    Ok(())
}

fn held_out_loss(model: &Decoder, lesson: &Lesson<'_>) -> Result<f64> {
    let score = perplexity(model, lesson.held_out, &|_| ())?;
    Ok(score.perplexity.ln())
}

/// The matrices that the held-out windows liked best.
struct Best {
    values: Vec<Tensor<2>>,
    loss: f64,
}

impl Best {
    fn new(curve: &[Point], values: Vec<Tensor<2>>) -> Self {
        let looks = curve.iter().filter_map(|point| point.held_out);
        let loss = looks.fold(f64::INFINITY, f64::min);
        Self { values, loss }
    }

    fn offer(&mut self, loss: f64, values: Vec<Tensor<2>>) {
        if loss < self.loss {
            *self = Self { values, loss };
        }
    }
}

/// How many looks at the held-out windows there were since the best one.
fn looks_in_vain(curve: &[Point]) -> usize {
    let looks: Vec<f64> = curve.iter().filter_map(|point| point.held_out).collect();
    let least = looks.iter().copied().fold(f64::INFINITY, f64::min);
    looks.iter().rev().take_while(|&&loss| loss > least).count()
}
