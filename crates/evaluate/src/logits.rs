//! Logits of some positions of a window on the host, and the losses that they give.

use std::ops::Range;

use burn::tensor::Tensor;
use compress_models::to_host;

use crate::{Error, Result};

/// Logits in host memory, positions × vocabulary, `f32`.
pub struct Logits {
    numbers: Vec<f32>,
    vocabulary: usize,
}

impl Logits {
    /// Copies logits from the device, positions × vocabulary. Waits for the device, so its failures
    /// surface here.
    pub fn new(logits: Tensor<2>) -> Result<Self> {
        let [_, vocabulary] = logits.dims();
        Ok(Self {
            numbers: to_host(logits)?,
            vocabulary,
        })
    }

    /// The logits of each position in turn.
    pub fn rows(&self) -> impl Iterator<Item = &[f32]> {
        self.numbers.chunks_exact(self.vocabulary)
    }
}

/// −Σ log p of the tokens that a slice of positions predicts, in nats. `index` is the window's, for
/// errors. Fails where a logit is not finite.
pub fn loss(logits: &Logits, slice: &Range<usize>, index: usize, window: &[u32]) -> Result<f64> {
    // Position t predicts token t + 1.
    let targets = window.iter().skip(slice.start + 1);
    let rows = logits.rows().zip(targets).zip(slice.clone());
    rows.map(|((row, &target), position)| {
        // A token beyond the vocabulary gives NaN rather than a panic.
        let chosen = row.get(target as usize).copied().unwrap_or(f32::NAN);
        Ok(log_sum_exp(row, index, position)? - f64::from(chosen))
    })
    .sum()
}

/// log Σ exp of the logits of one position. Fails where one of them is not finite.
pub fn log_sum_exp(logits: &[f32], window: usize, position: usize) -> Result<f64> {
    compress_numerics::kernels::log_sum_exp(logits).ok_or(Error::NonFinite { window, position })
}
