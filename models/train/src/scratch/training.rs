//! The training loop, the same for all networks.
//!
//! ```text
//! L = −(1/T) Σ_t ln p(token_{t+1} | tokens ≤ t)
//! ```
//!
//! `AdamW` with clipped gradients, a linear rise and a cosine down to a tenth. What a step reads depends on seed and step
//! only, sums have one order: a run that goes on gives the same bytes as one that was never killed.

use std::time::Instant;

use anyhow::{Result, ensure};
use burn::tensor::Tensor;
use compress_evaluate::perplexity;
use compress_models::Decoder;
use compress_tune::{Journal, Optimiser, Point, Schedule, Trained, TrainingOptions, steps};

use super::{parts::random, run::Run, student::Student};
use crate::{corpus::Corpus, loss};

/// Windows per step; each of two threads takes half of them.
pub const BATCH: usize = 4;

/// The highest learning rate. Of 2, 4 and 8e-3, the last was the best for dense and sequential attention after 200 steps;
/// this is a little less, for more of them.
const PEAK: f64 = 6e-3;

/// Steps of the linear rise.
const WARM_UP: usize = 50;

/// What is trained on what.
pub struct Lesson<'a> {
    /// The run.
    pub run: &'a Run,
    /// Its network.
    pub student: &'a Student,
    /// A decoder of the network's sizes.
    pub frame: &'a Decoder,
    /// The text.
    pub corpus: &'a Corpus,
}

/// Trains up to a step, from where the journal stands, and gives the matrices.
///
/// Fails where a loss is not finite, or a file cannot be written.
pub fn train(lesson: &Lesson<'_>, journal: &mut Journal, until: usize) -> Result<Vec<Tensor<2>>> {
    let (run, student) = (lesson.run, lesson.student);
    let options = lesson.options();
    let names = student.names();
    let mut optimiser = Optimiser::new(&options, names.len());
    let found = journal.restore(&names, &mut optimiser, &lesson.frame.device())?;
    let mut values = found.map_or_else(|| student.initial(run.seed), |found| found.values);
    let (schedule, start) = (Schedule::new(&options), Instant::now());
    for step in steps(&journal.curve)..until {
        let rate = schedule.rate(step);
        let (loss, gradients) = lesson.gradients(&values, step)?;
        ensure!(
            loss.is_finite(),
            "training diverged at step {step}: its loss is {loss}; lower the learning rate"
        );
        values = optimiser.step(rate, values, gradients);
        let look = (step + 1) % run.interval == 0 || step + 1 == run.steps;
        let held_out = look.then(|| lesson.held_out(&values)).transpose()?;
        journal.curve.push(Point {
            step: step + 1,
            block: None,
            rate,
            loss,
            held_out,
        });
        if let Some(held_out) = held_out {
            // The last state counts, not the best one: the same for all.
            journal.save(&names, &values, &values, &optimiser)?;
            run.write_curve(&journal.curve)?;
            eprintln!(
                "{}, seed {}: step {} of {}, {:.1} min, loss {loss:.4}, held-out perplexity {:.4}",
                run.attention,
                run.seed,
                step + 1,
                run.steps,
                start.elapsed().as_secs_f64() / 60.0,
                held_out.exp(),
            );
        }
    }
    Ok(values)
}

impl Lesson<'_> {
    /// The settings of the optimiser and of its rate.
    fn options(&self) -> TrainingOptions {
        TrainingOptions {
            trained: Trained {
                lrc: true,
                factors: true,
                norms: true,
                atoms: false,
            },
            steps: self.run.steps,
            batch: BATCH,
            rate: PEAK,
            warm_up: WARM_UP,
            clip: 1.0,
            decay: 0.0,
            interval: self.run.interval,
            patience: usize::MAX,
            seed: self.run.seed,
        }
    }

    /// The mean loss of the windows of a step, and its gradients by all matrices.
    pub fn gradients(&self, values: &[Tensor<2>], step: usize) -> Result<(f64, Vec<Tensor<2>>)> {
        let mut random = random(self.run.seed, &format!("step {step}"));
        let size = self.run.size.context + 1;
        let windows = (0..BATCH).map(|_| self.corpus.window(&mut random, size));
        let windows: Vec<&[u32]> = windows.collect();
        let (left, right) = windows.split_at(BATCH / 2);
        let (left, right) = rayon::join(|| self.half(values, left), || self.half(values, right));
        let ((one, left), (other, right)) = (left?, right?);
        let sums = left.into_iter().zip(right).map(|(a, b)| (a + b) / 2.0);
        Ok((f64::midpoint(one, other), sums.collect()))
    }

    /// The mean loss of some windows, and its gradients, by a graph of their own.
    fn half(&self, values: &[Tensor<2>], windows: &[&[u32]]) -> Result<(f64, Vec<Tensor<2>>)> {
        let leaves = values.iter().cloned().map(|x| x.autodiff().require_grad());
        let leaves: Vec<Tensor<2>> = leaves.collect();
        let model = self
            .student
            .decoder(self.frame, &self.student.named(&leaves))?;
        let loss = loss(&model, windows)?;
        let value = loss.clone().into_scalar::<f64>();
        let mut gradients = loss.backward();
        let gradient = |(leaf, value): (&Tensor<2>, &Tensor<2>)| {
            let found = leaf.grad_remove(&mut gradients);
            found.unwrap_or_else(|| value.zeros_like())
        };
        Ok((value, leaves.iter().zip(values).map(gradient).collect()))
    }

    /// The mean loss of the held-out text.
    pub fn held_out(&self, values: &[Tensor<2>]) -> Result<f64> {
        let model = self
            .student
            .decoder(self.frame, &self.student.named(values))?;
        let windows = self.corpus.held_out(self.run.size.context, usize::MAX);
        Ok(perplexity(&model, &windows, &|_| ())?.loss)
    }
}
