//! Distillation: block after block is trained to give the outputs of the original's blocks.
//!
//! ```text
//! min (1/T) Σ_t ‖block(z)_t − y_t‖² / ‖y_t‖²     z the output of the tuned blocks before it,
//!                                                y the output of the original's block on the original's input
//! ```
//!
//! Each token counts alike, as it does to the norm that reads the residual stream next: some tokens, the first above
//! all, are a thousand times as long as the rest, and would otherwise be all that is learnt.
//!
//! Needs the tuned model and one block of the original in memory, and both residual streams of all windows on disk. A
//! step costs a forward and a backward pass through one block for each window of the batch.

use burn::tensor::Tensor;
use compress_calibrate::{backward, trace};
use compress_checkpoint::Checkpoint;
use compress_models::{Block, Decoder, RotaryAngles, Streamed};
use rayon::prelude::*;

use crate::{
    Ending, Error, Journal, Lesson, Optimiser, Point, Result, Schedule,
    curve::{self, best, looks_in_vain, steps},
    streams::{Pairs, Streams},
    sums::add,
    trained::{self, count},
};

/// The loss of one window, and its gradient.
struct Miss {
    /// The mean over tokens of ‖output − y‖² / ‖y‖².
    loss: f64,
    /// By the outputs, 1 × time × hidden.
    gradient: Tensor<3>,
}

impl Miss {
    /// From a block's outputs and the original's, both 1 × time × hidden.
    fn new(outputs: Tensor<3>, aim: Tensor<3>) -> Self {
        let [_, time, _] = aim.dims();
        // The smallest positive number keeps a token of length 0 from dividing by 0.
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

/// Trains a model's blocks, first to last, each behind those that are trained already. Each block is left at its
/// state of lowest held-out loss, also where its training diverged.
///
/// Blocks that an earlier run has finished are taken from the journal. Fails where there is nothing to train, where a
/// file cannot be read or written, where atoms are to be trained, which no block has for itself, and where training
/// diverged and no block is better than it was.
pub fn distil(
    original: &Checkpoint,
    model: &mut Decoder,
    lesson: &Lesson<'_>,
    journal: &mut Journal,
) -> Result<Ending> {
    let (options, what) = (lesson.options, lesson.options.trained);
    check(model, what)?;
    let angles = model.rotary.angles(0..lesson.length()?, &model.device());
    let folder = journal.folder().to_owned();
    let embedding = Streamed::open(original, &model.device())?;
    let learn = Streams::new(&embedding, model, lesson.windows, (&folder, "learn"))?;
    let test = Streams::new(&embedding, model, lesson.held_out, (&folder, "test"))?;
    drop(embedding);
    let blocks = model.blocks.len();
    let (mut ending, mut improved) = (Ending::default(), false);
    lesson.progress.start("distilling", blocks * options.steps);
    for layer in 0..blocks {
        let whole = Block::load(original, layer, &model.device())?;
        learn.aim(&whole, &angles)?;
        test.aim(&whole, &angles)?;
        // Both models are not in memory at once: of the original only this block was.
        drop(whole);
        let block = &mut model.blocks[layer];
        let matrices = what.matrices(block, layer);
        let (names, values): (Vec<String>, Vec<Tensor<2>>) = matrices.into_iter().unzip();
        ending.parameters += count(&values);
        let mut made = 0;
        let earlier = journal.restore_block(layer, &names, &model.norm.gamma.device())?;
        let curve = if let Some((values, curve)) = earlier {
            what.set(block, &mut values.into_iter());
            curve
        } else if names.is_empty() {
            Vec::new()
        } else {
            let course = Course {
                layer,
                learn: learn.pairs()?,
                test: test.pairs()?,
                angles: &angles,
                lesson,
            };
            let curve = course.descend(block)?;
            made = steps(&curve);
            ending.steps += made;
            journal.save_block(layer, &what.matrices(block, layer), &curve)?;
            curve
        };
        improved |= curve::improved(&curve);
        ending.diverged.extend(curve::diverged(&curve));
        journal.curve.extend(curve);
        // What early stopping saved, or an earlier run has made, counts as done.
        lesson.progress.advance(options.steps - made);
        learn.follow(block, &angles)?;
        test.follow(block, &angles)?;
    }
    learn.remove()?;
    test.remove()?;
    ending.unless_in_vain(improved)
}

/// Refuses what cannot be trained block by block: atoms, which many read, and nothing at all.
fn check(model: &Decoder, what: trained::Trained) -> Result<()> {
    if what.atoms {
        return Err(Error::ByBlock);
    }
    trained::tensor_names(model, what).map(drop)
}

/// The training of one block by its pairs of input and output.
struct Course<'a> {
    layer: usize,
    learn: Pairs<'a>,
    test: Pairs<'a>,
    angles: &'a RotaryAngles,
    lesson: &'a Lesson<'a>,
}

impl Course<'_> {
    /// Trains the block and leaves it at its state of lowest held-out loss. A loss that is not finite ends the curve.
    fn descend(&self, block: &mut Block) -> Result<Vec<Point>> {
        let options = self.lesson.options;
        let (layer, what) = (Some(self.layer), options.trained);
        let mut curve = vec![Point::start(layer, self.error(block)?)];
        let mut kept = self.values(block);
        let schedule = Schedule::new(options);
        let mut optimiser = Optimiser::new(options, kept.len());
        for step in 0..options.steps {
            if looks_in_vain(&curve) >= options.patience {
                break;
            }
            let (loss, gradients) = self.gradients(block, step)?;
            let rate = schedule.rate(step);
            if loss.is_finite() {
                let stepped = optimiser.step(rate, self.values(block), gradients);
                what.set(block, &mut stepped.into_iter());
            }
            // The last step is always evaluated, so that its state can be the best.
            let look = (step + 1) % options.interval == 0 || step + 1 == options.steps;
            let look = look && loss.is_finite();
            let held_out = look.then(|| self.error(block)).transpose()?;
            if let (Some(found), Some(least)) = (held_out, best(&curve)) {
                self.lesson
                    .progress
                    .show(&format!("block {}, off by {found:.5}", self.layer));
                if found < least {
                    kept = self.values(block);
                }
            }
            curve.push(Point::after(step, layer, rate, (loss, held_out)));
            self.lesson.progress.advance(1);
            if curve::diverged(&curve).is_some() {
                break;
            }
        }
        what.set(block, &mut kept.into_iter());
        Ok(curve)
    }

    /// Mean loss of the held-out windows.
    fn error(&self, block: &Block) -> Result<f64> {
        let one = |window| {
            let [z, y] = self.test.read(window)?;
            Ok(Miss::new(block.forward(z, self.angles, None), y).loss)
        };
        let windows = (0..self.test.len()).into_par_iter().with_max_len(1);
        let each = windows.map(one).collect::<Result<Vec<f64>>>()?;
        Ok(each.iter().sum::<f64>() / each.len().max(1) as f64)
    }

    /// The mean loss of a step's windows, and its gradients by the trained matrices.
    fn gradients(&self, block: &Block, step: usize) -> Result<(f64, Vec<Tensor<2>>)> {
        let what = self.lesson.options.trained;
        let places = self.lesson.places(step);
        let share = (places.len() as f64).recip();
        let one = |&place: &usize| {
            let [z, y] = self.learn.read(place)?;
            let trace = trace(block, z, self.angles);
            let miss = Miss::new(trace.next.clone(), y);
            let by = backward(block, &trace, self.angles, miss.gradient * share);
            Ok((miss.loss, what.gradients(block, &trace, &by).own))
        };
        // Collected in order before they are added: the sums are the same for any number of threads.
        let each = places.par_iter().with_max_len(1).map(one);
        let each = each.collect::<Result<Vec<_>>>()?;
        let loss = share * each.iter().map(|(loss, _)| loss).sum::<f64>();
        let gradients = each.into_iter().map(|(_, gradients)| gradients);
        Ok((loss, gradients.fold(Vec::new(), add)))
    }

    /// The trained matrices as they are now.
    fn values(&self, block: &Block) -> Vec<Tensor<2>> {
        let named = self.lesson.options.trained.matrices(block, self.layer);
        named.into_iter().map(|(_, value)| value).collect()
    }
}
