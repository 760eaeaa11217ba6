//! Perplexity of a model over windows of text.

use std::time::Instant;

use compress_models::{Decoder, Device};
use rayon::prelude::*;
use serde::Serialize;

use crate::{
    Result,
    logits::{Predictions, loss},
};

/// A perplexity, and what it took.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Perplexity {
    /// exp of the mean negative log-likelihood.
    pub perplexity: f64,
    /// How many tokens were scored.
    pub tokens: usize,
    /// Wall time of the forward passes.
    pub seconds: f64,
    /// Scored tokens per second of it.
    pub tokens_per_second: f64,
}

impl Perplexity {
    /// From the sum of negative log-likelihoods.
    pub(crate) fn new(loss: f64, tokens: usize, seconds: f64) -> Self {
        let tokens_per_second = tokens as f64 / seconds;
        Self {
            perplexity: (loss / tokens as f64).exp(),
            tokens,
            seconds,
            tokens_per_second,
        }
    }
}

/// Scores every token but the first of every window; `done` is told after each window.
pub fn perplexity(
    decoder: &Decoder,
    windows: &[Vec<u32>],
    done: &(dyn Fn(usize) + Sync),
) -> Result<Perplexity> {
    let start = Instant::now();
    let losses = for_each_window(&decoder.device(), windows, |index, window| {
        let predictions = Predictions::of(decoder, window)?;
        let slices = predictions.slices();
        let total =
            slices.map(|slice| loss(&predictions.logits(slice.clone())?, &slice, index, window));
        let total = total.sum::<Result<f64>>()?;
        done(window.len());
        Ok(total)
    })?;
    let tokens = windows.iter().map(|window| window.len() - 1).sum();
    Ok(Perplexity::new(
        losses.iter().sum(),
        tokens,
        start.elapsed().as_secs_f64(),
    ))
}

/// Runs windows side by side on the CPU, one after the other on a GPU; results in order.
pub fn for_each_window<T: Send>(
    device: &Device,
    windows: &[Vec<u32>],
    run: impl Fn(usize, &[u32]) -> Result<T> + Sync,
) -> Result<Vec<T>> {
    if *device == Device::flex() {
        windows
            .par_iter()
            .enumerate()
            .map(|(index, window)| run(index, window))
            .collect()
    } else {
        windows
            .iter()
            .enumerate()
            .map(|(index, window)| run(index, window))
            .collect()
    }
}
