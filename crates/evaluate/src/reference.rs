//! Stored last hidden states of an original, against which several models are measured.
//!
//! ```text
//! logits = head(h),  h: hidden states after the last norm, windows × time × hidden
//! ```
//!
//! The original's blocks run once, and its states go to a file of 4 · windows · time · hidden
//! bytes. Its logits, windows × time × vocabulary, would take far more; they are recomputed from
//! the states by one product with the head for each comparison.

use std::path::Path;

use burn::tensor::Tensor;
use compress_calibrate::{States, Writing};
use compress_models::{Network, Streamed, to_device, to_host};

use crate::{Pass, Result, Source, parallel::side_by_side, pass::Hidden};

/// The last hidden states of an original, in a file, and its head.
pub struct Reference<'a> {
    /// The original, of which only the head is used.
    network: Streamed<'a>,
    states: States,
    width: usize,
    seconds: f64,
}

impl<'a> Reference<'a> {
    /// Runs `original` over the windows of a pass, and writes its states to a file at `path`, which
    /// the caller removes. Later logits come from `network`, the same model streamed from disk.
    /// Costs a forward pass; fails where the model does or the disk is full.
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
            // There is one source; its windows are the batch.
            let states = states.into_iter().flatten().collect::<Vec<_>>();
            let device = [original.device()].into_iter();
            side_by_side(device, states.len(), |place| {
                let mut numbers = to_host(states[place].clone())?;
                // Each window has a place of the same size in the file; shorter ones are padded.
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

    /// The network whose head turns the states into logits.
    pub(crate) fn network(&self) -> &dyn Network {
        &self.network
    }

    /// Wall time of the pass that made the states.
    pub(crate) const fn seconds(&self) -> f64 {
        self.seconds
    }

    /// The states of a window of `time` tokens, 1 × time × hidden. Fails where the file cannot be
    /// read.
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
