//! Perplexity of a model over windows of text.
//!
//! ```text
//! perplexity = exp(loss),  loss = −1/N Σ log p(token | tokens before it in its window)
//! ```

use compress_models::{Decoder, Network};
use serde::Serialize;

use crate::{Pass, Result, Source};

/// A perplexity and its cost.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Perplexity {
    /// exp of the loss.
    pub perplexity: f64,
    /// The mean negative log-likelihood per token, in nats.
    #[serde(skip)]
    pub loss: f64,
    /// The number of scored tokens.
    pub tokens: usize,
    /// Wall time of the forward passes. Where several models run at once, this model's share.
    pub seconds: f64,
    /// Scored tokens per second of wall time.
    pub tokens_per_second: f64,
}

impl Perplexity {
    /// From the sum of negative log-likelihoods over `tokens` tokens.
    pub(crate) fn new(loss: f64, tokens: usize, seconds: f64) -> Self {
        let tokens_per_second = tokens as f64 / seconds;
        let loss = loss / tokens as f64;
        Self {
            perplexity: loss.exp(),
            loss,
            tokens,
            seconds,
            tokens_per_second,
        }
    }
}

impl Pass<'_> {
    /// Perplexity of one network over the windows of the pass. Fails where a block cannot be loaded
    /// or a logit is not finite.
    pub fn perplexity(&self, network: &dyn Network) -> Result<Perplexity> {
        let found = self.score(&[Source::Network(network)])?.pop();
        Ok(found.map(|found| found.score).unwrap_or_default())
    }
}

/// Perplexity of a model that is in memory; windows run in parallel on the CPU. `done` is called
/// with the number of tokens completed since its last call.
pub fn perplexity(
    decoder: &Decoder,
    windows: &[Vec<u32>],
    done: &(dyn Fn(usize) + Sync),
) -> Result<Perplexity> {
    let pass = Pass {
        windows,
        // Not used, as the model is in memory.
        batch: 1,
        split: None,
        done,
    };
    pass.perplexity(decoder)
}
