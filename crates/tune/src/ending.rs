//! How a training ended.

use serde::Serialize;

use crate::{Error, Result};

/// The result of a training; the model is left at its best state.
#[derive(Clone, Debug, Default)]
pub struct Ending {
    /// Numbers that were trained.
    pub parameters: usize,
    /// Steps made, without those of an earlier run that this one went on from; of all blocks in a distillation.
    pub steps: usize,
    /// Divergences, at which training stopped: at most one for the whole model, and one for each block in a
    /// distillation.
    pub diverged: Vec<Diverged>,
}

/// A loss that is NaN or infinite.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Diverged {
    /// The block that was distilled; none where the whole model was trained.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub block: Option<usize>,
    /// The step, counted from 0.
    pub step: usize,
    /// Its loss, or that of the held-out windows after it.
    #[serde(skip)]
    pub loss: f64,
}

impl Ending {
    /// An error where training diverged and no state is better than the one it started from; else the ending.
    pub(crate) fn unless_in_vain(self, improved: bool) -> Result<Self> {
        match self.diverged.first() {
            Some(&Diverged { step, loss, .. }) if !improved => Err(Error::Diverged { step, loss }),
            _ => Ok(self),
        }
    }
}
