//! Training block after block to give what the original's blocks give.
//!
//! ```text
//! min (1/T) Σ_t ‖block(z)_t − y_t‖² / ‖y_t‖²     z what the tuned blocks before it give,
//!                                                y what the original's block gives on its own way
//! ```
//!
//! Each token counts alike, as it does to the norm that reads the residual stream next: some tokens, the
//! first above all, are a thousand times as long as the rest and would otherwise be all that is learnt.
//! Takes the tuned model, one block of the original, and both streams of all windows.

use burn::tensor::Tensor;
use compress_calibrate::{backward, walk};
use compress_checkpoint::Checkpoint;
use compress_models::{Block, Decoder, Turns};
use rayon::prelude::*;

use crate::{
    Error, Journal, Lesson, Optimiser, Point, Result, Schedule,
    curve::{best, looks_in_vain, steps},
    sums::add,
    trained,
};

/// What goes through the blocks: the original's residual stream, and that of the model.
struct Streams {
    original: Vec<Tensor<3>>,
    model: Vec<Tensor<3>>,
}

impl Streams {
    /// Both begin with the embedding, which is never compressed.
    fn new(model: &Decoder, windows: &[Vec<u32>]) -> Result<Self> {
        let each = windows.iter().map(|window| model.embed(&[window]));
        let embedded = each.collect::<std::result::Result<Vec<_>, _>>()?;
        Ok(Self {
            original: embedded.clone(),
            model: embedded,
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

    /// The mean over all windows of how far the block's outputs are from what they aim at.
    fn error(&self, block: &Block, turns: &Turns) -> f64 {
        let each = self.model.par_iter().zip(&self.original).with_max_len(1);
        let each: Vec<f64> = each
            .map(|(z, y)| Miss::new(block.forward(z.clone(), turns, None), y.clone()).loss)
            .collect();
        each.iter().sum::<f64>() / each.len().max(1) as f64
    }
}

fn pass(streams: &mut [Tensor<3>], block: &Block, turns: &Turns) {
    let one = |x: &mut Tensor<3>| *x = block.forward(x.clone(), turns, None);
    streams.par_iter_mut().with_max_len(1).for_each(one);
}

/// How far a window's outputs are from what they aim at.
struct Miss {
    loss: f64,
    /// By the outputs.
    gradient: Tensor<3>,
}

impl Miss {
    fn new(outputs: Tensor<3>, aim: Tensor<3>) -> Self {
        let [_, time, _] = aim.dims();
        let lengths = (aim.clone() * aim.clone()).sum_dim(2) + f32::MIN_POSITIVE; // 1 × time × 1
        let lack = outputs - aim;
        let weighted = lack.clone() / lengths / time as f64;
        let products = (lack * weighted.clone()).into_data();
        Self {
            loss: products.iter::<f32>().map(f64::from).sum(),
            gradient: weighted * 2.0,
        }
    }
}

/// Trains a model's blocks, first to last, each behind those that are trained already.
pub fn distil(
    original: &Checkpoint,
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
    let mut learn = Streams::new(model, lesson.windows)?;
    let mut test = Streams::new(model, lesson.held_out)?;
    let blocks = model.blocks.len();
    lesson.progress.start("distilling", blocks * options.steps);
    for layer in 0..blocks {
        let whole = Block::load(original, layer, &model.device())?;
        for streams in [&mut learn, &mut test] {
            streams.aim(&whole, &turns);
        }
        let mut block = model.blocks[layer].clone();
        let mut made = 0;
        if layer >= done && !what.matrices(&block, layer).is_empty() {
            let course = Course {
                layer,
                learn: &learn,
                test: &test,
                turns: &turns,
                lesson,
            };
            let curve = course.descend(&mut block)?;
            made = steps(&curve);
            journal.curve.extend(curve);
            model.blocks[layer] = block.clone();
            let values = trained::matrices(model, what);
            journal.save(&names, &values, &values, &nothing)?;
        }
        lesson.progress.advance(options.steps - made);
        for streams in [&mut learn, &mut test] {
            streams.follow(&block, &turns);
        }
    }
    Ok(())
}

/// The training of one block.
struct Course<'a> {
    layer: usize,
    learn: &'a Streams,
    test: &'a Streams,
    turns: &'a Turns,
    lesson: &'a Lesson<'a>,
}

impl Course<'_> {
    /// Trains the block; it ends as it was when the held-out windows liked it best.
    fn descend(&self, block: &mut Block) -> Result<Vec<Point>> {
        let options = self.lesson.options;
        let (layer, what) = (Some(self.layer), options.trained);
        let mut curve = vec![Point::start(layer, self.test.error(block, self.turns))];
        let mut kept = self.values(block);
        let schedule = Schedule::new(options);
        let mut optimiser = Optimiser::new(options, kept.len());
        for step in 0..options.steps {
            if looks_in_vain(&curve) >= options.patience {
                break;
            }
            let (loss, gradients) = self.gradients(block, step);
            if !loss.is_finite() {
                return Err(Error::Diverged { step, loss });
            }
            let rate = schedule.rate(step);
            let stepped = optimiser.step(rate, self.values(block), gradients);
            what.set(block, &mut stepped.into_iter());
            let look = (step + 1) % options.interval == 0 || step + 1 == options.steps;
            let held_out = look.then(|| self.test.error(block, self.turns));
            if let (Some(found), Some(least)) = (held_out, best(&curve)) {
                self.lesson
                    .progress
                    .show(&format!("block {}, off by {found:.5}", self.layer));
                if found < least {
                    kept = self.values(block);
                }
            }
            curve.push(Point {
                step: step + 1,
                block: layer,
                rate,
                loss,
                held_out,
            });
            self.lesson.progress.advance(1);
        }
        what.set(block, &mut kept.into_iter());
        Ok(curve)
    }

    /// The loss of a step's windows, and its gradients by what is trained.
    fn gradients(&self, block: &Block, step: usize) -> (f64, Vec<Tensor<2>>) {
        let what = self.lesson.options.trained;
        let places = self.lesson.places(step);
        let share = (places.len() as f64).recip();
        let one = |&place: &usize| {
            let walk = walk(block, self.learn.model[place].clone(), self.turns);
            let miss = Miss::new(walk.next.clone(), self.learn.original[place].clone());
            let by = backward(block, &walk, self.turns, miss.gradient * share);
            (miss.loss, what.gradients(block, &walk, &by))
        };
        let each: Vec<_> = places.par_iter().with_max_len(1).map(one).collect();
        let loss = share * each.iter().map(|(loss, _)| loss).sum::<f64>();
        let gradients = each.into_iter().map(|(_, gradients)| gradients);
        (loss, gradients.fold(Vec::new(), add))
    }

    fn values(&self, block: &Block) -> Vec<Tensor<2>> {
        let named = self.lesson.options.trained.matrices(block, self.layer);
        named.into_iter().map(|(_, value)| value).collect()
    }
}
