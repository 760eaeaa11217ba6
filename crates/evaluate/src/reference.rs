//! An original that was run once, and is measured against many times.
//!
//! ```text
//! logits = head(h),  h: the hidden states after the last norm, windows × time × hidden
//! ```
//!
//! The states of all windows lie on disk. What others are measured against, the original's logits, is one
//! product of its head away, and its blocks are not run again.

use std::path::Path;

use burn::tensor::Tensor;
use compress_calibrate::{States, Writing};
use compress_models::{Network, Streamed, to_device, to_host};

use crate::{
    Pass, Result, Source,
    pass::{Hidden, side_by_side},
};

/// An original's last hidden states.
pub struct Reference<'a> {
    /// Of which only the head is used.
    network: Streamed<'a>,
    states: States,
    width: usize,
    seconds: f64,
}

impl<'a> Reference<'a> {
    /// Runs `original` over the windows of a pass. Its states go to the file at `path`, which stays as long as
    /// whoever gave the path lets it; its logits will come from `network`, the same model.
    pub fn new(
        original: &dyn Network,
        network: Streamed<'a>,
        pass: &Pass<'_>,
        path: &Path,
    ) -> Result<Self> {
        let longest = pass.windows.iter().map(Vec::len).max().unwrap_or_default();
        let width = network.width();
        let writing = Writing::new(path, longest * width)?;
        let sources = [Source::Network(original)];
        let start = std::time::Instant::now();
        pass.for_each_batch(&sources, |batch| {
            let Hidden { states, .. } = pass.hidden(&sources, batch.clone())?;
            let states = states.into_iter().flatten().collect::<Vec<_>>();
            let device = [original.device()].into_iter();
            side_by_side(device, states.len(), |place| {
                let mut numbers = to_host(states[place].clone())?;
                // Windows may be of different lengths; their places are not.
                numbers.resize(longest * width, 0.0);
                Ok(writing.write(batch.start + place, &numbers)?)
            })?;
            Ok(())
        })?;
        let seconds = start.elapsed().as_secs_f64();
        writing.finish()?;
        Ok(Self {
            states: States::open(path, longest * width)?,
            network,
            width,
            seconds,
        })
    }

    /// The head that makes logits of the states.
    pub(crate) fn network(&self) -> &dyn Network {
        &self.network
    }

    /// How long the original's blocks took.
    pub(crate) const fn seconds(&self) -> f64 {
        self.seconds
    }

    /// The states of a window of so many tokens, 1 × time × hidden.
    pub(crate) fn read(&self, window: usize, time: usize) -> Result<Tensor<3>> {
        let mut numbers = self.states.read(window)?;
        numbers.truncate(time * self.width);
        Ok(to_device(
            numbers,
            [1, time, self.width],
            &self.network.device(),
        ))
    }
}
