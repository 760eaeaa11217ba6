//! Perplexity of a model over windows of text.

use std::time::Instant;

use compress_models::{Decoder, Device};
use rayon::prelude::*;
use serde::Serialize;

use crate::{
    Result,
    logits::{for_each_slice, log_sum_exp},
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
        Self { perplexity: (loss / tokens as f64).exp(), tokens, seconds, tokens_per_second }
    }
}

/// Scores every token but the first of every window; `done` is told after each window.
pub fn perplexity(decoder: &Decoder, windows: &[Vec<u32>], done: &(dyn Fn(usize) + Sync)) -> Result<Perplexity> {
    let start = Instant::now();
    let losses = for_each_window(&decoder.device(), windows, |index, window| {
        let mut loss = 0.0;
        for_each_slice(decoder, window, |first, logits| {
            loss += slice_loss(decoder.vocabulary(), index, window, first, logits)?;
            Ok(())
        })?;
        done(window.len());
        Ok(loss)
    })?;
    let tokens = windows.iter().map(|window| window.len() - 1).sum();
    Ok(Perplexity::new(losses.iter().sum(), tokens, start.elapsed().as_secs_f64()))
}

/// Negative log-likelihood of the tokens that a slice of logits predicts.
pub fn slice_loss(vocabulary: usize, index: usize, window: &[u32], first: usize, logits: &[f32]) -> Result<f64> {
    let targets = window.iter().skip(first + 1);
    let rows = logits.chunks_exact(vocabulary).zip(targets).enumerate();
    rows.map(|(i, (row, &target))| {
        let chosen = row.get(target as usize).copied().unwrap_or(f32::NAN);
        Ok(log_sum_exp(row, index, first + i)? - f64::from(chosen))
    })
    .sum()
}

/// Runs windows side by side on the CPU, one after the other on a GPU; results in order.
pub fn for_each_window<T: Send>(
    device: &Device,
    windows: &[Vec<u32>],
    run: impl Fn(usize, &[u32]) -> Result<T> + Sync,
) -> Result<Vec<T>> {
    if *device == Device::flex() {
        windows.par_iter().enumerate().map(|(index, window)| run(index, window)).collect()
    } else {
        windows.iter().enumerate().map(|(index, window)| run(index, window)).collect()
    }
}
