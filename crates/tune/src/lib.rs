//! Fine-tuning after compression: low-rank components, shared atoms, whole weights or norms are trained, the rest is
//! frozen.
//!
//! ```text
//! distillation   min (1/T) Σ_t ‖block(z)_t − y_t‖² / ‖y_t‖²   block after block, z from the tuned blocks before it,
//!                                                             y what the original's block gives on its own input
//! language       min −(1/T) Σ ln p(token)                     the whole model
//! ```
//!
//! The gradient of a pair of factors needs no product of the size of the weight. With x the layer input of W = A · B,
//! and g the gradient by its output,
//!
//! ```text
//! ∂L/∂A = gᵀ · (x Bᵀ)      m × r
//! ∂L/∂B = (g A)ᵀ · x       r × n
//! ```
//!
//! so that a component of rank r costs r (m + n) / (m n) of a full gradient, in time and in the memory
//! of the optimiser. Distillation comes first where much was cut: it needs no gradient of the whole
//! model, and repairs each block with all that the text tells about its outputs, not only about the
//! next token.
//!
//! # References
//!
//! Jaiswal et al., *From `GaLore` to `WeLore`*, arXiv 2407.11239, section 4: only the low-rank
//! components are trained. Block by block against the original: Jiao et al., *`TinyBERT`*, 2020, and
//! most work on heavy truncation since. `AdamW` after Loshchilov & Hutter, 2019.

mod atoms;
mod curve;
mod distillation;
mod durable;
mod ending;
mod error;
mod intruders;
mod journal;
mod language;
mod optimiser;
mod schedule;
mod streams;
mod sums;
mod trained;

use compress_calibrate::{Progress, length};
use serde::Serialize;
use serde_json::Value;

pub use curve::{Point, best, steps};
pub use distillation::distil;
pub use ending::{Diverged, Ending};
pub use error::{Error, Result};
pub use intruders::{COSINE, LOOKED_AT, closest_originals};
pub use journal::Journal;
pub use language::{Step, loss_and_gradients, train};
pub use optimiser::Optimiser;
pub use schedule::Schedule;
pub use trained::{Trained, set, tensors};

/// The settings of a training.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct TrainingOptions {
    /// The matrices that are trained.
    pub trained: Trained,
    /// Steps of the optimiser at most; for distillation, those of each block.
    pub steps: usize,
    /// Windows per step; their gradients are accumulated.
    pub batch: usize,
    /// The peak of the learning-rate schedule.
    pub rate: f64,
    /// Steps of linear rise up to it.
    pub warm_up: usize,
    /// The norm to which the gradient, over all matrices together, is clipped.
    pub clip: f64,
    /// Weight decay per step, as a fraction of the rate; decoupled from the gradient, as `AdamW` has it.
    pub decay: f64,
    /// Steps between two evaluations of the held-out windows.
    pub interval: usize,
    /// Evaluations without a lower loss after which training stops early.
    pub patience: usize,
    /// Seed of the order of the windows.
    pub seed: u64,
}

/// The windows to train on, those held out, the settings, and a listener to progress.
#[derive(Clone, Copy)]
pub struct Lesson<'a> {
    /// Windows of equal length to train on; at least one.
    pub windows: &'a [Vec<u32>],
    /// Windows of the same length for evaluation, which decide the best state and early stopping.
    pub held_out: &'a [Vec<u32>],
    /// The settings.
    pub options: &'a TrainingOptions,
    /// Gets one step of progress per step of the optimiser.
    pub progress: &'a dyn Progress,
}

impl Lesson<'_> {
    /// The length of all windows; fails where there are none to train on or none held out, or lengths differ.
    fn length(&self) -> Result<usize> {
        let (time, held_out) = (length(self.windows)?, length(self.held_out)?);
        if time != held_out {
            let problem =
                format!("got {time} tokens to train on, and {held_out} in those held out");
            return Err(compress_calibrate::Error::Windows { problem }.into());
        }
        Ok(time)
    }

    /// The windows of a step, counted from 0.
    fn batch(&self, step: usize) -> Vec<&[u32]> {
        let places = self.places(step).into_iter();
        places.map(|place| self.windows[place].as_slice()).collect()
    }

    /// The indices of a step's windows: every window once, in a shuffled order, before any comes again. They depend
    /// on step and seed only, so that a run that goes on takes the same.
    fn places(&self, step: usize) -> Vec<usize> {
        let (count, batch) = (self.windows.len(), self.options.batch);
        let places = step * batch..(step + 1) * batch;
        // A batch may reach into the next epoch; the order of one epoch is kept while it lasts.
        let mut shuffled = (None, Vec::new());
        let one = |place: usize| {
            let epoch = place / count;
            if shuffled.0 != Some(epoch) {
                shuffled = (Some(epoch), self.order(epoch as u64));
            }
            shuffled.1[place % count]
        };
        places.map(one).collect()
    }

    /// The order in which an epoch takes the windows, by seed and epoch.
    fn order(&self, epoch: u64) -> Vec<usize> {
        let mut order: Vec<usize> = (0..self.windows.len()).collect();
        compress_numerics::Random(self.options.seed.wrapping_add(epoch)).shuffle(&mut order);
        order
    }
}

/// Everything that decides the outcome of training, to be compared when a killed run goes on; `what` names the
/// models and the text.
#[must_use]
pub fn task(lesson: &Lesson<'_>, what: &Value) -> Value {
    serde_json::json!({
        "options": lesson.options,
        "windows": lesson.windows.len(),
        "held_out": lesson.held_out.len(),
        "of": what,
    })
}
