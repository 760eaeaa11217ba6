//! Perplexity of a model over windows of text.

use compress_models::{Decoder, Network};
use serde::Serialize;

use crate::{Pass, Result, Source};

/// A perplexity, and what it took.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Perplexity {
    /// exp of the mean negative log-likelihood.
    pub perplexity: f64,
    /// The mean negative log-likelihood itself, in nats.
    #[serde(skip)]
    pub loss: f64,
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
    /// Scores every token but the first of every window.
    pub fn perplexity(&self, network: &dyn Network) -> Result<Perplexity> {
        let found = self.score(&[Source::Network(network)])?.pop();
        Ok(found.map(|found| found.score).unwrap_or_default())
    }
}

/// The same for a network that is whole in memory; `done` is told of the tokens that are done.
pub fn perplexity(
    decoder: &Decoder,
    windows: &[Vec<u32>],
    done: &(dyn Fn(usize) + Sync),
) -> Result<Perplexity> {
    let pass = Pass {
        windows,
        batch: 1,
        done,
    };
    pass.perplexity(decoder)
}
