//! Training block after block to give what the original's blocks give.

use burn::tensor::Tensor;
use compress_calibrate::{backward, walk};
use compress_models::{Block, Decoder, Turns};
use rayon::prelude::*;

use crate::{Error, Journal, Lesson, Optimiser, Point, Result, Schedule, language, trained};

/// What goes through the blocks: the original's residual stream, and that of the model.
struct Streams {
    original: Vec<Tensor<3>>,
    model: Vec<Tensor<3>>,
}

impl Streams {
    fn new(original: &Decoder, model: &Decoder, windows: &[Vec<u32>]) -> Result<Self> {
        let embed = |decoder: &Decoder| {
            let each = windows.iter().map(|window| decoder.embed(&[window]));
            each.collect::<std::result::Result<Vec<_>, _>>()
        };
        Ok(Self {
            original: embed(original)?,
            model: embed(model)?,
        })
    }

    /// Takes the original's streams through its block: now they are what the model's block aims at.
    fn aim(&mut self, block: &Block, turns: &Turns) {
        pass(&mut self.original, block, turns);
    }

    /// Takes the model's streams through its block.
    fn follow(&mut self, block: &Block, turns: &Turns) {
        pass(&mut self.model, block, turns);
    }

    /// Σ ‖block(z) − y‖² / Σ ‖y‖²
    fn error(&self, block: &Block, turns: &Turns) -> f64 {
        let each = self.model.par_iter().zip(&self.original).with_max_len(1);
        let each: Vec<(f64, f64)> = each
            .map(|(z, y)| {
                let lack = block.forward(z.clone(), turns, None) - y.clone();
                (square(&lack), square(y))
            })
            .collect();
        let sum = |of: fn(&(f64, f64)) -> f64| each.iter().map(of).sum::<f64>();
        sum(|pair| pair.0) / sum(|pair| pair.1)
    }
}

fn pass(streams: &mut [Tensor<3>], block: &Block, turns: &Turns) {
    let one = |x: &mut Tensor<3>| *x = block.forward(x.clone(), turns, None);
    streams.par_iter_mut().with_max_len(1).for_each(one);
}

fn square(x: &Tensor<3>) -> f64 {
    (x.clone() * x.clone()).sum().into_scalar::<f64>()
}

/// Trains a model's blocks, first to last, each behind those that are trained already. Holds the
/// streams of all windows.
pub fn distil(
    original: &Decoder,
    model: &mut Decoder,
    lesson: &Lesson<'_>,
    journal: &mut Journal,
) -> Result<()> {
    let options = lesson.options;
    let what = options.trained;
    let names = trained::names(model, what)?;
    let done = journal.curve.iter().filter_map(|point| point.block).max();
    let done = done.map_or(0, |block| block + 1);
    let mut nothing = Optimiser::new(options, 0);
    if let Some(found) = journal.restore(&names, &mut nothing, &model.device())? {
        trained::set(model, what, found.values);
    }
    let time = lesson.windows.first().map_or(0, Vec::len);
    let turns = model.rotary.turns(0..time, &model.device());
    let mut learn = Streams::new(original, model, lesson.windows)?;
    let mut test = Streams::new(original, model, lesson.held_out)?;
    let blocks = model.blocks.len();
    lesson.progress.start("distilling", blocks * options.steps);
    for layer in 0..blocks {
        for streams in [&mut learn, &mut test] {
            streams.aim(&original.blocks[layer], &turns);
        }
        let mut block = model.blocks[layer].clone();
        if layer >= done && !what.matrices(&block, layer).is_empty() {
            let held_out = test.error(&block, &turns);
            journal.curve.push(Point {
                step: 0,
                block: Some(layer),
                rate: 0.0,
                loss: held_out,
                held_out: Some(held_out),
            });
            descend(&mut block, layer, (&learn, &test), &turns, lesson, journal)?;
            model.blocks[layer] = block.clone();
            let values = trained::matrices(model, what);
            journal.save(&names, &values, &values, &nothing)?;
        } else {
            lesson.progress.advance(options.steps);
        }
        for streams in [&mut learn, &mut test] {
            streams.follow(&block, &turns);
        }
    }
    Ok(())
}

/// Trains one block; it ends as it was when the held-out windows liked it best.
fn descend(
    block: &mut Block,
    layer: usize,
    (learn, test): (&Streams, &Streams),
    turns: &Turns,
    lesson: &Lesson<'_>,
    journal: &mut Journal,
) -> Result<()> {
    let options = lesson.options;
    let what = options.trained;
    let values = |block: &Block| -> Vec<Tensor<2>> {
        let named = what.matrices(block, layer).into_iter();
        named.map(|(_, value)| value).collect()
    };
    let whole: f64 = learn.original.iter().map(square).sum();
    let scale = learn.original.len() as f64 / whole; // per window
    let schedule = Schedule::new(options);
    let mut optimiser = Optimiser::new(options, values(block).len());
    let (mut best, mut least) = (values(block), f64::INFINITY);
    for step in 0..options.steps {
        let places = lesson.places(step);
        let share = scale / places.len() as f64;
        let one = |&place: &usize| {
            let walk = walk(block, learn.model[place].clone(), turns);
            let lack = walk.next.clone() - learn.original[place].clone();
            let loss = share * square(&lack);
            let by = backward(block, &walk, turns, lack * (2.0 * share));
            (loss, what.gradients(block, &walk, &by))
        };
        let each: Vec<_> = places.par_iter().with_max_len(1).map(one).collect();
        let (losses, gradients): (Vec<f64>, Vec<_>) = each.into_iter().unzip();
        let loss: f64 = losses.iter().sum();
        if !loss.is_finite() {
            return Err(Error::Diverged { step, loss });
        }
        let rate = schedule.rate(step);
        let stepped = optimiser.step(rate, values(block), language::sum(gradients));
        what.set(block, &mut stepped.into_iter());
        let look = (step + 1) % options.interval == 0 || step + 1 == options.steps;
        let held_out = look.then(|| test.error(block, turns));
        if let Some(error) = held_out.filter(|error| *error < least) {
            (best, least) = (values(block), error);
        }
        journal.curve.push(Point {
            step: step + 1,
            block: Some(layer),
            rate,
            loss,
            held_out,
        });
        lesson.progress.advance(1);
    }
    what.set(block, &mut best.into_iter());
    Ok(())
}
